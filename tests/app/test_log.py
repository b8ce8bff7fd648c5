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
