"""Times the start of mcsdns to its first answer, beside Python and the packages it imports."""

from __future__ import annotations

import importlib.metadata
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from bench.measure import pinned
from bench.peers import OURS
from bench.world import write_single_manifests

if TYPE_CHECKING:
    from pathlib import Path

    from bench.runner import Runner
    from bench.world import World

MANIFESTS = 100
IMPORT_LIMIT_S = 60.0


class Start(msgspec.Struct, frozen=True):
    """Seconds of each repetition, and the third-party modules imported by the first answer."""

    manifests: int
    first_answer_s: list[float]
    python_s: list[float]
    imports_s: list[float]
    modules: list[str]

    @property
    def medians(self) -> dict[str, float]:
        """The medians by what was timed."""
        return {
            "first_answer_s": statistics.median(self.first_answer_s),
            "python_s": statistics.median(self.python_s),
            "imports_s": statistics.median(self.imports_s),
        }


def time_start(runner: Runner, world: World) -> Start:
    """Start mcsdns several times on a folder of small manifests, interleaved with bare Python."""
    folder = runner.files.folder / "start"
    write_single_manifests(world, folder, MANIFESTS)
    question = (world.services[0].owner, "A")
    modules = _imported_modules(runner, folder, question)
    importing = f"from importlib import import_module\nfor name in {modules!r}: import_module(name)"

    def first_answer() -> float:
        began = time.perf_counter()
        with runner.start(OURS, folder) as server:
            server.wait_answer(question)
            return time.perf_counter() - began

    timed = (first_answer, lambda: _python(runner, "pass"), lambda: _python(runner, importing))
    rounds = [[one() for one in timed] for _ in range(runner.settings.starts)]
    answers, bare, imports = (list(column) for column in zip(*rounds, strict=True))
    return Start(MANIFESTS, answers, bare, imports, modules)


def _python(runner: Runner, code: str) -> float:
    """Return how long a Python process takes for some code."""
    began = time.perf_counter()
    with pinned(runner.cores.server):
        subprocess.run([sys.executable, "-c", code], timeout=IMPORT_LIMIT_S, check=True)
    return time.perf_counter() - began


def _imported_modules(runner: Runner, folder: Path, question: tuple[str, str]) -> list[str]:
    """Return the third-party modules imported until the first answer, in the order they were done.

    They come from Python's own import log, which knows the lazy ones too.
    """
    with runner.start(OURS, folder, {"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        server.wait_answer(question)
        log = server.log_text()
    ours = {OURS, __package__}
    packages = importlib.metadata.packages_distributions().keys() - ours
    lines = [line for line in log.splitlines() if line.startswith("import time:")]
    names = [line.rpartition("|")[2].strip() for line in lines]
    third_party = [name for name in names if name.partition(".")[0] in packages]
    return list(dict.fromkeys(third_party))
