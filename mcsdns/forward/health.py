"""How an upstream is doing, and which one is asked first.

An upstream that fails several times in a row is left alone and probed until it answers; when all
are down all are tried, for then nothing is lost. Round trips are smoothed as TCP does (RFC 6298).
"""

import enum
import random
from collections.abc import Sequence
from typing import Final

import msgspec

from mcsdns.forward.address import Address

_FAILURES_UNTIL_DOWN: Final = 3
_GAIN: Final = 0.125
_LEAST_TRY_S: Final = 0.2
_MOST_TRY_S: Final = 0.56
"""Three tries fit into the time of a question, so that it can be asked in three ways."""
_UNKNOWN_RTT_S: Final = 0.05
"""Assumed of an upstream that was never asked: soon it is."""
_EXPLORE_EVERY: Final = 50
_QUIET_S: Final = 0.2
"""An upstream that answered just now is up, whatever fails: a full connection, a forged reply."""
_FIRST_PROBE_S: Final = 0.5
_LONGEST_PROBE_S: Final = 10.0


ONLY: Final = [0]
"""The order of a lone upstream."""


class Policy(enum.StrEnum):
    """Which of several upstreams is asked first."""

    FASTEST = "fastest"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    ROUND_ROBIN = "round_robin"


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one upstream.

    Attributes:
        rtt_s: smoothed round trip, None before the first one.
        asked, answered, failed: tries. is_down: whether it is left alone.
    """

    upstream: str
    rtt_s: float | None
    asked: int
    answered: int
    failed: int
    is_down: bool


class Health:
    """What is known of one upstream.

    Attributes:
        address: which one it is. is_down: whether it is left alone. rtt_s: smoothed round trip.
        try_s: for how long one try may wait: three round trips, within bounds.
        probe_due_s: when to probe it, while it is down. asked: tries, counted by the forwarder.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.is_down = False
        self.rtt_s: float | None = None
        self.try_s = _LEAST_TRY_S
        self.probe_due_s = 0.0
        self._probe_pause_s = _FIRST_PROBE_S
        self._failures = 0
        self._answered_s = float("-inf")
        self.asked = self._answered = self._failed = 0

    def answer(self, rtt_s: float, now_s: float) -> bool:
        """Count an answer; returns whether the upstream was down until now."""
        self._answered += 1
        self._answered_s = now_s
        self._failures = 0
        known_s = self.rtt_s
        if known_s is not None and not self.is_down:
            rtt_s = known_s + _GAIN * (rtt_s - known_s)
        self.rtt_s = rtt_s
        self.try_s = min(max(3 * rtt_s, _LEAST_TRY_S), _MOST_TRY_S)
        was_down, self.is_down = self.is_down, False
        if was_down:
            self._probe_pause_s = _FIRST_PROBE_S
        return was_down

    def forgive(self, rtt_s: float) -> None:
        """Take a round trip as it is: what failed before it failed of something else."""
        self.rtt_s = rtt_s
        self.try_s = min(max(3 * rtt_s, _LEAST_TRY_S), _MOST_TRY_S)

    @property
    def is_suspect(self) -> bool:
        """Whether it would be down if it were sure that tries failed of it."""
        return not self.is_down and self._failures >= _FAILURES_UNTIL_DOWN

    def fail(self, now_s: float, *, is_sure: bool = True) -> bool:
        """Count a try without an answer; returns whether it is down from now on.

        What `is_sure` not to have failed of something in the try alone brings it down.
        """
        self._failed += 1
        self._failures += 1
        known_s = _UNKNOWN_RTT_S if self.rtt_s is None else self.rtt_s
        self.rtt_s = min(2 * known_s + 0.001, _MOST_TRY_S)
        self.try_s = min(max(3 * self.rtt_s, _LEAST_TRY_S), _MOST_TRY_S)
        if not is_sure or not self.is_suspect:
            return False
        if now_s < self._answered_s + _QUIET_S:
            return False
        self.is_down = True
        self.probe_due_s = now_s + self._probe_pause_s
        return True

    def probe(self, now_s: float) -> None:
        """Note that it is being probed; the next time is later."""
        self._probe_pause_s = min(2 * self._probe_pause_s, _LONGEST_PROBE_S)
        self.probe_due_s = now_s + self._probe_pause_s

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(
            self.address.text,
            self.rtt_s if self._answered else None,
            self.asked,
            self._answered,
            self._failed,
            self.is_down,
        )


class Chooser:
    """Puts upstreams in the order in which they are tried."""

    def __init__(self, policy: Policy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._turn = 0

    def order(self, healths: Sequence[Health]) -> list[int]:
        """Return the indices of upstreams, the one to ask first in front; those down come last.

        The list is not to be changed.
        """
        if len(healths) == 1:
            return ONLY
        up = [at for at, health in enumerate(healths) if not health.is_down]
        down = [at for at, health in enumerate(healths) if health.is_down]
        return self._arrange(up, healths) + down

    def _arrange(self, indices: list[int], healths: Sequence[Health]) -> list[int]:
        match self._policy:
            case Policy.SEQUENTIAL:
                return indices
            case Policy.RANDOM:
                self._rng.shuffle(indices)
                return indices
            case Policy.ROUND_ROBIN:
                self._turn += 1
                first = self._turn % len(indices) if indices else 0
                return indices[first:] + indices[:first]
            case Policy.FASTEST:
                indices.sort(key=lambda at: _rtt(healths[at]))
                return indices

    def explore(self, healths: Sequence[Health], first: int) -> int | None:
        """Return now and then an upstream that is to be measured beside the first one.

        It is asked as well, not instead: no client waits for one that may be slow.
        """
        if self._policy is not Policy.FASTEST or len(healths) == 1:
            return None
        self._turn += 1
        if self._turn % _EXPLORE_EVERY:
            return None
        others = [at for at, each in enumerate(healths) if at != first and not each.is_down]
        return self._rng.choice(others) if others else None


def _rtt(health: Health) -> float:
    """Return the round trip to compare; 0 for one that was never asked, so that it is."""
    return 0.0 if health.rtt_s is None else health.rtt_s
