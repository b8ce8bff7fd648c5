"""The CRD as a real API server serves it: it comes, goes, and serves other versions."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Serve, ServeProcess, addresses
from tests.kubernetes.cluster import Cluster
from tests.real.services import ALPHA, BETA, web


@pytest.fixture
def restored(cluster: Cluster, namespace: Any) -> Iterator[Cluster]:
    """The cluster; both versions are served again at the end."""
    namespace("shop")
    yield cluster
    cluster.install_crds("both")
    for name in ("first", "second"):
        cluster.delete(web(name))


def follow(serve: Serve, cluster: Cluster) -> ServeProcess:
    return serve("--kubeconfig", cluster.admin, "--log-level", "debug")


def test_crd_made_anew_is_followed_by_its_newest_version(restored: Cluster, serve: Serve) -> None:
    restored.install_crds("v1alpha1")
    restored.apply(web("first", "10.96.7.1", version=ALPHA))
    server = follow(serve, restored)
    assert addresses(server.ask("first.shop")) == ["10.96.7.1"]
    assert ALPHA in server.out
    restored.remove_crd()
    restored.install_crds("both")
    restored.apply(web("second", "10.96.7.2", version=BETA))
    server.wait_for("second.shop", ["10.96.7.2"])
    restored.install_crds("v1beta1")  # whoever stayed with v1alpha1 would lose it now
    restored.apply(web("second", "10.96.7.3", version=BETA))
    server.wait_for("second.shop", ["10.96.7.3"])
