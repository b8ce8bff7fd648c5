"""Services near to a name that has none: another zone, no `svc`, another spelling or namespace."""

import itertools
from collections.abc import Iterator
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.spelling import letters_off, nearest
from mcsdns.diagnostics.explain.walk import Asked, Served
from mcsdns.diagnostics.explain.words import counted, label_text, shown
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.errors import InvalidNameError
from mcsdns.objects.store import ServiceKey
from mcsdns.zone.name_shape import Fixed, NamespaceName, ServiceName

_SVC: Final = b"svc"
_CLUSTER_ZONE: Final = (b"cluster", b"local")
_MOST_PLACES: Final = 3
_LETTERS_OFF: Final = 2

Spaces = dict[str, dict[str, None]]
"""The services of each namespace."""


class Candidate(msgspec.Struct, frozen=True):
    """A guess at what was meant.

    Attributes:
        names: to try in order; the last is the plainest.
        why: how it differs, for people.
        rightful: it stands for something that exists or is right in form, so it is worth saying
            even if it has no records.
        rewritten: the name asked for, put into another form; it may have a mistake of its own.
    """

    names: tuple[Name, ...]
    why: str
    rightful: bool = False
    rewritten: bool = False


def name_below(zone: Name, *labels: bytes) -> Name | None:
    """Build a name below a zone; None where it would be no valid one."""
    try:
        return names.from_labels((*labels, *names.labels_of(zone)))
    except InvalidNameError:
        return None


def near_names(served: Served, asked: Asked) -> Iterator[Candidate]:
    """Iterate over services near to a name that belongs to none."""
    labels = asked.below_zone
    if asked.zone is None:
        yield from _into_a_zone(served, labels)
        return
    zone = asked.zone.apex
    match asked.shape:
        case ServiceName():
            yield from _other_services(served, labels, zone)
        case NamespaceName():
            yield from _about_namespace(served, label_text(labels[0]), zone)
        case Fixed.ELSEWHERE:
            yield from _with_svc(labels, zone)
        case _:
            pass


def _into_a_zone(served: Served, labels: tuple[bytes, ...]) -> Iterator[Candidate]:
    """A name of the cluster's own zone, of a zone misspelt, or without any."""
    zones = [zone.apex for zone in served.tree.zones]
    for zone in zones:
        yield from _without_search_domain(labels, zone)
    if _SVC in labels[2:]:
        at = len(labels) - labels[::-1].index(_SVC)
        why = "the same in the zone that is served"
        if labels[at:] == _CLUSTER_ZONE:
            why = "cluster.local is the cluster's own zone, this is the clusterset's"
        for zone in zones:
            yield from _rewritten(zone, labels[:at], why, rightful=True)
    for zone in zones:
        depth = len(names.labels_of(zone))
        above = ".".join(map(label_text, labels[-depth:]))
        off = letters_off(above, shown(zone)) if len(labels) > depth else _LETTERS_OFF + 1
        if off <= _LETTERS_OFF:
            yield from _rewritten(zone, labels[:-depth], f"the zone is {letters_text(off)}")
        if labels:
            yield from _rewritten(zone, labels, "with the zone")


def _without_search_domain(labels: tuple[bytes, ...], zone: Name) -> Iterator[Candidate]:
    """A name of the zone behind which a resolver put one of its search domains (resolv.conf)."""
    zone_labels = names.labels_of(zone)
    for at in range(1, len(labels) - len(zone_labels)):
        if labels[at : at + len(zone_labels)] == zone_labels:
            why = "what stands behind the zone is a search domain; end the name with a dot"
            yield from _rewritten(zone, labels[:at], why, rightful=True)


def _with_svc(labels: tuple[bytes, ...], zone: Name) -> Iterator[Candidate]:
    """A name without the label `svc`, or with another word in its place."""
    last = label_text(labels[-1])
    if len(labels) > 2:  # noqa: PLR2004 - <svc>.<ns>.<not svc>
        why = f"`svc` stands before the zone, not `{last}`"
        yield from _rewritten(zone, (*labels[:-1], _SVC), why)
    if len(labels) > 1:
        yield from _rewritten(zone, (*labels, _SVC), "`svc` stands before the zone")
    for known in ("dns-version", "dns", "svc"):
        off = letters_off(last, known)
        name = name_below(zone, known.encode())
        if len(labels) == 1 and name and off <= _LETTERS_OFF:
            yield Candidate((name,), f"the label is {letters_text(off)}")


