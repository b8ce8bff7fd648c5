"""The guard against mass deletion: keeps services for a while that vanish suspiciously together.

It stands between a source and the store: `take` says what of an event may be followed now, `due`
what is to be followed because its time is over. The store then holds what the source says and,
beside it, what is withheld. The guard reads the store and never writes to it; time is monotonic
seconds from the caller. Whatever a call returns goes to the store before the next call.

A service has an answer while its import exists and, where its addresses come from slices, at least
one slice. Taking the last answer away is a loss, and its course is:

    lost -> lingers -> followed, remembered -> forgotten
               |              |
               +-> held <-----+        when too many are lost within the window
                     |
                     +-> followed      when the grace time is over

From each of these an object that comes back leads out: once a service has an answer of its own,
what is still withheld of it is really removed.

Losses linger so that deleting a CRD, which deletes its objects one by one before the watch can
tell, leaves no gap; nor does an object that is deleted and created anew.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Final, Protocol

import msgspec

from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object, ServiceImport
from mcsdns.objects.store import ObjectKey, ServiceKey, Store
from mcsdns.sources.withheld import Memory, Withheld, kind_of, service_of

_COUNT_EVERY_S: Final = 1.0
"""How long the number of services that have answers is believed; counting 10,000 takes 2 ms."""
_AT_ONCE: Final = 100
"""So many services one turn looks at, about a millisecond with what the store does then."""

_BACK: Final = "all that was lost is back"


class DeletionGuardSettings(msgspec.Struct, frozen=True):
    """When the guard trips and how long it holds.

    Attributes:
        share: losses above this share of all services that had answers are held; 0 is off.
        least: fewer losses than this are never held.
        window_s: how long losses are counted together.
        grace_s: how long they are held; 0 is off.
        linger_s: how long every loss waits, at most `window_s`.
        slices_matter: whether a ClusterSetIP service without addresses takes them from slices.
    """

    share: float = 0.5
    least: int = 10
    window_s: float = 10.0
    grace_s: float = 60.0
    linger_s: float = 2.0
    slices_matter: bool = False


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        held: services that are kept by a hold. lingering: lost and not yet followed.
        deadline_s: when the hold ends, in the caller's clock; None where there is none.
        trips: how often a hold began.
        why: what the hold is for, for people; empty where there is none.
    """

    held: int
    lingering: int
    deadline_s: float | None
    trips: int
    why: str


class Report(Protocol):
    """Takes a constant text and its fields, as the methods of a logger do."""

    def __call__(self, text: str, /, *fields: object) -> None:
        """Say it loudly."""
        ...


class _Hold(msgspec.Struct):
    """A hold in force; `ending` once its time is over and it is being followed."""

    deadline_s: float
    why: str
    suspected: bool
    ending: bool = False


