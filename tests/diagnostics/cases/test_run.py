"""Comparison, running and reporting, from rows and replies that are made here."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from junitparser import JUnitXml

from mcsdns.diagnostics.cases.form import Row, parse
from mcsdns.diagnostics.cases.run import (
    MAX_SILENT,
    Difference,
    Result,
    check,
    compare,
    failure_text,
    run,
    summary_text,
    write_junit,
)
from mcsdns.dns.message_reader import read_reply
from mcsdns.dns.request import Received, Request, Transport
from mcsdns.errors import NoReplyError
from tests.dns.test_message_reader import NAME, message, opt, option, record

NAME_TEXT = "web.shop.svc.clusterset.local."
TWO_ADDRESSES = message(record(1, b"\x0a\0\0\1"), record(1, b"\x0a\0\0\2"))
WITH_OPT = message(opt(option(15, b"\0\x12ask the service")), flags=0x8105, counts=(1, 0, 0, 1))
SOA = (
    b"\x02ns\xc0\x19\x04root\xc0\x19" + b"\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5"
)  # 0x19: where clusterset.local begins


def row(text: str = "", ask: str = f"{NAME_TEXT} A") -> Row:
    return parse(f"cases:\n- ask: {ask}\n  why: the reason\n{text}", "x.yaml").rows[0]


def differences(text: str, wire: bytes, ask: str = f"{NAME_TEXT} A") -> list[Difference]:
    return compare(row(text, ask), read_reply(wire))


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("", message()),
        ("  flags: [rd, aa, qr]\n", message()),
        ("  rcode: NXDOMAIN\n", message(flags=0x8003)),
        ("  rcode: RCODE9\n", message(flags=0x8009)),
        (f"  answer: [{NAME_TEXT} A 10.0.0.2, {NAME_TEXT} A 10.0.0.1]\n", TWO_ADDRESSES),
        (f"  answer: [{NAME_TEXT} A *, {NAME_TEXT} A 10.0.0.1]\n", TWO_ADDRESSES),
        (f"  answer: [{NAME_TEXT} A *, '* 5 IN A 10.0.0.1']\n", TWO_ADDRESSES),
        (f"  answer: [{NAME_TEXT.upper()} IN A *, '* * *']\n", TWO_ADDRESSES),
        (
            "  authority: [CLUSTERSET.local. SOA ns.clusterset.local. * * 2 3 4 5]\n",
            message(record(6, SOA, owner=b"\xc0\x19"), counts=(1, 0, 1, 0)),
        ),
        ("  edns: none\n", message()),
        ("  ede: none\n", message()),
        ("  ede: none\n", message(opt(), counts=(1, 0, 0, 1))),
        ("  rcode: REFUSED\n  edns: {version: 0, size: 1232, options: [15]}\n", WITH_OPT),
        ("  rcode: REFUSED\n  additional: []\n  ede: {code: 18, text: service}\n", WITH_OPT),
        ("  rcode: REFUSED\n  ede: {code: 18}\n", WITH_OPT),
        ("  rcode: REFUSED\n  ede: {text: ask}\n", WITH_OPT),
    ],
)
def test_expected_reply_passes(text: str, wire: bytes) -> None:
    assert differences(text, wire) == []


@pytest.mark.parametrize(
    ("text", "wire", "expected"),
    [
        ("", message(flags=0x8003), ("rcode", ("NOERROR",), ("NXDOMAIN",))),
        ("  flags: [qr, aa]\n", message(), ("flags", ("qr aa",), ("qr aa rd",))),
        ("", TWO_ADDRESSES[:-16], None),
        ("", message(record(1, b"\x0a\0\0\1")), ("answer", (), (f"{NAME_TEXT} 5 IN A 10.0.0.1",))),
        (
            f"  answer: [{NAME_TEXT} 5 IN A 10.0.0.1, {NAME_TEXT} 5 IN A 10.0.0.3]\n",
            TWO_ADDRESSES,
            (
                *("answer", (f"{NAME_TEXT} 5 IN A 10.0.0.3",)),
                *((f"{NAME_TEXT} 5 IN A 10.0.0.2",), 1),
            ),
        ),
        (
            f"  answer: [{NAME_TEXT} 6 IN A 10.0.0.1]\n",
            message(record(1, b"\x0a\0\0\1")),
            ("answer", (f"{NAME_TEXT} 6 IN A 10.0.0.1",), (f"{NAME_TEXT} 5 IN A 10.0.0.1",)),
        ),
        (
            f"  answer: [{NAME_TEXT} CH A 10.0.0.1]\n",
            message(record(1, b"\x0a\0\0\1")),
            ("answer", (f"{NAME_TEXT} CH A 10.0.0.1",), (f"{NAME_TEXT} 5 IN A 10.0.0.1",)),
        ),
        ("  authority: ['* TXT x']\n", message(), ("authority", ("* TXT x",), ())),
        (
            "",
            message(question=NAME.upper() + b"\0\1\0\1"),
            ("question", (f"{NAME_TEXT} IN A",), (f"{NAME_TEXT.upper()} IN A",)),
        ),
        ("", message(question=b""), ("question", (f"{NAME_TEXT} IN A",), ())),
        ("  edns: {do: true}\n", message(), ("edns", ("do: true",), ("none",))),
        (
            "  edns: {do: true, version: 0}\n",
            message(opt(), counts=(1, 0, 0, 1)),
            ("edns", ("do: true",), ("do: false",)),
        ),
        ("  ede: {code: 18}\n", message(), ("ede", ("18 *",), ("none",))),
    ],
)
def test_difference_has_what_was_expected_and_what_came(
    text: str, wire: bytes, expected: tuple[object, ...] | None
) -> None:
    if expected is None:
        with pytest.raises(Exception, match="malformed"):
            differences(text, wire)
    else:
        assert differences(text, wire) == [Difference(*expected)]  # type: ignore[arg-type]


def test_unexpected_opt_record_is_shown() -> None:
    (difference,) = differences("  edns: none\n", message(opt(), counts=(1, 0, 0, 1)))
    assert difference.part == "edns"
    assert difference.expected == ("none",)
    assert difference.got == ("size: 1232", "version: 0", "do: false", "options: []")


def test_extended_error_that_is_not_wanted() -> None:
    found = {each.part: each for each in differences("  ede: none\n", WITH_OPT)}
    assert found["ede"] == Difference("ede", ("none",), ("18 'ask the service'",))
    found = {each.part: each for each in differences("  ede: {code: 18, text: 'no'}\n", WITH_OPT)}
    assert found["ede"] == Difference("ede", ("18 'no'",), ("18 'ask the service'",))


class Scripted:
    """Replies with what it was given, for each transport and question."""

    def __init__(self, reply: Callable[[Transport], bytes | None]) -> None:
        self._reply = reply
        self.asked = 0

    def ask(self, request: Request, transport: Transport) -> Received:
        self.asked += 1
        wire = self._reply(transport)
        if wire is None:
            raise NoReplyError("no reply from nowhere")
        return Received(wire, "scripted", transport, 0)


def results(asker: Scripted, rows: Iterable[Row]) -> list[Result]:
    times = iter(range(1000))
    return list(run(((each, asker) for each in rows), lambda: float(next(times))))


def test_row_is_asked_over_each_transport() -> None:
    asker = Scripted(lambda _: message())
    (result,) = results(asker, [row()])
    assert result.passed
    assert [each.transport for each in result.checks] == [Transport.UDP, Transport.TCP]
    assert result.elapsed_s == 1.0


def test_row_fails_if_one_transport_does() -> None:
    asker = Scripted(lambda transport: message(flags=0x8503 if transport == "tcp" else 0x8500))
    (result,) = results(asker, [row()])
    assert not result.passed
    assert failure_text(result) == (
        "FAILED x.yaml:2: the reason\n"
        f"  {NAME_TEXT} A over TCP\n"
        "    rcode\n"
        "      - NOERROR\n"
        "      + NXDOMAIN"
    )


def test_transports_that_differ_alike_are_told_once_with_the_server_s_reason() -> None:
    asker = Scripted(lambda _: WITH_OPT)
    (result,) = results(asker, [row("  spec: RFC 1\n")])
    assert failure_text(result) == (
        "FAILED x.yaml:2: the reason (RFC 1)\n"
        f"  {NAME_TEXT} A over UDP and TCP\n"
        "    rcode\n"
        "      - NOERROR\n"
        "      + REFUSED\n"
        "    the server says: EDE 18 'ask the service'"
    )


def test_lines_that_are_alike_are_counted() -> None:
    expected = row(f"  answer: [{NAME_TEXT} A 10.0.0.1, {NAME_TEXT} A 10.0.0.3]\n")
    (result,) = results(Scripted(lambda _: TWO_ADDRESSES), [expected])
    assert failure_text(result).splitlines()[2:] == [
        "    answer (1 more as expected)",
        f"      - {NAME_TEXT} A 10.0.0.3",
        f"      + {NAME_TEXT} 5 IN A 10.0.0.2",
    ]


def test_malformed_reply_is_a_failure() -> None:
    found = check(row(), Scripted(lambda _: message() + b"\0"), Transport.UDP)
    assert not found.passed
    assert found.answered
    assert "octets follow the last record" in found.fault


def test_server_that_stays_silent_is_left_alone() -> None:
    asker = Scripted(lambda _: None)
    found = results(asker, [row()] * 10)
    assert len(found) == MAX_SILENT
    assert asker.asked == 2 * MAX_SILENT
    assert summary_text(found, 10) == "0 passed, 3 failed, 7 not asked"
    assert "no reply from nowhere" in failure_text(found[0])


def test_server_that_is_silent_now_and_then_is_asked_on() -> None:
    answers = iter([None, None, None, None, message(), message()] * 2)
    found = results(Scripted(lambda _: next(answers)), [row()] * 6)
    assert summary_text(found, 6) == "2 passed, 4 failed"


def test_junit_has_a_suite_for_each_file_and_a_case_for_each_row(tmp_path: Path) -> None:
    other = parse(f'cases:\n- ask: {NAME_TEXT} A\n  why: "\\e[1m & <bold>"\n', "cases/y.yaml").rows
    replies = iter([message()] * 2 + [message(flags=0x8003)] * 2 + [message()] * 2)
    found = results(Scripted(lambda _: next(replies)), [row(), row(), *other])
    path = tmp_path / "junit.xml"
    write_junit(found, str(path))
    suites = list(JUnitXml.fromfile(str(path)))
    assert [(suite.name, suite.tests, suite.failures) for suite in suites] == [
        ("x.yaml", 2, 1),
        ("cases/y.yaml", 1, 0),
    ]
    cases = [case for suite in suites for case in suite]
    assert [(case.classname, case.name, case.time) for case in cases] == [
        ("x", "the reason", 1.0),
        ("x", "the reason", 1.0),
        ("cases.y", "\\u001b[1m & <bold>", 1.0),
    ]
    (failure,) = cases[1].result
    assert failure.message == f"x.yaml:2: {NAME_TEXT} A"
    assert failure.text == failure_text(found[1])
    root = ET.parse(path).getroot()
    assert (root.tag, len(root.findall("testsuite/testcase"))) == ("testsuites", 3)
