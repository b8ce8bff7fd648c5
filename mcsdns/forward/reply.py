"""An upstream's reply: read once, checked, and made ready for any client that asks the same.

The records stay octets. What is known of them is where the TTL of each is, so that TTLs can be
counted down and a reply cut between two records. The OPT record is hop by hop and taken off; of
its options only Extended DNS Errors go on (RFC 8914, 3: "forwarders").

Every name that a pointer may lead to is checked here, owners and those in RDATA that may be
compressed (RFC 3597, 4), so that nothing we pass on leads a client in circles.
"""

import functools
import re
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import (
    AD,
    EDE_OPTION,
    HEADER_BYTES,
    OPCODE,
    OPTION,
    POINTER,
    QR,
    QUESTION,
    RCODE,
    RECORD,
    TC,
    Rcode,
    RRClass,
    RRType,
)
from mcsdns.errors import MalformedReplyError, ReplyError
from mcsdns.forward.chain import TYPES_AT_THE_NAME, end_of_chain, is_zone_of, place_of_name

_COUNTS: Final = struct.Struct("!HHH")
_TTL: Final = struct.Struct("!I")
_RECORD_BYTES: Final = RECORD.size
_TTL_AT: Final = 4
_RDATA_BEHIND_TTL: Final = 6
_LEAST_EDE_BYTES: Final = 6
MAX_ERRORS_BYTES: Final = 1024
"""More of an upstream's Extended DNS Errors is not taken."""
_QR_AND_OPCODE: Final = (QR | OPCODE) >> 8
_QR: Final = QR >> 8
_TC: Final = TC >> 8
_MAX_TTL: Final = 0x7FFFFFFF
_ONE_QUESTION: Final = b"\0\1"
_NO_QUESTION: Final = bytes(8)
_AUTHORITY, _ADDITIONAL = 1, 2
_IN = RRClass.IN.value  # enums are slow
_CNAME, _SOA, _OPT = RRType.CNAME.value, RRType.SOA.value, RRType.OPT.value
_RRSIG: Final = 46
_NOWHERE: Final = -1
_NOERROR, _NXDOMAIN = Rcode.NOERROR.value, Rcode.NXDOMAIN.value
_ADDRESS_BYTES: Final = {RRType.A.value: 4, RRType.AAAA.value: 16}

_LAYOUTS: Final = {
    **dict.fromkeys((2, 3, 4, 5, 7, 8, 9, 12, 39), (0, 1, 0)),  # NS, CNAME, PTR, DNAME, old ones
    _SOA: (0, 2, 20),
    **dict.fromkeys((14, 17), (0, 2, 0)),  # MINFO, RP
    **dict.fromkeys((15, 18, 21, 36), (2, 1, 0)),  # MX, AFSDB, RT, KX
    26: (2, 2, 0),  # PX
    RRType.SRV.value: (6, 1, 0),
}
"""RDATA that later names may point into, by type: octets, names, octets."""

_ANY_LAYOUT: Final = (0, 0, 0)
_NAPTR: Final = 35
_MOST_BEHIND_OPT: Final = 128
_NOT_BEHIND_OPT: Final = (24, 30, _OPT, RRType.TSIG.value)
"""SIG and NXT, another OPT, TSIG."""

_ADDRESSES: Final = re.compile(
    rb"\x00\x01\x00\x01(?:\xc0\x0c\x00\x01\x00\x01[\x00-\x7f].{3}\x00\x04.{4})+|"
    rb"\x00\x1c\x00\x01(?:\xc0\x0c\x00\x1c\x00\x01[\x00-\x7f].{3}\x00\x10.{16})+",
    re.DOTALL,
)
"""The answer of most replies, from the question's type on: addresses of this type of the name that
was asked."""
_ADDRESS_RECORD_BYTES: Final = {b"\0\1\0\1": 16, b"\0\x1c\0\1": 28}
_MOST_ADDRESSES: Final = 64
_TTLS_AT: Final = {
    size: [tuple(range(6, 6 + size * count, size)) for count in range(_MOST_ADDRESSES)]
    for size in _ADDRESS_RECORD_BYTES.values()
}
"""Where TTLs are by the size and number of records: one object for all replies of a form."""
_MOST_RESTS: Final = 1024
_MOST_REST_BYTES: Final = 512


