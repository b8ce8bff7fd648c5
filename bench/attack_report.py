"""The table of the attacks, and whether each was held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.attacks import memory_limit_mb
from bench.budgets import Verdict
from bench.peers import OURS
from bench.tables import Row, median_of, number, titled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.attacks import Attacked

HEADINGS = (
    *("scenario", "server", "MB", "of the kernel", "lost", "asked"),
    *("normal: p99 ms", "p99 ms", "times", "turn ms", "CPU ms", "normal", "/healthz"),
    *("CPU", "sent", "log lines"),
)
TIMES_P99, TURN_MS = 5.0, 5.0


def attack_parts(attacks: dict[str, dict[str, list[Attacked]]]) -> Iterator[str]:
    """Yield a table, if there is anything in it."""
    if attacks:
        title = f"attacks: medians; memory against {memory_limit_mb()} MB, the limit in deploy/"
        yield titled(title, HEADINGS, _rows(attacks))


def judge_attacks(attacks: dict[str, dict[str, list[Attacked]]]) -> Iterator[Verdict]:
    """Yield a verdict on each attack that was measured."""
    for name, by_peer in attacks.items():
        if found := by_peer.get(OURS):
            p99, turn = median_of(found, "times_p99"), median_of(found, "turn_ms")
            limit, most = memory_limit_mb(), max(one.memory_mb for one in found)
            lost = sum(one.lost for one in found)
            health = min(one.health for one in found)
            yield Verdict(f"{name}: memory", "MB", most, limit, None, at_most=True)
            yield Verdict(f"{name}: lost or wrong", "", lost, 0.0, None, at_most=True)
            yield Verdict(f"{name}: p99 to normal", "x", p99, TIMES_P99, None, at_most=True)
            yield Verdict(f"{name}: longest turn", "ms", turn, TURN_MS, None, at_most=True)
            yield Verdict(f"{name}: /healthz", "", health, 1.0, None, at_most=False)


def _rows(attacks: dict[str, dict[str, list[Attacked]]]) -> Iterator[Row]:
    for name, by_peer in attacks.items():
        for peer, found in by_peer.items():
            yield [
                *(name, peer, number(max(one.memory_mb for one in found))),
                number(max(one.kernel_mb for one in found)),
                number(sum(one.lost for one in found)),
                number(sum(one.attacked.asked for one in found)),
                number(median_of([one.normal for one in found], "p99_ms"), 2),
                number(median_of([one.attacked for one in found], "p99_ms"), 2),
                number(median_of(found, "times_p99"), 1),
                number(median_of(found, "turn_ms"), 1),
                number(median_of(found, "turn_cpu_ms"), 1),
                number(median_of(found, "normal_turn_ms"), 1),
                f"{min(one.health for one in found):.0%}",
                f"{median_of(found, 'server_share'):.0%}",
                number(median_of(found, "sent")),
                number(median_of(found, "log_lines")),
            ]
