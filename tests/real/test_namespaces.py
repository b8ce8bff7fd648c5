"""`--namespace`: Roles of those namespaces are enough, and nothing else is asked for."""

from tests.kube import ApiServers
from tests.real.asking import dig, unbroken, wait_dig, wait_up
from tests.real.conftest import Follow
from tests.real.services import export, fleet, web
from tests.real.test_permissions import READ_IMPORTS, READ_SLICES, Rule
from tests.waiting import free_port


def role(namespace: str) -> Rule:
    metadata = {"name": "mcsdns", "namespace": namespace}
    return {"kind": "Role", "metadata": metadata, "rules": [READ_IMPORTS, READ_SLICES]}


def test_roles_of_the_namespaces_are_enough(apiservers: ApiServers, follow: Follow) -> None:
    apiserver = apiservers(auth=True)
    apiserver.set_permissions(roles=[role("a"), role("b")])
    services = [*fleet(4, "a"), *fleet(4, "b")]
    export(apiserver, [*services, *fleet(2, "c")])
    server = follow(apiserver, "--namespace", "a", "--namespace", "b")
    assert server.out.startswith("ready: 8 services")
    with unbroken(server, services):
        for namespace, address in (("a", "10.97.0.1"), ("b", "10.97.0.2")):
            apiserver.create(web("new", address, namespace=namespace))
            wait_dig(server, f"new.{namespace}", address)
    for name in ("web-0.c", "db-1.c", "c", "nothing.c"):
        found = dig(server, name)
        assert (found.status, found.data) == ("NXDOMAIN", [])
        assert found.errors == {0: "namespace not served here"}
    assert " WARNING " not in server.log, server.log  # a request for all namespaces is forbidden


def test_a_namespace_without_a_role_is_named_in_the_rule(
    apiservers: ApiServers, follow: Follow
) -> None:
    apiserver = apiservers(auth=True)
    apiserver.set_permissions(roles=[role("a")])
    export(apiserver, [*fleet(2, "a"), *fleet(2, "b")])
    port = free_port()
    given = ("--namespace", "a", "--namespace", "b", "--listen", f"127.0.0.1:{port}")
    server = follow(apiserver, *given, ready=False)
    wait_up(port)
    server.wait_log(
        "give the account a Role in namespace b with the rule "
        "{apiGroups: [multicluster.x-k8s.io], resources: [serviceimports], verbs: [list, watch]}"
    )
    assert dig(port, "web-0.b").status == "SERVFAIL"
    assert "a Role in namespace a " not in server.log
    apiserver.set_permissions(roles=[role("a"), role("b")])
    server.wait_ready()
    assert dig(server, "web-0.b").data == ["10.96.0.0"]
