"""Times the start of mcsdns with a snapshot while the API server is away."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import msgspec

from bench import measure
from bench.peers import OURS
from bench.servers import ServerError
from bench.sync import wait_whole

if TYPE_CHECKING:
    from pathlib import Path

    from bench.cluster import Cluster
    from bench.runner import Runner
    from bench.world import World

FLAG = "--snapshot"
POLL_S = 0.1
STABLE_S = 6.0
LIMIT_S = 60.0


class Snapshot(msgspec.Struct, frozen=True):
    """The file, and seconds and CPU from the start of each process to its first right answers."""

    file_mb: float
    seconds: list[float]
    cpu_s: list[float]

    @property
    def median_s(self) -> float:
        """The median of the starts."""
        return statistics.median(self.seconds)


def time_snapshot(runner: Runner, cluster: Cluster, world: World) -> Snapshot:
    """Let a server write its snapshot; start several when the API server is gone."""
    path = runner.files.folder / "snapshot"
    with runner.start(OURS, more=(FLAG, str(path))) as server:
        wait_whole(server, world)
        _wait_written(path)
    size_mb = path.stat().st_size / 1e6
    cluster.kill()
    try:
        starts = [_start(runner, world, path) for _ in range(runner.settings.starts)]
    finally:
        cluster.start()
    return Snapshot(size_mb, [seconds for seconds, _ in starts], [cpu_s for _, cpu_s in starts])


def _start(runner: Runner, world: World, path: Path) -> tuple[float, float]:
    began = time.perf_counter()
    with runner.start(OURS, more=(FLAG, str(path))) as server:
        wait_whole(server, world)
        return time.perf_counter() - began, measure.cpu_s(server.pids())


def _wait_written(path: Path) -> None:
    """Wait until the file is there and has not changed for a while."""
    deadline = time.monotonic() + LIMIT_S
    known, since = None, time.monotonic()
    while time.monotonic() < deadline:
        found = (path.stat().st_mtime_ns, path.stat().st_size) if path.exists() else None
        if found != known:
            known, since = found, time.monotonic()
        elif known and time.monotonic() - since > STABLE_S:
            return
        time.sleep(POLL_S)
    message = f"{OURS} wrote no snapshot to {path} within {LIMIT_S:.0f} s"
    raise ServerError(message)
