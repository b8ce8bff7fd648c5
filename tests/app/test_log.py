"""Log lines: text for people, JSON for machines, and nothing that others wrote makes a line."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcsdns.app import log
from tests.sources.test_timeslice import Clock


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


def test_text_has_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("text", "info")
    logging.getLogger("x").info("seen %s", "a\nb\x1b[1m\x9b", extra={"field": 1})
    logging.getLogger("x").debug("not seen")
    line = capsys.readouterr().err
    assert line[10] == "T"
    assert line[24:] == " INFO seen a\\x0ab\\x1b[1m\\x9b\n"


def test_json_has_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", "debug")
    logging.getLogger("x").warning("seen %s", "a\nb", extra={"field": 1, "other": b"x"})
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said.pop("time").endswith("Z")
    assert said == {
        "level": "warning",
        "logger": "x",
        "message": "seen a\nb",
        "field": 1,
        "other": "b'x'",
    }


def test_form_can_change_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for log_format in ("text", "json", "text"):
        log.configure(log_format, "info")
        logging.getLogger("x").info("once")
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("{") for line in lines] == [False, True, False]


def test_line_of_text_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    log.configure("text", "info")
    logging.getLogger("test").info("name %s", "a\nb\x1b[31m")
    logging.getLogger("test").debug("not shown")
    err = capsys.readouterr().err
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO name a\\x0ab\\x1b\[31m\n", err
    )


def test_line_of_json_has_the_fault_and_any_value(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json", "warning")
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("test").exception(
            "name %s", "a\nb", extra={"origin": os.fsdecode(b"\xff"), "kind": Path("x")}
        )
    (line,) = capsys.readouterr().err.splitlines()
    fields = json.loads(line)
    assert "ValueError: inside" in fields.pop("exception")
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "error",
        "logger": "test",
        "message": "name a\nb",
        "origin": "\udcff",
        "kind": "x",
    }


class Held(logging.Handler):
    """Keeps the texts of what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.limit = log.Limit(self, self.clock)
        self.addFilter(self.limit)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def out() -> Iterator[Held]:
    handler = Held()
    root = logging.getLogger()
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)


def say(template: str, count: int, logger: str = "mcsdns.sources.x", **extra: object) -> None:
    for number in range(count):
        logging.getLogger(logger).warning(template, number, extra=extra)


def test_first_lines_of_a_kind_come_out_and_then_one_a_minute_with_their_number(out: Held) -> None:
    say("object %d is bad", 1000)
    say("another %d", 3)
    assert out.texts[:20] == [f"object {number} is bad" for number in range(20)]
    assert out.texts[20:] == ["another 0", "another 1", "another 2"]
    out.clock.now_s += 59
    out.limit.tell()
    assert len(out.texts) == 23
    for last in (999, 979, 979):
        out.clock.now_s += 61
        out.texts.clear()
        out.limit.tell()
        said = f"object {last} is bad ... and 979 more of the kind in the last minute"
        assert out.texts == [said]
        say("object %d is bad", 980)
        assert out.texts == [said]
    assert out.limit.held == 4 * 980


def test_a_kind_that_was_quiet_has_its_first_lines_again(out: Held) -> None:
    say("object %d is bad", 30)
    for _ in range(2):
        out.clock.now_s += 61
        out.limit.tell()
    out.texts.clear()
    say("object %d is bad", 30)
    assert len(out.texts) == 20


def test_reasons_are_kinds_of_their_own(out: Held) -> None:
    for reason in ("bad_port", "bad_address"):
        say("%d: it is bad", 30, reason=reason)
    assert len(out.texts) == 40


def test_others_that_put_texts_together_are_one_kind(out: Held) -> None:
    for number in range(1000):
        logging.getLogger("asyncio").error(f"Task <{number:x}> failed")  # noqa: G004
    assert len(out.texts) == 20


def test_what_the_operator_alone_causes_is_never_held(out: Held) -> None:
    for logger in ("mcsdns.app.reload", "mcsdns.web.listener", "mcsdns.server.query_log"):
        say("line %d", 50, logger)
    assert len(out.texts) == 150


def test_kinds_are_bounded_and_none_is_lost_unsaid(out: Held) -> None:
    for number in range(2000):
        logging.getLogger("mcsdns.x").warning(f"kind {number}")  # noqa: G004
    say("object %d is bad", 21)
    out.texts.clear()
    for number in range(600):
        logging.getLogger("mcsdns.x").warning(f"kind {number}")  # noqa: G004
    assert "object 20 is bad" in out.texts


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("letter", ["x", "\x1b", "ä", "\U0001f600", '"'])
def test_a_line_has_a_bound_in_octets(
    capsys: pytest.CaptureFixture[str], log_format: str, letter: str
) -> None:
    log.configure(log_format, "info")
    try:
        raise ValueError("begin " + letter * 30_000 + " end")
    except ValueError as error:
        logging.getLogger("x").exception("seen %s", error, extra={"name_of": letter * 20_000})
        logging.getLogger("x").info("seen %s", error)
    for line in capsys.readouterr().err.encode().split(b"Z ")[1:]:
        assert b"seen begin" in line
        assert len(line) <= 2 * 8192


def test_a_fault_makes_no_line_that_looks_like_ours(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("text", "info")
    try:
        raise ValueError("evil\n2026-01-01T00:00:00.000Z ERROR forged\x1b[2J")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith(" ERROR failed")
    assert all(line.startswith("  ") for line in others)
    assert "\x1b" not in "".join(others)


def test_letters_that_turn_the_direction_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("text", "info")
    logging.getLogger("x").info("a\u202eb\u2066c\u2028d")
    assert capsys.readouterr().err.endswith("a\\u202eb\\u2066c\\u2028d\n")


def test_a_server_is_limited_and_a_command_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("text", "info")
    say("line %d", 50)
    assert capsys.readouterr().err.count("\n") == 50
    log.configure("text", "info", is_limited=True)
    say("line %d", 50)
    assert (capsys.readouterr().err.count("\n"), log.held()) == (20, 30)
    log.configure("json", "info", is_limited=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "line 49 ... and 29 more of the kind in the last minute" in line
    say("line %d", 50)
    assert log.held() == 60
