"""A real API server that holds a world: the one of the tests, in a process on the load core."""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any

from bench.measure import pinned
from bench.peers import COREDNS
from bench.runner import say
from tests.apiserver.build import APISERVER
from tests.apiserver.process import ApiServer
from tests.gobuild import NotBuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

THREADS = 16


def why_not() -> str:
    """Return why servers cannot be fed by an API here, or nothing; builds the API server."""
    if shutil.which(COREDNS) is None:
        return f"{COREDNS} is not on the PATH"
    say("looking for the API server of the tests; where it is not built that takes minutes, once")
    try:
        APISERVER.binary(build=True)
    except NotBuiltError as error:
        return str(error)
    return ""


class Cluster:
    """One API server process; port and data stay the same when it is started again.

    EndpointSlices are a built-in resource, as in every cluster, so CoreDNS has them as protobuf;
    as a CRD they are JSON for everyone, which costs CoreDNS more.
    """

    def __init__(self, folder: Path, core: int, *, builtin_slices: bool = True) -> None:
        """Start nothing yet."""
        folder.mkdir(parents=True)
        self._api = ApiServer(folder, builtin_slices=builtin_slices)
        self._core = core

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig that may do everything."""
        return self._api.kubeconfig

    @property
    def ca(self) -> Path:
        """The certificate that the server is verified by."""
        return self._api.ca

    @property
    def port(self) -> int:
        """The HTTPS port on the loopback address."""
        return self._api.port

    def fill(self, namespaces: Iterable[dict[str, Any]], objects: Iterable[dict[str, Any]]) -> None:
        """Start with the CRDs of both API versions and create objects, with all cores."""
        began = time.monotonic()
        self._api.start().install_crds("both", exports="both")
        self._api.create_many(namespaces, threads=THREADS)
        self.add(objects)
        say(f"the API server has its objects after {time.monotonic() - began:.0f} s")
        self._api.stop()
        self.start()

    def add(self, objects: Iterable[dict[str, Any]]) -> int:
        """Create objects, several at a time; return how many."""
        return self._api.create_many(objects, threads=THREADS)

    def start(self) -> None:
        """Start on the load core, with the data of before."""
        with pinned(self._core):
            self._api.start()

    def kill(self) -> None:
        """End it at once."""
        self._api.kill()

    def delete(self, given: dict[str, Any]) -> None:
        """Delete one object."""
        self._api.delete(given)


@contextlib.contextmanager
def cluster(folder: Path, core: int, *, builtin_slices: bool = True) -> Iterator[Cluster]:
    """Give a cluster that is not started yet, and end it."""
    one = Cluster(folder, core, builtin_slices=builtin_slices)
    try:
        yield one
    finally:
        one.kill()
        shutil.rmtree(folder, ignore_errors=True)
