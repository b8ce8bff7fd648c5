"""An explanation as a picture: the name in its parts, and the steps from it to the answer.

Values for a template, no markup. What is shown is bounded; `/api/explain` has everything.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.model import (
    Explanation,
    Import,
    NameParts,
    ShapeKind,
    Slice,
    SliceEndpoint,
    VerdictReason,
)
from mcsdns.diagnostics.explain.present import counted, label_text, listed
from mcsdns.dns import name as names
from mcsdns.objects.model import Port

_MOST_CLUSTERS: Final = 12
_MOST_ENDPOINTS: Final = 12
_MOST_SLICES: Final = 8
_MOST_RECORDS: Final = 12


class PictureState(StrEnum):
    """What a step came to.

    Attributes:
        PASSED: it led on. STOPPED: the answer was decided here. SKIPPED: it had no part in it.
    """

    PASSED = "passed"
    STOPPED = "stopped"
    SKIPPED = "skipped"


class PicturePart(msgspec.Struct, frozen=True):
    """Some labels of the name and what they are; `what` is a word such as `service`."""

    text: str
    what: str


class Dot(msgspec.Struct, frozen=True):
    """An endpoint; `why_not` is empty where it counts, `is_asked` if the name is its own."""

    host: str
    addresses: str
    why_not: str
    is_asked: bool


class Card(msgspec.Struct, frozen=True):
    """The slices of one cluster.

    Attributes:
        slices: each with where it is from, or why it is malformed.
        dots: endpoints, those first that tell most. more: how many are left out.
    """

    cluster: str
    summary: str
    slices: Sequence[tuple[str, str]]
    dots: Sequence[Dot]
    more: int


class PictureStep(msgspec.Struct, frozen=True):
    """One step of the decision.

    Attributes:
        said: what came of it, in one line. facts: more, as pairs of term and value.
        cards: objects by cluster.
    """

    title: str
    state: PictureState
    said: str
    facts: Sequence[tuple[str, str]] = ()
    cards: Sequence[Card] = ()


class Picture(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        tone: `good` for records, `bad` for none, by which the verdict is coloured.
        records: those of the answer. more_records: how many are left out.
    """

    tone: str
    parts: Sequence[PicturePart]
    steps: Sequence[PictureStep]
    records: Sequence[str]
    more_records: int


_ZONE, _FORM, _IMPORT, _SLICES, _RECORDS = range(5)
_STOPS_AT: Final = {
    VerdictReason.OUTSIDE_ZONES: _ZONE,
    VerdictReason.NOT_READ_YET: _ZONE,
    VerdictReason.PER_CLUSTER_FORM: _FORM,
    VerdictReason.NAMESPACE_NOT_SERVED: _FORM,
    VerdictReason.NO_NAMESPACE: _IMPORT,
    VerdictReason.NO_IMPORT: _IMPORT,
    VerdictReason.SLICES_WITHOUT_IMPORT: _IMPORT,
    VerdictReason.NO_READY_ENDPOINT: _SLICES,
    VerdictReason.ENDPOINT_NOT_SERVED: _SLICES,
    VerdictReason.NO_SUCH_ENDPOINT: _SLICES,
    VerdictReason.NO_SUCH_PORT: _RECORDS,
    VerdictReason.NO_RECORD_OF_TYPE: _RECORDS,
    VerdictReason.EMPTY_NON_TERMINAL: _RECORDS,
    VerdictReason.TYPE_NOT_SERVED: _RECORDS,
}


def draw(explanation: Explanation) -> Picture:
    """Make the picture of an explanation."""
    answer = explanation.reply.answer
    return Picture(
        tone="good" if explanation.verdict.reason is VerdictReason.RECORDS else "bad",
        parts=tuple(_parts(explanation)),
        steps=tuple(_steps(explanation)),
        records=answer[:_MOST_RECORDS],
        more_records=max(0, len(answer) - _MOST_RECORDS),
    )


def _stop(explanation: Explanation) -> int | None:
    """Return the step at which the answer was decided; None where the walk went to its end."""
    reason, shape = explanation.verdict.reason, explanation.shape
    if reason is VerdictReason.NO_ADDRESS:
        return _RECORDS if explanation.service_import is None else _IMPORT
    if reason is VerdictReason.NO_SUCH_NAME:
        return _RECORDS if shape.kind is ShapeKind.ENDPOINT else _FORM
    return _STOPS_AT.get(reason)


