"""The CRD is missing, comes, goes, and serves another version: answers stay throughout."""

import datetime
from collections.abc import Iterable

import pytest

from tests.apiserver.process import IMPORTS, ApiServer
from tests.kube import ApiServers
from tests.real.asking import Prober, dig, unbroken, wait_dig, wait_up
from tests.real.conftest import Follow
from tests.real.services import ALPHA, BETA, Service, answers_of, export, fleet, heard, web
from tests.waiting import free_port

SIZES = pytest.mark.parametrize("count", [20, 5])
"""More services than the guard lets go at once, and fewer."""


def import_again(apiserver: ApiServer, services: Iterable[Service]) -> None:
    """Create the imports of services; their slices are there."""
    apiserver.create_many(service.imported for service in services)


def test_crd_that_comes_late(apiservers: ApiServers, follow: Follow) -> None:
    apiserver = apiservers(crds=False)
    port = free_port()
    server = follow(apiserver, "--listen", f"127.0.0.1:{port}", ready=False)
    wait_up(port)
    server.wait_log("install the CRDs of")
    found = dig(port, "web.shop")
    assert found.status == "SERVFAIL"
    assert "no such resource (404)" in found.errors[14]
    apiserver.install_crds("v1beta1")
    apiserver.create(web("web", "10.96.0.1"))
    server.wait_ready()
    wait_dig(server, "web.shop", "10.96.0.1")
    assert server.log.count("install the CRDs of") == 1
    assert "multicluster.x-k8s.io/v1beta1 at" in server.out


@SIZES
def test_crd_is_removed_and_installed_again(
    apiserver: ApiServer, follow: Follow, count: int
) -> None:
    services = export(apiserver, fleet(count))
    server = follow(apiserver)
    with unbroken(server, services) as prober:
        apiserver.remove_crd()
        server.wait_log("mass deletion held: the API server has no ServiceImports")
        prober.wait_rounds(20)
        apiserver.install_crds("both")
        import_again(apiserver, services)
        apiserver.create(web("new", "10.97.0.1"))
        wait_dig(server, "new.shop", "10.97.0.1")
        server.wait_log("mass deletion no longer held")


def test_crd_flips_from_one_version_to_the_other(apiserver: ApiServer, follow: Follow) -> None:
    apiserver.install_crds("v1alpha1")
    services = export(apiserver, [service.as_version(ALPHA) for service in fleet(20)])
    server = follow(apiserver)
    assert ALPHA in server.out
    with unbroken(server, services):
        for version in ("v1beta1", "v1alpha1", "both"):
            apiserver.install_crds(version)
            moved = f"10.97.0.{len(version)}"
            name = ALPHA if version == "v1alpha1" else BETA
            apiserver.apply(web("moved", moved, version=name))
            wait_dig(server, "moved.shop", moved)


def test_crd_that_stays_away_is_an_empty_list_after_the_grace_time(
    apiserver: ApiServer, follow: Follow
) -> None:
    services = export(apiserver, fleet(12))
    server = follow(apiserver, "--guard-grace", 2)
    expected = answers_of(services)
    with Prober(server, expected) as prober:
        apiserver.remove_crd()
        wait_dig(server, "web-0.shop", status="NXDOMAIN")
        held = server.logged_at("mass deletion held") + datetime.timedelta(seconds=1)
        prober.check(until=held, then=dict.fromkeys(expected, heard(rcode="NXDOMAIN")))
    wait_dig(server, "db-1.shop", status="NXDOMAIN")
    assert apiserver.get(IMPORTS).status == 404
