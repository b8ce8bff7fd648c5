"""All metrics: name, type, labels with their values, what it says, and CoreDNS's metric like it.

The collector and the page of the documentation are made from this table, and nothing is measured
here. A label is bounded: its values are listed, or come from the settings, or are at most so many.
"""

import enum
from typing import Final

import msgspec

from mcsdns import stats
from mcsdns.dns.types import Rcode, RRType
from mcsdns.objects.census import MOST_CLUSTERS
from mcsdns.objects.model import Kind as ObjectKind
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
    origin: str = ""

    @property
    def text(self) -> str:
        """What its values can be, for people."""
        return self.origin or ", ".join(self.values)


class Metric(msgspec.Struct, frozen=True):
    """A metric.

    Attributes:
        name: without the prefix. says: its help text. cousin: CoreDNS's, empty where there is none.
    """

    name: str
    type: Type
    says: str
    labels: tuple[Label, ...] = ()
    cousin: str = ""

    @property
    def full_name(self) -> str:
        """The name that is scraped."""
        return PREFIX + self.name


class MetricGroup(msgspec.Struct, frozen=True):
    """Metrics of one subject."""

    title: str
    metrics: tuple[Metric, ...]


_TRANSPORT: Final = Label("transport", ("udp", "tcp"))
_ZONE: Final = Label("zone", origin="a zone of the settings, `.` for all other names, or other")
_TYPE: Final = Label(
    "type", (*(each.name for each in RRType), stats.OTHER), "a usual type such as A, or other"
)
_RCODE: Final = Label("rcode", (*(each.name for each in Rcode), stats.OTHER))
_ANSWER: Final = Label("kind", tuple(stats.ReplyKind))
_PATH: Final = Label("path", ("direct", "forwarded"))
_RESOURCE: Final = Label("resource", tuple(RESOURCES.values()))
_UPSTREAM: Final = Label(
    "upstream", origin="an upstream, as the settings or the file of upstreams write it"
)
_REASON_OF_RESTART: Final = Label("reason", (ENDED, *(each.name.lower() for each in Trouble)))
_CLUSTER: Final = Label(
    "cluster",
    origin=f"a source cluster, at most {MOST_CLUSTERS}, further ones are other; empty for "
    "ServiceImports and for slices of no usable cluster",
)
_PROBLEM: Final = Label("reason", origin="a constant of ours, as in the log")

_SERVER: Final = MetricGroup(
    "The server",
    (
        Metric(
            "build_info",
            Type.INFO,
            "The version that runs, always 1.",
            (
                Label("version", origin="that of mcsdns"),
                Label("python", origin="that of the interpreter"),
            ),
            "coredns_build_info",
        ),
        Metric("ready", Type.GAUGE, "1 once /readyz says yes, 0 before and while it stops."),
        Metric("stale", Type.GAUGE, "1 while answers say that they are stale."),
        Metric(
            "config_reloads_total",
            Type.COUNTER,
            "Times that the settings were read again.",
            (Label("result", ("applied", "refused")),),
            "coredns_reload_failed_total",
        ),
        Metric(
            "config_last_reload_success",
            Type.GAUGE,
            "0 where the settings were bad when they were last read; the old ones are in force.",
        ),
    ),
)

