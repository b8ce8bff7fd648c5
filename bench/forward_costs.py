"""What forwarding costs besides CPU: the time it adds to a miss, and memory of what is cached."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from bench import load, measure
from bench.load import Load
from bench.runner import in_turn, say
from bench.scenarios import LATENCY
from bench.servers import ServerError
from bench.sync import SETTLE_S
from bench.upstream import DISTINCT, DISTINCT_FILE, FEW_FILE, NAMES_FILE

if TYPE_CHECKING:
    from bench.runner import Runner
    from bench.servers import Server

QPS = 2_000
LIMIT_S = 60.0
AGAIN_SHARE = 0.1


class Latency(msgspec.Struct, frozen=True):
    """Percentiles through a server, and of the upstream asked directly right before."""

    round: int
    p50_us: float
    p99_us: float
    direct_p50_us: float
    direct_p99_us: float

    @property
    def added_p50_us(self) -> float:
        """What the server adds at the median."""
        return self.p50_us - self.direct_p50_us

    @property
    def added_p99_us(self) -> float:
        """What the server adds at the 99th percentile."""
        return self.p99_us - self.direct_p99_us


class Memory(msgspec.Struct, frozen=True):
    """Resident memory before many names were asked, after the first time, and after the second.

    `again_share` is the part of them that the server forwarded the second time.
    """

    round: int
    names: int
    before_mb: float
    after_mb: float
    again_mb: float
    again_share: float

    @property
    def name_bytes(self) -> float:
        """Growth for each name, asked once."""
        return (self.after_mb - self.before_mb) * (1 << 20) / self.names

    @property
    def hit_name_bytes(self) -> float:
        """Growth for each name, asked twice: some servers keep more of what was a hit."""
        return (self.again_mb - self.before_mb) * (1 << 20) / self.names

    @property
    def notes(self) -> list[str]:
        """What a reader must know before trusting it."""
        return ["not all were kept"] if self.again_share > AGAIN_SHARE else []


def time_latency(
    runner: Runner, peers: list[str], upstream: Server, number: int
) -> dict[str, Latency]:
    """Ask the upstream directly and each server at a fixed, moderate rate."""
    found = {}
    for peer in in_turn(peers, number):
        direct = _percentiles(runner, upstream)
        through = _percentiles(runner, runner.kept(peer))
        found[peer] = Latency(number, through.p50_us, through.p99_us, direct.p50_us, direct.p99_us)
        say(f"round {number + 1}: {LATENCY} {peer}")
    return found


def weigh(runner: Runner, peer: str, upstream: Server, number: int) -> Memory:
    """Ask a fresh server for many names once, then for the same ones again."""
    with runner.fresh(peer) as server:
        few = Load(path=runner.files.path(FEW_FILE), seconds=runner.settings.seconds)
        runner.run(few, server)
        time.sleep(SETTLE_S)
        before = measure.memory(server.pids())
        first_s = _upstream_s(runner, server, upstream)
        time.sleep(SETTLE_S)
        after = measure.memory(server.pids())
        again_s = _upstream_s(runner, server, upstream)
        time.sleep(SETTLE_S)
        again = measure.memory(server.pids())
    again_share = again_s / max(first_s, 0.01)
    return Memory(number, DISTINCT, before.rss_mb, after.rss_mb, again.rss_mb, again_share)


def _percentiles(runner: Runner, server: Server) -> load.Latency:
    one = Load(path=runner.files.path(NAMES_FILE), seconds=runner.settings.seconds, max_qps=QPS)
    found = load.run_latency(one, server.port, runner.cores.load)
    if not found:
        message = f"nothing was answered at {QPS} q/s: {server.log_text()[-500:]}"
        raise ServerError(message)
    return found


def _upstream_s(runner: Runner, server: Server, upstream: Server) -> float:
    """Ask the many names; return what CPU that cost the upstream."""
    pids = upstream.pids()
    before_s = measure.cpu_s(pids)
    runner.run(Load(path=runner.files.path(DISTINCT_FILE), limit_s=LIMIT_S), server)
    return measure.cpu_s(pids) - before_s
