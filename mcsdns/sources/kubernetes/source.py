"""ServiceImports and EndpointSlices of an API server, kept right while it comes and goes.

There is one `Watcher` for each kind and namespace. Here is what concerns all of them: which API
version serves the imports, the guard and the snapshot, what is wrong in one line, and how old the
objects may be.

An event:

    Watcher -> _apply -> DeletionGuard.take -> Sink.apply
                              | withheld
                              +-> _follow_guard, when its time is over -> Sink.apply

The end of a list is the one event that takes objects away without naming them: the store removes
whatever the list did not show. So it has a way of its own (`_end_list`):

- Before the first list of a kind is complete in every namespace, nothing is answered from what the
  end takes away (a snapshot apart, whose lists count as complete: the guard compares the first list
  with it). The end passes as it is.
- Later, the guard tells service by service what it brings, in short slices of the event loop, so
  that neither the guard nor the store stops the answers for long.
- Where the CRD of the ServiceImports is gone, watches and lists end with 404. That is no statement
  about objects, so nothing is removed, and what the API server deleted before it said so is put
  back (`DeletionGuard.suspect`). If the CRD does not come back within `missing_s`, `_miss_imports`
  makes an empty list, which is followed unguarded.

What was withheld, restored from a snapshot or read long ago is still served: answers say that they
are stale (EDE 3, RFC 8914, 4.4) once nothing was received for `stale_after_s`.
"""

import asyncio
import datetime
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from mcsdns.errors import SourceError
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.events import Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object
from mcsdns.sources import deletion_guard, snapshot
from mcsdns.sources.base import Sink, SourceState
from mcsdns.sources.deletion_guard import DeletionGuard, DeletionGuardSettings
from mcsdns.sources.kubernetes import discovery
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.discovery import ImportsDiscovery
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.sources.kubernetes.watcher import Scope, Timing, Watcher
from mcsdns.sources.kubernetes.watcher import Statistics as WatcherStatistics
from mcsdns.sources.manifests.documents import Located
from mcsdns.sources.snapshot import Known, SnapshotWriter
from mcsdns.sources.timeslice import Timeslice

if TYPE_CHECKING:  # it takes long to import, and only a server of an API server's objects needs it
    from mcsdns.sources.kubernetes.api import ApiServer

logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0
"""How often answers are marked as stale, or no longer."""
_FRESH_S: Final = 5.0
"""A snapshot without a change is written again only if the objects are not older than this."""
_FLUSH_S: Final = 2.0
"""Longest that the end of the process waits for the last snapshot."""
_GIVES_UP: Final = {Trouble.THROTTLED, Trouble.UNAVAILABLE, Trouble.EXPIRED, Trouble.TOO_NEW}
"""What a source that is read once waits for; all else ends it."""


class KubernetesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow, and what to do while it cannot be followed.

    Attributes:
        namespaces: only these, each with watches of its own; none given: all, by one watch a kind.
        import_selector: label selector of ServiceImports.
        profile: whose EndpointSlices.
        missing_s: a CRD that is gone for longer counts as an empty list.
        guard: against mass deletion.
        snapshot: path of the file, empty for none. snapshot_max_age_s: an older one is ignored.
        stale_after_s: seconds without the API server after which answers are stale; 0 for never.
        zones: what is served, as text; a snapshot of other zones is ignored.
        recheck_s: between lists that find what a watch missed; 0 for none.
    """

    namespaces: Sequence[str] = ()
    import_selector: str = ""
    profile: SliceProfile = SliceProfile.MCS
    missing_s: float = 60.0
    guard: DeletionGuardSettings = DeletionGuardSettings(share=0)
    snapshot: str = ""
    snapshot_max_age_s: float = 0.0
    stale_after_s: float = 0.0
    zones: tuple[str, ...] = ()
    recheck_s: float = 0.0

    def scopes(self) -> Iterator[Scope]:
        """Return what is followed, by kind and namespace."""
        for namespace in self.namespaces or ("",):
            yield Scope(Kind.SERVICE_IMPORT, namespace, self.import_selector)
            yield Scope(Kind.ENDPOINT_SLICE, namespace, self.profile.selector, self.profile)

    @property
    def watches(self) -> int:
        """How many watches are open at the same time."""
        return len(list(self.scopes()))


class Standing(msgspec.Struct, frozen=True):
    """How the source is doing.

    Attributes:
        reasons: what is wrong, a line each, for people; empty when all is well.
        why: the same in a few words that every client may read.
        imports_only: slices cannot be read at all, imports can.
        crd_gone: the API server has no ServiceImports, though it had.
    """

    reasons: tuple[str, ...] = ()
    why: str = ""
    imports_only: bool = False
    crd_gone: bool = False


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        watches: one for each kind and namespace. snapshot: None where none is written.
    """

    watches: Sequence[WatcherStatistics]
    guard: deletion_guard.Statistics
    snapshot: snapshot.Statistics | None


