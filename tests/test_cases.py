"""Every row of the case files, in this process and through real UDP and TCP sockets.

Each question is asked three times: the first reply is rendered, the second is kept, and the third
is found by the request's own bytes.
"""

import functools
import os
from collections.abc import Iterator

import anyio
import pytest

from mcsdns import config
from mcsdns.cli.test import settings_for
from mcsdns.diagnostics.cases import form
from mcsdns.diagnostics.cases.run import Result, check, failure_text
from mcsdns.diagnostics.client import InProcessServer, RemoteServer
from mcsdns.diagnostics.offline import read_once
from mcsdns.dns.request import NameServer, Transport
from tests.live import Starter, serving
from tests.paths import ROOT

EXAMPLES = os.path.join(ROOT, "examples", "cases.yaml")
FILES = [*form.find_files([os.path.join(ROOT, "tests", "cases")]), EXAMPLES]
ROWS = [row for path in FILES for row in form.load(path).rows]
TIMES_ASKED = 3


def row_id(row: form.Row) -> str:
    return f"{os.path.relpath(row.file, ROOT)}:{row.line}"


def over(transport: Transport) -> list[form.Row]:
    return [row for row in ROWS if transport in row.transports]


def settings_of(path: str) -> config.Settings:
    base = config.Settings()
    if path == EXAMPLES:
        base = config.Settings(manifests=[os.path.join(ROOT, "examples", "manifests")])
    return settings_for(form.load(path), base)


@functools.cache
def in_process(path: str) -> InProcessServer:
    world = anyio.run(read_once, settings_of(path))
    return InProcessServer(world.authority, path)


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with serving() as started:
        yield started


@pytest.fixture(scope="module")
def servers(starter: Starter) -> dict[str, RemoteServer]:
    return {path: starter.start(settings_of(path)) for path in FILES}


def ask_and_compare(row: form.Row, asker: NameServer, *transports: Transport) -> None:
    for _ in range(TIMES_ASKED):
        result = Result(row, tuple(check(row, asker, each) for each in transports), 0)
        assert result.passed, failure_text(result)


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_in_process(row: form.Row) -> None:
    ask_and_compare(row, in_process(row.file), *row.transports)


@pytest.mark.parametrize("row", over(Transport.UDP), ids=row_id)
def test_over_udp(row: form.Row, servers: dict[str, RemoteServer]) -> None:
    ask_and_compare(row, servers[row.file], Transport.UDP)


@pytest.mark.parametrize("row", over(Transport.TCP), ids=row_id)
def test_over_tcp(row: form.Row, servers: dict[str, RemoteServer]) -> None:
    ask_and_compare(row, servers[row.file], Transport.TCP)


def test_every_case_file_has_rows() -> None:
    assert len(FILES) >= 25
    assert {row.file for row in ROWS} == set(FILES)


def test_every_row_says_why() -> None:
    assert [row_id(row) for row in ROWS if not row.why] == []
