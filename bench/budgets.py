"""What mcsdns promises to itself, and whether a run showed it."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import msgspec

from bench.peers import COREDNS, KNOT, OURS, UNCOUNTED
from bench.runner import SATURATED
from bench.scenarios import ANY_SHAPE, API, FILES, NAME_KINDS, SCENARIOS, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.flat import Flat
    from bench.runner import Sample
    from bench.scenarios import Scenario
    from bench.startup import Start

Samples = dict[str, dict[str, list["Sample"]]]


class Budget(msgspec.Struct, frozen=True):
    """A bound on a ratio to a peer, for each scenario of some kinds of names over one transport."""

    kinds: tuple[str, ...]
    transport: str
    peer: str
    figure: str
    must: float
    aim: float
    at_most: bool = False
    source: str = FILES


class Verdict(msgspec.Struct, frozen=True):
    """A bound and what was measured; `measured` is None when a run could not tell.

    `by_cpu` is set where the load generator was the limit: the ratio that equal CPU would give.
    """

    what: str
    unit: str
    measured: float | None
    must: float
    aim: float | None
    at_most: bool
    by_cpu: float | None = None

    @property
    def word(self) -> str:
        """PASS, MISS, or a dash."""
        if self.measured is None:
            return "-"
        best = max(self.measured, self.by_cpu or 0.0)
        kept = self.measured <= self.must if self.at_most else best >= self.must
        return "PASS" if kept else "MISS"


ALONE = tuple(kind for kind in NAME_KINDS if kind != "mix")
BUDGETS = (
    Budget(("mix",), "udp", COREDNS, "qps", 8.0, 12.0),
    Budget(ALONE, "udp", COREDNS, "qps", 5.0, 10.0),
    Budget(NAME_KINDS, "tcp", COREDNS, "qps", 3.0, 5.0),
    Budget(("cold",), "udp", COREDNS, "qps", 3.0, 5.0),
    Budget(("clusterip",), "udp", KNOT, "cpu_us", 1.7, 1.2, at_most=True),
    Budget(("mix", "clusterip"), "udp", UNCOUNTED, "cpu_us", 1.03, 1.01, at_most=True),
    Budget(("mix",), "udp", COREDNS, "qps", 8.0, 12.0, source=API),
    Budget(ALONE, "udp", COREDNS, "qps", 5.0, 10.0, source=API),
)
FIGURES = {"qps": "q/s", "cpu_us": "CPU per query"}
UNKNOWN_RATE = 0.5
START_S = (1.0, 0.4)


def ratio(samples: Mapping[str, Sequence[Any]], peer: str, figure: str) -> float | None:
    """Return the median of the rounds' ratios of mcsdns to a peer, None when one is missing.

    A sample has a `round` and the figure.
    """
    theirs = {sample.round: getattr(sample, figure) for sample in samples.get(peer, [])}
    ratios = [
        getattr(sample, figure) / theirs[sample.round]
        for sample in samples.get(OURS, [])
        if theirs.get(sample.round)
    ]
    return statistics.median(ratios) if ratios else None


def judge(samples: Samples, flat: dict[str, Flat], start: Start | None) -> list[Verdict]:
    """Return a verdict for every budget that the chosen scenarios touch."""
    verdicts = [
        _judge_ratio(budget, scenario, by_peer)
        for budget in BUDGETS
        for scenario, by_peer in samples.items()
        if _concerns(budget, SCENARIOS[scenario])
    ]
    for kind, check in flat.items():
        verdicts += _judge_flat(kind, check)
    if start:
        must, aim = START_S
        what = f"start to first answer, {start.manifests} manifests"
        verdicts.append(
            Verdict(what, "s", start.medians["first_answer_s"], must, aim, at_most=True)
        )
    return verdicts


def _concerns(budget: Budget, scenario: Scenario) -> bool:
    return (
        scenario.kind in budget.kinds
        and scenario.transport == budget.transport
        and scenario.source == budget.source
    )


def _judge_ratio(budget: Budget, scenario: str, by_peer: dict[str, list[Sample]]) -> Verdict:
    return Verdict(
        what=f"{scenario}: {FIGURES[budget.figure]} against {budget.peer}",
        unit="x",
        measured=ratio(by_peer, budget.peer, budget.figure),
        must=budget.must,
        aim=budget.aim,
        at_most=budget.at_most,
        by_cpu=_ratio_by_cpu(by_peer, budget) if budget.figure == "qps" else None,
    )


def _ratio_by_cpu(by_peer: dict[str, list[Sample]], budget: Budget) -> float | None:
    """Return the ratio of what a core could answer, where the load generator could not ask it."""
    ours = by_peer.get(OURS, [])
    dearer = ratio(by_peer, budget.peer, "cpu_us")
    saturated = ours and all(SATURATED in sample.notes for sample in ours)
    return 1 / dearer if dearer and saturated else None


def _judge_flat(kind: str, check: Flat) -> list[Verdict]:
    whats = {
        UNKNOWN: f"{check.asked:,} different unknown names",
        ANY_SHAPE: f"{check.asked:,} random cookies and EDNS sizes",
    }
    growth = Verdict(
        f"{whats[kind]}: memory growth",
        "MB",
        check.growth_mb,
        check.tolerated_mb,
        None,
        at_most=True,
    )
    if kind != UNKNOWN:
        return [growth]
    measured = statistics.median(check.rate_ratios)
    what = f"{whats[kind]}: q/s against the mix"
    return [Verdict(what, "x", measured, UNKNOWN_RATE, None, at_most=False), growth]
