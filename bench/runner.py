"""Measures scenarios: servers that stay up, a warm-up, one sample a round, scenario and server."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec

from bench import load, measure, queries
from bench.load import Load
from bench.peers import PEERS, Site
from bench.scenarios import SCENARIOS
from bench.servers import free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.measure import Cores
    from bench.peers import Peer
    from bench.queries import Question
    from bench.scenarios import Scenario
    from bench.servers import Server
    from bench.world import World

T = TypeVar("T")

SATURATED = "load generator saturated"
SATURATED_SHARE = 0.9
BUSY_SHARE = 0.95
WARM_UP_LIMIT_S = 20.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How long, how often and how hard; all of it from the command line."""

    rounds: int
    seconds: float
    latency_seconds: float
    latency_qps: int
    outstanding: int
    tcp_outstanding: int
    connections: int
    services: int
    seed: int
    unknown: int
    shapes: int
    starts: int
    writes: int
    crd_slices: bool


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run of one scenario against one server; shares are of one core."""

    round: int
    qps: float
    cpu_us: float
    completed: int
    lost: int
    run_s: float
    rcodes: dict[str, int]
    response_bytes: int
    server_share: float
    load_share: float
    rss_mb: float
    pss_mb: float
    p50_us: float | None
    p99_us: float | None
    notes: list[str]


class Files(msgspec.Struct, frozen=True):
    """The world on disk, and query files by kind; with a kubeconfig it is in an API server too."""

    folder: Path
    manifests: Path
    zone_file: Path
    known: Question
    kubeconfig: Path | None = None
    upstream_port: int = 0

    def path(self, kind: str, *, cookie: bool = False) -> Path:
        """Return the query file of a kind of names."""
        return self.folder / (f"{kind}.cookies" if cookie else f"{kind}.txt")


class Runner:
    """Holds the running servers and measures them; use as a context to stop them all."""

    def __init__(
        self, settings: Settings, cores: Cores, files: Files, peers: dict[str, Peer] | None = None
    ) -> None:
        """Start nothing yet."""
        self.settings = settings
        self.peers = peers or PEERS
        self.cores = cores
        self.files = files
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, Server] = {}
        self._warmed: set[tuple[str, str]] = set()

    def __enter__(self) -> Runner:
        """Return the runner itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the servers that stayed up."""
        self.stop()

    def stop(self) -> None:
        """Stop the servers that stayed up; the next scenario starts them anew."""
        self._stack.close()
        self._servers.clear()
        self._warmed.clear()

    @contextlib.contextmanager
    def fresh(self, peer: str) -> Iterator[Server]:
        """Start one more server of a kind, wait for its first answer, and stop it in the end."""
        with self.start(peer, self.files.manifests) as server:
            server.wait_answer(self.files.known)
            yield server

    def start(
        self,
        peer: str,
        manifests: Path | None = None,
        environment: dict[str, str] | None = None,
        more: tuple[str, ...] = (),
    ) -> contextlib.AbstractContextManager[Server]:
        """Start a server without waiting for it, with more arguments than usual if told."""
        port, admin_port = free_port(), free_port()
        folder = self.files.folder / f"{peer}-{port}"
        folder.mkdir()
        manifests = manifests or self.files.manifests
        site = Site(
            *(folder, port, admin_port, manifests, self.files.zone_file, self.files.kubeconfig),
            upstream_port=self.files.upstream_port,
        )
        command = self.peers[peer].configure(site)
        command = msgspec.structs.replace(
            command,
            arguments=[*command.arguments, *more],
            environment=command.environment | (environment or {}),
        )
        return running(command, port, self.cores.server, folder)

    def measure_all(
        self, scenarios: list[str], peers: list[str]
    ) -> dict[str, dict[str, list[Sample]]]:
        """Measure round by round, scenario by scenario, each server right after the other."""
        samples: dict[str, dict[str, list[Sample]]] = {
            name: {peer: [] for peer in peers} for name in scenarios
        }
        for number in range(self.settings.rounds):
            for scenario in scenarios:
                for peer in in_turn(peers, number):
                    sample = self.sample(SCENARIOS[scenario], peer, number)
                    samples[scenario][peer].append(sample)
                    say(f"round {number + 1}: {scenario} {peer} {sample.qps:,.0f} q/s")
        return samples

    def sample(self, scenario: Scenario, peer: str, round_number: int) -> Sample:
        """Measure a scenario once."""
        if scenario.cold:
            with self.fresh(peer) as server:
                return self._measure(scenario, server, round_number)
        server = self.kept(peer)
        if (peer, scenario.name) not in self._warmed:
            self._warmed.add((peer, scenario.name))
            self.run(self._load(scenario, limit_s=WARM_UP_LIMIT_S), server)
        return self._measure(scenario, server, round_number)

    def run(self, one: Load, server: Server) -> load.LoadResult:
        """Send a load to a server from the load core."""
        return load.run(one, server.port, self.cores.load)

    def kept(self, peer: str) -> Server:
        """Return the server of a kind that stays up for all warm scenarios."""
        if peer not in self._servers:
            say(f"starting {self.peers[peer].title}")
            self._servers[peer] = self._stack.enter_context(self.fresh(peer))
        return self._servers[peer]

    def _load(self, scenario: Scenario, limit_s: float) -> Load:
        cookie, tcp = scenario.shape == "cookie", scenario.transport == "tcp"
        settings = self.settings
        return Load(
            path=self.files.path(scenario.questions, cookie=cookie),
            tcp=tcp,
            edns=scenario.shape == "edns",
            wire_format=cookie,
            limit_s=limit_s,
            outstanding=settings.tcp_outstanding if tcp else settings.outstanding,
            connections=settings.connections,
        )

    def _measure(self, scenario: Scenario, server: Server, round_number: int) -> Sample:
        once = self._load(scenario, limit_s=60.0)
        endless = msgspec.structs.replace(once, seconds=self.settings.seconds)
        pids = server.pids()
        before_s = measure.cpu_s(pids)
        result = self.run(once if scenario.cold else endless, server)
        cpu_s = measure.cpu_s(pids) - before_s
        latency = None if scenario.cold else self._latency(once, server)
        memory = measure.memory(pids)
        server_share = cpu_s / result.run_s if result.run_s else 0.0
        return Sample(
            round=round_number,
            qps=result.qps,
            cpu_us=cpu_s * 1e6 / max(result.completed, 1),
            completed=result.completed,
            lost=result.lost,
            run_s=result.run_s,
            rcodes=result.rcodes,
            response_bytes=result.response_bytes,
            server_share=server_share,
            load_share=result.load_share,
            rss_mb=memory.rss_mb,
            pss_mb=memory.pss_mb,
            p50_us=latency.p50_us if latency else None,
            p99_us=latency.p99_us if latency else None,
            notes=_notes(scenario, result, server_share),
        )

    def _latency(self, one: Load, server: Server) -> load.Latency | None:
        """Measure latency at a fixed, moderate rate: at full rate it only tells the window."""
        if not self.settings.latency_seconds:
            return None
        steady = msgspec.structs.replace(
            one, seconds=self.settings.latency_seconds, max_qps=self.settings.latency_qps
        )
        return load.run_latency(steady, server.port, self.cores.load)


def write_files(world: World, folder: Path, settings: Settings) -> Files:
    """Write all query files; returns where they, the manifests and the zone file are."""
    rng = random.Random(settings.seed)
    files = Files(folder, folder / "manifests", folder / "zone.db", (world.services[-1].owner, "A"))
    mixed = 5 * settings.services
    for kind, questions in queries.questions_by_kind(world, settings.seed, mixed).items():
        queries.write_text(files.path(kind), questions)
        queries.write_with_cookies(files.path(kind, cookie=True), questions, rng)
    return files


def in_turn(peers: list[str], number: int) -> list[str]:
    """Return the servers in the order of a round: another one is first each time."""
    return peers[number % len(peers) :] + peers[: number % len(peers)]


def interleaved(
    runner: Runner, peers: list[str], what: str, measured: Callable[[str, int], T]
) -> dict[str, list[T]]:
    """Measure each server right after the other, in turns."""
    found: dict[str, list[T]] = {peer: [] for peer in peers}
    for number in range(runner.settings.rounds):
        for peer in in_turn(peers, number):
            found[peer].append(measured(peer, number))
            say(f"round {number + 1}: {what} {peer}")
    return found


def say(text: str) -> None:
    """Tell the person who waits what goes on; standard output is for the results."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def _notes(scenario: Scenario, result: load.LoadResult, server_share: float) -> list[str]:
    """Return what a reader must know before trusting a sample.

    With neither side busy, something else used the cores, or the two waited for each other.
    """
    notes = []
    if server_share < BUSY_SHARE:
        notes.append(SATURATED if result.load_share > SATURATED_SHARE else "neither side busy")
    if result.lost:
        notes.append(f"{result.lost} lost")
    unexpected = sum(n for rcode, n in result.rcodes.items() if rcode not in scenario.rcodes)
    if unexpected:
        notes.append(f"{unexpected} unexpected rcodes")
    return notes
