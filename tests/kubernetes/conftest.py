"""One control plane for each version of Kubernetes; all tests of a version share it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import OPENSSL
from tests.deploy.conftest import render
from tests.deploy.installing import Installer
from tests.deploy.rendering import Renderer
from tests.gobuild import NotBuiltError
from tests.kubernetes.build import VERSIONS, control_plane
from tests.kubernetes.cluster import IPV4, IPV6, Cluster

__all__ = ["render"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each version is one worker's: its tests share a cluster."""
    for item in items:
        if isinstance(item, pytest.Function) and "control_plane_binary" in item.fixturenames:
            version = item.callspec.params["control_plane_binary"]
            item.add_marker(pytest.mark.xdist_group(version))


@pytest.fixture(scope="session", params=VERSIONS)
def control_plane_binary(request: pytest.FixtureRequest) -> Path:
    """The control plane of a version, built before the tests."""
    if not OPENSSL:
        pytest.skip("no `openssl` on the PATH to make certificates with: install OpenSSL")
    try:
        return control_plane(request.param).binary()
    except NotBuiltError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(
    control_plane_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster with two families and the CRDs of the MCS API."""
    cluster = Cluster(control_plane_binary, tmp_path_factory.mktemp("cluster"), f"{IPV4},{IPV6}")
    try:
        cluster.start().install_crds("both")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def installer(render: Renderer, cluster: Cluster) -> Iterator[Installer]:
    """What is installed by it is taken away after the test."""
    installer = Installer(render, cluster, cluster.admin, validate=True)
    yield installer
    installer.clean()


@pytest.fixture
def namespace(cluster: Cluster) -> Callable[[str], None]:
    """Make a namespace if it is not there."""

    def make(name: str) -> None:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    return make
