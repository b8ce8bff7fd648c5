"""Response to bytes: our own writer for the record types this server owns, with compression."""

import functools
import struct

from mcsdns.dns.message import (
    MAX_TCP_BYTES,
    MAX_UDP_BYTES,
    Query,
    RenderedMessage,
    Response,
)
from mcsdns.dns.name import Name, labels_of
from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import (
    AA,
    AD,
    CD,
    DO,
    EDE_OPTION,
    HEADER,
    HEADER_BYTES,
    OPCODE,
    POINTER,
    QR,
    QUESTION,
    RA,
    RCODE,
    RD,
    TC,
    Ede,
    RRset,
    RRType,
)
from mcsdns.errors import MessageError

_QNAME_POINTER = bytes((POINTER, HEADER_BYTES))
_MAX_POINTER = 0x3FFF

_COUNTS = struct.Struct("!HHHH")
_RECORD_FIXED = struct.Struct("!HHI")
_OPT_FIXED = struct.Struct("!BHHBBHH")


def write_response(
    query: Query, response: Response, limit: int, *, ra: bool = False, start: int = 0
) -> RenderedMessage:
    """Render a response to a query in at most `limit` octets.

    The answer's records begin with record `start` and wrap around. What does not fit goes in this
    order: Additional by whole RRsets (without TC, RFC 2181, 9), then whole records of the answer,
    with TC; over TCP (a limit of 65,535) the answer is a subset and TC stays clear, as KEP-1645
    specification 2.4.1 allows.
    """
    edns = query.edns
    opt = b"" if edns is None else _opt_record(response.rcode >> 4, edns.do, response.ede)
    flags = QR | (response.rcode & RCODE)
    if response.aa:
        flags |= AA
    if query.rd:
        flags |= RD
    if query.cd:
        flags |= CD
    if ra:
        flags |= RA
    question = query.question
    if response.answer is None:
        return _write_without_answer(query, response, flags, opt, limit)
    room = limit - HEADER_BYTES - len(question) - len(opt)
    body = _Body(query, room)
    left_out = body.add_answer(response.answer, start)
    if left_out and limit < MAX_TCP_BYTES:
        flags |= TC
    elif response.additional and not left_out:
        body.add_additional(response.additional)
    counts = _COUNTS.pack(flags, 1, body.answers, 0) + _additional_count(body.additionals, opt)
    wire = b"".join((query.id, counts, question, *body.parts, opt))
    return RenderedMessage(wire, left_out, body.rrsets == len(response.additional) and not left_out)


def write_error(message: bytes, error: MessageError) -> bytes:
    """Render the reply to a request that could not be read."""
    flags = int.from_bytes(message[2:4], "big")
    flags = QR | (flags & (OPCODE | RD | CD)) | error.rcode
    question = message[HEADER_BYTES : HEADER_BYTES + error.question_bytes]
    opt = _opt_record(0, False, None) if error.edns else b""
    counts = _COUNTS.pack(flags, 1 if question else 0, 0, 0) + _additional_count(0, opt)
    return message[:2] + counts + question + opt


def write_query(
    message_id: int,
    name: bytes,
    qtype: int,
    *,
    qclass: int = 1,
    rd: bool = True,
    cd: bool = False,
    ad: bool = False,
    opt: bytes = b"",
) -> bytes:
    """Render a request; `name` is in wire form and keeps its case."""
    flags = (RD if rd else 0) | (CD if cd else 0) | (AD if ad else 0)
    header = HEADER.pack(message_id, flags, 1, 0, 0, 1 if opt else 0)
    return header + name + QUESTION.pack(qtype, qclass) + opt


def write_opt(size: int, *, version: int = 0, do: bool = False, options: bytes = b"") -> bytes:
    """Render the OPT record of a request (RFC 6891, 6.1.2)."""
    flags = DO if do else 0
    return _OPT_FIXED.pack(0, RRType.OPT, size, 0, version, flags, len(options)) + options


def _write_without_answer(
    query: Query, response: Response, flags: int, opt: bytes, limit: int
) -> RenderedMessage:
    question = query.question
    soa = b""
    if response.negative is not None:
        apex_at = HEADER_BYTES + len(query.name) - response.negative.apex_bytes
        soa = response.negative.records[apex_at]
    soa_at = HEADER_BYTES + len(question)
    whole = soa_at + len(soa) + len(opt) <= limit
    if not whole and query.edns is not None:
        opt = _opt_record(response.rcode >> 4, query.edns.do, None)
    counts = _COUNTS.pack(flags, 1, 0, 1 if soa else 0) + _additional_count(0, opt)
    wire = b"".join((query.id, counts, question, soa, opt))
    return RenderedMessage(wire, 0, whole, soa_at if soa else 0, soa_at + len(soa) if soa else 0)