def _parts(explanation: Explanation) -> Iterator[PicturePart]:
    """Cut the name into what its labels are, leftmost first."""
    labels = [label_text(each) for each in _labels(explanation.question.name)]
    zone = explanation.zone.name
    if zone is None:
        yield PicturePart(".".join(labels) or ".", "in no zone served here")
        return
    depth = len(_labels(zone))
    below, zone_text = labels[: len(labels) - depth], ".".join(labels[len(labels) - depth :])
    counts = _below(explanation.shape, len(below))
    for what, count in counts:
        if count:
            yield PicturePart(".".join(below[:count]), what)
            below = below[count:]
    yield PicturePart(zone_text, "zone")


def _labels(name: str) -> tuple[bytes, ...]:
    return names.labels_of(names.wire_from_text(name))


def _below(shape: NameParts, count: int) -> Iterable[tuple[str, int]]:
    """Say of what kind the labels below the zone are, and how many each kind has."""
    if shape.kind is ShapeKind.NAMESPACE:
        return (("namespace", 1), ("svc", 1))
    if shape.service is None:
        what = "unknown" if shape.kind is ShapeKind.ELSEWHERE else "of the zone itself"
        return ((what, count),)
    above = (("service", 1), ("namespace", 1), ("svc", 1))
    rest = count - 3
    match shape.kind:
        case ShapeKind.ENDPOINT:
            return (("host", 1), ("cluster", rest - 1), *above)
        case ShapeKind.PORT:
            return (("port", 1), ("protocol", 1), *above)
        case ShapeKind.PROTOCOL:
            return (("protocol", 1), *above)
        case ShapeKind.PER_CLUSTER:
            return (("cluster", rest), *above)
        case _:
            return (("unknown", rest), *above)


def _steps(explanation: Explanation) -> Iterator[PictureStep]:
    stop = _stop(explanation)
    made = [_zone, _form]
    if explanation.shape.service is not None:
        made += [_import, _slices]
    for make in (*made, _records):
        number = (_zone, _form, _import, _slices, _records).index(make)
        step = make(explanation)
        if stop is not None and number > stop:
            step = msgspec.structs.replace(step, state=PictureState.SKIPPED)
        elif number == stop:
            step = msgspec.structs.replace(step, state=PictureState.STOPPED)
        yield step


def _zone(explanation: Explanation) -> PictureStep:
    zone = explanation.zone
    facts = [("served here", listed([_plain(each) for each in zone.served]) or "no zone")]
    if zone.namespaces:
        facts.append(("only namespaces", listed(zone.namespaces)))
    if zone.waiting_for:
        facts.append((zone.readiness, zone.waiting_for))
    if zone.stale:
        facts.append(("stale", "the source of objects is away"))
    said = f"in {_plain(zone.name)}" if zone.name else "in no zone that is served here"
    return PictureStep(
        "Zone", PictureState.PASSED, said, tuple(facts) if len(facts) > 1 or not zone.name else ()
    )


def _form(explanation: Explanation) -> PictureStep:
    return PictureStep("Form of the name", PictureState.PASSED, explanation.shape.pattern)


def _import(explanation: Explanation) -> PictureStep:
    found, shape = explanation.service_import, explanation.shape
    subject = f"{shape.namespace}/{shape.service}"
    if found is None:
        return PictureStep("ServiceImport", PictureState.PASSED, f"there is no {subject}")
    said = f"{subject} is {found.type}"
    return PictureStep(
        "ServiceImport", PictureState.PASSED, said, tuple(_import_facts(found, explanation))
    )


def _import_facts(found: Import, explanation: Explanation) -> Iterator[tuple[str, str]]:
    yield "version", found.api_version
    yield from _where(found.origin, found.resource_version)
    if found.type == "ClusterSetIP" or found.ips:
        yield "spec.ips", listed(found.ips, _MOST_RECORDS) or "none yet"
    yield "ports", _ports(found.ports)
    if found.clusters:
        yield "status.clusters", listed(found.clusters, _MOST_CLUSTERS)
    for each in found.conditions:
        why = ": ".join(filter(None, (each.reason, each.message)))
        yield f"condition {each.type}", each.status + (f" ({why})" if why else "")
    for problem in explanation.problems[:_MOST_SLICES]:
        yield "problem", f"{problem.origin} {problem.path}: {problem.text}".strip()


def _where(origin: str, resource_version: str) -> Iterator[tuple[str, str]]:
    if origin:
        yield "from", origin
    if resource_version:
        yield "resourceVersion", resource_version


