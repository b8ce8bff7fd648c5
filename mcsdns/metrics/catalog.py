"""All metrics: name, type, labels with their values, help text, and CoreDNS's metric like it.

Each metric is declared once: the collector takes these objects, and docs/make_metrics.py writes the
page of the documentation from the groups. Nothing is measured here. Every label is bounded: its
values are listed, or come from the settings, or are at most so many.
"""

import enum
from typing import Final

import msgspec

from mcsdns import stats
from mcsdns.dns.types import Rcode, RRType
from mcsdns.objects.model import Kind as ObjectKind
from mcsdns.objects.store import MOST_CLUSTERS
from mcsdns.sources.kubernetes.reflector import Trouble

PREFIX: Final = "mcsdns_"
ENDED: Final = "ended"
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


class Metric(msgspec.Struct, frozen=True):
    """A metric.

    Attributes:
        name: without the prefix. coredns: CoreDNS's metrics like it, empty where there is none.
    """

    name: str
    type: Type
    help: str
    labels: tuple[Label, ...]
    coredns: str

    @property
    def full_name(self) -> str:
        """The name that is scraped."""
        return PREFIX + self.name


class MetricGroup:
    """Metrics of one subject, in the order in which they are declared."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.metrics: list[Metric] = []

    def counter(self, name: str, text: str, *labels: Label, coredns: str = "") -> Metric:
        """Declare a counter."""
        return self._add(Metric(name, Type.COUNTER, text, labels, coredns))

    def gauge(self, name: str, text: str, *labels: Label, coredns: str = "") -> Metric:
        """Declare a gauge."""
        return self._add(Metric(name, Type.GAUGE, text, labels, coredns))

    def histogram(self, name: str, text: str, *labels: Label, coredns: str = "") -> Metric:
        """Declare a histogram."""
        return self._add(Metric(name, Type.HISTOGRAM, text, labels, coredns))

    def info(self, name: str, text: str, *labels: Label, coredns: str = "") -> Metric:
        """Declare a metric that is always 1 and tells by its labels."""
        return self._add(Metric(name, Type.INFO, text, labels, coredns))

    def _add(self, metric: Metric) -> Metric:
        self.metrics.append(metric)
        return metric


_TRANSPORT: Final = Label("transport", stats.TRANSPORTS)
_ZONE: Final = Label("zone", bound="a zone of the settings, `.` for all other names, or other")
_TYPE: Final = Label(
    "type", (*(each.name for each in RRType), stats.OTHER), "a usual type such as A, or other"
)
_RCODE: Final = Label("rcode", (*(each.name for each in Rcode), stats.OTHER))
_REPLY: Final = Label("kind", tuple(stats.ReplyKind))
_PATH: Final = Label("path", ("direct", "forwarded"))
_RESOURCE: Final = Label("resource", tuple(RESOURCES.values()))
_UPSTREAM: Final = Label(
    "upstream", bound="an upstream, as the settings or the file of upstreams write it"
)
_RESTART: Final = Label("reason", (ENDED, *(each.name.lower() for each in Trouble)))
_CLUSTER: Final = Label(
    "cluster",
    bound=f"a source cluster, at most {MOST_CLUSTERS}, further ones are other; empty for "
    "ServiceImports and for slices of no usable cluster",
)
_PROBLEM: Final = Label("reason", bound="a constant of ours, as in the log")

_SERVER: Final = MetricGroup("The server")
BUILD_INFO: Final = _SERVER.info(
    "build_info",
    "The version that runs, always 1.",
    Label("version", bound="that of mcsdns"),
    Label("python", bound="that of the interpreter"),
    coredns="coredns_build_info",
)
READY: Final = _SERVER.gauge("ready", "1 once /readyz says yes, 0 before and while it stops.")
STALE: Final = _SERVER.gauge("stale", "1 while answers say that they are stale.")
CONFIG_RELOADS_TOTAL: Final = _SERVER.counter(
    "config_reloads_total",
    "Times that the settings were read again.",
    Label("result", ("applied", "refused")),
    coredns="coredns_reload_failed_total",
)
CONFIG_LAST_RELOAD_SUCCESS: Final = _SERVER.gauge(
    "config_last_reload_success",
    "0 where the settings were bad when they were last read; the old ones are in force.",
)

_REQUESTS: Final = MetricGroup("Requests and answers")
REQUESTS_TOTAL: Final = _REQUESTS.counter(
    "requests_total",
    "Requests that were answered, by what the answer was.",
    _TRANSPORT,
    _ZONE,
    _TYPE,
    _RCODE,
    _REPLY,
    coredns="coredns_dns_requests_total, coredns_dns_responses_total",
)
REQUEST_DURATION_SECONDS: Final = _REQUESTS.histogram(
    "request_duration_seconds",
    "Time from reading a request to sending its reply: direct, by the turn in which it was "
    "read; or forwarded, with the wait for an upstream.",
    _TRANSPORT,
    _PATH,
    coredns="coredns_dns_request_duration_seconds",
)
REQUESTS_RECEIVED_TOTAL: Final = _REQUESTS.counter(
    "requests_received_total", "Datagrams and whole TCP messages that were read.", _TRANSPORT
)
REQUESTS_MALFORMED_TOTAL: Final = _REQUESTS.counter(
    "requests_malformed_total", "Requests that were answered with FORMERR or NOTIMP.", _TRANSPORT
)
REQUESTS_DROPPED_TOTAL: Final = _REQUESTS.counter(
    "requests_dropped_total",
    "Datagrams and messages that got no reply, such as replies and what is too short.",
    _TRANSPORT,
    coredns='coredns_dns_requests_total{zone="dropped"}',
)
REQUEST_FAULTS_TOTAL: Final = _REQUESTS.counter(
    "request_faults_total",
    "Requests that met a fault of ours and got SERVFAIL.",
    _TRANSPORT,
    coredns="coredns_panics_total",
)
REPLIES_RENDERED_TOTAL: Final = _REQUESTS.counter(
    "replies_rendered_total", "Replies that were made anew; all others were kept ready.", _TRANSPORT
)
REPLIES_OVERSIZED_TOTAL: Final = _REQUESTS.counter(
    "replies_oversized_total",
    "Answers of more than 65,535 octets, of which a subset was sent.",
    _TRANSPORT,
)
KEPT_REPLIES: Final = _REQUESTS.gauge(
    "kept_replies",
    "Replies kept ready, of names that exist and of all others.",
    _TRANSPORT,
    Label("names", ("known", "unknown")),
)
KEPT_BYTES: Final = _REQUESTS.gauge("kept_bytes", "Octets of replies kept ready.", _TRANSPORT)
NOT_ALLOWED_TOTAL: Final = _REQUESTS.counter(
    "not_allowed_total",
    "Requests to forward that were refused, since their client may not ask.",
    _TRANSPORT,
    coredns="coredns_acl_blocked_requests_total",
)
KERNEL_DROPS_TOTAL: Final = _REQUESTS.counter(
    "kernel_drops_total", "Datagrams that the kernel dropped, since the receive buffer was full."
)
UDP_ERRORS_TOTAL: Final = _REQUESTS.counter(
    "udp_errors_total",
    "Reads of UDP sockets that failed, and replies that the kernel did not take.",
    Label("direction", ("receive", "send")),
)
TCP_CONNECTIONS: Final = _REQUESTS.gauge("tcp_connections", "TCP connections that are open.")
TCP_ACCEPTED_TOTAL: Final = _REQUESTS.counter(
    "tcp_accepted_total", "TCP connections that were accepted."
)
TCP_CLOSED_TOTAL: Final = _REQUESTS.counter(
    "tcp_closed_total",
    "TCP connections that we closed: silent for too long, to make room, bad framing.",
    Label("reason", ("idle", "shed", "aborted")),
)

_OBJECTS: Final = MetricGroup("Objects")
OBJECTS: Final = _OBJECTS.gauge(
    "objects", "Objects that are known.", Label("kind", tuple(ObjectKind)), _CLUSTER
)
SERVICES: Final = _OBJECTS.gauge("services", "Services that have a ServiceImport.")
ENDPOINTS: Final = _OBJECTS.gauge(
    "endpoints",
    "Endpoints of imported services; those that are not ready are in no answer.",
    Label("ready", ("true", "false")),
)
SKIPPED_OBJECTS: Final = _OBJECTS.gauge(
    "skipped_objects",
    "Objects of which something, or all, is not served, by what is wrong.",
    _PROBLEM,
)
SERVICES_WAITING: Final = _OBJECTS.gauge(
    "services_waiting", "Services that changed and whose answers are not made anew yet."
)
PROGRAMMING_DURATION_SECONDS: Final = _OBJECTS.histogram(
    "programming_duration_seconds",
    "Time from a change in its cluster to answers that show it.",
    coredns="coredns_kubernetes_dns_programming_duration_seconds",
)
PROGRAMMING_UNDATED_TOTAL: Final = _OBJECTS.counter(
    "programming_undated_total",
    "Changes of slices that do not say when they were, so nothing was measured.",
)
PROGRAMMING_NEGATIVE_TOTAL: Final = _OBJECTS.counter(
    "programming_negative_total",
    "Changes that are ahead of our clock by their cluster's; they count as 0 seconds.",
)
MANIFEST_FILES: Final = _OBJECTS.gauge("manifest_files", "Files that objects are read from.")
MANIFEST_READS_TOTAL: Final = _OBJECTS.counter(
    "manifest_reads_total", "Times that a file was read.", Label("result", ("read", "failed"))
)

_WATCHES: Final = MetricGroup("The API server")
WATCH_SYNCED: Final = _WATCHES.gauge(
    "watch_synced", "1 once all of a resource was read.", _RESOURCE
)
WATCH_CONNECTED: Final = _WATCHES.gauge(
    "watch_connected",
    "1 while every watch of a resource is open, so that nothing can be newer.",
    _RESOURCE,
)
WATCH_LAST_EVENT_AGE_SECONDS: Final = _WATCHES.gauge(
    "watch_last_event_age_seconds",
    "Time since anything was heard, bookmarks included, which come about every minute.",
    _RESOURCE,
)
WATCH_STALE_SECONDS: Final = _WATCHES.gauge(
    "watch_stale_seconds",
    "Time since everything was known, 0 while the watches are open.",
    _RESOURCE,
)
WATCH_LISTS_TOTAL: Final = _WATCHES.counter(
    "watch_lists_total", "Lists that were begun; after the first one each is a re-list.", _RESOURCE
)
WATCH_STARTS_TOTAL: Final = _WATCHES.counter(
    "watch_starts_total",
    "Watches that were begun.",
    _RESOURCE,
    coredns="coredns_kubernetes_rest_client_requests_total",
)
WATCH_EVENTS_TOTAL: Final = _WATCHES.counter(
    "watch_events_total", "Events of watches, bookmarks included.", _RESOURCE
)
WATCH_BOOKMARKS_TOTAL: Final = _WATCHES.counter(
    "watch_bookmarks_total", "Bookmarks among the events.", _RESOURCE
)
WATCH_RESTARTS_TOTAL: Final = _WATCHES.counter(
    "watch_restarts_total",
    "Lists and watches that ended early, and watches that ended in order.",
    _RESOURCE,
    _RESTART,
    coredns="coredns_kubernetes_rest_client_requests_total",
)
GUARD_HELD_SERVICES: Final = _WATCHES.gauge(
    "guard_held_services",
    "Services whose last known answers are kept, since too many were lost at once.",
)
GUARD_LINGERING_SERVICES: Final = _WATCHES.gauge(
    "guard_lingering_services", "Services that were lost a moment ago and are answered for still."
)
GUARD_INTERVENTIONS_TOTAL: Final = _WATCHES.counter(
    "guard_interventions_total", "Times that a mass deletion was held."
)
SNAPSHOT_AGE_SECONDS: Final = _WATCHES.gauge(
    "snapshot_age_seconds", "How old what the snapshot holds is."
)
SNAPSHOT_WRITES_TOTAL: Final = _WATCHES.counter(
    "snapshot_writes_total",
    "Times that the snapshot was written.",
    Label("result", ("written", "failed")),
)

_FORWARDING: Final = MetricGroup("Forwarding")
UPSTREAM_REQUESTS_TOTAL: Final = _FORWARDING.counter(
    "upstream_requests_total",
    "Tries at an upstream.",
    _UPSTREAM,
    coredns="coredns_proxy_request_duration_seconds_count",
)
UPSTREAM_FAILURES_TOTAL: Final = _FORWARDING.counter(
    "upstream_failures_total",
    "Tries that failed.",
    _UPSTREAM,
    coredns="coredns_proxy_healthcheck_failures_total",
)
UPSTREAM_UP: Final = _FORWARDING.gauge(
    "upstream_up",
    "0 while an upstream is left alone, since it does not answer.",
    _UPSTREAM,
    coredns="coredns_forward_healthcheck_broken_total",
)
UPSTREAM_RTT_SECONDS: Final = _FORWARDING.gauge(
    "upstream_rtt_seconds",
    "Smoothed round trip to an upstream.",
    _UPSTREAM,
    coredns="coredns_proxy_request_duration_seconds",
)
UPSTREAM_DROPPED_REPLIES_TOTAL: Final = _FORWARDING.counter(
    "upstream_dropped_replies_total",
    "Messages that were not believed: too late, of an unknown ID, to another question.",
    _UPSTREAM,
    Label("reason", ("late", "wrong", "refused")),
)
UPSTREAM_CONNECTIONS: Final = _FORWARDING.gauge(
    "upstream_connections",
    "TCP and TLS connections to an upstream that are open.",
    _UPSTREAM,
    coredns="coredns_proxy_conn_cache_hits_total",
)
FORWARD_REQUESTS_TOTAL: Final = _FORWARDING.counter(
    "forward_requests_total", "Questions to forward."
)
FORWARD_PENDING: Final = _FORWARDING.gauge(
    "forward_pending", "Questions that wait for an upstream."
)
FORWARD_JOINED_TOTAL: Final = _FORWARDING.counter(
    "forward_joined_total", "Questions that wait for the reply to an equal one."
)
FORWARD_GAVE_UP_TOTAL: Final = _FORWARDING.counter(
    "forward_gave_up_total", "Questions without any answer in time."
)
FORWARD_REFUSED_TOTAL: Final = _FORWARDING.counter(
    "forward_refused_total",
    "Questions that were refused, since too many waited.",
    coredns="coredns_forward_max_concurrent_rejects_total",
)
FORWARD_LOOPS_TOTAL: Final = _FORWARDING.counter(
    "forward_loops_total", "Questions that came back to us."
)
CACHE_ENTRIES: Final = _FORWARDING.gauge(
    "cache_entries",
    "Replies and failures of upstreams that are kept.",
    Label("kind", ("reply", "failure")),
    coredns="coredns_cache_entries",
)
CACHE_BYTES: Final = _FORWARDING.gauge("cache_bytes", "Octets that they take.")
CACHE_HITS_TOTAL: Final = _FORWARDING.counter(
    "cache_hits_total",
    "Questions that were answered from the cache; ready: rendered within the same second.",
    Label("kind", ("ready", "fresh", "stale", "failure")),
    coredns="coredns_cache_hits_total, coredns_cache_served_stale_total",
)
CACHE_MISSES_TOTAL: Final = _FORWARDING.counter(
    "cache_misses_total",
    "Questions that the cache had nothing for.",
    coredns="coredns_cache_misses_total",
)
CACHE_EVICTIONS_TOTAL: Final = _FORWARDING.counter(
    "cache_evictions_total",
    "Replies that were pushed out for want of room.",
    coredns="coredns_cache_evictions_total",
)
CACHE_PREFETCHES_TOTAL: Final = _FORWARDING.counter(
    "cache_prefetches_total",
    "Times that a reply in use was asked for anew.",
    coredns="coredns_cache_prefetch_total",
)

GROUPS: Final = (_SERVER, _REQUESTS, _OBJECTS, _WATCHES, _FORWARDING)
METRICS: Final = {metric.name: metric for group in GROUPS for metric in group.metrics}
