"""One snapshot -> what Prometheus scrapes, in the format it asks for.

`values` reads the statistics room by room. Values of the same metric and labels are added: several
sockets are one transport, an upstream may serve two zones, and Prometheus refuses a scrape in which
a series is there twice. Nothing is put into the global registry of prometheus_client. Its encoders
are given a hundred samples at a time, so that the caller can let queries be answered in between.
"""

import copy
import platform
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain
from typing import Any, Final

from prometheus_client import Metric as Family
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mcsdns import __version__
from mcsdns.metrics.catalog import (
    ENDED,
    METRICS,
    RESOURCES,
    UPSTREAM,
    ForwardingMetrics,
    Metric,
    ObjectMetrics,
    RequestMetrics,
    ServerMetrics,
    WatchMetrics,
)
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.objects.model import Kind
from mcsdns.objects.store import UNKNOWN
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.stats import HistogramStatistics

Labels = tuple[str, ...]
Value = float | HistogramStatistics
Values = Iterator[tuple[Metric, Labels, Value]]
Encode = Callable[[Collector], bytes]

SAMPLES_AT_ONCE: Final = 100
"""They take a millisecond at most."""
_PROCESS: Final = ProcessCollector(registry=None)
_END: Final = b"# EOF\n"


def encoder_for(accept: str) -> tuple[Encode, str]:
    """Return the encoder and the content type for the Accept header of a request, or for none.

    A header that cannot be understood gets the oldest format.
    """
    try:
        return choose_encoder(accept)
    except (ValueError, TypeError):  # of a version that is none, as it compares what it read
        return choose_encoder("")


def exposition(snapshot: Snapshot, encode: Encode, *, is_public: bool = False) -> Iterator[bytes]:
    """Iterate over the parts of the body; see `families`."""
    for family in chain(families(snapshot, is_public=is_public), _PROCESS.collect()):
        for begin in range(0, len(family.samples), SAMPLES_AT_ONCE):
            part = copy.copy(family)
            part.samples = family.samples[begin : begin + SAMPLES_AT_ONCE]
            text = encode(_Families(part)).removesuffix(_END)
            yield _without_comments(text) if begin else text
    if encode(_Families()) == _END:  # the format has an end, which each of the texts had
        yield _END


class _Families(Collector):
    """What an encoder asks for the families that it is to write."""

    def __init__(self, *found: Family) -> None:
        self._found = found

    def collect(self) -> Iterable[Family]:
        return self._found


