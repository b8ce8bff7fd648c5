"""Where the program of the API server is, and how it is built: nothing else in here."""

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
CACHE = SOURCES.parents[1] / "build" / "apiserver"
GO_WANTED = (1, 25)
LINK = "-s -w -X k8s.io/component-base/version.gitVersion=v1.35.4"


class NotBuiltError(Exception):
    """There is no API server to run; the message says why and what to do."""


def apiserver_binary(*, build: bool = False) -> Path:
    """The program of the present sources, built before or, if asked, now.

    Raises:
        NotBuiltError: it is not there, or Go is missing or too old to build it.
    """
    binary = CACHE / f"apiserver-{_fingerprint()}"
    if not binary.exists():
        check_go()
        if not build:
            raise NotBuiltError(
                "the API server for tests is not built: run `python -m tests.kube build` first"
            )
        _build(binary)
    return binary


def check_go() -> None:
    """Raise NotBuiltError where Go is missing or too old."""
    wanted = ".".join(map(str, GO_WANTED))
    if shutil.which("go") is None:
        raise NotBuiltError(
            f"the API server for tests needs Go {wanted} or newer: no go on the PATH"
        )
    command = ["go", "env", "GOVERSION"]  # outside the module, which asks for a version itself
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=SOURCES.anchor)
    text = done.stdout
    found = re.match(r"go(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < GO_WANTED:
        raise NotBuiltError(
            f"the API server for tests needs Go {wanted} or newer, not {text.strip()}"
        )


def _fingerprint() -> str:
    digest = hashlib.sha256(LINK.encode())
    for path in sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(binary: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return
        part = CACHE / "part"
        command = ["go", "build", "-trimpath", "-buildvcs=false", f"-ldflags={LINK}", "-o"]
        done = subprocess.run(
            [*command, str(part), "."], cwd=SOURCES, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotBuiltError(f"the API server for tests does not build:\n{done.stderr}")
        for old in CACHE.glob("apiserver-*"):
            old.unlink()
        part.rename(binary)
