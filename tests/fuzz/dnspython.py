"""Requests and replies as dnspython reads them, and where it differs from us on purpose.

What differs and is not explained here is a finding.
"""

import contextlib
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.wire

from mcsdns.dns import Query
from mcsdns.dns.reader import read_query
from mcsdns.dns.types import Rcode
from mcsdns.errors import MessageError, ReplyError
from mcsdns.forward.reply import UpstreamReply, read_upstream_reply

OPT: Final = 41
TC: Final = 0x0200
WRONG: Final = (dns.exception.DNSException, struct.error, ValueError, IndexError)
"""What dnspython raises for what it cannot read, also by mistake."""


def compare_query(octets: bytes) -> None:
    """Compare how a request is read, unless no library need read it (another opcode, a reply)."""
    ours = error = None
    try:
        ours = read_query(octets)
    except MessageError as caught:
        error = caught
    if (error is None and ours is None) or (error and error.rcode == Rcode.NOTIMP):
        return
    theirs = None
    with contextlib.suppress(*WRONG):
        theirs = dns.message.from_wire(octets, keyring=False)
    if theirs is None:
        assert ours is None or _explained(TAKEN_BY_US, octets, ours)
        return
    if ours is None:
        assert _explained(TAKEN_BY_DNSPYTHON, octets, None), error
        return
    (asked,) = theirs.question
    assert asked.name.to_wire() + struct.pack("!HH", asked.rdtype, asked.rdclass) == ours.question
    assert theirs.id == int.from_bytes(ours.id, "big")
    flags = (dns.flags.RD, dns.flags.CD, dns.flags.AD)
    assert [bool(theirs.flags & each) for each in flags] == [ours.rd, ours.cd, ours.ad]
    assert (theirs.edns >= 0) is (ours.edns is not None)
    if ours.edns:
        assert (theirs.edns, theirs.payload) == (ours.edns.version, ours.edns.size)
        assert bool(theirs.ednsflags & dns.flags.DO) is ours.edns.do


class Difference(NamedTuple):
    """Where one reader takes what the other refuses; `holds` gets octets and what we read."""

    why: str
    holds: Callable[[bytes, Query | None], bool]


def _counts(octets: bytes) -> tuple[int, ...]:
    return struct.unpack_from("!HHHH", octets, 4)


def _question_has_pointer(octets: bytes) -> bool:
    at = 12
    while at < len(octets) and 0 < octets[at] < 0xC0:
        at += 1 + octets[at]
    return at < len(octets) and octets[at] >= 0xC0


def _has_pointer_into_header(octets: bytes) -> bool:
    return any(octets[at] == 0xC0 and octets[at + 1] < 12 for at in range(12, len(octets) - 1))


TAKEN_BY_US: Final = (
    Difference(
        "records that mean nothing in a request are not looked into: only their form counts",
        lambda octets, query: sum(_counts(octets)[2:]) > bool(query and query.edns),
    ),
    Difference(
        "options that mean nothing to us are not looked into: only their lengths count",
        lambda _, query: bool(query and query.edns and query.edns.options),
    ),
)
TAKEN_BY_DNSPYTHON: Final = (
    Difference(
        "one question is asked at a time (RFC 9619)", lambda octets, _: _counts(octets)[0] != 1
    ),
    Difference(
        "a request has no answers, and one SOA in Authority at most (RFC 1995, 3)",
        lambda octets, _: _counts(octets)[1] > 0 or _counts(octets)[2] > 1,
    ),
    Difference(
        "there is nothing before the question that it could point to",
        lambda octets, _: _question_has_pointer(octets),
    ),
    Difference(
        "no name is in the header (RFC 1035, 4.1.4: a prior occurrence of a name)",
        lambda octets, _: _has_pointer_into_header(octets),
    ),
)


def _explained(
    differences: tuple[Difference, ...], octets: bytes, query: Query | None
) -> list[str]:
    return [each.why for each in differences if each.holds(octets, query)]


# Replies. dnspython's own reader looks into every record that it knows, and we pass records on as
# they are: so its cursor is used, and names are written out where they may be compressed. What is
# read is the same, but for: OPT in another section or not of the root, pointers into the header,
# and names that a TTL is a part of; dnspython takes these.

