"""What requests over HTTP may take of the event loop, which answers DNS queries meanwhile.

Work that can be cut is done in a `page_timeslice`. Work that cannot stands behind a `Gate`.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from mcsdns.sources.timeslice import Timeslice
from mcsdns.web.params import RequestError

_SLICE_S: Final = 0.001
_PAUSE_S: Final = 0.002
"""Twice the slice, so that queries have two thirds of the processor whatever a page costs."""


def page_timeslice() -> Timeslice:
    """Begin work that is cut into short slices with pauses between them."""
    return Timeslice(_SLICE_S, pause_s=_PAUSE_S)


class BusyError(RequestError):
    """Too many requests wait for the same costly thing; says when to come again."""

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"too many requests wait for this; ask again in {retry_s} s")
        self.status = 429
        self.headers = {"Retry-After": str(retry_s)}


class Gate:
    """Lets in one at a time, and after each stays shut in proportion to what it cost.

    Work that took `c` seconds shuts the gate for `c * (1 / share - 1)` seconds, so however often
    it is requested, it takes no more than its share of the loop's time. A request waits for the
    gate, behind those that came before; one that would have too many before it is refused at once
    with a BusyError, so what waits is bounded too.
    """

    def __init__(
        self,
        share: float = 1.0,
        least_pause_s: float = 0.0,
        most_waiting: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the share of the time, 0 to 1, and how many may wait."""
        self._share = share
        self._least_pause_s = least_pause_s
        self._most_waiting = most_waiting
        self._clock = clock
        self._lock = asyncio.Lock()
        self._inside = 0
        self._opens_s = 0.0
        self._pause_s = least_pause_s

    @contextlib.asynccontextmanager
    async def passed(self) -> AsyncGenerator[None, None]:
        """Wait for the gate, and hold it.

        Raises:
            BusyError: too many wait already.
        """
        if self._inside > self._most_waiting:
            raise BusyError(math.ceil(1 + self._inside * self._pause_s))
        self._inside += 1
        try:
            async with self._lock:
                await asyncio.sleep(max(0.0, self._opens_s - self._clock()))
                begin_s = self._clock()
                try:
                    yield
                finally:
                    self._shut(self._clock() - begin_s)
        finally:
            self._inside -= 1

    def _shut(self, cost_s: float) -> None:
        self._pause_s = max(self._least_pause_s, cost_s * (1 / self._share - 1))
        self._opens_s = self._clock() + self._pause_s
