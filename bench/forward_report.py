"""The tables of what was measured of forwarding."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bench.budgets import ratio
from bench.forward_costs import QPS as LATENCY_QPS
from bench.peers import OURS
from bench.scenarios import MISS
from bench.silent import QPS as SILENT_QPS
from bench.tables import Row, median_of, number, titled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.flood import Flooded
    from bench.forward import Forward, Forwarded

DIRECT = "(upstream, directly)"
SAMPLE_HEADINGS = (
    *("scenario", "server", "q/s", "ratio", "CPU us/q", "ratio ", "q/s of a core", "ratio  "),
    *("server's core", "dnsperf", "upstream", "RSS MB", "notes"),
)
LATENCY_HEADINGS = (
    *("server", "p50 us", "p99 us", "directly: p50 us", "p99 us ", "added: p50 us", "p99 us  "),
)
MEMORY_HEADINGS = (
    "server",
    "names",
    "RSS MB before",
    "after",
    "asked twice",
    "bytes a name",
    "asked twice ",
    "notes",
)
SILENT_HEADINGS = (
    *("server", "asked", "wrong", "missing", "p50 ms", "p99 ms", "gap ms"),
    *("before: p50 ms", "p99 ms ", "load q/s", "CPU", "RSS MB", "notes"),
)


def forward_parts(forward: Forward) -> Iterator[str]:
    """Yield a part of the report for each scenario, and a line for what was not measured."""
    if forward.samples:
        title = "forward: medians; `q/s of a core` is by CPU where the server was not kept busy"
        yield titled(title, SAMPLE_HEADINGS, _sample_rows(forward))
    if forward.latency:
        title = f"forward/latency: misses at {LATENCY_QPS:,} q/s, medians"
        yield titled(title, LATENCY_HEADINGS, _latency_rows(forward))
    if forward.memory:
        title = "forward/memory: many names, medians"
        yield titled(title, MEMORY_HEADINGS, _memory_rows(forward))
    if forward.silence:
        title = f"forward/silent: the clusterset's names beside {SILENT_QPS:,} q/s unanswered"
        yield titled(title, SILENT_HEADINGS, _silent_rows(forward))
    for reason in forward.skipped:
        yield f"not measured: {reason}"


def _sample_rows(forward: Forward) -> Iterator[Row]:
    for scenario, by_peer in forward.samples.items():
        for peer, samples in by_peer.items():
            yield _sample_row(scenario, peer, samples, by_peer)
    if forward.direct:
        yield _sample_row(MISS, DIRECT, forward.direct, {})


def _sample_row(
    scenario: str, peer: str, samples: list[Forwarded], by_peer: dict[str, list[Forwarded]]
) -> Row:
    figures = ("qps", "cpu_us", "capacity_qps")
    ratios = [
        number(ratio(by_peer, peer, figure) if peer != OURS else None, 2) for figure in figures
    ]
    columns = ("server_share", "load_share", "upstream_share")
    shares = [f"{median_of(samples, name):.0%}" for name in columns]
    notes = dict.fromkeys(note for sample in samples for note in sample.notes)
    return [
        *(scenario, peer, number(median_of(samples, "qps")), ratios[0]),
        *(number(median_of(samples, "cpu_us"), 2), ratios[1]),
        *(number(median_of(samples, "capacity_qps")), ratios[2], *shares),
        *(number(median_of(samples, "rss_mb"), 1), "; ".join(notes)),
    ]


def _latency_rows(forward: Forward) -> Iterator[Row]:
    figures = ("p50_us", "p99_us", "direct_p50_us", "direct_p99_us", "added_p50_us", "added_p99_us")
    for peer, found in forward.latency.items():
        yield [peer, *(number(median_of(found, figure)) for figure in figures)]


def _memory_rows(forward: Forward) -> Iterator[Row]:
    for peer, found in forward.memory.items():
        notes = dict.fromkeys(note for one in found for note in one.notes)
        yield [
            *(peer, number(found[0].names), number(median_of(found, "before_mb"), 1)),
            *(number(median_of(found, "after_mb"), 1), number(median_of(found, "again_mb"), 1)),
            *(number(median_of(found, "name_bytes")), number(median_of(found, "hit_name_bytes"))),
            "; ".join(notes),
        ]


def _silent_rows(forward: Forward) -> Iterator[Row]:
    for peer, found in forward.silence.items():
        during, before = [one.during for one in found], [one.before for one in found]
        flooded = [one.flooded for one in found]
        load_qps = median_of(flooded, "qps")
        yield [
            *(peer, number(sum(one.asked for one in during))),
            *(number(sum(one.wrong for one in during)), number(sum(one.missing for one in during))),
            *(number(median_of(during, "p50_ms"), 2), number(median_of(during, "p99_ms"), 2)),
            number(max(one.gap_ms for one in during), 1),
            *(number(median_of(before, "p50_ms"), 2), number(median_of(before, "p99_ms"), 2)),
            *(number(load_qps), f"{median_of(found, 'server_share'):.0%}"),
            *(number(median_of(found, "rss_mb"), 1), _fate(flooded)),
        ]


def _fate(flooded: list[Flooded]) -> str:
    """Say what became of the load itself."""
    rcodes = sum((Counter(one.rcodes) for one in flooded), Counter[str]())
    counts = [f"{rcode} {count:,}" for rcode, count in rcodes.items()]
    unanswered = sum(one.unanswered for one in flooded)
    return f"the load: {', '.join(counts)}, unanswered {unanswered:,}"
