"""The query log: one line for one of so many requests, its client, and its reply.

Which ones is left to chance: every tenth request of a client that sends A and AAAA by turns would
never show its AAAA. The transports call `due` once for each batch, and only while there is a query
log at all.
"""

import ipaddress
import logging
import random

import msgspec

from mcsdns.dns import name as names
from mcsdns.dns import read_query
from mcsdns.dns.message_reader import read_reply
from mcsdns.dns.rdata import type_name
from mcsdns.dns.types import rcode_text
from mcsdns.errors import MessageError, ReplyError
from mcsdns.stats import ReplyKind

logger = logging.getLogger(__name__)

_NONE = "-"


class Entry(msgspec.Struct, frozen=True):
    """The fields of one line; texts are `-` where there is nothing to say.

    Attributes:
        qname: in presentation form, escaped. edns: size and DO of the request's OPT record.
        rcode, size: of the reply, `-` and 0 where it comes later. kind: a `stats.ReplyKind`.
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
        """Return which of the next so many requests are to be logged, by their place."""
        due: list[int] = []
        at = self._skip
        while at < requests:
            due.append(at)
            at += self._gap()
        self._skip = at - requests
        return due

    def _gap(self) -> int:
        return self._rng.randint(1, 2 * self._one_of - 1)

    def log(self, request: bytes, reply: bytes, address: bytes, transport: str, kind: str) -> None:
        """Log one request and its reply; `kind` is what the reply was counted as.

        Both are empty where the reply comes later, from an upstream, or never.
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


def entry(request: bytes, reply: bytes, address: bytes, transport: str, kind: str) -> Entry:
    """Return what a line says of a request and its reply; see `QueryLog.log`."""
    try:
        query = read_query(request)
    except MessageError:
        query = None
    try:
        answer = read_reply(reply, with_rdata=False) if reply else None
    except ReplyError:
        answer = None
    edns = query.edns if query else None
    return Entry(
        qname=names.to_text(query.question[:-4]) if query else _NONE,
        qtype=type_name(query.qtype) if query else _NONE,
        transport=transport,
        client=_address_text(address),
        edns=f"{edns.size}{' DO' if edns.do else ''}" if edns else _NONE,
        rcode=rcode_text(answer.rcode) if answer else _NONE,
        size=len(reply),
        kind=kind or (ReplyKind.FORWARDED if query else ReplyKind.REJECTED),
    )


def _address_text(address: bytes) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:  # a connection that is gone
        return _NONE
