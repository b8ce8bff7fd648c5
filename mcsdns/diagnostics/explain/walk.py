"""One query walked through the server's own decisions: zone, form of the name, objects, outcome.

The verdict, the suggestions and the explanation are read off a `Walk`; nothing is decided a second
time. The reply is that of the code that serves, record by record.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from mcsdns.diagnostics.client import InProcessServer
from mcsdns.diagnostics.explain import model
from mcsdns.diagnostics.explain.model import NameParts, ShapeKind, SliceEndpoint
from mcsdns.diagnostics.explain.present import label_text
from mcsdns.diagnostics.service_health import EndpointCounter
from mcsdns.dns import (
    MAX_TCP_BYTES,
    MAX_UDP_BYTES,
    MIN_UDP_BYTES,
    Query,
    Response,
    ip,
    read_query,
    write_opt,
    write_query,
)
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.rdata import fields_of, type_name
from mcsdns.dns.reader import Cursor
from mcsdns.dns.request import Request, Transport
from mcsdns.dns.types import FLAGS, HEADER, TC, RRset, rcode_text
from mcsdns.objects import conditions
from mcsdns.objects.model import Endpoint, EndpointSlice, ImportType, Kind, ServiceImport
from mcsdns.objects.store import ServiceKey
from mcsdns.server.authority import Decision
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.manifests.documents import ANYTHING
from mcsdns.zone import name_shape
from mcsdns.zone.lookup import PerClusterForm
from mcsdns.zone.name_shape import Fixed, NamespaceName, ServiceName
from mcsdns.zone.records import ServiceNode, host_label, why_not_counted
from mcsdns.zone.tree import Readiness
from mcsdns.zone.zone import Zone

WITHOUT_IMPORT: Final = "there is no ServiceImport"
NOT_HEADLESS: Final = "a ClusterSetIP service is answered from spec.ips"

_CLIENTS: Final = (
    (Transport.UDP, False, MIN_UDP_BYTES),
    (Transport.UDP, True, MAX_UDP_BYTES),
    (Transport.TCP, True, MAX_TCP_BYTES),
)
Form = TypeVar("Form", bound=msgspec.Struct)


class Walk(msgspec.Struct, frozen=True):
    """What was met on the way from a query to its answer.

    Attributes:
        zone: the zone that the name is in; None outside all zones.
        name: the shape of the name in that zone; None outside. shape: the same for people.
        key: the service that the name belongs to by its form, if any.
        node: that service in the zone. imported, slices: its objects; slices also without import.
    """

    state: ZoneState
    query: Query
    decision: Decision
    zone: Zone | None
    name: name_shape.Shape | None
    shape: NameParts
    key: ServiceKey | None = None
    node: ServiceNode | None = None
    imported: model.Import | None = None
    clusters: tuple[model.ClusterCounts, ...] = ()
    slices: tuple[model.Slice, ...] = ()

    @property
    def apex(self) -> Name:
        """The apex of the zone; the root for a name outside all zones."""
        return self.zone.apex if self.zone else names.ROOT

    @property
    def headless(self) -> bool:
        """Whether the service is in the zone, and headless."""
        return self.node is not None and self.node.headless

    @property
    def from_slices(self) -> bool:
        """Whether the service is answered with the addresses of endpoints."""
        return self.imported is not None and self.imported.from_slices

    @property
    def records(self) -> model.Records | None:
        """The records of the name itself; None where it is not in the zone, or of no service."""
        if self.node is None or not isinstance(self.name, ServiceName):
            return None
        node = self.node.names.get(self.name.below)
        return model.Records(len(node.a), len(node.aaaa), len(node.srv)) if node else None

    @property
    def endpoint(self) -> SliceEndpoint | None:
        """The endpoint whose own name the name is, whether or not it counts."""
        name = names.to_text(self.query.name)
        found = (each for piece in self.slices for each in piece.endpoints if name in each.names)
        return next(found, None)

    @property
    def labels(self) -> tuple[bytes, ...]:
        """The labels of the name, in lower case, without those of the zone."""
        labels = names.labels_of(self.query.name)
        return labels[: len(labels) - len(names.labels_of(self.apex))]

    @property
    def served(self) -> model.ServedZone:
        """The zone of the name, and the state of all that is served."""
        tree = self.state.tree
        return model.ServedZone(
            name=names.to_text(self.zone.apex) if self.zone else None,
            served=tuple(names.to_text(zone.apex) for zone in tree.zones),
            readiness=tree.readiness.value,
            waiting_for="" if tree.readiness is Readiness.SYNCED else tree.reason,
            stale=tree.stale,
            namespaces=tuple(sorted(label_text(label[1:]) for label in tree.settings.namespaces)),
        )

    @property
    def problems(self) -> Iterator[model.ObjectProblem]:
        """What the source finds wrong with the service's import, served or not, and its slices.

        Where the import is missing, whatever could not be read may have been it.
        """
        if self.key is None:
            return
        namespace, service = self.key
        subjects = {f"{Kind.SERVICE_IMPORT} {namespace}/{service}"}
        subjects |= {f"{Kind.ENDPOINT_SLICE} {each.namespace}/{each.name}" for each in self.slices}
        for each in self.state.problems:
            problem = each.problem
            if problem.subject in subjects or (self.imported is None and each.lost == ANYTHING):
                yield model.ObjectProblem(each.origin, problem.subject, problem.path, problem.text)


def decide(state: ZoneState, name: bytes, qtype: int) -> tuple[Query, Decision]:
    """Have the server's own authority answer a client with EDNS."""
    query = read_query(write_query(0, name, qtype, opt=write_opt()))
    assert query is not None, "what we wrote is a query"
    return query, state.authority.answer(state.authority.route(query), query.qtype)