class KubernetesSource:
    """Follows an API server, and tells a sink as much of it as the guard lets through.

    Attributes:
        standing: how it is doing.
    """

    def __init__(
        self,
        api: "ApiServer",
        sink: Sink,
        settings: KubernetesSettings,
        *,
        timing: Timing | None = None,
    ) -> None:
        """Ask nothing before `run` or `load`."""
        self.standing = Standing()
        self._api = api
        self._sink = sink
        self._settings = settings
        self._timing = timing or Timing(recheck_s=settings.recheck_s)
        self._watchers = [
            Watcher(
                scope,
                api,
                self._timing,
                apply=self._apply,
                changed=self._changed,
                discover=self._discover,
            )
            for scope in settings.scopes()
        ]
        namespace = self._watchers[0].scope.namespace
        self._discovery = ImportsDiscovery(api, namespace, self._timing.answer_s)
        self._guard = DeletionGuard(sink.store, settings.guard, logger.warning)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._writer: SnapshotWriter | None = None
        self._restored = ""
        self._restored_as_of_s = 0.0
        self._lock = anyio.Lock()
        self._missing_since_s: float | None = None
        self._is_emptied = False
        self._logged: dict[Watcher, str] = {}
        self._settled = anyio.Event()
        self._logs = True

    @property
    def name(self) -> str:
        """Where the objects come from, for people."""
        return self._api_name if self.synced else self._restored or self._api_name

    @property
    def api_version(self) -> str:
        """The API version of the ServiceImports; empty before it is known."""
        return self._discovery.api_version

    @property
    def _api_name(self) -> str:
        version = f"{self.api_version} at " if self.api_version else ""
        return version + self._api.place.url

    @property
    def synced(self) -> bool:
        """Whether every list has been complete once."""
        return all(watcher.synced for watcher in self._watchers)

    def fresh_s(self) -> float:
        """Return up to when everything is known, by the clock of the timing."""
        return min(watcher.fresh_s for watcher in self._watchers)

    def problems(self) -> Iterator[Located]:
        """Iterate over what is wrong with objects; they have no place in a file."""
        for watcher in self._watchers:
            for problems in watcher.problems.values():
                for problem in problems:
                    if problem.subject:  # of very many, most are only counted
                        yield Located("", problem)

    def states(self) -> list[SourceState]:
        """Return how the API server is, and the snapshot where one is served in its place."""
        watchers = [watcher.statistics() for watcher in self._watchers]
        state = SourceState(
            name=self._api_name,
            kind="kubernetes",
            synced=self.synced,
            connected=all(each.connected for each in watchers),
            fresh_s=max(each.heard_age_s for each in watchers),
            reasons=self._reasons(),
            faults=self._faults(),
        )
        if self.synced or not self._restored:
            return [state]
        restored = SourceState(
            name=self._restored,
            kind="snapshot",
            synced=True,
            connected=False,
            fresh_s=time.time() - self._restored_as_of_s,
            reasons=[f"{self._restored} is served until the API server answers"],
            faults=["a snapshot is served until the API server answers"],
        )
        return [state, restored]

    def statistics(self) -> Statistics:
        """Return the counters of the watchers, of the guard, and of the snapshot."""
        return Statistics(
            [watcher.statistics() for watcher in self._watchers],
            self._guard.statistics(),
            self._writer.statistics() if self._writer else None,
        )

    async def run(self) -> None:
        """Follow until cancelled; where there is a snapshot, serve it until the first sync."""
        if self._settings.snapshot:
            self._restore()
            self._writer = SnapshotWriter(
                self._settings.snapshot,
                self._identity(),
                self._known,
                self._objects,
                self._timing.clock,
            )
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._follow)
                group.start_soon(self._watch_age)
                if self._writer:
                    group.start_soon(self._writer.run)
        finally:
            with anyio.move_on_after(_FLUSH_S, shield=True):
                if self._writer:
                    await self._writer.flush()

    async def load(self) -> None:
        """Read everything once.

        Raises:
            SourceError: it cannot be read.
        """
        self._logs = False  # the caller gets the reason
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow)
            await self._settled.wait()
            group.cancel_scope.cancel()
        if not self.synced:
            raise SourceError("; ".join(self.standing.reasons))

    async def rescan(self) -> None:
        """Do nothing: an API server tells of changes by itself."""

    async def _follow(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                for watcher in self._watchers:
                    group.start_soon(watcher.run)
                    if self._timing.recheck_s:
                        group.start_soon(watcher.recheck)
        finally:
            if self._timer:
                self._timer.cancel()
            with anyio.CancelScope(shield=True):
                await self._api.close()

    # Events

    async def _apply(self, event: Event) -> None:
        """Take an event of a watcher, and send what the guard lets through."""
        if isinstance(event, InitDone):
            await self._end_list(event)
        else:
            self._send(self._guard.take(event, self._timing.clock()))
        self._schedule_guard()

    async def _end_list(self, event: InitDone) -> None:
        """Take the end of a list in short slices, for it may take everything away."""
        if not self._sink.store.is_synced(event.kind):
            self._send([event])  # nothing was answered from what goes now
        elif self.standing.crd_gone and event.kind is Kind.SERVICE_IMPORT:
            self._send(self._guard.follow(event))
        else:
            timeslice = Timeslice()
            for events in self._guard.end_list(event, self._timing.clock):
                self._send(events)
                await timeslice.checkpoint()
        gc.freeze()  # the collector would walk every object of the store for nothing

    def _send(self, events: Sequence[Event]) -> None:
        for event in events:
            self._sink.apply(event)
        if events and self._writer:
            self._writer.note_change()

    def _schedule_guard(self) -> None:
        """Have `_follow_guard` called when the guard has something that may be followed."""
        due_s = self._guard.next_due_s
        if due_s is None:
            return
        if self._timer:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_s = due_s
        self._timer = loop.call_later(due_s - self._timing.clock(), self._follow_guard)

    def _follow_guard(self) -> None:
        self._timer = None
        self._send(self._guard.due(self._timing.clock()))
        self._schedule_guard()

    # The state

    def _changed(self, watcher: Watcher) -> None:
        """Take that a watcher is connected, synced or failing, or no longer."""
        self._log_change(watcher)
        standing = self._stand()
        if standing != self.standing:
            before, self.standing = self.standing, standing
            self._sink.note(standing.why, imports_only=standing.imports_only)
            if standing.crd_gone and not before.crd_gone:
                why = "the API server has no ServiceImports"
                self._send(self._guard.suspect(self._timing.clock(), why))
                self._schedule_guard()
        failed = watcher.failure is not None and watcher.failure.trouble not in _GIVES_UP
        if failed or self.synced:
            self._settled.set()

    def _reasons(self) -> list[str]:
        """Return what is not as it should be, a line each, for people."""
        guard = self._guard.statistics()
        held = f"deletion is held: {guard.why}; {guard.held} services are kept by now"
        problem = self._writer.statistics().problem if self._writer else ""
        return [
            *self.standing.reasons,
            *([held] if guard.why else []),
            *([problem] if problem else []),
        ]

    def _faults(self) -> list[str]:
        """Return the same in fixed words."""
        writer = self._writer
        return [
            *([self.standing.why] if self.standing.reasons else []),
            *(["a mass deletion is held"] if self._guard.statistics().why else []),
            *(["the snapshot cannot be written"] if writer and writer.statistics().problem else []),
        ]

    async def _watch_age(self) -> None:
        """Let answers say that they are stale once the API server was away for long."""
        after_s = self._settings.stale_after_s
        while after_s:
            age_s = self._timing.clock() - self.fresh_s()
            only_restored = bool(self._restored) and not self.synced
            self._sink.mark_stale(stale=only_restored or (self.synced and age_s > after_s))
            await anyio.sleep(_LOOK_EVERY_S)

    def _stand(self) -> Standing:
        failed = [each for each in self._watchers if each.failure is not None]
        unread = [each for each in self._watchers if not each.synced]
        return Standing(
            tuple(dict.fromkeys(_describe(each) for each in failed)),
            ", ".join(dict.fromkeys(_hint(each) for each in failed or unread)),
            bool(unread) and all(map(_is_barred, unread)),
            self._missing_since_s is not None,
        )

    def _log_change(self, watcher: Watcher) -> None:
        """Log a failure once, and when it is over; watchers that fail alike share a line."""
        before = self._logged.get(watcher, "")
        now = _describe(watcher) if watcher.failure else ""
        if now == before or not self._logs:
            return
        if now and now not in self._logged.values():
            logger.warning("%s", now)
        self._logged[watcher] = now
        if not now and not any(self._logged.values()):
            logger.info("the API server answers again: %s", self._api_name)

    # The snapshot

    def _restore(self) -> None:
        """Serve what was known when the file was written, until the first lists are complete."""
        path = self._settings.snapshot
        max_age_s = self._settings.snapshot_max_age_s
        try:
            found = snapshot.read(path, self._identity(), time.time(), max_age_s)
        except snapshot.SnapshotError as error:
            level = logging.INFO if error.reason == "missing" else logging.WARNING
            logger.log(level, "%s", error)
            return
        for kind in Kind:
            self._sink.apply(Init(kind))
        for each in found.objects:
            self._sink.apply(InitApply(each))
        for kind in Kind:
            self._sink.apply(InitDone(kind))
        self._restored = f"snapshot {path} of {_time_text(found.as_of_s)}"
        self._restored_as_of_s = found.as_of_s
        self._sink.mark_stale(stale=self._settings.stale_after_s > 0)
        logger.warning("%s is served until the API server answers", self._restored)

    def _identity(self) -> snapshot.SnapshotIdentity:
        settings, place = self._settings, self._api.place
        return snapshot.SnapshotIdentity(
            server=place.url,
            ca=place.ca_fingerprint,
            namespaces=tuple(sorted(settings.namespaces)),
            import_selector=settings.import_selector,
            slice_profile=settings.profile,
            zones=tuple(sorted(settings.zones)),
        )

    def _known(self) -> Known | None:
        """Return how old the store is, as soon as it has what the API server has."""
        if not self.synced:
            return None
        age_s = self._timing.clock() - self.fresh_s()
        return Known(time.time() - age_s, self.api_version, is_fresh=age_s < _FRESH_S)

    def _objects(self) -> list[Object]:
        return [each for kind in Kind for each in self._sink.store.objects(kind)]

    # Which API version serves the imports

    async def _discover(self, watcher: Watcher) -> str:
        """Return the API version that serves the objects of a watcher.

        Raises:
            ApiError: none does, or it cannot be found out.
        """
        if watcher.scope.kind is Kind.ENDPOINT_SLICE:
            return discovery.SLICE_API
        async with self._lock:
            try:
                version = await self._discovery.find(watcher.refused_version)
            except ApiError as error:
                if error.trouble is Trouble.NOT_FOUND:
                    await self._miss_imports()
                else:
                    self._missing_since_s = None  # only what is not there all the time is gone
                raise
            self._missing_since_s = None
            self._is_emptied = False
            return version

    async def _miss_imports(self) -> None:
        """Note that there are no ServiceImports; after a while that is an empty list.

        Only where there were some: before the first list a missing CRD says nothing.
        """
        imports = [each for each in self._watchers if each.scope.kind is _IMPORTS]
        if not (self._restored or any(each.synced for each in imports)):
            return
        now_s, missing_s = self._timing.clock(), self._settings.missing_s
        if self._missing_since_s is None:
            self._missing_since_s = now_s
        elif now_s - self._missing_since_s > missing_s and not self._is_emptied:
            self._is_emptied = True
            logger.warning(
                "no ServiceImports since %.0f s: they count as gone", self._settings.missing_s
            )
            for each in imports:
                await self._apply(Init(_IMPORTS, each.scope.namespace))
                await self._apply(InitDone(_IMPORTS, each.scope.namespace))


_IMPORTS: Final = Kind.SERVICE_IMPORT


def _is_barred(watcher: Watcher) -> bool:
    """Returns whether slices cannot be read at all, as opposed to not yet."""
    failure = watcher.failure
    return (
        watcher.scope.kind is Kind.ENDPOINT_SLICE
        and failure is not None
        and failure.trouble in {Trouble.FORBIDDEN, Trouble.NOT_FOUND}
    )


def _describe(watcher: Watcher) -> str:
    """Return what failed and what to do, for the log and for people."""
    failure, scope = watcher.failure, watcher.scope
    assert failure is not None
    if failure.trouble is Trouble.FORBIDDEN:
        return f"{failure}; {discovery.rule_for(scope.kind, scope.namespace)}"
    return str(failure)


def _hint(watcher: Watcher) -> str:
    """Return the same in a few words that any client may read."""
    plural = discovery.PLURALS[watcher.scope.kind]
    if watcher.failure is None:
        return f"{plural} have not been read yet"
    return f"{plural}: {watcher.failure.trouble.value}"


def _time_text(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
