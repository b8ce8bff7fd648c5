"""The CRD as a real API server serves it: it comes, goes, and serves other versions."""

import json
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Serve, ServeProcess, addresses
from tests.kubernetes.cluster import Cluster
from tests.real.services import ALPHA, BETA, web
from tests.waiting import free_port, wait_until


@pytest.fixture
def restored(cluster: Cluster, namespace: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster; both versions are served again at the end."""
    namespace("shop")
    yield cluster
    cluster.install_crds("both")
    for name in ("first", "second"):
        cluster.delete(web(name))


class Following:
    """An mcsdns, and the API version that it follows."""

    def __init__(self, serve: Serve, cluster: Cluster) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}/api/sources"
        admin = f"--admin=127.0.0.1:{port}"
        self.server: ServeProcess = serve("--kubeconfig", cluster.admin, admin)

    @property
    def version(self) -> str:
        with urllib.request.urlopen(self._url) as reply:
            (source,) = json.load(reply)["sources"]
        return str(source["name"]).split()[0]


@pytest.mark.parametrize("before", ["v1alpha1", "both"])
def test_crd_made_anew_is_followed_by_its_newest_version(
    before: str, restored: Cluster, serve: Serve
) -> None:
    restored.install_crds(before)
    restored.apply(web("first", "10.96.7.1", version=ALPHA))
    following = Following(serve, restored)
    assert addresses(following.server.ask("first.shop")) == ["10.96.7.1"]
    assert following.version == (ALPHA if before == "v1alpha1" else BETA)
    restored.remove_crd()
    restored.install_crds("both")
    restored.apply(web("second", "10.96.7.2", version=BETA))
    following.server.wait_for("second.shop", ["10.96.7.2"])
    wait_until(lambda: following.version == BETA, "v1beta1")


def test_crd_that_gets_a_newer_version_is_followed_by_it(restored: Cluster, serve: Serve) -> None:
    restored.install_crds("v1alpha1")
    restored.apply(web("first", "10.96.7.1", version=ALPHA))
    following = Following(serve, restored)
    assert following.version == ALPHA
    restored.install_crds("both")
    wait_until(lambda: following.version == BETA, "v1beta1")
    assert addresses(following.server.ask("first.shop")) == ["10.96.7.1"]
