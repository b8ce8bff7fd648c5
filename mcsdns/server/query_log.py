"""One line of the log for one of so many requests: what was asked by whom, and what it got.

Which ones is left to chance: every tenth request of a client that asks for A and AAAA by turns
would never show its AAAA. The sockets ask `due` once for each batch, and only while there is a
query log at all.
"""

import ipaddress
import logging
import random

import msgspec

from mcsdns.dns import Query, read_query
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import Reply, read_reply
from mcsdns.dns.rdata import type_name
from mcsdns.dns.types import EdeCode, Rcode, rcode_text
from mcsdns.errors import MessageError, ReplyError
from mcsdns.stats import ReplyKind

logger = logging.getLogger(__name__)

_NONE = "-"
_STALE = (EdeCode.STALE_ANSWER, EdeCode.STALE_NXDOMAIN)


class Entry(msgspec.Struct, frozen=True):
    """What one line says; texts are `-` where there is nothing to say.

    Attributes:
        qname: in presentation form, escaped. edns: size and DO of the request's OPT record.
        rcode, size: of the reply, `-` and 0 where it comes later. kind: a `tally.Kind`.
    """

    qname: str
    qtype: str
    transport: str
    client: str
    edns: str
    rcode: str
    size: int
    kind: str


class QueryLog:
    """Logs one of so many requests."""

    def __init__(self, one_of: int, rng: random.Random | None = None) -> None:
        """Log each request where `one_of` is 1, else one of so many in the mean."""
        assert one_of >= 1
        self._one_of = one_of
        self._rng = rng or random.Random()
        self._skip = self._gap() - 1

    def due(self, requests: int) -> list[int]:
        """Return which of the next so many requests are to be noted, by their place."""
        due: list[int] = []
        at = self._skip
        while at < requests:
            due.append(at)
            at += self._gap()
        self._skip = at - requests
        return due

    def _gap(self) -> int:
        return self._rng.randint(1, 2 * self._one_of - 1)

    def note(
        self, request: bytes, reply: bytes, address: bytes, transport: str, kind: str = ""
    ) -> None:
        """Log one request; `reply` is empty where it comes later, from an upstream, or never.

        `kind` is what the reply was counted as; without it, it is read off the reply.
        """
        fields = entry(request, reply, address, transport, kind)
        logger.info(
            "query %s %s by %s from %s, EDNS %s: %s, %d octets, %s",
            fields.qname,
            fields.qtype,
            fields.transport,
            fields.client,
            fields.edns,
            fields.rcode,
            fields.size,
            fields.kind,
            extra=msgspec.structs.asdict(fields),
        )


def entry(request: bytes, reply: bytes, address: bytes, transport: str, kind: str = "") -> Entry:
    """Read what a line says; whatever a peer sent, there is one."""
    try:
        query = read_query(request)
    except MessageError:
        query = None
    try:
        answer = read_reply(reply) if reply else None
    except ReplyError:
        answer = None
    return Entry(
        qname=names.to_text(query.question[:-4]) if query else _NONE,
        qtype=type_name(query.qtype) if query else _NONE,
        transport=transport,
        client=_address_text(address),
        edns=_edns_text(query),
        rcode=rcode_text(answer.rcode) if answer else _NONE,
        size=len(reply),
        kind=kind or _kind(query, answer),
    )


def _address_text(address: bytes) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:  # a connection that is gone
        return _NONE


def _edns_text(query: Query | None) -> str:
    if query is None or query.edns is None:
        return _NONE
    return f"{query.edns.size}{' DO' if query.edns.do else ''}"


def _kind(query: Query | None, answer: Reply | None) -> str:
    """Read off a reply what it is, as far as it tells."""
    if query is None:
        return ReplyKind.REJECTED
    if answer is None:
        return ReplyKind.FORWARDED
    codes = {each.code for each in answer.errors}
    if "aa" in answer.flag_names:
        if not codes.isdisjoint(_STALE):
            return ReplyKind.STALE
        return ReplyKind.CLUSTERSET if answer.answer else ReplyKind.NEGATIVE
    if answer.rcode == Rcode.REFUSED:
        return _refusal(codes)
    if EdeCode.NOT_READY in codes:
        return ReplyKind.NOT_READY
    if answer.rcode in (Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS):
        return ReplyKind.REJECTED
    return ReplyKind.FAILED if answer.rcode == Rcode.SERVFAIL else ReplyKind.FORWARDED


def _refusal(codes: set[int]) -> str:
    if EdeCode.NOT_SUPPORTED in codes:
        return ReplyKind.REJECTED
    return ReplyKind.PER_CLUSTER if EdeCode.PROHIBITED in codes else ReplyKind.OUTSIDE
