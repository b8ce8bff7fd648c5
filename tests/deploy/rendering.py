"""The program that renders, and what the tests look for in objects."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.build import ROOT

Object = dict[str, Any]
DEPLOY = ROOT / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
CHART = DEPLOY / "charts" / "mcsdns"
HELM_ALONE = {"app.kubernetes.io/managed-by", "helm.sh/chart"}


class RefusedError(Exception):
    """It was not rendered; the text says why."""


class Renderer:
    """Renders kustomizations and the chart, lints, and judges pods."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary

    def kustomize(self, folder: Path | str) -> list[Object]:
        """The objects of a kustomization, below `deploy/kustomize` if it is not absolute."""
        return objects_in(self._run("kustomize", str(KUSTOMIZE / folder)))

    def kustomize_with(
        self, folder: Path, overlay: str, components: Sequence[str], **more: Any
    ) -> list[Object]:
        """The objects of a user's own kustomization: an overlay, components, and more."""
        write_kustomization(folder, overlay, components, **more)
        return self.kustomize(folder)

    def helm(self, namespace: str, values: Object, chart: Path = CHART) -> list[Object]:
        """The objects of a chart, released as `mcsdns`."""
        return objects_in(self._run("helm", str(chart), namespace, given=yaml.safe_dump(values)))

    def lint(self, values: Object) -> str:
        return self._run("lint", str(CHART), "mcsdns", given=yaml.safe_dump(values))

    def violations(self, level: str, objects: Iterable[Object]) -> list[str]:
        """What PodSecurity of that level forbids in these objects."""
        return self._run("podsecurity", level, given=yaml.safe_dump_all(objects)).splitlines()

    def kubectl(self, kubeconfig: Path, *arguments: str, given: str = "") -> str:
        """Run kubectl; its standard output."""
        return self._run("kubectl", f"--kubeconfig={kubeconfig}", *arguments, given=given)

    def upgrade(self, kubeconfig: Path, namespace: str, values: Object, *, validate: bool) -> None:
        """Install the chart as the release `mcsdns`, or upgrade the one that is there."""
        given, how = yaml.safe_dump(values), () if validate else ("unvalidated",)
        self._run("upgrade", str(kubeconfig), str(CHART), namespace, *how, given=given)

    def _run(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [self._binary, *arguments], input=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RefusedError(done.stderr)
        return done.stdout


def write_kustomization(folder: Path, overlay: str, components: Sequence[str], **more: Any) -> None:
    """Write a kustomization as a user has one."""
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(KUSTOMIZE / "overlays" / overlay, folder)],
        "components": [
            os.path.relpath(KUSTOMIZE / "components" / name, folder) for name in components
        ],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))


def objects_in(text: str) -> list[Object]:
    return [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]


def of_kind(kind: str, objects: Iterable[Object]) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def only(kind: str, objects: Iterable[Object], name: str = "mcsdns") -> Object:
    (found,) = [each for each in of_kind(kind, objects) if each["metadata"]["name"] == name]
    return found


def pods(objects: Iterable[Object]) -> Iterator[tuple[Object, Object]]:
    """Each workload, and its pod."""
    for each in objects:
        if each["kind"] in ("Deployment", "DaemonSet"):
            yield each, each["spec"]["template"]["spec"]


def mcsdns_of(pod: Object) -> Object:
    """The container that is mcsdns."""
    (found,) = [
        each
        for each in [*pod.get("initContainers", []), *pod["containers"]]
        if each["name"] == "mcsdns"
    ]
    return found


def comparable(objects: Iterable[Object]) -> dict[tuple[str, str, str], Object]:
    """Objects by kind, namespace and name, without what Helm alone writes or cannot write."""
    found: dict[tuple[str, str, str], Object] = {}
    for each in objects:
        if each["kind"] == "Namespace":  # a release is in one, so its chart cannot bring it
            continue
        meta = each["metadata"]
        labels = {name: value for name, value in meta["labels"].items() if name not in HELM_ALONE}
        key = (each["kind"], meta.get("namespace", ""), meta["name"])
        assert key not in found, f"{key} is there twice"
        found[key] = {**each, "metadata": {**meta, "labels": labels}}
    return found
