"""The guard against mass deletion: it keeps services for a while if too many vanish together.

It stands between a source and the store: `take` returns what of an event the store may have now,
`end_list` what the end of a list brings, `due` what it may have because a time is over. The store
then holds what the source says and, beside it, what is withheld. The guard reads the store and
never writes to it; time is monotonic seconds from the caller. Whatever a call returns goes to the
store before the next call.

A service has an answer while its import exists and, where its addresses come from slices, at least
one slice. Taking the last answer away is a loss. A loss is in one of three states:

    lost -> lingering -> followed -> forgotten, a window after it was lost
                |            |
                +-> held <---+       when there are too many losses within one window
                      |
                      +-> followed for good when the grace time is over

    lingering   The objects are withheld. Deleting a CRD deletes its objects one by one, and nothing
                in the watch tells this from any other deletion; when it can be told, a few seconds
                later, half of them are gone. So every loss waits a little, which leaves no gap
                where an object is deleted and created anew either (decision record 0006).
    followed    The objects left the store, and are remembered. A deleter can be so slow that its
                first losses are followed before there are too many: a hold puts them back.
    held        The objects are withheld until the grace time is over.

How many are too many. A controller deletes at the pace of its client (client-go: 5 a second), so
half of 10,000 services take 1,000 seconds: the window is as long. What is counted is the share of
the services that had answers when the window began, which is when the oldest loss that is
remembered happened:

    lost of them / all of them > share    all of them = answering now + followed - newcomers

A newcomer had its first answer after that. It is not counted when it is lost: of ten services that
stay and one that is made anew and deleted every ten seconds, half would be "lost" otherwise. The
right side changes only when a loss or a newcomer becomes older than the window, so it is counted
seldom, and a loss costs the same whatever the number of services.

How long a hold lasts. The grace time; and where the deletion went on for more than `_QUICK_S`,
twice as long, since what brings it back comes at a pace too, and has to start. A hold during which
`least` more services were lost or came back is prolonged to that long after the last one, so that
a deletion of half an hour is not followed while it goes on, or while its objects are brought back.
What never comes to rest is followed after `_MOST_WINDOWS`.

What is remembered is bounded. Losses: each stands for a service that the store held a window ago.
Their objects: by octets (`_Memory`); the oldest are forgotten first, which means that a hold does
not put them back. They are counted still.

From each state an object that comes back leads out: once a service has an answer of its own, what
is still withheld of it is really removed, and its loss is forgotten.

What always holds:

- A service has at most one `_Loss`, which is in one of three dicts: `_waiting` (lingering, or held
  while there is a hold), `_followed`, or `_thinned`. The last one is no loss: some slices of the
  service were removed, and it still has an answer or never had one. If it is lost and held within
  `_QUICK_S`, they are put back too; slices that went before that were replaced by others.
- Without a hold each dict is in the order of time, so its first entry is the next one that is due.
- During a hold `_followed` has what is still to be put back, a short turn at a time; it is empty
  again before anything held is followed.
- An object is withheld exactly if the source removed it and the store still has it. What is
  withheld is asserted anew, so that the end of a list does not take it out of the store.
- A list takes no answer away before its end: a service that it shows again is judged there, when
  all of its objects were shown.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from mcsdns.objects.events import Apply, Delete, Event, InitApply, InitDone
from mcsdns.objects.model import EndpointSlice, ImportType, Kind, Object, ServiceImport
from mcsdns.objects.store import ObjectKey, ServiceKey, Store

_COUNT_EVERY_S: Final = 60.0
"""How long the number of services that have answers is believed; counting 10,000 takes 2 ms."""
_QUICK_S: Final = 10.0
"""A deletion that takes longer is one at a client's pace."""
_PACED: Final = 2
"""So many grace times a deletion is held that goes on at a client's pace."""
_MOST_WINDOWS: Final = 3
"""So many windows a hold lasts at most: half is lost in the first, the rest as slowly, and back."""
_MOST_NEWCOMERS: Final = 50_000
"""About 200 octets each; the oldest ones count as if they had always been there."""
_AT_ONCE: Final = 100
"""So many services one call looks at, about a millisecond with what the store does then."""
_BACK: Final = "all that was lost is back"

_Identity = tuple[Kind, ObjectKey]


