"""A real API server looked at: versions, permissions, what answers for DNS there."""

from pathlib import Path

import pytest

from tests.apiserver.process import ApiServer
from tests.diagnostics.check.conftest import (
    READ_IMPORTS,
    READ_SLICES,
    Check,
    Guarded,
    assert_documented,
)
from tests.kube import ApiServers
from tests.real.services import ALPHA, db, slice_of, web

REVIEW = {
    "apiGroups": ["authorization.k8s.io"],
    "resources": ["subjectaccessreviews"],
    "verbs": ["create"],
}
SEE_SERVICES = {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}
IMPORTS_RULE = (
    "{apiGroups: [multicluster.x-k8s.io], resources: [serviceimports], verbs: [list, watch]}"
)
SLICES_RULE = "{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}"
API = "https://10.96.0.1:443"
GIVEN = ("--service-account", "mcsdns:mcsdns")
NODE_LOCAL: dict[str, object] = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "node-local-dns", "namespace": "kube-system"},
}
DAEMON_SETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"


def config_map(name: str, **data: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def create(apiserver: ApiServer, path: str, given: dict[str, object]) -> None:
    apiserver.must("POST", path, given)


# API versions.


def test_cluster_that_is_well(guarded: Guarded, check: Check) -> None:
    guarded.server.create_many(
        [web("web", "10.96.0.1"), db("db"), slice_of("db", "eu", "10.1.0.1")]
    )
    found = check("--kubeconfig", guarded.admin, *GIVEN)
    assert (found.status, found.err) == (0, ""), found.out
    assert found.out.startswith("found    nothing wrong\n")
    assert f"ServiceImport v1beta1 and v1alpha1 at {guarded.server.url}" in found.out
    assert "permissions of system:serviceaccount:mcsdns:mcsdns" in found.out
    assert "2 services" in found.out


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_version_that_is_served_is_told(apiserver: ApiServer, check: Check, version: str) -> None:
    apiserver.install_crds(version)
    found = check("--kubeconfig", apiserver.kubeconfig, *GIVEN)
    assert f"ServiceImport {version} at" in found.out


def test_missing_crd(apiservers: ApiServers, check: Check) -> None:
    apiserver = apiservers(crds=False, builtin_slices=True)
    found = check("--kubeconfig", apiserver.kubeconfig, *GIVEN)
    assert found.status == 1
    what, where, mend = found.out.splitlines()[:3]
    assert "error    the API server has no serviceimports.multicluster.x-k8s.io" in what
    assert apiserver.url in where
    assert "kubectl apply -f https://" in mend
    assert mend.split()[4].endswith("/config/crd/multicluster.x-k8s.io_serviceimports.yaml")
    assert "skipped" in found.out
    assert_documented(found, {apiserver.url: API})


def test_missing_crd_where_the_group_is_there(apiserver: ApiServer, check: Check) -> None:
    apiserver.remove_crd()
    found = check("--kubeconfig", apiserver.kubeconfig, *GIVEN, "--json")
    assert found.reasons() == ["crd_missing"]


def test_missing_slices(apiserver: ApiServer, check: Check) -> None:
    apiserver.remove_crd("endpointslices")
    found = check("--kubeconfig", apiserver.kubeconfig, *GIVEN, "--json")
    assert found.reasons() == ["crd_missing"]
    assert "EndpointSlices" in found.finding("crd_missing")["what"]


# Permissions.


def test_service_account_without_permission(guarded: Guarded, check: Check) -> None:
    guarded.permit(account=[])
    found = check("--kubeconfig", guarded.admin, *GIVEN)
    assert found.status == 1
    what, where, mend = found.out.splitlines()[:3]
    assert "error    system:serviceaccount:mcsdns:mcsdns may not list and watch" in what
    assert "serviceimports.multicluster.x-k8s.io" in what
    assert "endpointslices.discovery.k8s.io" in what
    assert "the whole cluster" in where
    assert f"give it a ClusterRole with the rules [{IMPORTS_RULE}, {SLICES_RULE}]" in mend
    assert "kubectl create clusterrole mcsdns --verb=list,watch" in mend
    assert "--serviceaccount=mcsdns:mcsdns" in mend
    assert_documented(found, {})


def test_only_what_is_lacking_is_asked_for(guarded: Guarded, check: Check) -> None:
    guarded.permit(account=[READ_IMPORTS, {**READ_SLICES, "verbs": ["list"]}])
    found = check("--kubeconfig", guarded.admin, *GIVEN, "--json")
    finding = found.finding("no_permission")
    assert "may not watch endpointslices.discovery.k8s.io" in finding["what"]
    assert f"[{SLICES_RULE.replace('list, ', '')}]" in finding["mend"]


def test_namespaces_ask_for_roles(guarded: Guarded, check: Check) -> None:
    guarded.permit(account=[READ_IMPORTS])
    given = ("--namespace", "shop", "--namespace", "data", *GIVEN, "--json")
    found = check("--kubeconfig", guarded.admin, *given)
    assert [each["where"] for each in found.json["findings"]] == [
        "namespace shop",
        "namespace data",
    ]
    mend = found.json["findings"][0]["mend"]
    assert "give it a Role with the rules" in mend
    assert "kubectl create role mcsdns -n shop --verb=list,watch" in mend


def test_account_of_another_name(guarded: Guarded, check: Check) -> None:
    given = ("--service-account", "dns:other", "--json")
    found = check("--kubeconfig", guarded.admin, *given)
    what = found.finding("no_permission")["what"]
    assert what.startswith("system:serviceaccount:dns:other may not")


def test_without_reviews_nothing_is_said_to_be_well(guarded: Guarded, check: Check) -> None:
    found = check("--kubeconfig", guarded.reader, *GIVEN, "--json")
    assert found.reasons() == ["permission_unknown"]
    assert "may not create subjectaccessreviews" in found.finding("permission_unknown")["what"]
    assert any("permissions of" in text for text in found.json["skipped"])


def test_mcsdns_own_account_tells_its_own_permissions(guarded: Guarded, check: Check) -> None:
    """It may create no subjectaccessreviews, and needs none."""
    own = guarded.kubeconfig("account-token")
    for given in ((), GIVEN):
        found = check("--kubeconfig", own, *given, "--json")
        assert found.reasons() == []
        assert "permissions of system:serviceaccount:mcsdns:mcsdns" in found.json["checked"]
    guarded.permit(account=[READ_IMPORTS])
    what = check("--kubeconfig", own, "--json").finding("no_permission")["what"]
    assert what.startswith("system:serviceaccount:mcsdns:mcsdns may not list and watch endpointsl")


def test_another_account_is_told_by_its_name(guarded: Guarded, check: Check) -> None:
    own = guarded.kubeconfig("account-token")
    found = check("--kubeconfig", own, "--service-account", "dns:other", "--json")
    what = found.finding("permission_unknown")["what"]
    assert "whether system:serviceaccount:dns:other may" in what
    assert "the user of this kubeconfig (system:serviceaccount:mcsdns:mcsdns) may" in what


def test_api_server_that_tells_nobody_who_they_are(
    apiservers: ApiServers, check: Check, tmp_path: Path
) -> None:
    """Before Kubernetes 1.28."""
    guarded = Guarded(apiservers(auth=True, self_review=False), tmp_path)
    found = check("--kubeconfig", guarded.kubeconfig("account-token"), *GIVEN, "--json")
    assert found.reasons() == ["permission_unknown"]
    assert check("--kubeconfig", guarded.admin, *GIVEN, "--json").reasons() == []


def test_account_that_is_not_there_is_not_said_to_be_well(guarded: Guarded, check: Check) -> None:
    found = check("--kubeconfig", guarded.admin, "--json")
    assert found.reasons() == ["permission_unknown"]
    assert "mcsdns:mcsdns" in found.finding("permission_unknown")["what"]


def test_user_of_the_kubeconfig_without_permission(guarded: Guarded, check: Check) -> None:
    guarded.permit(reader=[])
    found = check("--kubeconfig", guarded.reader, *GIVEN)
    assert found.status == 1
    assert "error    the user of this kubeconfig may not list and watch" in found.cause
    assert f"[{IMPORTS_RULE}, {SLICES_RULE}]" in found.cause


def test_unknown_token(guarded: Guarded, check: Check) -> None:
    found = check("--kubeconfig", guarded.kubeconfig("wrong"), "--json")
    assert found.reasons() == ["not_authenticated"]


def test_api_server_that_is_away(apiserver: ApiServer, check: Check) -> None:
    apiserver.kill()
    found = check("--kubeconfig", apiserver.kubeconfig, "--json")
    assert found.reasons() == ["api_away"]
    assert found.status == 1


def test_kubeconfig_that_is_not_there_is_no_finding(check: Check, tmp_path: Path) -> None:
    found = check("--kubeconfig", tmp_path / "nothing")
    assert (found.status, found.out) == (2, "")
    assert found.err.startswith("mcsdns: ")


# In a pod.


@pytest.fixture
def in_pod(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """Be a pod of mcsdns: its service account, and where the API server is."""
    token = tmp_path / "token"
    token.write_text("account-token")
    ca = str(guarded.server.ca)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(guarded.server.port))
    monkeypatch.setattr("mcsdns.sources.kubernetes.auth.SERVICE_ACCOUNT_CA", ca)
    loading = "kubernetes_asyncio.config.incluster_config"
    monkeypatch.setattr(f"{loading}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{loading}.SERVICE_CERT_FILENAME", ca)
    return guarded


def test_pod_asks_about_itself(in_pod: Guarded, check: Check) -> None:
    found = check("--json")
    assert found.reasons() == []
    assert "permissions of this pod's service account" in found.json["checked"]
    assert any("NodeLocal" in text for text in found.json["skipped"])
    in_pod.permit(account=[READ_SLICES])
    found = check()
    assert found.status == 1
    assert "error    this pod's service account may not list and watch serviceimp" in found.cause
    assert f"[{IMPORTS_RULE}]" in found.cause


def test_pod_with_the_resolv_conf_of_its_node_says_so(
    in_pod: Guarded, check: Check, host: Path
) -> None:
    (host / "resolv.conf").write_text("nameserver 192.0.2.1\nsearch example.com\n")
    found = check("--json")
    assert any("dnsPolicy: Default" in text for text in found.json["skipped"])


def test_pod_asks_the_servers_of_its_resolv_conf(in_pod: Guarded, check: Check, host: Path) -> None:
    (host / "resolv.conf").write_text(
        "search shop.svc.cluster.local svc.cluster.local cluster.local\n"
        "nameserver 127.0.0.253\noptions ndots:5\n"
    )
    found = check("--json", "--timeout", "0.1")
    assert found.reasons() == ["cluster_dns_silent"]
    where = found.finding("cluster_dns_silent")["where"]
    assert where == f"cluster DNS 127.0.0.253:53 ({host / 'resolv.conf'})"


def test_sidecar_without_a_source_looks_at_its_name_servers(
    check: Check, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("MCSDNS_SOURCE", "none")
    monkeypatch.setenv("MCSDNS_UPSTREAM", "127.0.0.253")
    (host / "resolv.conf").write_text("search a.svc.cluster.local\nnameserver 127.0.0.253\n")
    found = check("--json", "--timeout", "0.1")
    assert found.reasons() == ["cluster_dns_silent"]


# Who answers for DNS.


def test_cluster_dns_by_the_api_that_cannot_be_reached_is_not_called_well(
    guarded: Guarded, check: Check
) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": "127.0.0.253", "clusterIPs": ["127.0.0.253"]},
    }
    create(guarded.server, "/api/v1/namespaces/kube-system/services", service)
    corefile = "clusterset.local:53 {\n    forward . 10.96.0.53\n}\n.:53 {\n    cache 30\n}\n"
    create(guarded.server, CONFIG_MAPS, config_map("coredns", Corefile=corefile))
    found = check("--kubeconfig", guarded.admin, *GIVEN, "--json", "--timeout", "0.1")
    assert (found.status, found.reasons()) == (0, [])
    assert "ConfigMap kube-system/coredns has a stub block" in found.json["checked"]
    said = "stub block: cluster DNS 127.0.0.253:53 (Service kube-system/kube-dns) cannot be reached"
    assert any(text.startswith(said) for text in found.json["skipped"])


def test_cluster_dns_that_cannot_be_asked_is_judged_by_its_configuration(
    guarded: Guarded, check: Check
) -> None:
    corefile = ".:53 {\n    # clusterset.local\n    forward . /etc/resolv.conf\n}\n"
    create(guarded.server, CONFIG_MAPS, config_map("coredns", Corefile=corefile))
    found = check("--kubeconfig", guarded.admin, *GIVEN)
    assert found.status == 0
    assert "warning  the cluster DNS is not configured for clusterset.local" in found.cause
    assert "ConfigMap kube-system/coredns" in found.cause


def test_node_local_cache_without_a_stub_block(guarded: Guarded, check: Check) -> None:
    create(guarded.server, DAEMON_SETS, NODE_LOCAL)
    corefile = (
        "cluster.local:53 {\n    forward . 10.96.0.10\n}\n.:53 {\n    forward . /etc/resolv.conf\n}"
    )
    create(guarded.server, CONFIG_MAPS, config_map("node-local-dns", Corefile=corefile))
    found = check("--kubeconfig", guarded.admin, *GIVEN)
    assert found.status == 1
    assert "error    NodeLocal DNSCache answers pods before the cluster DNS, and has" in found.cause
    assert "no stub block for clusterset.local" in found.cause
    assert "mcsdns stub nodelocal --ip" in found.cause


@pytest.mark.parametrize(
    "given",
    [
        config_map("node-local-dns", Corefile="clusterset.local:53 {\n    forward . 10.96.0.53\n}"),
        config_map("kube-dns", stubDomains='{"clusterset.local": ["10.96.0.53"]}'),
    ],
    ids=["Corefile", "stubDomains"],
)
def test_node_local_cache_with_a_stub_block_is_a_note(
    guarded: Guarded, check: Check, given: dict[str, object]
) -> None:
    create(guarded.server, DAEMON_SETS, NODE_LOCAL)
    create(guarded.server, CONFIG_MAPS, given)
    found = check("--kubeconfig", guarded.admin, *GIVEN, "--json")
    assert (found.status, found.reasons("note")) == (0, ["node_local_dns"])


# Objects.


def test_import_without_ready_endpoints(guarded: Guarded, check: Check) -> None:
    piece = dict(slice_of("db", "eu", "10.1.0.1"))
    piece["endpoints"] = [{"addresses": ["10.1.0.1"], "conditions": {"ready": False}}]
    guarded.server.create_many([db("db"), piece])
    found = check("--kubeconfig", guarded.admin, *GIVEN)
    assert found.status == 1
    assert "error    db.shop.svc.clusterset.local does not resolve (NXDOMAIN)" in found.cause
    assert "1 endpoint, but none is ready: eu (1)" in found.cause
    assert "ServiceImport shop/db" in found.cause
    assert "kubectl -n shop get serviceexport,pods" in found.cause
    assert_documented(found, {})


def test_what_the_status_says_is_told(guarded: Guarded, check: Check) -> None:
    condition = {"type": "Ready", "status": "False", "reason": "Pending", "message": "no IP yet"}
    given = {
        **web("web", version=ALPHA),
        "status": {
            "clusters": [{"cluster": "eu"}],
            "conditions": [{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    }
    guarded.server.create(given)
    found = check("--kubeconfig", guarded.admin, *GIVEN)
    assert "web.shop.svc.clusterset.local does not resolve (NODATA)" in found.cause
    assert "Ready is False (Pending: no IP yet)" in found.cause
