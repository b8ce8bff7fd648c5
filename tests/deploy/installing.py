"""What `deploy/` holds is installed on an API server, again, and upgraded, as users do it.

For the API server of the tests and, in `tests/kubernetes`, for real ones.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import yaml

from tests.apiserver.client import Client, path_of
from tests.deploy.rendering import KUSTOMIZE, Object, RefusedError, Renderer, only
from tests.waiting import wait_until

KUSTOMIZED = [
    ("stub-target", ()),
    ("stub-target", ("autoscaling", "servicemonitor", "alerts", "dashboard")),
    ("dual-stack", ()),
    ("ipv6-only", ()),
    ("namespaced", ()),
    ("node-local", ("node-snapshot", "node-podmonitor")),
    ("sidecar", ()),
]
"""Every overlay and every component."""
APPLY = [("apply",), ("apply", "--server-side")]
_BY_CONTROLLERS = ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")
_MONITORING = {
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
    "ServiceMonitor": "servicemonitors",
}


def monitoring_crds() -> list[Object]:
    """The kinds of the Prometheus Operator that we use, taking any object."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True}
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                "versions": [{**version, "schema": {"openAPIV3Schema": anything}}],
            },
        }
        for kind, plural in _MONITORING.items()
    ]


def namespaces_of(objects: Iterable[Object]) -> list[Object]:
    """The namespaces that the objects are in and do not bring."""
    there = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    used = {each["metadata"].get("namespace") for each in objects} - {None} - there
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in sorted(used)
    ]


class Installer:
    """Installs at one API server, and takes away again what it installed."""

    def __init__(
        self, render: Renderer, client: Client, kubeconfig: Path, *, validate: bool
    ) -> None:
        """Ask `client`, an administrator; `validate` where it describes what it takes."""
        self.render = render
        self.client = client
        self._kubeconfig = kubeconfig
        self._validate = validate
        self._installed: dict[str, Object] = {}

    def prepare(self, objects: Iterable[Object]) -> None:
        """Make the namespaces and the kinds that the objects need."""
        for each in [*namespaces_of(objects), *monitoring_crds()]:
            self.client.apply(each)
        for kind, plural in _MONITORING.items():
            path = f"/apis/monitoring.coreos.com/v1/{plural}"
            wait_until(lambda path=path: self.client.get(path).status == 200, kind)

    def apply(self, how: Sequence[str], objects: Iterable[Object]) -> None:
        """Run `kubectl apply`, client-side or server-side."""
        objects = list(objects)
        self._installed |= {path_of(each): each for each in objects}
        given = yaml.safe_dump_all(objects)
        validate = f"--validate={'strict' if self._validate else 'ignore'}"
        self.render.kubectl(self._kubeconfig, *how, validate, "-f", "-", given=given)

    def upgrade(self, namespace: str, values: Object) -> list[Object]:
        """Run `helm upgrade --install`; the objects of the release."""
        objects = self.render.helm(namespace, values)
        self._installed |= {path_of(each): each for each in objects}
        self.render.upgrade(self._kubeconfig, namespace, values, validate=self._validate)
        return objects

    def stored(self, objects: Iterable[Object]) -> dict[str, Object]:
        """What the API server has of these objects, without what changes by itself."""
        found = {path_of(each): self.client.must("GET", path_of(each)) for each in objects}
        for each in found.values():
            each.pop("status", None)
            for name in ("resourceVersion", "managedFields"):
                each["metadata"].pop(name, None)
            annotations = each["metadata"].pop("annotations", {})
            ours = {name: annotations[name] for name in annotations if name not in _BY_CONTROLLERS}
            each["metadata"]["annotations"] = ours
        return found

    def service_addresses(self, objects: Iterable[Object]) -> list[str]:
        """The addresses of the Service for DNS among these objects."""
        service = self.client.must("GET", path_of(only("Service", objects)))
        return list(service["spec"]["clusterIPs"])

    def clean(self) -> None:
        """Take everything away but the namespaces, which go slowly."""
        for each in self._installed.values():
            if each["kind"] != "Namespace":
                self.client.delete(each)
        releases = ("delete", "secrets", "--all-namespaces", "--selector=owner=helm")
        self.render.kubectl(self._kubeconfig, *releases)
        self._installed.clear()


def apply_twice_and_upgrade(
    installer: Installer, how: Sequence[str], folder: Path, overlay: str, components: Sequence[str]
) -> None:
    """Apply an overlay as a user has it, again, and its next version; nothing else may change."""
    objects = installer.render.kustomize_with(folder, overlay, components)
    installer.prepare(objects)
    installer.apply(how, objects)
    first = installer.stored(objects)
    installer.apply(how, objects)
    assert installer.stored(objects) == first
    images = [{"name": "registry.example/mcsdns", "newTag": "0.2.0"}]
    newer = installer.render.kustomize_with(folder, overlay, components, images=images)
    installer.apply(how, newer)
    assert_only_pods_changed(first, installer.stored(newer))


