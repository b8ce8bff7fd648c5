"""A reply as text: whole as `dig` shows it, short as `dig +short`, or as one JSON document."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from mcsdns.dns.message_reader import Message, Opt, Record, error_of
from mcsdns.dns.request import Received
from mcsdns.dns.types import EDE_OPTION, RA, RD, Ede

_OPCODES: Final = {0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE"}
_TAB: Final = 8
_COLUMNS: Final = (24, 32, 40, 48)
"""Where TTL, class, type and RDATA begin."""


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
        "question": reply.question
        and dict(zip(("name", "class", "type"), reply.question.texts, strict=True)),
        "answer": list(map(_record_document, reply.answer)),
        "authority": list(map(_record_document, reply.authority)),
        "additional": list(map(_record_document, reply.additional)),
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
        yield ";; QUESTION SECTION:"
        yield ";" + _line(reply.question.texts, _COLUMNS[1:3])
        yield ""
    for title in ("answer", "authority", "additional"):
        records: tuple[Record, ...] = getattr(reply, title)
        if records:
            yield f";; {title.upper()} SECTION:"
            yield from (_line(record.texts, _COLUMNS) for record in records)
            yield ""


def _opt(opt: Opt) -> Iterator[str]:
    yield ";; OPT PSEUDOSECTION:"
    yield f"; EDNS: version: {opt.version}, flags:{' do' * opt.do}; udp: {opt.size}"
    for code, content in opt.options:
        error = error_of(code, content)
        yield f"; EDE: {error_text(error)}" if error else f"; OPT={code}: {content.hex(' ')}"


def _line(texts: Sequence[str], columns: Sequence[int]) -> str:
    """Put what follows the name at its columns by tabs, as dig does.

    Where the line is past a column already, a space stands before the field.
    """
    text, *fields = texts
    at = len(text)
    for column, field in zip(columns, fields, strict=True):
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


def _record_document(record: Record) -> dict[str, Any]:
    owner, _, rclass, rtype, data = record.texts
    return {"name": owner, "ttl": record.ttl, "class": rclass, "type": rtype, "data": data}


def _edns_document(opt: Opt) -> dict[str, Any]:
    options = [
        {"code": code, "hex": content.hex()}
        for code, content in opt.options
        if code != EDE_OPTION  # it has a place of its own in the document
    ]
    return {"version": opt.version, "do": opt.do, "size": opt.size, "options": options}
