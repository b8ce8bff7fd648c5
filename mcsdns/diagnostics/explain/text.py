"""An explanation as text for people: the verdict first, then the walk, then the reply.

Only what `model` holds is written here. Lists are shortened, `--json` has them whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.model import Explanation, Import, Size, Slice, SliceEndpoint
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
        ("name", _shape(explanation)),
        ("import", _import(explanation)),
        ("slices", _slices(explanation)),
        ("endpoints", _endpoints(explanation)),
        ("problems", _problems(explanation)),
        ("records", _records(explanation)),
        ("size", _sizes(explanation)),
        ("reply", _reply(explanation)),
    )
    lines = [_verdict(explanation), *_suggestions(explanation), ""]
    for title, section in sections:
        for number, line in enumerate(section):
            lines.append(f"{'' if number else title:{_MARGIN}}{line}".rstrip())
    return "".join(printable(line) + "\n" for line in lines)


def to_json(explanation: Explanation) -> str:
    """Write the whole explanation as one JSON document; model.py says what it holds."""
    return msgspec.json.format(msgspec.json.encode(explanation), indent=2).decode() + "\n"


def _verdict(explanation: Explanation) -> str:
    verdict = explanation.verdict
    text = f"{verdict.result}: {verdict.summary}"
    if len(explanation.suggestions) == 1 and _other_names(explanation):
        only = explanation.suggestions[0]
        text += f"; did you mean {_name_and_type(explanation, only.name, only.type)}?"
        text += "" if only.resolves else f" ({_NOT_NOW})"
    return text


def _suggestions(explanation: Explanation) -> Iterator[str]:
    if len(explanation.suggestions) == 1 or not _other_names(explanation):
        return
    rows: list[Sequence[str]] = [
        (
            _name_and_type(explanation, each.name, each.type),
            each.why if each.resolves else f"{each.why}; {_NOT_NOW}",
        )
        for each in explanation.suggestions
    ]
    for number, row in enumerate(_table(rows)):
        yield f"{'' if number else 'try':{_MARGIN}}{row}"


def _other_names(explanation: Explanation) -> bool:
    """Whether other names are suggested, not only other types, which the verdict tells."""
    return any(each.name != explanation.question.name for each in explanation.suggestions)


def _name_and_type(explanation: Explanation, name: str, rtype: str) -> str:
    plain = name.removesuffix(".")
    return plain if rtype == explanation.question.type else f"{plain} {rtype}"


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


def _shape(explanation: Explanation) -> Iterator[str]:
    shape = explanation.shape
    parts = {
        "host": shape.host,
        "cluster": shape.cluster,
        "port": shape.port,
        "protocol": shape.protocol,
        "service": shape.service,
        "namespace": shape.namespace,
    }
    said = ", ".join(f"{part} {value}" for part, value in parts.items() if value is not None)
    yield shape.pattern
    if said:
        yield said


def _import(explanation: Explanation) -> Iterator[str]:
    found = explanation.service_import
    if found is None:
        if explanation.shape.service is not None:
            yield "none"
        return
    yield f"ServiceImport {found.namespace}/{found.name}, {found.type}, {found.api_version}"
    yield _where(found.origin, found.resource_version)
    if found.type == "ClusterSetIP" or found.ips:
        yield f"ips {', '.join(found.ips) or 'none yet'}{_about_ips(found)}"
    yield f"ports {_ports(found.ports)}"
    yield from map(conditions.to_text, found.conditions)


def _about_ips(found: Import) -> str:
    if found.type != "ClusterSetIP":
        return " (a headless service has no use for them)"
    return ", the slices have them (clusterset_ips)" if found.addresses_from == "slices" else ""


def _where(origin: str, resource_version: str) -> str:
    version = f"resourceVersion {resource_version}" if resource_version else ""
    return ", ".join(filter(None, (origin, version))) or "origin unknown"


def _ports(ports: Iterable[Port]) -> str:
    return ", ".join(map(_port, ports)) or "none"


def _port(port: Port) -> str:
    number = "(no number)" if port.number is None else port.number
    return f"{port.name or '(no name)'} {number}/{port.protocol}"


def _slices(explanation: Explanation) -> Iterator[str]:
    """One line for each slice, then the clusters that export but have none."""
    if explanation.shape.service is None:
        return
    from_slices = _is_from_slices(explanation)
    if not explanation.slices:
        yield "none" if from_slices or not explanation.service_import else "none, and none needed"
    rows: list[Sequence[str]] = [
        (
            piece.cluster or "(no cluster)",
            piece.name,
            piece.address_type,
            _where(piece.origin, piece.resource_version),
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


def _is_from_slices(explanation: Explanation) -> bool:
    found = explanation.service_import
    return found is not None and found.addresses_from == "slices"


def _endpoints(explanation: Explanation) -> Iterator[str]:
    """The endpoints of a service that has theirs: those asked for, then counting ones first."""
    if not _is_from_slices(explanation):
        return
    found = [(piece, each) for piece in explanation.slices for each in piece.endpoints]
    if not found:
        return
    name = explanation.question.name.lower()
    found.sort(key=lambda pair: (name not in pair[1].names, not pair[1].counts))
    left_out = sum(not each.counts for _, each in found)
    yield f"{len(found) - left_out} of {len(found)} count"
    shown = found
    if len(found) > _MOST_ROWS:  # some of both
        last = min(left_out, _MOST_ROWS // 2)
        shown = found[: _MOST_ROWS - last] + found[len(found) - last :]
    yield from _table([_endpoint(piece, each) for piece, each in shown])
    yield from _more(len(found) - len(shown), "endpoint")


def _endpoint(piece: Slice, endpoint: SliceEndpoint) -> Sequence[str]:
    facts = [] if endpoint.counts else [f"not counted: {endpoint.why_not}"]
    if endpoint.terminating:
        facts.append("terminating")
    if endpoint.serving is not None and endpoint.serving is not endpoint.ready:
        facts.append("serving" if endpoint.serving else "not serving")
    return (
        piece.cluster,
        endpoint.hostname or "(no host name)",
        _addresses(endpoint.addresses),
        ", ".join(facts),
    )


def _addresses(texts: Sequence[str]) -> str:
    if len(texts) <= _MOST_ADDRESSES:
        return " ".join(texts) or "(no address)"
    return f"{' '.join(texts[:_MOST_ADDRESSES])} and {len(texts) - _MOST_ADDRESSES} more"


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
    records = explanation.records
    if records is None:
        return
    counts = {"A": records.a, "AAAA": records.aaaa, "SRV": records.srv}
    said = ", ".join(f"{number} {rtype}" for rtype, number in counts.items() if number)
    yield said or "none"


def _sizes(explanation: Explanation) -> Iterator[str]:
    """What clients get, where it is not everything."""
    answers = len(explanation.reply.answer)
    additionals = len(explanation.reply.additional)
    wholes = [(each.answers, each.additionals) for each in explanation.sizes]
    if all(whole == (answers, additionals) for whole in wholes):
        return
    for each in explanation.sizes:
        yield f"{_transport(each):28}{_fitting(each, answers, additionals)}"


def _transport(size: Size) -> str:
    if size.transport == "tcp":
        return "TCP"
    return f"UDP {'with' if size.edns else 'without'} EDNS, {size.limit}"


def _fitting(size: Size, answers: int, additionals: int) -> str:
    if size.answers < answers:
        why = "TC is set" if size.truncated else "a subset that turns from TTL to TTL"
        return f"{size.answers} of {answers} records fit, {why}"
    if size.additionals < additionals:
        return f"all {answers} records, {size.additionals} of {additionals} additional ones"
    return f"all {counted(answers, 'record')}"


def _reply(explanation: Explanation) -> Iterator[str]:
    reply = explanation.reply
    yield f";; status: {reply.rcode}, flags: {' '.join(reply.flags)}"
    if reply.ede:
        yield f"; EDE: {reply.ede.code} ({reply.ede.name}): ({reply.ede.text})"
    sections = (
        ("ANSWER", reply.answer),
        ("AUTHORITY", reply.authority),
        ("ADDITIONAL", reply.additional),
    )
    for title, records in sections:
        if records:
            yield f";; {title} SECTION:"
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