def install_and_upgrade(installer: Installer, namespace: str, values: Object) -> None:
    """Install the chart, upgrade it to the same, and to the next version."""
    installer.prepare(installer.render.helm(namespace, values))
    objects = installer.upgrade(namespace, values)
    first = installer.stored(objects)
    installer.upgrade(namespace, values)
    assert installer.stored(objects) == first
    newer = {**values, "image": {**values["image"], "tag": "0.2.0"}}
    installer.upgrade(namespace, newer)
    assert_only_pods_changed(first, installer.stored(objects))


def list_of_one_address_is_refused(installer: Installer, how: Sequence[str]) -> None:
    """What was written before: applied once and never again, until one address stands alone."""
    objects = installer.render.kustomize("overlays/stub-target")
    installer.prepare(objects)
    spec = only("Service", objects)["spec"]
    address = spec["clusterIP"]
    installer.apply(how, objects)
    spec["clusterIPs"] = [address]
    with pytest.raises(RefusedError, match="must be 'SingleStack' to release"):
        installer.apply(how, objects)
    installer.clean()
    installer.apply(how, objects)
    first, second = installer.service_addresses(objects)
    with pytest.raises(RefusedError, match="must be 'SingleStack' to release"):
        installer.apply(how, objects)
    del spec["clusterIPs"]
    installer.apply(how, objects)
    installer.apply(how, objects)
    assert installer.service_addresses(objects) == [first, second]
    assert first == address


def install_beside_another(installer: Installer, folder: Path) -> None:
    """Two installs in two namespaces: each by kustomize, and two more by Helm, in any order."""
    render = installer.render
    overlay = (KUSTOMIZE / "overlays" / "stub-target" / "kustomization.yaml").read_text()
    overlay = overlay.replace("../../", f"{os.path.relpath(KUSTOMIZE, folder)}/")
    found: dict[str, list[Object]] = {}
    for number, namespace in enumerate(("one", "two", "three", "four")):
        address = f"10.96.0.{60 + number}"
        if number < 2:  # as the overlay says: another namespace, another address
            changed = overlay.replace("namespace: mcsdns", f"namespace: {namespace}")
            text = changed.replace("10.96.0.53", address)
            (folder / "kustomization.yaml").write_text(text)
            found[namespace] = render.kustomize(folder)
            installer.prepare(found[namespace])
            installer.apply(("apply",), found[namespace])
        else:
            values = {"image": {"repository": "x"}, "autoscaling": {"enabled": True}}
            values["service"] = {"clusterIPs": [address]}
            installer.prepare(render.helm(namespace, values))
            found[namespace] = installer.upgrade(namespace, values)
    paths = [path_of(each) for objects in found.values() for each in objects]
    assert len(set(paths)) == len(paths)
    for namespace, objects in found.items():
        for kept in installer.stored(objects).values():
            for subject in kept.get("subjects", ()):
                assert subject["namespace"] == namespace
            if kept["kind"] == "ClusterRoleBinding":
                role = {
                    **kept,
                    "kind": "ClusterRole",
                    "metadata": {"name": kept["roleRef"]["name"]},
                }
                assert installer.client.get(path_of(role)).status == 200


def number_of_the_autoscaler_is_kept(installer: Installer, folder: Path) -> None:
    """It begins with two, a running install keeps its number, and Helm what was set since."""
    plain = installer.render.kustomize("overlays/stub-target")
    scaled = installer.render.kustomize_with(folder, "stub-target", ["autoscaling"])
    installer.prepare(plain)

    def replicas(objects: Iterable[Object]) -> int:
        return int(
            installer.client.must("GET", path_of(only("Deployment", objects)))["spec"]["replicas"]
        )

    for how in APPLY:
        for objects in (scaled, plain, scaled):
            installer.apply(how, objects)
            assert replicas(objects) == 2
        installer.clean()
    values = {"image": {"repository": "x"}, "autoscaling": {"enabled": True}}
    values["service"] = {"clusterIPs": ["10.96.0.53"]}
    installer.prepare(installer.render.helm("mcsdns", values))
    objects = installer.upgrade("mcsdns", values)
    assert replicas(objects) == 2
    installer.client.patch(only("Deployment", objects), {"spec": {"replicas": 7}})
    installer.upgrade("mcsdns", values)
    assert replicas(objects) == 7


def assert_only_pods_changed(before: dict[str, Object], after: dict[str, Object]) -> None:
    """Hold two states against each other: the image is another one, all else is the same."""
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {path for path in after if ":0.2.0" in str(after[path])}
    assert {before[path]["kind"] for path in changed} <= {"DaemonSet", "Deployment"}
