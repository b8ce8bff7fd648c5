"""The nearest thing that exists: names and types one mistake away from a query without records.

Two sources give candidates, the likeliest first: the mistakes that are common (another zone, a
search list, no `svc`, another namespace, a host without its cluster, the per-cluster form), and the
edit distance to the names that are known. A candidate is put to the server's own authority, so that
a suggestion that claims to resolve does. What would take two mistakes of different kinds is not
looked for.
"""

import contextlib
import heapq
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.model import Suggestion
from mcsdns.diagnostics.explain.present import counted, label_text, shown
from mcsdns.diagnostics.explain.walk import Walk, decide
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.rdata import type_name
from mcsdns.dns.types import RRType
from mcsdns.errors import InvalidNameError
from mcsdns.zone.lookup import Answer, NoData, NotReady
from mcsdns.zone.name_shape import Fixed, NamespaceName, ServiceName
from mcsdns.zone.records import ServiceNode, why_not_counted

_MOST_SUGGESTED: Final = 5
_MOST_TRIED: Final = 60
_MOST_OF_A_KIND: Final = 3
_MOST_NAMES_READ: Final = 20_000
_MOST_COMPARED: Final = 3000
_SHORT_WORD: Final = 4
"""Words up to this length are near at one letter, longer ones at two."""
_LETTERS_OFF: Final = 2
_TYPES: Final = (RRType.A, RRType.AAAA, RRType.SRV, RRType.NS, RRType.SOA, RRType.TXT)
_SVC: Final = b"svc"
_CLUSTER_ZONE: Final = (b"cluster", b"local")

Labels = tuple[bytes, ...]
"""Labels without their length octets."""


class Candidate(msgspec.Struct, frozen=True):
    """A name that may have been meant.

    Attributes:
        variants: its labels below `zone`, to try in order; the last is the plainest.
        why: how it differs, for people.
        is_right: whether it stands for something that exists, or is right in form, so that it is
            suggested even without records.
    """

    zone: Name
    variants: tuple[Labels, ...]
    why: str
    is_right: bool = False

    @property
    def names(self) -> list[Name]:
        """The variants that are domain names; others are too long, or have an empty label."""
        found: list[Name] = []
        for labels in self.variants:
            with contextlib.suppress(InvalidNameError):
                found.append(names.from_labels((*labels, *names.labels_of(self.zone))))
        return found


def suggest(walk: Walk) -> tuple[Suggestion, ...]:
    """Return what is nearest to a query that got no records, best first."""
    outcome = walk.decision.outcome
    if isinstance(outcome, Answer | NotReady):
        return ()
    if isinstance(outcome, NoData):
        types = tuple(_other_types(walk))
        if types:
            return types
    found: dict[str, Suggestion] = {}
    for candidate in itertools.islice(_candidates(walk), _MOST_TRIED):
        suggestion = _try(walk, candidate)
        if suggestion is not None:
            found.setdefault(suggestion.name, suggestion)
        if sum(each.resolves for each in found.values()) == _MOST_SUGGESTED:
            break
    best_first = sorted(found.values(), key=lambda each: not each.resolves)
    return tuple(best_first[:_MOST_SUGGESTED])


def _other_types(walk: Walk) -> Iterator[Suggestion]:
    name = names.to_text(walk.query.question[:-4])
    for rtype in _TYPES:
        outcome = decide(walk.state, walk.query.name, rtype)[1].outcome
        if isinstance(outcome, Answer):
            why = f"the name has {counted(len(outcome.rrset.rdatas), 'record')} of this type"
            yield Suggestion(name, type_name(rtype), True, why)


def _try(walk: Walk, candidate: Candidate) -> Suggestion | None:
    """Take the first of the candidate's names that has records, preferably of the type asked."""
    tried = candidate.names
    for name in tried:
        for rtype in dict.fromkeys((walk.query.qtype, *_TYPES)):
            outcome = decide(walk.state, name, rtype)[1].outcome
            if isinstance(outcome, Answer) and outcome.rrset.rtype == rtype:
                return Suggestion(names.to_text(name), type_name(rtype), True, candidate.why)
    if not candidate.is_right or not tried or tried[-1] == walk.query.name:
        return None
    return Suggestion(names.to_text(tried[-1]), type_name(walk.query.qtype), False, candidate.why)


def _candidates(walk: Walk) -> Iterator[Candidate]:
    match walk.name:
        case None if walk.labels:
            yield from _in_served_zones(walk)
        case ServiceName(below=below):
            if walk.node is None:
                yield from _other_services(walk)
            elif below and walk.node.names:
                yield from _below_service(walk, walk.node)
        case NamespaceName():
            yield from _of_namespace(walk)
        case Fixed.ELSEWHERE:
            yield from _with_svc(walk)
        case _:
            pass


