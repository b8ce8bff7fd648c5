"""All that answers are made from, and the queue that publishes changes of it in short slices.

A source sends events; `ZoneState` takes them into the store at once, and from then on the services
they touch wait to be rebuilt. For a command, `ZoneState.publish_all` does so in one go. For a
server, `UpdateQueue` does it in slices of the event loop, evicts the replies that are no longer
right, and calls the zone synced after the first whole list of each kind.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

import anyio
import msgspec

from mcsdns.objects.events import Apply, Event, InitDone
from mcsdns.objects.model import EndpointSlice, Kind, Object, Problem
from mcsdns.objects.store import Store
from mcsdns.server.authority import Authority
from mcsdns.server.packet_cache import PacketCache
from mcsdns.sources.manifests.documents import Located
from mcsdns.sources.timeslice import SLICE_S, Timeslice
from mcsdns.stats import Histogram, HistogramStatistics
from mcsdns.zone.name_shape import APEX_OWNER
from mcsdns.zone.publisher import Publisher
from mcsdns.zone.tree import NOT_READ, Readiness, Tree, ZoneSettings, labels_of_key

logger = logging.getLogger(__name__)

_FIRST_SLICE_S: Final = 0.02
"""Longest slice of the loop that publishing takes while there is nothing to answer from yet."""
_PROGRAMMING_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)
"""Controllers often write whole seconds, so an honest one is off by up to a second."""


class ZoneState:
    """The objects, the zone made from them and its one writer: a `Sink` that publishes nothing.

    Attributes:
        find_problems: iterates over what the source finds wrong with objects now.
        imports_only: whether slices cannot be read at all, so that imports have to do.
    """

    def __init__(self, settings: ZoneSettings, namespaces: Iterable[str] = ()) -> None:
        """Begin empty and not synced; `namespaces`: of which objects, none given: of all."""
        self.store = Store(namespaces)
        self.tree = Tree(settings)
        self.publisher = Publisher(self.store, self.tree, _log_problem)
        self.authority = Authority(self.tree)
        self.find_problems: Callable[[], Iterable[Located]] = tuple
        self.imports_only = False

    def apply(self, event: Event) -> None:
        """Take an event into the store; what it touches waits to be published."""
        self.publisher.apply(event)

    def note(self, why: str, *, imports_only: bool) -> None:
        """Take why the source is not complete, or an empty text."""
        self.tree.reason = why or NOT_READ
        self.imports_only = imports_only

    def mark_stale(self, *, stale: bool) -> None:
        """Let all answers say, or no longer say, that they are older than they should be."""
        self.tree.stale = stale

    def publish_all(self, now_s: int) -> list[bytes]:
        """Publish whatever waits, in one go; returns the owners whose answers changed."""
        changed = [owner for owners in self.publisher.publish() for owner in owners]
        self.note_synced()
        self.publisher.step_serial(now_s)
        return changed

    @property
    def problems(self) -> tuple[Located, ...]:
        """What the source finds wrong with objects now."""
        return tuple(self.find_problems())

    @property
    def is_readable(self) -> bool:
        """Whether there is anything to answer from; before, no service need be built."""
        if self.imports_only:
            return self.store.is_synced(Kind.SERVICE_IMPORT)
        return all(map(self.store.is_synced, Kind))

    def note_synced(self) -> None:
        """Call the zone synced once both lists are in it; it stays so."""
        if self.publisher.pending or self.tree.readiness is Readiness.SYNCED:
            return
        if all(map(self.store.is_synced, Kind)):
            self.tree.readiness = Readiness.SYNCED
        elif self.is_readable:
            self.tree.readiness = Readiness.IMPORTS_ONLY
        else:
            self.tree.readiness = Readiness.NOT_SYNCED


def _log_problem(problem: Problem) -> None:
    logger.warning(
        "%s: %s: %s", problem.subject, problem.path, problem.text, extra={"reason": problem.reason}
    )


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        waiting: services that are to be published. programming: seconds from a change in its
            cluster to the answers that show it. undated: changes that do not tell when they were.
        negative: those that came, by the clock of their cluster, before they were; they count as 0.
    """

    waiting: int
    programming: HistogramStatistics
    undated: int
    negative: int


