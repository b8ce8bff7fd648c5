"""Counts values by size: a histogram that any room can keep, at one bisection and two additions."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import msgspec


class Statistics(msgspec.Struct, frozen=True):
    """A histogram at one moment.

    Attributes:
        bounds: upper bounds of the buckets, each inclusive; the last bucket has none.
        counts: values in each bucket alone, one more than there are bounds.
        sum: of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)


class Histogram:
    """Counts values in buckets."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Take the upper bounds of the buckets, in rising order; a further bucket is above all.

        Raises:
            ValueError: no bound, or bounds that do not rise.
        """
        if not bounds or not all(low < high for low, high in pairwise(bounds)):
            raise ValueError(f"{bounds} are no rising bounds")
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or one that was met so many times at once (a batch of one duration)."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def statistics(self) -> Statistics:
        """Return how many values each bucket has."""
        return Statistics(self._bounds, tuple(self._counts), self._sum)


def total(parts: Sequence[Statistics]) -> Statistics:
    """Add histograms of the same bounds, as those of several sockets.

    Raises:
        ValueError: there is none, or their bounds differ.
    """
    if len({part.bounds for part in parts}) != 1:
        raise ValueError("only histograms of the same bounds can be added")
    columns = zip(*(part.counts for part in parts), strict=True)
    return Statistics(parts[0].bounds, tuple(map(sum, columns)), sum(part.sum for part in parts))