class DeletionGuard:
    """Withholds removals from one store; see the module for the course of a loss.

    While there is a hold, every service that waits is held; without one it lingers.
    """

    def __init__(self, store: Store, settings: DeletionGuardSettings, report: Report) -> None:
        """Guard `store`; `report` is told when a hold begins and when it ends."""
        self._store = store
        self._settings = settings
        self._report = report
        self._on = settings.share > 0 and settings.grace_s > 0
        self._linger_s = min(settings.linger_s, settings.window_s)
        self._withheld = Withheld(store, slices_matter=settings.slices_matter)
        self._waiting: dict[ServiceKey, float] = {}
        self._followed: dict[ServiceKey, float] = {}
        self._lingering: deque[tuple[float, ServiceKey]] = deque()
        self._recent: deque[tuple[float, ServiceKey]] = deque()
        self._memory = Memory(settings.window_s)
        self._returning: dict[Kind, set[ServiceKey]] = {kind: set() for kind in Kind}
        self._hold: _Hold | None = None
        self._trips = 0
        self._total = 0
        self._total_due_s = float("-inf")

    def take(self, event: Event, now_s: float) -> Sequence[Event]:
        """Return what is to be given to the store now, in this order."""
        if not self._on:
            return (event,)
        match event:
            case Apply(object=thing):
                return self._take_object(event, thing) if self._is_busy else (event,)
            case InitApply(object=thing):
                return self._take_object(event, thing) if self._is_busy else (event,)
            case Delete(kind=kind, key=key):
                return self._take_removal(event, self._store.object(kind, key), now_s)
            case Init():
                return (event,)
            case InitDone():
                return self._take_list(event, now_s)

    def prepare(self, event: InitDone, now_s: float) -> Sequence[Event]:
        """Return a short turn's worth of what the end of a complete list would bring.

        To be asked, and its events given to the store, until there are none; then `take` has
        little left to do, and so has the store: 20,000 objects in one go are a tenth of a second.
        """
        unseen = self._store.unseen(event.kind, event.namespace)
        if not unseen:
            return ()
        if not self._on:
            return [Delete(event.kind, key) for key in islice(unseen, _AT_ONCE)]
        gone = self._gone_by_service(event.kind, unseen, _AT_ONCE)
        kept, passed, after = self._take_gone(event.kind, gone, now_s)
        deletions = [Delete(event.kind, thing.key) for thing in passed]
        return [*map(InitApply, kept), *deletions, *after]

    def due(self, now_s: float) -> Sequence[Event]:
        """Return what is to be given to the store because its time is over.

        Not more than a short turn's worth: look at `next_due_s` again after it.
        """
        self._expire(now_s)
        if self._hold is None:
            return self._follow_lingering(now_s)
        if now_s < self._hold.deadline_s:
            return ()
        return self._follow_held(self._hold)

    @property
    def next_due_s(self) -> float | None:
        """When to call `due`; None where nothing waits for time to pass."""
        times = [
            self._hold.deadline_s if self._hold else None,
            self._lingering[0][0] + self._linger_s if self._lingering else None,
            self._recent[0][0] + self._settings.window_s if self._recent else None,
            self._memory.next_due_s,
        ]
        return min((time for time in times if time is not None), default=None)

    def suspect(self, now_s: float, why: str) -> Sequence[Event]:
        """Hold whatever was lost within the window, and all that is lost from now on.

        For a source that learned that no deletion can be believed, as where the CRD itself is
        gone. A hold in force gets the full grace time from here, once.
        """
        if not self._on:
            return ()
        self._expire(now_s)
        deadline_s = now_s + self._settings.grace_s
        if self._hold is None:
            return self._begin_hold(_Hold(deadline_s, why, suspected=True))
        if not self._hold.suspected:
            self._hold = _Hold(deadline_s, why, suspected=True)
            self._report_hold(self._hold)
        return ()

    def follow(self, event: InitDone) -> Sequence[Event]:
        """Take the end of a list unguarded, and give up what is withheld where it applies.

        For what counts as an empty list, as a CRD that is gone for longer than the grace time.
        """
        events: list[Event] = [event]
        for service in _within(self._waiting, event.namespace):
            events += self._remove(service)
            del self._waiting[service]
        for service in _within(self._followed, event.namespace):
            self._memory.pop(service)
            del self._followed[service]
        self._end_hold_of_nothing("the source says that it was meant")
        return events

    def statistics(self) -> Statistics:
        """Say what is held, until when and why."""
        waiting, hold = len(self._waiting), self._hold
        if hold is None:
            return Statistics(0, waiting, None, self._trips, "")
        return Statistics(waiting, 0, hold.deadline_s, self._trips, hold.why)

    @property
    def _is_busy(self) -> bool:
        return bool(self._waiting or self._followed or self._memory)

    def _take_object(self, event: Apply | InitApply, thing: Object) -> Sequence[Event]:
        """An object is there: it is withheld no more, and its service may be back."""
        kind, key = kind_of(thing), thing.key
        self._memory.forget(kind, key)
        events: list[Event] = [event]
        if self._withheld.discard(kind, key):
            self._leave(thing, self._store.object(kind, key))
        service = service_of(thing)
        if service not in self._waiting and service not in self._followed:
            return events
        if not self._withheld.has_own_answer(service, thing):
            self._drop_if_nothing_is_withheld(service)
        elif isinstance(event, InitApply) and any(self._withheld.of(service)):
            self._returning[kind].add(service)  # the list may show the rest of it yet
        else:
            events += self._cancel(service)
        if service not in self._waiting:
            self._end_hold_of_nothing(_BACK)
        return events

    def _leave(self, thing: Object, before: Object | None) -> None:
        """A withheld slice that comes back for another service leaves the one it was of."""
        if before is not None and service_of(before) != service_of(thing):
            self._drop_if_nothing_is_withheld(service_of(before))

    def _drop_if_nothing_is_withheld(self, service: ServiceKey) -> None:
        """Objects that changed can leave a service lost with nothing left to hold it by."""
        if service in self._waiting and not any(self._withheld.of(service)):
            self._cancel(service)

    def _take_removal(self, event: Delete, thing: Object | None, now_s: float) -> Sequence[Event]:
        if thing is None:
            return (event,)
        self._expire(now_s)
        service = service_of(thing)
        if service in self._waiting:
            self._withheld.add(event.kind, event.key)
            return ()
        if not self._withheld.is_loss(event.kind, service, 1):
            self._memory.add(thing, now_s)
            return (event,)
        self._withheld.add(event.kind, event.key)
        return self._lose([service], now_s)

    def _take_list(self, event: InitDone, now_s: float) -> Sequence[Event]:
        """A list is complete: what of the unseen is withheld is asserted before its end."""
        unseen = self._store.unseen(event.kind, event.namespace)
        gone = self._gone_by_service(event.kind, unseen, len(unseen))
        returning = self._returning[event.kind]
        for service in _within(returning, event.namespace):
            returning.discard(service)
            if service in self._waiting:
                gone.setdefault(service, [])
        kept, _, after = self._take_gone(event.kind, gone, now_s)
        return [*map(InitApply, kept), event, *after]

    def _gone_by_service(
        self, kind: Kind, unseen: Collection[ObjectKey], most: int
    ) -> dict[ServiceKey, list[Object]]:
        """Return whole services, all that a list would take away of each."""
        gone: dict[ServiceKey, list[Object]] = {}
        for key in islice(unseen, most):
            thing = self._store.object(kind, key)
            if thing is None or service_of(thing) in gone:
                continue
            if isinstance(thing, ServiceImport):
                gone[key] = [thing]
            else:
                service = service_of(thing)
                slices = self._store.orphans(service)
                gone[service] = [piece for piece in slices if piece.key in unseen]
        return gone

    def _take_gone(
        self, kind: Kind, gone: dict[ServiceKey, list[Object]], now_s: float
    ) -> tuple[list[Object], list[Object], list[Event]]:
        """Return what to keep, what may go, and what is to be done after that."""
        self._expire(now_s)
        waiting = len(self._waiting)
        kept: list[Object] = []
        passed: list[Object] = []
        lost: list[ServiceKey] = []
        after: list[Event] = []
        for service, things in gone.items():
            if service in self._waiting:
                if not self._withheld.has_own_answer(service, gone=things):
                    kept += things
                    continue
                after += self._cancel(service)
            elif self._withheld.is_loss(kind, service, len(things)):
                kept += things
                lost.append(service)
                continue
            passed += things
        for thing in kept:
            self._withheld.add(kind, thing.key)
        for thing in passed:
            self._memory.add(thing, now_s)
        after += self._lose(lost, now_s)
        if len(self._waiting) < waiting:
            self._end_hold_of_nothing(_BACK)
        return kept, passed, after

    def _lose(self, services: list[ServiceKey], now_s: float) -> list[Event]:
        """Let services wait whose removed objects are withheld; hold them where it is too much."""
        self._waiting.update(dict.fromkeys(services, now_s))
        if self._hold:
            return [event for service in services for event in self._put_back(service)]
        lost = [(now_s, service) for service in services]
        self._lingering += lost
        self._recent += lost
        count = len(self._waiting) + len(self._followed)
        if not services or not self._is_too_much(count, now_s):
            return []
        why = f"{count} of {self._total} services lost their last answer"
        return self._begin_hold(_Hold(now_s + self._settings.grace_s, why, suspected=False))

    def _is_too_much(self, count: int, now_s: float) -> bool:
        """Compare with a number that may be a second old, and only if need be with a new one."""
        settings = self._settings
        if count < settings.least:
            return False
        if now_s < self._total_due_s and count <= settings.share * self._total:
            return False
        self._total = self._withheld.answering() + len(self._followed)
        self._total_due_s = now_s + _COUNT_EVERY_S
        return count > settings.share * self._total

    def _begin_hold(self, hold: _Hold) -> list[Event]:
        """Hold all that lingers and put back what was followed within the window."""
        self._hold = hold
        self._trips += 1
        self._lingering.clear()
        self._recent.clear()
        events: list[Event] = []
        for service in self._waiting:
            events += self._put_back(service)
        for service, lost_s in self._followed.items():
            back = self._put_back(service)
            if back:
                self._waiting[service] = lost_s
                events += back
        self._followed.clear()
        self._report_hold(hold)
        return events

    def _report_hold(self, hold: _Hold) -> None:
        self._report(
            "mass deletion held: %s; the last known answers of %d services, and of all that are "
            "lost meanwhile, stay for %g s, then the deletion is followed; if it was not meant, "
            "bring the objects back within that time",
            hold.why,
            len(self._waiting),
            self._settings.grace_s,
        )

    def _put_back(self, service: ServiceKey) -> list[Event]:
        back = self._memory.pop(service)
        for thing in back:
            self._withheld.add(kind_of(thing), thing.key)
        return [InitApply(thing) for thing in back]  # no news: what `Apply` would be

    def _cancel(self, service: ServiceKey) -> list[Event]:
        """A service is back: really remove what is still withheld of it."""
        self._followed.pop(service, None)
        if self._waiting.pop(service, None) is None:
            return []
        return self._remove(service)

    def _end_hold_of_nothing(self, why: str) -> None:
        if self._hold and not self._waiting:
            self._hold = None
            self._report("mass deletion no longer held: %s", why)

    def _remove(self, service: ServiceKey) -> list[Event]:
        """Withhold nothing of a service any more."""
        events: list[Event] = []
        for kind, thing in self._withheld.of(service):
            self._withheld.discard(kind, thing.key)
            events.append(Delete(kind, thing.key))
        return events

    def _follow_lingering(self, now_s: float) -> list[Event]:
        events: list[Event] = []
        queue = self._lingering
        for _ in range(_AT_ONCE):
            if not queue or queue[0][0] + self._linger_s > now_s:
                break
            lost_s, service = queue.popleft()
            if self._waiting.get(service) == lost_s:
                del self._waiting[service]
                self._followed[service] = lost_s
                for _, thing in self._withheld.of(service):
                    self._memory.add(thing, now_s)
                events += self._remove(service)
        return events

    def _follow_held(self, hold: _Hold) -> list[Event]:
        if not hold.ending:
            hold.ending = True
            self._report(
                "mass deletion followed: %d services did not come back within the grace time",
                len(self._waiting),
            )
        events: list[Event] = []
        for service in list(islice(reversed(self._waiting), _AT_ONCE)):
            del self._waiting[service]
            events += self._remove(service)
        if not self._waiting:
            self._hold = None
        return events

    def _expire(self, now_s: float) -> None:
        """Forget what is older than the window."""
        window_s, queue = self._settings.window_s, self._recent
        self._memory.expire(now_s)
        while queue and queue[0][0] + window_s <= now_s:
            lost_s, service = queue.popleft()
            if self._followed.get(service) == lost_s:
                del self._followed[service]


def _within(services: Iterable[ServiceKey], namespace: str) -> list[ServiceKey]:
    return [service for service in services if namespace in ("", service[0])]
