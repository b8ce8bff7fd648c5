"""Asks the questions of rows, and compares each reply with what the row expects."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.cases.form import ExpectedEde, ExpectedEdns, Row
from mcsdns.diagnostics.cases.pattern import Pattern
from mcsdns.dns.message_reader import Message, Opt, QuestionEntry, Record, read_reply
from mcsdns.dns.request import NameServer, Transport
from mcsdns.dns.types import FLAGS, Ede, rcode_text
from mcsdns.errors import NoReplyError, ReplyError

MAX_SILENT: Final = 3


class Difference(msgspec.Struct, frozen=True):
    """One part of a reply that is not as expected.

    Attributes:
        part: such as `rcode` or `answer`. expected, got: lines that have no counterpart.
        alike: how many lines are as expected.
    """

    part: str
    expected: tuple[str, ...]
    got: tuple[str, ...]
    alike: int = 0


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


def compare(row: Row, reply: Message) -> list[Difference]:
    """Return the differences; none means that the reply is the expected one."""
    return [
        *_compare_header(row, reply),
        *_compare_sections(row, reply),
        *_compare_edns(row, reply),
    ]


def _compare_header(row: Row, reply: Message) -> Iterator[Difference]:
    if row.rcode != reply.rcode:
        yield Difference("rcode", (rcode_text(row.rcode),), (reply.status,))
    if row.flags is not None and row.flags != frozenset(reply.flag_names):
        expected = " ".join(name for name in FLAGS if name in row.flags)
        yield Difference("flags", (expected,), (" ".join(reply.flag_names),))
    asked = QuestionEntry(row.request.name, row.request.qtype, row.request.qclass)
    if reply.question != asked:
        got = (str(reply.question),) if reply.question else ()
        yield Difference("question", (str(asked),), got)


def _compare_sections(row: Row, reply: Message) -> Iterator[Difference]:
    for part, patterns, records in (
        ("answer", row.answer, reply.answer),
        ("authority", row.authority, reply.authority),
        ("additional", row.additional, reply.additional),
    ):
        if patterns is None:
            continue
        missing, extra = _match(patterns, records)
        if missing or extra:
            expected = tuple(pattern.text for pattern in missing)
            got = tuple(map(str, extra))
            yield Difference(part, expected, got, len(records) - len(extra))


def _compare_edns(row: Row, reply: Message) -> Iterator[Difference]:
    if row.edns is not None:
        expected, got = _expected_edns(row.edns), _got_edns(reply.opt)
        if expected and got:
            got = {key: got[key] for key in expected}
            expected = {key: text for key, text in expected.items() if text != got[key]}
            got = {key: got[key] for key in expected}
        if expected or got:
            yield Difference("edns", _lines(expected), _lines(got))
    if row.ede is not None and not _is_expected_error(row.ede, reply.errors):
        got_errors = tuple(f"{error.code} {error.text!r}" for error in reply.errors)
        yield Difference("ede", (_expected_error(row.ede),), got_errors or ("none",))


def _match(
    patterns: Sequence[Pattern], records: Sequence[Record]
) -> tuple[list[Pattern], list[Record]]:
    """Pair patterns with records, as many as can be; return what has no counterpart.

    The largest pairing (augmenting paths), since a pattern with `*` may take the only record
    that suits another one.
    """
    fitting = [
        [at for at, record in enumerate(records) if _fits(pattern, record)] for pattern in patterns
    ]
    taken: dict[int, int] = {}
    order = sorted(range(len(patterns)), key=lambda each: len(fitting[each]))
    alone = [number for number in order if not _take(number, fitting, taken, set())]
    return [patterns[number] for number in sorted(alone)], [
        record for at, record in enumerate(records) if at not in taken
    ]


def _take(number: int, fitting: list[list[int]], taken: dict[int, int], tried: set[int]) -> bool:
    for at in fitting[number]:
        if at not in taken:
            taken[at] = number
            return True
    for at in fitting[number]:
        if at not in tried:
            tried.add(at)
            if _take(taken[at], fitting, taken, tried):
                taken[at] = number
                return True
    return False


def _fits(pattern: Pattern, record: Record) -> bool:
    return (
        pattern.owner in (None, record.owner.lower())
        and pattern.ttl in (None, record.ttl)
        and pattern.rclass in (None, record.rclass)
        and pattern.rtype in (None, record.rtype)
        and len(pattern.data) == len(record.data)
        and all(want in (None, got) for want, got in zip(pattern.data, record.data, strict=True))
    )


def _expected_edns(edns: ExpectedEdns | str) -> dict[str, str]:
    if isinstance(edns, str):
        return {}
    given = {field: getattr(edns, field) for field in edns.__struct_fields__}
    return {field: _plain(value) for field, value in given.items() if value is not None}


def _got_edns(opt: Opt | None) -> dict[str, str]:
    if opt is None:
        return {}
    return {
        "size": _plain(opt.size),
        "version": _plain(opt.version),
        "do": _plain(opt.do),
        "options": _plain([code for code, _ in opt.options]),
    }


def _plain(value: object) -> str:
    return str(value).lower()


def _lines(values: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}: {value}" for key, value in values.items()) or ("none",)


def _is_expected_error(expected: ExpectedEde | str, got: Sequence[Ede]) -> bool:
    if isinstance(expected, str):
        return not got
    return any(
        expected.code in (None, error.code) and (expected.text or "") in error.text for error in got
    )


def _expected_error(expected: ExpectedEde | str) -> str:
    if isinstance(expected, str):
        return "none"
    code = "*" if expected.code is None else expected.code
    return f"{code} {'*' if expected.text is None else repr(expected.text)}"
