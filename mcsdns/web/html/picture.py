"""What the picture of an explanation has besides the explanation itself, for a template.

That is the name in its parts, the step at which the answer was decided, and the endpoints by
cluster. What is shown of them is bounded; `/api/explain` has all of it.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.model import (
    Explanation,
    NameParts,
    ShapeKind,
    Slice,
    SliceEndpoint,
    VerdictReason,
)
from mcsdns.diagnostics.explain.present import label_text
from mcsdns.dns import name as names

_MOST_CLUSTERS: Final = 12
_MOST_ENDPOINTS: Final = 12


class PictureStep(IntEnum):
    """The steps from the name to the answer, in their order."""

    ZONE = 0
    FORM = 1
    IMPORT = 2
    SLICES = 3
    RECORDS = 4


class Dot(msgspec.Struct, frozen=True):
    """An endpoint; `why_not` is empty where it counts.

    Attributes:
        is_asked: whether the name that is explained is its own.
    """

    endpoint: SliceEndpoint
    why_not: str
    is_asked: bool


class Card(msgspec.Struct, frozen=True):
    """The slices of one cluster.

    Attributes:
        dots: endpoints, the most telling ones first.
        total: how many there are. good: how many of these count, or are ready.
    """

    cluster: str
    slices: Sequence[Slice]
    dots: Sequence[Dot]
    total: int
    good: int


class Picture(msgspec.Struct, frozen=True):
    """The picture.

    Attributes:
        parts: some labels of the name each, and what they are, a word such as `service`.
        decided_at: the step at which the answer was decided; None where there are records.
        more_cards: for how many clusters there is no card.
    """

    parts: Sequence[tuple[str, str]]
    decided_at: PictureStep | None
    cards: Sequence[Card]
    more_cards: int


DECIDED_AT: Final = {
    VerdictReason.OUTSIDE_ZONES: PictureStep.ZONE,
    VerdictReason.NOT_READ_YET: PictureStep.ZONE,
    VerdictReason.PER_CLUSTER_FORM: PictureStep.FORM,
    VerdictReason.NAMESPACE_NOT_SERVED: PictureStep.FORM,
    VerdictReason.NO_NAMESPACE: PictureStep.IMPORT,
    VerdictReason.NO_IMPORT: PictureStep.IMPORT,
    VerdictReason.SLICES_WITHOUT_IMPORT: PictureStep.IMPORT,
    VerdictReason.NO_READY_ENDPOINT: PictureStep.SLICES,
    VerdictReason.ENDPOINT_NOT_SERVED: PictureStep.SLICES,
    VerdictReason.NO_SUCH_ENDPOINT: PictureStep.SLICES,
    VerdictReason.NO_SUCH_PORT: PictureStep.RECORDS,
    VerdictReason.NO_RECORD_OF_TYPE: PictureStep.RECORDS,
    VerdictReason.EMPTY_NON_TERMINAL: PictureStep.RECORDS,
    VerdictReason.TYPE_NOT_SERVED: PictureStep.RECORDS,
}
"""The step at which a verdict falls, where its reason alone tells; see `_decided_at`."""


def draw(explanation: Explanation) -> Picture:
    """Make the picture of an explanation."""
    slices: dict[str, list[Slice]] = {each.id: [] for each in explanation.clusters}
    for piece in explanation.slices:
        slices.setdefault(piece.cluster, []).append(piece)
    shown = list(slices.items())[:_MOST_CLUSTERS]
    return Picture(
        parts=tuple(_parts(explanation)),
        decided_at=_decided_at(explanation),
        cards=[_card(cluster, theirs, explanation) for cluster, theirs in shown],
        more_cards=len(slices) - len(shown),
    )


def _decided_at(explanation: Explanation) -> PictureStep | None:
    reason, shape = explanation.verdict.reason, explanation.shape
    if reason is VerdictReason.NO_ADDRESS:
        return PictureStep.RECORDS if explanation.service_import is None else PictureStep.IMPORT
    if reason is VerdictReason.NO_SUCH_NAME:
        return PictureStep.RECORDS if shape.kind is ShapeKind.ENDPOINT else PictureStep.FORM
    return DECIDED_AT.get(reason)


def _parts(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Cut the name into what its labels are, leftmost first."""
    labels = [label_text(each) for each in _labels(explanation.question.name)]
    zone = explanation.zone.name
    if zone is None:
        yield ".".join(labels) or ".", "in no zone served here"
        return
    depth = len(_labels(zone))
    below, zone_text = labels[: len(labels) - depth], ".".join(labels[len(labels) - depth :])
    for what, count in _kinds_below(explanation.shape, len(below)):
        if count:
            yield ".".join(below[:count]), what
            below = below[count:]
    yield zone_text, "zone"


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


def _card(cluster: str, slices: Sequence[Slice], explanation: Explanation) -> Card:
    asked = explanation.question.name.lower()
    from_spec = explanation.service_import is not None and not explanation.from_slices
    dots = [
        Dot(each, _why_not(each, from_spec=from_spec), asked in each.names)
        for piece in slices
        for each in piece.endpoints
    ]
    good = sum(not each.why_not for each in dots)
    return Card(cluster, slices, _most_telling(dots), len(dots), good)


def _why_not(endpoint: SliceEndpoint, *, from_spec: bool) -> str:
    why_not = endpoint.why_not
    if from_spec:  # why it does not count is said once, for all
        why_not = "" if endpoint.ready else "not ready"
    return f"{why_not}, terminating" if why_not and endpoint.terminating else why_not


def _most_telling(dots: Sequence[Dot]) -> Sequence[Dot]:
    """Return the one that is explained, then some of both kinds, each in their order."""
    ranked = sorted(range(len(dots)), key=lambda at: (not dots[at].is_asked, at))
    if len(ranked) > _MOST_ENDPOINTS:
        bad = [at for at in ranked if dots[at].why_not and not dots[at].is_asked]
        some = bad[: _MOST_ENDPOINTS // 2]
        ranked = [at for at in ranked if at not in set(some)][: _MOST_ENDPOINTS - len(some)]
        ranked += some
    return [dots[at] for at in ranked]
