"""When a snapshot is written: soon after a change, now and then without one, never before the sync.

The clock and the waiting are given, so that tests move them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import msgspec

from mcsdns.errors import SourceError
from mcsdns.objects.model import Object
from mcsdns.sources import snapshot
from mcsdns.sources.snapshot import SnapshotIdentity

logger = logging.getLogger(__name__)


_UNSYNCED_S: Final = 0.5
"""How often to look whether there is something to write at all."""


class Known(msgspec.Struct, frozen=True):
    """What a synced source knows of the state of its objects; see `Snapshot`.

    Attributes:
        is_fresh: whether `as_of_s` is now, or nearly.
    """

    as_of_s: float
    api_version: str
    is_fresh: bool


Wait = Callable[[anyio.Event, float], Awaitable[None]]
"""Wait for an event, but not longer than so many seconds."""


async def wait_for(event: anyio.Event, seconds: float) -> None:
    """Wait for an event, but not longer than so many seconds."""
    with anyio.move_on_after(seconds):
        await event.wait()


class SnapshotWriterSettings(msgspec.Struct, frozen=True):
    """When a snapshot is written.

    Attributes:
        interval_s: not more often than this.
        refresh_s: without any change, as long as the source is fresh.
        retry_s: so long after a failure.
    """

    interval_s: float = 5.0
    refresh_s: float = 600.0
    retry_s: float = 60.0


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of the counters.

    Attributes:
        as_of_s: of the last file written, None before it.
        problem: why the last attempt failed, or empty.
    """

    writes: int
    failures: int
    as_of_s: float | None
    problem: str


class SnapshotWriter:
    """Keeps a snapshot on disk up to date."""

    def __init__(
        self,
        path: str,
        identity: SnapshotIdentity,
        known: Callable[[], Known | None],
        objects: Callable[[], Sequence[Object]],
        settings: SnapshotWriterSettings,
        clock: Callable[[], float],
        wait: Wait = wait_for,
    ) -> None:
        """Name the file and who tells what is in it.

        `known` is None while the world is not synced; `objects` returns a sequence of its own.
        """
        self._path = path
        self._identity = identity
        self._known = known
        self._objects = objects
        self._settings = settings
        self._clock = clock
        self._wait = wait
        self._wake = anyio.Event()
        self._changed = True
        self._looked_s = self._written_s = float("-inf")
        self._writes = self._failures = 0
        self._as_of_s: float | None = None
        self._problem = ""

    def note_change(self) -> None:
        """Tell that an object changed; to be called as often as that happens."""
        if not self._changed:
            self._changed = True
            self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            delay_s = self._due_s - self._clock()
            if delay_s <= 0:
                await self._look()
                continue
            if not self._changed:
                self._wake = anyio.Event()
            # With a change, the event is an old one that nobody sets: the interval is to pass.
            await self._wait(anyio.Event() if self._changed else self._wake, delay_s)

    async def flush(self) -> None:
        """Write what changed since the last time, as at the end."""
        known = self._known()
        if known is not None and self._changed:
            await self._write(known)

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(self._writes, self._failures, self._as_of_s, self._problem)

    @property
    def _due_s(self) -> float:
        """When to look next: a failure asks for patience, a change for haste."""
        settings = self._settings
        earliest_s = self._looked_s + (settings.retry_s if self._problem else settings.interval_s)
        if self._changed:
            return earliest_s
        return max(earliest_s, self._written_s + settings.refresh_s)

    async def _look(self) -> None:
        self._looked_s = self._clock()
        known = self._known()
        if known is None:  # so that the first file does not wait for a whole interval
            self._looked_s -= self._settings.interval_s - _UNSYNCED_S
        elif self._changed or known.is_fresh:
            await self._write(known)

    async def _write(self, known: Known) -> None:
        self._changed = False
        try:
            await snapshot.write(
                self._path, self._identity, known.as_of_s, known.api_version, self._objects()
            )
        except asyncio.CancelledError:
            self._changed = True  # for `flush`
            raise
        except SourceError as error:
            self._note_failure(str(error))
            return
        if self._problem:
            logger.info("snapshot %s: written again", self._path)
        self._problem = ""
        self._writes += 1
        self._written_s, self._as_of_s = self._clock(), known.as_of_s

    def _note_failure(self, why: str) -> None:
        self._changed = True
        self._failures += 1
        if why != self._problem:
            self._problem = why
            logger.warning("%s", why)
