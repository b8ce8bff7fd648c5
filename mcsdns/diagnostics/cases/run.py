"""Asks the questions of rows and judges the replies."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from mcsdns.diagnostics.cases.compare import Difference, compare
from mcsdns.diagnostics.cases.form import Row
from mcsdns.dns.message_reader import Message, read_reply
from mcsdns.dns.request import NameServer, Transport
from mcsdns.errors import NoReplyError, ReplyError

MAX_SILENT: Final = 3


class Check(msgspec.Struct, frozen=True):
    """One question of a row, asked over one transport.

    Attributes:
        differences: what is not as expected. fault: why there is no reply to compare, or empty.
        answered: whether anything came back.
    """

    transport: Transport
    differences: tuple[Difference, ...] = ()
    reply: Message | None = None
    fault: str = ""
    answered: bool = True

    @property
    def passed(self) -> bool:
        """Whether the reply is the expected one."""
        return not self.differences and not self.fault


class Result(msgspec.Struct, frozen=True):
    """A row and how it went, over every transport it names."""

    row: Row
    checks: tuple[Check, ...]
    elapsed_s: float

    @property
    def passed(self) -> bool:
        """Whether all replies are the expected ones."""
        return all(check.passed for check in self.checks)


def check(row: Row, server: NameServer, transport: Transport) -> Check:
    """Ask the question of a row over one transport and compare."""
    try:
        reply = read_reply(server.ask(row.request, transport).wire)
    except NoReplyError as error:
        return Check(transport, fault=str(error), answered=False)
    except ReplyError as error:
        return Check(transport, fault=str(error))
    return Check(transport, tuple(compare(row, reply)), reply)


def run(
    asked: Iterable[tuple[Row, NameServer]], clock: Callable[[], float] = time.monotonic
) -> Iterator[Result]:
    """Ask the questions of rows, one after the other.

    Ends early where a server leaves several in a row without a reply: the others would take
    minutes to tell nothing new.
    """
    silent = 0
    for row, server in asked:
        begin = clock()
        checks = tuple(check(row, server, transport) for transport in row.transports)
        yield Result(row, checks, clock() - begin)
        silent = 0 if all(each.answered for each in checks) else silent + 1
        if silent == MAX_SILENT:
            return
