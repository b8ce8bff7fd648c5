"""The scenarios of names that are looked up elsewhere, beside CoreDNS and dnsdist.

Each server is pinned to the server core. What they forward to runs on a third core, or beside the
load on the second; what it answers when it is asked directly is measured and said.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

from bench import measure
from bench.before import BEFORE
from bench.forward_costs import Latency, Memory, time_latency, weigh
from bench.forward_peers import CACHED, FLAG, UNCACHED
from bench.load import Load
from bench.peers import COREDNS, OURS, Site, has_flag
from bench.runner import BUSY_SHARE, SATURATED_SHARE, Files, Runner, interleaved
from bench.scenarios import FORWARD, HIT, HIT_FEW, LATENCY, MEMORY, MISS, SILENT
from bench.silent import Silence, measure_silence
from bench.upstream import (
    FEW_FILE,
    KNOWN,
    NAMES_FILE,
    UPSTREAMS,
    answering,
    found_upstream,
    write_questions,
)
from bench.world import build_world, write_manifests
from bench.zonefile import write_zone_file

if TYPE_CHECKING:
    from pathlib import Path

    from bench.measure import Cores
    from bench.runner import Settings
    from bench.servers import Server
    from bench.world import World

QUERIES = {HIT: NAMES_FILE, HIT_FEW: FEW_FILE, MISS: NAMES_FILE}
SERVICES = 300  # of the clusterset's zone, which stands beside what is forwarded
WARM_UP_LIMIT_S = 20.0
HIT_SHARE = 0.05
CORE_FULL = "load core full"


class Forwarded(msgspec.Struct, frozen=True, kw_only=True):
    """One run against one server; shares are of one core, `load_share` is dnsperf's own."""

    round: int
    qps: float
    cpu_us: float
    completed: int
    lost: int
    rcodes: dict[str, int]
    server_share: float
    load_share: float
    upstream_share: float
    rss_mb: float
    notes: list[str]

    @property
    def capacity_qps(self) -> float:
        """What the server's core could answer: as seen, or by CPU if it was not kept busy."""
        return self.qps if self.server_share >= BUSY_SHARE else 1e6 / self.cpu_us


class Forward(msgspec.Struct, kw_only=True):
    """Everything measured of forwarding, by server; `skipped` says what was not, and why."""

    skipped: list[str] = []
    samples: dict[str, dict[str, list[Forwarded]]] = {}
    direct: list[Forwarded] = []
    latency: dict[str, list[Latency]] = {}
    memory: dict[str, list[Memory]] = {}
    silence: dict[str, list[Silence]] = {}


def measure_forward(
    chosen: list[str], servers: list[str], settings: Settings, cores: Cores, folder: Path
) -> Forward:
    """Measure the chosen scenarios of forwarding, or say why that cannot be."""
    peers = [name for name in CACHED if name in servers]
    forward = Forward()
    absent = [name for name in CACHED if name not in peers and name != OURS]
    if absent:
        forward.skipped.append(f"{FORWARD}/ beside {', '.join(absent)}: not found or not chosen")
    if reason := _why_not(peers):
        forward.skipped.append(f"{len(chosen)} scenarios that begin with {FORWARD}/: {reason}")
        return forward
    folder.mkdir()
    world = build_world(SERVICES, settings.seed)
    files = _write(folder, world, settings)
    if set(chosen) != {SILENT}:
        site = Site(folder, 0, 0, files.manifests, files.zone_file)
        with answering(site, cores.upstream) as upstream:
            fed = msgspec.structs.replace(files, upstream_port=upstream.port, known=KNOWN)
            with (
                Runner(settings, cores, fed, CACHED) as cached,
                Runner(settings, cores, fed, UNCACHED) as uncached,
            ):
                _measure_answered(forward, chosen, peers, cached, uncached, upstream)
    if SILENT in chosen:
        runner = Runner(settings, cores, files, CACHED)
        zoned = [name for name in peers if name in {OURS, BEFORE, COREDNS}]
        forward.silence = interleaved(
            runner, zoned, SILENT, lambda peer, n: measure_silence(runner, peer, world, n)
        )
    return forward


