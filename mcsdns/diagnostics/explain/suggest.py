"""The nearest thing that exists: names and types one mistake away from a question that fails.

`near_names` and `near_endpoints` give candidates, the likeliest first. Here each is put to the
server's own answerer, so that a suggestion that claims to resolve does.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from mcsdns.diagnostics.explain.facts import Suggestion
from mcsdns.diagnostics.explain.near_endpoints import near_endpoints
from mcsdns.diagnostics.explain.near_names import Candidate, near_names
from mcsdns.diagnostics.explain.walk import Asked, Served, Walk, ask
from mcsdns.diagnostics.explain.words import counted
from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_name
from mcsdns.dns.types import RRType
from mcsdns.zone.lookup import Answer, NoData, NotReady
from mcsdns.zone.name_shape import ServiceName

_MOST_SUGGESTED: Final = 5
_MOST_TRIED: Final = 60
_TYPES: Final = (RRType.A, RRType.AAAA, RRType.SRV, RRType.NS, RRType.SOA, RRType.TXT)


def suggest(served: Served, walk: Walk) -> tuple[Suggestion, ...]:
    """Return what is nearest to a question that got no records, best first."""
    outcome = walk.asked.decision.outcome
    if isinstance(outcome, Answer | NotReady):
        return ()
    if isinstance(outcome, NoData):
        types = tuple(_other_types(served, walk.asked))
        if types:
            return types
    found: dict[str, Suggestion] = {}
    for candidate in itertools.islice(_candidates(served, walk.asked), _MOST_TRIED):
        suggestion = _try(served, candidate, walk.asked)
        if suggestion is not None:
            found.setdefault(suggestion.name, suggestion)
        if sum(each.resolves for each in found.values()) == _MOST_SUGGESTED:
            break
    best_first = sorted(found.values(), key=lambda each: not each.resolves)
    return tuple(best_first[:_MOST_SUGGESTED])


def _candidates(served: Served, asked: Asked) -> Iterator[Candidate]:
    """Iterate over names near to one that fails; where another zone is meant, near to that."""
    if isinstance(asked.shape, ServiceName) and served.tree.service(asked.shape.service):
        yield from near_endpoints(served, asked)
        return
    for candidate in near_names(served, asked):
        yield candidate
        if candidate.rewritten:
            again = ask(served, candidate.names[0], asked.query.qtype)
            if not isinstance(again.decision.outcome, Answer):
                yield from _candidates(served, again)


def _other_types(served: Served, asked: Asked) -> Iterator[Suggestion]:
    name = names.to_text(asked.query.question[:-4])
    for rtype in _TYPES:
        outcome = ask(served, asked.query.name, rtype).decision.outcome
        if isinstance(outcome, Answer):
            why = f"the name has {counted(len(outcome.rrset.rdatas), 'record')} of this type"
            yield Suggestion(name, type_name(rtype), True, why)


def _try(served: Served, candidate: Candidate, asked: Asked) -> Suggestion | None:
    """Ask for a candidate; the first of its names that has records, in the type asked first."""
    for name in candidate.names:
        for rtype in dict.fromkeys((asked.query.qtype, *_TYPES)):
            outcome = ask(served, name, rtype).decision.outcome
            if isinstance(outcome, Answer) and outcome.rrset.rtype == rtype:
                return Suggestion(names.to_text(name), type_name(rtype), True, candidate.why)
    if not candidate.rightful or asked.query.name == candidate.names[-1]:
        return None
    last = candidate.names[-1]
    return Suggestion(names.to_text(last), type_name(asked.query.qtype), False, candidate.why)
