"""The control planes that `make test-kubernetes` runs, one for each version of Kubernetes."""

from pathlib import Path

from tests.gobuild import BUILT, Program

VERSIONS = ("1.35.4", "1.36.1")
_VERSION = "k8s.io/component-base/version"


def control_plane(version: str) -> Program:
    """kube-apiserver, kube-controller-manager and etcd of one version, as one program."""
    _, minor, _ = version.split(".")
    facts = {"gitVersion": f"v{version}", "gitMajor": "1", "gitMinor": minor}
    return Program(
        name=f"kubernetes-{version}",
        what=f"the control plane of Kubernetes {version}",
        sources=Path(__file__).parent,
        cache=BUILT / "kubernetes",
        command="python -m tests.kubernetes build",
        link=" ".join(["-s -w", *(f"-X {_VERSION}.{key}={facts[key]}" for key in facts)]),
        modfile=f"v{version}.mod",
    )
