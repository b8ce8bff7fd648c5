"""Delays between attempts, with jitter from a given random source; no clock."""

import random


class Backoff:
    """Delays that double, each between half of itself and the whole."""

    def __init__(self, rng: random.Random, first_s: float, most_s: float) -> None:
        """Begin at `first_s` and stay at `most_s`, in seconds."""
        self._rng = rng
        self._first_s = self._delay_s = first_s
        self._most_s = most_s

    def next_s(self) -> float:
        """Return the seconds to wait before the next attempt."""
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, self._most_s)
        return delay_s * self._rng.uniform(0.5, 1)

    def reset(self) -> None:
        """Begin anew: it went well for a while."""
        self._delay_s = self._first_s
