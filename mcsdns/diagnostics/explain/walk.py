"""One question walked through the server's own decisions: zone, shape, objects, outcome.

What the rest of this room says is read off a `Walk`; nothing is decided a second time.
"""

import msgspec

from mcsdns.diagnostics.explain import objects
from mcsdns.diagnostics.explain.facts import Cluster, Import, Shape, ShapeKind, Slice
from mcsdns.diagnostics.explain.words import label_text
from mcsdns.dns import (
    MAX_UDP_BYTES,
    Query,
    read_query,
    write_opt,
    write_query,
)
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.objects.store import ServiceKey, Store
from mcsdns.server.authority import Authority, Decision
from mcsdns.zone import name_shape
from mcsdns.zone.lookup import PerClusterForm
from mcsdns.zone.name_shape import Fixed, NamespaceName, ServiceName
from mcsdns.zone.records import Node, ServiceNode
from mcsdns.zone.tree import Tree
from mcsdns.zone.zone import Zone


class Served(msgspec.Struct, frozen=True):
    """What the server answers from."""

    store: Store
    tree: Tree
    answerer: Authority


class Asked(msgspec.Struct, frozen=True):
    """A question and what the server decided.

    Attributes:
        zone: the zone that the name is in, None outside of all.
        shape: the name's shape in that zone.
    """

    query: Query
    decision: Decision
    zone: Zone | None
    shape: name_shape.Shape | None

    @property
    def below_zone(self) -> tuple[bytes, ...]:
        """The name's labels, in lower case, without those of the zone."""
        labels = names.labels_of(self.query.name)
        return labels[: len(labels) - len(names.labels_of(self.zone.apex))] if self.zone else labels


class Walk(msgspec.Struct, frozen=True):
    """What was met on the way from a question to its answer.

    Attributes:
        key: the service that the name belongs to by its form, if any.
        node: that service in the zone. imported, slices: its objects; slices also without import.
    """

    asked: Asked
    shape: Shape
    key: ServiceKey | None = None
    node: ServiceNode | None = None
    imported: Import | None = None
    clusters: tuple[Cluster, ...] = ()
    slices: tuple[Slice, ...] = ()

    @property
    def headless(self) -> bool:
        """Whether the service is in the zone, and headless."""
        return self.node is not None and self.node.headless

    @property
    def from_slices(self) -> bool:
        """Whether the service has the addresses of endpoints."""
        return self.imported is not None and self.imported.addresses_from == objects.FROM_SLICES

    @property
    def here(self) -> Node | None:
        """The records of the name itself."""
        shape = self.asked.shape
        if self.node is None or not isinstance(shape, ServiceName):
            return None
        return self.node.names.get(shape.below)

    @property
    def zone(self) -> Name:
        """The zone's apex; the root for names outside."""
        return self.asked.zone.apex if self.asked.zone else names.ROOT


def ask(served: Served, name: bytes, qtype: int) -> Asked:
    """Ask the server's own answerer, as a client with EDNS does."""
    query = read_query(write_query(0, name, qtype, opt=write_opt(MAX_UDP_BYTES)))
    assert query is not None, "what we wrote is a query"
    decision = served.answerer.answer_query(query)
    for zone in served.tree.zones:
        shape = name_shape.parse(query.name, query.labels, zone.apex)
        if shape is not None:
            return Asked(query, decision, zone, shape)
    return Asked(query, decision, None, None)


def walk(served: Served, name: bytes, qtype: int) -> Walk:
    """Ask, and gather the objects that the answer comes from."""
    asked = ask(served, name, qtype)
    shape = _describe(asked)
    if not isinstance(asked.shape, ServiceName):
        return Walk(asked, shape)
    key = key_of(asked.shape)
    service = served.store.get(key)
    zone = asked.zone.apex if asked.zone else names.ROOT
    above = names.to_text(asked.shape.service + b"\x03svc" + zone)
    pieces = sorted(
        service.slices if service else served.store.orphans(key),
        key=lambda piece: (piece.cluster, piece.name),
    )
    node = served.tree.service(asked.shape.service)
    imported = None
    if service:
        origin = objects.addresses_from(service.imported, node)
        imported = objects.describe_import(service.imported, origin)
    return Walk(
        asked,
        shape,
        key,
        node,
        imported,
        objects.count_clusters(imported, pieces),
        tuple(objects.describe_slice(piece, imported, above) for piece in pieces),
    )


def key_of(shape: ServiceName) -> ServiceKey:
    """Return namespace and service; objects are named in ASCII, other octets match none."""
    service, namespace = names.labels_of(shape.service)
    return namespace.decode("latin-1"), service.decode("latin-1")


_FIXED = {
    Fixed.APEX: Shape(ShapeKind.APEX, "<zone>"),
    Fixed.DNS: Shape(ShapeKind.DNS, "dns.<zone>"),
    Fixed.NAME_SERVER: Shape(ShapeKind.NAME_SERVER, "ns.dns.<zone>"),
    Fixed.DNS_VERSION: Shape(ShapeKind.DNS_VERSION, "dns-version.<zone>"),
    Fixed.SVC: Shape(ShapeKind.SVC, "svc.<zone>"),
    Fixed.ELSEWHERE: Shape(ShapeKind.ELSEWHERE, "none that this zone has"),
}


def _describe(asked: Asked) -> Shape:
    match asked.shape:
        case None:
            return Shape(ShapeKind.OUTSIDE, "outside every zone")
        case Fixed() as fixed:
            return _FIXED[fixed]
        case NamespaceName(namespace=label):
            namespace = label_text(label[1:])
            return Shape(ShapeKind.NAMESPACE, "<namespace>.svc.<zone>", namespace=namespace)
        case ServiceName() as shape:
            return _describe_service(shape, isinstance(asked.decision.outcome, PerClusterForm))


def _describe_service(shape: ServiceName, per_cluster: bool) -> Shape:
    service, namespace = map(label_text, names.labels_of(shape.service))
    below = [label_text(label) for label in names.labels_of(shape.below)]
    kind, parts = ShapeKind.BELOW_SERVICE, dict[str, str]()
    match below:
        case []:
            kind = ShapeKind.SERVICE
        case [protocol] if protocol.startswith("_"):
            kind, parts = ShapeKind.PROTOCOL, {"protocol": protocol[1:]}
        case [port, protocol] if port.startswith("_") or protocol.startswith("_"):
            kind = ShapeKind.PORT
            parts = {"port": port.removeprefix("_"), "protocol": protocol.removeprefix("_")}
        case labels if per_cluster or len(labels) == 1:
            kind, parts = ShapeKind.PER_CLUSTER, {"cluster": ".".join(labels)}
        case [host, *cluster] if len(cluster) <= 2:  # noqa: PLR2004 - a cluster ID may have a dot
            kind, parts = ShapeKind.ENDPOINT, {"host": host, "cluster": ".".join(cluster)}
        case _:
            pass
    pattern = f"{_BELOW[kind]}<service>.<namespace>.svc.<zone>"
    return Shape(kind, pattern, service, namespace, **parts)


_BELOW = {
    ShapeKind.SERVICE: "",
    ShapeKind.PROTOCOL: "_<protocol>.",
    ShapeKind.PORT: "_<port>._<protocol>.",
    ShapeKind.PER_CLUSTER: "<cluster>.",
    ShapeKind.ENDPOINT: "<host>.<cluster>.",
    ShapeKind.BELOW_SERVICE: "<...>.",
}
