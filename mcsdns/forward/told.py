"""What became of questions that had to wait: replies by class, and how long they took."""

from typing import Final

from mcsdns.forward.pending import Waiter
from mcsdns.stats import (
    TRANSPORTS,
    Histogram,
    HistogramStatistics,
    ReplyCount,
    ReplyCounters,
    ReplyKind,
)

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Upper bounds: from a neighbour in the same node to the longest that a question waits."""


class WaitStatistics:
    """Counts what was told later than it was asked for."""

    def __init__(self) -> None:
        self._tallies = tuple(map(ReplyCounters, TRANSPORTS))
        self._seconds = tuple(Histogram(SECONDS) for _ in TRANSPORTS)

    def note(self, waiter: Waiter, rcode: int, kind: ReplyKind, now_s: float) -> None:
        """Count one reply."""
        self._tallies[waiter.tcp].add(None, waiter.query.qtype, rcode, kind)
        self._seconds[waiter.tcp].observe(now_s - waiter.asked_s)

    def counts(self) -> list[ReplyCount]:
        """Return the replies by class."""
        return [count for tally in self._tallies for count in tally.counts()]

    def seconds(self) -> dict[str, HistogramStatistics]:
        """Return by transport how long they took."""
        return {
            transport: each.statistics()
            for transport, each in zip(TRANSPORTS, self._seconds, strict=True)
        }