def _why_not(peers: list[str]) -> str | None:
    if not peers:
        return f"none of {', '.join(CACHED)} is measured"
    if OURS in peers and not has_flag(FLAG):
        return f"this mcsdns has no {FLAG}"
    if not found_upstream():
        return f"none of {', '.join(UPSTREAMS)}, to forward to, is on the PATH"
    return None


def _write(folder: Path, world: World, settings: Settings) -> Files:
    files = Files(folder, folder / "manifests", folder / "zone.db", (world.services[0].owner, "A"))
    write_manifests(world, files.manifests)
    write_zone_file(world, files.zone_file)
    write_questions(folder, settings.seed)
    return files


def _measure_answered(
    forward: Forward,
    chosen: list[str],
    peers: list[str],
    cached: Runner,
    uncached: Runner,
    upstream: Server,
) -> None:
    """Measure all with an upstream that answers."""
    for scenario in (one for one in QUERIES if one in chosen):
        runner = uncached if scenario == MISS else cached
        measured = functools.partial(_sample_of, runner, scenario, upstream)
        forward.samples[scenario] = interleaved(runner, peers, scenario, measured)
    if MISS in chosen:
        forward.direct = [
            _sample(uncached, MISS, upstream, upstream, number)
            for number in range(uncached.settings.rounds)
        ]
    if LATENCY in chosen:
        rounds = range(uncached.settings.rounds)
        found = [time_latency(uncached, peers, upstream, number) for number in rounds]
        forward.latency = {peer: [one[peer] for one in found] for peer in peers}
    cached.stop()
    uncached.stop()
    if MEMORY in chosen:
        forward.memory = interleaved(
            cached, peers, MEMORY, lambda peer, n: weigh(cached, peer, upstream, n)
        )


def _sample_of(
    runner: Runner, scenario: str, upstream: Server, peer: str, number: int
) -> Forwarded:
    return _sample(runner, scenario, runner.kept(peer), upstream, number)


def _sample(
    runner: Runner, scenario: str, server: Server, upstream: Server, number: int
) -> Forwarded:
    """Ask everything once, then measure a run."""
    once = Load(
        path=runner.files.path(QUERIES[scenario]),
        limit_s=WARM_UP_LIMIT_S,
        outstanding=runner.settings.outstanding,
    )
    runner.run(once, server)
    pids, upstream_pids = server.pids(), upstream.pids()
    before_s, upstream_before_s = measure.cpu_s(pids), measure.cpu_s(upstream_pids)
    result = runner.run(msgspec.structs.replace(once, seconds=runner.settings.seconds), server)
    cpu_s = measure.cpu_s(pids) - before_s
    upstream_s = measure.cpu_s(upstream_pids) - upstream_before_s
    one = Forwarded(
        round=number,
        qps=result.qps,
        cpu_us=max(cpu_s, 1 / measure.TICKS_PER_S) * 1e6 / max(result.completed, 1),
        completed=result.completed,
        lost=result.lost,
        rcodes=result.rcodes,
        server_share=cpu_s / result.run_s,
        load_share=result.load_share,
        upstream_share=upstream_s / result.run_s,
        rss_mb=measure.memory(pids).rss_mb,
        notes=[],
    )
    return msgspec.structs.replace(one, notes=_notes(one, scenario, runner.cores))


def _notes(one: Forwarded, scenario: str, cores: Cores) -> list[str]:
    """Return what a reader must know before trusting a sample."""
    notes = []
    if one.server_share < BUSY_SHARE:
        shared = one.upstream_share if cores.upstream == cores.load else 0.0
        full = one.load_share + shared > SATURATED_SHARE
        notes.append(CORE_FULL if full else "neither side busy")
    if one.lost:
        notes.append(f"{one.lost} lost")
    if unexpected := one.completed - one.rcodes.get("NOERROR", 0):
        notes.append(f"{unexpected} not NOERROR")
    if scenario != MISS and one.upstream_share > HIT_SHARE:
        notes.append("the upstream was asked")
    return notes
