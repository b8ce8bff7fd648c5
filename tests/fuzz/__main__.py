"""`python -m tests.fuzz`: targets for some seconds or inputs, or one input again.

Each target runs in a process of its own, under atheris (libFuzzer) where it is installed. What it
found is in build/fuzz, and so are inputs that led somewhere new: the next run begins with them.
"""

import argparse
import hashlib
import logging
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.paths import ROOT

try:
    import atheris
except ImportError:
    atheris = None

NAMES = ("query", "tcp", "reply", "watch", "manifests", "snapshot", "config")
BUILD = ROOT / "build" / "fuzz"
EXECUTED = re.compile(r"^stat::number_of_executed_units: (\d+)", re.MULTILINE)
ROUND = 2000
CHANGED_SHARE = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=0, help="for each target")
    parser.add_argument("--inputs", type=int, default=0, help="for each target")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET or FILE")
    given = parser.parse_args()
    files = [Path(each) for each in given.targets if each not in NAMES]
    for file in files:
        replay(file)
    if files:
        return 0
    if given.inside:
        search(given.targets[0], given.seconds, given.inputs)
        return 0
    if atheris is None:
        print("atheris is not installed for this Python: Hypothesis searches, without coverage")
    print(f"{'target':10} {'inputs':>10} {'inputs/s':>9}  found")
    return max([run(name, given.seconds, given.inputs) for name in given.targets or NAMES])


def run(name: str, seconds: int, inputs: int) -> int:
    """Search in another process, and tell what came of it."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    before = set(found_in(folder))
    begin = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz", "--inside", name]
    command += [f"--seconds={seconds}", f"--inputs={inputs}"]
    with (folder / "log").open("w") as log:
        status = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode
    took = time.monotonic() - begin
    text = (folder / "log").read_text(errors="replace")
    executed = sum(map(int, EXECUTED.findall(text)))
    found = sorted(set(found_in(folder)) - before)
    if status and not found:
        print(f"{name:10} failed, see {folder / 'log'}")
        return 1
    print(f"{name:10} {executed:10} {executed / took:9.0f}  {len(found) or 'nothing'}")
    for path in found:
        print(f"    again: {sys.executable} -m tests.fuzz {path}; why: {folder / 'log'}")
    return bool(found)


def found_in(folder: Path) -> list[Path]:
    return [
        each for each in folder.iterdir() if each.name.startswith(("crash-", "timeout-", "oom-"))
    ]


def replay(file: Path) -> None:
    from tests.fuzz.targets import TARGETS

    TARGETS[file.resolve().parent.name].run(file.read_bytes())
    print(f"{file}: nothing is wrong with it")


def search(name: str, seconds: int, inputs: int) -> None:
    logging.disable()
    if atheris is None:
        search_blindly(name, seconds, inputs)
        return
    with atheris.instrument_imports(include=["mcsdns"]):
        from tests.fuzz.inputs import change
        from tests.fuzz.targets import MOST_BYTES, TARGETS
    target = TARGETS[name]

    def mutate(octets: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = change(target, octets, rng) if rng.random() < CHANGED_SHARE else None
        return changed[:most] if changed else atheris.Mutate(octets, most)

    folder = BUILD / name
    corpus, seeds = folder / "corpus", folder / "seeds"
    for each in (corpus, seeds):
        each.mkdir(exist_ok=True)
    words = set()
    for seed in target.seeds():
        (seeds / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        words.update(re.findall(rb"\w{3,32}", seed))
    lines = (f'"{word.decode("ascii")}"\n' for word in sorted(words) if word.isascii())
    (folder / "words").write_text("".join(lines))
    limit = f"-runs={inputs}" if inputs else f"-max_total_time={seconds or 60}"
    options = [limit, f"-max_len={MOST_BYTES}", f"-artifact_prefix={folder}/", "-timeout=60"]
    options += ["-print_final_stats=1", f"-dict={folder}/words", str(corpus), str(seeds)]
    mutator = {"custom_mutator": mutate} if target.form else {}
    atheris.Setup([name, *options], target.run, **mutator)
    atheris.Fuzz()


def search_blindly(name: str, seconds: int, inputs: int) -> None:
    """Have Hypothesis search in rounds."""
    from hypothesis import HealthCheck, given, settings

    from tests.fuzz.inputs import inputs_of
    from tests.fuzz.targets import TARGETS

    target, tried = TARGETS[name], 0
    last = b""

    @settings(
        max_examples=ROUND, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(inputs_of(name))
    def once(octets: bytes) -> None:
        nonlocal tried, last
        tried += 1
        last = octets
        target.run(octets)

    ends = time.monotonic() + (seconds or 60)
    try:
        while tried < inputs if inputs else time.monotonic() < ends:
            once()
    except BaseException:  # the last one is the smallest
        path = BUILD / name / f"crash-{hashlib.sha1(last).hexdigest()}"
        path.write_bytes(last)
        raise
    finally:
        print(f"stat::number_of_executed_units: {tried}")


if __name__ == "__main__":
    sys.exit(main())
