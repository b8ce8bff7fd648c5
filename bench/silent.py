"""What the clusterset's own names lose while many others go to an upstream that never answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from bench import measure
from bench.flood import Flooded, flood
from bench.probe import NOERROR, Expected, Probe, Probed
from bench.runner import Runner
from bench.upstream import ZONE, silent

if TYPE_CHECKING:
    from bench.world import World

QPS = 20_000
SECONDS = 10.0
QUIET_S = 2.0
QUESTIONS = 200


class Silence(msgspec.Struct, frozen=True):
    """What a probe of the clusterset's names saw before and meanwhile; and the load's own fate."""

    round: int
    before: Probed
    during: Probed
    flooded: Flooded
    server_share: float
    rss_mb: float

    @property
    def failures(self) -> int:
        """Answers that were wrong or did not come."""
        return self.during.wrong + self.during.missing


def measure_silence(runner: Runner, peer: str, world: World, number: int) -> Silence:
    """Start a server with a silent upstream, probe its zone, and send it what it must forward."""
    expected = [
        Expected((one.owner, "A"), NOERROR, (one.ip,)) for one in world.services if not one.headless
    ][:QUESTIONS]
    with silent() as port:
        files = msgspec.structs.replace(runner.files, upstream_port=port)
        inner = Runner(runner.settings, runner.cores, files, runner.peers)
        with inner.fresh(peer) as server:
            pids = server.pids()
            with Probe(server.port, runner.cores.load, expected) as probe:
                time.sleep(QUIET_S)
                probe.mark()
                before_s = measure.cpu_s(pids)
                flooded = flood(server.port, runner.cores.load, f"svc.{ZONE}", QPS, SECONDS)
                cpu_s = measure.cpu_s(pids) - before_s
                before, during = probe.finish()
            rss_mb = measure.memory(pids).rss_mb
    return Silence(
        number,
        before,
        during,
        flooded,
        cpu_s / flooded.seconds,
        rss_mb,
    )
