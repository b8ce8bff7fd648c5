"""An upstream's reply as the octets for one client: its id, its question, its size.

The records of a reply stay octets from the upstream to the client; what changes are TTLs, at the
offsets that the reply knows (`count_down`, `cap_ttls`, `bound_ttls`). The header, the question and
the OPT record are written for each client, for EDNS is hop by hop (RFC 6891, 6.1.1).

The Extended DNS Errors of our own (RFC 8914) stand here too.
"""

import struct
from collections.abc import Callable
from typing import Final

from mcsdns.dns import HEADER_BYTES, Query, write_opt
from mcsdns.dns.types import AD, EDE_OPTION, HEADER_WITH_ID, QR, RA, RCODE, TC, EdeCode, Rcode
from mcsdns.dns.writer import with_options
from mcsdns.forward.reply import UpstreamReply

_RD_BIT, _CD_BIT = 8, 4
_TTL: Final = struct.Struct("!I")
_EDE: Final = struct.Struct("!HHH")
_MAX_EDE_TEXT_BYTES: Final = 200
_EXTENDED_RCODE_AT: Final = 5
_OPT: Final = write_opt()
_OPT_WITH_DO: Final = write_opt(do=True)


def write_error_option(code: int, text: str = "") -> bytes:
    """Render an Extended DNS Error (RFC 8914, 2)."""
    octets = text.encode()[:_MAX_EDE_TEXT_BYTES]
    return _EDE.pack(EDE_OPTION, 2 + len(octets), code) + octets


TOO_MANY: Final = write_error_option(EdeCode.OTHER, "too many questions wait for upstreams")
SILENT: Final = write_error_option(EdeCode.NO_REACHABLE_AUTHORITY, "no upstream answered in time")
UNREACHABLE: Final = write_error_option(EdeCode.NETWORK_ERROR, "no upstream can be reached")
NO_UPSTREAM: Final = write_error_option(EdeCode.NETWORK_ERROR, "no upstream is known")
NO_TCP: Final = write_error_option(
    EdeCode.NETWORK_ERROR, "the upstream's reply needs TCP, which it does not answer on"
)
MALFORMED: Final = write_error_option(
    EdeCode.INVALID_DATA, "the upstream's reply to this question is malformed"
)
FORGED: Final = write_error_option(
    EdeCode.OTHER,
    "replies to this question came that nobody asked for, as if someone forges them, and the "
    "upstream does not answer over TCP",
)
LOOP: Final = write_error_option(
    EdeCode.OTHER,
    "forwarding loop: what mcsdns sends upstream comes back to it; take the zone out of the other "
    "server's forward to mcsdns, or the other server out of --upstream",
)


def render(
    reply: UpstreamReply, query: Query, limit: int, errors: bytes = b"", *, tcp: bool
) -> bytes:
    """Render an upstream's reply for a client in at most `limit` octets.

    What finds no room goes in this order: Additional, without TC; Extended DNS Errors, the
    upstream's first; Authority and then the answer's last records, with TC over UDP.

    Args:
        reply: what the upstream said, with the TTLs to send.
        query: what the client asked; the question is repeated as it stands there.
        limit: octets the message may have, 512 at least.
        errors: Extended DNS Error options of our own.
        tcp: the client is on TCP or TLS.
    """
    edns = query.edns
    rcode = reply.rcode
    if (rcode > 0xF and edns is None) or (tcp and reply.truncated):  # noqa: PLR2004 - 4 bits
        return _render_servfail(query, errors)
    flags = QR | RA | rcode & RCODE | query.rd << _RD_BIT | query.cd << _CD_BIT
    if reply.truncated:
        flags |= TC
    if reply.authentic and (query.ad or (edns is not None and edns.do)):
        flags |= AD  # only for a client that shows that it understands the bit (RFC 6840, 5.8)
    question = query.question
    records = reply.records
    additionals = reply.additionals
    if edns is None:
        opt = b""
    else:
        opt = _opt(query, rcode >> 4, reply.errors + errors)
        additionals += 1
    if HEADER_BYTES + len(question) + len(records) + len(opt) <= limit:
        head = HEADER_WITH_ID.pack(
            query.id, flags, 1, reply.answers, reply.authorities, additionals
        )
        return b"".join((head, question, records, opt))
    return _render_part(reply, query, limit, errors, flags, tcp=tcp)


