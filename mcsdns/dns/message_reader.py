"""A server's whole reply, read for people and for comparison; `wire` reads requests only.

Everything a reply can say is kept, also what no reply of ours says: several questions, records
of unknown types, options. A reply that cannot be read is an error, never a crash.
"""

import struct
from typing import Final

import msgspec

from mcsdns.dns import HEADER_BYTES
from mcsdns.dns.name import to_text
from mcsdns.dns.rdata import class_name, fields_of, printable, read_name, type_name
from mcsdns.dns.types import RRType, rcode_text
from mcsdns.errors import ReplyError

EDE_NAMES: Final = (
    "Other",
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "Not Ready",
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
)
"""Info codes 0 to 24 (RFC 8914, 5.2)."""

FLAGS: Final = {
    "qr": 0x8000,
    "aa": 0x0400,
    "tc": 0x0200,
    "rd": 0x0100,
    "ra": 0x0080,
    "z": 0x0040,
    "ad": 0x0020,
    "cd": 0x0010,
}
"""The header's flags, in its order."""

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_FIXED = struct.Struct("!HH")
_RECORD_FIXED = struct.Struct("!HHIH")
_OPTION_FIXED = struct.Struct("!HH")
_EDE_OPTION: Final = 15
_EDNS_DO: Final = 0x8000


class Question(msgspec.Struct, frozen=True):
    """What was asked: the name in wire form as the reply repeats it, type and class."""

    name: bytes
    qtype: int
    qclass: int


class Record(msgspec.Struct, frozen=True):
    """One record; the owner in wire form, RDATA as the fields of its presentation form."""

    owner: bytes
    ttl: int
    rclass: int
    rtype: int
    data: tuple[str, ...]


class ExtendedError(msgspec.Struct, frozen=True):
    """One Extended DNS Error (RFC 8914)."""

    code: int
    text: str

    @property
    def name(self) -> str:
        """The code's purpose, as IANA has it."""
        return EDE_NAMES[self.code] if self.code < len(EDE_NAMES) else ""


class Opt(msgspec.Struct, frozen=True):
    """The OPT record (RFC 6891, 6.1).

    Attributes:
        size: octets the server takes by UDP. flags: all sixteen, DO the first of them.
        options: code and content of each, Extended DNS Errors among them.
    """

    size: int
    version: int
    flags: int
    extended_rcode: int
    options: tuple[tuple[int, bytes], ...]

    @property
    def do(self) -> bool:
        """DNSSEC OK (RFC 3225)."""
        return bool(self.flags & _EDNS_DO)

    def errors(self) -> tuple[ExtendedError, ...]:
        """Return the Extended DNS Errors; their text is made harmless for terminals."""
        return tuple(
            ExtendedError(
                int.from_bytes(content[:2], "big"),
                printable(content[2:].rstrip(b"\0").decode("utf-8", "replace")),
            )
            for code, content in self.options
            if code == _EDE_OPTION and len(content) >= 2  # noqa: PLR2004 - the info code
        )


class Reply(msgspec.Struct, frozen=True):
    """A whole reply; the OPT record is apart from the other additional ones.

    Attributes:
        rcode: with the upper bits of the OPT record. question: None where it is missing.
        size: octets of the message.
    """

    id: int
    opcode: int
    rcode: int
    flags: int
    question: Question | None
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]
    opt: Opt | None
    size: int

    @property
    def status(self) -> str:
        """The response code's name."""
        return rcode_text(self.rcode)

    @property
    def flag_names(self) -> tuple[str, ...]:
        """The flags that are set, in the order of the header."""
        return tuple(name for name, bit in FLAGS.items() if self.flags & bit)

    @property
    def errors(self) -> tuple[ExtendedError, ...]:
        """The Extended DNS Errors."""
        return self.opt.errors() if self.opt else ()


def read_reply(message: bytes) -> Reply:
    """Read a reply.

    Raises:
        ReplyError: it is malformed; says where.
    """
    reader = _Reader(message)
    try:
        return reader.reply()
    except (ValueError, IndexError, struct.error) as error:
        raise ReplyError(
            f"the reply of {len(message)} octets is malformed near octet {reader.at}: {error}"
        ) from None


def record_text(record: Record) -> str:
    """Write a record on one line, fields apart by one space."""
    return " ".join([owner_text(record), str(record.ttl), *tail_of(record)])


def owner_text(record: Record) -> str:
    """Write a record's owner name."""
    return to_text(record.owner)


def tail_of(record: Record) -> tuple[str, ...]:
    """Return the fields behind the TTL."""
    return class_name(record.rclass), type_name(record.rtype), *record.data


class _Reader:
    """Walks through one message."""

    def __init__(self, message: bytes) -> None:
        self.at = 0
        self._message = message
        self._opts: list[Opt] = []

    def reply(self) -> Reply:
        message_id, flags, questions, *counts = _HEADER.unpack_from(self._message)
        self.at = HEADER_BYTES
        asked = [self._question() for _ in range(questions)]
        answer, authority, additional = (self._section(count) for count in counts)
        if self.at != len(self._message):
            raise ValueError(f"{len(self._message) - self.at} octets follow the last record")
        opt = self._opts[0] if self._opts else None
        return Reply(
            id=message_id,
            opcode=flags >> 11 & 0xF,
            rcode=(opt.extended_rcode << 4 if opt else 0) | flags & 0xF,
            flags=flags,
            question=asked[0] if asked else None,
            answer=answer,
            authority=authority,
            additional=additional,
            opt=opt,
            size=len(self._message),
        )

    def _question(self) -> Question:
        name, self.at = read_name(self._message, self.at)
        qtype, qclass = _QUESTION_FIXED.unpack_from(self._message, self.at)
        self.at += _QUESTION_FIXED.size
        return Question(name, qtype, qclass)

    def _section(self, count: int) -> tuple[Record, ...]:
        records = (self._record() for _ in range(count))
        return tuple(record for record in records if record is not None)

    def _record(self) -> Record | None:
        owner, at = read_name(self._message, self.at)
        rtype, rclass, ttl, size_bytes = _RECORD_FIXED.unpack_from(self._message, at)
        at += _RECORD_FIXED.size
        if at + size_bytes > len(self._message):
            raise ValueError("a record is cut short")
        self.at = at + size_bytes
        if rtype == RRType.OPT:
            options = tuple(_options(self._message[at : self.at]))
            self._opts.append(Opt(rclass, ttl >> 16 & 0xFF, ttl & 0xFFFF, ttl >> 24, options))
            return None
        return Record(owner, ttl, rclass, rtype, fields_of(rtype, self._message, at, size_bytes))


def _options(octets: bytes) -> list[tuple[int, bytes]]:
    options: list[tuple[int, bytes]] = []
    at = 0
    while at < len(octets):
        code, size_bytes = _OPTION_FIXED.unpack_from(octets, at)
        at += _OPTION_FIXED.size + size_bytes
        if at > len(octets):
            raise ValueError("an option ends behind its record")
        options.append((code, octets[at - size_bytes : at]))
    return options
