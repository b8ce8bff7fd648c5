"""Asks the questions of rows, compares each reply with what its row expects, and reports."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.cases.form import Pattern, Row
from mcsdns.dns.message_reader import Message, Record, read_reply
from mcsdns.dns.rdata import printable
from mcsdns.dns.request import NameServer, Transport
from mcsdns.dns.types import FLAGS, rcode_text
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
        *_compare_errors(row, reply),
    ]


def _compare_header(row: Row, reply: Message) -> Iterator[Difference]:
    if row.rcode != reply.rcode:
        yield Difference("rcode", (rcode_text(row.rcode),), (reply.status,))
    if row.flags is not None and set(row.flags) != set(reply.flag_names):
        expected = " ".join(name for name in FLAGS if name in row.flags)
        yield Difference("flags", (expected,), (" ".join(reply.flag_names),))
    if reply.question != row.ask.entry:
        got = (str(reply.question),) if reply.question else ()
        yield Difference("question", (str(row.ask.entry),), got)


def _compare_sections(row: Row, reply: Message) -> Iterator[Difference]:
    for part in ("answer", "authority", "additional"):
        patterns: tuple[Pattern, ...] | None = getattr(row, part)
        records: tuple[Record, ...] = getattr(reply, part)
        if patterns is None:
            continue
        missing, extra = _match(patterns, records)
        if missing or extra:
            expected = tuple(pattern.text for pattern in missing)
            got = tuple(map(str, extra))
            yield Difference(part, expected, got, len(records) - len(extra))


def _compare_edns(row: Row, reply: Message) -> Iterator[Difference]:
    if row.edns is None:
        return
    expected: dict[str, object] = {}
    if row.edns != "none":
        given = msgspec.structs.asdict(row.edns)
        expected = {key: value for key, value in given.items() if value is not None}
    got: dict[str, object] = {}
    if opt := reply.opt:
        codes = [code for code, _ in opt.options]
        got = {"size": opt.size, "version": opt.version, "do": opt.do, "options": codes}
    if expected and got:
        differing = [key for key in expected if expected[key] != got[key]]
        expected, got = ({key: each[key] for key in differing} for each in (expected, got))
    if expected or got:
        yield Difference("edns", _lines(expected), _lines(got))


def _lines(values: dict[str, object]) -> tuple[str, ...]:
    return tuple(f"{key}: {value}".lower() for key, value in values.items()) or ("none",)


def _compare_errors(row: Row, reply: Message) -> Iterator[Difference]:
    if row.ede is None:
        return
    got = tuple(f"{error.code} {error.text!r}" for error in reply.errors)
    if row.ede == "none":
        if got:
            yield Difference("ede", ("none",), got)
        return
    code, text = row.ede.code, row.ede.text
    if not any(code in (None, each.code) and (text or "") in each.text for each in reply.errors):
        expected = f"{'*' if code is None else code} {'*' if text is None else repr(text)}"
        yield Difference("ede", (expected,), got or ("none",))


def _match(
    patterns: Sequence[Pattern], records: Sequence[Record]
) -> tuple[list[Pattern], list[Record]]:
    """Pair patterns with records, as many as can be; return what has no counterpart.

    The largest pairing (augmenting paths), since a pattern with `*` may take the only record
    that suits another one.
    """
    fitting = [
        [at for at, record in enumerate(records) if pattern.matches(record)] for pattern in patterns
    ]
    taken: dict[int, int] = {}
    """By record, the pattern that it is paired with."""

    def take(number: int, tried: set[int]) -> bool:
        for at in fitting[number]:
            if at not in tried:
                tried.add(at)
                if at not in taken or take(taken[at], tried):
                    taken[at] = number
                    return True
        return False

    order = sorted(range(len(patterns)), key=lambda number: len(fitting[number]))
    alone = sorted(number for number in order if not take(number, set()))
    return [patterns[number] for number in alone], [
        record for at, record in enumerate(records) if at not in taken
    ]


def failure_text(result: Result) -> str:
    """Write what is different in a failed case: `-` what was expected, `+` what came.

    Transports that differ alike are told once.
    """
    row = result.row
    spec = f" ({row.spec})" if row.spec else ""
    lines = [f"FAILED {row.file}:{row.line}: {row.why or row.ask.text}{spec}"]
    told: dict[tuple[str, ...], list[str]] = {}
    for check in result.checks:
        if not check.passed:
            told.setdefault(tuple(_check_lines(check)), []).append(check.transport.upper())
    for body, transports in told.items():
        lines.append(f"  {row.ask.text} over {' and '.join(transports)}")
        lines += body
    return "\n".join(map(printable, lines))


def _check_lines(check: Check) -> Iterator[str]:
    if check.fault:
        yield f"    {check.fault}"
        return
    for each in check.differences:
        alike = f" ({each.alike} more as expected)" if each.alike else ""
        yield f"    {each.part}{alike}"
        yield from (f"      - {line}" for line in each.expected)
        yield from (f"      + {line}" for line in each.got)
    said = {each.part for each in check.differences}
    for error in check.reply.errors if check.reply and "ede" not in said else ():
        yield f"    the server says: EDE {error.code} {error.text!r}"


def summary_text(results: Sequence[Result], rows: int) -> str:
    """Write how many cases passed and failed, and how many of all `rows` were not asked."""
    failed = sum(not result.passed for result in results)
    left = f", {rows - len(results)} not asked" if rows > len(results) else ""
    return f"{len(results) - failed} passed, {failed} failed{left}"


def write_junit(results: Sequence[Result], path: str) -> None:
    """Write JUnit XML: a suite for each case file, a test case for each case.

    Raises:
        OSError: the file cannot be written.
    """
    from junitparser import Failure, JUnitXml, TestCase, TestSuite  # noqa: PLC0415 - 20 ms

    document = JUnitXml("mcsdns test")
    suites: dict[str, TestSuite] = {}
    for result in results:
        row = result.row
        suite = suites.setdefault(row.file, TestSuite(row.file))
        class_name = os.path.splitext(row.file)[0].replace(os.sep, ".").strip(".")
        title = printable(row.why or row.ask.text)
        case = TestCase(title, class_name, round(result.elapsed_s, 6))
        if not result.passed:
            failure = Failure(f"{row.file}:{row.line}: {printable(row.ask.text)}")
            failure.text = failure_text(result)
            case.result = [failure]
        suite.add_testcase(case)
    for suite in suites.values():
        document.add_testsuite(suite)
    document.write(path, pretty=True)  # pyright: ignore[reportUnknownMemberType]
