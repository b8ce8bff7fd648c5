"""Bytes to Query and Response to bytes: the border where a peer's octets meet our own checks.

The reader takes requests only (header, one question, OPT) and is strict: what it returns is within
every limit of RFC 1035, so nothing behind it checks again. The writer knows the record types that
this server owns. No socket, no clock, no zone is known here; whole messages of other kinds are
read with dnslib where speed does not matter.
"""

import functools
import struct
from typing import Final

import msgspec

from mcsdns.errors import MessageError
from mcsdns.names import Name, labels_of
from mcsdns.rrset import Ede, Rcode, RRset, RRType

HEADER_BYTES: Final = 12
MAX_UDP_BYTES: Final = 1232
"""Largest datagram we send: it crosses every path unfragmented (DNS flag day 2020)."""
MIN_UDP_BYTES: Final = 512
MAX_TCP_BYTES: Final = 0xFFFF

_QR, _AA, _TC, _RD, _RA, _CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
_DO = 0x8000
_EDE_OPTION = 15
_POINTER = 0xC000
_QNAME_POINTER = b"\xc0\x0c"
_MAX_POINTER = 0x3FFF

_COUNTS = struct.Struct("!HHHH")
_RECORD = struct.Struct("!HHIH")
_RECORD_FIXED = struct.Struct("!HHI")
_TWO = struct.Struct("!HH")
_OPT_FIXED = struct.Struct("!BHHBBHH")
_SOA_NUMBERS = struct.Struct("!IIIII")

_ONE_QUESTION = b"\0\1\0\0\0\0\0\0"


class Edns(msgspec.Struct, frozen=True, gc=False):
    """What a request's OPT record says (RFC 6891, 6.1.2).

    Attributes:
        size: the UDP payload size the client takes, as it was sent, octets.
        version: EDNS version; only 0 is served.
        do: the DNSSEC OK bit (RFC 3225).
        plain: no flag but DO is set; options do not count.
    """

    size: int
    version: int
    do: bool
    plain: bool


class Query(msgspec.Struct, frozen=True, gc=False):
    """One well-formed request.

    Attributes:
        id: the two octets of the message ID.
        rd: recursion desired. cd: checking disabled (RFC 4035, 3.2.2).
        question: the question section as it was asked: name, type and class.
        name: the name asked for, lower case.
        labels: where in `name` each label begins; the root is not among them.
        qtype: record type. qclass: class.
        edns: the OPT record, if there was one.
    """

    id: bytes
    rd: bool
    cd: bool
    question: bytes
    name: Name
    labels: tuple[int, ...]
    qtype: int
    qclass: int
    edns: Edns | None

    def udp_limit(self) -> int:
        """Return the octets a UDP reply may have (RFC 6891, 6.2.3: under 512 counts as 512)."""
        if self.edns is None:
            return MIN_UDP_BYTES
        return max(MIN_UDP_BYTES, min(self.edns.size, MAX_UDP_BYTES))


