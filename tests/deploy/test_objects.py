"""What kustomize renders is right: by the schemas, by PodSecurity, and by what the docs promise."""

import argparse
import ipaddress
import json
from collections.abc import Callable

import jsonschema
import pytest

import mcsdns
from mcsdns import config
from mcsdns.errors import ConfigError
from tests.deploy import schemas
from tests.deploy.rendering import (
    KUSTOMIZE,
    Object,
    Renderer,
    mcsdns_of,
    of_kind,
    only,
    pods,
)

STUB_TARGETS = ("stub-target", "dual-stack", "ipv6-only", "namespaced")
OVERLAYS = (*STUB_TARGETS, "node-local", "sidecar")
COMPONENTS = {
    "stub-target": ("autoscaling", "servicemonitor", "alerts", "dashboard"),
    "node-local": ("node-snapshot", "node-podmonitor"),
}
Compose = Callable[..., list[Object]]


def settings_of(container: Object, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """What `mcsdns serve` reads in that container."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    assert container["args"][0] == "serve"
    flags = vars(parser.parse_args(container["args"][1:]))
    return config.load(flags, {each["name"]: each["value"] for each in container.get("env", [])})


def every_object(render: Renderer, compose: Compose) -> list[Object]:
    found = [each for overlay in OVERLAYS for each in render.kustomize(f"overlays/{overlay}")]
    for overlay, components in COMPONENTS.items():
        found += compose(overlay, *components)
    return found


def test_all_overlays_and_components_are_among_the_tested() -> None:
    overlays = {path.name for path in (KUSTOMIZE / "overlays").iterdir()}
    assert overlays == set(OVERLAYS)
    used = {"sidecar", *(each for names in COMPONENTS.values() for each in names)}
    assert {path.name for path in (KUSTOMIZE / "components").iterdir()} == used


def test_every_object_is_valid_by_its_schema(render: Renderer, compose: Compose) -> None:
    for each in every_object(render, compose):
        schemas.check(each)


def test_the_schemas_refuse_what_is_wrong(render: Renderer, compose: Compose) -> None:
    objects = compose("stub-target", "servicemonitor")
    deployment = only("Deployment", objects)
    deployment["spec"]["template"]["spec"]["dnsPolice"] = "Default"
    monitor = only("ServiceMonitor", objects)
    monitor["spec"]["endpoints"][0]["prot"] = "probes"
    for each in (deployment, monitor):
        with pytest.raises(jsonschema.ValidationError):
            schemas.check(each)


@pytest.mark.parametrize("overlay", [*STUB_TARGETS, "sidecar"])
def test_pods_pass_the_restricted_level(overlay: str, render: Renderer) -> None:
    assert render.violations("restricted", render.kustomize(f"overlays/{overlay}")) == []


def test_pods_pass_the_restricted_level_with_all_components(
    render: Renderer, compose: Compose
) -> None:
    objects = compose("stub-target", *COMPONENTS["stub-target"])
    assert render.violations("restricted", objects) == []
    namespace = only("Namespace", objects)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_judge_knows_what_is_not_restricted(render: Renderer) -> None:
    objects = render.kustomize("overlays/node-local")
    assert any("hostNetwork" in each for each in render.violations("baseline", objects))
    assert render.violations("privileged", objects) == []
    (namespace,) = of_kind("Namespace", objects)
    assert namespace["metadata"]["name"] == "mcsdns-node"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_arguments_are_accepted(
    overlay: str, render: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, pod in pods(render.kustomize(f"overlays/{overlay}")):
        container = mcsdns_of(pod)
        settings = settings_of(container, monkeypatch)
        settings.access()
        (port,) = {port for _, port in settings.probe_addresses()}
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert port in ports.values()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert ports[container[probe]["httpGet"]["port"]] == port
        if overlay != "sidecar":
            assert {port for _, port in settings.listen_addresses()} == {ports["dns"]}
        admin = settings.admin_address()
        assert admin is None or ipaddress.ip_address(admin[0]).is_loopback


@pytest.mark.parametrize("base", ["base", "node-local"])
def test_what_has_to_be_chosen_is_refused_until_then(
    base: str, render: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render.kustomize(base)
    for _, pod in pods(objects):
        with pytest.raises((ConfigError, ValueError), match=r"set-.*-in-your-overlay"):
            settings_of(mcsdns_of(pod), monkeypatch).upstreams()
    for service in of_kind("Service", objects):
        with pytest.raises(ValueError, match="does not appear to be"):
            ipaddress.ip_address(service["spec"]["clusterIP"])


@pytest.mark.parametrize(
    ("overlay", "addresses"),
    [
        ("stub-target", ["10.96.0.53"]),
        ("dual-stack", ["10.96.0.53", "fd00:10:96::53"]),
        ("ipv6-only", ["fd00:10:96::53"]),
    ],
)
def test_service_has_fixed_addresses_on_udp_and_tcp(
    overlay: str, addresses: list[str], render: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render.kustomize(f"overlays/{overlay}")
    spec = only("Service", objects)["spec"]
    assert spec["clusterIP"] == addresses[0]
    assert spec.get("clusterIPs") == (addresses if len(addresses) > 1 else None)
    policy = "SingleStack" if overlay == "ipv6-only" else "PreferDualStack"
    assert spec["ipFamilyPolicy"] == policy
    assert {(each["protocol"], each["port"]) for each in spec["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
    }
    ((_, pod),) = pods(objects)
    assert settings_of(mcsdns_of(pod), monkeypatch).ns_address == addresses


def test_deployment_survives_nodes_and_rollouts(
    render: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render.kustomize("overlays/stub-target")
    deployment = only("Deployment", objects)["spec"]
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = deployment["template"]["spec"]
    settings = settings_of(mcsdns_of(pod), monkeypatch)
    assert pod["terminationGracePeriodSeconds"] >= settings.lameduck + settings.tcp_idle
    assert pod["dnsPolicy"] == "Default"
    assert not pod["enableServiceLinks"]
    keys = [each["topologyKey"] for each in pod["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [
        deployment["selector"]["matchLabels"],
        only("Service", objects)["spec"]["selector"],
        only("PodDisruptionBudget", objects)["spec"]["selector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in pod["topologySpreadConstraints"]),
    ]
    assert all(selector == labels for selector in selectors)


@pytest.mark.parametrize(
    ("overlay", "quota", "priority"),
    [
        ("stub-target", "mcsdns-critical-pods", "system-cluster-critical"),
        ("node-local", "mcsdns-node-critical-pods", "system-node-critical"),
    ],
)
def test_priority_class_has_its_quota(
    overlay: str, quota: str, priority: str, render: Renderer
) -> None:
    objects = render.kustomize(f"overlays/{overlay}")
    ((_, pod),) = pods(objects)
    assert pod["priorityClassName"] == priority
    (scope,) = only("ResourceQuota", objects, quota)["spec"]["scopeSelector"]["matchExpressions"]
    assert scope == {"scopeName": "PriorityClass", "operator": "In", "values": [priority]}


LEAST = [
    ("multicluster.x-k8s.io", "serviceimports", "list"),
    ("multicluster.x-k8s.io", "serviceimports", "watch"),
    ("discovery.k8s.io", "endpointslices", "list"),
    ("discovery.k8s.io", "endpointslices", "watch"),
]


def rules_of(role: Object) -> list[tuple[str, str, str]]:
    return [
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.mark.parametrize(
    ("overlay", "name"), [("stub-target", "mcsdns"), ("node-local", "mcsdns-node")]
)
def test_cluster_role_is_the_least(overlay: str, name: str, render: Renderer) -> None:
    objects = render.kustomize(f"overlays/{overlay}")
    assert rules_of(only("ClusterRole", objects, f"{name}:{name}")) == LEAST
    binding = only("ClusterRoleBinding", objects, f"{name}:{name}")
    assert binding["roleRef"]["name"] == f"{name}:{name}"
    (subject,) = binding["subjects"]
    account = only("ServiceAccount", objects, name)
    assert subject == {
        "kind": "ServiceAccount",
        "name": name,
        "namespace": account["metadata"]["namespace"],
    }
    ((_, pod),) = pods(objects)
    assert pod["serviceAccountName"] == name


def test_namespaced_needs_no_cluster_role(
    render: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render.kustomize("overlays/namespaced")
    assert not of_kind("ClusterRole", objects)
    assert not of_kind("ClusterRoleBinding", objects)
    roles = of_kind("Role", objects)
    ((_, pod),) = pods(objects)
    namespaces = settings_of(mcsdns_of(pod), monkeypatch).namespace
    assert [each["metadata"]["namespace"] for each in roles] == namespaces
    assert all(rules_of(each) == LEAST for each in roles)
    for binding in of_kind("RoleBinding", objects):
        (subject,) = binding["subjects"]
        assert subject["namespace"] == "mcsdns"


def test_snapshot_is_on_a_bounded_volume(render: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, pod),) = pods(render.kustomize("overlays/stub-target"))
    container = mcsdns_of(pod)
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert settings_of(container, monkeypatch).snapshot.startswith(mount["mountPath"] + "/")
    assert volume == {"name": mount["name"], "emptyDir": {"sizeLimit": "256Mi"}}


def test_node_local_snapshot_outlives_the_pod(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, pod),) = pods(compose("node-local", "node-snapshot"))
    container = mcsdns_of(pod)
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert settings_of(container, monkeypatch).snapshot.startswith(mount["mountPath"] + "/")
    assert volume["hostPath"]["type"] == "DirectoryOrCreate"


def test_sidecar_starts_first_and_reads_no_api(
    render: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, pod),) = pods(render.kustomize("overlays/sidecar"))
    container = mcsdns_of(pod)
    assert container["restartPolicy"] == "Always"
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    settings = settings_of(container, monkeypatch)
    assert settings.is_sourceless
    assert settings.access() is None
    ((address, port),) = settings.listen_addresses()
    assert (pod["dnsPolicy"], pod["dnsConfig"]["nameservers"]) == ("None", [address])
    assert {"name": "net.ipv4.ip_unprivileged_port_start", "value": str(port)} in pod[
        "securityContext"
    ]["sysctls"]


def test_sidecar_leaves_other_deployments_alone(render: Renderer, compose: Compose) -> None:
    plain = only("Deployment", render.kustomize("overlays/stub-target"))
    assert only("Deployment", compose("stub-target", "sidecar")) == plain


def test_network_policy_lets_dns_in_from_nodes_too(render: Renderer) -> None:
    spec = only("NetworkPolicy", render.kustomize("overlays/stub-target"))["spec"]
    (dns,) = [rule for rule in spec["ingress"] if "from" not in rule]
    assert {(each["protocol"], each["port"]) for each in dns["ports"]} == {
        ("UDP", "dns"),
        ("TCP", "dns-tcp"),
    }
    (api,) = spec["egress"]
    assert {each["port"] for each in api["ports"]} == {443, 6443, 8443, 16443}


def test_autoscaler_begins_with_the_least_it_sets(compose: Compose) -> None:
    """Without a number the API server would start one replica."""
    objects = compose("stub-target", "autoscaling")
    parameters = json.loads(only("ConfigMap", objects, "mcsdns-autoscaler")["data"]["linear"])
    assert only("Deployment", objects)["spec"]["replicas"] == parameters["min"] == 2
    autoscaler = only("Deployment", objects, "mcsdns-autoscaler")
    (container,) = autoscaler["spec"]["template"]["spec"]["containers"]
    assert "--target=deployment/mcsdns" in container["args"]
    role = only("Role", objects, "mcsdns-autoscaler")
    assert [rule["resourceNames"] for rule in role["rules"]] == [["mcsdns"], ["mcsdns-autoscaler"]]


def test_monitors_find_the_port_of_the_probes(compose: Compose) -> None:
    objects = compose("stub-target", "servicemonitor")
    service = only("Service", objects, "mcsdns-metrics")
    monitor = only("ServiceMonitor", objects)["spec"]
    labels = service["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["jobLabel"]] == "mcsdns"
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    template = only("Deployment", objects)["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_images_are_of_this_version(render: Renderer) -> None:
    for base in ("base", "node-local", "overlays/sidecar"):
        for _, pod in pods(render.kustomize(base)):
            assert mcsdns_of(pod)["image"].endswith(f"mcsdns:{mcsdns.__version__}")