def _rewritten(
    zone: Name, labels: tuple[bytes, ...], why: str, *, rightful: bool = False
) -> Iterator[Candidate]:
    name = name_below(zone, *labels)
    if name is not None:
        yield Candidate((name,), why, rightful=rightful, rewritten=True)


def _about_namespace(served: Served, label: str, zone: Name) -> Iterator[Candidate]:
    """`<ns>.svc`: services of that namespace, of one spelt nearly so, or of that name."""
    spaces = _by_namespace(served)
    for service in sorted(spaces.get(label, ()))[:_MOST_PLACES]:
        yield from _named(zone, (), (label, service), f"a service of namespace {label}")
    for space in sorted(space for space in spaces if label in spaces[space])[:_MOST_PLACES]:
        yield from _named(zone, (), (space, label), f"service {label} is in namespace {space}")
    for off, space in nearest(label, spaces):
        for service in sorted(spaces[space])[:1]:
            why = f"a service of namespace {space}, {letters_text(off)}"
            yield from _named(zone, (), (space, service), why)


def _other_services(served: Served, labels: tuple[bytes, ...], zone: Name) -> Iterator[Candidate]:
    for key, why in _other_keys(served, [label_text(label) for label in labels[:-1]]):
        yield from _named(zone, labels[:-3], key, why)


def _named(zone: Name, below: tuple[bytes, ...], key: ServiceKey, why: str) -> Iterator[Candidate]:
    """Name a service that exists, first with the labels that stood below the one asked for."""
    namespace, service = (part.encode("ascii") for part in key)
    found = [name_below(zone, *labels, service, namespace, _SVC) for labels in {below: 0, (): 0}]
    tried = tuple(name for name in found if name is not None)
    if tried:
        yield Candidate(tried, why, rightful=True)


def _other_keys(served: Served, labels: list[str]) -> Iterator[tuple[ServiceKey, str]]:
    """Iterate over services near to `... <svc>.<ns>`, with how they differ."""
    *_, service, namespace = labels
    spaces = _by_namespace(served)
    found = False
    for found_key in itertools.chain(
        _misplaced(spaces, labels), _misspelt(spaces, service, namespace)
    ):
        found = True
        yield found_key
    if not found:
        yield from _doubly_misspelt(spaces, service, namespace)


def _misplaced(spaces: Spaces, labels: list[str]) -> Iterator[tuple[ServiceKey, str]]:
    *_, service, namespace = labels
    if namespace in spaces.get(service, ()):
        yield (service, namespace), "service and namespace have changed places"
    for name, space in itertools.pairwise(labels[:-1]):
        if name in spaces.get(space, ()):
            yield (space, name), "what stands between <service>.<namespace> and svc is too much"


def _misspelt(spaces: Spaces, service: str, namespace: str) -> Iterator[tuple[ServiceKey, str]]:
    homes = [space for space in spaces if service in spaces[space]]
    near_homes = nearest(namespace, homes)
    for off, space in near_homes:
        yield (space, service), f"the namespace is {letters_text(off)}"
    for off, name in nearest(service, spaces.get(namespace, ())):
        yield (namespace, name), f"the service is {letters_text(off)}"
    for space in sorted(set(homes) - {space for _, space in near_homes})[:_MOST_PLACES]:
        yield (space, service), f"service {service} is in namespace {space}"


def _doubly_misspelt(
    spaces: Spaces, service: str, namespace: str
) -> Iterator[tuple[ServiceKey, str]]:
    """Both are spelt nearly so, or the service is and its namespace is another."""
    for _, space in nearest(namespace, spaces):
        for _, name in nearest(service, spaces[space]):
            yield (space, name), "service and namespace are spelt nearly so"
    everywhere = dict.fromkeys(name for names_there in spaces.values() for name in names_there)
    for off, name in nearest(service, everywhere, 1):
        homes = sorted(space for space in spaces if name in spaces[space])
        for space in homes[:_MOST_PLACES]:
            yield (space, name), f"the service is {letters_text(off)}, and in namespace {space}"


def _by_namespace(served: Served) -> Spaces:
    spaces: Spaces = {}
    for namespace, service in served.store.imports:
        spaces.setdefault(namespace, {})[service] = None
    return spaces


def letters_text(letters: int) -> str:
    """Say how far a spelling is off."""
    return f"{counted(letters, 'letter')} off"
