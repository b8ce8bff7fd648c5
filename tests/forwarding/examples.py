"""The files of `corefile-examples` with addresses of a test in them, otherwise as they are."""

from pathlib import Path
from typing import Any

import yaml

from tests.paths import ROOT

FOLDER = ROOT / "corefile-examples"
MCSDNS_SERVICE, CLUSTER_DNS = "10.96.0.53", "10.96.0.10"
MAIN = ".:PORT {\n    errors\n    forward . UPSTREAM\n    cache 30\n    loop\n    reload\n}\n"
"""The block beside which that of `kubeadm.Corefile` is put, without what needs a cluster."""


def unbound_conf(mcsdns_port: int) -> tuple[str, str]:
    """Return what `unbound.conf` has in its server clause, and what stands behind that."""
    text = _with(FOLDER / "unbound.conf", {MCSDNS_SERVICE: f"127.0.0.1@{mcsdns_port}"})
    server, forward, rest = text.partition("forward-zone:")
    return server.partition("server:\n")[2], forward + rest


def dnsmasq_conf(mcsdns_port: int) -> str:
    return _with(FOLDER / "dnsmasq.conf", {f"/{MCSDNS_SERVICE}\n": f"/127.0.0.1#{mcsdns_port}\n"})


def corefile(mcsdns_port: int, upstream: str) -> str:
    """Return `kubeadm.Corefile` behind a main block."""
    here = {MCSDNS_SERVICE: f"127.0.0.1:{mcsdns_port}", ":53 {": ":PORT {"}
    return MAIN.replace("UPSTREAM", upstream) + _with(FOLDER / "kubeadm.Corefile", here)


def serve_arguments(file: str, here: dict[str, str]) -> list[str]:
    """Return the arguments of the mcsdns in a pod, or in what makes pods; flag and value apart."""
    document: dict[str, Any] = yaml.safe_load((FOLDER / file).read_text())
    spec = document["spec"].get("template", document)["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    (arguments,) = [each["args"] for each in containers if each["name"] == "mcsdns"]
    assert arguments[0] == "serve"
    text = "\n".join(arguments[1:])
    for theirs, ours in here.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return [part for each in text.splitlines() for part in each.split("=", 1)]


def _with(path: Path, here: dict[str, str]) -> str:
    text = path.read_text()
    for theirs, ours in here.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    return text
