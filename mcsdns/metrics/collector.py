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
from typing import Final

from prometheus_client import Metric as Family
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mcsdns import __version__
from mcsdns.metrics import catalog
from mcsdns.metrics.catalog import ENDED, RESOURCES, Metric
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.objects.model import Kind
from mcsdns.objects.store import UNKNOWN
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.stats import HistogramStatistics, add_histograms

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


def exposition(snapshot: Snapshot, encode: Encode) -> Iterator[bytes]:
    """Iterate over the parts of the body."""
    for family in chain(families(snapshot), _PROCESS.collect()):
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


def families(snapshot: Snapshot) -> Iterator[Family]:
    """Iterate over the families of a snapshot in the order of the catalog.

    Metrics of a room that is not there have none.
    """
    found: dict[str, dict[Labels, Value]] = {name: {} for name in catalog.METRICS}
    for metric, labels, value in values(snapshot):
        series = found[metric.name]
        series[labels] = _sum(series[labels], value) if labels in series else value
    for name, series in found.items():
        if series:
            yield _family(catalog.METRICS[name], series)


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, HistogramStatistics):
        assert isinstance(other, HistogramStatistics)
        return add_histograms([one, other])
    assert not isinstance(other, HistogramStatistics)
    return one + other


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
    yield catalog.BUILD_INFO, (__version__, platform.python_version()), 1
    yield catalog.READY, (), snapshot.ready
    yield catalog.STALE, (), snapshot.stale
    reloads = snapshot.reloads
    if reloads is not None:
        yield catalog.CONFIG_RELOADS_TOTAL, ("applied",), reloads.applied
        yield catalog.CONFIG_RELOADS_TOTAL, ("refused",), reloads.refused
        yield catalog.CONFIG_LAST_RELOAD_SUCCESS, (), reloads.is_applied


def _requests(snapshot: Snapshot) -> Values:
    for reply in snapshot.all_replies():
        of_class = (reply.transport, reply.zone, reply.qtype, reply.rcode, reply.kind.value)
        yield catalog.REQUESTS_TOTAL, of_class, reply.number
    for udp in snapshot.udp:
        yield catalog.REQUEST_DURATION_SECONDS, ("udp", "direct"), udp.seconds
    for tcp in snapshot.tcp:
        yield catalog.REQUEST_DURATION_SECONDS, ("tcp", "direct"), tcp.seconds
    if snapshot.forwarder is not None:
        for transport, seconds in snapshot.forwarder.seconds.items():
            yield catalog.REQUEST_DURATION_SECONDS, (transport, "forwarded"), seconds
    for transport, handler in snapshot.handlers.items():
        yield catalog.REQUESTS_MALFORMED_TOTAL, (transport,), handler.malformed
        yield catalog.REQUESTS_DROPPED_TOTAL, (transport,), handler.dropped
        yield catalog.REQUEST_FAULTS_TOTAL, (transport,), handler.failures
        yield catalog.REPLIES_RENDERED_TOTAL, (transport,), handler.rendered
        yield catalog.REPLIES_OVERSIZED_TOTAL, (transport,), handler.oversized
    for transport, cache in snapshot.packet_caches.items():
        yield catalog.KEPT_REPLIES, (transport, "known"), cache.known
        yield catalog.KEPT_REPLIES, (transport, "unknown"), cache.unknown
        yield catalog.KEPT_BYTES, (transport,), cache.size_bytes
    for transport, forward_handler in snapshot.forward_handlers.items():
        yield catalog.NOT_ALLOWED_TOTAL, (transport,), forward_handler.not_allowed
        yield catalog.CACHE_HITS_TOTAL, ("ready",), forward_handler.ready


def _sockets(snapshot: Snapshot) -> Values:
    for udp in snapshot.udp:
        yield catalog.REQUESTS_RECEIVED_TOTAL, ("udp",), udp.received
        yield catalog.KERNEL_DROPS_TOTAL, (), udp.kernel_drops
        yield catalog.UDP_ERRORS_TOTAL, ("receive",), udp.receive_errors
        yield catalog.UDP_ERRORS_TOTAL, ("send",), udp.send_errors
    for tcp in snapshot.tcp:
        yield catalog.REQUESTS_RECEIVED_TOTAL, ("tcp",), tcp.received
        yield catalog.TCP_CONNECTIONS, (), tcp.open
        yield catalog.TCP_ACCEPTED_TOTAL, (), tcp.accepted
        yield catalog.TCP_CLOSED_TOTAL, ("idle",), tcp.idle_closed
        yield catalog.TCP_CLOSED_TOTAL, ("shed",), tcp.shed
        yield catalog.TCP_CLOSED_TOTAL, ("aborted",), tcp.aborted


def _objects(snapshot: Snapshot) -> Values:
    store = snapshot.store
    yield catalog.OBJECTS, (Kind.SERVICE_IMPORT.value, UNKNOWN), store.service_imports
    yield catalog.OBJECTS, (Kind.ENDPOINT_SLICE.value, UNKNOWN), 0
    for cluster, number in store.slices_of.items():
        yield catalog.OBJECTS, (Kind.ENDPOINT_SLICE.value, cluster), number
    yield catalog.SERVICES, (), store.service_imports
    yield catalog.ENDPOINTS, ("true",), store.ready_endpoints
    yield catalog.ENDPOINTS, ("false",), store.endpoints - store.ready_endpoints
    queue = snapshot.update_queue
    if queue is not None:
        yield catalog.SERVICES_WAITING, (), queue.waiting
        yield catalog.PROGRAMMING_DURATION_SECONDS, (), queue.programming
        yield catalog.PROGRAMMING_UNDATED_TOTAL, (), queue.undated
        yield catalog.PROGRAMMING_NEGATIVE_TOTAL, (), queue.negative
    files = snapshot.manifests
    if files is not None:
        yield catalog.MANIFEST_FILES, (), files.files
        yield catalog.MANIFEST_READS_TOTAL, ("read",), files.reads - files.failed_reads
        yield catalog.MANIFEST_READS_TOTAL, ("failed",), files.failed_reads
        for reason, number in files.wrong.items():
            yield catalog.SKIPPED_OBJECTS, (reason,), number


