"""A server's whole reply, read for people and for comparison; `read_query` reads requests only.

Everything a reply can say is there, also what no reply of ours says: several questions, records of
unknown types, options. A reply that cannot be read is an error, never a crash.

No library reads replies: decision 9 says what dnslib and dnspython do with the same octets.
"""

import msgspec

from mcsdns.dns.name import to_text
from mcsdns.dns.rdata import class_name, fields_of, printable, type_name
from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import (
    DO,
    EDE_OPTION,
    FLAGS,
    HEADER,
    OPCODE,
    QUESTION,
    RCODE,
    Ede,
    RRType,
    rcode_text,
)
from mcsdns.errors import ReplyError


class QuestionEntry(msgspec.Struct, frozen=True):
    """The entry of the question section: the name in wire form as it stands there, type, class."""

    name: bytes
    qtype: int
    qclass: int

    @property
    def texts(self) -> tuple[str, str, str]:
        """Name, class and type, in the order in which they are shown."""
        return to_text(self.name), class_name(self.qclass), type_name(self.qtype)

    def __str__(self) -> str:
        return " ".join(self.texts)


class Record(msgspec.Struct, frozen=True):
    """One record; the owner in wire form, RDATA as the fields of its presentation form."""

    owner: bytes
    ttl: int
    rclass: int
    rtype: int
    data: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, str, str, str, str]:
        """Owner, TTL, class, type and RDATA, as its line in a zone file has them."""
        owner, rclass = to_text(self.owner), class_name(self.rclass)
        return owner, str(self.ttl), rclass, type_name(self.rtype), " ".join(self.data)

    def __str__(self) -> str:
        return " ".join(self.texts).rstrip()


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
        return bool(self.flags & DO)

    def errors(self) -> tuple[Ede, ...]:
        """Return the Extended DNS Errors."""
        return tuple(error for option in self.options if (error := error_of(*option)))


class Message(msgspec.Struct, frozen=True):
    """A whole reply; the OPT record is apart from the other additional ones.

    Attributes:
        rcode: with the upper bits of the OPT record. question: None where it is missing.
        size: octets of the message.
    """

    id: int
    opcode: int
    rcode: int
    flags: int
    question: QuestionEntry | None
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
    def errors(self) -> tuple[Ede, ...]:
        """The Extended DNS Errors."""
        return self.opt.errors() if self.opt else ()


def error_of(code: int, content: bytes) -> Ede | None:
    """Return the Extended DNS Error that an option is, its text made harmless for terminals."""
    if code != EDE_OPTION or len(content) < 2:  # noqa: PLR2004 - the info code
        return None
    text = content[2:].rstrip(b"\0").decode("utf-8", "replace")
    return Ede(int.from_bytes(content[:2], "big"), printable(text))


def read_reply(octets: bytes, *, with_rdata: bool = True) -> Message:
    """Read a reply; without RDATA, `data` of the records is empty.

    Raises:
        ReplyError: it is malformed; says where.
    """
    cursor = Cursor(octets)
    sections: list[tuple[Record, ...]] = []
    opts: list[Opt] = []
    try:
        message_id, flags, question_count, *counts = cursor.unpack(HEADER)
        questions = [
            QuestionEntry(cursor.name(), *cursor.unpack(QUESTION)) for _ in range(question_count)
        ]
        for count in counts:
            records: list[Record] = []
            for _ in range(count):
                owner, rtype, rclass, ttl, rdata = cursor.record()
                if rtype == RRType.OPT:
                    high, version, options = ttl >> 24, ttl >> 16 & 0xFF, tuple(rdata.options())
                    opts.append(Opt(rclass, version, ttl & 0xFFFF, high, options))
                else:
                    fields = fields_of(rtype, rdata) if with_rdata else ()
                    records.append(Record(owner, ttl, rclass, rtype, fields))
            sections.append(tuple(records))
        if cursor.at != cursor.end:
            raise ValueError(f"{cursor.end - cursor.at} octets follow the last record")
    except ValueError as error:
        raise ReplyError(
            f"the reply of {len(octets)} octets is malformed near octet {cursor.at}: {error}"
        ) from None
    opt = opts[0] if opts else None
    return Message(
        id=message_id,
        opcode=(flags & OPCODE) >> 11,
        rcode=(opt.extended_rcode << 4 if opt else 0) | flags & RCODE,
        flags=flags,
        question=questions[0] if questions else None,
        answer=sections[0],
        authority=sections[1],
        additional=sections[2],
        opt=opt,
        size=len(octets),
    )
