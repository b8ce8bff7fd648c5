"""Response to bytes: our own writer for the record types this server owns, with compression."""

import functools
import struct

from mcsdns.dns.message import (
    MAX_ADDITIONAL_BYTES,
    MAX_TCP_BYTES,
    MAX_UDP_BYTES,
    AddressesOf,
    Query,
    RenderedMessage,
    Response,
    Tsig,
)
from mcsdns.dns.name import labels_of
from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import (
    AA,
    AD,
    CD,
    DO,
    EDE_OPTION,
    HEADER,
    HEADER_BYTES,
    HEADER_WITH_ID,
    OPCODE,
    POINTER,
    QR,
    QUESTION,
    RA,
    RCODE,
    RD,
    TC,
    Ede,
    Rcode,
    RRClass,
    RRset,
    RRType,
)
from mcsdns.errors import MessageError

_QNAME_POINTER = POINTER << 8 | HEADER_BYTES
_A, _AAAA, _NS = RRType.A.value, RRType.AAAA.value, RRType.NS.value
_SOA, _SRV = RRType.SOA.value, RRType.SRV.value

_RECORD = struct.Struct("!HHHIH")
_RECORD_FIXED = struct.Struct("!HHIH")
_TSIG_END = struct.Struct("!H2sHH")
"""Size of the MAC, original ID, error, size of other data (RFC 8945, 4.2)."""
_BADKEY = 17
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
    if query.reply_options:
        opt = with_options(opt, query.reply_options)
    flags = QR | response.rcode & RCODE
    if response.aa:
        flags |= AA
    if query.rd:
        flags |= RD
    if query.cd:
        flags |= CD
    if ra:
        flags |= RA
    question, rrset = query.question, response.answer
    if rrset is None:
        return _write_without_answer(query, response, flags, opt, limit)
    body = _Body(query, limit - HEADER_BYTES - len(question) - len(opt))
    left_out = body.add_answer(rrset, start)
    if left_out and limit < MAX_TCP_BYTES:
        flags |= TC
    whole = not left_out
    if whole and response.addresses_of is not None:
        whole = body.add_additional(response.addresses_of, rrset, start)
    additionals = body.additionals + (edns is not None)
    header = HEADER_WITH_ID.pack(query.id, flags, 1, body.answers, 0, additionals)
    return RenderedMessage(b"".join((header, question, *body.parts, opt)), left_out, whole)


def write_error(message: bytes, error: MessageError) -> bytes:
    """Render the reply to a request that could not be read."""
    flags = int.from_bytes(message[2:4], "big")
    flags = QR | (flags & (OPCODE | RD | CD)) | error.rcode
    question = message[HEADER_BYTES : HEADER_BYTES + error.question_bytes]
    opt = _opt_record(0, False, None) if error.edns else b""
    header = HEADER_WITH_ID.pack(message[:2], flags, bool(question), 0, 0, bool(opt))
    return header + question + opt


def write_bad_key(query: Query, tsig: Tsig) -> bytes:
    """Render the reply to a request that is signed, where nobody has a key.

    "The server MUST generate an error response with RCODE 9 (NOTAUTH) and TSIG ERROR 17 (BADKEY).
    This response MUST be unsigned" (RFC 8945, 5.2.1): a MAC of no octets (5.3.2). No size bounds
    it: it repeats the names of the request, and is longer only where that compressed the key's.
    """
    wire = write_response(query, Response(rcode=Rcode.NOTAUTH), MAX_TCP_BYTES).wire
    signature = _TSIG_END.pack(0, tsig.original_id, _BADKEY, 0)
    rdata = tsig.algorithm + tsig.signed + signature
    record = tsig.key + _RECORD_FIXED.pack(RRType.TSIG, RRClass.ANY, 0, len(rdata)) + rdata
    additionals = 1 + (query.edns is not None)
    return wire[: HEADER_BYTES - 2] + additionals.to_bytes(2, "big") + wire[HEADER_BYTES:] + record


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


def write_opt(
    size: int = MAX_UDP_BYTES, *, version: int = 0, do: bool = False, options: bytes = b""
) -> bytes:
    """Render the OPT record of a request (RFC 6891, 6.1.2)."""
    flags = DO if do else 0
    return _OPT_FIXED.pack(0, RRType.OPT, size, 0, version, flags, len(options)) + options


