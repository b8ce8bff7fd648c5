"""The longest gap in answers while a large folder of manifests is read again: `make bench-reread`.

Every file is written anew as it was, beside one with a service that was not there before; once that
service is answered for, everything has been read and compared. A probe asks all the while. The
child process that reads has the server's core too, as in a container with one processor.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from bench import measure
from bench.load import HOST
from bench.measure import choose_cores
from bench.peers import Command
from bench.probe import Probe, Probed
from bench.relist import expected_answers
from bench.runner import say
from bench.servers import free_port, running
from bench.world import ZONE, Endpoint, Service, World, build_world, write_manifests

SERVICES: Final = 20_000
ROUNDS: Final = 3
QUIET_S: Final = 3.0


class Reread(msgspec.Struct, frozen=True):
    """One time that all was read again; `cpu_s` and `core_wait_s` are the server's own."""

    seconds: float
    cpu_s: float
    core_wait_s: float
    during: Probed

    def line(self) -> str:
        """Return the row of the report."""
        probed = self.during
        return (
            f"read again in {self.seconds:.1f} s ({self.cpu_s:.1f} s of the server,"
            f" {self.core_wait_s:.1f} s without a core): longest gap {probed.gap_ms:.1f} ms,"
            f" p50 {probed.p50_ms:.2f} ms, p99.9 {probed.p999_ms:.1f} ms,"
            f" {probed.wrong + probed.missing:,} of {probed.asked:,} failed"
        )


def measure_reread(folder: Path) -> list[Reread]:
    """Serve a folder, and write all of it anew a few times while a probe asks."""
    cores = choose_cores()
    world = build_world(SERVICES, seed=1)
    manifests = folder / "manifests"
    write_manifests(world, manifests)
    port = free_port()
    flags = ["--manifests", str(manifests), "--listen", f"{HOST}:{port}", "--admin", "none"]
    command = Command([sys.executable, "-m", "mcsdns", "serve", *flags])
    found: list[Reread] = []
    with running(command, port, cores.server, folder) as server:
        server.wait_answer((world.services[-1].owner, "A"))
        own = server.pids()[:1]
        for number in range(ROUNDS):
            say(f"everything is read again, {number + 1} of {ROUNDS}")
            with Probe(port, cores.load, expected_answers(world, number)) as probe:
                time.sleep(QUIET_S)
                probe.mark()
                began = time.monotonic()
                cpu_s, wait_s = measure.cpu_s(own), measure.core_wait_s(own)
                new = _write_anew(manifests, folder / "new", number)
                server.wait_answer((new, "A"))
                seconds = time.monotonic() - began
                cpu_s, wait_s = measure.cpu_s(own) - cpu_s, measure.core_wait_s(own) - wait_s
                _, during = probe.finish()
            found.append(Reread(seconds, cpu_s, wait_s, during))
    return found


def _write_anew(manifests: Path, beside: Path, number: int) -> str:
    """Replace each file by an equal one, and add one with a new service; returns its owner."""
    name = f"new-{number}"
    endpoints: dict[str, tuple[Endpoint, ...]] = {"eu": (Endpoint(f"{name}-0", "172.31.255.1"),)}
    write_manifests(World((Service(0, name, name, "", endpoints),)), beside)
    for path in manifests.iterdir():
        (beside / path.name).write_bytes(path.read_bytes())
    for path in beside.iterdir():
        path.replace(manifests / path.name)
    return f"{name}.{name}.svc.{ZONE}"


def main() -> None:
    """Measure and print a line for each round."""
    with tempfile.TemporaryDirectory(prefix="mcsdns-reread-") as name:
        for each in measure_reread(Path(name)):
            print(each.line())


if __name__ == "__main__":
    main()
