"""Query -> Response: our zone or an rcode; the one place where every reply is decided.

The order of checks is spec.md 3's; header, opcode, counts and form came before, in `wire`.
"""

from typing import Final

import msgspec

from mcsdns.names import to_text
from mcsdns.rrset import Ede, EdeCode, Rcode, RRClass, RRType
from mcsdns.wire import NegativeTail, Query, Response
from mcsdns.zone.lookup import (
    Answer,
    NoData,
    NotReady,
    NxDomain,
    Outcome,
    PerClusterForm,
    lookup,
)
from mcsdns.zone.question import Shape, parse
from mcsdns.zone.tree import PerCluster, Tree

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
_TRANSFERS = (RRType.AXFR, RRType.IXFR)
_NOT_A_QTYPE = (RRType.OPT, RRType.TKEY, RRType.TSIG)


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A response and what it came from.

    Attributes:
        shape: the name's shape in our zone; None where the name did not count.
        outcome: what the zone said; None where it was not asked.
        is_outside: the name is in none of our zones.
    """

    response: Response
    shape: Shape | None = None
    outcome: Outcome | None = None
    is_outside: bool = False


class Answerer:
    """Answers from one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        zones = ", ".join(to_text(tail.zone) for tail in tree.tails) or "no zone"
        self._outside = Decision(
            Response(
                rcode=Rcode.REFUSED,
                ede=Ede(EdeCode.NOT_AUTHORITATIVE, f"only {zones} is served here"),
            ),
            is_outside=True,
        )

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
        for tail in self._tree.tails:
            shape = parse(query.name, query.labels, tail.zone)
            if shape is not None:
                outcome = lookup(self._tree, tail, shape, query.qtype)
                return Decision(self._respond(outcome, tail), shape, outcome)
        return self._outside

    def _respond(self, outcome: Outcome, tail: NegativeTail) -> Response:
        match outcome:
            case Answer(rrset=rrset, additional=additional):
                ede = _STALE if self._tree.stale else None
                return Response(aa=True, answer=rrset, additional=additional, ede=ede)
            case NoData(why=why):
                ede = _STALE if self._tree.stale else why
                return Response(aa=True, negative=tail, ede=ede)
            case NxDomain(why=why):
                ede = _STALE_NXDOMAIN if self._tree.stale else why
                return Response(rcode=Rcode.NXDOMAIN, aa=True, negative=tail, ede=ede)
            case PerClusterForm():
                return self._per_cluster(outcome, tail)
            case NotReady(why=why):
                return Response(rcode=Rcode.SERVFAIL, ede=why)

    def _per_cluster(self, outcome: PerClusterForm, tail: NegativeTail) -> Response:
        policy = self._tree.settings.per_cluster
        if policy is PerCluster.REFUSED:
            return PER_CLUSTER_REFUSED
        ede = PER_CLUSTER_REFUSED.ede
        exists = outcome.has_names_below if policy is PerCluster.AUTO else True
        if policy is PerCluster.NXDOMAIN or not exists:
            return Response(rcode=Rcode.NXDOMAIN, aa=True, negative=tail, ede=ede)
        return Response(aa=True, negative=tail, ede=ede)


_STALE = Ede(EdeCode.STALE_ANSWER, "the source of objects is away; this was true when last seen")
_STALE_NXDOMAIN = Ede(
    EdeCode.STALE_NXDOMAIN, "the source of objects is away; this was true when last seen"
)