def walk(state: ZoneState, name: bytes, qtype: int) -> Walk:
    """Decide a query, and gather the objects that the answer comes from."""
    query, decision = decide(state, name, qtype)
    for zone in state.tree.zones:
        match name_shape.parse(query.name, query.labels, zone.apex):
            case None:
                pass
            case Fixed() as fixed:
                return Walk(state, query, decision, zone, fixed, _FIXED[fixed])
            case NamespaceName(namespace=label) as shape:
                parts = NameParts(
                    ShapeKind.NAMESPACE, "<namespace>.svc.<zone>", namespace=label_text(label[1:])
                )
                return Walk(state, query, decision, zone, shape, parts)
            case ServiceName() as shape:
                return _walk_service(state, query, decision, zone, shape)
    return Walk(state, query, decision, None, None, _OUTSIDE)


_OUTSIDE: Final = NameParts(ShapeKind.OUTSIDE, "outside every zone")
_FIXED: Final = {
    Fixed.APEX: NameParts(ShapeKind.APEX, "<zone>"),
    Fixed.DNS: NameParts(ShapeKind.DNS, "dns.<zone>"),
    Fixed.NAME_SERVER: NameParts(ShapeKind.NAME_SERVER, "ns.dns.<zone>"),
    Fixed.DNS_VERSION: NameParts(ShapeKind.DNS_VERSION, "dns-version.<zone>"),
    Fixed.SVC: NameParts(ShapeKind.SVC, "svc.<zone>"),
    Fixed.ELSEWHERE: NameParts(ShapeKind.ELSEWHERE, "none that this zone has"),
}


def _walk_service(
    state: ZoneState, query: Query, decision: Decision, zone: Zone, shape: ServiceName
) -> Walk:
    service_label, namespace_label = names.labels_of(shape.service)
    # Objects are named in ASCII; a label with other octets is the key of none.
    key = namespace_label.decode("latin-1"), service_label.decode("latin-1")
    service = state.store.get(key)
    node = state.tree.services.get(shape.service)
    imported = _describe_import(service.imported, node) if service else None
    pieces = sorted(
        service.slices if service else state.store.orphans(key),
        key=lambda piece: (piece.cluster, piece.name),
    )
    service_name = names.to_text(names.service_name(shape.service, zone.apex))
    return Walk(
        state,
        query,
        decision,
        zone,
        shape,
        _describe_name(shape, is_per_cluster=isinstance(decision.outcome, PerClusterForm)),
        key,
        node,
        imported,
        _count_clusters(imported, pieces),
        tuple(_describe_slice(piece, imported, service_name) for piece in pieces),
    )


def _describe_name(name: ServiceName, *, is_per_cluster: bool) -> NameParts:
    """Name the form and the parts of a name that belongs to a service.

    A cluster ID may have a dot, so `a.b.<service>` is a host and its cluster, or a cluster alone;
    the server decides for the latter by the cluster IDs of the service.
    """
    service, namespace = map(label_text, names.labels_of(name.service))
    kind, prefix, parts = ShapeKind.BELOW_SERVICE, "<...>.", dict[str, str]()
    match [label_text(label) for label in names.labels_of(name.below)]:
        case []:
            kind, prefix = ShapeKind.SERVICE, ""
        case [protocol] if protocol.startswith("_"):
            kind, prefix, parts = ShapeKind.PROTOCOL, "_<protocol>.", {"protocol": protocol[1:]}
        case [port, protocol] if port.startswith("_") or protocol.startswith("_"):
            kind, prefix = ShapeKind.PORT, "_<port>._<protocol>."
            parts = {"port": port.removeprefix("_"), "protocol": protocol.removeprefix("_")}
        case labels if is_per_cluster or len(labels) == 1:
            kind, prefix, parts = ShapeKind.PER_CLUSTER, "<cluster>.", {"cluster": ".".join(labels)}
        case [host, *cluster] if len(cluster) <= 2:  # noqa: PLR2004 - a cluster ID may have a dot
            kind, prefix = ShapeKind.ENDPOINT, "<host>.<cluster>."
            parts = {"host": host, "cluster": ".".join(cluster)}
        case _:
            pass
    return NameParts(kind, f"{prefix}<service>.<namespace>.svc.<zone>", service, namespace, **parts)


