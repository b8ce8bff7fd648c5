"""The tables of what was measured with an API server."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.budgets import ratio
from bench.peers import OURS
from bench.tables import Row, median_of, number, titled
from bench.writes import INTERVAL_S, JUDGED, KINDS, pooled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.api import Api
    from bench.ordinary import Ordinary
    from bench.snapshot import Snapshot

SYNC_FIGURES = {
    "seconds": ("s", 2),
    "cpu_s": ("CPU s", 2),
    "rss_mb": ("RSS MB", 1),
    "pss_mb": ("PSS MB", 1),
    "asked_rss_mb": ("RSS MB, all asked", 1),
    "asked_pss_mb": ("PSS MB, all asked", 1),
}
WRITE_HEADINGS = (
    *("load", "write", "server", "writes", "p50 ms", "p99 ms", "since sent p50 ms", "p99 ms "),
)
RELIST_HEADINGS = (
    *("server", "s", "CPU s", "gap ms", "worst ms", "p99.9 ms", "wrong", "missing", "asked"),
    *("before: gap ms", "p99.9 ms ", "probe's gap ms", "waited for its core s"),
)
ORDINARY_HEADINGS = ("server", "RSS MB", "PSS MB", "among others: RSS MB", "PSS MB ", "ratio")


def api_parts(api: Api) -> Iterator[str]:
    """Yield a part of the report for each scenario, and a line for what was not measured."""
    if api.sync:
        headings = ("server", *(heading for heading, _ in SYNC_FIGURES.values()))
        yield titled("api/sync: medians, then mcsdns to that server", headings, _sync_rows(api))
    if api.writes:
        title = f"api/write: from the acknowledgement; at least {INTERVAL_S * 1e3:g} ms"
        yield titled(title, WRITE_HEADINGS, _write_rows(api))
    if api.relist:
        yield titled("api/relist: medians", RELIST_HEADINGS, _relist_rows(api))
    if api.snapshot:
        yield _snapshot_text(api.snapshot)
    if api.ordinary:
        yield _ordinary_text(api.ordinary)
    for reason in api.skipped:
        yield f"not measured: {reason}"


def _sync_rows(api: Api) -> Iterator[Row]:
    for peer, samples in api.sync.items():
        figures = [
            number(median_of(samples, name), digits) for name, (_, digits) in SYNC_FIGURES.items()
        ]
        yield [peer, *figures]
        if peer != OURS:
            ratios = [number(ratio(api.sync, peer, name), 2) for name in SYNC_FIGURES]
            yield ["  ratio", *ratios]


def _write_rows(api: Api) -> Iterator[Row]:
    for loaded in (False, True):
        for kind, kinds in (*((kind, (kind,)) for kind in KINDS), ("all but deletes", JUDGED)):
            for peer, writes in api.writes.items():
                found = pooled(writes, kinds, loaded=loaded)
                if found:
                    figures = (found.p50_ms, found.p99_ms, found.sent_p50_ms, found.sent_p99_ms)
                    texts = [number(figure, 2) for figure in figures]
                    load = "the mix" if loaded else "idle"
                    yield [load, kind, peer, number(found.writes), *texts]


def _relist_rows(api: Api) -> Iterator[Row]:
    for peer, found in api.relist.items():
        during, before = [one.during for one in found], [one.before for one in found]
        yield [
            *(peer, number(median_of(found, "seconds"), 1), number(median_of(found, "cpu_s"), 2)),
            *(number(median_of(during, "gap_ms"), 1), number(max(one.gap_ms for one in found), 1)),
            *(number(median_of(during, "p999_ms"), 1), number(sum(one.wrong for one in during))),
            *(number(sum(one.missing for one in during)), number(sum(one.asked for one in during))),
            *(number(median_of(before, "gap_ms"), 1), number(median_of(before, "p999_ms"), 1)),
            *(
                number(median_of(during, "sender_gap_ms"), 1),
                number(median_of(found, "core_wait_s"), 2),
            ),
        ]


def _snapshot_text(snapshot: Snapshot) -> str:
    starts = len(snapshot.seconds)
    cpu_s = statistics.median(snapshot.cpu_s)
    return (
        f"api/snapshot: medians of {starts} starts with a snapshot of {snapshot.file_mb:.1f} MB\n"
        f"  {snapshot.median_s:.3f} s to the first right answers, {cpu_s:.2f} s of CPU"
    )


def _ordinary_text(ordinary: Ordinary) -> str:
    title = (
        f"api/ordinary: {ordinary.exported} exported services, "
        f"alone and among {ordinary.endpoints:,} endpoints that are not; medians"
    )
    rows = (
        [
            *(peer, number(median_of(memory, "alone_rss_mb"), 1)),
            number(median_of(memory, "alone_pss_mb"), 1),
            number(median_of(memory, "among_rss_mb"), 1),
            number(median_of(memory, "among_pss_mb"), 1),
            number(median_of(memory, "among_rss_mb") / median_of(memory, "alone_rss_mb"), 2),
        ]
        for peer, memory in ordinary.memory.items()
    )
    return titled(title, ORDINARY_HEADINGS, rows)