class UpstreamReply(msgspec.Struct, frozen=True, gc=False):
    """What an upstream said.

    Attributes:
        rcode: with the upper bits of the OPT record.
        authentic: the AD bit. truncated: the TC bit.
        records: the three sections behind the question, without OPT; offsets begin here.
        answers, authorities, additionals: how many records each section has.
        ttls: where the TTL of each record is; none is above 2^31 - 1.
        lifetime_s: for how long it is true, 0 where it says nothing about that.
        negative: it denies something, and its lifetime is the SOA's.
        errors: the Extended DNS Error options, as they were.
    """

    rcode: int
    authentic: bool
    truncated: bool
    records: bytes
    answers: int
    authorities: int
    additionals: int
    ttls: tuple[int, ...]
    lifetime_s: int
    negative: bool
    errors: bytes = b""

    def end_of(self, records: int) -> int:
        """Return where the first so many records end."""
        if not records:
            return 0
        at = self.ttls[records - 1] + _RDATA_BEHIND_TTL
        return at + (self.records[at - 2] << 8 | self.records[at - 1])


def read_upstream_reply(
    message: bytes, question: bytes, labels: tuple[int, ...] = ()
) -> UpstreamReply:
    """Read a reply to a question, which must stand in it, be it in other case.

    A truncated reply may end anywhere; what is whole of it is taken. Pointers to the `labels` of
    the question, which begin there, are followed without a look.

    Raises:
        MalformedReplyError: it cannot be read. ReplyError: it is no reply to this question.

    Spec: RFC 1035, 4.1; RFC 4343 (names); RFC 5452, 9.1 (what a reply must match).
    """
    if len(message) < HEADER_BYTES or message[2] & _QR_AND_OPCODE != _QR:
        raise ReplyError("it is no reply to a query")
    low_rcode = message[3] & RCODE
    begin = HEADER_BYTES + len(question)
    repeated = message[HEADER_BYTES:begin]
    if message[4:6] != _ONE_QUESTION or (
        repeated != question and not _is_same_question(repeated, question)
    ):
        if message[4:12] != _NO_QUESTION or low_rcode != Rcode.FORMERR:
            raise ReplyError("it is for another question")
        begin = HEADER_BYTES  # a server without EDNS may repeat nothing (RFC 6891, 7)
    truncated = bool(message[2] & _TC)
    if not truncated and begin > HEADER_BYTES:
        reply = _read_usual(message, begin, labels)
        if reply is not None:
            return reply
    return _read_records(message, begin, len(question) - QUESTION.size, labels, truncated=truncated)


def _is_same_question(repeated: bytes, question: bytes) -> bool:
    """Compare names without case, types and classes as they are.

    Some servers write what they read in lower case; octets of labels' lengths are no letters.
    """
    size_bytes = QUESTION.size
    return (
        repeated[-size_bytes:] == question[-size_bytes:]
        and repeated[:-size_bytes].lower() == question[:-size_bytes].lower()
    )


def _read_usual(message: bytes, begin: int, labels: tuple[int, ...]) -> UpstreamReply | None:
    """Read addresses of the name that was asked, or no answer, and the rest as it was known before.

    None where the general way has to look at all of it.
    """
    answers = message[6] << 8 | message[7]
    end, rcode, size = begin, message[3] & RCODE, 0
    if answers:
        size = _ADDRESS_RECORD_BYTES.get(message[begin - QUESTION.size : begin], 0)
        end += size * answers
        if rcode or answers >= _MOST_ADDRESSES or not size or end > len(message):
            return None
        if _ADDRESSES.fullmatch(message, begin - QUESTION.size, end) is None:
            return None
    rest = message[end:]
    if len(rest) > _MOST_REST_BYTES:
        return None
    known = _read_rest(rest, message[2:4], message[8:12], begin, end, labels)
    if known is None or not answers:
        return known
    ttls = _TTLS_AT[size][answers]
    lifetime_s = known.lifetime_s
    for at in ttls:
        (ttl,) = _TTL.unpack_from(message, begin + at)
        if ttl < lifetime_s:
            lifetime_s = ttl
    return UpstreamReply(
        rcode,
        known.authentic,
        False,
        message[begin:end] + known.records,
        answers,
        known.authorities,
        known.additionals,
        ttls + known.ttls,
        lifetime_s,
        False,
        known.errors,
    )


