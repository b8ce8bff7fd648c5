"""One service's names and records (KEP-1645 specification 2.3 and 2.4; spec.md 1).

Owner names are relative to `<svc>.<ns>.svc.<zone>` and in wire form without the root, so that one
set of records serves every zone; `b""` is the service's own name.
"""

from collections import Counter
from collections.abc import Generator
from typing import Final

import msgspec

from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.objects.model import Endpoint, ImportType, Port
from mcsdns.objects.store import Service

SRV_PRIORITY: Final = 0
SRV_WEIGHT: Final = 100
STEP: Final = 32
"""Endpoints or names in a step, a fraction of a millisecond."""
_SRV_FIXED = SRV_PRIORITY.to_bytes(2, "big") + SRV_WEIGHT.to_bytes(2, "big")


class NameRecords(msgspec.Struct, frozen=True, gc=False):
    """The records of one name; a name without any is an empty non-terminal, or has none yet.

    Attributes:
        a, aaaa: packed addresses, no two equal.
        srv: priority, weight and port in wire form, followed by the target, relative to the
            service and without the root.
    """

    a: tuple[bytes, ...] = ()
    aaaa: tuple[bytes, ...] = ()
    srv: tuple[bytes, ...] = ()


EMPTY: Final = NameRecords()


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
    names: dict[bytes, NameRecords]
    dotted_clusters: frozenset[bytes]
    clusters: int
    long_names: int = 0
    addresses_from_slices: bool = False


def node_of(
    service: Service, name_room: int, *, ips_from_slices: bool = False
) -> Generator[tuple[()], None, ServiceNode]:
    """Build the names of one service, and return them; yield nothing after each short step.

    `name_room` is how many octets a relative owner name may have so that every absolute one
    stays within 255; longer ones are left out and counted. With `ips_from_slices` a ClusterSetIP
    service without `spec.ips` has the addresses of its slices: where no controller allocates a
    clusterset IP, an endpoint is the service IP of its cluster (Submariner Lighthouse).
    """
    imported = service.imported
    headless = imported.type is ImportType.HEADLESS
    from_slices = ips_from_slices and not headless and not imported.ips
    records = _Records()
    steps = 0
    for piece in service.slices if headless or from_slices else ():
        if piece.malformed:  # it has no endpoints, and its cluster may be any text
            continue
        cluster = _relative(*piece.cluster.split("."))
        for endpoint in piece.endpoints:
            steps += 1
            if not steps % STEP:
                yield ()
            if why_not_counted(endpoint):
                continue
            for packed in endpoint.addresses:
                records.add_address(b"", packed)
                if headless:
                    host = names.wire_label(host_label(endpoint, packed)) + cluster
                    records.add_address(host, packed)
                    for port in piece.ports:
                        records.add_srv(port, host)
    if not headless:
        for packed in imported.ips:
            records.add_address(b"", packed)
        for port in imported.ports:
            records.add_srv(port, b"")
    nodes, long_names = yield from records.nodes(name_room)
    if not headless:
        nodes.setdefault(b"", EMPTY)  # the name exists before it has an address
    clusters = {piece.cluster for piece in service.slices if piece.cluster}
    dotted = frozenset(
        _relative(*cluster.split("."))
        for cluster in clusters.union(imported.clusters)
        if cluster.count(".") == 1 and all(map(names.is_dns_label, cluster.split(".")))
    )
    return ServiceNode(headless, nodes, dotted, len(clusters), long_names, from_slices)


