"""Where the program that renders `deploy/` is, and how it is built."""

import fcntl
import hashlib
import subprocess
from pathlib import Path

from tests.apiserver.build import NotBuiltError, check_go

ROOT = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).parent / "render"
CACHE = ROOT / "build" / "deploy"
HOW = "run `python -m tests.deploy build` first"


def render_binary(*, build: bool = False) -> Path:
    """The program of the present sources, built before or, if asked, now.

    Raises:
        NotBuiltError: it is not there, or Go is missing or too old to build it.
    """
    binary = CACHE / f"render-{_fingerprint()}"
    if not binary.exists():
        check_go()
        if not build:
            raise NotBuiltError(f"the program that renders deploy/ is not built: {HOW}")
        _build(binary)
    return binary


def _fingerprint() -> str:
    digest = hashlib.sha256()
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
        command = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"]
        done = subprocess.run(
            [*command, str(part), "."], cwd=SOURCES, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotBuiltError(f"the program that renders deploy/ does not build:\n{done.stderr}")
        for old in CACHE.glob("render-*"):
            old.unlink()
        part.rename(binary)
