"""What mcsdns promises to itself as a forwarder, and whether a run showed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.budgets import Verdict, ratio
from bench.forward_peers import DNSDIST
from bench.peers import COREDNS, OURS
from bench.scenarios import HIT, HIT_FEW, MISS, SILENT

if TYPE_CHECKING:
    from bench.forward import Forward

CAPACITY = {
    (HIT, COREDNS): (2.2, 4.0),
    (HIT, DNSDIST): (0.5, 0.9),
    (HIT_FEW, COREDNS): (2.2, 4.0),
    (HIT_FEW, DNSDIST): (0.5, 0.9),
    (MISS, COREDNS): (1.4, 2.5),
    (MISS, DNSDIST): (0.4, 0.7),
}


def judge_forward(forward: Forward) -> list[Verdict]:
    """Return a verdict for every budget that was measured."""
    verdicts = [
        Verdict(
            f"{scenario}: q/s of a core against {peer}",
            "x",
            ratio(forward.samples[scenario], peer, "capacity_qps"),
            *bounds,
            at_most=False,
        )
        for (scenario, peer), bounds in CAPACITY.items()
        if scenario in forward.samples
    ]
    if silences := forward.silence.get(OURS):
        failures = sum(one.failures for one in silences)
        what = f"{SILENT}: wrong or missing answers of the clusterset"
        verdicts.append(Verdict(what, "", failures, 0.0, None, at_most=True))
    return verdicts
