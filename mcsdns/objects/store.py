"""ServiceImports and EndpointSlices joined by (namespace, service).

One writer (`apply`), any number of readers in the same thread. The store answers for what the
objects say; it knows no DNS names and no time.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final

import msgspec

from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import EndpointSlice, Kind, Object, ServiceImport

MOST_CLUSTERS: Final = 64
"""So many clusters are counted apart: whoever writes slices must not make metrics without end."""
OTHER: Final = "other"
UNKNOWN: Final = ""

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
        slices_of: slices by source cluster, of at most `MOST_CLUSTERS` each alone; under no
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
        self._counts = _Counts()

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
        """Returns whether every list of a kind has been complete once."""
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
        slices = self._slices_of.get(key, {})
        return Service(imported, tuple(slices[name] for name in sorted(slices)))

    def orphans(self, key: ServiceKey) -> tuple[EndpointSlice, ...]:
        """Return the slices labelled for a service, whether or not it has an import."""
        return tuple(self._slices_of.get(key, {}).values())

    @property
    def imports(self) -> Mapping[ServiceKey, ServiceImport]:
        """The ServiceImports, read-only."""
        return MappingProxyType(self._imports)

    def statistics(self) -> Statistics:
        """Return the counts, which are kept up to date: nothing is walked."""
        counts, slices = self._counts, len(self._slices)
        ready = counts.endpoints - counts.unready
        return Statistics(
            len(self._imports), slices, counts.endpoints, ready, counts.slices_of(slices)
        )

    def _keys(self, kind: Kind, namespace: str) -> set[ObjectKey]:
        keys = self._of(kind)
        return {key for key in keys if key[0] == namespace} if namespace else set(keys)

    def _of(self, kind: Kind) -> Mapping[ObjectKey, Object]:
        return self._imports if kind is Kind.SERVICE_IMPORT else self._slices

    def _put(self, thing: Object) -> set[ServiceKey]:
        if self.namespaces and thing.namespace not in self.namespaces:
            return set()
        self._saw(thing.kind, thing.key)
        if isinstance(thing, EndpointSlice):
            return self._put_slice(thing)
        before = self._imports.get(thing.key)
        if before == thing:
            return set()
        if before is None:
            for piece in self._slices_of.get(thing.key, {}).values():
                self._counts.add_endpoints(piece, 1)
        self._imports[thing.key] = thing
        return {thing.key}

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
        service = piece.service_key
        self._slices_of.setdefault(service, {})[piece.name] = piece
        self._counts.add(piece, 1, imported=service in self._imports)
        changed.add(service)
        return changed

    def _remove(self, kind: Kind, key: ObjectKey) -> set[ServiceKey]:
        self._saw(kind, key)
        if kind is Kind.SERVICE_IMPORT:
            if self._imports.pop(key, None) is None:
                return set()
            for piece in self._slices_of.get(key, {}).values():
                self._counts.add_endpoints(piece, -1)
            return {key}
        if key not in self._slices:
            return set()
        piece = self._slices.pop(key)
        service = piece.service_key
        siblings = self._slices_of[service]
        del siblings[piece.name]
        if not siblings:
            del self._slices_of[service]
        self._counts.add(piece, -1, imported=service in self._imports)
        return {service}


class _Counts:
    """Running counts of what the store holds, so that nobody has to walk all of it to know.

    Attributes:
        endpoints, unready: of imported services; how many of them are not ready.
    """

    def __init__(self) -> None:
        self.endpoints = self.unready = 0
        self._slices: dict[str, int] = {}

    def add(self, piece: EndpointSlice, number: int, *, imported: bool) -> None:
        """Count a slice (`number` 1) or no more (-1), with its endpoints if it is of a service."""
        cluster = UNKNOWN if piece.malformed else piece.cluster  # which then may be any text
        self._slices[cluster] = self._slices.get(cluster, 0) + number
        if not self._slices[cluster]:
            del self._slices[cluster]
        if imported:
            self.add_endpoints(piece, number)

    def add_endpoints(self, piece: EndpointSlice, number: int) -> None:
        """Count the endpoints of a slice, or no more, as its service is imported or no more."""
        self.endpoints += number * len(piece.endpoints)
        for endpoint in piece.endpoints:
            if not endpoint.ready:
                self.unready += number

    def slices_of(self, total: int) -> dict[str, int]:
        """Return how many of all slices each cluster has; those past the first ones are `other`."""
        shown = dict(islice(self._slices.items(), MOST_CLUSTERS))
        rest = total - sum(shown.values())
        if rest:
            shown[OTHER] = shown.get(OTHER, 0) + rest
        return shown
