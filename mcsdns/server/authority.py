"""Query -> route, and route -> response: what our zones say, or an rcode.

The order of checks is that of spec.md 3. What needs no zone is decided before, in `dns.reader`:
header, opcode, counts and form. What needs the client or an upstream is decided behind, in
`forward_handler` and `forward`: the ACL, loops, and failures of upstreams.
"""

from typing import Final

import msgspec

from mcsdns.dns import Query, Response
from mcsdns.dns.name import Name, from_text, to_text
from mcsdns.dns.types import Ede, EdeCode, Rcode, RRClass, RRset, RRType
from mcsdns.stats import ReplyKind
from mcsdns.zone.lookup import (
    Answer,
    NoData,
    NotReady,
    NxDomain,
    Outcome,
    PerClusterForm,
    lookup,
)
from mcsdns.zone.name_shape import Shape, parse
from mcsdns.zone.tree import PerCluster, Tree
from mcsdns.zone.zone import Zone


class Local(msgspec.Struct, frozen=True, gc=False):
    """The name is in one of our zones: the closest one, and the name's shape there."""

    zone: Zone
    shape: Shape


class Foreign(msgspec.Struct, frozen=True, gc=False):
    """The name is in none of our zones, and an upstream may answer the query."""


class Reject(msgspec.Struct, frozen=True, gc=False):
    """The name does not count, or is one of this server: no zone is asked."""

    response: Response
    kind: ReplyKind = ReplyKind.REJECTED


