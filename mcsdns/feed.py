"""Takes events from a source and publishes them in short turns of the event loop."""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

import anyio

from mcsdns.index.events import Event, InitDone
from mcsdns.server.kept import Kept
from mcsdns.world import World
from mcsdns.zone.question import APEX_OWNER
from mcsdns.zone.tree import NOT_READ, Readiness

logger = logging.getLogger(__name__)

_SLICE_S: Final = 0.002
"""Longest turn of the loop that publishing takes."""
_FIRST_SLICE_S: Final = 0.02
"""The same while there is nothing to answer from yet."""


class Feed:
    """Takes events from sources, publishes them in short turns, and forgets what changed."""

    def __init__(self, world: World, kept: Iterable[Kept]) -> None:
        """Tell who holds replies that a change makes wrong."""
        self._world = world
        self._kept = tuple(kept)
        self._scheduled = self._is_readable = False
        self._outdated: list[bytes] = []
        self._serial_timer: asyncio.TimerHandle | None = None
        self.synced = anyio.Event()

    def __call__(self, event: Event) -> None:
        """Take one event; its effect shows within this turn of the loop or the next ones."""
        self._world.publisher.apply(event)
        if self._is_readable or isinstance(event, InitDone):
            self._look_and_schedule()

    def note(self, why: str, *, imports_only: bool) -> None:
        """Take what keeps the source from being whole: `why` is shown until everything is read."""
        self._world.tree.reason = why or NOT_READ
        self._world.imports_only = imports_only
        self._look_and_schedule()

    def mark_stale(self, *, stale: bool) -> None:
        """Let all answers say, or no longer say, that they are older than they should be."""
        if stale is not self._world.tree.stale:
            self._world.tree.stale = stale
            self._outdated = list({owner for kept in self._kept for owner in kept.owners()})
            self._schedule()

    def _look_and_schedule(self) -> None:
        """Publish, once there is anything to answer from; before, it would be done twice."""
        self._is_readable = self._is_readable or self._world.is_readable
        if self._is_readable:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        """Publish for a short turn; come back for the rest."""
        self._scheduled = False
        is_first = self._world.tree.readiness is Readiness.NOT_SYNCED
        deadline = time.monotonic() + (_FIRST_SLICE_S if is_first else _SLICE_S)
        for owners in self._world.publisher.publish():
            self._forget(*owners)
            if time.monotonic() > deadline:
                break
        while self._outdated and time.monotonic() < deadline:
            self._forget(self._outdated.pop())
        if self._world.publisher.pending or self._outdated:
            self._schedule()
            return
        self._world.note_synced()
        if self._serial_timer is None:
            self._step_serial()
        if self._world.tree.readiness is Readiness.SYNCED and not self.synced.is_set():
            self.synced.set()

    def _step_serial(self) -> None:
        self._serial_timer = None
        now = time.time()
        before = self._world.publisher.serial
        if self._world.publisher.step_serial(int(now)):
            loop = asyncio.get_running_loop()
            self._serial_timer = loop.call_later(1 - now % 1, self._step_serial)
        if before != self._world.publisher.serial:
            self._forget(APEX_OWNER)

    def _forget(self, *owners: bytes) -> None:
        for kept in self._kept:
            kept.forget(owners)
