"""(name shape, type) -> Answer | NoData | NxDomain | PerClusterForm | NotReady.

This is step 3 of the algorithm of RFC 1034, 4.3.2, for zones without delegations (3b), wildcards
(3c) and aliases. Two questions are left. Does the name exist? An empty non-terminal does (RFC
8020). Has it records of that type? Then it is Answer, else NoData. Step 2, the nearest zone, comes
before, in `authority.route`.

What a zone file does not have: before the objects have been read nothing is denied (NotReady), and
one form of names is reserved (PerClusterForm). Every row of spec.md 1 is one branch here.
"""

import functools
from typing import Final

import msgspec

from mcsdns.dns import AddressesOf
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.types import Ede, EdeCode, RRset, RRType
from mcsdns.zone.name_shape import (
    Fixed,
    NamespaceName,
    ServiceName,
    Shape,
    namespace_of,
)
from mcsdns.zone.records import ServiceNode
from mcsdns.zone.tree import Readiness, Tree, ZoneSettings
from mcsdns.zone.zone import Zone

SCHEMA_VERSION: Final = b"\x051.0.0"
SCHEMA_TTL: Final = 28800
_HINFO = b"\x07RFC8482\x00"
_MOST_OF_ANY = 64
"""Node aborts the process where a reply to ANY (`resolveAny`) has more than 256 addresses."""
_A, _AAAA, _SRV, _ANY = RRType.A.value, RRType.AAAA.value, RRType.SRV.value, RRType.ANY.value
_NOT_SYNCED, _IMPORTS_ONLY = Readiness.NOT_SYNCED, Readiness.IMPORTS_ONLY
# CPython 3.11 takes 0.18 us to find a member of an enum, and there were ten in a look-up


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The name has records of that type.

    Attributes:
        addresses_of: for Additional, see `dns.Response`.
    """

    rrset: RRset
    addresses_of: AddressesOf | None = None


class NoData(msgspec.Struct, frozen=True, gc=False):
    """The name exists, but not with that type (RFC 2308, 2.2)."""

    why: Ede | None = None


class NxDomain(msgspec.Struct, frozen=True, gc=False):
    """The name does not exist, nor does any below it (RFC 8020)."""

    why: Ede | None = None


class PerClusterForm(msgspec.Struct, frozen=True, gc=False):
    """`<cluster>.<svc>.<ns>.svc`, which KEP-1645 specification 2.3.4 and 2.4.4 reserve.

    Attributes:
        has_names_below: whether names with records exist below it.
    """

    has_names_below: bool


class NotReady(msgspec.Struct, frozen=True, gc=False):
    """What the name depends on has not been read yet, so nothing may be denied."""

    why: Ede


Outcome = Answer | NoData | NxDomain | PerClusterForm | NotReady

NODATA: Final = NoData()
NXDOMAIN: Final = NxDomain()
NO_IMPORT: Final = NxDomain(
    Ede(EdeCode.OTHER, "not exported: no ServiceImport of that name and namespace")
)
NO_NAMESPACE: Final = NxDomain(Ede(EdeCode.OTHER, "no ServiceImport in that namespace"))
NO_ENDPOINT: Final = NxDomain(
    Ede(EdeCode.OTHER, "no ready endpoint of that host name in that cluster")
)
NOT_SERVED: Final = NxDomain(Ede(EdeCode.OTHER, "namespace not served here"))
NO_ADDRESS: Final = NoData(Ede(EdeCode.OTHER, "the ServiceImport has no address yet (spec.ips)"))


def lookup(tree: Tree, zone: Zone, shape: Shape, qtype: int) -> Outcome:
    """Return what a zone has for a name of this shape and a type."""
    if tree.readiness is _NOT_SYNCED:
        return NotReady(Ede(EdeCode.NOT_READY, tree.reason))
    if isinstance(shape, ServiceName):
        return _lookup_service(tree, zone, shape, qtype)
    if isinstance(shape, NamespaceName):
        if shape.namespace in tree.namespaces:
            return NODATA
        return NO_NAMESPACE if tree.serves(shape.namespace) else NOT_SERVED
    return _lookup_fixed(tree, zone, shape, qtype)


def _lookup_service(tree: Tree, zone: Zone, shape: ServiceName, qtype: int) -> Outcome:
    service = tree.services.get(shape.service)
    if service is None:
        return NO_IMPORT if tree.serves(namespace_of(shape.service)) else NOT_SERVED
    if tree.readiness is _IMPORTS_ONLY and (service.headless or service.addresses_from_slices):
        return NotReady(Ede(EdeCode.NOT_READY, tree.reason))
    if not service.names:
        return _no_ready_endpoint(service.clusters)

    # Does the name exist? A name with records wins over the reserved form: a cluster ID may have
    # two labels, and then looks like a host name in a cluster (spec.md 1).
    node = service.names.get(shape.below)
    if node is None or not (node.a or node.aaaa or node.srv):
        is_port = shape.below.startswith(b"_", 1)
        if (shape.depth == 1 and not is_port) or shape.below in service.dotted_clusters:
            return PerClusterForm(node is not None)
        if node is None:
            return NO_ENDPOINT if service.headless and not is_port else NXDOMAIN

    # Has it records of that type? Of ANY it is one RRset of the name, or HINFO where that is large
    # or there is none yet (RFC 8482, 4.1 and 4.2).
    ttl = tree.settings.ttl
    if qtype == _ANY:
        records = len(node.a or node.aaaa or node.srv)
        if records > _MOST_OF_ANY or not (records or shape.depth):
            return Answer(RRset(RRType.HINFO, ttl, (_HINFO,)))
        qtype = _A if node.a else _AAAA if node.aaaa else _SRV
    if qtype == _A and node.a:
        return Answer(RRset(_A, ttl, node.a))
    if qtype == _AAAA and node.aaaa:
        return Answer(RRset(_AAAA, ttl, node.aaaa))
    if qtype == _SRV and node.srv:
        return _srv_answer(
            service, node.srv, names.service_name(shape.service, zone.apex), tree.settings
        )
    lacks_address = not (service.headless or node.a or node.aaaa or shape.depth)
    return NO_ADDRESS if lacks_address else NODATA


def _srv_answer(
    service: ServiceNode, records: tuple[bytes, ...], suffix: bytes, settings: ZoneSettings
) -> Answer:
    """Return SRV records; the addresses of targets are looked up once they are shown (RFC 2782)."""
    ttl, most = settings.ttl, settings.max_records or None

    def addresses_of(rdatas: tuple[bytes, ...]) -> list[tuple[Name, RRset]]:
        found: list[tuple[Name, RRset]] = []
        for target in dict.fromkeys([rdata[6:] for rdata in rdatas]):
            node = service.names[target]
            owner = Name(target + suffix)
            if node.a:
                found.append((owner, RRset(_A, ttl, node.a[:most])))
            if node.aaaa:
                found.append((owner, RRset(_AAAA, ttl, node.aaaa[:most])))
        return found

    return Answer(RRset(_SRV, ttl, records, suffix), addresses_of)


def _lookup_fixed(tree: Tree, zone: Zone, shape: Fixed, qtype: int) -> Outcome:
    match shape:
        case Fixed.APEX if qtype in (RRType.SOA, RRType.ANY):
            return Answer(zone.soa)
        case Fixed.APEX if qtype == RRType.NS:
            target = zone.name_server
            additional = [(target, rrset) for rrset in _name_server_rrsets(tree)]
            return Answer(RRset(RRType.NS, tree.settings.ttl, (target,)), lambda _: additional)
        case Fixed.NAME_SERVER:
            for rrset in _name_server_rrsets(tree):
                if qtype in (rrset.rtype, RRType.ANY):
                    return Answer(rrset)
            if qtype == RRType.ANY:
                return Answer(RRset(RRType.HINFO, tree.settings.ttl, (_HINFO,)))
            return NODATA
        case Fixed.DNS_VERSION if qtype in (RRType.TXT, RRType.ANY):
            return Answer(RRset(RRType.TXT, SCHEMA_TTL, (SCHEMA_VERSION,)))
        case Fixed.ELSEWHERE:
            return NXDOMAIN
        case _:  # an empty non-terminal, or another type
            return NODATA


def _name_server_rrsets(tree: Tree) -> list[RRset]:
    families = {RRType.A: 4, RRType.AAAA: 16}
    rrsets = [
        RRset(rtype, tree.settings.ttl, tuple(a for a in tree.settings.name_server if len(a) == n))
        for rtype, n in families.items()
    ]
    return [rrset for rrset in rrsets if rrset.rdatas]


@functools.lru_cache(maxsize=64)
def _no_ready_endpoint(clusters: int) -> NxDomain:
    where = "any cluster" if not clusters else f"{clusters} cluster{'s' * (clusters != 1)}"
    return NxDomain(Ede(EdeCode.OTHER, f"no ready endpoint in {where}"))