Route = Local | Foreign | Reject


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A response and what it came from.

    Attributes:
        kind: what the reply is counted as.
        outcome: what the zone said; None where it was not asked.
    """

    response: Response
    kind: ReplyKind = ReplyKind.REJECTED
    outcome: Outcome | None = None


PER_CLUSTER_REFUSED: Final = Response(
    rcode=Rcode.REFUSED,
    ede=Ede(
        EdeCode.NOT_SUPPORTED,
        "<cluster>.<service> has no records by KEP-1645; ask <service>.<ns>.svc.<zone>, "
        "or <hostname>.<cluster>.<service>.<ns>.svc.<zone> for one pod",
    ),
)
_BAD_VERSION: Final = Reject(Response(rcode=Rcode.BADVERS))
_BAD_TYPE: Final = Reject(Response(rcode=Rcode.FORMERR))
_BAD_CLASS: Final = Reject(
    Response(rcode=Rcode.REFUSED, ede=Ede(EdeCode.NOT_SUPPORTED, "only class IN is served"))
)
_NO_TRANSFER: Final = Reject(
    Response(rcode=Rcode.REFUSED, ede=Ede(EdeCode.NOT_SUPPORTED, "zone transfer is not offered"))
)
_REJECTED_TYPES: Final[dict[int, Reject]] = {
    **dict.fromkeys((RRType.AXFR, RRType.IXFR), _NO_TRANSFER),
    **dict.fromkeys((RRType.OPT, RRType.TKEY, RRType.TSIG), _BAD_TYPE),
}
_IN: Final = RRClass.IN.value
_TEXTS: Final = (RRType.TXT, RRType.ANY)
_NXDOMAIN: Final = Rcode.NXDOMAIN.value
_CLUSTERSET, _NEGATIVE = ReplyKind.CLUSTERSET, ReplyKind.NEGATIVE  # see `zone.lookup`
_FOREIGN: Final = Foreign()
_STALE_TEXT: Final = "the source of objects is away; this was true when last seen"
_STALE: Final = Ede(EdeCode.STALE_ANSWER, _STALE_TEXT)
_STALE_NXDOMAIN: Final = Ede(EdeCode.STALE_NXDOMAIN, _STALE_TEXT)


def identity(name: str, version: str) -> dict[Name, bytes]:
    """Return the texts of class CH that name this server (RFC 4892); an empty one is not told."""
    texts = {"id.server": name, "hostname.bind": name}
    texts |= {"version.server": version, "version.bind": version}
    return {from_text(each): text.encode()[:255] for each, text in texts.items() if text}


class Authority:
    """Answers from one tree.

    Attributes:
        tree: the zones and their names.
        identity: what is said of this server; may be replaced at any time.
        has_told_of_pod: whether the log has a pod that asks this server for all names.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.identity: dict[Name, bytes] = {}
        self.has_told_of_pod = False
        self._apexes = tuple(zone.apex for zone in tree.zones)
        zones = ", ".join(map(to_text, self._apexes)) or "no zone"
        self._outside = Decision(
            Response(
                rcode=Rcode.REFUSED,
                ede=Ede(EdeCode.NOT_AUTHORITATIVE, f"only {zones} is served here"),
            ),
            ReplyKind.OUTSIDE,
        )

    def route(self, query: Query) -> Route:
        """Decide where the answer to a well-formed query comes from."""
        if query.edns is not None and query.edns.version:
            return _BAD_VERSION
        if query.qclass != _IN:
            return self._identify(query)
        if query.qtype in _REJECTED_TYPES:
            return _REJECTED_TYPES[query.qtype]
        if query.name.endswith(self._apexes):
            for zone in self.tree.zones:
                shape = parse(query.name, query.labels, zone.apex)
                if shape is not None:
                    return Local(zone, shape)
        return _FOREIGN

    def answer(self, route: Route, qtype: int) -> Decision:
        """Decide the response to a query by its route; a foreign one is refused."""
        if isinstance(route, Local):
            outcome = lookup(self.tree, route.zone, route.shape, qtype)
            return self._decide(outcome, route.zone)
        if isinstance(route, Reject):
            return Decision(route.response, route.kind)
        return self._outside

    def _identify(self, query: Query) -> Reject:
        """Say what this server is, where it is asked for a text of class CH, and may tell."""
        text = self.identity.get(query.name)
        if text is None or query.qclass != RRClass.CH or query.qtype not in _TEXTS:
            return _BAD_CLASS
        answer = RRset(RRType.TXT, 0, (bytes((len(text),)) + text,))
        return Reject(Response(aa=True, answer=answer), ReplyKind.IDENTITY)

    def _decide(self, outcome: Outcome, zone: Zone) -> Decision:
        is_stale, soa = self.tree.stale, zone.negative_soa
        match outcome:
            case Answer(rrset=rrset, addresses_of=addresses_of):
                kind = ReplyKind.STALE if is_stale else _CLUSTERSET
                ede = _STALE if is_stale else None
                response = Response(aa=True, answer=rrset, addresses_of=addresses_of, ede=ede)
            case NoData(why=why):
                kind = ReplyKind.STALE if is_stale else _NEGATIVE
                response = Response(aa=True, negative=soa, ede=_STALE if is_stale else why)
            case NxDomain(why=why):
                kind = ReplyKind.STALE if is_stale else _NEGATIVE
                ede = _STALE_NXDOMAIN if is_stale else why
                response = Response(rcode=_NXDOMAIN, aa=True, negative=soa, ede=ede)
            case PerClusterForm(has_names_below=has_names_below):
                kind = ReplyKind.PER_CLUSTER
                response = _per_cluster(self.tree.settings.per_cluster, has_names_below, zone)
            case NotReady(why=why):
                kind = ReplyKind.NOT_READY
                response = Response(rcode=Rcode.SERVFAIL, ede=why)
        return Decision(response, kind, outcome)


def _per_cluster(policy: PerCluster, has_names_below: bool, zone: Zone) -> Response:
    """Return the answer to the per-cluster form (docs/decisions/0001)."""
    if policy is PerCluster.REFUSED:
        return PER_CLUSTER_REFUSED
    exists = policy is PerCluster.NODATA or (policy is PerCluster.AUTO and has_names_below)
    rcode = Rcode.NOERROR if exists else Rcode.NXDOMAIN
    return Response(rcode=rcode, aa=True, negative=zone.negative_soa, ede=PER_CLUSTER_REFUSED.ede)
