"""The chart renders what kustomize renders, and says clearly what is missing or wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import mcsdns
from tests.deploy import schemas
from tests.deploy.rendering import (
    CHART,
    Object,
    RefusedError,
    Renderer,
    comparable,
    mcsdns_of,
    only,
)

IMAGE = {"repository": "registry.example/mcsdns"}
STUB = {"image": IMAGE, "service": {"clusterIPs": ["10.96.0.53"]}}
EVERYTHING = {
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True},
    "alerts": {"enabled": True},
    "dashboard": {"enabled": True},
}
NODE = {
    "image": IMAGE,
    "stubTarget": {"enabled": False},
    "nodeLocal": {"enabled": True, "upstreams": ["10.96.0.10"]},
}
SIDECAR = {
    "image": IMAGE,
    "stubTarget": {"enabled": False},
    "sidecar": {"example": True, "stubAddress": "10.96.0.53", "upstream": "10.96.0.10"},
}
DUAL = ["10.96.0.53", "fd00:10:96::53"]
IPV6 = {"clusterIPs": DUAL[1:], "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}
NODE_WITH_ALL = {
    **NODE,
    "nodeLocal": {
        **NODE["nodeLocal"],
        "snapshotHostPath": "/var/lib/mcsdns",
        "podMonitor": {"enabled": True},
    },
}

SAME = [
    ("stub-target", (), "mcsdns", STUB),
    ("dual-stack", (), "mcsdns", {**STUB, "service": {"clusterIPs": DUAL}}),
    ("ipv6-only", (), "mcsdns", {**STUB, "service": IPV6, "admin": "[::1]:8053"}),
    ("namespaced", (), "mcsdns", {**STUB, "namespaces": ["shop", "billing"]}),
    (
        "stub-target",
        ("autoscaling", "servicemonitor", "alerts", "dashboard"),
        "mcsdns",
        {**STUB, **EVERYTHING},
    ),
    ("node-local", (), "mcsdns-node", NODE),
    ("node-local", ("node-snapshot", "node-podmonitor"), "mcsdns-node", NODE_WITH_ALL),
    ("sidecar", (), "shop", SIDECAR),
]


@pytest.mark.parametrize(("overlay", "components", "namespace", "values"), SAME)
def test_chart_renders_what_kustomize_renders(
    overlay: str,
    components: tuple[str, ...],
    namespace: str,
    values: Object,
    render: Renderer,
    compose: Callable[..., list[Object]],
) -> None:
    ours = comparable(render.helm(namespace, values))
    theirs = comparable(compose(overlay, *components))
    assert ours.keys() == theirs.keys()
    for key, each in theirs.items():
        assert ours[key] == each, key


@pytest.mark.parametrize("values", [STUB, {**STUB, **EVERYTHING}, NODE_WITH_ALL, SIDECAR])
def test_chart_has_no_lint(values: Object, render: Renderer) -> None:
    assert "ERROR" not in render.lint(values)


OTHER_VALUES = {
    **STUB,
    **EVERYTHING,
    "fullnameOverride": "clusterset-dns",
    "zones": ["a.example", "b.example"],
    "extraArgs": ["--import-selector=team=web"],
    "priorityClassName": "",
    "snapshot": {"enabled": False},
    "image": {"repository": "x", "tag": "1", "pullSecrets": ["registry"]},
    "nodeSelector": {},
    "tolerations": [],
    "nodeLocal": {"enabled": True, "address": "fd00::53", "upstreams": ["fd00::a"]},
}


def test_other_values_render_valid_objects(render: Renderer) -> None:
    objects = render.helm("dns", OTHER_VALUES)
    for each in objects:
        schemas.check(each)
    found = comparable(objects)
    (daemon,) = [each for key, each in found.items() if key[0] == "DaemonSet"]
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    assert "--listen=[fd00::53]:53" in container["args"]
    deployment = found["Deployment", "dns", "clusterset-dns"]
    pod = deployment["spec"]["template"]["spec"]
    assert "priorityClassName" not in pod
    assert "volumes" not in pod
    assert ("ResourceQuota", "dns", "clusterset-dns-critical-pods") not in found


RELEASES = [*((namespace, values) for _, _, namespace, values in SAME), ("dns", OTHER_VALUES)]
"""Every set of values, and a namespace for it."""


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "service.clusterIPs is missing.*--set service.clusterIPs={10.96.0.53}"),
        ({"service": {"clusterIPs": "10.96.0.53"}}, "/service/clusterIPs.*want array"),
        ({"service": {"clusterIPs": ["mcsdns"]}}, "/service/clusterIPs/0"),
        ({**STUB, "replica": 3}, "'replica' not allowed"),
        ({**STUB, "lameduckSeconds": 25}, "give at least 10 seconds more"),
        (
            {"stubTarget": {"enabled": False}, "nodeLocal": {"enabled": True}},
            "nodeLocal.upstreams is missing",
        ),
        (
            {"stubTarget": {"enabled": False}, "sidecar": {"example": True}},
            "stubAddress of the sidecar is missing",
        ),
    ],
)
def test_what_is_wrong_is_said(values: Object, says: str, render: Renderer) -> None:
    with pytest.raises(RefusedError, match=f"(?s){says}"):
        render.helm("mcsdns", values)


APP = """\
apiVersion: v1
kind: Pod
metadata:
  name: app
spec:
  {{- include "mcsdns.sidecarPod" (dict "namespace" .Release.Namespace) | nindent 2 }}
  initContainers:
  {{- include "mcsdns.sidecar" (dict "image" "mcsdns" "stubAddress" "fd00::53" "upstream" "fd00::a"
      "zone" "b.example") | nindent 2 }}
  containers:
  - {name: app, image: app}
"""


def test_sidecar_is_of_use_in_other_charts(render: Renderer, tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "charts" / "mcsdns")
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: app, version: 0.1.0}")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "app.yaml").write_text(APP)
    objects = render.helm("web", {"mcsdns": {"stubTarget": {"enabled": False}}}, tmp_path)
    pod = only("Pod", objects, "app")["spec"]
    assert len(objects) == 1
    assert pod["dnsConfig"]["searches"][0] == "web.svc.cluster.local"
    assert mcsdns_of(pod)["env"] == [
        {"name": "MCSDNS_STUB_ZONE", "value": "b.example=fd00::53"},
        {"name": "MCSDNS_UPSTREAM", "value": "fd00::a"},
    ]


def test_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == mcsdns.__version__