def count_down(reply: UpstreamReply, seconds: int) -> UpstreamReply:
    """Return a reply with its TTLs counted down."""
    return _with_ttls(reply, lambda ttl: max(0, ttl - seconds))


def cap_ttls(reply: UpstreamReply, most_s: int) -> UpstreamReply:
    """Return a reply with no TTL above a bound."""
    return _with_ttls(reply, lambda ttl: min(ttl, most_s))


def bound_ttls(reply: UpstreamReply, least_s: int, most_s: int) -> UpstreamReply:
    """Return a reply whose TTLs, and lifetime, are within bounds; itself where they are."""
    lifetime_s = min(max(reply.lifetime_s, least_s), most_s)
    if lifetime_s == reply.lifetime_s:
        octets = reply.records
        for at in reply.ttls:
            if not least_s <= _TTL.unpack_from(octets, at)[0] <= most_s:
                break
        else:
            return reply
    return _with_ttls(reply, lambda ttl: min(max(ttl, least_s), most_s), lifetime_s)


def _with_ttls(
    reply: UpstreamReply, change: Callable[[int], int], lifetime_s: int | None = None
) -> UpstreamReply:
    records = bytearray(reply.records)
    for at in reply.ttls:
        _TTL.pack_into(records, at, change(_TTL.unpack_from(records, at)[0]))
    return UpstreamReply(
        reply.rcode,
        reply.authentic,
        reply.truncated,
        bytes(records),
        reply.answers,
        reply.authorities,
        reply.additionals,
        reply.ttls,
        reply.lifetime_s if lifetime_s is None else lifetime_s,
        reply.negative,
        reply.errors,
    )


def _render_part(
    reply: UpstreamReply, query: Query, limit: int, errors: bytes, flags: int, *, tcp: bool
) -> bytes:
    """Leave out Additional, then errors, then what else finds no room.

    Authority goes as a whole, for a part of it proves nothing; of the answer as many records stay
    as fit, which a bisection over their ends finds.
    """
    room = limit - HEADER_BYTES - len(query.question)
    answers, authorities = reply.answers, reply.authorities
    end = reply.end_of(answers + authorities)
    opt = _opt_within(reply, query, errors, room - end)
    if end + len(opt) > room:
        opt = _opt_within(reply, query, b"", 0)
        room -= len(opt)
        low, high = 0, answers
        while low < high:
            middle = (low + high + 1) // 2
            if reply.end_of(middle) <= room:
                low = middle
            else:
                high = middle - 1
        answers, authorities, end = low, 0, reply.end_of(low)
        flags |= 0 if tcp else TC
    head = HEADER_WITH_ID.pack(query.id, flags, 1, answers, authorities, 1 if opt else 0)
    return b"".join((head, query.question, reply.records[:end], opt))


def _opt_within(reply: UpstreamReply, query: Query, errors: bytes, room: int) -> bytes:
    """Return the OPT record with as many errors as there is room for, ours before theirs."""
    rcode_high = reply.rcode >> 4
    for options in (reply.errors + errors, errors):
        opt = _opt(query, rcode_high, options)
        if len(opt) <= room:
            return opt
    return _opt(query, rcode_high, b"")


def _opt(query: Query, rcode_high: int, errors: bytes) -> bytes:
    if query.edns is None:
        return b""
    do = query.edns.do
    opt = write_opt(do=do, options=errors) if errors else _OPT_WITH_DO if do else _OPT
    if rcode_high:
        opt = opt[:_EXTENDED_RCODE_AT] + bytes((rcode_high,)) + opt[_EXTENDED_RCODE_AT + 1 :]
    return with_options(opt, query.reply_options) if query.reply_options else opt


def _render_servfail(query: Query, errors: bytes) -> bytes:
    """Render SERVFAIL in place of an rcode or a truncation that this client cannot be sent."""
    flags = QR | RA | Rcode.SERVFAIL | query.rd << _RD_BIT | query.cd << _CD_BIT
    opt = _opt(query, 0, errors)
    return HEADER_WITH_ID.pack(query.id, flags, 1, 0, 0, 1 if opt else 0) + query.question + opt