class _Programming:
    """Measures how long changes take from their cluster to our answers."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds = Histogram(_PROGRAMMING_S)
        self.undated = self.negative = 0
        self._clock = clock
        self._waiting: dict[bytes, list[float]] = {}

    def note(self, piece: EndpointSlice, before: Object | None) -> None:
        """Take a slice that a watch shows, and what was known of it before."""
        if not piece.triggered_s:
            self.undated += 1
        elif not isinstance(before, EndpointSlice) or before.triggered_s != piece.triggered_s:
            owner = labels_of_key(piece.service_key)
            self._waiting.setdefault(owner, []).append(piece.triggered_s)

    def publish(self, owner: bytes) -> None:
        """A service is answered for as its slices say."""
        if self._waiting:
            for triggered_s in self._waiting.pop(owner, ()):
                self._observe(self._clock() - triggered_s)

    def publish_all(self) -> None:
        """So are all, also those whose answers came out equal."""
        for owner in tuple(self._waiting):
            self.publish(owner)

    def _observe(self, seconds: float) -> None:
        self.negative += seconds < 0
        self.seconds.observe(max(seconds, 0.0))


class UpdateQueue:
    """The `Sink` of a server: publishes events in short slices and evicts the replies they change.

    Attributes:
        store: the objects that were sent. synced: set once everything was read and published.
    """

    def __init__(
        self, zone: ZoneState, caches: Iterable[PacketCache], clock: Callable[[], float] = time.time
    ) -> None:
        """Take the caches of replies that a change makes wrong; `clock` is Unix time."""
        self._zone = zone
        self._programming = _Programming(clock)
        self._caches = tuple(caches)
        self._scheduled = self._is_readable = False
        self._outdated: list[bytes] = []
        self.store = zone.store
        self._serial_timer: asyncio.TimerHandle | None = None
        self.synced = anyio.Event()

    def apply(self, event: Event) -> None:
        """Take one event; it is published within this slice of the loop or the next ones."""
        if isinstance(event, Apply) and self.synced.is_set():
            self._note_change(event.object)
        self._zone.apply(event)
        if self._is_readable or isinstance(event, InitDone):
            self._schedule_if_readable()

    def note(self, why: str, *, imports_only: bool) -> None:
        """Take why the source is not complete: `why` is shown until everything is read."""
        self._zone.note(why, imports_only=imports_only)
        self._schedule_if_readable()

    def mark_stale(self, *, stale: bool) -> None:
        """Let all answers say, or no longer say, that they are older than they should be."""
        if stale is not self._zone.tree.stale:
            self._zone.mark_stale(stale=stale)
            self.evict_all()

    def replace_settings(self, settings: ZoneSettings) -> None:
        """Answer by other settings (see `Publisher.replace_settings`)."""
        self._zone.publisher.replace_settings(settings)
        self.evict_all()

    def evict_all(self) -> None:
        """Drop all replies that are ready, in short slices."""
        self._outdated = list({owner for cache in self._caches for owner in cache.owners()})
        self._schedule()

    def statistics(self) -> Statistics:
        """Return the counters."""
        measured = self._programming
        return Statistics(
            self._zone.publisher.pending,
            measured.seconds.statistics(),
            measured.undated,
            measured.negative,
        )

    def _note_change(self, thing: Object) -> None:
        """Measure a slice that there are answers from; an object of a file has no such time."""
        if not isinstance(thing, EndpointSlice) or thing.malformed or thing.origin:
            return
        store = self._zone.store
        if thing.service_key in store.imports:
            self._programming.note(thing, store.object(Kind.ENDPOINT_SLICE, thing.key))

    def _schedule_if_readable(self) -> None:
        """Publish, once there is anything to answer from; before, it would be done twice."""
        self._is_readable = self._is_readable or self._zone.is_readable
        if self._is_readable:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        """Publish for a short slice; come back for the rest."""
        self._scheduled = False
        is_first = self._zone.tree.readiness is Readiness.NOT_SYNCED
        timeslice = Timeslice(_FIRST_SLICE_S if is_first else SLICE_S)
        for owners in self._zone.publisher.publish():
            self._evict(*owners)
            if owners:
                self._programming.publish(owners[0])
            if timeslice.is_over:
                break
        if not self._zone.publisher.pending:
            self._programming.publish_all()
        while self._outdated and not timeslice.is_over:
            self._evict(self._outdated.pop())
        if self._zone.publisher.pending or self._outdated:
            self._schedule()
            return
        self._zone.note_synced()
        if self._serial_timer is None:
            self._step_serial()
        if self._zone.tree.readiness is Readiness.SYNCED and not self.synced.is_set():
            self.synced.set()

    def _step_serial(self) -> None:
        self._serial_timer = None
        now = time.time()
        before = self._zone.publisher.serial
        if self._zone.publisher.step_serial(int(now)):
            loop = asyncio.get_running_loop()
            self._serial_timer = loop.call_later(1 - now % 1, self._step_serial)
        if before != self._zone.publisher.serial:
            self._evict(APEX_OWNER)

    def _evict(self, *owners: bytes) -> None:
        for cache in self._caches:
            cache.evict(owners)