class DeletionGuardSettings(msgspec.Struct, frozen=True):
    """When the guard trips and how long it holds.

    Attributes:
        share: losses above this share of all services that had answers are held; 0 is off.
        least: fewer losses than this are never held.
        window_s: how long losses are counted together, and remembered.
        grace_s: how long they are held; 0 is off.
        linger_s: how long every loss waits, at most `window_s`.
        most_bytes: about as much memory may hold what is remembered of lost objects.
        slices_matter: whether a ClusterSetIP service without addresses takes them from slices.
    """

    share: float = 0.5
    least: int = 10
    window_s: float = 1200.0
    grace_s: float = 60.0
    linger_s: float = 2.0
    most_bytes: int = 32 << 20
    slices_matter: bool = False


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        held: services that a hold keeps. lingering: lost and not yet followed.
        deadline_s: when the hold ends, in the caller's clock; None where there is none.
        trips: how often a hold began.
        why: what the hold began with, for people; empty where there is none.
        shed: lost objects that were forgotten before their time, for want of room.
    """

    held: int
    lingering: int
    deadline_s: float | None
    trips: int
    why: str
    shed: int = 0


class _Loss(msgspec.Struct):
    """What was taken away of one service.

    Attributes:
        at_s: when the service was lost; where it is not, when an object was removed last.
        withheld: removed by the source, and still in the store.
        removed: gone from the store too; remembered, where there was room.
        shown_by: kinds whose list in progress shows the service again.
        is_newcomer: the service was not there when the window began.
    """

    at_s: float
    withheld: set[_Identity] = msgspec.field(default_factory=set[_Identity])
    removed: set[_Identity] = msgspec.field(default_factory=set[_Identity])
    shown_by: set[Kind] = msgspec.field(default_factory=set[Kind])
    is_newcomer: bool = False


class _Hold(msgspec.Struct):
    """A hold in force.

    Attributes:
        moves: services lost or back since it began or was prolonged; moved_s: the last of them.
        ending: its time is over, and it is being followed. is_told: it was reported.
    """

    began_s: float
    deadline_s: float
    why: str
    suspected: bool
    moves: int = 0
    moved_s: float = 0.0
    ending: bool = False
    is_told: bool = False


class _Memory:
    """Objects that left the store, in the order of time, in bounded space.

    Attributes:
        shed: how many were forgotten for want of room.
    """

    def __init__(self, most_bytes: int) -> None:
        self.shed = 0
        self._room = most_bytes
        self._things: OrderedDict[_Identity, tuple[float, int, Object]] = OrderedDict()

    def remember(self, thing: Object, now_s: float) -> _Identity:
        """Remember an object, and forget older ones where there is no room."""
        identity = (thing.kind, thing.key)
        self.forget(identity)
        size_bytes = _size_bytes(thing)
        self._room -= size_bytes
        self._things[identity] = (now_s, size_bytes, thing)
        while self._room < 0:
            self.forget(next(iter(self._things)))
            self.shed += 1
        return identity

    def forget(self, identity: _Identity) -> None:
        """Forget an object, if it is remembered."""
        found = self._things.pop(identity, None)
        if found:
            self._room += found[1]

    def recall(self, identity: _Identity, service: ServiceKey) -> tuple[float, Object] | None:
        """Return an object of a service, and when it went."""
        found = self._things.get(identity)
        return (found[0], found[2]) if found and found[2].service_key == service else None


class DeletionGuard:
    """Withholds removals from one store; see the module for the states of a loss."""

    def __init__(
        self, store: Store, settings: DeletionGuardSettings, report: Callable[..., None]
    ) -> None:
        """Guard `store`; `report` takes a text and its fields when a hold begins and ends."""
        self._store = store
        self._settings = settings
        self._report = report
        self._is_on = settings.share > 0 and settings.grace_s > 0
        self._linger_s = min(settings.linger_s, settings.window_s)
        self._quick_s = min(_QUICK_S, settings.window_s)
        self._waiting: OrderedDict[ServiceKey, _Loss] = OrderedDict()
        self._followed: OrderedDict[ServiceKey, _Loss] = OrderedDict()
        self._thinned: OrderedDict[ServiceKey, _Loss] = OrderedDict()
        self._newcomers: OrderedDict[ServiceKey, float] = OrderedDict()
        self._memory = _Memory(settings.most_bytes)
        self._shed_told_s = float("-inf")
        self._hold: _Hold | None = None
        self._trips = 0
        self._total = 0
        self._total_due_s = float("-inf")

    def take(self, event: Event, now_s: float) -> Sequence[Event]:
        """Return what is to be given to the store now, in this order; ends of lists apart."""
        if not self._is_on:
            return (event,)
        match event:
            case Apply() | InitApply():
                is_busy = self._waiting or self._followed or self._thinned
                return self._take_object(event, now_s) if is_busy else (event,)
            case Delete(kind=kind, key=key):
                thing = self._store.object(kind, key)
                events = self._take_removal([thing], now_s) if thing else (event,)
                self._tell_hold()
                return events
            case _:
                return (event,)

    def end_list(self, event: InitDone, clock: Callable[[], float]) -> Iterator[Sequence[Event]]:
        """Iterate over what the end of a list brings, service by service.

        Each piece is to be given to the store before the next one is asked for. The end itself,
        which comes last, has little left to do then: 20,000 objects in one go are a tenth of a
        second.
        """
        unseen = self._store.unseen(event.kind, event.namespace)
        taken: set[ServiceKey] = set()
        for key in unseen:
            thing = self._store.object(event.kind, key)
            if not self._is_on:
                yield [Delete(event.kind, key)]
            elif thing is not None and thing.service_key not in taken:
                taken.add(thing.service_key)
                pieces = self._store.orphans(thing.service_key)
                is_import = isinstance(thing, ServiceImport)
                things = [thing] if is_import else [each for each in pieces if each.key in unseen]
                yield self._take_removal(things, clock())
        self._tell_hold()  # not before all is counted that the list takes
        yield [*self._judge_shown(event, clock()), event]

    def due(self, now_s: float) -> Sequence[Event]:
        """Return what is to be given to the store because its time is over.

        Not more than takes about a millisecond: look at `next_due_s` again after it.
        """
        self._expire(now_s)
        if self._hold is None:
            return self._follow_lingering(now_s)
        if self._followed:
            return self._put_back_followed()
        if now_s < self._hold.deadline_s or self._prolong(self._hold, now_s):
            return ()
        return self._follow_held(self._hold)

    @property
    def next_due_s(self) -> float | None:
        """When to call `due`; None where nothing waits for time to pass."""
        times = [_first(self._thinned).at_s + self._quick_s] if self._thinned else []
        if self._hold:
            times.append(self._hold.began_s if self._followed else self._hold.deadline_s)
            return min(times)
        if self._followed:
            times.append(_first(self._followed).at_s + self._settings.window_s)
        if self._waiting:
            times.append(_first(self._waiting).at_s + self._linger_s)
        return min(times, default=None)

    def suspect(self, now_s: float, why: str) -> Sequence[Event]:
        """Hold whatever was lost within the window, and all that is lost from now on.

        For a source that learned that no deletion can be believed, as where the CRD itself is
        gone. A hold in force gets the full grace time from here, once.
        """
        if not self._is_on:
            return ()
        self._expire(now_s)
        hold = _Hold(now_s, now_s + self._settings.grace_s, why, suspected=True)
        events: Sequence[Event] = ()
        if self._hold is None:
            events = self._begin_hold(hold)
        elif not self._hold.suspected:
            self._hold = hold
        self._tell_hold()
        return events

    def follow(self, event: InitDone) -> Sequence[Event]:
        """Take the end of a list unguarded, and give up what is withheld where it applies.

        For what counts as an empty list, as a CRD that is gone for longer than the grace time.
        """
        events: list[Event] = [event]
        for losses in (self._waiting, self._followed):
            for service in _within(losses, event.namespace):
                loss = losses.pop(service)
                self._forget(loss)
                events += _deletions(loss)
        self._end_hold_of_nothing("the source says that it was meant")
        return events

    def statistics(self) -> Statistics:
        """Return what is held, until when and why."""
        waiting, hold, shed = len(self._waiting), self._hold, self._memory.shed
        if hold is None:
            return Statistics(0, waiting, None, self._trips, "", shed)
        held = waiting + len(self._followed)
        return Statistics(held, 0, hold.deadline_s, self._trips, hold.why, shed)

    # Objects that are there

    def _take_object(self, event: Apply | InitApply, now_s: float) -> Sequence[Event]:
        """An object is there: it is not gone any more, and its service may be back."""
        thing = event.object
        identity, service = (thing.kind, thing.key), thing.service_key
        self._no_longer_withheld(identity, service)
        events: list[Event] = [event]
        self._memory.forget(identity)
        loss = self._waiting.get(service) or self._followed.get(service)
        if loss is None:
            self._note_newcomer(service, thing, now_s)
            return events
        if not self._has_own_answer(service, loss, thing):
            self._forget_if_nothing_is_withheld(service)
        elif isinstance(event, InitApply) and loss.withheld:
            loss.shown_by.add(thing.kind)  # the list may show the rest of it yet
        else:
            events += self._come_back(service, now_s)
        if service not in self._waiting:
            self._end_hold_of_nothing(_BACK)
        return events

    def _note_newcomer(self, service: ServiceKey, shown: Object, now_s: float) -> None:
        """Note a service that gets its first answer after the window began."""
        if not (self._waiting or self._followed):
            return
        imported, pieces = self._store.imports.get(service), self._store.orphans(service)
        if self._answers(imported, len(pieces)):
            return
        if isinstance(shown, ServiceImport):
            imported = shown
        if self._answers(imported, len(pieces) + isinstance(shown, EndpointSlice)):
            self._add_newcomer(service, now_s)

    def _add_newcomer(self, service: ServiceKey, now_s: float) -> None:
        self._newcomers[service] = now_s
        if len(self._newcomers) > _MOST_NEWCOMERS:
            self._newcomers.popitem(last=False)

    def _no_longer_withheld(self, identity: _Identity, service: ServiceKey) -> None:
        """Take an object out of the loss it is withheld for, which may be another service's."""
        before = self._store.object(*identity)
        loss = self._waiting.get(before.service_key) if before else None
        if before is None or loss is None or identity not in loss.withheld:
            return
        loss.withheld.remove(identity)
        if before.service_key != service:
            self._forget_if_nothing_is_withheld(before.service_key)

    def _forget_if_nothing_is_withheld(self, service: ServiceKey) -> None:
        """Objects that changed can leave a service lost with nothing left to keep it by."""
        loss = self._waiting.get(service)
        if loss is not None and not loss.withheld:
            self._forget(self._waiting.pop(service))

    def _come_back(self, service: ServiceKey, now_s: float) -> list[Event]:
        """A service has an answer of its own: really remove what is still withheld of it."""
        loss = self._waiting.pop(service, None) or self._followed.pop(service)
        self._forget(loss)
        self._note_move(now_s)
        if loss.is_newcomer:
            self._add_newcomer(service, now_s)
        return _deletions(loss)

    def _forget(self, loss: _Loss) -> None:
        for identity in loss.removed:
            self._memory.forget(identity)
        loss.removed.clear()

    # Objects that are gone

    def _take_removal(self, things: Sequence[Object], now_s: float) -> Sequence[Event]:
        """Objects of one kind and one service are gone: they are withheld, or may go."""
        self._expire(now_s)
        kind, service = things[0].kind, things[0].service_key
        if service in self._waiting:
            self._waiting[service].withheld.update((kind, thing.key) for thing in things)
            return [InitApply(thing) for thing in things]
        if self._is_loss(kind, service, len(things)):
            return [*map(InitApply, things), *self._lose(service, things, now_s)]
        loss = self._followed.get(service)
        if loss is None:
            loss = self._thinned[service] = self._recent_loss(service, now_s)
        self._remember(loss, things, now_s)
        return [Delete(kind, thing.key) for thing in things]

    def _remember(self, loss: _Loss, things: Iterable[Object], now_s: float) -> None:
        before = self._memory.shed
        loss.removed.update(self._memory.remember(thing, now_s) for thing in things)
        if self._memory.shed > before and now_s - self._shed_told_s > self._settings.window_s:
            self._shed_told_s = now_s
            self._report(
                "more was deleted within %g s than the guard against mass deletion remembers "
                "(%d MiB): the oldest of it would not come back with a hold; look at what deletes "
                "ServiceImports and EndpointSlices",
                self._settings.window_s,
                self._settings.most_bytes >> 20,
            )

    def _recent_loss(self, service: ServiceKey, now_s: float) -> _Loss:
        """Return what was removed of a service a moment ago, to be put in its dict anew."""
        loss = self._thinned.pop(service, None) or _Loss(now_s)
        loss.at_s = now_s
        for identity in list(loss.removed):
            found = self._memory.recall(identity, service)
            if found is None:
                loss.removed.remove(identity)
            elif found[0] + self._quick_s <= now_s:  # a service may lose slices all the time
                loss.removed.remove(identity)
                self._memory.forget(identity)
        return loss

    def _lose(self, service: ServiceKey, things: Iterable[Object], now_s: float) -> list[Event]:
        """Withhold the last objects of a service; hold them where it is too much."""
        loss = self._waiting[service] = self._recent_loss(service, now_s)
        loss.withheld.update((thing.kind, thing.key) for thing in things)
        loss.is_newcomer = self._newcomers.pop(service, None) is not None
        if self._hold:
            self._note_move(now_s)
            return self._put_back(service, loss)
        count = len(self._waiting) + len(self._followed)
        if not self._is_too_much(count, now_s):
            return []
        first_s = _first(self._followed or self._waiting).at_s
        grace_s = self._settings.grace_s
        if now_s - first_s > self._quick_s:
            grace_s = min(_PACED * grace_s, self._longest_hold_s)
        hold = _Hold(now_s, now_s + grace_s, self._lost_text(count), suspected=False)
        return self._begin_hold(hold)

    def _lost_text(self, count: int) -> str:
        return f"{count} of {self._total} services lost their last answer"

    def _judge_shown(self, event: InitDone, now_s: float) -> list[Event]:
        """A list is complete: services that it showed again are back if they have an answer."""
        events: list[Event] = []
        for service in _within(self._waiting, event.namespace):
            loss = self._waiting[service]
            if event.kind in loss.shown_by:
                loss.shown_by.remove(event.kind)
                if self._has_own_answer(service, loss):
                    events += self._come_back(service, now_s)
        if events:
            self._end_hold_of_nothing(_BACK)
        return events

    # What has an answer

    def _answers(self, imported: ServiceImport | None, slices: int) -> bool:
        if imported is None:
            return False
        by_slices = self._settings.slices_matter and not imported.ips
        return slices > 0 or not (imported.type is ImportType.HEADLESS or by_slices)

    def _is_loss(self, kind: Kind, service: ServiceKey, gone: int) -> bool:
        """Returns whether so many objects of a kind are the last answer of a service."""
        imported, slices = self._store.imports.get(service), len(self._store.orphans(service))
        if not self._answers(imported, slices):
            return False
        return kind is Kind.SERVICE_IMPORT or not self._answers(imported, slices - gone)

    def _has_own_answer(
        self, service: ServiceKey, loss: _Loss, shown: Object | None = None
    ) -> bool:
        """Returns whether a service has an answer as shown, without what is withheld."""
        away = loss.withheld
        imported = self._store.imports.get(service)
        if isinstance(shown, ServiceImport):
            imported = shown
        elif (Kind.SERVICE_IMPORT, service) in away:
            imported = None
        slices = sum((piece.kind, piece.key) not in away for piece in self._store.orphans(service))
        return self._answers(imported, slices + isinstance(shown, EndpointSlice))

    def _is_too_much(self, count: int, now_s: float) -> bool:
        """Compare with a number that may be a minute old, and only if need be with a new one."""
        settings = self._settings
        if count < settings.least:
            return False
        if now_s < self._total_due_s and count <= settings.share * self._total:
            return False
        answering = sum(
            self._answers(imported, len(self._store.orphans(service)))
            for service, imported in self._store.imports.items()
        )
        self._total = answering + len(self._followed) - len(self._newcomers)
        self._total_due_s = now_s + _COUNT_EVERY_S
        return count > settings.share * self._total

    # The hold

    def _begin_hold(self, hold: _Hold) -> list[Event]:
        """Hold all that lingers, and put back what was followed within the window."""
        self._hold = hold
        self._trips += 1
        events: list[Event] = []
        for service, loss in self._waiting.items():
            events += self._put_back(service, loss)
        events += self._put_back_followed()
        return events

    @property
    def _longest_hold_s(self) -> float:
        return max(_MOST_WINDOWS * self._settings.window_s, self._settings.grace_s)

    def _note_move(self, now_s: float) -> None:
        if self._hold:
            self._hold.moves += 1
            self._hold.moved_s = now_s

    def _prolong(self, hold: _Hold, now_s: float) -> bool:
        """Go on holding where the deletion, or its end, is still under way."""
        if hold.ending or hold.moves < self._settings.least:
            return False
        wanted_s = hold.moved_s + _PACED * self._settings.grace_s
        hold.deadline_s = min(wanted_s, hold.began_s + self._longest_hold_s)
        hold.moves = 0
        return now_s < hold.deadline_s

    def _tell_hold(self) -> None:
        """Report a hold that began, with what was lost by now."""
        hold, held = self._hold, len(self._waiting) + len(self._followed)
        if hold is None or hold.is_told:
            return
        hold.is_told = True
        if not hold.suspected:
            hold.why = self._lost_text(held)
        self._report(
            "mass deletion held: %s; the last known answers of %d services, and of all that are "
            "lost meanwhile, stay for %g s, then the deletion is followed; if it was not meant, "
            "bring the objects back within that time",
            hold.why,
            held,
            hold.deadline_s - hold.began_s,
        )

    def _put_back_followed(self) -> list[Event]:
        """Put back some of what was followed within the window."""
        events: list[Event] = []
        for _ in range(min(_AT_ONCE, len(self._followed))):
            service, loss = self._followed.popitem(last=False)
            events += self._put_back(service, loss)
            if loss.withheld:
                self._waiting[service] = loss
        if not self._followed:
            self._end_hold_of_nothing("nothing is known any more of what was lost")
        return events

    def _put_back(self, service: ServiceKey, loss: _Loss) -> list[Event]:
        """Withhold what left the store, or leaves it with the event that is being taken.

        A slice that came back for another service meanwhile stays there.
        """
        events: list[Event] = []
        for identity in loss.removed:
            there = self._store.object(*identity)
            found = self._memory.recall(identity, service)
            if found and (there is None or there is found[1]):
                loss.withheld.add(identity)
                events.append(InitApply(found[1]))  # `Apply` would count as a change
        self._forget(loss)
        return events

    def _end_hold_of_nothing(self, why: str) -> None:
        if self._hold and not self._waiting and not self._followed:
            self._hold = None
            self._report("mass deletion no longer held: %s", why)

    # Time

    def _follow_lingering(self, now_s: float) -> list[Event]:
        events: list[Event] = []
        for _ in range(_AT_ONCE):
            if not self._waiting or _first(self._waiting).at_s + self._linger_s > now_s:
                break
            service, loss = self._waiting.popitem(last=False)
            things = [self._store.object(*identity) for identity in loss.withheld]
            events += _deletions(loss)
            if loss.is_newcomer:
                self._forget(loss)
            else:
                self._remember(loss, filter(None, things), now_s)
                self._followed[service] = loss
        return events

    def _follow_held(self, hold: _Hold) -> list[Event]:
        if not hold.ending:
            hold.ending = True
            self._report(
                "mass deletion followed: %d services did not come back within the grace time",
                len(self._waiting),
            )
        events: list[Event] = []
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            _, loss = self._waiting.popitem()
            events += _deletions(loss)
        if not self._waiting:
            self._hold = None
        return events

    def _expire(self, now_s: float) -> None:
        """Forget what is too old; without any loss there is no window, and there are no newcomers.

        During a hold `_followed` is what has to be put back yet, however old.
        """
        while self._thinned and _first(self._thinned).at_s + self._quick_s <= now_s:
            self._forget(self._thinned.popitem(last=False)[1])
        begin_s = now_s - self._settings.window_s
        if not self._hold:
            while self._followed and _first(self._followed).at_s <= begin_s:
                self._forget(self._followed.popitem(last=False)[1])
                self._total -= 1
        while self._newcomers and next(iter(self._newcomers.values())) <= begin_s:
            self._newcomers.popitem(last=False)
        if not (self._waiting or self._followed):
            self._newcomers.clear()
            self._total_due_s = float("-inf")


def _first(losses: OrderedDict[ServiceKey, _Loss]) -> _Loss:
    return losses[next(iter(losses))]


def _deletions(loss: _Loss) -> list[Event]:
    """Return the removals that were withheld, and withhold them no more."""
    events: list[Event] = [Delete(*identity) for identity in loss.withheld]
    loss.withheld.clear()
    return events


def _within(services: Iterable[ServiceKey], namespace: str) -> list[ServiceKey]:
    return [service for service in services if namespace in ("", service[0])]


def _size_bytes(thing: Object) -> int:
    """Return about how much memory an object takes (measured with `sys.getsizeof`, rounded up)."""
    if isinstance(thing, EndpointSlice):
        return 1200 + 500 * len(thing.endpoints) + 200 * len(thing.ports)
    texts = sum(300 + len(each.reason) + len(each.message) for each in thing.conditions)
    return 1200 + 100 * (len(thing.ips) + len(thing.clusters)) + 200 * len(thing.ports) + texts
