"""The longest gap in answers while a server lists a whole world anew.

The API server is killed and started again, after a write to something that is not watched: the
watch cache then begins at a resource version above that of the watches, which end with 410, and
everything is listed again. (Without the write they would just go on.) A probe asks one server all
the while; only that server runs, so that nothing else needs its core.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import msgspec

from bench import measure
from bench.load import Load
from bench.probe import NOERROR, NXDOMAIN, Expected, Probe, Probed
from bench.queries import unknown_questions
from bench.servers import ServerError
from bench.sync import wait_whole
from bench.world import Endpoint, Service, World, api_objects

if TYPE_CHECKING:
    from bench.cluster import Cluster
    from bench.runner import Runner
    from bench.servers import Server

QUESTIONS = 2_000
QUIET_S = 3.0
LOOK_S = 0.5
CALM_LOOKS = 4
CALM_SHARE = 0.1
LIMIT_S = 120.0
EVERY_LIMIT_S = 120.0
MARK = "relisted"


class Relist(msgspec.Struct, frozen=True):
    """One re-list: before it, and from the kill until the server had been calm for a while.

    `cpu_s` is without what the probe's queries cost before. `core_wait_s` is how long the server
    waited for its core: where that is much, something else made the gap.
    """

    round: int
    seconds: float
    cpu_s: float
    core_wait_s: float
    before: Probed
    during: Probed

    @property
    def gap_ms(self) -> float:
        """The longest gap while everything was listed anew."""
        return self.during.gap_ms

    @property
    def p999_ms(self) -> float:
        """The delay that one answer of a thousand passed."""
        return self.during.p999_ms

    @property
    def failures(self) -> int:
        """Answers that were wrong or did not come."""
        return self.during.wrong + self.during.missing


def time_relist(runner: Runner, cluster: Cluster, peer: str, world: World, number: int) -> Relist:
    """Start one server, probe it, restart the API server, and go on until the server is calm."""
    expected = expected_answers(world, runner.settings.seed)
    with runner.start(peer) as server:
        wait_whole(server, world)
        every = Load(path=runner.files.path("every"), limit_s=EVERY_LIMIT_S)
        runner.run(every, server)
        time.sleep(QUIET_S)
        with Probe(server.port, runner.cores.load, expected) as probe:
            calm_share = _share(server, QUIET_S)  # what the probe costs
            probe.mark()
            began, pids = time.monotonic(), server.pids()
            cpu_before_s, wait_before_s = measure.cpu_s(pids), measure.core_wait_s(pids)
            _relist(cluster, server, f"{MARK}-{peer}-{number}")
            _wait_calm(server, calm_share + CALM_SHARE)
            seconds = time.monotonic() - began - CALM_LOOKS * LOOK_S
            cpu_s = measure.cpu_s(pids) - cpu_before_s
            wait_s = measure.core_wait_s(pids) - wait_before_s
            before, during = probe.finish()
    probe_cpu_s = calm_share * QUIET_S * during.asked / max(before.asked, 1)
    return Relist(number, seconds, cpu_s - probe_cpu_s, wait_s, before, during)


def expected_answers(world: World, seed: int) -> list[Expected]:
    """Return questions of all kinds with the addresses that are right, a tenth of them unknown."""
    rng = random.Random(seed)
    drawn = rng.choices(world.services, k=QUESTIONS * 9 // 10)
    known = [_expected(one, host=number % 4 == 0) for number, one in enumerate(drawn)]
    unknown = [
        Expected(question, NXDOMAIN, ())
        for question in unknown_questions(world, QUESTIONS // 10, "relist")
    ]
    mixed = known + unknown
    rng.shuffle(mixed)
    return mixed


def _expected(service: Service, *, host: bool) -> Expected:
    if not service.headless:
        return Expected((service.owner, "A"), NOERROR, (service.ip,))
    hosts = list(service.hosts)
    if host:
        return Expected((hosts[0][0], "A"), NOERROR, (hosts[0][1],))
    return Expected((service.owner, "A"), NOERROR, tuple(address for _, address in hosts))


def _relist(cluster: Cluster, server: Server, label: str) -> None:
    """Restart the API server, and wait until the server follows both resources again."""
    unwatched = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": label}}
    cluster.add([unwatched])
    cluster.kill()
    cluster.start()
    address = "172.31.255.1"
    endpoints: dict[str, tuple[Endpoint, ...]] = {"eu": (Endpoint(f"{label}-0", address),)}
    marks = World(
        (
            Service(0, "ns-000", f"{label}-headless", "", endpoints),
            Service(0, "ns-000", f"{label}-address", address, endpoints),
        )
    )
    given = list(api_objects(marks))
    cluster.add(given)
    wait_whole(server, marks)
    for one in (*given, unwatched):
        cluster.delete(one)


def _wait_calm(server: Server, share: float) -> None:
    """Wait until the server used no more than a share of its core for a while."""
    deadline = time.monotonic() + LIMIT_S
    calm = 0
    while calm < CALM_LOOKS:
        calm = calm + 1 if _share(server, LOOK_S) < share else 0
        if time.monotonic() > deadline:
            message = f"still busy {LIMIT_S:.0f} s after the API server came back"
            raise ServerError(message)


def _share(server: Server, seconds: float) -> float:
    """Return the share of a core that a server uses for some time from now."""
    pids = server.pids()
    before_s, began = measure.cpu_s(pids), time.monotonic()
    time.sleep(seconds)
    return (measure.cpu_s(pids) - before_s) / (time.monotonic() - began)