@functools.lru_cache(_MOST_RESTS)
def _read_rest(
    rest: bytes, flags: bytes, counts: bytes, begin: int, end: int, labels: tuple[int, ...]
) -> UpstreamReply | None:
    """Read what stands behind the answer; servers write the same octets there again and again.

    The SOA of a zone, its servers and the OPT record differ between replies by where they begin
    and which labels of the question they point to, which all is in the arguments. What stands
    before them is not: it is blotted out here with what no pointer may lead to, so that whatever
    depends on it is None, and read the general way.

    Where records stand between `begin` and `end`, TTLs are counted from the first of these, and
    the lifetime is what the rest leaves for that of the answer.
    """
    message = bytes((0, 0)) + flags + _ONE_QUESTION + bytes(2) + counts
    message += b"\xff" * (end - HEADER_BYTES) + rest
    try:
        name_bytes = begin - QUESTION.size - HEADER_BYTES
        reply = _read_records(message, end, name_bytes, labels, truncated=False)
    except (MalformedReplyError, IndexError, ValueError):
        return None
    if reply.rcode != flags[1] & RCODE:
        return None
    if end > begin:
        ttls = tuple(end - begin + at for at in reply.ttls)
        least = min((_TTL.unpack_from(reply.records, at)[0] for at in reply.ttls), default=_MAX_TTL)
        return msgspec.structs.replace(reply, ttls=ttls, lifetime_s=least)
    return reply


def has_shared_offsets(reply: UpstreamReply) -> bool:
    """Return whether `ttls` is one object for many replies, so that it takes no memory."""
    count = len(reply.ttls)
    return count < _MOST_ADDRESSES and (
        reply.ttls is _TTLS_AT[16][count] or reply.ttls is _TTLS_AT[28][count]
    )


def failed_reply(errors: bytes) -> UpstreamReply:
    """Return SERVFAIL of our own, with Extended DNS Error options."""
    return UpstreamReply(Rcode.SERVFAIL, False, False, b"", 0, 0, 0, (), 0, False, errors)


