"""What the guard knows of removals: which objects are withheld, and which were removed lately.

`Withheld` tells what a service answers by what the source says, which is what the store holds
without the withheld objects; `Memory` keeps what left the store within a window.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from mcsdns.objects.model import EndpointSlice, ImportType, Kind, Object, ServiceImport
from mcsdns.objects.store import ObjectKey, ServiceKey, Store


def kind_of(thing: Object) -> Kind:
    """Return the kind of an object."""
    return Kind.SERVICE_IMPORT if isinstance(thing, ServiceImport) else Kind.ENDPOINT_SLICE


def service_of(thing: Object) -> ServiceKey:
    """Return the service that an object is of."""
    if isinstance(thing, ServiceImport):
        return thing.namespace, thing.name
    return thing.namespace, thing.service


class Withheld:
    """Objects that the source removed and the store still holds, and what follows from them."""

    def __init__(self, store: Store, *, slices_matter: bool) -> None:
        """Nothing is withheld; see `GuardSettings` for `slices_matter`."""
        self._store = store
        self._slices_matter = slices_matter
        self._keys: dict[Kind, set[ObjectKey]] = {kind: set() for kind in Kind}

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def add(self, kind: Kind, key: ObjectKey) -> None:
        """Withhold the removal of an object."""
        self._keys[kind].add(key)

    def discard(self, kind: Kind, key: ObjectKey) -> bool:
        """Withhold an object no more; say whether it was."""
        if key not in self._keys[kind]:
            return False
        self._keys[kind].remove(key)
        return True

    def of(self, service: ServiceKey) -> Iterator[tuple[Kind, Object]]:
        """Iterate over what is withheld of a service."""
        imported = self._store.imports.get(service)
        if imported is not None and service in self._keys[Kind.SERVICE_IMPORT]:
            yield Kind.SERVICE_IMPORT, imported
        slices = self._keys[Kind.ENDPOINT_SLICE]
        if slices:
            for piece in self._store.orphans(service):
                if piece.key in slices:
                    yield Kind.ENDPOINT_SLICE, piece

    def is_loss(self, kind: Kind, service: ServiceKey, gone: int) -> bool:
        """Say whether so many objects of a service are its last answer.

        For a service of which nothing is withheld.
        """
        imported = self._store.imports.get(service)
        if imported is None:
            return False
        if not self._needs_slice(imported):
            return kind is Kind.SERVICE_IMPORT
        slices = len(self._store.orphans(service))
        return slices > 0 if kind is Kind.SERVICE_IMPORT else slices <= gone

    def has_own_answer(
        self, service: ServiceKey, shown: Object | None = None, gone: Sequence[Object] = ()
    ) -> bool:
        """Say whether a service has an answer without what is withheld or gone, but as shown."""
        away = {thing.key for thing in gone}
        is_import_away = any(isinstance(thing, ServiceImport) for thing in gone)
        imported = self._store.imports.get(service)
        if is_import_away or service in self._keys[Kind.SERVICE_IMPORT]:
            imported = None
        if isinstance(shown, ServiceImport):
            imported = shown
        if imported is None:
            return False
        if not self._needs_slice(imported) or isinstance(shown, EndpointSlice):
            return True
        hidden = self._keys[Kind.ENDPOINT_SLICE]
        return any(
            piece.key not in away and piece.key not in hidden
            for piece in self._store.orphans(service)
        )

    def answering(self) -> int:
        """Count the services that have an answer, withheld ones included."""
        orphans = self._store.orphans
        return sum(
            1
            for service, imported in self._store.imports.items()
            if not self._needs_slice(imported) or orphans(service)
        )

    def _needs_slice(self, imported: ServiceImport) -> bool:
        if imported.type is ImportType.HEADLESS:
            return True
        return self._slices_matter and not imported.ips


class Memory:
    """What left the store within a window, to be put back if that turns out to be suspicious."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._of: dict[ServiceKey, dict[tuple[Kind, ObjectKey], Object]] = {}
        self._places: dict[tuple[Kind, ObjectKey], tuple[float, ServiceKey]] = {}
        self._queue: deque[tuple[float, tuple[Kind, ObjectKey]]] = deque()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def next_due_s(self) -> float | None:
        """When there is something to forget."""
        return self._queue[0][0] + self._window_s if self._queue else None

    def add(self, thing: Object, now_s: float) -> None:
        """Remember an object that is removed now."""
        identity, service = (kind_of(thing), thing.key), service_of(thing)
        self.forget(*identity)
        self._places[identity] = (now_s, service)
        self._of.setdefault(service, {})[identity] = thing
        self._queue.append((now_s, identity))

    def forget(self, kind: Kind, key: ObjectKey) -> None:
        """Forget one object, as when it is there again."""
        place = self._places.pop((kind, key), None)
        if place is not None:
            things = self._of[place[1]]
            del things[kind, key]
            if not things:
                del self._of[place[1]]

    def pop(self, service: ServiceKey) -> list[Object]:
        """Return what is remembered of a service, and forget it."""
        things = self._of.pop(service, {})
        for identity in things:
            del self._places[identity]
        return list(things.values())

    def expire(self, now_s: float) -> None:
        """Forget what was removed before the window."""
        queue = self._queue
        while queue and queue[0][0] + self._window_s <= now_s:
            removed_s, identity = queue.popleft()
            place = self._places.get(identity)
            if place is not None and place[0] == removed_s:
                self.forget(*identity)
