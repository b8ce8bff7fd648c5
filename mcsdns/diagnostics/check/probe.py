"""Probes of a server: one question over one transport, and of the reply what checks compare."""

import contextlib
import enum
import os
from collections.abc import Iterable
from typing import Final

import msgspec

from mcsdns.dns import name as names
from mcsdns.dns.message_reader import Record, read_reply
from mcsdns.dns.name import Name
from mcsdns.dns.request import NameServer, Request, Transport
from mcsdns.dns.types import Ede, EdeCode, RRClass, RRType
from mcsdns.errors import NoReplyError, ReplyError
from mcsdns.zone.lookup import SCHEMA_VERSION

LOOP_TEXT: Final = "forwarding loop"
"""How the text of the Extended DNS Error for a loop begins."""
_BOGUS: Final = range(5, 13)
"""DNSSEC Indeterminate to NSEC Missing (RFC 8914, 4.6 to 4.13)."""
_CHECK_LABEL: Final = names.wire_label("mcsdns-check")
_LOCAL_QUESTIONS: Final = (
    (names.wire_from_text("version.bind"), RRType.TXT, RRClass.CH),
    (names.wire_from_text("localhost"), RRType.A, RRClass.IN),
)
"""A server answers these by itself. Some drop what is not of class IN, so there is a second."""


class ProbeState(enum.Enum):
    """How a probe went."""

    ANSWERED = "answered"
    EMPTY = "empty"
    """NOERROR without a record of the type."""
    DENIED = "denied"
    """NXDOMAIN."""
    REFUSED = "refused"
    LOOPED = "looped"
    NOT_READY = "not ready"
    BOGUS = "bogus"
    FAILED = "failed"
    """SERVFAIL, for whatever other reason."""
    ODD = "odd"
    """Another response code, or no DNS message."""
    SILENT = "silent"


_STATES: Final = {"NXDOMAIN": ProbeState.DENIED, "REFUSED": ProbeState.REFUSED}


class ProbeQuestion(msgspec.Struct, frozen=True):
    """A name in wire form and a type."""

    name: bytes
    qtype: int

    def __str__(self) -> str:
        return names.to_text(self.name)[:-1] + f" {RRType(self.qtype).name}"


class ProbeReply(msgspec.Struct, frozen=True):
    """The reply to a probe, or that there was none.

    Attributes:
        data: of the records of the type. ttl: the smallest of theirs.
        denied_by: the zone whose SOA came with it, None where there was none.
        why: what is odd about a reply that is no DNS message.
    """

    state: ProbeState
    status: str = ""
    data: frozenset[str] = frozenset()
    ttl: int = 0
    denied_by: Name | None = None
    errors: tuple[Ede, ...] = ()
    truncated: bool = False
    why: str = ""

    def __str__(self) -> str:
        if self.state is ProbeState.SILENT:
            return "no answer"
        if self.state is ProbeState.ANSWERED:
            return ", ".join(sorted(self.data))
        is_empty = self.state is ProbeState.EMPTY
        text = "no record of that type" if is_empty else self.status or self.why
        errors = "; ".join(each.text or each.name for each in self.errors)
        return f"{text} ({errors})" if errors else text


def probe(
    client: NameServer, question: ProbeQuestion, transport: Transport, *, cd: bool = False
) -> ProbeReply:
    """Send one question; silence is a result too."""
    request = Request(name=question.name, qtype=question.qtype, cd=cd)
    try:
        reply = read_reply(client.ask(request, transport).wire)
    except NoReplyError:
        return ProbeReply(ProbeState.SILENT)
    except ReplyError as error:
        return ProbeReply(ProbeState.ODD, why=str(error))
    records = [each for each in reply.answer if each.rtype == question.qtype]
    soa = next((each.owner for each in reply.authority if each.rtype == RRType.SOA), None)
    return ProbeReply(
        _state(reply.status, reply.errors, records),
        reply.status,
        frozenset(" ".join(each.data) for each in records),
        min((each.ttl for each in records), default=0),
        None if soa is None else Name(soa.lower()),
        reply.errors,
        "tc" in reply.flag_names,
    )


class Peer(msgspec.Struct, frozen=True):
    """A server that is looked at.

    Attributes:
        where: what findings call it. alive: the transports over which it answers at all.
        is_node_local: whether it is a cache on the node, before the cluster DNS.
    """

    where: str
    client: NameServer
    alive: tuple[Transport, ...]
    is_node_local: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it answers over all transports."""
        return len(self.alive) == len(Transport)


def look_at(client: NameServer, where: str, *, is_node_local: bool = False) -> Peer:
    """Find out over which transports a server answers."""
    alive = tuple(each for each in Transport if _is_alive(client, each))
    return Peer(where, client, alive, is_node_local)


def _is_alive(client: NameServer, transport: Transport) -> bool:
    """Return whether a server answers at all, about names that it need ask no other server for."""
    for name, qtype, qclass in _LOCAL_QUESTIONS:
        with contextlib.suppress(NoReplyError):
            client.ask(Request(name=name, qtype=qtype, qclass=qclass), transport)
            return True
    return False


def version_of(zone: Name) -> ProbeQuestion:
    """Return the question that every zone of the MCS API answers (KEP-1645, dns-version)."""
    return ProbeQuestion(names.wire_label("dns-version") + zone, RRType.TXT)


VERSION: Final = f'"{SCHEMA_VERSION[1:].decode()}"'


def outside_question() -> ProbeQuestion:
    """Return a name outside every zone that no client asks for and no cache has."""
    name = names.wire_label(os.urandom(8).hex()) + _CHECK_LABEL + names.ROOT
    return ProbeQuestion(name, RRType.A)


def _state(status: str, errors: Iterable[Ede], records: list[Record]) -> ProbeState:
    if status == "NOERROR":
        return ProbeState.ANSWERED if records else ProbeState.EMPTY
    if status != "SERVFAIL":
        return _STATES.get(status, ProbeState.ODD)
    for each in errors:
        if each.text.startswith(LOOP_TEXT):
            return ProbeState.LOOPED
        if each.code == EdeCode.NOT_READY:
            return ProbeState.NOT_READY
        if each.code in _BOGUS:
            return ProbeState.BOGUS
    return ProbeState.FAILED
