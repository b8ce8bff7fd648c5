"""An explanation as text for people: the verdict first, then the walk, then the reply.

Lists are shortened, `--json` has them whole.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.model import Explanation, Slice, SliceEndpoint
from mcsdns.diagnostics.explain.present import counted, listed
from mcsdns.dns.rdata import printable
from mcsdns.objects import conditions
from mcsdns.objects.model import Port

_MARGIN: Final = 11
_MOST_ROWS: Final = 10
_MOST_ADDRESSES: Final = 3
_NOT_NOW: Final = "it does not resolve now"


def to_text(explanation: Explanation) -> str:
    """Write the whole explanation, with a newline at its end."""
    sections = (
        ("zone", _zone(explanation)),
        ("name", _name(explanation)),
        ("import", _import(explanation)),
        ("slices", _slices(explanation)),
        ("endpoints", _endpoints(explanation)),
        ("problems", _problems(explanation)),
        ("records", _records(explanation)),
        ("size", _sizes(explanation)),
        ("reply", _reply(explanation)),
    )
    lines = [*_verdict(explanation), ""]
    for title, section in sections:
        for number, line in enumerate(section):
            lines.append(f"{'' if number else title:{_MARGIN}}{line}".rstrip())
    return "".join(printable(line) + "\n" for line in lines)


def to_json(explanation: Explanation) -> str:
    """Write the whole explanation as one JSON document; model.py says what it holds."""
    return msgspec.json.format(msgspec.json.encode(explanation), indent=2).decode() + "\n"


def _verdict(explanation: Explanation) -> Iterator[str]:
    """The verdict with the one name that is suggested, or followed by a table of several.

    Where only other types of the same name are suggested, the verdict has them already.
    """
    verdict, question = explanation.verdict, explanation.question
    text = f"{verdict.result}: {verdict.summary}"
    if all(each.name == question.name for each in explanation.suggestions):
        yield text
        return
    rows: list[Sequence[str]] = []
    for each in explanation.suggestions:
        name = each.name.removesuffix(".")
        name = name if each.type == question.type else f"{name} {each.type}"
        if len(explanation.suggestions) == 1:
            not_now = "" if each.resolves else f" ({_NOT_NOW})"
            yield f"{text}; did you mean {name}?{not_now}"
            return
        rows.append((name, each.why if each.resolves else f"{each.why}; {_NOT_NOW}"))
    yield text
    for number, row in enumerate(_table(rows)):
        yield f"{'' if number else 'try':{_MARGIN}}{row}"


def _zone(explanation: Explanation) -> Iterator[str]:
    zone = explanation.zone
    served = listed([each.removesuffix(".") for each in zone.served])
    if zone.name is None:
        yield f"none; served here: {served}"
    else:
        name = zone.name.removesuffix(".")
        yield name if len(zone.served) == 1 else f"{name}, of {served}"
    if zone.namespaces:
        yield f"only of namespace {listed(zone.namespaces)}"
    if zone.waiting_for:
        yield f"{zone.readiness}: {zone.waiting_for}"
    if zone.stale:
        yield "stale: the source of objects is away"


def _name(explanation: Explanation) -> Iterator[str]:
    shape = explanation.shape
    yield shape.pattern
    names = ("host", "cluster", "port", "protocol", "service", "namespace")
    parts = [(name, getattr(shape, name)) for name in names]
    text = ", ".join(f"{name} {value}" for name, value in parts if value is not None)
    if text:
        yield text


def _import(explanation: Explanation) -> Iterator[str]:
    found = explanation.service_import
    if found is None:
        if explanation.shape.service is not None:
            yield "none"
        return
    yield f"ServiceImport {found.namespace}/{found.name}, {found.type}, {found.api_version}"
    yield _origin(found.origin, found.resource_version)
    about = ""
    if found.type != "ClusterSetIP":
        about = " (a headless service has no use for them)"
    elif found.from_slices:
        about = ", the slices have them (clusterset_ips)"
    if found.type == "ClusterSetIP" or found.ips:
        yield f"ips {', '.join(found.ips) or 'none yet'}{about}"
    yield f"ports {', '.join(map(port_text, found.ports)) or 'none'}"
    yield from map(conditions.to_text, found.conditions)


def _origin(origin: str, resource_version: str) -> str:
    version = f"resourceVersion {resource_version}" if resource_version else ""
    return ", ".join(filter(None, (origin, version))) or "origin unknown"


def port_text(port: Port) -> str:
    """Write a port with its name, number and protocol."""
    number = "(no number)" if port.number is None else port.number
    return f"{port.name or '(no name)'} {number}/{port.protocol}"


def _slices(explanation: Explanation) -> Iterator[str]:
    """One line for each slice, then the clusters that export but have none."""
    if explanation.shape.service is None:
        return
    from_slices = explanation.from_slices
    if not explanation.slices:
        yield "none" if from_slices or not explanation.service_import else "none, and none needed"
    rows: list[Sequence[str]] = [
        (
            piece.cluster or "(no cluster)",
            piece.name,
            piece.address_type,
            _origin(piece.origin, piece.resource_version),
            _slice_state(piece, from_slices),
        )
        for piece in explanation.slices[:_MOST_ROWS]
    ]
    yield from _table(rows)
    yield from _more(len(explanation.slices) - _MOST_ROWS, "slice")
    missing = [each.id for each in explanation.clusters if not each.slices]
    if missing and from_slices:
        yield f"none of {listed(missing)}, though the import's status names it"
    if explanation.slices and explanation.service_import and not from_slices:
        yield "they do not count: a ClusterSetIP service is answered from spec.ips"


def _slice_state(piece: Slice, from_slices: bool) -> str:
    if piece.malformed:
        return f"malformed, not served: {piece.malformed}"
    total = len(piece.endpoints)
    if not total:
        return "no endpoints"
    if from_slices:
        return f"{sum(each.counts for each in piece.endpoints)} of {total} endpoints count"
    return f"{sum(each.ready for each in piece.endpoints)} of {total} endpoints ready"


def _endpoints(explanation: Explanation) -> Iterator[str]:
    """The endpoints of a service that is answered with them: first the one of the name, if any.

    Those that count follow; of many, some that count and some that do not are written.
    """
    found = [(piece, each) for piece in explanation.slices for each in piece.endpoints]
    if not found or not explanation.from_slices:
        return
    name = explanation.question.name.lower()
    found.sort(key=lambda pair: (name not in pair[1].names, not pair[1].counts))
    left_out = sum(not each.counts for _, each in found)
    yield f"{len(found) - left_out} of {len(found)} count"
    shown = found
    if len(found) > _MOST_ROWS:
        last = min(left_out, _MOST_ROWS // 2)
        shown = found[: _MOST_ROWS - last] + found[len(found) - last :]
    yield from _table([_endpoint(piece, each) for piece, each in shown])
    yield from _more(len(found) - len(shown), "endpoint")


def _endpoint(piece: Slice, endpoint: SliceEndpoint) -> Sequence[str]:
    states = [] if endpoint.counts else [f"not counted: {endpoint.why_not}"]
    if endpoint.terminating:
        states.append("terminating")
    if endpoint.serving is not None and endpoint.serving is not endpoint.ready:
        states.append("serving" if endpoint.serving else "not serving")
    addresses = " ".join(endpoint.addresses[:_MOST_ADDRESSES]) or "(no address)"
    if len(endpoint.addresses) > _MOST_ADDRESSES:
        addresses += f" and {len(endpoint.addresses) - _MOST_ADDRESSES} more"
    return piece.cluster, endpoint.hostname or "(no host name)", addresses, ", ".join(states)


def _problems(explanation: Explanation) -> Iterator[str]:
    for each in explanation.problems[:_MOST_ROWS]:
        yield f"{each.origin}: {each.path}: {each.text}"
    yield from _more(len(explanation.problems) - _MOST_ROWS, "problem")
    found = explanation.service_import
    bad = [each.type for each in found.conditions if each.is_bad] if found else []
    if bad:
        yield f"bad conditions of the import: {listed(bad, len(bad))}"
    if explanation.long_names:
        names = counted(explanation.long_names, "name")
        yield f"{names} of this service would be over 255 octets, and are not served"


def _records(explanation: Explanation) -> Iterator[str]:
    if explanation.records is not None:
        yield ", ".join(explanation.records.by_type) or "none"


def _sizes(explanation: Explanation) -> Iterator[str]:
    """What clients get, where it is not everything."""
    if explanation.size_note:
        yield explanation.size_note
    whole = len(explanation.reply.answer), len(explanation.reply.additional)
    if all((each.answers, each.additionals) == whole for each in explanation.sizes):
        return
    answers, additionals = whole
    for each in explanation.sizes:
        client = f"UDP {'with' if each.edns else 'without'} EDNS, {each.limit}"
        if each.transport == "tcp":
            client = "TCP"
        fits = f"all {counted(answers, 'record')}"
        if each.answers < answers:
            why = "TC is set" if each.truncated else "a subset that turns from TTL to TTL"
            fits = f"{each.answers} of {answers} records fit, {why}"
        elif each.additionals < additionals:
            fits = f"all {answers} records, {each.additionals} of {additionals} additional ones"
        yield f"{client:28}{fits}"


def _reply(explanation: Explanation) -> Iterator[str]:
    reply = explanation.reply
    yield f";; status: {reply.rcode}, flags: {' '.join(reply.flags)}"
    if reply.ede:
        yield f"; EDE: {reply.ede.code} ({reply.ede.name}): ({reply.ede.text})"
    for title in ("answer", "authority", "additional"):
        records: tuple[str, ...] = getattr(reply, title)
        if records:
            yield f";; {title.upper()} SECTION:"
            yield from records[:_MOST_ROWS]
            yield from _more(len(records) - _MOST_ROWS, "record")


def _more(number: int, noun: str) -> Iterator[str]:
    if number > 0:
        yield f"... and {number} more {noun}{'' if number == 1 else 's'}; --json has them all"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align the columns."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
