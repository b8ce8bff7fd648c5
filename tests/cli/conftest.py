"""The command line as a user calls it, and a server to ask."""

import logging
import socket
from collections.abc import Callable, Iterator

import pytest

from mcsdns import config
from mcsdns.cli.main import main
from mcsdns.diagnostics.client import RemoteServer
from tests.live import serving

EXAMPLES = ["--manifests", "examples/manifests"]
SERVICE = "rebel-base.default.svc.clusterset.local"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert isinstance(caught.value.code, int)
        return (caught.value.code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in config.fields():
        monkeypatch.delenv(field.variable, raising=False)
    monkeypatch.delenv("MCSDNS_CONFIG", raising=False)


@pytest.fixture(autouse=True)
def log_of_the_server_in_this_process_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its standard error is that of a test before."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteServer]:
    with serving() as starter:
        yield starter.start(config.Settings(manifests=["examples/manifests"]))


@pytest.fixture(scope="module")
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"