def _describe_import(imported: ServiceImport, node: ServiceNode | None) -> model.Import:
    is_headless = imported.type is ImportType.HEADLESS
    from_slices = is_headless or (node is not None and node.addresses_from_slices)
    return _describe(
        model.Import,
        imported,
        ips=tuple(map(ip.to_text, imported.ips)),
        conditions=tuple(
            _describe(model.JudgedCondition, each, is_bad=conditions.is_bad(each))
            for each in imported.conditions
        ),
        addresses_from=model.FROM_SLICES if from_slices else model.FROM_SPEC,
    )


def _count_clusters(
    imported: model.Import | None, pieces: Iterable[EndpointSlice]
) -> tuple[model.ClusterCounts, ...]:
    """Count what each cluster has, those of the import's status included."""
    counter = EndpointCounter(imported.clusters if imported else ())
    for piece in pieces:
        counter.add(piece)
    from_slices = imported is not None and imported.from_slices
    return tuple(
        _describe(model.ClusterCounts, each, counting=each.ready if from_slices else 0)
        for each in counter.clusters()
    )


def _describe_slice(
    piece: EndpointSlice, imported: model.Import | None, service: str
) -> model.Slice:
    """Describe a slice; `service` is the absolute name of its service."""
    why_none = ""
    if imported is None:
        why_none = WITHOUT_IMPORT
    elif not imported.from_slices:
        why_none = NOT_HEADLESS
    above = f"{piece.cluster}.{service}"
    endpoints = tuple(_describe_endpoint(each, above, why_none) for each in piece.endpoints)
    return _describe(model.Slice, piece, endpoints=endpoints)


def _describe_endpoint(endpoint: Endpoint, above: str, why_none: str) -> SliceEndpoint:
    why_not = why_none or why_not_counted(endpoint)
    hosts = dict.fromkeys(host_label(endpoint, each) for each in endpoint.addresses)
    return _describe(
        SliceEndpoint,
        endpoint,
        addresses=tuple(map(ip.to_text, endpoint.addresses)),
        names=tuple(f"{host}.{above}" for host in hosts),
        counts=not why_not,
        why_not=why_not,
    )


def _describe(form: type[Form], original: msgspec.Struct, **own: object) -> Form:
    """Describe an object: `own` fields are the form's, the others are those of the object."""
    taken = [name for name in form.__struct_fields__ if name not in own]
    return form(**{name: getattr(original, name) for name in taken}, **own)


def render(walked: Walk, name: bytes) -> tuple[model.ReplyText, tuple[model.Size, ...]]:
    """Have the code that serves render the reply for each usual client.

    Returns the reply as it is decided, its flags without TC, and what of it reaches the clients.
    The clock stands still: which records of a subset are sent now does not matter. `name` is as it
    was written.
    """
    server = InProcessServer(walked.state.authority, "this zone", clock=lambda: 0.0)
    flags = 0
    sizes: list[model.Size] = []
    for transport, edns, limit in _CLIENTS:
        request = Request(name=name, qtype=walked.query.qtype, edns=edns)
        octets = server.ask(request, transport).wire
        _, flags, _, answers, _, additionals = HEADER.unpack_from(octets)
        truncated = bool(flags & TC)
        additionals -= edns  # the OPT record
        sizes.append(
            model.Size(transport, edns, limit, len(octets), answers, additionals, truncated)
        )
    response, zone = walked.decision.response, walked.zone
    ede = response.ede
    reply = model.ReplyText(
        rcode=rcode_text(response.rcode),
        flags=tuple(flag for flag, bit in FLAGS.items() if flags & bit and flag != "tc"),
        ede=model.EdeText(ede.code, ede.name, ede.text) if ede else None,
        answer=_lines_of(name, response.answer),
        authority=_lines_of(zone.apex, zone.soa) if response.negative and zone else (),
        additional=_additional_of(response),
    )
    return reply, tuple(sizes)


def _additional_of(response: Response) -> tuple[str, ...]:
    if response.answer is None or response.addresses_of is None:
        return ()
    found = response.addresses_of(response.answer.rdatas)
    return tuple(line for target, rrset in found for line in _lines_of(target, rrset))


def _lines_of(owner: bytes, rrset: RRset | None) -> tuple[str, ...]:
    """Return each record of an RRset as a line of a zone file (RFC 1035, 5)."""
    if rrset is None:
        return ()
    fixed = f"{names.to_text(owner)} {rrset.ttl} IN {type_name(rrset.rtype)} "
    return tuple(
        fixed + " ".join(fields_of(rrset.rtype, Cursor(rdata + rrset.suffix)))
        for rdata in rrset.rdatas
    )
