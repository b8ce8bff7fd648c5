"""Permissions that are missing, taken and given back (401, 403): in answers and in the log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.process import ApiServer
from tests.conftest import ServeProcess
from tests.kube import ApiServers
from tests.real.asking import dig, unbroken, wait_dig, wait_up
from tests.real.conftest import Follow, GateTo
from tests.real.gate import Gate
from tests.real.services import db, export, fleet, slice_of, web
from tests.waiting import free_port, wait_until

Rule = Mapping[str, Any]

READ = ["list", "watch"]
REFUSAL_OCTETS = 1000
"""More than one refusal has."""
READ_IMPORTS: Rule = {
    "apiGroups": ["multicluster.x-k8s.io"],
    "resources": ["serviceimports"],
    "verbs": READ,
}
READ_SLICES: Rule = {
    "apiGroups": ["discovery.k8s.io"],
    "resources": ["endpointslices"],
    "verbs": READ,
}
IMPORTS_RULE = (
    "give the account a ClusterRole with the rule {apiGroups: [multicluster.x-k8s.io], "
    "resources: [serviceimports], verbs: [list, watch]}"
)
SLICES_RULE = IMPORTS_RULE.replace("multicluster.x-k8s.io", "discovery.k8s.io").replace(
    "serviceimports", "endpointslices"
)


@pytest.fixture
def guarded(apiservers: ApiServers) -> ApiServer:
    """An API server that asks who one is, with a service of each kind."""
    apiserver = apiservers(auth=True)
    apiserver.create_many([web("web", "10.96.0.1"), db("db"), slice_of("db", "east", "10.1.0.1")])
    return apiserver


def failures(server: ServeProcess, kind: str) -> int:
    """How many lines of warning tell of a kind of object."""
    return sum(kind in line for line in server.log.splitlines() if " WARNING " in line)


def start_unready(follow: Follow, where: ApiServer | Gate | Path) -> tuple[ServeProcess, int]:
    port = free_port()
    server = follow(where, "--listen", f"127.0.0.1:{port}", ready=False)
    wait_up(port)
    return server, port


def test_the_rules_of_the_message_are_enough(guarded: ApiServer, follow: Follow) -> None:
    guarded.set_permissions([READ_IMPORTS, READ_SLICES])
    server = follow(guarded)
    assert dig(server, "web.shop").data == ["10.96.0.1"]
    assert dig(server, "db.shop").data == ["10.1.0.1"]
    assert failures(server, "") == 0, server.log


def test_forbidden_imports_before_the_first_sync(
    guarded: ApiServer, gate_to: GateTo, follow: Follow
) -> None:
    guarded.set_permissions([READ_SLICES])
    gate = gate_to(guarded)
    server, port = start_unready(follow, gate)
    server.wait_log(IMPORTS_RULE)
    for name in ("web.shop", "db.shop", "nothing.shop"):
        found = dig(port, name)
        assert (found.status, found.data) == ("SERVFAIL", [])
        assert "serviceimports: not permitted (403)" in found.errors[14]
    told = gate.received
    wait_until(lambda: gate.received > told + 2 * REFUSAL_OCTETS, "retries")
    assert server.log.count(IMPORTS_RULE) == failures(server, "") == 1
    guarded.set_permissions([READ_IMPORTS, READ_SLICES])
    server.wait_ready()
    assert dig(server, "web.shop").data == ["10.96.0.1"]
    server.wait_log("the API server answers again")


def test_forbidden_slices_leave_clusterset_ips(guarded: ApiServer, follow: Follow) -> None:
    guarded.set_permissions([READ_IMPORTS])
    server, port = start_unready(follow, guarded)
    server.wait_log(SLICES_RULE)
    wait_dig(port, "web.shop", "10.96.0.1")
    for name in ("db.shop", "host-0.east.db.shop"):
        found = dig(port, name)
        assert (found.status, found.data) == ("SERVFAIL", [])
        assert "endpointslices: not permitted (403)" in found.errors[14]
    assert dig(port, "nothing.shop").status == "NXDOMAIN"
    assert server.log.count(SLICES_RULE) == 1
    guarded.set_permissions([READ_IMPORTS, READ_SLICES])
    server.wait_ready()
    assert dig(server, "db.shop").data == ["10.1.0.1"]


def test_unknown_token_before_the_first_sync(
    guarded: ApiServer, follow: Follow, tmp_path: Path
) -> None:
    kubeconfig = guarded.write_kubeconfig(tmp_path / "kubeconfig", "wrong")
    server, port = start_unready(follow, kubeconfig)
    server.wait_log("the token or certificate that we show")
    found = dig(port, "web.shop")
    assert found.status == "SERVFAIL"
    assert "not known to the API server (401)" in found.errors[14]
    guarded.write_kubeconfig(kubeconfig, guarded.READER)
    server.wait_ready()
    assert dig(server, "web.shop").data == ["10.96.0.1"]


@pytest.mark.parametrize(("how", "count"), [("401", 5), ("403", 20)])
def test_permission_that_is_taken_and_given_back(
    apiservers: ApiServers, follow: Follow, how: str, count: int
) -> None:
    apiserver = apiservers(auth=True)
    services = export(apiserver, fleet(count))
    server = follow(apiserver)
    with unbroken(server, services) as prober:
        if how == "401":
            apiserver.set_permissions([READ_IMPORTS, READ_SLICES], token="another")
        else:
            apiserver.set_permissions()
        apiserver.end_watches()
        server.wait_log(": 401 " if how == "401" else IMPORTS_RULE)
        apiserver.create(web("new", "10.97.0.1"))
        prober.wait_rounds(20)
        assert dig(server, "new.shop").status == "NXDOMAIN"
        apiserver.set_permissions([READ_IMPORTS, READ_SLICES])
        wait_dig(server, "new.shop", "10.97.0.1")
        server.wait_log("the API server answers again")
    assert failures(server, "serviceimports") == 1, server.log