def _read_records(
    message: bytes, begin: int, name_bytes: int, labels: tuple[int, ...], *, truncated: bool
) -> UpstreamReply:
    """Read the records of all sections; a TTL with its highest bit set is 0 (RFC 2181, 8)."""
    lengths = {HEADER_BYTES + at: name_bytes - at for at in labels}
    ttls: list[int] = []
    cursor = Cursor(message, begin, lengths, ttls)
    size, unpack = len(message), RECORD.unpack_from
    counts = [0, 0, 0]
    too_long: list[int] = []
    rcode, errors = message[3] & RCODE, b""
    least_ttl = _MAX_TTL
    soas: list[tuple[int, int]] = []
    moved: list[bytes] = []
    # Where the chain has come to, as far as records stand in its order and point to it; behind an
    # answer nowhere. Where this does not explain all records, `end_of_chain` looks at them again.
    qtype, qclass = QUESTION.unpack_from(message, begin - QUESTION.size)
    is_followed = qtype not in TYPES_AT_THE_NAME
    wanted, explained = HEADER_BYTES, 0
    end = at = begin
    try:
        for section, count in enumerate(_COUNTS.unpack_from(message, 6)):
            for _ in range(count):
                owner = place = at
                length = message[at]
                if not length:
                    at += 1  # the owner of OPT
                elif (
                    length >= POINTER
                    and (place := (length << 8 | message[at + 1]) & 0x3FFF) in lengths
                ):
                    at += 2  # as most owners are: a pointer to a name that was checked
                else:
                    at = cursor.end_of_name(at)
                ttl_at = at - begin + _TTL_AT
                rtype, rclass, ttl, rdlength = unpack(message, at)
                rdata = at + _RECORD_BYTES
                at = rdata + rdlength
                if at > size:
                    raise ValueError("it ends behind the message")
                if rtype == _OPT:
                    if section != _ADDITIONAL or rdata - _RECORD_BYTES - owner != 1:
                        raise ValueError("the OPT record is misplaced")
                    rcode |= ttl >> 24 << 4
                    if rdlength:
                        errors = _read_errors(message, rdata, at)
                    if behind := count - counts[_ADDITIONAL] - 1:
                        cursor = Cursor(message, begin, lengths, tuple(ttls))
                        cursor.at = at
                        place = end - begin
                        for octets, in_it, ttl in _records_behind(cursor, owner, behind):
                            moved.append(octets)
                            ttls.append(place + in_it)
                            counts[_ADDITIONAL] += 1
                            place += len(octets)
                            least_ttl = min(least_ttl, ttl)
                    break
                ttls.append(ttl_at)
                if rclass == _IN and rdlength != _ADDRESS_BYTES.get(rtype):
                    ahead, names, behind = _LAYOUTS.get(rtype, _ANY_LAYOUT)
                    if rtype == _NAPTR:
                        ahead, names = _naptr_ahead(message, rdata), 1
                    end_of_names = rdata + ahead
                    for _ in range(names):
                        end_of_names = cursor.end_of_name(end_of_names)
                    if (end_of_names + behind != at and names) or rtype in _ADDRESS_BYTES:
                        raise ValueError("its RDATA is not of its type's length")
                if ttl > _MAX_TTL:
                    too_long.append(ttl_at)
                    ttl = 0
                if ttl < least_ttl:
                    least_ttl = ttl
                if not section:
                    if place == wanted and rclass == qclass:
                        if rtype == qtype:
                            wanted = _NOWHERE
                        elif rtype == _CNAME and is_followed:
                            wanted = place_of_name(message, rdata)
                            explained += 1
                    elif rtype == _RRSIG and is_followed:
                        explained += 1
                elif rtype == _SOA and section == _AUTHORITY and rclass == _IN:
                    soas.append((place, min(ttl, *_TTL.unpack_from(message, at - _TTL.size))))
                counts[section] += 1
                end = at
    except (IndexError, struct.error, ValueError) as error:
        why = error if isinstance(error, ValueError) else "the message ends within it"
        if not truncated:
            raise MalformedReplyError(f"record {sum(counts) + 1} is malformed: {why}") from None
        del ttls[sum(counts) :]
    records = message[begin:end]
    if too_long:
        changed = bytearray(records)
        for ttl_at in too_long:
            _TTL.pack_into(changed, ttl_at, 0)
        records = bytes(changed)
    if moved:
        records += b"".join(moved)
    # How long it is true (RFC 2308, 5; RFC 2181, 5.2); a denial without SOA is not to be cached.
    lifetime_s, negative = 0, rcode == _NXDOMAIN
    if wanted == _NOWHERE:
        lifetime_s = least_ttl if rcode == _NOERROR else 0
    elif rcode in (_NOERROR, _NXDOMAIN) and (counts[0] or soas):
        end_name: int | bytes | None = wanted
        if explained < counts[0]:
            end_name = end_of_chain(message, begin, ttls[: counts[0]])
        if end_name is None:
            lifetime_s = least_ttl if rcode == _NOERROR else 0
        else:
            for zone, soa_ttl in soas:
                is_above = end_name == HEADER_BYTES and zone - HEADER_BYTES in labels
                if is_above or is_zone_of(message, zone, end_name):
                    lifetime_s, negative = min(soa_ttl, least_ttl), True
    answers, authorities, additionals = counts
    return UpstreamReply(
        rcode,
        bool(message[3] & AD),
        truncated,
        records,
        answers,
        authorities,
        additionals,
        tuple(ttls),
        lifetime_s,
        negative,
        errors,
    )


