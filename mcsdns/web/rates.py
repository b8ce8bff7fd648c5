"""Answers per second of the last minutes, for the plot: the counters are sampled each second."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import msgspec
from aiohttp import web

from mcsdns.metrics.snapshot import Snapshot
from mcsdns.stats import ReplyCount
from mcsdns.web.status import Operator

SECONDS: Final = 300
_EVERY_S: Final = 1.0
_KINDS_OVER: Final = 10
"""Seconds over which the rates by kind are averaged."""


class Rates(msgspec.Struct, frozen=True):
    """How many answers a second.

    Attributes:
        every_s: time between two of `answers`. most: how many of these there can be.
        until_s: Unix time of the last one.
        answers: per second, oldest first; fewer than `most` in the first minutes.
        kinds: the same of the last seconds, by kind of reply (mcsdns/stats.py), most first.
    """

    every_s: float
    most: int
    until_s: float
    answers: tuple[float, ...]
    kinds: dict[str, float]

    @property
    def now(self) -> float:
        """The latest one."""
        return self.answers[-1] if self.answers else 0.0

    @property
    def peak(self) -> float:
        """The highest one."""
        return max(self.answers, default=0.0)


class Ring:
    """The last samples."""

    def __init__(self, size: int = SECONDS) -> None:
        self._answers: deque[float] = deque(maxlen=size)
        self._totals: deque[tuple[float, Counter[str]]] = deque(maxlen=_KINDS_OVER + 1)
        self._size = size
        self._until_s = 0.0

    def add(self, counts: Iterable[ReplyCount], now_s: float, wall_s: float) -> None:
        """Add a sample of the counters, taken at `now_s` (monotonic) and `wall_s` (Unix time)."""
        totals: Counter[str] = Counter()
        for each in counts:
            totals[each.kind.value] += each.number
        if self._totals:
            before_s, before = self._totals[-1]
            gained = totals.total() - before.total()  # negative where the counters began anew
            self._answers.append(max(0.0, gained / max(now_s - before_s, 1e-3)))
        self._totals.append((now_s, totals))
        self._until_s = wall_s

    def rates(self) -> Rates:
        """Return the rates that the samples give."""
        return Rates(_EVERY_S, self._size, self._until_s, tuple(self._answers), self._by_kind())

    def _by_kind(self) -> dict[str, float]:
        if not self._totals:
            return {}
        (first_s, first), (last_s, last) = self._totals[0], self._totals[-1]
        elapsed_s = max(last_s - first_s, 1e-3)
        return {
            kind: max(0.0, (number - first[kind]) / elapsed_s)
            for kind, number in last.most_common()
            if number
        }


class Sampler:
    """Samples a server's counters once a second while the web application runs.

    Attributes:
        ring: the samples.
    """

    def __init__(self, operator: Operator, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the server; the first sample is taken on demand, or once the application runs."""
        self.ring = Ring()
        self._operator = operator
        self._clock = clock
        self._latest: Snapshot | None = None

    @property
    def latest(self) -> Snapshot:
        """The statistics at the last sample."""
        return self._latest or self.sample()

    def sample(self) -> Snapshot:
        """Take a sample."""
        self._latest = self._operator.snapshot()
        self.ring.add(self._latest.all_replies(), self._clock(), time.time())
        return self._latest

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Sample for as long as the application runs (a `cleanup_ctx`)."""
        task = asyncio.create_task(self._run(), name="samples for the status page")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            self.sample()
            due_s = max(due_s + _EVERY_S, loop.time())
            await asyncio.sleep(due_s - loop.time())