class Response(msgspec.Struct, frozen=True, gc=False):
    """What to reply, before it has bytes.

    Attributes:
        rcode: response code; above 15 only for who sent an OPT.
        aa: authoritative answer.
        answer: the RRset of the question's name, if any.
        additional: owner and RRset of each address set for the Additional section.
        negative: the zone's SOA for Authority, on NODATA and NXDOMAIN (RFC 2308, 3).
        ede: an Extended DNS Error, sent to who sent an OPT.
    """

    rcode: int = Rcode.NOERROR
    aa: bool = False
    answer: RRset | None = None
    additional: tuple[tuple[Name, RRset], ...] = ()
    negative: "NegativeTail | None" = None
    ede: Ede | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A rendered response.

    Attributes:
        wire: the whole message.
        left_out: how many records of the answer found no room.
        whole: nothing was left out, neither records nor Additional nor an Extended DNS Error.
        soa_at: where the shared SOA record begins, or 0. opt_at: where it ends.
    """

    wire: bytes
    left_out: int = 0
    whole: bool = True
    soa_at: int = 0
    opt_at: int = 0


class NegativeTail:
    """The SOA record of one zone as it stands in negative replies.

    With compression its octets depend only on where the zone's name stands in the message, so
    one list serves every kept reply and a new serial replaces 256 short strings, not the replies.

    Attributes:
        zone: the apex.
        ttl: seconds, both TTL and MINIMUM (RFC 2308, 3 takes the smaller).
        records: the record for each octet offset of the zone's name; index below 12 is unused.
    """

    _MNAME = b"\x02ns\x03dns"
    _RNAME = b"\x0ahostmaster"

    def __init__(self, zone: Name, ttl: int) -> None:
        self.zone = zone
        self.ttl = ttl
        self.records: list[bytes] = []
        self.rdata = b""
        self.replace_serial(0)

    def replace_serial(self, serial: int) -> None:
        """Put another serial into the record (RFC 1035, 3.3.13)."""
        numbers = _SOA_NUMBERS.pack(serial, 7200, 1800, 86400, self.ttl)
        fixed = _RECORD.pack(
            RRType.SOA, 1, self.ttl, len(self._MNAME) + len(self._RNAME) + 4 + len(numbers)
        )
        self.rdata = self._MNAME + self.zone + self._RNAME + self.zone + numbers
        pointers = (bytes((0xC0 | at >> 8, at & 0xFF)) for at in range(HEADER_BYTES + 256))
        self.records[:] = [
            p + fixed + self._MNAME + p + self._RNAME + p + numbers for p in pointers
        ]


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
    )


def write_response(
    query: Query, response: Response, limit: int, *, ra: bool = False, start: int = 0
) -> Reply:
    """Render a response to a query in at most `limit` octets.

    The answer's records begin with record `start` and wrap around. What does not fit goes in this
    order: Additional by whole RRsets (without TC, RFC 2181, 9), then whole records of the answer,
    with TC; over TCP (a limit of 65,535) the answer is a subset and TC stays clear, as KEP-1645
    specification 2.4.1 allows.
    """
    edns = query.edns
    opt = b"" if edns is None else _opt_record(response.rcode >> 4, edns.do, response.ede)
    flags = _QR | (response.rcode & 0xF)
    if response.aa:
        flags |= _AA
    if query.rd:
        flags |= _RD
    if query.cd:
        flags |= _CD
    if ra:
        flags |= _RA
    question = query.question
    if response.answer is None:
        return _write_without_answer(query, response, flags, opt, limit)
    room = limit - HEADER_BYTES - len(question) - len(opt)
    body = _Body(query, room)
    left_out = body.add_answer(response.answer, start)
    if left_out and limit < MAX_TCP_BYTES:
        flags |= _TC
    elif response.additional and not left_out:
        body.add_additional(response.additional)
    counts = _COUNTS.pack(flags, 1, body.answers, 0) + _additional_count(body.additionals, opt)
    wire = b"".join((query.id, counts, question, *body.parts, opt))
    return Reply(wire, left_out, body.rrsets == len(response.additional) and not left_out)


def write_error(message: bytes, error: MessageError) -> bytes:
    """Render the reply to a request that could not be read."""
    flags = int.from_bytes(message[2:4], "big")
    flags = _QR | (flags & (0x7800 | _RD | _CD)) | error.rcode
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
    flags = (_RD if rd else 0) | (_CD if cd else 0) | (0x20 if ad else 0)
    header = struct.pack("!HHHHHH", message_id, flags, 1, 0, 0, 1 if opt else 0)
    return header + name + _TWO.pack(qtype, qclass) + opt


def write_opt(size: int, *, version: int = 0, do: bool = False, options: bytes = b"") -> bytes:
    """Render the OPT record of a request (RFC 6891, 6.1.2)."""
    flags = _DO if do else 0
    return _OPT_FIXED.pack(0, RRType.OPT, size, 0, version, flags, len(options)) + options


def _read_records(message: bytes, at: int) -> Edns | None:
    """Read what follows the question; only an OPT record means something to us."""
    question_bytes = at - HEADER_BYTES
    answers, authorities, additionals = struct.unpack_from("!HHH", message, 6)
    if answers or authorities > 1:  # an IXFR request has its SOA in Authority (RFC 1995, 3)
        raise MessageError(Rcode.FORMERR, "a request has no such records", question_bytes)
    edns: Edns | None = None
    try:
        for number in range(authorities + additionals):
            at = owner_end = _skip_name(message, owner := at)
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


def _skip_name(message: bytes, at: int) -> int:
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


def _write_without_answer(
    query: Query, response: Response, flags: int, opt: bytes, limit: int
) -> Reply:
    question = query.question
    soa = b""
    if response.negative is not None:
        zone_at = HEADER_BYTES + len(query.name) - len(response.negative.zone)
        soa = response.negative.records[zone_at]
    soa_at = HEADER_BYTES + len(question)
    whole = soa_at + len(soa) + len(opt) <= limit
    if not whole and query.edns is not None:
        opt = _opt_record(response.rcode >> 4, query.edns.do, None)
    counts = _COUNTS.pack(flags, 1, 0, 1 if soa else 0) + _additional_count(0, opt)
    wire = b"".join((query.id, counts, question, soa, opt))
    return Reply(wire, 0, whole, soa_at if soa else 0, soa_at + len(soa) if soa else 0)


def _additional_count(additionals: int, opt: bytes) -> bytes:
    return (additionals + (1 if opt else 0)).to_bytes(2, "big")


@functools.lru_cache(maxsize=256)
def _opt_record(extended_rcode: int, do: bool, ede: Ede | None) -> bytes:
    options = b""
    if ede is not None:
        text = ede.text.encode()[:200]
        options = struct.pack("!HHH", _EDE_OPTION, 2 + len(text), ede.code) + text
    flags = _DO if do else 0
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

    def _compressed(self, name: bytes, ahead: int) -> bytes:
        """Return `name` with its longest known ending as a pointer (RFC 1035, 4.1.4).

        Names in the question, NS targets and SRV targets of the answer may be pointed at; the
        name will stand `ahead` octets behind the end of what was added so far.
        """
        offsets = self._offsets
        if (known := offsets.get(name)) is not None:
            return (_POINTER | known).to_bytes(2, "big")
        query = self._query
        for label_at in query.labels:
            offsets.setdefault(query.name[label_at:], HEADER_BYTES + label_at)
        at = 0
        for label in labels_of(name):
            known = offsets.get(name[at:])
            if known is not None:
                return name[:at] + (_POINTER | known).to_bytes(2, "big")
            here = self._at + ahead + at
            if here <= _MAX_POINTER:
                offsets[name[at:]] = here
            at += len(label) + 1
        return name
