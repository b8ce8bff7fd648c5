"""The scenarios whose objects come from an API server, one after the other on the same one.

Each server is pinned to the server core; the API server is on the load core, with the load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bench.cluster import cluster, why_not
from bench.ordinary import Ordinary, measure_ordinary
from bench.peers import API_PEERS, OURS, has_flag
from bench.relist import Relist, time_relist
from bench.runner import Runner, interleaved
from bench.scenarios import (
    API,
    API_ORDINARY,
    API_RELIST,
    API_SNAPSHOT,
    API_SYNC,
    API_WRITE,
    SCENARIOS,
)
from bench.snapshot import FLAG, Snapshot, time_snapshot
from bench.sync import Sync, time_sync
from bench.world import api_objects, namespace_objects
from bench.writes import Writes, time_writes

if TYPE_CHECKING:
    from bench.cluster import Cluster
    from bench.measure import Cores
    from bench.runner import Files, Sample, Settings
    from bench.world import World


class Api(msgspec.Struct, kw_only=True):
    """Everything measured with an API server, by server; `skipped` says what was not, and why."""

    skipped: list[str] = []
    samples: dict[str, dict[str, list[Sample]]] = {}
    sync: dict[str, list[Sync]] = {}
    writes: dict[str, list[Writes]] = {}
    relist: dict[str, list[Relist]] = {}
    snapshot: Snapshot | None = None
    ordinary: Ordinary | None = None


def measure_api(
    chosen: list[str],
    servers: list[str],
    world: World,
    files: Files,
    settings: Settings,
    cores: Cores,
) -> Api:
    """Start an API server, fill it, and measure the chosen scenarios; or say why that cannot be."""
    api = Api()
    peers = [name for name in API_PEERS if name in servers]
    reason = why_not() if peers else f"none of {', '.join(API_PEERS)} is measured"
    if reason:
        api.skipped.append(f"{len(chosen)} scenarios that begin with {API}/: {reason}")
        return api
    if set(chosen) != {API_ORDINARY}:
        with cluster(
            files.folder / "apiserver", cores.load, builtin_slices=not settings.crd_slices
        ) as one:
            one.fill(namespace_objects(world.namespaces), api_objects(world))
            fed = msgspec.structs.replace(files, kubeconfig=one.kubeconfig)
            with Runner(settings, cores, fed, API_PEERS) as runner:
                _measure_world(api, chosen, peers, runner, one, world)
    if API_ORDINARY in chosen and OURS in peers:
        with cluster(
            files.folder / "apiserver-ordinary", cores.load, builtin_slices=not settings.crd_slices
        ) as one:
            runner = Runner(settings, cores, files, API_PEERS)
            api.ordinary = measure_ordinary(runner, one, peers)
    return api


def _measure_world(
    api: Api, chosen: list[str], peers: list[str], runner: Runner, one: Cluster, world: World
) -> None:
    """Measure what needs the world, from what leaves it alone to what kills the API server."""
    if API_SYNC in chosen:
        api.sync = interleaved(
            runner, peers, API_SYNC, lambda peer, n: time_sync(runner, peer, world, n)
        )
    queries = [name for name in chosen if name in SCENARIOS]
    api.samples = runner.measure_all(queries, peers)
    runner.stop()
    if API_WRITE in chosen:
        found = interleaved(
            runner, peers, API_WRITE, lambda peer, n: time_writes(runner, one, peer, world, n)
        )
        api.writes = {
            peer: [one for pair in pairs for one in pair] for peer, pairs in found.items()
        }
    if API_RELIST in chosen:
        api.relist = interleaved(
            runner, peers, API_RELIST, lambda peer, n: time_relist(runner, one, peer, world, n)
        )
    if API_SNAPSHOT in chosen and OURS in peers:
        if has_flag(FLAG):
            api.snapshot = time_snapshot(runner, one, world)
        else:
            api.skipped.append(f"{API_SNAPSHOT}: this mcsdns has no {FLAG}")