def subset(node: ServiceNode, below: bytes, most: int, most_srv: int, turn: int) -> NameRecords:
    """Return those records of a name that are shown within one turn.

    "DNS servers MAY limit the number of endpoints" (KEP-1645 specification 2.4.1): `most` addresses
    of each family, `most_srv` SRV records. Of a headless service A, AAAA, SRV and the SRV of each
    port show the same endpoints; the next turn shows those that follow. An endpoint without a host
    name has one of each family, which are told to be one by their places in the slices alone.
    It takes as long as the service is large, not as what is shown.
    """
    every, records = node.names, node.names[below]
    limits = most, most, most_srv
    own = every[b""]
    hosts: list[bytes] = []
    others: list[bytes] = []
    if not (below and (records.a or records.aaaa)):  # else it is a host's name
        hosts = [owner for owner, each in every.items() if each.a and owner]
        if own.aaaa:
            others = [each for each, of in every.items() if of.aaaa and each and not of.a]
    size = max(len(hosts), len(others))
    if not size:
        rings = zip((records.a, records.aaaa, records.srv), limits, strict=True)
        return NameRecords(
            *(tuple(ring[at] for at in _row(len(ring), n, turn)) for ring, n in rings)
        )

    # As many endpoints as the largest RRset allows; where they differ in addresses and ports, the
    # first of them that fit.
    totals = len(own.a), len(own.aaaa), len(own.srv)
    count = min(size * n // max(total, n) for n, total in zip(limits, totals, strict=True))
    row = [
        [side[at] for side in (hosts, others) if at < len(side)]
        for at in _row(size, count or 1, turn)
    ]
    targets = {host for endpoint in row for host in endpoint}
    near = [rdata for rdata in own.srv if rdata[6:] in targets]
    ports = Counter(rdata[6:] for rdata in near)
    shown: dict[bytes, NameRecords] = {}
    room, room6, room_srv = limits
    for endpoint in row:
        for host in endpoint:
            each = every[host]
            room -= len(each.a)
            room6 -= len(each.aaaa)
            room_srv -= ports[host]
        if shown and (room < 0 or room6 < 0 or room_srv < 0):
            break
        for host in endpoint:
            shown[host] = every[host]
    a = tuple(dict.fromkeys([packed for each in shown.values() for packed in each.a]))
    aaaa = tuple(dict.fromkeys([packed for each in shown.values() for packed in each.aaaa]))
    srv = tuple(rdata for rdata in (records.srv if below else near) if rdata[6:] in shown)
    return NameRecords(
        (a or records.a)[:most], (aaaa or records.aaaa)[:most], (srv or records.srv)[:most_srv]
    )


def _row(size: int, most: int, turn: int) -> list[int]:
    """Return places in a ring; turns follow each other, and each round begins one place later."""
    count = min(size, most)
    start = turn * count + turn * count // max(size, 1)
    return [(start + at) % size for at in range(count)]


def host_label(endpoint: Endpoint, address: bytes) -> str:
    """Return the label of an endpoint's address: its hostname, else the dashed address."""
    return endpoint.hostname or ip.to_label(address)


def why_not_counted(endpoint: Endpoint) -> str:
    """Return why a service that is answered from endpoints goes without this one; empty if not."""
    if not endpoint.ready:
        return "not ready"
    return "" if endpoint.addresses else "no usable address"


def srv_owner(port: Port) -> bytes:
    """Return the relative name `_<port>._<protocol>` of a named port."""
    return _relative("_" + port.name, "_" + port.protocol)


def _relative(*labels: str) -> bytes:
    return b"".join([names.wire_label(label) for label in labels])


class _Records:
    """Collects records by relative owner name; equal records are one (RFC 2181, 5)."""

    def __init__(self) -> None:
        self._a: dict[bytes, dict[bytes, None]] = {}
        self._aaaa: dict[bytes, dict[bytes, None]] = {}
        self._srv: dict[bytes, dict[bytes, None]] = {}

    def add_address(self, owner: bytes, packed: bytes) -> None:
        records = self._a if len(packed) == 4 else self._aaaa  # noqa: PLR2004
        records.setdefault(owner, {})[packed] = None

    def add_srv(self, port: Port, target: bytes) -> None:
        if port.name and port.number is not None:
            rdata = _SRV_FIXED + port.number.to_bytes(2, "big") + target
            self._srv.setdefault(b"", {})[rdata] = None
            self._srv.setdefault(srv_owner(port), {})[rdata] = None

    def nodes(
        self, name_room: int
    ) -> Generator[tuple[()], None, tuple[dict[bytes, NameRecords], int]]:
        """Return every name with its records, and how many names are too long, and keep nothing.

        Among the names are those in between that have no records (empty non-terminals, RFC 8020).
        """
        nodes: dict[bytes, NameRecords] = {}
        long_names = 0
        owners = {**self._a, **self._aaaa, **self._srv}  # in the order of the slices
        for number, owner in enumerate(owners, 1):
            if not number % STEP:
                yield ()
            a, aaaa = self._a.pop(owner, ()), self._aaaa.pop(owner, ())
            srv = self._srv.pop(owner, ())
            if len(owner) > name_room:
                long_names += 1
                continue
            nodes[owner] = NameRecords(
                tuple(a),
                tuple(aaaa),
                tuple(rdata for rdata in srv if len(rdata) - 6 <= name_room),
            )
        for number, owner in enumerate(list(nodes), 1):
            if not number % STEP:
                yield ()
            above = owner
            while above:
                above = above[1 + above[0] :]
                nodes.setdefault(above, EMPTY)
        return nodes, long_names