def _ports(ports: Sequence[Port]) -> str:
    texts = [
        f"{port.name or '(no name)'} "
        f"{'(no number)' if port.number is None else port.number}/{port.protocol}"
        for port in ports
    ]
    return listed(texts, _MOST_RECORDS) or "none"


def _slices(explanation: Explanation) -> PictureStep:
    found = explanation.service_import
    is_counted = found is not None and found.addresses_from == "slices"
    total = sum(each.endpoints for each in explanation.clusters)
    counting = sum(each.counting for each in explanation.clusters)
    pieces = counted(len(explanation.slices), "EndpointSlice")
    if is_counted:
        state, said = (
            PictureState.PASSED,
            f"{counting} of {counted(total, 'endpoint')} count, in {pieces}",
        )
    elif found is None:
        state, said = PictureState.SKIPPED, f"{pieces} labelled for it"
    else:
        state, said = PictureState.SKIPPED, f"{pieces}, not asked: the address is that of spec.ips"
    cards = list(_cards(explanation))
    left_out = len(cards) - _MOST_CLUSTERS
    facts = [("not shown", counted(left_out, "cluster"))] if left_out > 0 else []
    return PictureStep("Slices and endpoints", state, said, facts, cards[:_MOST_CLUSTERS])


def _cards(explanation: Explanation) -> Iterator[Card]:
    pieces: dict[str, list[Slice]] = {each.id: [] for each in explanation.clusters}
    for piece in explanation.slices:
        pieces.setdefault(piece.cluster, []).append(piece)
    for cluster, theirs in pieces.items():
        yield _card(cluster, theirs, explanation)


def _card(cluster: str, pieces: Sequence[Slice], explanation: Explanation) -> Card:
    endpoints = [each for piece in pieces for each in piece.endpoints]
    asked = explanation.question.name.lower()
    from_spec = (
        explanation.service_import is not None
        and explanation.service_import.addresses_from != "slices"
    )
    dots = [_dot(each, asked, from_spec=from_spec) for each in endpoints]
    shown = _most_telling(dots)
    if endpoints:
        good = sum(not each.why_not for each in dots)
        summary = f"{good} of {len(endpoints)} {'ready' if from_spec else 'count'}"
    else:
        summary = "no endpoints" if pieces else "no slice, though status.clusters names it"
    lines = [(each.name, each.malformed or _origin(each)) for each in pieces[:_MOST_SLICES]]
    if len(pieces) > _MOST_SLICES:
        lines.append((f"and {counted(len(pieces) - _MOST_SLICES, 'more slice')}", ""))
    return Card(cluster or "(no cluster)", summary, lines, shown, len(dots) - len(shown))


def _origin(piece: Slice) -> str:
    return piece.origin or (f"resourceVersion {piece.resource_version}").rstrip()


def _dot(endpoint: SliceEndpoint, asked: str, *, from_spec: bool) -> Dot:
    why_not = endpoint.why_not
    if from_spec:  # why it does not count is said once, for all
        why_not = "" if endpoint.ready else "not ready"
    texts = [why_not, "terminating" if why_not and endpoint.terminating else ""]
    return Dot(
        host=endpoint.hostname,
        addresses=listed(endpoint.addresses) or "no address",
        why_not=", ".join(filter(None, texts)),
        is_asked=asked in endpoint.names,
    )


def _most_telling(dots: Sequence[Dot]) -> Sequence[Dot]:
    """The one asked for, then some of both kinds; in the order they have."""
    ranked = sorted(range(len(dots)), key=lambda at: (not dots[at].is_asked, at))
    if len(ranked) > _MOST_ENDPOINTS:
        bad = [at for at in ranked if dots[at].why_not and not dots[at].is_asked]
        some = bad[: _MOST_ENDPOINTS // 2]
        ranked = [at for at in ranked if at not in set(some)][: _MOST_ENDPOINTS - len(some)]
        ranked += some
    return [dots[at] for at in ranked]


def _records(explanation: Explanation) -> PictureStep:
    records = explanation.records
    if explanation.shape.service is None:
        owner = "it owns what every zone has" if explanation.reply.answer else "none"
        return PictureStep("Records of the name", PictureState.PASSED, owner)
    if records is None:
        return PictureStep("Records of the name", PictureState.PASSED, "no such name owns records")
    counts = {"A": records.a, "AAAA": records.aaaa, "SRV": records.srv}
    said = ", ".join(f"{number} {rtype}" for rtype, number in counts.items() if number)
    return PictureStep("Records of the name", PictureState.PASSED, f"it owns {said or 'none'}")


def _plain(name: str | None) -> str:
    return (name or "").removesuffix(".") or "."
