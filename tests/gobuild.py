"""Go programs that tests run: built once before them, cached by their sources. Needs no pytest."""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT

BUILT = ROOT / "build"


class NotBuiltError(Exception):
    """A program is not there; the message says why and what to do."""


@dataclass(frozen=True)
class Program:
    """A program: its name in the cache, what it is for people, its sources, how to build it.

    `modfile` says the versions in place of `go.mod` where the same sources are built with several.
    """

    name: str
    what: str
    sources: Path
    cache: Path
    command: str
    link: str = "-s -w"
    modfile: str = "go.mod"

    def binary(self, *, build: bool = False) -> Path:
        """The program of the present sources, built before or, if asked, now.

        Raises:
            NotBuiltError: it is not there, or Go is missing or too old to build it.
        """
        binary = self.cache / f"{self.name}-{self._fingerprint()}"
        if not binary.exists():
            self.check_go()
            if not build:
                raise NotBuiltError(f"{self.what} is not built: run `{self.command}` first")
            self._build(binary)
        return binary

    def check_go(self) -> None:
        """Raise NotBuiltError where Go is missing or too old."""
        asked = re.search(r"^go (\d+)\.(\d+)", (self.sources / self.modfile).read_text(), re.M)
        assert asked is not None, f"{self.modfile} names no version of Go"
        wanted = f"{self.what} needs Go {asked[1]}.{asked[2]} or newer"
        if shutil.which("go") is None:
            raise NotBuiltError(f"{wanted}: no go on the PATH")
        command = ["go", "env", "GOVERSION"]  # outside the module, which asks for a version itself
        anchor = self.sources.anchor
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=anchor)
        found = re.match(r"go(\d+)\.(\d+)", done.stdout)
        if found is None or (int(found[1]), int(found[2])) < (int(asked[1]), int(asked[2])):
            raise NotBuiltError(f"{wanted}, not {done.stdout.strip()}")

    def main(self, arguments: list[str]) -> str | None:
        """`build` builds it; the error otherwise. A machine without Go is none: tests skip."""
        if arguments != ["build"]:
            return f"usage: {self.command}"
        try:
            self.check_go()
        except NotBuiltError as error:
            sys.stderr.write(f"{error}; the tests that need it are skipped\n")
            return None
        try:
            self.binary(build=True)
        except NotBuiltError as error:
            return str(error)
        return None

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.link.encode())
        sources = self.sources
        mod = sources / self.modfile
        for path in sorted([*sources.glob("*.go"), mod, mod.with_suffix(".sum")]):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:16]

    def _build(self, binary: Path) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if binary.exists():
                return
            part = self.cache / "part"
            command = ["go", "build", "-trimpath", "-buildvcs=false", f"-ldflags={self.link}"]
            if self.modfile != "go.mod":
                command.append(f"-modfile={self.modfile}")
            done = subprocess.run(
                [*command, "-o", str(part), "."],
                cwd=self.sources,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise NotBuiltError(f"{self.what} does not build:\n{done.stderr}")
            for old in self.cache.glob(f"{self.name}-*"):
                old.unlink()
            part.rename(binary)
