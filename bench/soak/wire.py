"""Writes questions and reads replies; nothing here is taken from mcsdns."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bench.soak.model import Record

TYPES = {"A": 1, "NS": 2, "SOA": 6, "TXT": 16, "AAAA": 28, "SRV": 33}
_NAMES = {number: name for name, number in TYPES.items()}
_OPT, _COOKIE = 41, 10
_MOST_POINTERS = 32
_RECORD = struct.Struct("!HHIH")


class Row(NamedTuple):
    """One record of a reply."""

    owner: str
    record: Record
    ttl: int


class Reply(NamedTuple):
    """A reply; `opts` is how many OPT records it has."""

    flags: int
    answer: list[Row]
    authority: list[Row]
    additional: list[Row]
    opts: int

    @property
    def rcode(self) -> int:
        """The rcode of the header."""
        return self.flags & 15

    @property
    def is_authoritative(self) -> bool:
        """AA."""
        return bool(self.flags & 0x0400)

    @property
    def is_truncated(self) -> bool:
        """TC."""
        return bool(self.flags & 0x0200)


def question(name: str, qtype: str) -> bytes:
    """Return a question section, class IN."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return labels + b"\0" + TYPES[qtype].to_bytes(2, "big") + b"\0\1"


def opt(size: int, cookie: bytes = b"") -> bytes:
    """Return an OPT record, with a client cookie if there is one."""
    options = struct.pack("!HH", _COOKIE, len(cookie)) + cookie if cookie else b""
    return struct.pack("!BHHIH", 0, _OPT, size, 0, len(options)) + options


def read(message: bytes) -> Reply:
    """Read a reply with one question.

    Raises:
        ValueError: it is malformed, or has another number of questions.
    """
    try:
        _, flags, questions, *counts = struct.unpack_from("!6H", message)
        if questions != 1:
            raise ValueError(f"{questions} questions")
        _, at = _name(message, 12)
        at += 4
        sections: list[list[Row]] = [[], [], []]
        opts = 0
        for section, count in zip(sections, counts, strict=True):
            for _ in range(count):
                owner, at = _name(message, at)
                number, _, ttl, length = _RECORD.unpack_from(message, at)
                at += _RECORD.size
                if number == _OPT:
                    opts += 1
                else:
                    section.append(Row(owner, _record(message, number, at, length), ttl))
                at += length
    except (struct.error, IndexError) as error:
        raise ValueError(f"cut off ({error})") from None
    if at != len(message):
        raise ValueError(f"{len(message) - at} octets too many")
    return Reply(flags, *sections, opts)


def _name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    end = 0
    for _ in range(128 + _MOST_POINTERS):
        length = message[at]
        if length >= 0xC0:
            end = end or at + 2
            at = (length & 0x3F) << 8 | message[at + 1]
        elif length:
            labels.append(message[at + 1 : at + 1 + length].decode("latin-1").lower())
            at += 1 + length
        else:
            return ".".join(labels), end or at + 1
    raise ValueError("a name without an end")


def _record(message: bytes, number: int, at: int, length: int) -> Record:
    data = message[at : at + length]
    kind = _NAMES.get(number, str(number))
    if kind in {"A", "AAAA"}:
        return kind, socket.inet_ntop(socket.AF_INET6 if kind == "AAAA" else socket.AF_INET, data)
    if kind == "SRV":
        priority, weight, port = struct.unpack_from("!3H", data)
        return kind, f"{priority} {weight} {port} {_name(message, at + 6)[0]}"
    if kind in {"NS", "SOA"}:  # of an SOA its first name: the serial is ours to choose
        return kind, _name(message, at)[0]
    return kind, data.hex()