def _without_comments(text: bytes) -> bytes:
    """Take off the type and the help text: only the first part of a family says them."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"#"))


def families(snapshot: Snapshot, *, is_public: bool = False) -> Iterator[Family]:
    """Iterate over the families of a snapshot in the order of the catalog.

    Metrics of a room that is not there have none. What is public has numbers for the addresses of
    upstreams, in the order of the settings.
    """
    found: dict[str, dict[Labels, Any]] = {name: {} for name in METRICS}
    numbers: dict[str, str] = {}
    for metric, named, value in values(snapshot):
        labels = named
        if is_public and UPSTREAM in metric.labels:
            number = numbers.setdefault(named[0], str(len(numbers) + 1))
            labels = (number, *named[1:])
        series = found[metric.name]
        series[labels] = series[labels] + value if labels in series else value
    for name, series in found.items():
        if series:
            yield _family(METRICS[name], series)


def _family(metric: Metric, series: dict[Labels, Value]) -> Family:
    name = metric.full_name
    family = Family(name.removesuffix("_total").removesuffix("_info"), metric.help, metric.type)
    for label_values, value in series.items():
        names = (label.name for label in metric.labels)
        labels = dict(zip(names, label_values, strict=True))
        if isinstance(value, HistogramStatistics):
            bounds = [*(str(bound) for bound in value.bounds), "+Inf"]
            for bound, count in zip(bounds, accumulate(value.counts), strict=True):
                family.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
            family.add_sample(f"{name}_count", labels, value.count)
            family.add_sample(f"{name}_sum", labels, value.sum)
        else:
            family.add_sample(name, labels, float(value))
    return family


def values(snapshot: Snapshot) -> Values:
    """Iterate over metric, label values in the order of the catalog, and value."""
    yield from _server(snapshot)
    yield from _requests(snapshot)
    yield from _sockets(snapshot)
    yield from _objects(snapshot)
    yield from _kubernetes(snapshot)
    yield from _forwarding(snapshot)


def _server(snapshot: Snapshot) -> Values:
    yield ServerMetrics.build_info, (__version__, platform.python_version()), 1
    yield ServerMetrics.ready, (), snapshot.ready
    yield ServerMetrics.stale, (), snapshot.stale
    reloads = snapshot.reloads
    if reloads is not None:
        yield ServerMetrics.config_reloads_total, ("applied",), reloads.applied
        yield ServerMetrics.config_reloads_total, ("refused",), reloads.refused
        yield ServerMetrics.config_last_reload_success, (), reloads.is_applied
    yield ServerMetrics.log_held_lines_total, (), snapshot.held_lines
    http = snapshot.http
    if http is not None:
        yield ServerMetrics.http_connections, (), http.open
        for reason, number in http.closed.items():
            yield ServerMetrics.http_closed_total, (reason,), number
        for acceptor in http.acceptors:
            yield ServerMetrics.accept_pauses_total, ("http", "files"), acceptor.no_files
            yield ServerMetrics.accept_pauses_total, ("http", "room"), acceptor.no_room


def _requests(snapshot: Snapshot) -> Values:
    for reply in snapshot.all_replies():
        of_class = (reply.transport, reply.zone, reply.qtype, reply.rcode, reply.kind.value)
        yield RequestMetrics.requests_total, of_class, reply.number
    for udp in snapshot.udp:
        yield RequestMetrics.request_duration_seconds, ("udp", "direct"), udp.seconds
    for tcp in snapshot.tcp:
        yield RequestMetrics.request_duration_seconds, ("tcp", "direct"), tcp.seconds
    if snapshot.forwarder is not None:
        for transport, seconds in snapshot.forwarder.seconds.items():
            yield RequestMetrics.request_duration_seconds, (transport, "forwarded"), seconds
    for transport, handler in snapshot.handlers.items():
        yield RequestMetrics.requests_malformed_total, (transport,), handler.malformed
        yield RequestMetrics.requests_dropped_total, (transport,), handler.dropped
        yield RequestMetrics.request_faults_total, (transport,), handler.failures
        yield RequestMetrics.replies_rendered_total, (transport,), handler.rendered
        yield RequestMetrics.replies_oversized_total, (transport,), handler.oversized
    limited = snapshot.limited
    yield RequestMetrics.replies_limited_total, ("dropped",), limited.dropped
    yield RequestMetrics.replies_limited_total, ("truncated",), limited.truncated
    for transport, cache in snapshot.packet_caches.items():
        yield RequestMetrics.kept_replies, (transport, "known"), cache.known
        yield RequestMetrics.kept_replies, (transport, "unknown"), cache.unknown
        yield RequestMetrics.kept_bytes, (transport,), cache.size_bytes
    for transport, forward_handler in snapshot.forward_handlers.items():
        yield RequestMetrics.not_allowed_total, (transport,), forward_handler.not_allowed
        yield ForwardingMetrics.cache_hits_total, ("ready",), forward_handler.ready


def _sockets(snapshot: Snapshot) -> Values:
    for udp in snapshot.udp:
        yield RequestMetrics.requests_received_total, ("udp",), udp.received
        yield RequestMetrics.kernel_drops_total, (), udp.kernel_drops
        yield RequestMetrics.udp_errors_total, ("receive",), udp.receive_errors
        yield RequestMetrics.udp_errors_total, ("send",), udp.send_errors
    for tcp in snapshot.tcp:
        yield RequestMetrics.requests_received_total, ("tcp",), tcp.received
        yield RequestMetrics.tcp_connections, (), tcp.open
        yield RequestMetrics.tcp_accepted_total, (), tcp.accepted
        yield RequestMetrics.tcp_closed_total, ("idle",), tcp.idle_closed
        yield RequestMetrics.tcp_closed_total, ("stalled",), tcp.stalled
        yield RequestMetrics.tcp_closed_total, ("shed",), tcp.shed
        yield RequestMetrics.tcp_closed_total, ("held_most",), tcp.held_most
        yield RequestMetrics.tcp_closed_total, ("aborted",), tcp.aborted
        yield RequestMetrics.tcp_held_bytes, (), tcp.held_bytes
        yield ServerMetrics.accept_pauses_total, ("tcp", "files"), tcp.no_files


def _objects(snapshot: Snapshot) -> Values:
    store = snapshot.store
    yield ObjectMetrics.objects, (Kind.SERVICE_IMPORT.value, UNKNOWN), store.service_imports
    yield ObjectMetrics.objects, (Kind.ENDPOINT_SLICE.value, UNKNOWN), 0
    for cluster, number in store.slices_of.items():
        yield ObjectMetrics.objects, (Kind.ENDPOINT_SLICE.value, cluster), number
    yield ObjectMetrics.services, (), store.service_imports
    yield ObjectMetrics.endpoints, ("true",), store.ready_endpoints
    yield ObjectMetrics.endpoints, ("false",), store.endpoints - store.ready_endpoints
    queue = snapshot.update_queue
    if queue is not None:
        yield ObjectMetrics.services_waiting, (), queue.waiting
        yield ObjectMetrics.programming_duration_seconds, (), queue.programming
        yield ObjectMetrics.programming_undated_total, (), queue.undated
        yield ObjectMetrics.programming_negative_total, (), queue.negative
    files = snapshot.manifests
    if files is not None:
        yield ObjectMetrics.manifest_files, (), files.files
        yield ObjectMetrics.manifest_reads_total, ("read",), files.reads - files.failed_reads
        yield ObjectMetrics.manifest_reads_total, ("failed",), files.failed_reads
        for reason, number in files.wrong.items():
            yield ObjectMetrics.skipped_objects, (reason,), number


def _kubernetes(snapshot: Snapshot) -> Values:
    source = snapshot.kubernetes
    if source is None:
        return
    for kind, resource in RESOURCES.items():
        group = [each for each in source.watches if each.kind is kind]
        if group:  # of the watches of several namespaces the worst one counts
            heard_age_s = max(each.heard_age_s for each in group)
            known_age_s = max(each.known_age_s for each in group)
            yield WatchMetrics.watch_synced, (resource,), all(each.synced for each in group)
            yield WatchMetrics.watch_connected, (resource,), all(each.connected for each in group)
            yield WatchMetrics.watch_last_event_age_seconds, (resource,), heard_age_s
            yield WatchMetrics.watch_stale_seconds, (resource,), known_age_s
    for watch in source.watches:
        resource = RESOURCES[watch.kind]
        yield WatchMetrics.watch_lists_total, (resource,), watch.lists
        yield WatchMetrics.watch_starts_total, (resource,), watch.watches
        yield WatchMetrics.watch_events_total, (resource,), watch.lines
        yield WatchMetrics.watch_bookmarks_total, (resource,), watch.bookmarks
        yield WatchMetrics.watch_rechecks_total, (resource,), watch.rechecks.done
        yield WatchMetrics.watch_missed_total, (resource,), watch.rechecks.found
        yield WatchMetrics.watch_restarts_total, (resource, ENDED), watch.ended
        for trouble in Trouble:
            labels = (resource, trouble.name.lower())
            yield WatchMetrics.watch_restarts_total, labels, watch.troubles.get(trouble, 0)
        for reason, number in watch.skipped.items():
            yield ObjectMetrics.skipped_objects, (reason,), number
    yield WatchMetrics.guard_held_services, (), source.guard.held
    yield WatchMetrics.guard_lingering_services, (), source.guard.lingering
    yield WatchMetrics.guard_interventions_total, (), source.guard.trips
    yield WatchMetrics.guard_shed_objects_total, (), source.guard.shed
    writer = source.snapshot
    if writer is not None:
        yield WatchMetrics.snapshot_writes_total, ("written",), writer.writes
        yield WatchMetrics.snapshot_writes_total, ("failed",), writer.failures
        if writer.as_of_s is not None:
            yield WatchMetrics.snapshot_age_seconds, (), max(snapshot.time_s - writer.as_of_s, 0.0)


def _forwarding(snapshot: Snapshot) -> Values:
    forwarder = snapshot.forwarder
    if forwarder is None:
        return
    yield ForwardingMetrics.forward_requests_total, (), forwarder.asked
    yield ForwardingMetrics.forward_pending, (), forwarder.pending
    yield ForwardingMetrics.forward_joined_total, (), forwarder.joined
    yield ForwardingMetrics.forward_gave_up_total, (), forwarder.gave_up
    yield ForwardingMetrics.forward_refused_total, (), forwarder.refused
    yield ForwardingMetrics.forward_loops_total, (), forwarder.looped
    yield ForwardingMetrics.forward_displaced_total, (), forwarder.displaced
    yield ForwardingMetrics.forward_waiting, (), forwarder.waiting
    forged, failed = forwarder.forged, forwarder.forged_failed
    yield ForwardingMetrics.forward_forged_total, ("answered",), forged - failed
    yield ForwardingMetrics.forward_forged_total, ("failed",), failed
    cache = forwarder.cache
    yield ForwardingMetrics.cache_entries, ("reply",), cache.replies
    yield ForwardingMetrics.cache_entries, ("failure",), cache.failures
    yield ForwardingMetrics.cache_bytes, (), cache.size_bytes
    yield ForwardingMetrics.cache_hits_total, ("fresh",), cache.hits
    yield ForwardingMetrics.cache_hits_total, ("stale",), cache.stale_hits
    yield ForwardingMetrics.cache_hits_total, ("failure",), cache.failure_hits
    yield ForwardingMetrics.cache_misses_total, (), cache.misses
    yield ForwardingMetrics.cache_evictions_total, (), cache.evicted
    yield ForwardingMetrics.cache_prefetches_total, (), cache.refreshes
    # One upstream may serve two zones; it is down where it is down for one.
    up: dict[str, bool] = {}
    rtt_s: dict[str, float] = {}
    dropped = ForwardingMetrics.upstream_dropped_replies_total
    for upstream in forwarder.upstreams:
        health = upstream.health
        name = health.upstream
        up[name] = up.get(name, True) and not health.is_down
        if health.rtt_s is not None:
            rtt_s[name] = max(rtt_s.get(name, 0.0), health.rtt_s)
        yield ForwardingMetrics.upstream_requests_total, (name,), health.asked
        yield ForwardingMetrics.upstream_failures_total, (name,), health.failed
        yield ForwardingMetrics.upstream_connections, (name,), upstream.stream.open
        yield dropped, (name, "malformed"), upstream.malformed
        for way in (upstream.stream, upstream.udp):
            if way is not None:
                yield dropped, (name, "late"), way.late
                yield dropped, (name, "wrong"), way.wrong
                yield dropped, (name, "refused"), way.refused
    for name, is_up in up.items():
        yield ForwardingMetrics.upstream_up, (name,), is_up
    for name, seconds in rtt_s.items():
        yield ForwardingMetrics.upstream_rtt_seconds, (name,), seconds
