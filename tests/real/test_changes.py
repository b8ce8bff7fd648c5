"""What is created, changed and deleted at the API server, `dig` sees."""

import pytest

from tests.apiserver.process import ApiServer
from tests.real.asking import dig, wait_dig
from tests.real.conftest import Follow
from tests.real.services import ALPHA, BETA, db, slice_of, web


@pytest.mark.parametrize(("version", "served"), [(ALPHA, "v1alpha1"), (BETA, "v1beta1")])
def test_every_change_is_seen_by_dig(
    apiserver: ApiServer, follow: Follow, version: str, served: str
) -> None:
    apiserver.install_crds(served)
    apiserver.create(web("web", "10.96.0.1", version=version))
    server = follow(apiserver)
    assert dig(server, "web.shop") == ("NOERROR", ["10.96.0.1"], {})

    apiserver.create(web("other", "10.96.0.2", "fd00::2", version=version))
    wait_dig(server, "other.shop", "10.96.0.2")
    wait_dig(server, "other.shop", "fd00::2", qtype="AAAA")
    wait_dig(server, "other.shop", "0 100 80 other.shop.svc.clusterset.local.", qtype="SRV")

    apiserver.apply(web("web", "10.96.0.9", version=version))
    wait_dig(server, "web.shop", "10.96.0.9")

    apiserver.delete(web("other", version=version))
    wait_dig(server, "other.shop", status="NXDOMAIN")
    assert dig(server, "web.shop").data == ["10.96.0.9"]


def test_endpoints_come_and_go(apiserver: ApiServer, follow: Follow) -> None:
    server = follow(apiserver)
    apiserver.create(db("db"))
    wait_dig(server, "db.shop", status="NXDOMAIN")
    apiserver.create(slice_of("db", "east", "10.1.0.1", "10.1.0.2"))
    wait_dig(server, "db.shop", "10.1.0.1", "10.1.0.2")
    apiserver.create(slice_of("db", "west", "10.2.0.1"))
    wait_dig(server, "db.shop", "10.1.0.1", "10.1.0.2", "10.2.0.1")
    wait_dig(server, "host-0.west.db.shop", "10.2.0.1")

    unready = {"addresses": ["10.1.0.2"], "conditions": {"ready": False}}
    apiserver.patch(slice_of("db", "east"), {"endpoints": [unready]})
    wait_dig(server, "db.shop", "10.2.0.1")
    apiserver.delete(slice_of("db", "west"))
    wait_dig(server, "db.shop", status="NXDOMAIN")


def test_a_service_changes_its_kind(apiserver: ApiServer, follow: Follow) -> None:
    apiserver.create_many([web("web", "10.96.0.1"), slice_of("web", "east", "10.1.0.1")])
    server = follow(apiserver)
    assert dig(server, "web.shop").data == ["10.96.0.1"]
    assert dig(server, "host-0.east.web.shop").status == "NXDOMAIN"
    apiserver.apply(db("web"))
    wait_dig(server, "web.shop", "10.1.0.1")
    wait_dig(server, "host-0.east.web.shop", "10.1.0.1")


def test_only_imports_that_match_the_selector_are_served(
    apiserver: ApiServer, follow: Follow
) -> None:
    apiserver.create_many([web("in", "10.96.0.1", tier="public"), web("out", "10.96.0.2")])
    server = follow(apiserver, "--import-selector", "tier=public")
    assert dig(server, "in.shop").data == ["10.96.0.1"]
    assert dig(server, "out.shop").status == "NXDOMAIN"
    apiserver.apply(web("out", "10.96.0.2", tier="public"))
    wait_dig(server, "out.shop", "10.96.0.2")
    apiserver.apply(web("in", "10.96.0.1", tier="private"))
    wait_dig(server, "in.shop", status="NXDOMAIN")
