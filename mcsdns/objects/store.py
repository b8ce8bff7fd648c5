"""ServiceImports and EndpointSlices joined by (namespace, service).

One writer (`apply`), any number of readers in the same thread. The store answers for what the
objects say; it knows no DNS names and no time.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from mcsdns.objects.census import Census
from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import EndpointSlice, Kind, Object, ServiceImport

ServiceKey = tuple[str, str]
"""Namespace and service name."""
ObjectKey = tuple[str, str]
"""Namespace and name of an object."""


class Service(msgspec.Struct, frozen=True, gc=False):
    """One imported service: its ServiceImport and the slices that count for it, by name."""

    imported: ServiceImport
    slices: tuple[EndpointSlice, ...]


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of the store's size.

    Attributes:
        endpoints: those of slices whose service is imported. ready_endpoints: among them.
        slices_of: slices by source cluster, of at most `census.MOST_CLUSTERS` each alone; under no
            name those of no usable cluster.
    """

    service_imports: int
    endpoint_slices: int
    endpoints: int
    ready_endpoints: int = 0
    slices_of: Mapping[str, int] = {}


class Store:
    """The objects, by kind and name, and which slices belong to which service."""

    def __init__(self, namespaces: Iterable[str] = ()) -> None:
        """Make an empty store; objects outside `namespaces` (none given: all) are passed over."""
        self.namespaces = frozenset(namespaces)
        self._listed: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._imports: dict[ServiceKey, ServiceImport] = {}
        self._slices: dict[ObjectKey, EndpointSlice] = {}
        self._slices_of: dict[ServiceKey, dict[str, EndpointSlice]] = {}
        self._unseen: dict[tuple[Kind, str], set[ObjectKey]] = {}
        self._census = Census()

    def apply(self, event: Event) -> set[ServiceKey]:
        """Take one event and return the services it may have changed."""
        match event:
            case Apply(object=thing) | InitApply(object=thing):
                return self._put(thing)
            case Delete(kind=kind, key=key):
                return self._remove(kind, key)
            case Init(kind=kind, namespace=namespace):
                self._unseen[kind, namespace] = self._keys(kind, namespace)
                return set()
            case InitDone(kind=kind, namespace=namespace):
                self._listed[kind].add(namespace)
                gone = self._unseen.pop((kind, namespace), set())
                return {service for key in gone for service in self._remove(kind, key)}

    def is_synced(self, kind: Kind) -> bool:
        """Say whether every list of a kind has been complete once."""
        listed = self._listed[kind]
        return "" in listed or (bool(self.namespaces) and listed >= self.namespaces)

    def unseen(self, kind: Kind, namespace: str = "") -> frozenset[ObjectKey]:
        """Return what an unfinished list has not shown so far, which its end would take away."""
        return frozenset(self._unseen.get((kind, namespace), ()))

    def object(self, kind: Kind, key: ObjectKey) -> Object | None:
        """Return one object."""
        return self._of(kind).get(key)

    def objects(self, kind: Kind) -> Iterable[Object]:
        """Return all objects of a kind; not to be held while events come."""
        return self._of(kind).values()

    def get(self, key: ServiceKey) -> Service | None:
        """Return a service with its slices in order of their names; None without an import."""
        imported = self._imports.get(key)
        if imported is None:
            return None
        slices = self._slices_of.get(key)
        if not slices:
            return Service(imported, ())
        return Service(imported, tuple(slices[name] for name in sorted(slices)))

    def orphans(self, key: ServiceKey) -> tuple[EndpointSlice, ...]:
        """Return the slices labelled for a service, whether or not it has an import."""
        return tuple(self._slices_of.get(key, {}).values())

    def keys(self) -> Iterator[ServiceKey]:
        """Iterate over the imported services."""
        return iter(self._imports)

    @property
    def imports(self) -> Mapping[ServiceKey, ServiceImport]:
        """The ServiceImports, read-only."""
        return MappingProxyType(self._imports)

    def statistics(self) -> Statistics:
        """Return the counts, which are kept up to date: nothing is walked."""
        census, slices = self._census, len(self._slices)
        ready = census.endpoints - census.unready
        return Statistics(
            len(self._imports), slices, census.endpoints, ready, census.slices(slices)
        )

    def _keys(self, kind: Kind, namespace: str) -> set[ObjectKey]:
        keys = self._of(kind)
        return {key for key in keys if key[0] == namespace} if namespace else set(keys)

    def _of(self, kind: Kind) -> Mapping[ObjectKey, Object]:
        return self._imports if kind is Kind.SERVICE_IMPORT else self._slices

    def _put(self, thing: Object) -> set[ServiceKey]:
        if self.namespaces and thing.namespace not in self.namespaces:
            return set()
        if isinstance(thing, ServiceImport):
            self._saw(Kind.SERVICE_IMPORT, thing.key)
            before = self._imports.get(thing.key)
            if before == thing:
                return set()
            if before is None:
                for piece in self._slices_of.get(thing.key, {}).values():
                    self._census.serve(piece)
            self._imports[thing.key] = thing
            return {thing.key}
        self._saw(Kind.ENDPOINT_SLICE, thing.key)
        return self._put_slice(thing)

    def _saw(self, kind: Kind, key: ObjectKey) -> None:
        for namespace in ("", key[0]):
            unseen = self._unseen.get((kind, namespace))
            if unseen:
                unseen.discard(key)

    def _put_slice(self, piece: EndpointSlice) -> set[ServiceKey]:
        before = self._slices.get(piece.key)
        if before == piece:
            return set()
        changed = self._remove(Kind.ENDPOINT_SLICE, piece.key) if before else set[ServiceKey]()
        self._slices[piece.key] = piece
        service = (piece.namespace, piece.service)
        self._slices_of.setdefault(service, {})[piece.name] = piece
        self._census.add(piece, imported=service in self._imports)
        changed.add(service)
        return changed

    def _remove(self, kind: Kind, key: ObjectKey) -> set[ServiceKey]:
        self._saw(kind, key)
        if kind is Kind.SERVICE_IMPORT:
            if self._imports.pop(key, None) is None:
                return set()
            for piece in self._slices_of.get(key, {}).values():
                self._census.drop(piece)
            return {key}
        if key not in self._slices:
            return set()
        piece = self._slices.pop(key)
        service = (piece.namespace, piece.service)
        siblings = self._slices_of[service]
        del siblings[piece.name]
        if not siblings:
            del self._slices_of[service]
        self._census.remove(piece, imported=service in self._imports)
        return {service}
