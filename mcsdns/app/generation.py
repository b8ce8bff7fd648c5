"""One world, what fills it and what is kept of its answers: all that other settings replace whole.

A server answers from one generation. Where settings change, the next one is filled beside it, and
answers come from that as soon as it knows everything.
"""

import gc
import importlib
import time
from collections.abc import Sequence
from typing import Final

import anyio

from mcsdns.app.upstreams import Forwarding
from mcsdns.config import Settings
from mcsdns.objects.events import Delete, Init, InitDone
from mcsdns.objects.model import Kind
from mcsdns.server.handler import Handler
from mcsdns.server.packet_cache import PacketCache
from mcsdns.server.zone_state import UpdateQueue, ZoneState
from mcsdns.sources.base import Source, SourceState
from mcsdns.sources.kubernetes.source import KubernetesSource
from mcsdns.sources.manifests.documents import Located
from mcsdns.sources.manifests.source import ManifestSource
from mcsdns.stats import ReplyCounters
from mcsdns.timeslice import Timeslice

_THRESHOLDS: Final = (10_000, 20, 20)
"""While serving: hardly anything here is in cycles, and a forwarded question makes objects."""
_FIRST_THRESHOLDS: Final = (50_000, 20, 100)
"""While everything is read, all of it lives: a full collection took 37 ms, and freed nothing."""


def preload(settings: Settings) -> None:
    """Import what the settings' source needs: 0.2 s for an API server's.

    Raises:
        ConfigError: there is no source, or more than one.
    """
    if settings.access() is not None:
        importlib.import_module("mcsdns.sources.kubernetes.api")


def expect_many_objects() -> None:
    """Let the collector rest while a world is filled."""
    gc.set_threshold(*_FIRST_THRESHOLDS)


def expect_few_objects() -> None:
    """Let the collector look often at the little that is made while serving."""
    gc.set_threshold(*_THRESHOLDS)


_END_S: Final = 5.0
"""Longest that a source takes to end: it may write a last snapshot."""


class NoSource:
    """Nothing is served but what upstreams say: the zone is empty, and synced from the start."""

    name = "no source"
    is_guarded = False

    def __init__(self, feed: UpdateQueue) -> None:
        """Take the queue of a zone that stays empty."""
        self._feed = feed

    async def run(self) -> None:
        """Send an empty list of each kind, and wait until cancelled."""
        for kind in Kind:
            self._feed.apply(Init(kind))
            self._feed.apply(InitDone(kind))
        await anyio.sleep_forever()

    async def rescan(self) -> None:
        """Do nothing."""

    def take_over(self) -> None:
        """Do nothing."""

    def step_down(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing: it is in no circle."""

    def problems(self) -> tuple[Located, ...]:
        """Return nothing."""
        return ()

    def states(self) -> list[SourceState]:
        """Return the one state there is."""
        return [SourceState(name=self.name, kind="none", synced=True, connected=True)]


class ServerState:
    """A world with its feed, its kept replies and its origin.

    Attributes:
        kept: of UDP and of TCP. failure: what ended the origin, which otherwise never ends.
    """

    def __init__(self, settings: Settings) -> None:
        """Make an empty world; nothing is read before `run`."""
        self.settings = settings
        self.world = ZoneState(settings.zone_settings(), settings.namespace)
        self.kept = PacketCache(settings.kept_bytes), PacketCache(settings.kept_bytes)
        self.feed = UpdateQueue(self.world, self.kept)
        self.failure: Exception | None = None
        self._origin: Source | None = None
        self._scope: anyio.CancelScope | None = None
        self._is_stopped = False
        self._ended = anyio.Event()

    @property
    def origin(self) -> Source:
        """Where the objects come from; made when first asked for.

        Raises:
            ConfigError: there is none, or it is not described well.
        """
        if self._origin is None:
            self._origin = self._make_origin()
            self.world.find_problems = self._origin.problems
        return self._origin

    def _make_origin(self) -> Source:
        settings = self.settings
        access = settings.access()
        if settings.is_sourceless:
            return NoSource(self.feed)
        if access is None:
            return ManifestSource(
                settings.manifests,
                self.feed,
                max_bytes=settings.manifest_max_bytes,
                profile=settings.slices,
            )
        from mcsdns.sources.kubernetes.api import ApiServer  # noqa: PLC0415 - see `preload`

        followed = settings.kubernetes_settings()
        return KubernetesSource(ApiServer(access, followed.watches), self.feed, followed)

    def responders(
        self, forwarding: Forwarding | None, tallies: Sequence[ReplyCounters]
    ) -> tuple[Handler, Handler]:
        """Make what answers from this world, over UDP and over TCP, and counts there."""
        over_udp, over_tcp = (
            Handler(
                self.world.answerer,
                kept,
                tcp=is_tcp,
                clock=time.monotonic,
                forward_handler=forwarding.relay(tcp=is_tcp) if forwarding else None,
                counters=tally,
            )
            for is_tcp, kept, tally in zip((False, True), self.kept, tallies, strict=True)
        )
        return over_udp, over_tcp

    @property
    def is_synced(self) -> bool:
        """Whether everything was read once, or a snapshot is served."""
        return self.feed.synced.is_set()

    async def run(self) -> None:
        """Fill the world and keep it right until `stop`.

        Raises:
            SourceError: the source cannot be read.
        """
        try:
            with anyio.CancelScope() as self._scope:
                if not self._is_stopped:
                    await self.origin.run()
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Let `run` end, now or as soon as it begins."""
        self._is_stopped = True
        if self._scope:
            self._scope.cancel()

    def settle(self) -> None:
        """Take what is there out of the collector's sight: it would walk it all for nothing."""
        gc.freeze()
        expect_few_objects()

    async def forget_replies(self) -> None:
        """Drop all kept replies, in short turns."""
        timeslice = Timeslice()
        for kept in self.kept:
            for owner in list(kept.owners()):
                kept.evict((owner,))
                await timeslice.checkpoint()

    async def take_apart(self) -> None:
        """Free the memory in short turns: to free a hundred thousand objects at once takes 50 ms.

        The collector cannot be left to it either, since it does not see what was settled.
        """
        await self.forget_replies()
        timeslice = Timeslice()
        publisher, store = self.world.publisher, self.world.store
        for kind in (Kind.SERVICE_IMPORT, Kind.ENDPOINT_SLICE):
            keys = [each.key for each in store.objects(kind)]
            for key in keys:
                publisher.apply(Delete(kind, key))
                for _ in publisher.publish():
                    pass
                await timeslice.checkpoint()
        with anyio.move_on_after(_END_S):
            await self._ended.wait()
        self.world.find_problems = tuple
        if self._origin is not None and self._ended.is_set():
            self._origin.release()
            self._origin = None
