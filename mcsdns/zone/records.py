"""One service's names and records (KEP-1645 specification 2.3 and 2.4; spec.md 1).

Owner names are relative to `<svc>.<ns>.svc.<zone>` and in wire form without the root, so that one
set of records serves every zone; `b""` is the service's own name.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.objects.model import Endpoint, EndpointSlice, ImportType, Port
from mcsdns.objects.store import Service

SRV_PRIORITY: Final = 0
SRV_WEIGHT: Final = 100
_SRV_FIXED = SRV_PRIORITY.to_bytes(2, "big") + SRV_WEIGHT.to_bytes(2, "big")


class Node(msgspec.Struct, frozen=True, gc=False):
    """The records of one name; a name without any is an empty non-terminal, or has none yet.

    Attributes:
        a, aaaa: packed addresses, no two equal.
        srv: priority, weight and port in wire form, followed by the target, relative to the
            service and without the root.
    """

    a: tuple[bytes, ...] = ()
    aaaa: tuple[bytes, ...] = ()
    srv: tuple[bytes, ...] = ()


EMPTY: Final = Node()


class ServiceNode(msgspec.Struct, frozen=True, gc=False):
    """One service as the zone holds it.

    Attributes:
        headless: whether `spec.type` is Headless.
        names: relative owner name -> its records; empty for a headless service without a ready
            endpoint, whose name does not exist.
        dotted_clusters: cluster IDs of two labels, as relative names.
        clusters: how many clusters have a slice.
        long_names: names left out because they would be over 255 octets.
        addresses_from_slices: whether a ClusterSetIP service has those of its slices, for want
            of `spec.ips`.
    """

    headless: bool
    names: dict[bytes, Node]
    dotted_clusters: frozenset[bytes]
    clusters: int
    long_names: int = 0
    addresses_from_slices: bool = False


def node_of(service: Service, name_room: int, *, ips_from_slices: bool = False) -> ServiceNode:
    """Build the names of one service.

    `name_room` is how many octets a relative owner name may have so that every absolute one
    stays within 255; longer ones are left out and counted. With `ips_from_slices` a ClusterSetIP
    service without `spec.ips` has the addresses of its slices.
    """
    imported = service.imported
    clusters = {piece.cluster for piece in service.slices if piece.cluster}
    dotted = frozenset(
        _relative(*cluster.split("."))
        for cluster in clusters.union(imported.clusters)
        if cluster.count(".") == 1 and all(map(names.is_dns_label, cluster.split(".")))
    )
    headless = imported.type is ImportType.HEADLESS
    from_slices = ips_from_slices and not headless and not imported.ips
    if headless:
        builder = _headless(service.slices)
    else:
        ips = _ready_addresses(service.slices) if from_slices else imported.ips
        builder = _clusterset_ip(ips, imported.ports)
    found, long_names = builder.nodes(name_room)
    return ServiceNode(headless, found, dotted, len(clusters), long_names, from_slices)


def host_label(endpoint: Endpoint, address: bytes) -> str:
    """Return the label of an endpoint's address: its hostname, else the dashed address."""
    return endpoint.hostname or ip.to_label(address)


def why_not_counted(endpoint: Endpoint) -> str:
    """Say why a service that is answered from endpoints goes without this one; empty if not."""
    if not endpoint.ready:
        return "not ready"
    return "" if endpoint.addresses else "no usable address"


def srv_owner(port: Port) -> bytes:
    """Return the relative name `_<port>._<protocol>` of a named port."""
    return _relative("_" + port.name, "_" + port.protocol)


def _relative(*labels: str) -> bytes:
    return b"".join([names.wire_label(label) for label in labels])


class _Names:
    """Collects records by relative owner name; equal records are one (RFC 2181, 5)."""

    def __init__(self) -> None:
        self._a: dict[bytes, dict[bytes, None]] = {b"": {}}
        self._aaaa: dict[bytes, dict[bytes, None]] = {}
        self._srv: dict[bytes, dict[bytes, None]] = {}

    def add_address(self, owner: bytes, packed: bytes) -> None:
        records = self._a if len(packed) == 4 else self._aaaa  # noqa: PLR2004
        records.setdefault(owner, {})[packed] = None

    def add_srv(self, port: Port, target: bytes) -> None:
        if not port.name or port.number is None:
            return
        rdata = _SRV_FIXED + port.number.to_bytes(2, "big") + target
        self._srv.setdefault(b"", {})[rdata] = None
        self._srv.setdefault(srv_owner(port), {})[rdata] = None

    def nodes(self, name_room: int) -> tuple[dict[bytes, Node], int]:
        """Return every name with its records, those in between included."""
        found: dict[bytes, Node] = {}
        long_names = 0
        for owner in self._a.keys() | self._aaaa.keys() | self._srv.keys():
            if len(owner) > name_room:
                long_names += 1
                continue
            srv = self._srv.get(owner, ())
            found[owner] = Node(
                tuple(self._a.get(owner, ())),
                tuple(self._aaaa.get(owner, ())),
                tuple(rdata for rdata in srv if len(rdata) - 6 <= name_room),
            )
        for owner in list(found):
            for above in _names_above(owner):
                found.setdefault(above, EMPTY)
        return found, long_names


def _names_above(owner: bytes) -> Iterator[bytes]:
    while owner:
        owner = owner[1 + owner[0] :]
        yield owner


def _clusterset_ip(packed_addresses: Iterable[bytes], ports: Iterable[Port]) -> _Names:
    """A ClusterSetIP service has its own name and its ports, and no names of endpoints (2.3)."""
    found = _Names()
    for packed in packed_addresses:
        found.add_address(b"", packed)
    for port in ports:
        found.add_srv(port, b"")
    return found


def _ready_addresses(slices: tuple[EndpointSlice, ...]) -> Iterator[bytes]:
    """Where nobody sets `spec.ips`, an endpoint is a cluster's service IP (Lighthouse)."""
    for piece in slices:
        for endpoint in piece.endpoints:
            if not why_not_counted(endpoint):
                yield from endpoint.addresses


class _NoNames(_Names):
    """A headless service without a ready endpoint: there is no such name (2.4.1)."""

    def nodes(self, name_room: int) -> tuple[dict[bytes, Node], int]:
        return {}, 0


def _headless(slices: tuple[EndpointSlice, ...]) -> _Names:
    """A headless service has the names of its ready endpoints (2.4)."""
    found = _Names()
    any_ready = False
    for piece in slices:
        cluster = _relative(*piece.cluster.split(".")) if piece.cluster else b""
        for endpoint in piece.endpoints:
            if not why_not_counted(endpoint):
                any_ready = True
                _add_endpoint(found, endpoint, piece.ports, cluster)
    return found if any_ready else _NoNames()


def _add_endpoint(
    found: _Names, endpoint: Endpoint, ports: tuple[Port, ...], cluster: bytes
) -> None:
    for packed in endpoint.addresses:
        host = names.wire_label(host_label(endpoint, packed)) + cluster
        found.add_address(b"", packed)
        found.add_address(host, packed)
        for port in ports:
            found.add_srv(port, host)
