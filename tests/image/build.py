"""Builds the image with buildah, without a daemon, and lays it out as a folder for the tests."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.gobuild import NotBuiltError
from tests.image.dockerfile import DOCKERFILE, ROOT

CACHE = ROOT / "build" / "image"
TAG = "localhost/mcsdns:tested"
CONTEXT = ("mcsdns", "requirements/run.txt", "requirements/build.txt", "pyproject.toml")
HOW = "run `python -m tests.image` as root first"


class Image(NamedTuple):
    """A built image: its root file system, and what it says of itself."""

    root: Path
    config: dict[str, Any]


def image() -> Image:
    """The image of the present sources.

    Raises:
        NotBuiltError: it is not there, or we may not run it.
    """
    folder = CACHE / _fingerprint()
    if not (folder / "config.json").exists():
        raise NotBuiltError(f"the image is not built: {HOW}")
    if os.geteuid() != 0:
        raise NotBuiltError("only root may run the image: chroot and mounts")
    return Image(folder / "root", json.loads((folder / "config.json").read_text()))


def build(base: str) -> Image:
    """Build it from a base image, and lay it out."""
    folder = CACHE / _fingerprint()
    for old in CACHE.glob("*"):
        shutil.rmtree(old)
    folder.mkdir(parents=True)
    _bud(base)
    container = _buildah("from", TAG)
    try:
        mounted = _buildah("mount", container)
        subprocess.run(["cp", "-a", mounted, folder / "root"], check=True)
        inspected = json.loads(_buildah("inspect", "--type=image", TAG))
        (folder / "config.json").write_text(json.dumps(inspected["Docker"]["config"], indent=1))
    finally:
        _buildah("rm", container)
    return image()


def _bud(base: str) -> None:
    """Run every step of the Dockerfile. The format is Docker's, since OCI's has no health check.

    pip inside finds its index as pip outside does: its settings and authorities are lent.
    """
    options = ["--isolation=chroot", "--network=host", "--format=docker", "--no-cache"]
    arguments = {"PYTHON": base, "VERSION": "tested", "REVISION": _fingerprint()}
    options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
        settings.write(_pip_settings())
        settings.flush()
        options += [f"--volume={settings.name}:/etc/pip.conf:ro"]
        options += ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro"]
        subprocess.run(["buildah", "bud", *options, f"--tag={TAG}", ROOT], check=True)


def _pip_settings() -> str:
    """What `pip` here knows of indexes, in the form of its settings file."""
    wanted = ("index-url", "extra-index-url", "cert", "proxy", "trusted-host")
    listed = subprocess.run(
        ["pip", "config", "list"], stdout=subprocess.PIPE, text=True, check=True
    )
    lines = ["[global]"]
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in wanted and not any(each.startswith(option) for each in lines):
            lines.append(f"{option} = {value.strip(chr(39))}")
    return "\n".join(lines) + "\n"


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in [DOCKERFILE, *_context()]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _context() -> Iterator[Path]:
    for name in CONTEXT:
        path = ROOT / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in found if each.is_file() and each.suffix != ".pyc")
