"""What mcsdns promises to itself with an API server, and whether a run showed it."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec

from bench.budgets import Verdict, ratio
from bench.peers import COREDNS, OURS
from bench.writes import JUDGED, pooled

if TYPE_CHECKING:
    from bench.api import Api
    from bench.writes import Writes


class Bound(msgspec.Struct, frozen=True):
    """The most that a figure may be; `aim` where there is one."""

    what: str
    unit: str
    must: float
    aim: float | None = None


SYNC = {
    "cpu_s": Bound("CPU seconds against coredns", "x", 0.5, 0.25),
    "asked_rss_mb": Bound(
        "resident memory, everything asked once, against coredns", "x", 0.6, 0.35
    ),
}
WRITE = {
    "p50": Bound("write to answer, p50, against coredns", "x", 1.0, 0.5),
    "p99": Bound("write to answer, p99, against coredns", "x", 1.0, 0.5),
}
GAP = Bound("longest gap in answers", "ms", 20.0, 5.0)
FAILURES = Bound("wrong or missing answers", "", 0.0)
SNAPSHOT = Bound("start to first answer with the API server away", "s", 1.0)
ORDINARY = Bound("resident memory against that with the exported services alone", "x", 1.03)


def judge_api(api: Api) -> list[Verdict]:
    """Return a verdict for every budget that was measured."""
    verdicts = [
        _judge("api/sync", bound, ratio(api.sync, COREDNS, figure))
        for figure, bound in SYNC.items()
        if api.sync
    ]
    verdicts += [
        _judge(
            f"api/write, {'under load' if loaded else 'idle'}",
            bound,
            _write_ratio(api, loaded, name),
        )
        for loaded in (False, True)
        for name, bound in WRITE.items()
        if api.writes
    ]
    if relists := api.relist.get(OURS):
        gap_ms = statistics.median(one.gap_ms for one in relists)
        verdicts.append(_judge("api/relist", GAP, gap_ms))
        verdicts.append(_judge("api/relist", FAILURES, sum(one.failures for one in relists)))
    if api.snapshot:
        verdicts.append(_judge("api/snapshot", SNAPSHOT, api.snapshot.median_s))
    if api.ordinary:
        memory = api.ordinary.memory[OURS]
        growth = statistics.median(one.among_rss_mb / one.alone_rss_mb for one in memory)
        verdicts.append(_judge("api/ordinary", ORDINARY, growth))
    return verdicts


def _judge(scenario: str, bound: Bound, measured: float | None) -> Verdict:
    return Verdict(
        f"{scenario}: {bound.what}", bound.unit, measured, bound.must, bound.aim, at_most=True
    )


def _write_ratio(api: Api, loaded: bool, percentile: str) -> float | None:
    ours, theirs = (
        _percentile(api.writes.get(peer), loaded, percentile) for peer in (OURS, COREDNS)
    )
    return ours / theirs if ours and theirs else None


def _percentile(writes: list[Writes] | None, loaded: bool, name: str) -> float | None:
    found = pooled(writes or [], JUDGED, loaded=loaded)
    return getattr(found, f"{name}_ms") if found else None