def _records_behind(cursor: Cursor, opt: int, count: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the records that follow an OPT record, where its TTL is in each, and the TTL.

    "The OPT RR MAY be placed anywhere within the additional data section" (RFC 6891, 6.1.1). Its
    octets, from `opt` on, are taken off, and these records move to their place: a pointer to what
    stands before stays as it is, a name that another one leads to is written out. What is for one
    hop is left out, and two types from before 2004 that may be compressed in ways of their own.

    More than so many are left out: no server writes so, and the work has to have a bound.

    Raises:
        IndexError, struct.error, ValueError: a record is malformed.
    """
    message = cursor.message
    if count > _MOST_BEHIND_OPT:
        return
    for _ in range(count):
        owner = cursor.at
        fixed = cursor.end_of_name(owner)
        rtype, rclass, ttl, rdlength = RECORD.unpack_from(message, fixed)
        at = rdata = fixed + _RECORD_BYTES
        end = cursor.at = rdata + rdlength
        if end > len(message):
            raise ValueError("it ends behind the message")
        if rtype in _NOT_BEHIND_OPT:
            continue
        octets = b""
        if rclass == _IN and rtype not in _ADDRESS_BYTES:
            ahead, names, behind = _LAYOUTS.get(rtype, _ANY_LAYOUT)
            if rtype == _NAPTR:
                ahead, names, behind = _naptr_ahead(message, rdata), 1, 0
            at += ahead
            for _ in range(names):
                end_of_name = cursor.end_of_name(at)
                octets += _name_without(message, at, opt)
                at = end_of_name
            if at + behind != end and names:
                raise ValueError("its RDATA is not of its type's length")
            octets = message[rdata : rdata + ahead] + octets
        elif rclass == _IN and rdlength != _ADDRESS_BYTES[rtype]:
            raise ValueError("its RDATA is not of its type's length")
        octets += message[at:end]
        name = _name_without(message, owner, opt)
        ttl = ttl if ttl <= _MAX_TTL else 0
        head = name + RECORD.pack(rtype, rclass, ttl, len(octets))
        yield head + octets, len(name) + _TTL_AT, ttl


def _name_without(message: bytes, at: int, opt: int) -> bytes:
    """Return a name as it stands, or written out from where it leads to `opt` or behind it."""
    name = b""
    while length := message[at]:
        if length < POINTER:
            name += message[at : at + length + 1]
            at += length + 1
            continue
        target = (length & ~POINTER) << 8 | message[at + 1]
        if _ends_before(message, target, opt):
            return name + message[at : at + 2]
        at = target
    return name + b"\0"


def _ends_before(message: bytes, at: int, opt: int) -> bool:
    """Return whether a name stands before an offset with all its octets."""
    while at < opt and (length := message[at]):
        if length >= POINTER:
            if at + 2 > opt:
                return False
            at = (length & ~POINTER) << 8 | message[at + 1]
        else:
            at += length + 1
    return at < opt


def _naptr_ahead(message: bytes, rdata: int) -> int:
    """Return how many octets stand before the name of a NAPTR record: numbers and three texts."""
    at = rdata + 4
    for _ in range(3):
        at += 1 + message[at]
    return at - rdata


def _read_errors(message: bytes, at: int, end: int) -> bytes:
    """Return the Extended DNS Error options of an OPT record, as far as there is room for them.

    Raises:
        ValueError: an option ends behind its record.
    """
    errors = b""
    while at < end:
        code, length = OPTION.unpack_from(message, at)
        option, at = at, at + OPTION.size + length
        if code == EDE_OPTION and at <= end:
            error = message[option:at]
            if len(error) >= _LEAST_EDE_BYTES and len(errors + error) <= MAX_ERRORS_BYTES:
                errors += error
    if at != end:
        raise ValueError("an option ends behind its record")
    return errors