def _in_served_zones(walk: Walk) -> Iterator[Candidate]:
    """A name of the cluster's own zone, of a zone misspelt, without any, or with a search domain.

    A resolver tries a name without a dot at its end with each domain of its search list behind it
    (resolv.conf), so `<zone>.default.svc.cluster.local` was meant to end at the zone.
    """
    labels = walk.labels
    zones = [(zone.apex, names.labels_of(zone.apex)) for zone in walk.state.tree.zones]
    for apex, zone_labels in zones:
        for end in range(1, len(labels) - len(zone_labels)):
            if labels[end : end + len(zone_labels)] == zone_labels:
                why = "what stands behind the zone is a search domain; end the name with a dot"
                yield Candidate(apex, (labels[:end],), why, is_right=True)
    if _SVC in labels[2:]:
        end = len(labels) - labels[::-1].index(_SVC)
        why = "the same in the zone that is served"
        if labels[end:] == _CLUSTER_ZONE:
            why = "cluster.local is the cluster's own zone, this is the clusterset's"
        for apex, _ in zones:
            yield Candidate(apex, (labels[:end],), why, is_right=True)
    for apex, zone_labels in zones:
        below, above = labels[: -len(zone_labels)], labels[-len(zone_labels) :]
        off = letters_off(".".join(map(label_text, above)), shown(apex))
        if below and off <= _LETTERS_OFF:
            yield Candidate(apex, (below, (*below, _SVC)), f"the zone is {_off(off)}")
        yield Candidate(apex, (labels, (*labels, _SVC)), "with the zone")


def _with_svc(walk: Walk) -> Iterator[Candidate]:
    """A name without the label `svc`, or with another word in its place."""
    *below, last = walk.labels
    if not below:
        for off, known in nearest(label_text(last), ("dns-version", "dns", "svc")):
            yield Candidate(walk.apex, ((known.encode(),),), f"the label is {_off(off)}")
        return
    if len(below) > 1:
        why = f"`svc` stands before the zone, not `{label_text(last)}`"
        yield Candidate(walk.apex, ((*below, _SVC),), why)
    yield Candidate(walk.apex, ((*walk.labels, _SVC),), "`svc` stands before the zone")


def _of_namespace(walk: Walk) -> Iterator[Candidate]:
    """`<ns>.svc`: services of that namespace or of one spelt nearly so, or of that name."""
    services = _services_by_namespace(walk)
    label = label_text(walk.labels[0])
    for service in sorted(services.get(label, ()))[:_MOST_OF_A_KIND]:
        yield _service(walk, label, service, f"a service of namespace {label}")
    homes = sorted(each for each in services if label in services[each])
    for namespace in homes[:_MOST_OF_A_KIND]:
        yield _service(walk, namespace, label, f"service {label} is in namespace {namespace}")
    for off, namespace in nearest(label, services):
        why = f"a service of namespace {namespace}, {_off(off)}"
        yield _service(walk, namespace, min(services[namespace]), why)


def _other_services(walk: Walk) -> Iterator[Candidate]:
    """`<svc>.<ns>.svc` of no ServiceImport: swapped, with labels too many, misspelt, elsewhere."""
    services = _services_by_namespace(walk)
    texts = [label_text(label) for label in walk.labels[:-1]]
    *_, service, namespace = texts
    if namespace in services.get(service, ()):
        yield _service(walk, service, namespace, "service and namespace have changed places")
    for name, space in itertools.pairwise(texts[:-1]):
        if name in services.get(space, ()):
            why = "what stands between <service>.<namespace> and svc is too much"
            yield _service(walk, space, name, why)
    homes = sorted(each for each in services if service in services[each])
    near_homes = nearest(namespace, homes)
    for off, home in near_homes:
        yield _service(walk, home, service, f"the namespace is {_off(off)}")
    for off, name in nearest(service, services.get(namespace, ())):
        yield _service(walk, namespace, name, f"the service is {_off(off)}")
    for home in homes[: _MOST_OF_A_KIND + len(near_homes)]:  # each name is suggested once
        yield _service(walk, home, service, f"service {service} is in namespace {home}")


def _service(walk: Walk, namespace: str, service: str, why: str) -> Candidate:
    """Name a service that exists, first with the labels that stood below the one of the query."""
    own = (service.encode("ascii"), namespace.encode("ascii"), _SVC)
    return Candidate(walk.apex, ((*walk.labels[:-3], *own), own), why, is_right=True)


