"""Keeps a world right while its API server comes and goes: source, guard, snapshot, staleness."""

import asyncio
import datetime
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import anyio

from mcsdns.config import Settings
from mcsdns.dns import name as names
from mcsdns.errors import ConfigError
from mcsdns.objects.events import Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object
from mcsdns.server.world import ZoneState
from mcsdns.server.zone_state import UpdateQueue
from mcsdns.sources import snapshot
from mcsdns.sources.base import SourceState, Statistics
from mcsdns.sources.deletion_guard import DeletionGuard
from mcsdns.sources.keeper import Known, SnapshotWriter, SnapshotWriterSettings
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.objects_source import KubernetesSource, Standing
from mcsdns.sources.manifests.documents import Located

logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0
_FRESH_S: Final = 5.0
_FLUSH_S: Final = 2.0


def make_source(
    settings: Settings,
    sink: Callable[[Event], None],
    hear: Callable[[Standing], None] | None = None,
    complete: Callable[[InitDone], Awaitable[None]] | None = None,
) -> KubernetesSource:
    """Make the source that the settings ask for.

    Raises:
        ConfigError: nothing says where the API server is, or there is no API server to follow.
    """
    access = settings.access()
    if access is None:
        raise ConfigError("no API server to follow: leave out --manifests")
    followed = settings.kubernetes_settings()
    cluster = ApiServer(access, watches=len(list(followed.scopes())))
    return KubernetesSource(cluster, sink, followed, hear=hear, complete=complete)


