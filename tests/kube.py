"""A real Kubernetes API server for tests: the fixtures, and the command that builds it.

The server is the Go program in `tests/apiserver`. `python -m tests.kube build` builds it where Go
is new enough (minutes once, then cached in `build/apiserver`): no test waits for that.
"""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.build import APISERVER
from tests.apiserver.process import ApiServer
from tests.gobuild import NotBuiltError

ApiServers = Callable[..., ApiServer]


@pytest.fixture(scope="session")
def apiserver_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with all CRDs, both versions served; every server starts with a copy.

    A create waits for 2 s where the CRD is younger than that: with this, only in the first test.
    """
    try:
        APISERVER.binary()
    except NotBuiltError as error:
        pytest.skip(str(error))
    server = ApiServer(tmp_path_factory.mktemp("apiserver-data"))
    try:
        server.start().install_crds("both", exports="both")
    finally:
        server.kill()
    return server.data


@pytest.fixture
def apiservers(
    apiserver_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServers]:
    """Start API servers with these options; all are killed at the end.

    `crds=False` starts one that has no CRD yet. `launch=False` prepares one without starting it.
    """
    with contextlib.ExitStack() as running:

        def start(*, crds: bool = True, launch: bool = True, **options: bool | str) -> ApiServer:
            folder = tmp_path_factory.mktemp("apiserver")
            if crds:
                shutil.copytree(apiserver_data, folder / "data")
            server = ApiServer(folder, **options)
            running.callback(server.kill)
            return server.start() if launch else server

        yield start


@pytest.fixture
def apiserver(apiservers: ApiServers) -> ApiServer:
    """An API server of this test alone, with all CRDs and no objects."""
    return apiservers()


if __name__ == "__main__":
    sys.exit(APISERVER.main(sys.argv[1:]))
