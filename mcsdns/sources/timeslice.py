"""Shares the event loop by time: long work is cut into slices, and queries are answered in between.

All rooms share one thread, so work that takes 20 ms in one go delays every query by 20 ms. Work
that may be long holds a `Timeslice` and, after each of its small steps, lets the loop run if the
slice is over. The check costs a call of the clock, so a step may be as small as one object.

Sources apply lists by it, `server.zone_state` publishes by it, and `web` renders pages by it.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

SLICE_S: Final = 0.002


class Timeslice:
    """How long one piece of work may hold the loop before others have their turn."""

    __slots__ = ("_clock", "_ends_s", "_length_s", "_pause_s")

    def __init__(
        self,
        length_s: float = SLICE_S,
        *,
        pause_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin the first slice now.

        `pause_s` is how long the loop is left alone between two slices; with 0 it runs once what
        is ready.
        """
        self._length_s = length_s
        self._pause_s = pause_s
        self._clock = clock
        self._ends_s = clock() + length_s

    @property
    def is_over(self) -> bool:
        """Whether the work has held the loop for long enough."""
        return self._clock() > self._ends_s

    async def checkpoint(self) -> None:
        """Let the loop run if the slice is over; the next slice begins after that."""
        if self.is_over:
            await asyncio.sleep(self._pause_s)
            self._ends_s = self._clock() + self._length_s
