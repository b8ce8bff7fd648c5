"""One snapshot -> metric families of prometheus_client, in the order of the table.

Values of the same name and labels are added: several sockets are one transport, an upstream may
serve two zones, and Prometheus refuses a scrape in which a series is there twice.
"""

import platform
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate
from typing import Final

import prometheus_client
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from mcsdns import __version__
from mcsdns.forward import forwarder as forward
from mcsdns.forward import health
from mcsdns.forward.pending import Statistics as UpstreamStatistics
from mcsdns.metrics.catalog import ENDED, METRICS, RESOURCES, Metric, Type
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.objects import census
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import watched
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.stats import HistogramStatistics, add_histograms

Labels = tuple[str, ...]
Value = float | HistogramStatistics
Values = Iterator[tuple[str, Labels, Value]]

Family = prometheus_client.Metric

_NONE: Final[Labels] = ()


class SnapshotCollector(Collector):
    """What prometheus_client asks for the metrics of one moment."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Family]:
        """Return the families of all metrics that there are values of."""
        return families(self._snapshot)


def families(snapshot: Snapshot) -> Iterator[Family]:
    """Iterate over the families of a snapshot; rooms that are not there have none."""
    found: dict[str, dict[Labels, Value]] = {name: {} for name in METRICS}
    for name, labels, value in values(snapshot):
        known = found[name].get(labels)
        found[name][labels] = value if known is None else _sum(known, value)
    for name, of_labels in found.items():
        if of_labels:
            yield _family(METRICS[name], of_labels)


def values(snapshot: Snapshot) -> Values:
    """Iterate over name, label values in the order of the table, and value."""
    yield from _server(snapshot)
    yield from _requests(snapshot)
    yield from _sockets(snapshot)
    yield from _objects(snapshot)
    yield from _programming(snapshot)
    yield from _watches(snapshot)
    yield from _upkeep(snapshot)
    if snapshot.forwarder is not None:
        yield from _forwarding(snapshot.forwarder)


def _server(snapshot: Snapshot) -> Values:
    yield "build_info", (__version__, platform.python_version()), 1
    yield "ready", _NONE, snapshot.ready
    yield "stale", _NONE, snapshot.stale
    reloads = snapshot.reloads
    if reloads is not None:
        yield "config_reloads_total", ("applied",), reloads.applied
        yield "config_reloads_total", ("refused",), reloads.refused
        yield "config_last_reload_success", _NONE, reloads.is_applied


def _requests(snapshot: Snapshot) -> Values:
    forwarder = snapshot.forwarder
    for reply in snapshot.all_replies():
        of_class = (reply.transport, reply.zone, reply.qtype, reply.rcode, reply.kind.value)
        yield "requests_total", of_class, reply.number
    direct = [("udp", each.seconds) for each in snapshot.udp]
    direct += [("tcp", each.seconds) for each in snapshot.tcp]
    for transport, seconds in direct:
        yield "request_duration_seconds", (transport, "direct"), seconds
    for transport, seconds in (forwarder.seconds if forwarder else {}).items():
        yield "request_duration_seconds", (transport, "forwarded"), seconds
    for transport, done in snapshot.responders.items():
        yield "requests_malformed_total", (transport,), done.malformed
        yield "requests_dropped_total", (transport,), done.dropped
        yield "request_faults_total", (transport,), done.failures
        yield "replies_rendered_total", (transport,), done.rendered
        yield "replies_oversized_total", (transport,), done.oversized
    for transport, kept in snapshot.kept.items():
        yield "kept_replies", (transport, "known"), kept.known
        yield "kept_replies", (transport, "unknown"), kept.unknown
        yield "kept_bytes", (transport,), kept.size_bytes
    for transport, relay in snapshot.relays.items():
        yield "not_allowed_total", (transport,), relay.not_allowed
        yield "cache_hits_total", ("ready",), relay.ready


def _sockets(snapshot: Snapshot) -> Values:
    for udp in snapshot.udp:
        yield "requests_received_total", ("udp",), udp.received
        yield "kernel_drops_total", _NONE, udp.kernel_drops
        yield "udp_errors_total", ("receive",), udp.receive_errors
        yield "udp_errors_total", ("send",), udp.send_errors
    for tcp in snapshot.tcp:
        yield "requests_received_total", ("tcp",), tcp.received
        yield "tcp_connections", _NONE, tcp.open
        yield "tcp_accepted_total", _NONE, tcp.accepted
        yield "tcp_closed_total", ("idle",), tcp.idle_closed
        yield "tcp_closed_total", ("shed",), tcp.shed
        yield "tcp_closed_total", ("aborted",), tcp.aborted


def _objects(snapshot: Snapshot) -> Values:
    index = snapshot.index
    yield "objects", (Kind.SERVICE_IMPORT.value, census.UNKNOWN), index.service_imports
    yield "objects", (Kind.ENDPOINT_SLICE.value, census.UNKNOWN), 0
    for cluster, number in index.slices_of.items():
        yield "objects", (Kind.ENDPOINT_SLICE.value, cluster), number
    yield "services", _NONE, index.service_imports
    yield "endpoints", ("true",), index.ready_endpoints
    yield "endpoints", ("false",), index.endpoints - index.ready_endpoints
    files = snapshot.manifests
    if files is not None:
        yield "manifest_files", _NONE, files.files
        yield "manifest_reads_total", ("read",), files.reads - files.failed_reads
        yield "manifest_reads_total", ("failed",), files.failed_reads
        for reason, number in files.wrong.items():
            yield "skipped_objects", (reason,), number


def _programming(snapshot: Snapshot) -> Values:
    feed = snapshot.feed
    if feed is not None:
        yield "services_waiting", _NONE, feed.waiting
        yield "programming_duration_seconds", _NONE, feed.programming
        yield "programming_undated_total", _NONE, feed.undated
        yield "programming_negative_total", _NONE, feed.negative


def _watches(snapshot: Snapshot) -> Values:
    """Put the watches of all namespaces together; the worst of them counts."""
    for kind, resource in RESOURCES.items():
        group = [each for each in snapshot.watches if each.kind is kind]
        if group:
            labels = (resource,)
            yield "watch_synced", labels, all(each.synced for each in group)
            yield "watch_connected", labels, all(each.connected for each in group)
            age_s = max(each.heard_age_s for each in group)
            yield "watch_last_event_age_seconds", labels, age_s
            yield "watch_stale_seconds", labels, max(each.known_age_s for each in group)
    for watch in snapshot.watches:
        yield from _watch(watch, RESOURCES[watch.kind])


def _watch(watch: watched.Statistics, resource: str) -> Values:
    yield "watch_lists_total", (resource,), watch.lists
    yield "watch_starts_total", (resource,), watch.watches
    yield "watch_events_total", (resource,), watch.lines
    yield "watch_bookmarks_total", (resource,), watch.bookmarks
    yield "watch_restarts_total", (resource, ENDED), watch.ended
    for trouble in Trouble:
        labels = (resource, trouble.name.lower())
        yield "watch_restarts_total", labels, watch.troubles.get(trouble, 0)
    for reason, number in watch.skipped.items():
        yield "skipped_objects", (reason,), number


def _upkeep(snapshot: Snapshot) -> Values:
    guard, keeper = snapshot.guard, snapshot.keeper
    if guard is not None:
        yield "guard_held_services", _NONE, guard.held
        yield "guard_lingering_services", _NONE, guard.lingering
        yield "guard_interventions_total", _NONE, guard.trips
    if keeper is not None:
        yield "snapshot_writes_total", ("written",), keeper.writes
        yield "snapshot_writes_total", ("failed",), keeper.failures
        if keeper.as_of_s is not None:
            yield "snapshot_age_seconds", _NONE, max(snapshot.time_s - keeper.as_of_s, 0.0)


def _forwarding(forwarder: forward.Statistics) -> Values:
    yield "forward_requests_total", _NONE, forwarder.asked
    yield "forward_pending", _NONE, forwarder.pending
    yield "forward_joined_total", _NONE, forwarder.joined
    yield "forward_gave_up_total", _NONE, forwarder.gave_up
    yield "forward_refused_total", _NONE, forwarder.refused
    yield "forward_loops_total", _NONE, forwarder.looped
    cache = forwarder.cache
    yield "cache_entries", ("reply",), cache.replies
    yield "cache_entries", ("failure",), cache.failures
    yield "cache_bytes", _NONE, cache.size_bytes
    yield "cache_hits_total", ("fresh",), cache.hits
    yield "cache_hits_total", ("stale",), cache.stale_hits
    yield "cache_hits_total", ("failure",), cache.failure_hits
    yield "cache_misses_total", _NONE, cache.misses
    yield "cache_evictions_total", _NONE, cache.evicted
    yield "cache_prefetches_total", _NONE, cache.refreshes
    yield from _healths([upstream.health for upstream in forwarder.upstreams])
    for upstream in forwarder.upstreams:
        yield from _upstream(upstream, (upstream.health.upstream,))


def _healths(healths: list[health.Statistics]) -> Values:
    """Tell how upstreams are; one that serves two zones is down where it is down for one."""
    up: dict[str, bool] = {}
    rtt_s: dict[str, float] = {}
    for each in healths:
        name = each.upstream
        up[name] = up.get(name, True) and not each.is_down
        if each.rtt_s is not None:
            rtt_s[name] = max(rtt_s.get(name, 0.0), each.rtt_s)
    for name, is_up in up.items():
        yield "upstream_up", (name,), is_up
    for name, seconds in rtt_s.items():
        yield "upstream_rtt_seconds", (name,), seconds


def _upstream(upstream: UpstreamStatistics, labels: Labels) -> Values:
    yield "upstream_requests_total", labels, upstream.health.asked
    yield "upstream_failures_total", labels, upstream.health.failed
    yield "upstream_connections", labels, upstream.stream.open
    for way in (upstream.stream, upstream.ports):
        if way is not None:
            yield "upstream_dropped_replies_total", (*labels, "late"), way.late
            yield "upstream_dropped_replies_total", (*labels, "wrong"), way.wrong
            yield "upstream_dropped_replies_total", (*labels, "refused"), way.refused


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, HistogramStatistics):
        assert isinstance(other, HistogramStatistics)
        return add_histograms([one, other])
    assert not isinstance(other, HistogramStatistics)
    return one + other


def _family(metric: Metric, of_labels: dict[Labels, Value]) -> Family:
    family = _empty_family(metric)
    for labels, value in of_labels.items():
        if isinstance(value, HistogramStatistics):
            assert isinstance(family, HistogramMetricFamily)
            family.add_metric(labels, _buckets(value), value.sum)
        elif isinstance(family, InfoMetricFamily):
            names = (label.name for label in metric.labels)
            family.add_metric((), dict(zip(names, labels, strict=True)))
        else:
            assert not isinstance(family, HistogramMetricFamily)
            family.add_metric(labels, float(value))
    return family


_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily


def _empty_family(metric: Metric) -> _Family:
    names = [label.name for label in metric.labels]
    match metric.type:
        case Type.COUNTER:
            return CounterMetricFamily(metric.full_name, metric.says, labels=names)
        case Type.GAUGE:
            return GaugeMetricFamily(metric.full_name, metric.says, labels=names)
        case Type.HISTOGRAM:
            return HistogramMetricFamily(metric.full_name, metric.says, labels=names)
        case Type.INFO:
            return InfoMetricFamily(metric.full_name.removesuffix("_info"), metric.says)


def _buckets(seen: HistogramStatistics) -> list[tuple[str, float]]:
    return list(zip(_bounds(seen.bounds), accumulate(seen.counts), strict=True))


@cache
def _bounds(bounds: tuple[float, ...]) -> list[str]:
    return [*(str(float(bound)) for bound in bounds), "+Inf"]