def _kubernetes(snapshot: Snapshot) -> Values:
    source = snapshot.kubernetes
    if source is None:
        return
    for kind, resource in RESOURCES.items():
        group = [each for each in source.watches if each.kind is kind]
        if group:  # of the watches of several namespaces the worst one counts
            heard_age_s = max(each.heard_age_s for each in group)
            known_age_s = max(each.known_age_s for each in group)
            yield catalog.WATCH_SYNCED, (resource,), all(each.synced for each in group)
            yield catalog.WATCH_CONNECTED, (resource,), all(each.connected for each in group)
            yield catalog.WATCH_LAST_EVENT_AGE_SECONDS, (resource,), heard_age_s
            yield catalog.WATCH_STALE_SECONDS, (resource,), known_age_s
    for watch in source.watches:
        resource = RESOURCES[watch.kind]
        yield catalog.WATCH_LISTS_TOTAL, (resource,), watch.lists
        yield catalog.WATCH_STARTS_TOTAL, (resource,), watch.watches
        yield catalog.WATCH_EVENTS_TOTAL, (resource,), watch.lines
        yield catalog.WATCH_BOOKMARKS_TOTAL, (resource,), watch.bookmarks
        yield catalog.WATCH_RESTARTS_TOTAL, (resource, ENDED), watch.ended
        for trouble in Trouble:
            labels = (resource, trouble.name.lower())
            yield catalog.WATCH_RESTARTS_TOTAL, labels, watch.troubles.get(trouble, 0)
        for reason, number in watch.skipped.items():
            yield catalog.SKIPPED_OBJECTS, (reason,), number
    yield catalog.GUARD_HELD_SERVICES, (), source.guard.held
    yield catalog.GUARD_LINGERING_SERVICES, (), source.guard.lingering
    yield catalog.GUARD_INTERVENTIONS_TOTAL, (), source.guard.trips
    writer = source.snapshot
    if writer is not None:
        yield catalog.SNAPSHOT_WRITES_TOTAL, ("written",), writer.writes
        yield catalog.SNAPSHOT_WRITES_TOTAL, ("failed",), writer.failures
        if writer.as_of_s is not None:
            yield catalog.SNAPSHOT_AGE_SECONDS, (), max(snapshot.time_s - writer.as_of_s, 0.0)


def _forwarding(snapshot: Snapshot) -> Values:
    forwarder = snapshot.forwarder
    if forwarder is None:
        return
    yield catalog.FORWARD_REQUESTS_TOTAL, (), forwarder.asked
    yield catalog.FORWARD_PENDING, (), forwarder.pending
    yield catalog.FORWARD_JOINED_TOTAL, (), forwarder.joined
    yield catalog.FORWARD_GAVE_UP_TOTAL, (), forwarder.gave_up
    yield catalog.FORWARD_REFUSED_TOTAL, (), forwarder.refused
    yield catalog.FORWARD_LOOPS_TOTAL, (), forwarder.looped
    cache = forwarder.cache
    yield catalog.CACHE_ENTRIES, ("reply",), cache.replies
    yield catalog.CACHE_ENTRIES, ("failure",), cache.failures
    yield catalog.CACHE_BYTES, (), cache.size_bytes
    yield catalog.CACHE_HITS_TOTAL, ("fresh",), cache.hits
    yield catalog.CACHE_HITS_TOTAL, ("stale",), cache.stale_hits
    yield catalog.CACHE_HITS_TOTAL, ("failure",), cache.failure_hits
    yield catalog.CACHE_MISSES_TOTAL, (), cache.misses
    yield catalog.CACHE_EVICTIONS_TOTAL, (), cache.evicted
    yield catalog.CACHE_PREFETCHES_TOTAL, (), cache.refreshes
    # One upstream may serve two zones; it is down where it is down for one.
    up: dict[str, bool] = {}
    rtt_s: dict[str, float] = {}
    for upstream in forwarder.upstreams:
        health = upstream.health
        name = health.upstream
        up[name] = up.get(name, True) and not health.is_down
        if health.rtt_s is not None:
            rtt_s[name] = max(rtt_s.get(name, 0.0), health.rtt_s)
        yield catalog.UPSTREAM_REQUESTS_TOTAL, (name,), health.asked
        yield catalog.UPSTREAM_FAILURES_TOTAL, (name,), health.failed
        yield catalog.UPSTREAM_CONNECTIONS, (name,), upstream.stream.open
        for way in (upstream.stream, upstream.udp):
            if way is not None:
                yield catalog.UPSTREAM_DROPPED_REPLIES_TOTAL, (name, "late"), way.late
                yield catalog.UPSTREAM_DROPPED_REPLIES_TOTAL, (name, "wrong"), way.wrong
                yield catalog.UPSTREAM_DROPPED_REPLIES_TOTAL, (name, "refused"), way.refused
    for name, is_up in up.items():
        yield catalog.UPSTREAM_UP, (name,), is_up
    for name, seconds in rtt_s.items():
        yield catalog.UPSTREAM_RTT_SECONDS, (name,), seconds
