"""RDATA and record types as text, and back: what people read and write, fields apart.

Speed does not matter here: what our own layouts do not cover is left to dnslib, and what that
does not know is written as RFC 3597 says. The one place that touches dnslib, which is untyped.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import RRClass, RRType

NAME, ADDRESS4, ADDRESS6, NUMBER16, NUMBER32, STRING, STRINGS = "n4612s*"

LAYOUTS: Final[dict[int, str]] = {
    RRType.A: ADDRESS4,
    RRType.NS: NAME,
    RRType.CNAME: NAME,
    RRType.SOA: NAME * 2 + NUMBER32 * 5,
    RRType.PTR: NAME,
    RRType.HINFO: STRING * 2,
    RRType.MX: NUMBER16 + NAME,
    RRType.TXT: STRINGS,
    RRType.AAAA: ADDRESS6,
    RRType.SRV: NUMBER16 * 3 + NAME,
}
"""The fields of each type, one letter a field; `STRINGS` is one or more to the end."""

_SIZES: Final = {ADDRESS4: 4, ADDRESS6: 16, NUMBER16: 2, NUMBER32: 4}
_FIELD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+', re.DOTALL)
_CLASS_NUMBER = re.compile(r"CLASS([0-9]{1,5})")
_MAX_UINT16: Final = 0xFFFF


def split_fields(text: str) -> list[str]:
    """Split presentation form at white space; what stands in quotes is one field."""
    return _FIELD.findall(text)


def type_number(text: str) -> int:
    """Read a record type: one that we know, one that dnslib knows, or `TYPE65280` (RFC 3597, 5).

    Raises:
        ValueError: no such type.
    """
    upper = text.upper()
    if upper in RRType.__members__:
        return RRType[upper]
    if upper.startswith("TYPE") and upper[4:].isdigit() and int(upper[4:]) <= _MAX_UINT16:
        return int(upper[4:])
    for number, name in _dnslib_types().items():
        if name == upper:
            return number
    raise ValueError(f"{text!r} is no record type; write a name such as AAAA, or TYPE65")


def type_name(number: int) -> str:
    """Write a record type by its name where there is one, else as `TYPE65280`."""
    try:
        return RRType(number).name
    except ValueError:
        return _dnslib_types().get(number, f"TYPE{number}")


def class_number(text: str) -> int | None:
    """Read a class (`IN`, `CH`, `CLASS255`); None where the text is none."""
    upper = text.upper()
    if upper in RRClass.__members__:
        return RRClass[upper]
    match = _CLASS_NUMBER.fullmatch(upper)
    return int(match[1]) if match and int(match[1]) <= _MAX_UINT16 else None


def class_name(number: int) -> str:
    """Write a class by its name, or as RFC 3597, 5 says."""
    try:
        return RRClass(number).name
    except ValueError:
        return f"CLASS{number}"


def quoted(octets: bytes) -> str:
    """Write a character string in quotes (RFC 1035, 5.1), every odd octet escaped."""
    return f'"{"".join(map(_escaped, octets))}"'


def printable(text: str) -> str:
    """Escape what a terminal could take for a command; other people's text may hold it."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def normal_field(kind: str, text: str) -> str:
    """Return the one spelling of a field that `fields_of` writes.

    Raises:
        ValueError: the text is no such field; says what is wanted.
    """
    if kind == NAME:
        return names.to_text(names.wire_from_text(text))
    if kind in (STRING, STRINGS):
        return text if text.startswith('"') else f'"{text}"'
    if kind in (ADDRESS4, ADDRESS6):
        packed = ip.pack(text)
        if len(packed) != _SIZES[kind]:
            raise ValueError(f"{text!r} is an address of the other family")
        return ip.to_text(packed)
    return str(int(text))


def fields_of(rtype: int, rdata: Cursor) -> tuple[str, ...]:
    """Write RDATA field by field; it is what is left of a cursor.

    Raises:
        ValueError: a type that we know is malformed.
    """
    layout = LAYOUTS.get(rtype)
    if layout is None:
        return tuple(split_fields(_other_text(rtype, rdata)))
    fields = tuple(text for kind in layout for text in _read_field(kind, rdata))
    if rdata.at != rdata.end:
        raise ValueError(f"RDATA of {type_name(rtype)} has not the length that it says")
    return fields


def _read_field(kind: str, rdata: Cursor) -> Iterator[str]:
    """Read one field, or all that are left."""
    if kind == NAME:
        yield names.to_text(rdata.name())
    elif kind == STRING:
        yield quoted(rdata.take(rdata.take(1)[0]))
    elif kind == STRINGS:
        while rdata.at < rdata.end:
            yield from _read_field(STRING, rdata)
    elif kind in (NUMBER16, NUMBER32):
        yield str(int.from_bytes(rdata.take(_SIZES[kind]), "big"))
    else:
        yield ip.to_text(rdata.take(_SIZES[kind]))


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 0x20 <= octet <= 0x7E else f"\\{octet:03d}"  # noqa: PLR2004 - ASCII


def _dnslib_types() -> dict[int, str]:
    return dict(_dnslib().QTYPE.forward)


def _dnslib() -> Any:  # noqa: ANN401 - it has no types
    import dnslib  # type: ignore[import-untyped]  # noqa: PLC0415 - takes 12 ms

    return dnslib


def _other_text(rtype: int, rdata: Cursor) -> str:
    """Write the RDATA of other types as dnslib does, or in hexadecimal digits (RFC 3597, 5)."""
    dnslib = _dnslib()
    size_bytes = rdata.end - rdata.at
    parser = dnslib.RDMAP.get(dnslib.QTYPE.forward.get(rtype))
    buffer = dnslib.DNSBuffer(rdata.message[: rdata.end])
    buffer.offset = rdata.at
    try:
        if parser is not None and size_bytes:
            return printable(parser.parse(buffer, size_bytes).toZone())
    except Exception:  # noqa: S110 - dnslib raises errors of many kinds for odd octets
        pass
    return f"\\# {size_bytes} {rdata.take(size_bytes).hex().upper()}".rstrip()
