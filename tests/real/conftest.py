"""`mcsdns serve` as a process that follows a real API server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.process import ApiServer
from tests.conftest import Serve, ServeProcess
from tests.kube import apiserver, apiserver_data, apiservers
from tests.real.gate import Gate
from tests.real.services import Service, export, fleet

__all__ = ["apiserver", "apiserver_data", "apiservers"]

Follow = Callable[..., ServeProcess]
GateTo = Callable[[ApiServer], Gate]


@pytest.fixture
def follow(serve: Serve) -> Follow:
    """Start `mcsdns serve` for an API server, or for a kubeconfig; what happens is in its log."""

    def start(
        where: ApiServer | Gate | Path, *arguments: object, ready: bool = True
    ) -> ServeProcess:
        kubeconfig = where if isinstance(where, Path) else where.kubeconfig
        given = ("--kubeconfig", kubeconfig, "--log-level", "debug", *arguments)
        return serve(*given, ready=ready)

    return start


@pytest.fixture
def services(apiserver: ApiServer) -> list[Service]:
    """Twenty services at the API server of this test."""
    return export(apiserver, fleet(20))


@pytest.fixture
def gate_to() -> Iterator[GateTo]:
    """Make ways to API servers; they are cut at the end."""
    made: list[Gate] = []

    def make(apiserver: ApiServer) -> Gate:
        made.append(Gate(apiserver))
        return made[-1]

    yield make
    for each in made:
        each.cut()


@pytest.fixture
def gate(apiserver: ApiServer, gate_to: GateTo) -> Gate:
    """A way to the API server of this test."""
    return gate_to(apiserver)