def _additional_count(additionals: int, opt: bytes) -> bytes:
    return (additionals + (1 if opt else 0)).to_bytes(2, "big")


@functools.lru_cache(maxsize=256)
def _opt_record(extended_rcode: int, do: bool, ede: Ede | None) -> bytes:
    options = b""
    if ede is not None:
        text = ede.text.encode()[:200]
        options = struct.pack("!HHH", EDE_OPTION, 2 + len(text), ede.code) + text
    flags = DO if do else 0
    return (
        _OPT_FIXED.pack(0, RRType.OPT, MAX_UDP_BYTES, extended_rcode, 0, flags, len(options))
        + options
    )


class _Body:
    """Sections behind the question, filled as far as there is room."""

    def __init__(self, query: Query, room: int) -> None:
        self.parts: list[bytes] = []
        self.answers = 0
        self.additionals = 0
        self.rrsets = 0
        self._query = query
        self._room = room
        self._at = HEADER_BYTES + len(query.question)
        self._offsets: dict[bytes, int] = {}

    def add_answer(self, rrset: RRset, start: int) -> int:
        """Add records owned by the question's name; return how many found no room."""
        rdatas = rrset.rdatas
        if start:
            rdatas = rdatas[start:] + rdatas[:start]
        fixed = _QNAME_POINTER + _RECORD_FIXED.pack(rrset.rtype, 1, rrset.ttl)
        if rrset.rtype in (RRType.A, RRType.AAAA):
            return self._add_equal_sized(fixed, rdatas)
        if rrset.rtype == RRType.NS:
            rdatas = tuple(self._compressed(rdata, len(fixed) + 2) for rdata in rdatas)
        if rrset.rtype == RRType.SOA:
            rdatas = tuple(self._compressed_soa(rdata, len(fixed) + 2) for rdata in rdatas)
        for rdata in rdatas:
            size = len(fixed) + 2 + len(rdata)
            if size > self._room:
                break
            if rrset.rtype == RRType.SRV and self._at < _MAX_POINTER - 64:
                self._offsets[rdata[6:]] = self._at + len(fixed) + 8
            self._add(fixed + len(rdata).to_bytes(2, "big") + rdata)
            self.answers += 1
        return len(rdatas) - self.answers

    def add_additional(self, additional: tuple[tuple[Name, RRset], ...]) -> None:
        """Add whole RRsets as long as they fit."""
        for owner, rrset in additional:
            records = self._records_of(owner, rrset)
            if len(records) > self._room:
                break  # its owner name is among the offsets now, but is not in the message
            self._add(records)
            self.additionals += len(rrset.rdatas)
            self.rrsets += 1

    def _add_equal_sized(self, fixed: bytes, rdatas: tuple[bytes, ...]) -> int:
        fixed += len(rdatas[0]).to_bytes(2, "big")
        fitting = self._room // (len(fixed) + len(rdatas[0]))
        left_out = max(0, len(rdatas) - fitting)
        if left_out:
            rdatas = rdatas[:fitting]
        self.answers = len(rdatas)
        if rdatas:
            self._add(fixed + fixed.join(rdatas))
        return left_out

    def _records_of(self, owner: Name, rrset: RRset) -> bytes:
        fixed = self._compressed(owner, 0) + _RECORD_FIXED.pack(rrset.rtype, 1, rrset.ttl)
        return b"".join([fixed + len(rdata).to_bytes(2, "big") + rdata for rdata in rrset.rdatas])

    def _add(self, octets: bytes) -> None:
        self.parts.append(octets)
        self._at += len(octets)
        self._room -= len(octets)

    def _compressed_soa(self, rdata: bytes, ahead: int) -> bytes:
        """Return SOA RDATA with both names compressed (RFC 1035, 3.3.13)."""
        names = Cursor(rdata)
        mname = self._compressed(names.name(), ahead)
        rname = self._compressed(names.name(), ahead + len(mname))
        return mname + rname + rdata[names.at :]

    def _compressed(self, name: bytes, ahead: int) -> bytes:
        """Return `name` with its longest known ending as a pointer (RFC 1035, 4.1.4).

        Names in the question, NS targets and SRV targets of the answer may be pointed at; the
        name will stand `ahead` octets behind the end of what was added so far.
        """
        offsets = self._offsets
        if (known := offsets.get(name)) is not None:
            return (POINTER << 8 | known).to_bytes(2, "big")
        query = self._query
        for label_at in query.labels:
            offsets.setdefault(query.name[label_at:], HEADER_BYTES + label_at)
        at = 0
        for label in labels_of(name):
            known = offsets.get(name[at:])
            if known is not None:
                return name[:at] + (POINTER << 8 | known).to_bytes(2, "big")
            here = self._at + ahead + at
            if here <= _MAX_POINTER:
                offsets[name[at:]] = here
            at += len(label) + 1
        return name