NAMES_IN: Final = {
    **dict.fromkeys((2, 3, 4, 5, 7, 8, 9, 12, 39), (0, 1, 0)),
    **dict.fromkeys((14, 17), (0, 2, 0)),
    **dict.fromkeys((15, 18, 21, 36), (2, 1, 0)),
    1: (4, 0, 0),
    6: (0, 2, 20),
    26: (2, 2, 0),
    28: (16, 0, 0),
    33: (6, 1, 0),
}
"""RDATA by type: octets, names, octets (RFC 3597, 4; RFC 1035, 3.3)."""
NAPTR: Final = 35
NOT_BEHIND_OPT: Final = {24, 30, OPT, 250}
"""SIG, NXT, another OPT and TSIG are for one hop, or compressed in ways of their own."""
MOST_BEHIND_OPT: Final = 128


class Record(NamedTuple):
    """A record whose names are written out; the owner in lower case."""

    owner: bytes
    rtype: int
    rclass: int
    ttl: int
    rdata: bytes


class Sections(NamedTuple):
    """What a reply holds, OPT apart.

    Attributes:
        is_odd: OPT is not where it must be. ttls: where the TTLs of the records are.
    """

    sections: list[list[Record]]
    opt: tuple[int, bytes] | None
    is_odd: bool
    ttls: list[int]


def sections_of(octets: bytes) -> Sections:
    """Read the records of a reply.

    Raises:
        those of WRONG.
    """
    parser = dns.wire.Parser(octets)
    counts = parser.get_struct("!6H")[2:]
    for _ in range(counts[0]):
        parser.get_name(decompress=True)
        parser.get_struct("!HH")
    sections: list[list[Record]] = []
    opt = None
    is_odd = False
    ttls: list[int] = []
    for number, count in enumerate(counts[1:]):
        records: list[Record] = []
        for left in range(count, 0, -1):
            owner = parser.get_name(decompress=True).to_wire()
            rtype, rclass, ttl, size = parser.get_struct("!HHIH")
            ttl = ttl if ttl < 1 << 31 else 0
            ttls.append(parser.current - 6)
            if rtype == OPT and opt is None:
                opt = ttl, parser.get_bytes(size)
                is_odd = is_odd or number != 2 or owner != b"\0"
                if left - 1 > MOST_BEHIND_OPT:
                    break
                continue
            with parser.restrict_to(size):
                rdata = _rdata_of(parser, rtype, rclass)
            if opt is None or rtype not in NOT_BEHIND_OPT:
                records.append(Record(owner.lower(), rtype, rclass, ttl, rdata))
        sections.append(records)
    if opt:
        options = dns.wire.Parser(opt[1])
        while options.remaining():
            options.get_uint16()
            options.get_counted_bytes(2)
    return Sections(sections, opt, is_odd, ttls)


def _rdata_of(parser: dns.wire.Parser, rtype: int, rclass: int) -> bytes:
    """Read RDATA with its names written out."""
    if rclass == 1 and rtype == NAPTR:
        ahead = parser.get_bytes(4)
        ahead += b"".join(parser.get_counted_bytes() + b"|" for _ in range(3))
        return ahead + parser.get_name(decompress=True).to_wire()
    if rclass != 1 or rtype not in NAMES_IN:
        return parser.get_remaining()
    ahead_bytes, names, behind_bytes = NAMES_IN[rtype]
    rdata = parser.get_bytes(ahead_bytes)
    for _ in range(names):
        rdata += parser.get_name(decompress=True).to_wire()
    return rdata + parser.get_bytes(behind_bytes)


def _has_ttl_in_name(octets: bytes, theirs: Sections) -> bool:
    """A name that a TTL is a part of would be another one, or none, when it is counted down."""
    changed = bytearray(octets)
    for at in theirs.ttls:
        changed[at : at + 4] = b"\x7f" * 4
    try:
        seen = sections_of(bytes(changed))
    except WRONG:
        return True
    return any(
        before != after._replace(ttl=before.ttl)
        for one, other in zip(theirs.sections, seen.sections, strict=True)
        for before, after in zip(one, other, strict=True)
    )


def compare_reply(octets: bytes, question: bytes, labels: tuple[int, ...]) -> UpstreamReply | None:
    """Compare how an upstream's reply is read; returns what we read."""
    ours = error = theirs = None
    try:
        ours = read_upstream_reply(octets, question, labels)
    except ReplyError as caught:
        error = caught
    try:
        theirs = sections_of(octets)
    except dns.name.PointerChainTooLong:  # 16; a name has at most 127 labels, and that is all
        return None
    except WRONG:
        pass
    if theirs is None:
        assert ours is None or ours.truncated
    elif ours is None:
        differences = (
            theirs.is_odd,
            _has_pointer_into_header(octets),
            _has_ttl_in_name(octets, theirs),
        )
        assert any(differences), error
    elif not ours.truncated:
        counts = [ours.answers, ours.authorities, ours.additionals]
        assert counts == [len(each) for each in theirs.sections]
    return ours
