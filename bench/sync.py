"""What it costs to read a world from the API server: time, CPU and memory of a fresh process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from bench import measure
from bench.load import Load

if TYPE_CHECKING:
    from bench.runner import Runner
    from bench.servers import Server
    from bench.world import Service, World

POLL_S = 0.01  # asks seldom: queries cost the server CPU, which is measured
SETTLE_S = 2.0  # a process frees memory some time after
EVERY_LIMIT_S = 120.0


class Sync(msgspec.Struct, frozen=True):
    """One start; memory some time after the first right answers, and after every question once."""

    round: int
    seconds: float
    cpu_s: float
    rss_mb: float
    pss_mb: float
    asked_rss_mb: float
    asked_pss_mb: float


def time_sync(runner: Runner, peer: str, world: World, number: int) -> Sync:
    """Start a server, measure it until it answers right, then once everything was asked."""
    with runner.start(peer) as server:
        began = time.perf_counter()
        wait_whole(server, world)
        seconds, cpu_s = time.perf_counter() - began, measure.cpu_s(server.pids())
        time.sleep(SETTLE_S)
        synced = measure.memory(server.pids())
        every = Load(path=runner.files.path("every"), edns=True, limit_s=EVERY_LIMIT_S)
        runner.run(every, server)
        time.sleep(SETTLE_S)
        asked = measure.memory(server.pids())
    return Sync(
        number,
        seconds,
        cpu_s,
        synced.rss_mb,
        synced.pss_mb,
        asked.rss_mb,
        asked.pss_mb,
    )


def wait_whole(server: Server, world: World) -> None:
    """Wait until imports and slices are served: the last service of either type, all of it."""
    for headless in (True, False):
        last = next((one for one in reversed(world.services) if one.headless is headless), None)
        if last:
            server.wait_answer((last.owner, "A"), records_of(last), POLL_S)


def records_of(service: Service) -> int:
    """Return how many addresses a service's name has."""
    return len(list(service.hosts)) if service.headless else 1
