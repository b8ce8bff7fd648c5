"""The commands that texts name, run as they stand there, with a `kubectl` that has one object."""

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from tests.diagnostics.stub_config import texts

KUBECTL = """\
#!/bin/sh
case "$*" in
*"get configmap $OBJECT -o jsonpath"*) cat "$STORE"; echo ;;
*"create configmap $OBJECT --from-file=Corefile --dry-run=client"*) cat Corefile ;;
*"apply -f -"*) cat > "$STORE" ;;
*"rollout restart"*) ;;
*) echo "kubectl $*: unknown" >&2; exit 1 ;;
esac
"""
OBJECTS = {"kubeadm": "coredns", "kind": "coredns", "eks": "coredns", "nodelocal": "node-local-dns"}


def commands(text: str) -> str:
    """Return what stands below `Apply:` as a script."""
    lines = itertools.dropwhile(lambda line: line != "# Apply:", text.splitlines())
    next(lines)
    applied = itertools.takewhile(lambda line: line.startswith("#   "), lines)
    return "".join(f"{line[4:]}\n" for line in applied)


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def run(text: str, folder: Path, configmap: str) -> subprocess.CompletedProcess[str]:
    """Run the commands of a text, with it as what mcsdns prints; the Corefile is in `store`."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "text").write_text(text)
    program(folder / "bin" / "kubectl", KUBECTL)
    program(folder / "bin" / "mcsdns", f'#!/bin/sh\ncat "{folder}/text"\n')
    environment = os.environ | {"STORE": str(folder / "store"), "OBJECT": configmap}
    environment["PATH"] = f"{folder}/bin:{environment['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", commands(text)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def apply(text: str, folder: Path, configmap: str) -> str:
    """Run the commands of a text and return the Corefile then."""
    done = run(text, folder, configmap)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / "store").read_text()


@pytest.mark.parametrize("end", ["\n", ""], ids=["with a last line", "without one"])
@pytest.mark.parametrize("platform", OBJECTS)
def test_block_is_added_once_and_replaced_after_that(
    platform: str, end: str, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text(texts.MAIN.rstrip("\n") + end)
    first, second = (texts.text(platform, [ip], port=53) for ip in ("10.0.0.53", "10.0.0.54"))
    assert apply(first, tmp_path, OBJECTS[platform]) == texts.MAIN + first
    assert apply(second, tmp_path, OBJECTS[platform]) == texts.MAIN + second
    assert apply(second, tmp_path, OBJECTS[platform]) == texts.MAIN + second


@pytest.mark.parametrize("platform", ["aks", "k3s", "gardener", "kube-dns", "gke-kube-dns"])
def test_object_is_applied_as_it_is_printed(platform: str, tmp_path: Path) -> None:
    text = texts.text(platform)
    assert apply(text, tmp_path, "none") == text


@pytest.mark.parametrize("platform", OBJECTS)
def test_nothing_is_applied_where_the_corefile_could_not_be_read(
    platform: str, tmp_path: Path
) -> None:
    """Else the block would stand alone, and the cluster have no DNS."""
    (tmp_path / "store").write_text(texts.MAIN)
    done = run(texts.text(platform), tmp_path, "another")
    assert "get configmap" in done.stderr
    assert "apply" not in done.stderr
    assert (tmp_path / "store").read_text() == texts.MAIN
