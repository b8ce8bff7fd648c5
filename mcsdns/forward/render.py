"""An upstream's reply -> the octets for one client: its id, its question, its size, TTLs by age.

`fit` makes them once. `Fitted` is what a cache hands out: a reply of one age, whose octets are
made once for each kind of client and then differ in the id, and in the case of the question.
"""

import struct
from typing import Final

from mcsdns.dns import HEADER_BYTES, MAX_UDP_BYTES, Query, write_opt
from mcsdns.dns.types import AD, EDE_OPTION, QR, RA, RCODE, TC, Rcode
from mcsdns.forward.reply import UpstreamReply

_RD_BIT, _CD_BIT = 8, 4
_HEAD: Final = struct.Struct("!HHHHH")
_HEAD_BYTES: Final = _HEAD.size
_TTL: Final = struct.Struct("!I")
_EDE: Final = struct.Struct("!HHH")
_MAX_EDE_TEXT_BYTES: Final = 200
_EXTENDED_RCODE_AT: Final = 5
_OPT: Final = write_opt(MAX_UDP_BYTES)
_OPT_WITH_DO: Final = write_opt(MAX_UDP_BYTES, do=True)
MAX_KINDS: Final = 4
"""Kinds of clients, by flags and size, whose octets are kept of one reply."""
MAX_RENDERED_BYTES: Final = 2048
"""Longer replies are made anew for each client: copying them costs more than their header."""


def write_error_option(code: int, text: str = "") -> bytes:
    """Render an Extended DNS Error (RFC 8914, 2)."""
    octets = text.encode()[:_MAX_EDE_TEXT_BYTES]
    return _EDE.pack(EDE_OPTION, 2 + len(octets), code) + octets


def fit(
    reply: UpstreamReply,
    query: Query,
    limit: int,
    *,
    tcp: bool,
    age_s: int = 0,
    ttl: int | None = None,
    errors: bytes = b"",
    ad: bool = False,
) -> bytes:
    """Render an upstream's reply for a client in at most `limit` octets.

    What finds no room goes in this order: Additional, without TC; Extended DNS Errors, the
    upstream's first; Authority and then the answer's last records, with TC over UDP.

    Args:
        reply: what the upstream said.
        query: what the client asked; the question is repeated as it stands there.
        limit: octets the message may have, 512 at least.
        tcp: the client is on TCP or TLS.
        age_s: seconds the reply was kept; TTLs are that much less, 0 at least.
        ttl: no TTL is more than this, whatever the age: for stale replies (RFC 8767, 4).
        errors: Extended DNS Error options of our own.
        ad: the request had the AD bit, so that its sender understands ours (RFC 6840, 5.7).
    """
    records = reply.records if ttl is None and not age_s else aged_records(reply, age_s, ttl)
    return query.id + render(reply, records, query, limit, errors, tcp, ad)


class Fitted:
    """A reply of one age, its octets made once for each kind of client."""

    __slots__ = ("_errors", "_question", "_records", "_rendered", "reply")

    def __init__(
        self, reply: UpstreamReply, age_s: int = 0, ttl: int | None = None, errors: bytes = b""
    ) -> None:
        """Take a reply and what `fit` takes of its age and errors."""
        self.reply = reply
        self._records = (
            reply.records if ttl is None and not age_s else aged_records(reply, age_s, ttl)
        )
        self._errors = errors
        self._question = b""
        self._rendered: dict[int, bytes] = {}

    def fit(self, query: Query, limit: int, *, tcp: bool, ad: bool = False) -> bytes:
        """Return the whole message for a client, as the function `fit` does."""
        kind = limit << 6 | tcp << 5 | ad << 4 | query.cd << 3 | query.rd << 2
        if (edns := query.edns) is not None:
            kind |= 2 | edns.do
        rest = self._rendered.get(kind)
        if rest is None:
            return query.id + self._render(query, limit, kind, tcp=tcp, ad=ad)
        question = query.question
        if question == self._question:
            return query.id + rest
        return query.id + _with_question(rest, question)

    def _render(self, query: Query, limit: int, kind: int, *, tcp: bool, ad: bool) -> bytes:
        rest = render(self.reply, self._records, query, limit, self._errors, tcp, ad)
        if len(self._rendered) < MAX_KINDS and len(rest) <= MAX_RENDERED_BYTES:
            question = self._question = self._question or query.question
            self._rendered[kind] = _with_question(rest, question)
        return rest


def bounded(reply: UpstreamReply, least_ttl_s: int, most_ttl_s: int) -> UpstreamReply:
    """Return a reply whose TTLs, and lifetime, are within bounds; itself where they are."""
    lifetime_s = min(max(reply.lifetime_s, least_ttl_s), most_ttl_s)
    octets = reply.records
    records: bytearray | None = None
    for at in reply.ttls:
        (ttl,) = _TTL.unpack_from(octets, at)
        if not least_ttl_s <= ttl <= most_ttl_s:
            records = bytearray(octets) if records is None else records
            _TTL.pack_into(records, at, min(max(ttl, least_ttl_s), most_ttl_s))
    if records is None and lifetime_s == reply.lifetime_s:
        return reply
    return UpstreamReply(
        reply.rcode,
        reply.authentic,
        reply.truncated,
        octets if records is None else bytes(records),
        reply.answers,
        reply.authorities,
        reply.additionals,
        reply.ttls,
        lifetime_s,
        reply.negative,
        reply.errors,
    )


