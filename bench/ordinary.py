"""What a cluster's own endpoints cost: the same ten exported services, alone and among many others.

The Services of the others are left out, which CoreDNS would hold as well.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from bench import measure
from bench.peers import OURS
from bench.runner import Runner, say
from bench.sync import SETTLE_S, wait_whole
from bench.world import api_objects, build_world, namespace_objects, ordinary_slices

if TYPE_CHECKING:
    from bench.cluster import Cluster

EXPORTED = 10
ENDPOINTS_PER_SERVICE = 10


class Memory(msgspec.Struct, frozen=True):
    """Resident memory of one server: with the exported services alone, and among all others."""

    round: int
    alone_rss_mb: float
    alone_pss_mb: float
    among_rss_mb: float
    among_pss_mb: float


class Ordinary(msgspec.Struct, frozen=True):
    """The memory of each server, and among how many endpoints."""

    exported: int
    endpoints: int
    memory: dict[str, list[Memory]]


def measure_ordinary(runner: Runner, cluster: Cluster, peers: list[str]) -> Ordinary:
    """Fill a cluster with few services, then with many slices of no concern."""
    exported = build_world(EXPORTED, runner.settings.seed)
    services = runner.settings.services
    namespaces = sorted({one["metadata"]["namespace"] for one in ordinary_slices(services, 0)})
    cluster.fill(namespace_objects(namespaces), api_objects(exported))
    inner = Runner(
        runner.settings,
        runner.cores,
        msgspec.structs.replace(runner.files, kubeconfig=cluster.kubeconfig),
        runner.peers,
    )

    def resident(peer: str) -> measure.Memory:
        with inner.start(peer) as server:
            wait_whole(server, exported)
            time.sleep(SETTLE_S)
            return measure.memory(server.pids())

    rounds = range(runner.settings.rounds)
    alone = [{peer: resident(peer) for peer in peers} for _ in rounds]
    cluster.add(ordinary_slices(services, ENDPOINTS_PER_SERVICE))
    among = [{peer: resident(peer) for peer in peers} for _ in rounds]
    found = {
        peer: [
            Memory(
                number,
                alone[number][peer].rss_mb,
                alone[number][peer].pss_mb,
                among[number][peer].rss_mb,
                among[number][peer].pss_mb,
            )
            for number in rounds
        ]
        for peer in peers
    }
    say(f"ordinary endpoints: {OURS} {found[OURS][0].among_rss_mb:.1f} MB resident")
    return Ordinary(EXPORTED, services * ENDPOINTS_PER_SERVICE, found)
