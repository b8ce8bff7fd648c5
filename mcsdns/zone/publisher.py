"""Event -> store -> records -> tree: the only writer of the tree.

`apply` takes an event at once. `publish` then rebuilds the services that it touched, as many as the
caller has time for, and yields the owners whose answers changed. Time comes from the caller.

A service with many endpoints is rebuilt in many steps, and changes in the tree with the last one.
Where it is touched meanwhile it waits again: what was begun is published all the same, or a service
that changes all the time never would be.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from mcsdns.objects.events import Event
from mcsdns.objects.model import Problem
from mcsdns.objects.store import ServiceKey, Store
from mcsdns.zone.name_shape import namespace_of
from mcsdns.zone.records import node_of
from mcsdns.zone.tree import ClustersetIps, Tree, ZoneSettings, labels_of_key

Report = Callable[[Problem], None]


class Publisher:
    """Keeps one tree equal to one store."""

    def __init__(self, store: Store, tree: Tree, report: Report) -> None:
        self._store = store
        self._tree = tree
        self._report = report
        self._dirty: OrderedDict[ServiceKey, None] = OrderedDict()
        self._begun: Iterator[tuple[bytes, ...]] | None = None
        self._serial = 0
        self._serial_second = 0
        self._serial_due = True

    def apply(self, event: Event) -> None:
        """Take an event into the store; the services it touched wait for `publish`."""
        self._dirty.update(dict.fromkeys(self._store.apply(event)))

    def replace_settings(self, settings: ZoneSettings) -> None:
        """Take another TTL, per-cluster answer, name server addresses and size of answers; no more.

        They are read at every lookup, so no service is rebuilt. The records of the zones differ, so
        the next serial is due; the SOA records are rendered with it.
        """
        self._tree.settings = settings
        for zone in self._tree.zones:
            zone.ttl = settings.ttl
        self._serial_due = True

    @property
    def pending(self) -> int:
        """How many services wait for `publish`."""
        return len(self._dirty) + (self._begun is not None)

    def publish(self) -> Iterator[tuple[bytes, ...]]:
        """Rebuild the waiting services; yield, in short steps, the owners whose answers changed.

        Stop iterating to leave the rest for later. Owners are those of `name_shape.owner_of`. A
        service that meets a fault of ours keeps none of the others from being published.
        """
        while self._begun or self._dirty:
            if self._begun is None:
                key, _ = self._dirty.popitem(last=False)  # a plain dict takes longer each time
                self._begun = self._steps(key)
            for owners in self._begun:  # noqa: UP028 - `yield from` would end it with the caller
                yield owners
            self._begun = None

    def step_serial(self, now_s: int) -> bool:
        """Give the zone a new serial if it changed: max(last + 1, Unix seconds).

        At most one step a second, so that a busy zone does not run ahead of the clock; returns
        whether a change still waits for the next second.
        """
        if not self._serial_due:
            return False
        if now_s == self._serial_second:
            return True
        self._serial_second = now_s
        self._serial = max(self._serial + 1, now_s) & 0xFFFFFFFF
        self._serial_due = False
        for zone in self._tree.zones:
            zone.replace_serial(self._serial)
        return False

    @property
    def serial(self) -> int:
        """The SOA serial in force."""
        return self._serial

    def _steps(self, key: ServiceKey) -> Iterator[tuple[bytes, ...]]:
        try:
            yield from self._rebuild(key)
        except Exception as fault:
            text = f"a fault of mcsdns, {fault!r}: it is answered as before; report it, please"
            self._report(Problem("fault", f"ServiceImport {key[0]}/{key[1]}", "$", text))
            yield ()

    def _rebuild(self, key: ServiceKey) -> Iterator[tuple[bytes, ...]]:
        labels = labels_of_key(key)
        service = self._store.get(key)
        before, after = self._tree.services.get(labels), None
        if service is not None:
            from_slices = self._tree.settings.clusterset_ips is ClustersetIps.SLICES
            room = self._tree.name_room - len(labels)
            after = yield from node_of(service, room, ips_from_slices=from_slices)
        if before == after:
            yield ()
            return
        if after and after.long_names and (not before or before.long_names != after.long_names):
            text = (
                f"{after.long_names} names would be over 255 octets, they are not served; "
                "shorten host names or cluster IDs"
            )
            self._report(Problem("long_name", f"ServiceImport {key[0]}/{key[1]}", "$", text))
        namespace_changed = self._tree.replace_service(labels, after)
        self._serial_due = True
        yield (labels, b"\0" + namespace_of(labels)) if namespace_changed else (labels,)