def aged_records(reply: UpstreamReply, age_s: int, ttl: int | None = None) -> bytes:
    """Return the records with TTLs counted down, or with none above `ttl`."""
    records = bytearray(reply.records)
    for at in reply.ttls:
        (original,) = _TTL.unpack_from(records, at)
        left = max(0, original - age_s) if ttl is None else min(original, ttl)
        _TTL.pack_into(records, at, left)
    return bytes(records)


def render(
    reply: UpstreamReply,
    records: bytes,
    query: Query,
    limit: int,
    errors: bytes,
    tcp: bool,
    ad: bool,
) -> bytes:
    """Return what stands behind the id, as `fit` does; `records` are those of the reply, aged."""
    edns = query.edns
    rcode = reply.rcode
    if (rcode > 0xF and edns is None) or (tcp and reply.truncated):  # noqa: PLR2004 - 4 bits
        return _failed(query, errors)
    flags = _flags(query, rcode)
    if reply.truncated:
        flags |= TC
    if reply.authentic and (ad or (edns is not None and edns.do)):
        flags |= AD  # only for who shows that it understands the bit (RFC 6840, 5.8)
    question = query.question
    additionals = reply.additionals
    if edns is None:
        opt = b""
    else:
        opt = _opt(edns.do, rcode >> 4, reply.errors + errors)
        additionals += 1
    if HEADER_BYTES + len(question) + len(records) + len(opt) <= limit:
        head = _HEAD.pack(flags, 1, reply.answers, reply.authorities, additionals)
        return b"".join((head, question, records, opt))
    return _cut(reply, records, query, limit, errors, flags, tcp=tcp)


def _with_question(rest: bytes, question: bytes) -> bytes:
    """Write the question in another case."""
    return b"".join((rest[:_HEAD_BYTES], question, rest[_HEAD_BYTES + len(question) :]))


def _cut(
    reply: UpstreamReply,
    records: bytes,
    query: Query,
    limit: int,
    errors: bytes,
    flags: int,
    *,
    tcp: bool,
) -> bytes:
    """Leave out Additional, then errors, then what else finds no room."""
    room = limit - HEADER_BYTES - len(query.question)
    answers, authorities = reply.answers, reply.authorities
    end = reply.end_of(answers + authorities)
    opt = _opt_within(reply, query, errors, room - end)
    if end + len(opt) > room:
        opt = _opt_within(reply, query, b"", 0)
        answers, authorities, end = _fitting(reply, room - len(opt))
        flags |= 0 if tcp else TC
    head = _HEAD.pack(flags, 1, answers, authorities, 1 if opt else 0)
    return b"".join((head, query.question, records[:end], opt))


def _fitting(reply: UpstreamReply, room: int) -> tuple[int, int, int]:
    """Return how many records of answer and Authority fit, and where the last one ends.

    Authority goes as a whole: a part of it proves nothing.
    """
    low, high = 0, reply.answers
    while low < high:
        middle = (low + high + 1) // 2
        if reply.end_of(middle) <= room:
            low = middle
        else:
            high = middle - 1
    return low, 0, reply.end_of(low)


def _opt_within(reply: UpstreamReply, query: Query, errors: bytes, room: int) -> bytes:
    """Return the OPT record with as many errors as there is room for, ours before theirs."""
    if query.edns is None:
        return b""
    do, high = query.edns.do, reply.rcode >> 4
    for options in (reply.errors + errors, errors):
        opt = _opt(do, high, options)
        if len(opt) <= room:
            return opt
    return _opt(do, high, b"")


def _opt(do: bool, rcode_high: int, errors: bytes) -> bytes:
    if errors:
        opt = write_opt(MAX_UDP_BYTES, do=do, options=errors)
    else:
        opt = _OPT_WITH_DO if do else _OPT
    if rcode_high:
        opt = opt[:_EXTENDED_RCODE_AT] + bytes((rcode_high,)) + opt[_EXTENDED_RCODE_AT + 1 :]
    return opt


def _failed(query: Query, errors: bytes) -> bytes:
    """Return SERVFAIL: for an rcode or a cut that this client cannot be told of."""
    flags = _flags(query, Rcode.SERVFAIL)
    opt = b"" if query.edns is None else _opt(query.edns.do, 0, errors)
    return _HEAD.pack(flags, 1, 0, 0, 1 if opt else 0) + query.question + opt


def _flags(query: Query, rcode: int) -> int:
    return QR | RA | rcode & RCODE | query.rd << _RD_BIT | query.cd << _CD_BIT
