"""An explanation as a picture: the name in its parts, and the steps from the name to the answer.

These are values for a template, no markup. What is shown is bounded; `/api/explain` has all of it.
"""

from collections.abc import Iterator, Sequence
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
from mcsdns.diagnostics.explain.text import port_text
from mcsdns.dns import name as names

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
    """An endpoint; `why_not` is empty where it counts.

    Attributes:
        is_asked: whether the name that is explained is its own.
    """

    host: str
    addresses: str
    why_not: str
    is_asked: bool


class Card(msgspec.Struct, frozen=True):
    """The slices of one cluster.

    Attributes:
        slices: each with where it is from, or why it is malformed.
        dots: endpoints, the most telling ones first. more: how many are left out.
    """

    cluster: str
    summary: str
    slices: Sequence[tuple[str, str]]
    dots: Sequence[Dot]
    more: int


class PictureStep(msgspec.Struct, frozen=True):
    """One step of the decision.

    Attributes:
        text: what came of it, in one line. facts: more, as pairs of term and value.
        cards: objects by cluster.
    """

    title: str
    text: str
    facts: Sequence[tuple[str, str]] = ()
    cards: Sequence[Card] = ()
    state: PictureState = PictureState.PASSED


class Picture(msgspec.Struct, frozen=True):
    """The whole picture.

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
DECIDED_AT: Final = {
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
"""The step at which a verdict falls, where its reason alone tells; see `_decided_at`."""


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


def _decided_at(explanation: Explanation) -> int | None:
    """Return the step at which the answer was decided; None where there are records."""
    reason, shape = explanation.verdict.reason, explanation.shape
    if reason is VerdictReason.NO_ADDRESS:
        return _RECORDS if explanation.service_import is None else _IMPORT
    if reason is VerdictReason.NO_SUCH_NAME:
        return _RECORDS if shape.kind is ShapeKind.ENDPOINT else _FORM
    return DECIDED_AT.get(reason)


def _parts(explanation: Explanation) -> Iterator[PicturePart]:
    """Cut the name into what its labels are, leftmost first."""
    labels = [label_text(each) for each in _labels(explanation.question.name)]
    zone = explanation.zone.name
    if zone is None:
        yield PicturePart(".".join(labels) or ".", "in no zone served here")
        return
    depth = len(_labels(zone))
    below, zone_text = labels[: len(labels) - depth], ".".join(labels[len(labels) - depth :])
    for what, count in _kinds_below(explanation.shape, len(below)):
        if count:
            yield PicturePart(".".join(below[:count]), what)
            below = below[count:]
    yield PicturePart(zone_text, "zone")


def _labels(name: str) -> tuple[bytes, ...]:
    return names.labels_of(names.wire_from_text(name))


def _kinds_below(shape: NameParts, count: int) -> Sequence[tuple[str, int]]:
    """Return of what kind the labels below the zone are, and how many each kind has.

    The pattern names a kind for each label. A cluster ID may have more than one, and so may what
    stands below a service without being of any form: they have all labels that are left.
    """
    if shape.namespace is None:
        what = "unknown" if shape.kind is ShapeKind.ELSEWHERE else "of the zone itself"
        return [(what, count)]
    kinds = [each.strip("_<>") for each in shape.pattern.replace("...", "unknown").split(".")[:-1]]
    left = count - len(kinds)
    return [(kind, 1 + left if kind in ("cluster", "unknown") else 1) for kind in kinds]


def _steps(explanation: Explanation) -> Iterator[PictureStep]:
    steps = {
        _ZONE: _zone(explanation),
        _FORM: PictureStep("Form of the name", explanation.shape.pattern),
    }
    if explanation.shape.service is not None:
        steps[_IMPORT], steps[_SLICES] = _import(explanation), _slices(explanation)
    steps[_RECORDS] = PictureStep("Records of the name", _records_text(explanation))
    decided_at = _decided_at(explanation)
    for number, step in steps.items():
        if decided_at is None or number < decided_at:
            yield step
        else:
            is_last = number == decided_at
            state = PictureState.STOPPED if is_last else PictureState.SKIPPED
            yield msgspec.structs.replace(step, state=state)


def _zone(explanation: Explanation) -> PictureStep:
    zone = explanation.zone
    facts = [("served here", listed([_plain(each) for each in zone.served]) or "no zone")]
    if zone.namespaces:
        facts.append(("only namespaces", listed(zone.namespaces)))
    if zone.waiting_for:
        facts.append((zone.readiness, zone.waiting_for))
    if zone.stale:
        facts.append(("stale", "the source of objects is away"))
    if zone.name is None:
        return PictureStep("Zone", "in no zone that is served here", facts)
    return PictureStep("Zone", f"in {_plain(zone.name)}", facts if len(facts) > 1 else ())


def _import(explanation: Explanation) -> PictureStep:
    found, shape = explanation.service_import, explanation.shape
    subject = f"{shape.namespace}/{shape.service}"
    if found is None:
        return PictureStep("ServiceImport", f"there is no {subject}")
    facts = tuple(_import_facts(found, explanation))
    return PictureStep("ServiceImport", f"{subject} is {found.type}", facts)


def _import_facts(found: Import, explanation: Explanation) -> Iterator[tuple[str, str]]:
    yield "version", found.api_version
    if found.origin:
        yield "from", found.origin
    if found.resource_version:
        yield "resourceVersion", found.resource_version
    if found.type == "ClusterSetIP" or found.ips:
        yield "spec.ips", listed(found.ips, _MOST_RECORDS) or "none yet"
    yield "ports", listed([*map(port_text, found.ports)], _MOST_RECORDS) or "none"
    if found.clusters:
        yield "status.clusters", listed(found.clusters, _MOST_CLUSTERS)
    for each in found.conditions:
        why = ": ".join(filter(None, (each.reason, each.message)))
        yield f"condition {each.type}", each.status + (f" ({why})" if why else "")
    for problem in explanation.problems[:_MOST_SLICES]:
        yield "problem", f"{problem.origin} {problem.path}: {problem.text}".strip()


def _slices(explanation: Explanation) -> PictureStep:
    found = explanation.service_import
    total = sum(each.endpoints for each in explanation.clusters)
    counting = sum(each.counting for each in explanation.clusters)
    state, text = PictureState.SKIPPED, counted(len(explanation.slices), "EndpointSlice")
    if found is None:
        text = f"{text} labelled for it"
    elif found.from_slices:
        state = PictureState.PASSED
        text = f"{counting} of {counted(total, 'endpoint')} count, in {text}"
    else:
        text = f"{text}, not asked: the address is that of spec.ips"
    slices: dict[str, list[Slice]] = {each.id: [] for each in explanation.clusters}
    for piece in explanation.slices:
        slices.setdefault(piece.cluster, []).append(piece)
    cards = [_card(cluster, theirs, explanation) for cluster, theirs in slices.items()]
    left_out = len(cards) - _MOST_CLUSTERS
    facts = [("not shown", counted(left_out, "cluster"))] if left_out > 0 else []
    return PictureStep("Slices and endpoints", text, facts, cards[:_MOST_CLUSTERS], state)


def _card(cluster: str, pieces: Sequence[Slice], explanation: Explanation) -> Card:
    endpoints = [each for piece in pieces for each in piece.endpoints]
    asked = explanation.question.name.lower()
    from_spec = explanation.service_import is not None and not explanation.from_slices
    dots = [_dot(each, asked, from_spec=from_spec) for each in endpoints]
    shown = _most_telling(dots)
    if endpoints:
        good = sum(not each.why_not for each in dots)
        summary = f"{good} of {len(endpoints)} {'ready' if from_spec else 'count'}"
    else:
        summary = "no endpoints" if pieces else "no slice, though status.clusters names it"
    lines: list[tuple[str, str]] = []
    for each in pieces[:_MOST_SLICES]:
        version = f"resourceVersion {each.resource_version}".rstrip()
        lines.append((each.name, each.malformed or each.origin or version))
    if len(pieces) > _MOST_SLICES:
        lines.append((f"and {counted(len(pieces) - _MOST_SLICES, 'more slice')}", ""))
    return Card(cluster or "(no cluster)", summary, lines, shown, len(dots) - len(shown))


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
    """Return the one that is explained, then some of both kinds, each in their order."""
    ranked = sorted(range(len(dots)), key=lambda at: (not dots[at].is_asked, at))
    if len(ranked) > _MOST_ENDPOINTS:
        bad = [at for at in ranked if dots[at].why_not and not dots[at].is_asked]
        some = bad[: _MOST_ENDPOINTS // 2]
        ranked = [at for at in ranked if at not in set(some)][: _MOST_ENDPOINTS - len(some)]
        ranked += some
    return [dots[at] for at in ranked]


def _records_text(explanation: Explanation) -> str:
    records = explanation.records
    if explanation.shape.service is None:
        return "it owns what every zone has" if explanation.reply.answer else "none"
    if records is None:
        return "no such name owns records"
    return f"it owns {', '.join(records.by_type) or 'none'}"


def _plain(name: str | None) -> str:
    return (name or "").removesuffix(".") or "."
