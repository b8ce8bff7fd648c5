"""All metrics: name, type, labels with their values, help text, and CoreDNS's metric like it.

Each metric is declared once, under its name: the collector takes these objects, and
docs/make_metrics.py writes the page of the documentation from the groups, whose titles are their
docstrings. Nothing is measured here. Every label is bounded: its values are listed, or come from
the settings, or are at most so many.
"""

import enum
from functools import partial
from typing import Final

import msgspec

from mcsdns import stats
from mcsdns.dns.types import Rcode, RRType
from mcsdns.objects.model import Kind as ObjectKind
from mcsdns.objects.store import MOST_CLUSTERS
from mcsdns.sources.kubernetes.reflector import Trouble

PREFIX: Final = "mcsdns_"
ENDED: Final = "ended"
HTTP_CLOSED: Final = ("room", "slow", "large", "memory")
RESOURCES: Final = {
    ObjectKind.SERVICE_IMPORT: "serviceimports",
    ObjectKind.ENDPOINT_SLICE: "endpointslices",
}


class Type(enum.StrEnum):
    """The types of Prometheus that are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Label(msgspec.Struct, frozen=True):
    """A label: its values, where they are a closed set, or what bounds them."""

    name: str
    values: tuple[str, ...] = ()
    bound: str = ""

    @property
    def text(self) -> str:
        """What its values can be, for people."""
        return self.bound or ", ".join(self.values)


class Metric:
    """A metric, which is named after the attribute of its group.

    Attributes:
        name: without the prefix. coredns: CoreDNS's metrics like it, empty where there is none.
    """

    name: str

    def __init__(self, kind: Type, text: str, *labels: Label, coredns: str = "") -> None:
        self.type = kind
        self.help = text
        self.labels = labels
        self.coredns = coredns

    def __set_name__(self, group: type, name: str) -> None:
        """Take the name of the attribute."""
        self.name = name

    @property
    def full_name(self) -> str:
        """The name that is scraped."""
        return PREFIX + self.name


counter: Final = partial(Metric, Type.COUNTER)
gauge: Final = partial(Metric, Type.GAUGE)
histogram: Final = partial(Metric, Type.HISTOGRAM)
info: Final = partial(Metric, Type.INFO)
"""Always 1, and tells by its labels."""

_TRANSPORT: Final = Label("transport", stats.TRANSPORTS)
_ZONE: Final = Label("zone", bound="a zone of the settings, `.` for all other names, or other")
_TYPE: Final = Label(
    "type", (*(each.name for each in RRType), stats.OTHER), "a usual type such as A, or other"
)
_RCODE: Final = Label("rcode", (*(each.name for each in Rcode), stats.OTHER))
_REPLY: Final = Label("kind", tuple(stats.ReplyKind))
_PATH: Final = Label("path", ("direct", "forwarded"))
_RESOURCE: Final = Label("resource", tuple(RESOURCES.values()))
UPSTREAM: Final = Label(
    "upstream",
    bound="an upstream as it is written in the settings or their file; by its number there on the "
    "address of `--probes`",
)
_RESTART: Final = Label("reason", (ENDED, *(each.name.lower() for each in Trouble)))
_CLUSTER: Final = Label(
    "cluster",
    bound=f"a source cluster, at most {MOST_CLUSTERS}, further ones are other; empty for "
    "ServiceImports and for slices of no usable cluster",
)
_PROBLEM: Final = Label("reason", bound="a constant of ours, as in the log")


class ServerMetrics:
    """The server."""

    build_info = info(
        "The version that runs, always 1.",
        Label("version", bound="that of mcsdns"),
        Label("python", bound="that of the interpreter"),
        coredns="coredns_build_info",
    )
    ready = gauge("1 once /readyz says yes, 0 before and while it stops.")
    stale = gauge("1 while answers say that they are stale.")
    config_reloads_total = counter(
        "Times that the settings were read again.",
        Label("result", ("applied", "refused")),
        coredns="coredns_reload_failed_total",
    )
    config_last_reload_success = gauge(
        "0 where the settings were bad when they were last read; the old ones are in force."
    )
    log_held_lines_total = counter(
        "Log lines that were held back, since many of their kind came within a minute."
    )
    http_connections = gauge("Connections to the probes and the status page that are open.")
    http_closed_total = counter(
        "Connections to the probes and the status page that we closed: to make room, since a head "
        "or the reading of a response took too long, a head too large or a body, or all together "
        "took too much memory.",
        Label("reason", HTTP_CLOSED),
    )
    accept_pauses_total = counter(
        "Times that accepting paused: no file descriptors, or too many connections.",
        Label("listener", ("http", "tcp")),
        Label("reason", ("files", "room")),
    )


class RequestMetrics:
    """Requests and answers."""

    requests_total = counter(
        "Requests that were answered, by what the answer was.",
        *(_TRANSPORT, _ZONE, _TYPE, _RCODE, _REPLY),
        coredns="coredns_dns_requests_total, coredns_dns_responses_total",
    )
    request_duration_seconds = histogram(
        "Time from reading a request to sending its reply: direct, by the turn in which it was "
        "read; or forwarded, with the wait for an upstream.",
        _TRANSPORT,
        _PATH,
        coredns="coredns_dns_request_duration_seconds",
    )
    requests_received_total = counter(
        "Datagrams and whole TCP messages that were read.", _TRANSPORT
    )
    requests_malformed_total = counter(
        "Requests that were answered with FORMERR or NOTIMP.", _TRANSPORT
    )
    requests_dropped_total = counter(
        "Datagrams and messages that got no reply, such as replies and what is too short.",
        _TRANSPORT,
        coredns='coredns_dns_requests_total{zone="dropped"}',
    )
    request_faults_total = counter(
        "Requests that met a fault of ours and got SERVFAIL.",
        _TRANSPORT,
        coredns="coredns_panics_total",
    )
    replies_limited_total = counter(
        "UDP replies past the rate limit: dropped, or truncated so that the client comes over TCP.",
        Label("action", ("dropped", "truncated")),
    )
    replies_rendered_total = counter(
        "Replies that were made anew; all others were kept ready.", _TRANSPORT
    )
    replies_oversized_total = counter(
        "Answers of which a subset was sent: over 65,535 octets, or more records than max_records.",
        _TRANSPORT,
    )
    kept_replies = gauge(
        "Replies kept ready, of names that exist and of all others.",
        _TRANSPORT,
        Label("names", ("known", "unknown")),
    )
    kept_bytes = gauge("Octets of replies kept ready.", _TRANSPORT)
    not_allowed_total = counter(
        "Requests to forward that were refused, since their client may not ask.",
        _TRANSPORT,
        coredns="coredns_acl_blocked_requests_total",
    )
    kernel_drops_total = counter(
        "Datagrams that the kernel dropped, since the receive buffer was full."
    )
    udp_errors_total = counter(
        "Reads of UDP sockets that failed, and replies that the kernel did not take.",
        Label("direction", ("receive", "send")),
    )
    tcp_connections = gauge("TCP connections that are open.")
    tcp_accepted_total = counter("TCP connections that were accepted.")
    tcp_closed_total = counter(
        "TCP connections that we closed: silent for too long, the client took no reply for as "
        "long, to make room for another one, the one that held most when all held too much, bad "
        "framing.",
        Label("reason", ("idle", "stalled", "shed", "held_most", "aborted")),
    )
    tcp_held_bytes = gauge(
        "Octets of requests that were not answered yet, and of replies that clients did not take."
    )


class ObjectMetrics:
    """Objects."""

    objects = gauge("Objects that are known.", Label("kind", tuple(ObjectKind)), _CLUSTER)
    services = gauge("Services that have a ServiceImport.")
    endpoints = gauge(
        "Endpoints of imported services; those that are not ready are in no answer.",
        Label("ready", ("true", "false")),
    )
    skipped_objects = gauge(
        "Objects of which something, or all, is not served, by what is wrong.", _PROBLEM
    )
    services_waiting = gauge("Services that changed and whose answers are not made anew yet.")
    programming_duration_seconds = histogram(
        "Time from a change in its cluster to answers that show it.",
        coredns="coredns_kubernetes_dns_programming_duration_seconds",
    )
    programming_undated_total = counter(
        "Changes of slices that do not say when they were, so nothing was measured."
    )
    programming_negative_total = counter(
        "Changes that are ahead of our clock by their cluster's; they count as 0 seconds."
    )
    manifest_files = gauge("Files that objects are read from.")
    manifest_reads_total = counter(
        "Times that a file was read.", Label("result", ("read", "failed"))
    )


class WatchMetrics:
    """The API server."""

    watch_synced = gauge("1 once all of a resource was read.", _RESOURCE)
    watch_connected = gauge(
        "1 while every watch of a resource is open, so that nothing can be newer.", _RESOURCE
    )
    watch_last_event_age_seconds = gauge(
        "Time since anything was heard, bookmarks included, which come about every minute.",
        _RESOURCE,
    )
    watch_stale_seconds = gauge(
        "Time since everything was known, 0 while the watches are open.", _RESOURCE
    )
    watch_lists_total = counter(
        "Lists that were begun; after the first one each is a re-list.", _RESOURCE
    )
    watch_starts_total = counter(
        "Watches that were begun.",
        _RESOURCE,
        coredns="coredns_kubernetes_rest_client_requests_total",
    )
    watch_events_total = counter("Events of watches, bookmarks included.", _RESOURCE)
    watch_bookmarks_total = counter("Bookmarks among the events.", _RESOURCE)
    watch_restarts_total = counter(
        "Lists and watches that ended early, and watches that ended in order.",
        _RESOURCE,
        _RESTART,
        coredns="coredns_kubernetes_rest_client_requests_total",
    )
    watch_rechecks_total = counter("Lists that were compared with what a watch told.", _RESOURCE)
    watch_missed_total = counter("Changes that a watch missed and a list showed.", _RESOURCE)
    guard_held_services = gauge(
        "Services whose last known answers are kept, since too many were lost at once."
    )
    guard_lingering_services = gauge(
        "Services that were lost a moment ago and are answered for still."
    )
    guard_interventions_total = counter("Times that a mass deletion was held.")
    guard_shed_objects_total = counter(
        "Lost objects that a hold would not put back any more, since there was no room for them."
    )
    snapshot_age_seconds = gauge("How old what the snapshot holds is.")
    snapshot_writes_total = counter(
        "Times that the snapshot was written.", Label("result", ("written", "failed"))
    )


class ForwardingMetrics:
    """Forwarding."""

    upstream_requests_total = counter(
        "Tries at an upstream.", UPSTREAM, coredns="coredns_proxy_request_duration_seconds_count"
    )
    upstream_failures_total = counter(
        "Tries that failed.", UPSTREAM, coredns="coredns_proxy_healthcheck_failures_total"
    )
    upstream_up = gauge(
        "0 while an upstream is left alone, since it does not answer.",
        UPSTREAM,
        coredns="coredns_forward_healthcheck_broken_total",
    )
    upstream_rtt_seconds = gauge(
        "Smoothed round trip to an upstream.",
        UPSTREAM,
        coredns="coredns_proxy_request_duration_seconds",
    )
    upstream_dropped_replies_total = counter(
        "Messages that were not believed: too late, of an unknown ID, to another question; or that "
        "could not be read.",
        UPSTREAM,
        Label("reason", ("late", "wrong", "refused", "malformed")),
    )
    upstream_connections = gauge(
        "TCP and TLS connections to an upstream that are open.",
        UPSTREAM,
        coredns="coredns_proxy_conn_cache_hits_total",
    )
    forward_requests_total = counter("Questions to forward.")
    forward_pending = gauge("Questions that wait for an upstream.")
    forward_waiting = gauge("Clients that wait for the replies to these questions.")
    forward_joined_total = counter("Questions that wait for the reply to an equal one.")
    forward_gave_up_total = counter("Questions without any answer in time.")
    forward_refused_total = counter(
        "Questions that were refused, since too many waited.",
        coredns="coredns_forward_max_concurrent_rejects_total",
    )
    forward_loops_total = counter("Questions that came back to us.")
    forward_displaced_total = counter(
        "Questions that gave way to others when no place was free, the oldest of who held most."
    )
    forward_forged_total = counter(
        "Questions to which wrong replies came, so that no reply over UDP was taken, by whether "
        "there was one over TCP.",
        Label("result", ("answered", "failed")),
    )
    cache_entries = gauge(
        "Replies and failures of upstreams that are kept.",
        Label("kind", ("reply", "failure")),
        coredns="coredns_cache_entries",
    )
    cache_bytes = gauge("Octets that they take.")
    cache_hits_total = counter(
        "Questions that were answered from the cache; ready: rendered within the same second.",
        Label("kind", ("ready", "fresh", "stale", "failure")),
        coredns="coredns_cache_hits_total, coredns_cache_served_stale_total",
    )
    cache_misses_total = counter(
        "Questions that the cache had nothing for.", coredns="coredns_cache_misses_total"
    )
    cache_evictions_total = counter(
        "Replies that were pushed out for want of room.", coredns="coredns_cache_evictions_total"
    )
    cache_prefetches_total = counter(
        "Times that a reply in use was asked for anew.", coredns="coredns_cache_prefetch_total"
    )


GROUPS: Final = (ServerMetrics, RequestMetrics, ObjectMetrics, WatchMetrics, ForwardingMetrics)
METRICS: Final = {
    name: metric
    for group in GROUPS
    for name, metric in vars(group).items()
    if isinstance(metric, Metric)
}