def with_options(opt: bytes, options: bytes) -> bytes:
    """Return an OPT record with more options."""
    size = len(opt) - _OPT_FIXED.size + len(options)
    return opt[: _OPT_FIXED.size - 2] + size.to_bytes(2, "big") + opt[_OPT_FIXED.size :] + options


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
        if query.reply_options:
            opt = with_options(opt, query.reply_options)
    header = HEADER_WITH_ID.pack(query.id, flags, 1, 0, bool(soa), bool(opt))
    wire = b"".join((header, question, soa, opt))
    return RenderedMessage(wire, 0, whole, soa_at if soa else 0, soa_at + len(soa) if soa else 0)


@functools.lru_cache(maxsize=256)
def _opt_record(extended_rcode: int, do: bool, ede: Ede | None) -> bytes:
    options = b""
    if ede is not None:
        text = ede.text.encode()[:200]
        options = struct.pack("!HHH", EDE_OPTION, 2 + len(text), ede.code) + text
    flags = DO if do else 0
    size = MAX_UDP_BYTES
    return _OPT_FIXED.pack(0, RRType.OPT, size, extended_rcode, 0, flags, len(options)) + options


class _Body:
    """Answer and Additional, filled as far as there is room."""

    __slots__ = ("_at", "_offsets", "_query", "_room", "additionals", "answers", "parts")

    def __init__(self, query: Query, room: int) -> None:
        self.parts: list[bytes] = []
        self.answers = self.additionals = 0
        self._query = query
        self._room = room
        self._at = HEADER_BYTES + len(query.question)
        self._offsets: dict[bytes, int] = {}

    def add_answer(self, rrset: RRset, start: int) -> int:
        """Add records owned by the question's name; return how many found no room."""
        rtype, suffix, records = rrset.rtype, rrset.suffix, len(rrset.rdatas)
        rclass = self._query.qclass
        if rtype in (_A, _AAAA):
            size = len(rrset.rdatas[0])
            fixed = _RECORD.pack(_QNAME_POINTER, rtype, rclass, rrset.ttl, size)
            self.answers = min(records, self._room // (len(fixed) + size))
            if self.answers:
                self._add(fixed + fixed.join(rrset.from_record(start, self.answers)))
            return records - self.answers
        rdatas = rrset.from_record(start, self._room // (_RECORD.size + len(suffix) + 1))
        if rtype == _NS:
            rdatas = tuple(self._compressed(rdata, _RECORD.size) for rdata in rdatas)
        elif rtype == _SOA:
            rdatas = tuple(self._compressed_soa(rdata, _RECORD.size) for rdata in rdatas)
        offsets, at, room = self._offsets, self._at + _RECORD.size, self._room
        fixed = _RECORD.pack(_QNAME_POINTER, rtype, rclass, rrset.ttl, 0)[:-2]
        for relative in rdatas:
            rdata = relative + suffix
            size = len(rdata)
            room -= _RECORD.size + size
            if room < 0:
                break
            self.parts += (fixed, size.to_bytes(2, "big"), rdata)
            if rtype == _SRV:
                offsets[rdata[6:]] = at + 6
            at += _RECORD.size + size
            self.answers += 1
            self._room = room
        self._at = at - _RECORD.size
        return records - self.answers

    def add_additional(self, addresses_of: AddressesOf, answer: RRset, start: int) -> bool:
        """Add whole RRsets as long as they fit; return whether all do."""
        self._room = min(self._room, MAX_ADDITIONAL_BYTES - self._at)
        if self._room <= 0:
            return False
        for owner, rrset in addresses_of(answer.from_record(start, self.answers)):
            rdatas = rrset.rdatas
            size = len(rdatas[0])
            fixed = self._compressed(owner, 0) + _RECORD_FIXED.pack(rrset.rtype, 1, rrset.ttl, size)
            if len(rdatas) * (len(fixed) + size) > self._room:
                return False  # its owner name is among the offsets now, but is not in the message
            self._add(fixed + fixed.join(rdatas))
            self.additionals += len(rdatas)
        return True

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
            offsets[name[at:]] = self._at + ahead + at
            at += len(label) + 1
        return name