def _services_by_namespace(walk: Walk) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for namespace, service in walk.state.store.imports:
        found.setdefault(namespace, []).append(service)
    return found


def _below_service(walk: Walk, node: ServiceNode) -> Iterator[Candidate]:
    """Names of a service that are near to one that it does not have."""
    own = walk.labels[-3:]
    for below, why in _near_names(walk, node):
        labels = (label.encode("ascii") for label in below.split(".") if label)
        yield Candidate(walk.apex, ((*labels, *own),), why)


def _near_names(walk: Walk, node: ServiceNode) -> Iterator[tuple[str, str]]:
    """Yield relative names of the service, and how they differ; the empty one is its own.

    A port is looked for among the named ports alone, those spelt most alike first. For an endpoint
    that is there but not served, others of its cluster are named: no spelling of its name is wrong.
    """
    labels = [label_text(label) for label in walk.labels[:-3]]
    relative = ".".join(labels)
    known = [
        names.to_text(owner + b"\0")[:-1]
        for owner, records in itertools.islice(node.names.items(), _MOST_NAMES_READ)
        if owner and (records.a or records.aaaa or records.srv)
    ]
    if labels[0].startswith("_"):
        ports = [each for each in known if each.startswith("_")]
        for port in sorted(ports, key=lambda port: (letters_off(relative, port), port)):
            yield port, "a named port of the service"
        return
    hosts: dict[str, set[str]] = {}
    """By cluster ID, the host labels of the endpoints that are served."""
    for host, _, cluster in (each.partition(".") for each in known if each[0] != "_"):
        hosts.setdefault(cluster, set()).add(host)
    if walk.endpoint is None:
        if len(labels) > 1:
            yield from _by_address(walk, labels[0])
        for off, name in nearest(relative, known):
            yield name, f"the name is {_off(off)}"
        for cluster in sorted(each for each in hosts if labels[0] in hosts[each]):
            yield f"{labels[0]}.{cluster}", f"host {labels[0]} of cluster {cluster}"
    cluster = relative if relative in hosts or len(labels) == 1 else ".".join(labels[1:])
    for off, near in [(0, cluster)] if cluster in hosts else nearest(cluster, hosts):
        for host in heapq.nsmallest(_MOST_OF_A_KIND, hosts[near]):
            why = f"a ready endpoint of cluster {near}"
            yield f"{host}.{near}", f"{why}, {_off(off)}" if off else why
    yield "", "the endpoints of every cluster" if node.headless else "the service itself"


def _by_address(walk: Walk, label: str) -> Iterator[tuple[str, str]]:
    """The host name of an endpoint, for a name made of its address."""
    service = walk.state.store.get(walk.key) if walk.headless and walk.key else None
    for piece in service.slices if service else ():
        for endpoint in piece.endpoints:
            for packed in endpoint.addresses if not why_not_counted(endpoint) else ():
                if endpoint.hostname and ip.to_label(packed) == label:
                    why = "an endpoint with a host name is not named by its address"
                    yield f"{endpoint.hostname}.{piece.cluster}", why


def _off(letters: int) -> str:
    return f"{counted(letters, 'letter')} off"


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[tuple[int, str]]:
    """Return the known words nearest to `word`, itself left out, with their distances.

    Bounded: words that cannot be near by their length and letters are passed over, and no more
    than some thousand are compared.
    """
    letters = frozenset(word)
    found: list[tuple[int, str]] = []
    compared = 0
    for other in known:
        longer = max(len(word), len(other))
        most = min(len(word) - 1, len(other) - 1, 1 if longer <= _SHORT_WORD else _LETTERS_OFF)
        if other == word or abs(len(other) - len(word)) > most:
            continue
        if len(letters.symmetric_difference(other)) > 2 * most:
            continue  # one letter in place of another changes two of the set
        compared += 1
        if compared > _MOST_COMPARED:
            break
        distance = letters_off(word, other)
        if distance <= most:
            found.append((distance, other))
    return sorted(found)[:count]


def letters_off(one: str, other: str) -> int:
    """Return how many letters are missing, too many, wrong, or swapped with their neighbour.

    Optimal string alignment: Damerau-Levenshtein without edits inside a swapped pair.
    """
    while one and one[:1] == other[:1]:
        one, other = one[1:], other[1:]
    while one and one[-1:] == other[-1:]:
        one, other = one[:-1], other[:-1]
    before: list[int] = []
    above = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, against in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]