_REQUESTS: Final = MetricGroup(
    "Requests and answers",
    (
        Metric(
            "requests_total",
            Type.COUNTER,
            "Requests that were answered, by what the answer was.",
            (_TRANSPORT, _ZONE, _TYPE, _RCODE, _ANSWER),
            "coredns_dns_requests_total, coredns_dns_responses_total",
        ),
        Metric(
            "request_duration_seconds",
            Type.HISTOGRAM,
            "Time from reading a request to sending its reply: direct, by the turn in which it was "
            "read; or forwarded, with the wait for an upstream.",
            (_TRANSPORT, _PATH),
            "coredns_dns_request_duration_seconds",
        ),
        Metric(
            "requests_received_total",
            Type.COUNTER,
            "Datagrams and whole TCP messages that were read.",
            (_TRANSPORT,),
        ),
        Metric(
            "requests_malformed_total",
            Type.COUNTER,
            "Requests that were answered with FORMERR or NOTIMP.",
            (_TRANSPORT,),
        ),
        Metric(
            "requests_dropped_total",
            Type.COUNTER,
            "Datagrams and messages that got no reply, such as replies and what is too short.",
            (_TRANSPORT,),
            'coredns_dns_requests_total{zone="dropped"}',
        ),
        Metric(
            "request_faults_total",
            Type.COUNTER,
            "Requests that met a fault of ours and got SERVFAIL.",
            (_TRANSPORT,),
            "coredns_panics_total",
        ),
        Metric(
            "replies_rendered_total",
            Type.COUNTER,
            "Replies that were made anew; all others were kept ready.",
            (_TRANSPORT,),
        ),
        Metric(
            "replies_oversized_total",
            Type.COUNTER,
            "Answers of more than 65,535 octets, of which a subset was sent.",
            (_TRANSPORT,),
        ),
        Metric(
            "kept_replies",
            Type.GAUGE,
            "Replies kept ready, of names that exist and of all others.",
            (_TRANSPORT, Label("names", ("known", "unknown"))),
        ),
        Metric("kept_bytes", Type.GAUGE, "Octets of replies kept ready.", (_TRANSPORT,)),
        Metric(
            "not_allowed_total",
            Type.COUNTER,
            "Requests to forward that were refused, since their client may not ask.",
            (_TRANSPORT,),
            "coredns_acl_blocked_requests_total",
        ),
        Metric(
            "kernel_drops_total",
            Type.COUNTER,
            "Datagrams that the kernel dropped, since the receive buffer was full.",
        ),
        Metric(
            "udp_errors_total",
            Type.COUNTER,
            "Reads of UDP sockets that failed, and replies that the kernel did not take.",
            (Label("direction", ("receive", "send")),),
        ),
        Metric("tcp_connections", Type.GAUGE, "TCP connections that are open."),
        Metric("tcp_accepted_total", Type.COUNTER, "TCP connections that were accepted."),
        Metric(
            "tcp_closed_total",
            Type.COUNTER,
            "TCP connections that we closed: silent for too long, to make room, bad framing.",
            (Label("reason", ("idle", "shed", "aborted")),),
        ),
    ),
)

_OBJECTS: Final = MetricGroup(
    "Objects",
    (
        Metric(
            "objects",
            Type.GAUGE,
            "Objects that are known.",
            (Label("kind", tuple(ObjectKind)), _CLUSTER),
        ),
        Metric("services", Type.GAUGE, "Services that have a ServiceImport."),
        Metric(
            "endpoints",
            Type.GAUGE,
            "Endpoints of imported services; those that are not ready are in no answer.",
            (Label("ready", ("true", "false")),),
        ),
        Metric(
            "skipped_objects",
            Type.GAUGE,
            "Objects of which something, or all, is not served, by what is wrong.",
            (_PROBLEM,),
        ),
        Metric(
            "services_waiting",
            Type.GAUGE,
            "Services that changed and whose answers are not made anew yet.",
        ),
        Metric(
            "programming_duration_seconds",
            Type.HISTOGRAM,
            "Time from a change in its cluster to answers that show it.",
            cousin="coredns_kubernetes_dns_programming_duration_seconds",
        ),
        Metric(
            "programming_undated_total",
            Type.COUNTER,
            "Changes of slices that do not say when they were, so nothing was measured.",
        ),
        Metric(
            "programming_negative_total",
            Type.COUNTER,
            "Changes that are ahead of our clock by their cluster's; they count as 0 seconds.",
        ),
        Metric("manifest_files", Type.GAUGE, "Files that objects are read from."),
        Metric(
            "manifest_reads_total",
            Type.COUNTER,
            "Times that a file was read.",
            (Label("result", ("read", "failed")),),
        ),
    ),
)

_WATCHES: Final = MetricGroup(
    "The API server",
    (
        Metric(
            "watch_synced",
            Type.GAUGE,
            "1 once all of a resource was read.",
            (_RESOURCE,),
        ),
        Metric(
            "watch_connected",
            Type.GAUGE,
            "1 while every watch of a resource is open, so that nothing can be newer.",
            (_RESOURCE,),
        ),
        Metric(
            "watch_last_event_age_seconds",
            Type.GAUGE,
            "Time since anything was heard, bookmarks included, which come about every minute.",
            (_RESOURCE,),
        ),
        Metric(
            "watch_stale_seconds",
            Type.GAUGE,
            "Time since everything was known, 0 while the watches are open.",
            (_RESOURCE,),
        ),
        Metric(
            "watch_lists_total",
            Type.COUNTER,
            "Lists that were begun; after the first one each is a re-list.",
            (_RESOURCE,),
        ),
        Metric(
            "watch_starts_total",
            Type.COUNTER,
            "Watches that were begun.",
            (_RESOURCE,),
            "coredns_kubernetes_rest_client_requests_total",
        ),
        Metric(
            "watch_events_total",
            Type.COUNTER,
            "Events of watches, bookmarks included.",
            (_RESOURCE,),
        ),
        Metric(
            "watch_bookmarks_total",
            Type.COUNTER,
            "Bookmarks among the events.",
            (_RESOURCE,),
        ),
        Metric(
            "watch_restarts_total",
            Type.COUNTER,
            "Lists and watches that ended early, and watches that ended in order.",
            (_RESOURCE, _REASON_OF_RESTART),
            "coredns_kubernetes_rest_client_requests_total",
        ),
        Metric(
            "guard_held_services",
            Type.GAUGE,
            "Services whose last known answers are kept, since too many were lost at once.",
        ),
        Metric(
            "guard_lingering_services",
            Type.GAUGE,
            "Services that were lost a moment ago and are answered for still.",
        ),
        Metric("guard_interventions_total", Type.COUNTER, "Times that a mass deletion was held."),
        Metric("snapshot_age_seconds", Type.GAUGE, "How old what the snapshot holds is."),
        Metric(
            "snapshot_writes_total",
            Type.COUNTER,
            "Times that the snapshot was written.",
            (Label("result", ("written", "failed")),),
        ),
    ),
)

