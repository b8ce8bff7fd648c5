"""RDATA and record types as text, and back: what people read and write, fields apart.

Speed does not matter here: what our own layouts do not cover is left to dnslib, and what that
does not know is written as RFC 3597 says. The one place that touches dnslib, which is untyped.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.types import RRClass, RRType, type_from_text, type_text

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
    """Read a record type: one that we know, one that dnslib knows, or `TYPE65280`.

    Raises:
        ValueError: no such type.
    """
    try:
        return type_from_text(text)
    except ValueError:
        for number, name in _dnslib_types().items():
            if name == text.upper():
                return number
        raise


def type_name(number: int) -> str:
    """Write a record type by its name where there is one."""
    text = type_text(number)
    return _dnslib_types().get(number, text) if text.startswith("TYPE") else text


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


def read_name(message: bytes, at: int) -> tuple[bytes, int]:
    """Read a name, pointers followed; return it in wire form and where it ends.

    Every pointer must point before the name or piece that it ends (RFC 1035, 4.1.4: "a prior
    occurrence"), so the walk ends; case and odd octets are kept.

    Raises:
        ValueError: the name is malformed. IndexError: the message is too short.
    """
    name, end, before = bytearray(), 0, at
    while length := message[at]:
        if length >= 0xC0:  # noqa: PLR2004 - the two bits of a pointer
            target = (length & 0x3F) << 8 | message[at + 1]
            if target >= before:
                raise ValueError("a compression pointer does not point backwards")
            end, at, before = end or at + 2, target, target
            continue
        if length > names.MAX_LABEL_BYTES or at + 1 + length > len(message):
            raise ValueError("a label is over 63 octets or cut short")
        name += message[at : at + 1 + length]
        at += 1 + length
    if len(name) >= names.MAX_NAME_BYTES:
        raise ValueError("a name is over 255 octets")
    return bytes(name) + b"\0", end or at + 1


def fields_of(rtype: int, message: bytes, at: int, size_bytes: int) -> tuple[str, ...]:
    """Write the RDATA that stands at an offset of a message, field by field.

    Raises:
        ValueError, IndexError: a type that we know is malformed.
    """
    layout = LAYOUTS.get(rtype)
    if layout is None:
        return tuple(split_fields(_other_text(rtype, message, at, size_bytes)))
    reader = _Reader(message, at, at + size_bytes)
    fields = tuple(text for kind in layout for text in reader.read(kind))
    if reader.at != at + size_bytes:
        raise ValueError(f"RDATA of {type_text(rtype)} has not the length that it says")
    return fields


class _Reader:
    """Reads the RDATA that ends at `end`, one field after the other."""

    def __init__(self, message: bytes, at: int, end: int) -> None:
        self.at = at
        self._message = message
        self._end = end

    def read(self, kind: str) -> Iterator[str]:
        """Read one field, or all that are left."""
        if kind == NAME:
            name, self.at = read_name(self._message, self.at)
            yield names.to_text(name)
        elif kind == STRING:
            yield quoted(self._take(self._take(1)[0]))
        elif kind == STRINGS:
            while self.at < self._end:
                yield quoted(self._take(self._take(1)[0]))
        elif kind in (NUMBER16, NUMBER32):
            yield str(int.from_bytes(self._take(_SIZES[kind]), "big"))
        else:
            yield ip.to_text(self._take(_SIZES[kind]))

    def _take(self, size_bytes: int) -> bytes:
        begin, self.at = self.at, self.at + size_bytes
        if self.at > self._end:
            raise ValueError("RDATA is cut short")
        return self._message[begin : self.at]


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 0x20 <= octet <= 0x7E else f"\\{octet:03d}"  # noqa: PLR2004 - ASCII


def _dnslib_types() -> dict[int, str]:
    return dict(_dnslib().QTYPE.forward)


def _dnslib() -> Any:  # noqa: ANN401 - it has no types
    import dnslib  # type: ignore[import-untyped]  # noqa: PLC0415 - takes 12 ms

    return dnslib


def _other_text(rtype: int, message: bytes, at: int, size_bytes: int) -> str:
    """Write the RDATA of other types as dnslib does, or in hexadecimal digits (RFC 3597, 5)."""
    dnslib = _dnslib()
    parser = dnslib.RDMAP.get(dnslib.QTYPE.forward.get(rtype))
    buffer = dnslib.DNSBuffer(message[: at + size_bytes])
    buffer.offset = at
    try:
        if parser is not None and size_bytes:
            return printable(parser.parse(buffer, size_bytes).toZone())
    except Exception:  # noqa: S110 - dnslib raises errors of many kinds for odd octets
        pass
    digits = message[at : at + size_bytes].hex().upper()
    return f"\\# {size_bytes} {digits}".rstrip()
