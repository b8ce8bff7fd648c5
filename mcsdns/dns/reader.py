"""Bytes to Query: the border where a peer's octets meet our own checks.

Requests only: header, one question, OPT. What is returned is within every limit of RFC 1035, so
nothing behind the border checks again; whatever else comes in ends in an error reply or in none.
"""

import struct

from mcsdns.dns.message import HEADER_BYTES, Edns, Query
from mcsdns.dns.name import Name
from mcsdns.dns.types import Rcode, RRType
from mcsdns.errors import MessageError

_DO = 0x8000
_RECORD = struct.Struct("!HHIH")
_TWO = struct.Struct("!HH")
_ONE_QUESTION = b"\0\1\0\0\0\0\0\0"


def read_query(message: bytes) -> Query | None:
    """Read a request; None where there must be no reply (no whole header, or a response).

    Checks run in the order of spec.md 3: header, opcode, counts and form. EDNS version, class
    and type are left to who answers.

    Raises:
        MessageError: NOTIMP for another opcode, FORMERR for whatever is malformed.

    Spec: RFC 1035, 4.1; RFC 6891, 6.1; RFC 9619 (one question).
    """
    if len(message) < HEADER_BYTES or message[2] & 0x80:
        return None
    if message[2] & 0x78:
        raise MessageError(Rcode.NOTIMP, "opcode is not QUERY")
    counts = message[4:12]
    if counts[:2] != b"\0\1":
        raise MessageError(Rcode.FORMERR, "there is not exactly one question")
    labels: list[int] = []
    at = HEADER_BYTES
    try:
        while length := message[at]:
            if length > 63:  # noqa: PLR2004 - RFC 1035, 2.3.4; a pointer has no place here
                raise MessageError(Rcode.FORMERR, "a label of the question is over 63 octets")
            labels.append(at - HEADER_BYTES)
            at += length + 1
        name_end = at + 1
        qtype, qclass = _TWO.unpack_from(message, name_end)
    except (IndexError, struct.error):
        raise MessageError(Rcode.FORMERR, "the question is cut short") from None
    if name_end - HEADER_BYTES > 255:  # noqa: PLR2004 - RFC 1035, 2.3.4
        raise MessageError(Rcode.FORMERR, "the question's name is over 255 octets")
    end = name_end + 4
    edns = None
    if counts != _ONE_QUESTION:
        edns = _read_records(message, end)
    elif end != len(message):
        raise MessageError(Rcode.FORMERR, "octets follow the question", end - HEADER_BYTES)
    return Query(
        message[:2],
        bool(message[2] & 1),
        bool(message[3] & 0x10),
        message[HEADER_BYTES:end],
        Name(message[HEADER_BYTES:name_end].lower()),
        tuple(labels),
        qtype,
        qclass,
        edns,
        bool(message[3] & 0x20),
    )


def _read_records(message: bytes, at: int) -> Edns | None:
    """Read what follows the question; only an OPT record means something to us."""
    question_bytes = at - HEADER_BYTES
    answers, authorities, additionals = struct.unpack_from("!HHH", message, 6)
    if answers or authorities > 1:  # an IXFR request has its SOA in Authority (RFC 1995, 3)
        raise MessageError(Rcode.FORMERR, "a request has no such records", question_bytes)
    edns: Edns | None = None
    try:
        for number in range(authorities + additionals):
            at = owner_end = skip_name(message, owner := at)
            rtype, size, ttl, rdlength = _RECORD.unpack_from(message, at)
            at += _RECORD.size + rdlength
            if rtype == RRType.OPT:
                if edns or number < authorities or owner_end != owner + 1:
                    raise MessageError(
                        Rcode.FORMERR, "the OPT record is misplaced", question_bytes, edns=True
                    )
                edns = _read_opt(message[at - rdlength : at], rdlength, size, ttl)
    except (IndexError, struct.error, ValueError):
        raise MessageError(Rcode.FORMERR, "a record is malformed", question_bytes) from None
    if at != len(message):
        raise MessageError(
            Rcode.FORMERR, "the counts disagree with the octets", question_bytes, edns=bool(edns)
        )
    return edns


def _read_opt(options: bytes, rdlength: int, size: int, ttl: int) -> Edns:
    """Read the OPT record's fields; the options are walked but mean nothing to us."""
    if len(options) != rdlength:
        raise ValueError("the record ends behind the message")
    at = 0
    while at < rdlength:
        at += 4 + _TWO.unpack_from(options, at)[1]
    if at != rdlength:
        raise ValueError("an option ends behind its record")
    flags = ttl & 0xFFFF
    return Edns(size, ttl >> 16 & 0xFF, bool(flags & _DO), not flags & ~_DO)


def skip_name(message: bytes, at: int) -> int:
    """Return where a record's owner name ends; pointers are stepped over, never followed."""
    begin = at
    while length := message[at]:
        if length >= 0xC0:  # noqa: PLR2004 - RFC 1035, 4.1.4
            if (length & 0x3F) << 8 | message[at + 1] >= begin:
                raise ValueError("a pointer does not point backwards")
            return at + 2
        if length > 63:  # noqa: PLR2004
            raise ValueError("a label is over 63 octets")
        at += length + 1
    return at + 1
