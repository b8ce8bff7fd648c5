"""A reply as text: whole as `dig` shows it, short as `dig +short`, or as one JSON document."""

import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from mcsdns.dns.message_reader import Message, Opt, Record
from mcsdns.dns.name import to_text
from mcsdns.dns.rdata import class_name, type_name
from mcsdns.dns.request import Received
from mcsdns.dns.types import EDE_OPTION, RA, RD, Ede

_OPCODES: Final = {0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE"}
_TAB: Final = 8
_TTL_COLUMN: Final = 24
_CLASS_COLUMN: Final = 32
_TYPE_COLUMN: Final = 40
_DATA_COLUMN: Final = 48


def long_text(reply: Message, received: Received, when_s: float) -> str:
    """Write a whole reply as dig does; `when_s` is the wall clock."""
    return "\n".join([*_header(reply), *_sections(reply), *_trailer(reply, received, when_s), "\n"])


def short_text(reply: Message) -> str:
    """Write the data of the answer's records, one a line."""
    return "".join(f"{' '.join(record.data)}\n" for record in reply.answer)


def json_text(reply: Message, received: Received) -> str:
    """Write a reply as one JSON document."""
    document = {
        "rcode": reply.status,
        "flags": reply.flag_names,
        "question": _question_document(reply),
        "answer": [_record_document(record) for record in reply.answer],
        "authority": [_record_document(record) for record in reply.authority],
        "additional": [_record_document(record) for record in reply.additional],
        "edns": _edns_document(reply.opt) if reply.opt else None,
        "ede": [{"code": e.code, "name": e.name, "text": e.text} for e in reply.errors],
        "size": reply.size,
        "server": received.server,
        "transport": received.transport,
        "query_time_ms": round(received.elapsed_s * 1000, 3),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def error_text(error: Ede) -> str:
    """Write an Extended DNS Error as dig does."""
    name = f" ({error.name})" if error.name else ""
    return f"{error.code}{name}" + (f": ({error.text})" if error.text else "")


def _header(reply: Message) -> Iterator[str]:
    opcode = _OPCODES.get(reply.opcode, f"RESERVED{reply.opcode}")
    flags = "".join(f" {name}" for name in reply.flag_names if name != "z")
    yield ";; Got answer:"
    yield f";; ->>HEADER<<- opcode: {opcode}, status: {reply.status}, id: {reply.id}"
    yield (
        f";; flags:{flags}; QUERY: {1 if reply.question else 0}, ANSWER: {len(reply.answer)}, "
        f"AUTHORITY: {len(reply.authority)}, "
        f"ADDITIONAL: {len(reply.additional) + bool(reply.opt)}"
    )
    if reply.flags & RD and not reply.flags & RA:
        yield ";; WARNING: recursion requested but not available"
    yield ""


def _sections(reply: Message) -> Iterator[str]:
    if reply.opt:
        yield from _opt(reply.opt)
    if reply.question:
        fields = class_name(reply.question.qclass), type_name(reply.question.qtype)
        yield ";; QUESTION SECTION:"
        yield ";" + _line(to_text(reply.question.name), zip(_QUESTION_COLUMNS, fields, strict=True))
        yield ""
    for title in ("answer", "authority", "additional"):
        records: tuple[Record, ...] = getattr(reply, title)
        if records:
            yield f";; {title.upper()} SECTION:"
            yield from map(_record, records)
            yield ""


_QUESTION_COLUMNS: Final = (_CLASS_COLUMN, _TYPE_COLUMN)
_RECORD_COLUMNS: Final = (_TTL_COLUMN, _CLASS_COLUMN, _TYPE_COLUMN, _DATA_COLUMN)


def _opt(opt: Opt) -> Iterator[str]:
    yield ";; OPT PSEUDOSECTION:"
    yield f"; EDNS: version: {opt.version}, flags:{' do' * opt.do}; udp: {opt.size}"
    errors = iter(opt.errors())
    for code, content in opt.options:
        error = next(errors, None) if code == EDE_OPTION else None
        yield f"; EDE: {error_text(error)}" if error else f"; OPT={code}: {content.hex(' ')}"


def _record(record: Record) -> str:
    owner, ttl, rclass, rtype, *data = record.texts
    fields = ttl, rclass, rtype, " ".join(data)
    return _line(owner, zip(_RECORD_COLUMNS, fields, strict=True))


def _line(text: str, fields: Iterator[tuple[int, str]]) -> str:
    """Put fields at their columns with tabs, as dig does; a column that is past costs a space."""
    at = len(text)
    for column, field in fields:
        target = max(column, at + 1)
        tabs = target // _TAB - at // _TAB
        spaces = target % _TAB if tabs else target - at
        text += "\t" * tabs + " " * spaces + field
        at = target + len(field)
    return text


def _trailer(reply: Message, received: Received, when_s: float) -> Iterator[str]:
    when = time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(when_s))
    yield f";; Query time: {received.elapsed_s * 1000:.0f} msec"
    yield f";; SERVER: {received.server} ({received.transport.upper()})"
    yield f";; WHEN: {when}"
    yield f";; MSG SIZE  rcvd: {reply.size}"


def _question_document(reply: Message) -> dict[str, str] | None:
    question = reply.question
    if question is None:
        return None
    return {
        "name": to_text(question.name),
        "class": class_name(question.qclass),
        "type": type_name(question.qtype),
    }


def _record_document(record: Record) -> dict[str, Any]:
    owner, _, rclass, rtype, *data = record.texts
    return {
        "name": owner,
        "ttl": record.ttl,
        "class": rclass,
        "type": rtype,
        "data": " ".join(data),
    }


def _edns_document(opt: Opt) -> dict[str, Any]:
    options = [
        {"code": code, "hex": content.hex()}
        for code, content in opt.options
        if code != EDE_OPTION  # it has a place of its own in the document
    ]
    return {"version": opt.version, "do": opt.do, "size": opt.size, "options": options}
