"""What one server says to one question over one transport, as far as checks compare it."""

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
"""How what mcsdns says of a loop begins."""
_BOGUS: Final = range(5, 13)
"""DNSSEC Indeterminate to NSEC Missing (RFC 8914, 4.6 to 4.13)."""
_CHECK_LABEL: Final = names.wire_label("mcsdns-check")
_OF_ITS_OWN: Final = (
    (names.wire_from_text("version.bind"), RRType.TXT, RRClass.CH),
    (names.wire_from_text("localhost"), RRType.A, RRClass.IN),
)
"""Some drop what is not of class IN, so there is a second one."""


class State(enum.Enum):
    """How a question went."""

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


class Question(msgspec.Struct, frozen=True):
    """A name in wire form and a type."""

    name: bytes
    qtype: int

    def __str__(self) -> str:
        return names.to_text(self.name)[:-1] + f" {RRType(self.qtype).name}"


class Told(msgspec.Struct, frozen=True):
    """What was said.

    Attributes:
        data: of the records of the type. ttl: the smallest of theirs.
        denied_by: the zone whose SOA came with it, None where there was none.
        why: of silence, or what is odd.
    """

    state: State
    status: str = ""
    data: frozenset[str] = frozenset()
    ttl: int = 0
    denied_by: Name | None = None
    errors: tuple[Ede, ...] = ()
    truncated: bool = False
    why: str = ""

    def __str__(self) -> str:
        if self.state is State.SILENT:
            return "no answer"
        if self.state is State.ANSWERED:
            return ", ".join(sorted(self.data))
        said = "no record of that type" if self.state is State.EMPTY else self.status or self.why
        texts = [each.text or each.name for each in self.errors]
        return said + (f" ({'; '.join(texts)})" if texts else "")


def ask(asker: NameServer, question: Question, transport: Transport, *, cd: bool = False) -> Told:
    """Ask once; silence is an answer too."""
    request = Request(name=question.name, qtype=question.qtype, cd=cd)
    try:
        reply = read_reply(asker.ask(request, transport).wire)
    except NoReplyError as error:
        return Told(State.SILENT, why=str(error).partition(";")[0])
    except ReplyError as error:
        return Told(State.ODD, why=str(error))
    records = [each for each in reply.answer if each.rtype == question.qtype]
    soa = next((each.owner for each in reply.authority if each.rtype == RRType.SOA), None)
    return Told(
        _state(reply.status, reply.errors, records),
        reply.status,
        frozenset(" ".join(each.data) for each in records),
        min((each.ttl for each in records), default=0),
        None if soa is None else Name(soa.lower()),
        reply.errors,
        "tc" in reply.flag_names,
    )


def is_alive(asker: NameServer, transport: Transport) -> bool:
    """Say whether a server answers at all, about what it need ask nobody else for."""
    for name, qtype, qclass in _OF_ITS_OWN:
        with contextlib.suppress(NoReplyError):
            asker.ask(Request(name=name, qtype=qtype, qclass=qclass), transport)
            return True
    return False


def version_of(zone: Name) -> Question:
    """Return the question that every zone of the MCS API answers (KEP-1645, dns-version)."""
    return Question(names.wire_label("dns-version") + zone, RRType.TXT)


VERSION: Final = f'"{SCHEMA_VERSION[1:].decode()}"'


def outside_question() -> Question:
    """Return a name outside every zone that nobody else asks for, and no cache has."""
    return Question(names.wire_label(os.urandom(8).hex()) + _CHECK_LABEL + names.ROOT, RRType.A)


def _state(status: str, errors: Iterable[Ede], records: list[Record]) -> State:
    match status:
        case "NOERROR":
            return State.ANSWERED if records else State.EMPTY
        case "NXDOMAIN":
            return State.DENIED
        case "REFUSED":
            return State.REFUSED
        case "SERVFAIL":
            return _failed(errors)
        case _:
            return State.ODD


def _failed(errors: Iterable[Ede]) -> State:
    for each in errors:
        if each.text.startswith(LOOP_TEXT):
            return State.LOOPED
        if each.code == EdeCode.NOT_READY:
            return State.NOT_READY
        if each.code in _BOGUS:
            return State.BOGUS
    return State.FAILED