_FORWARDING: Final = MetricGroup(
    "Forwarding",
    (
        Metric(
            "upstream_requests_total",
            Type.COUNTER,
            "Tries at an upstream.",
            (_UPSTREAM,),
            "coredns_proxy_request_duration_seconds_count",
        ),
        Metric(
            "upstream_failures_total",
            Type.COUNTER,
            "Tries that failed.",
            (_UPSTREAM,),
            "coredns_proxy_healthcheck_failures_total",
        ),
        Metric(
            "upstream_up",
            Type.GAUGE,
            "0 while an upstream is left alone, since it does not answer.",
            (_UPSTREAM,),
            "coredns_forward_healthcheck_broken_total",
        ),
        Metric(
            "upstream_rtt_seconds",
            Type.GAUGE,
            "Smoothed round trip to an upstream.",
            (_UPSTREAM,),
            "coredns_proxy_request_duration_seconds",
        ),
        Metric(
            "upstream_dropped_replies_total",
            Type.COUNTER,
            "Messages that were not believed: too late, of an unknown ID, to another question.",
            (_UPSTREAM, Label("reason", ("late", "wrong", "refused"))),
        ),
        Metric(
            "upstream_connections",
            Type.GAUGE,
            "TCP and TLS connections to an upstream that are open.",
            (_UPSTREAM,),
            "coredns_proxy_conn_cache_hits_total",
        ),
        Metric("forward_requests_total", Type.COUNTER, "Questions to forward."),
        Metric("forward_pending", Type.GAUGE, "Questions that wait for an upstream."),
        Metric(
            "forward_joined_total",
            Type.COUNTER,
            "Questions that wait for the reply to an equal one.",
        ),
        Metric("forward_gave_up_total", Type.COUNTER, "Questions without any answer in time."),
        Metric(
            "forward_refused_total",
            Type.COUNTER,
            "Questions that were refused, since too many waited.",
            cousin="coredns_forward_max_concurrent_rejects_total",
        ),
        Metric("forward_loops_total", Type.COUNTER, "Questions that came back to us."),
        Metric(
            "cache_entries",
            Type.GAUGE,
            "Replies and failures of upstreams that are kept.",
            (Label("kind", ("reply", "failure")),),
            "coredns_cache_entries",
        ),
        Metric("cache_bytes", Type.GAUGE, "Octets that they take."),
        Metric(
            "cache_hits_total",
            Type.COUNTER,
            "Questions that were answered from the cache; ready: rendered within the same second.",
            (Label("kind", ("ready", "fresh", "stale", "failure")),),
            "coredns_cache_hits_total, coredns_cache_served_stale_total",
        ),
        Metric(
            "cache_misses_total",
            Type.COUNTER,
            "Questions that the cache had nothing for.",
            cousin="coredns_cache_misses_total",
        ),
        Metric(
            "cache_evictions_total",
            Type.COUNTER,
            "Replies that were pushed out for want of room.",
            cousin="coredns_cache_evictions_total",
        ),
        Metric(
            "cache_prefetches_total",
            Type.COUNTER,
            "Times that a reply in use was asked for anew.",
            cousin="coredns_cache_prefetch_total",
        ),
    ),
)

GROUPS: Final = (_SERVER, _REQUESTS, _OBJECTS, _WATCHES, _FORWARDING)
METRICS: Final = {metric.name: metric for group in GROUPS for metric in group.metrics}
