"""Snapshots for tests: of a server that has just started, and one in which nothing is absent."""

from typing import Any

import msgspec

from mcsdns import stats
from mcsdns.dns import name as names
from mcsdns.forward import cache, health, pending, stream_pool, udp_pool
from mcsdns.forward import forwarder as forward
from mcsdns.metrics.catalog import HTTP_CLOSED
from mcsdns.metrics.collector import encoder_for, exposition
from mcsdns.metrics.snapshot import HttpStatistics, Reloads, Snapshot
from mcsdns.objects import store
from mcsdns.objects.model import Kind
from mcsdns.server import accept, forward_handler, handler, packet_cache, tcp, udp, zone_state
from mcsdns.sources import deletion_guard, snapshot
from mcsdns.sources.kubernetes import source as kubernetes
from mcsdns.sources.kubernetes import watcher
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.sources.manifests import state
from mcsdns.stats import Histogram, HistogramStatistics

ZONE = "clusterset.local."
APEX = names.from_text(ZONE)
UPSTREAMS = ("10.0.0.10:53", "tls://[fd00::1]:853#dns.example")


def bare(**fields: Any) -> Snapshot:
    """A server of which nothing is known but that it runs."""
    nothing = Snapshot(
        ready=False, stale=False, udp=[], tcp=[], replies=[], store=store.Statistics(0, 0, 0)
    )
    return msgspec.structs.replace(nothing, **fields)


def full(**fields: Any) -> Snapshot:
    """A server with every room, each of which has seen something."""
    counters = [stats.ReplyCounters("udp"), stats.ReplyCounters("tcp")]
    for each in counters:
        for kind in stats.ReplyKind:
            each.by_class[each.response_class(APEX, 1, 0, kind)[0]] += 3
    everything = Snapshot(
        ready=True,
        stale=True,
        time_s=1000.0,
        udp=[
            udp.Statistics(1, 2, 3, 4, seen(0.001, 0.2)),
            udp.Statistics(10, 20, 30, 40, seen(0.02)),
        ],
        tcp=[tcp.Statistics(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, seen(9))],
        replies=[count for each in counters for count in each.counts()],
        store=store.Statistics(3, 4, 50, 45, {"eu": 2, "us": 1, "": 1}),
        handlers={name: handler.Statistics(1, 2, 3, 4, 5) for name in ("udp", "tcp")},
        packet_caches={name: packet_cache.Statistics(1, 2, 3) for name in ("udp", "tcp")},
        forward_handlers={name: forward_handler.Statistics(1, 2) for name in ("udp", "tcp")},
        update_queue=zone_state.Statistics(1, seen(0.5), 2, 3),
        manifests=state.Statistics(1, 2, 3, 4, 5, 1, {"duplicate": 4}),
        kubernetes=api_server(*(watch(kind) for kind in Kind)),
        forwarder=forwarder(*(upstream(name) for name in UPSTREAMS)),
        reloads=Reloads(2, 1, is_applied=False),
        limited=stats.LimitedReplies(5, 6),
        http=HttpStatistics(3, dict.fromkeys(HTTP_CLOSED, 1), [accept.Statistics(4, 2, 1)]),
    )
    return msgspec.structs.replace(everything, **fields)


def api_server(*watches: watcher.Statistics) -> kubernetes.Statistics:
    """An API server whose guard holds five services, and a snapshot of it."""
    return kubernetes.Statistics(
        watches,
        deletion_guard.Statistics(5, 1, 7.0, 1, "most are gone"),
        snapshot.Statistics(7, 1, 990.0, "no room"),
    )


def watch(kind: Kind, **fields: Any) -> watcher.Statistics:
    """A follower that has listed, watched and failed once."""
    some = watcher.Statistics(
        *(kind, "", True, True, 2, 3, 40, 5, 1, {Trouble.EXPIRED: 1}, 2),
        heard_age_s=12.5,
        skipped={"bad_port": 1},
    )
    return msgspec.structs.replace(some, **fields)


def upstream(
    name: str, *, rtt_s: float | None = 0.01, is_down: bool = False
) -> pending.UpstreamStatistics:
    """An upstream that was asked seven times."""
    return pending.UpstreamStatistics(
        health.Statistics(name, rtt_s, 7, 6, 1, is_down),
        5,
        stream_pool.Statistics(1, 1, 2, 3, 4, 0, 0, 1, 1),
        udp_pool.Statistics(1, 1, 2, 3, 4, 0, 0, 1),
    )


def forwarder(*upstreams: pending.UpstreamStatistics) -> forward.Statistics:
    """A forwarder with these upstreams."""
    kept = cache.Statistics(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    waited = stats.ReplyCounters("udp")
    waited.add(None, 1, 0, stats.ReplyKind.FORWARDED)
    replies, seconds = list(waited.counts()), {"udp": seen(0.02), "tcp": seen()}
    return forward.Statistics(
        1, 2, 3, 4, 5, 6, 8, 7, 9, 10, kept, list(upstreams), replies, seconds
    )


def seen(*seconds: float) -> HistogramStatistics:
    """A histogram of these values."""
    histogram = Histogram((0.001, 0.01, 0.1, 1.0))
    for each in seconds:
        histogram.observe(each)
    return histogram.statistics()


def render(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The body of a scrape, and its content type."""
    encode, content_type = encoder_for(accept)
    return b"".join(exposition(snapshot, encode)), content_type