class Upkeep:
    """Follows an API server for as long as the server runs.

    Attributes:
        source: what follows it. guard: what stands between it and the index.
        keeper: what writes the snapshot, where one is wanted.
    """

    is_guarded = True

    def __init__(self, settings: Settings, world: ZoneState, feed: UpdateQueue) -> None:
        """Read where the API server is; nothing is asked before `run`.

        Raises:
            ConfigError: as `make_source`.
        """
        self.source = make_source(settings, self._take, self._hear, self._complete)
        self.guard = DeletionGuard(world.store, settings.guard_settings(), logger.warning)
        self.keeper: SnapshotWriter | None = None
        self._settings = settings
        self._store = world.store
        self._feed = feed
        self._timer: asyncio.TimerHandle | None = None
        self._crd_gone = False
        self._restored = ""
        self._restored_as_of_s = 0.0
        self._in_force = anyio.Event()
        self._is_over = False

    @property
    def name(self) -> str:
        """Say where the objects come from, for people."""
        return self.source.name if self.source.synced else self._restored or self.source.name

    async def run(self) -> None:
        """Follow until cancelled.

        A snapshot is served only by who answers from the start: what is in force while others
        take over knows better.
        """
        if self._settings.snapshot:
            if self._in_force.is_set():
                self._restore(self._settings.snapshot)
            self.keeper = self._make_keeper(self._settings.snapshot)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self.source.run)
                group.start_soon(self._watch_age)
                if self.keeper:
                    group.start_soon(self._keep, self.keeper)
        finally:
            await self._end()

    async def rescan(self) -> None:
        """Do nothing: an API server tells of changes by itself."""

    def take_over(self) -> None:
        """Begin to write the snapshot."""
        self._in_force.set()

    def step_down(self) -> None:
        """Leave the snapshot to another one."""
        self._is_over = True

    def release(self) -> None:
        """Forget the source, the guard and all who call back."""
        vars(self.source).clear()
        vars(self).clear()

    def problems(self) -> Iterable[Located]:
        """Iterate over what is wrong with objects now."""
        return self.source.located_problems()

    def states(self) -> list[SourceState]:
        """Return how the API server is, and the snapshot where one is served in its place."""
        source, followers = self.source, self.source.statistics()
        state = SourceState(
            name=source.name,
            kind="kubernetes",
            synced=source.synced,
            connected=all(each.connected for each in followers),
            fresh_s=max(each.heard_age_s for each in followers),
            reasons=self.reasons(),
        )
        if source.synced or not self._restored:
            return [state]
        return [state, self._restored_state()]

    def _restored_state(self) -> SourceState:
        return SourceState(
            name=self._restored,
            kind="snapshot",
            synced=True,
            connected=False,
            fresh_s=time.time() - self._restored_as_of_s,
            reasons=[f"{self._restored} is served until the API server answers"],
        )

    def statistics(self) -> Statistics:
        """Return the counters of source, guard and keeper."""
        return Statistics(
            watches=self.source.statistics(),
            guard=self.guard.statistics(),
            keeper=self.keeper.statistics() if self.keeper else None,
        )

    def reasons(self) -> list[str]:
        """Return what is not as it should be, a line each, for people."""
        held = self.guard.statistics().why
        problem = self.keeper.statistics().problem if self.keeper else ""
        return [
            *self.source.standing.reasons,
            *([f"deletion is held: {held}"] if held else []),
            *([problem] if problem else []),
        ]

    async def _keep(self, keeper: SnapshotWriter) -> None:
        """Write the snapshot as soon as answers come from this world."""
        await self._in_force.wait()
        await keeper.run()

    async def _end(self) -> None:
        if self._timer:
            self._timer.cancel()
        with anyio.move_on_after(_FLUSH_S, shield=True):
            if self.keeper and self._in_force.is_set() and not self._is_over:
                await self.keeper.flush()

    def _restore(self, path: str) -> None:
        """Serve what was known when this file was written, until the first lists are complete."""
        now_s = time.time()
        try:
            found = snapshot.read(path, self._identity(), now_s, self._settings.snapshot_max_age)
        except snapshot.SnapshotError as error:
            level = logging.INFO if error.reason == "missing" else logging.WARNING
            logger.log(level, "%s", error)
            return
        for kind in Kind:
            self._feed(Init(kind))
        for each in found.objects:
            self._feed(InitApply(each))
        for kind in Kind:
            self._feed(InitDone(kind))
        self._restored = f"snapshot {path} of {_time_text(found.as_of_s)}"
        self._restored_as_of_s = found.as_of_s
        self.source.restored = True
        self._feed.mark_stale(stale=self._settings.stale_after > 0)
        logger.warning("%s is served until the API server answers", self._restored)

    def _make_keeper(self, path: str) -> SnapshotWriter:
        settings = SnapshotWriterSettings()
        return SnapshotWriter(
            path, self._identity(), self._known, self._objects, settings, time.monotonic
        )

    def _identity(self) -> snapshot.SnapshotIdentity:
        followed, place = self._settings.kubernetes_settings(), self.source.place
        return snapshot.SnapshotIdentity(
            server=place.url,
            ca=place.ca_fingerprint,
            namespaces=tuple(sorted(followed.namespaces)),
            import_selector=followed.import_selector,
            slice_profile=followed.profile,
            zones=tuple(sorted(map(names.to_text, self._settings.zone_settings().zones))),
        )

    def _known(self) -> Known | None:
        """Say what the index is, as soon as it is what the API server has."""
        if not self.source.synced:
            return None
        age_s = time.monotonic() - self.source.fresh_s()
        return Known(time.time() - age_s, self.source.api_version, is_fresh=age_s < _FRESH_S)

    def _objects(self) -> list[Object]:
        return [each for kind in Kind for each in self._store.objects(kind)]

    def _take(self, event: Event) -> None:
        """Take an event of the source, as far as the guard lets it through."""
        self._pass(self.guard.take(event, time.monotonic()))
        self._arm()

    async def _complete(self, event: InitDone) -> None:
        """Take the end of a list in short turns, for it may take everything away."""
        if not self._store.is_synced(event.kind):
            self._pass([event])  # nothing was answered from what goes now
        elif self._crd_gone and event.kind is Kind.SERVICE_IMPORT:
            self._pass(self.guard.follow(event))
        else:
            while turn := self.guard.prepare(event, time.monotonic()):
                self._pass(turn)
                await asyncio.sleep(0)
            self._pass(self.guard.take(event, time.monotonic()))
        self._arm()
        gc.freeze()  # the collector would walk every object of the index for nothing

    def _pass(self, events: Sequence[Event]) -> None:
        for event in events:
            self._feed(event)
        if events and self.keeper:
            self.keeper.note_change()

    def _hear(self, standing: Standing) -> None:
        self._feed.note(standing.why, imports_only=standing.imports_only)
        if standing.crd_gone and not self._crd_gone:
            self._pass(self.guard.suspect(time.monotonic(), "the API server has no ServiceImports"))
            self._arm()
        self._crd_gone = standing.crd_gone

    def _arm(self) -> None:
        """Come back when the guard has something to let go."""
        due_s = self.guard.next_due_s
        if due_s is None or (self._timer and self._timer.when() <= due_s):
            return
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due_s, self._let_go)

    def _let_go(self) -> None:
        self._timer = None
        self._pass(self.guard.due(time.monotonic()))
        self._arm()

    async def _watch_age(self) -> None:
        """Let answers say that they are stale once the API server was away for long."""
        after_s = self._settings.stale_after
        while after_s:
            age_s = time.monotonic() - self.source.fresh_s()
            only_restored = bool(self._restored) and not self.source.synced
            is_old = self.source.synced and age_s > after_s
            self._feed.mark_stale(stale=only_restored or is_old)
            await anyio.sleep(_LOOK_EVERY_S)


def _time_text(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
