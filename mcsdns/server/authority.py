"""Query -> Response: our zone or an rcode; the one place where every reply is decided.

The order of checks is spec.md 3's; header, opcode, counts and form came before, in `wire`.
"""

from typing import Final

import msgspec

from mcsdns.dns import Query, Response
from mcsdns.dns.name import Name, is_at_or_below, to_text
from mcsdns.dns.types import Ede, EdeCode, Rcode, RRClass, RRType
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

BAD_VERSION: Final = Response(rcode=Rcode.BADVERS)
BAD_TYPE: Final = Response(rcode=Rcode.FORMERR)
BAD_CLASS: Final = Response(
    rcode=Rcode.REFUSED, ede=Ede(EdeCode.NOT_SUPPORTED, "only class IN is served")
)
NO_TRANSFER: Final = Response(
    rcode=Rcode.REFUSED, ede=Ede(EdeCode.NOT_SUPPORTED, "zone transfer is not offered")
)
PER_CLUSTER_REFUSED: Final = Response(
    rcode=Rcode.REFUSED,
    ede=Ede(
        EdeCode.PROHIBITED,
        "<cluster>.<service> has no records by KEP-1645; ask <service>.<ns>.svc.<zone>, "
        "or <hostname>.<cluster>.<service>.<ns>.svc.<zone> for one pod",
    ),
)
_IN: Final = RRClass.IN.value
_TRANSFERS = (RRType.AXFR, RRType.IXFR)
_NOT_A_QTYPE = (RRType.OPT, RRType.TKEY, RRType.TSIG)
_NEVER_FORWARDED: Final = frozenset(each.value for each in (*_TRANSFERS, *_NOT_A_QTYPE))


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A response and what it came from.

    Attributes:
        shape: the name's shape in our zone; None where the name did not count.
        outcome: what the zone said; None where it was not asked.
        zone: the apex of the name's zone; None where it is in none, or did not count.
        kind: what it counts as.
    """

    response: Response
    shape: Shape | None = None
    outcome: Outcome | None = None
    zone: Name | None = None
    kind: ReplyKind = ReplyKind.REJECTED


class Authority:
    """Answers from one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._zones = tuple(zone.apex for zone in tree.zones)
        zones = ", ".join(to_text(zone.apex) for zone in tree.zones) or "no zone"
        self._outside = Decision(
            Response(
                rcode=Rcode.REFUSED,
                ede=Ede(EdeCode.NOT_AUTHORITATIVE, f"only {zones} is served here"),
            ),
            kind=ReplyKind.OUTSIDE,
        )

    def is_foreign(self, query: Query) -> bool:
        """Say whether a query is one that others may answer: in none of our zones, and common."""
        if query.qclass != _IN or query.qtype in _NEVER_FORWARDED:
            return False
        if query.edns is not None and query.edns.version:
            return False
        if not query.name.endswith(self._zones):
            return True
        return not any(is_at_or_below(query.name, zone) for zone in self._zones)

    def answer_query(self, query: Query) -> Decision:
        """Decide the response to a well-formed query."""
        if query.edns is not None and query.edns.version:
            return Decision(BAD_VERSION)
        if query.qclass != RRClass.IN:
            return Decision(BAD_CLASS)
        if query.qtype in _TRANSFERS:
            return Decision(NO_TRANSFER)
        if query.qtype in _NOT_A_QTYPE:
            return Decision(BAD_TYPE)
        for zone in self._tree.zones:
            shape = parse(query.name, query.labels, zone.apex)
            if shape is not None:
                outcome = lookup(self._tree, zone, shape, query.qtype)
                kind = self._kind_of(outcome)
                return Decision(self._respond(outcome, zone), shape, outcome, zone.apex, kind)
        return self._outside

    def _kind_of(self, outcome: Outcome) -> ReplyKind:
        match outcome:
            case PerClusterForm():
                return ReplyKind.PER_CLUSTER
            case NotReady():
                return ReplyKind.NOT_READY
            case _ if self._tree.stale:
                return ReplyKind.STALE
            case Answer():
                return ReplyKind.CLUSTERSET
            case _:
                return ReplyKind.NEGATIVE

    def _respond(self, outcome: Outcome, zone: Zone) -> Response:
        match outcome:
            case Answer(rrset=rrset, additional=additional):
                ede = _STALE if self._tree.stale else None
                return Response(aa=True, answer=rrset, additional=additional, ede=ede)
            case NoData(why=why):
                ede = _STALE if self._tree.stale else why
                return Response(aa=True, negative=zone.negative_soa, ede=ede)
            case NxDomain(why=why):
                ede = _STALE_NXDOMAIN if self._tree.stale else why
                return Response(rcode=Rcode.NXDOMAIN, aa=True, negative=zone.negative_soa, ede=ede)
            case PerClusterForm():
                return self._per_cluster(outcome, zone)
            case NotReady(why=why):
                return Response(rcode=Rcode.SERVFAIL, ede=why)

    def _per_cluster(self, outcome: PerClusterForm, zone: Zone) -> Response:
        policy = self._tree.settings.per_cluster
        if policy is PerCluster.REFUSED:
            return PER_CLUSTER_REFUSED
        ede = PER_CLUSTER_REFUSED.ede
        exists = outcome.has_names_below if policy is PerCluster.AUTO else True
        if policy is PerCluster.NXDOMAIN or not exists:
            return Response(rcode=Rcode.NXDOMAIN, aa=True, negative=zone.negative_soa, ede=ede)
        return Response(aa=True, negative=zone.negative_soa, ede=ede)


_STALE = Ede(EdeCode.STALE_ANSWER, "the source of objects is away; this was true when last seen")
_STALE_NXDOMAIN = Ede(
    EdeCode.STALE_NXDOMAIN, "the source of objects is away; this was true when last seen"
)
