"""Runs everything for a while, takes a sample each second, and says what was wrong and lost.

On one core mcsdns, on the other all else: a real API server whose objects are changed by threads,
two upstreams, and the questions. The API server is killed and stopped in turn, the upstreams one
after the other; half of a core is what mcsdns is given to do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench import measure
from bench.load import HOST
from bench.measure import pinned
from bench.peers import Command
from bench.queries import plain_message
from bench.runner import say
from bench.servers import free_port, running
from bench.soak.load import LAG_S, Counts, Load
from bench.soak.world import World
from bench.world import namespace_objects
from tests.apiserver.build import APISERVER
from tests.apiserver.process import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measure import Cores
    from bench.servers import Server
    from bench.soak.model import Service
    from bench.soak.world import Made, Write

EVENTS_A_SECOND: Final = 100
THREADS: Final = 8
SHARE: Final = 0.5
FIRST_RATE, MOST_RATE = 2000.0, 30_000.0
API_EVERY: Final = 6  # so many parts the run has between restarts of the API server
API_AWAY_S: Final = 12.0
UPSTREAM_EVERY_S: Final = 45.0
UPSTREAM_AWAY_S: Final = 5.0
SCRAPE_S: Final = 15.0
CACHED: Final = re.compile(rb"^mcsdns_(?:kept|cache)_bytes(?:{.*})? (.*)$", re.MULTILINE)
BACK_LIMIT_S: Final = 300.0


class Sample(msgspec.Struct):
    """What one second was like; times are seconds since the begin.

    `cached_mb` is what mcsdns says that its caches hold, `share` how much of a core it used, and
    `waited` the share of the time in which it could have run but had no core: others had it.
    """

    at_s: float
    asked: int
    by_tcp: int
    wrong: int
    lost: int
    p50_ms: float
    p99_ms: float
    most_ms: float
    oldest_s: float
    rss_mb: float
    cached_mb: float
    share: float
    waited: float
    events: int


class Report(msgspec.Struct):
    """A whole run; `api_away` and `upstream_away` are begins and ends, in seconds since the begin.

    `api_away` ends when answers showed what was written after it was back.
    """

    machine: dict[str, Any]
    rate: float
    samples: list[Sample]
    api_away: list[tuple[float, float]]
    upstream_away: list[tuple[float, float]]
    examples: list[str]
    log: list[str]


class Writer:
    """Changes objects from threads, each of them some services, and tells the model."""

    def __init__(self, api: ApiServer, world: World, rate: float) -> None:
        """Start nothing yet."""
        self.events = 0
        self._api = api
        self._world = world
        self._pause_s = THREADS / rate
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(world.services[at::THREADS], at))
            for at in range(THREADS)
        ]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Change objects meanwhile; in the end all that was sent stands."""
        for each in self._threads:
            each.start()
        try:
            yield
        finally:
            self._ending.set()
            for each in self._threads:
                each.join()

    def _run(self, services: list[Made], seed: int) -> None:
        rng = random.Random(seed)
        next_s = time.monotonic()
        while not self._ending.wait(max(0.0, next_s - time.monotonic())):
            next_s = max(next_s + self._pause_s, time.monotonic() - 1)
            self.write(self._world.event(rng.choice(services), rng))
            self.events += 1

    def write(self, write: Write) -> None:
        """Write until the API server has taken it: one that was killed may have, or not."""
        write.service.send(write.history, write.value, time.time())
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                status = self._api.request(write.method, write.path, write.body).status
                if status < 300 or (write.method, status) in {("POST", 409), ("DELETE", 404)}:
                    break
                if status < 500 and status != 429:
                    say(f"{write.method} {write.path}: {status}")
            time.sleep(0.2)
        write.service.ack(write.history, time.time())


class Run:
    """One soak."""

    def __init__(self, options: argparse.Namespace, folder: Path, cores: Cores) -> None:
        """Start nothing yet."""
        self._seconds = options.minutes * 60
        self._folder = folder
        self._cores = cores
        self._world = World(options.seed)
        self._api = ApiServer(folder / "api", builtin_slices=True)
        self._writer = Writer(self._api, self._world, EVENTS_A_SECOND)
        self._upstreams = [free_port(), free_port()]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._began_s = 0.0
        self._beacons = 0
        self._cached_mb = 0.0
        self.samples: list[Sample] = []
        self.upstream_away: list[tuple[float, float]] = []

    def run(self) -> Report:
        """Do all of it."""
        facts = measure.machine_facts(self._cores)
        with contextlib.ExitStack() as stack:
            stack.callback(self._api.kill)
            with pinned(self._cores.load):
                self._api.start()
            self._api.install_crds("v1beta1")
            say("creating objects")
            self._api.create_many(namespace_objects(self._world.namespaces))
            self._api.create_many(self._world.objects())
            stack.callback(self._end_upstreams)
            for port in self._upstreams:
                self._start_upstream(port)
            server, probes = stack.enter_context(self._serving())
            server.wait_answer((self._world.services[0].service.owner, "A"))
            wait_for_ready(probes)
            load = Load(server.port, self._world.questions(random.Random(2)))
            os.sched_setaffinity(0, {self._cores.load})
            sys.setswitchinterval(0.0005)
            with self._writer.running():
                asyncio.run(self._ask(load, server, probes))
            say("all that was written stands; asking for everything once more")
            time.sleep(LAG_S)
            asyncio.run(load.ask_all(self._world.final()))
            self._sample(load, server, [1.0, 0.0, 0.0, 0])
            log = server.log_text().splitlines()
        return Report(
            machine=facts,
            rate=load.rate,
            samples=self.samples,
            api_away=[self._span(begin, end or time.time()) for begin, end in load.outages],
            upstream_away=[self._span(*each) for each in self.upstream_away],
            examples=load.examples,
            log=log,
        )

    def _span(self, begin_s: float, end_s: float) -> tuple[float, float]:
        return begin_s - self._began_s, end_s - self._began_s

    # Processes

    @contextlib.contextmanager
    def _serving(self) -> Iterator[tuple[Server, int]]:
        port, probes = free_port(), free_port()
        flags = ["--kubeconfig", str(self._api.kubeconfig), "--listen", f"{HOST}:{port}"]
        flags += ["--probes", f"{HOST}:{probes}", "--admin", "none"]
        flags += ["--snapshot", str(self._folder / "snapshot")]
        flags += [f"--upstream={HOST}:{each}" for each in self._upstreams]
        command = Command([sys.executable, "-m", "mcsdns", "serve", *flags])
        with running(command, port, self._cores.server, self._folder) as server:
            yield server, probes

    def _start_upstream(self, port: int) -> None:
        command = [sys.executable, "-m", "bench.soak.upstream", str(port)]
        with pinned(self._cores.load):
            self._processes[port] = subprocess.Popen(command)

    def _end_upstreams(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    # While it is asked

    async def _ask(self, load: Load, server: Server, probes: int) -> None:
        asking = asyncio.create_task(load.run())
        load.rate = FIRST_RATE
        for _ in range(4):
            load.rate = await self._rate(load, server)
        load.counts = Counts()
        load.examples.clear()
        say(f"{load.rate:,.0f} questions a second by UDP for {self._seconds / 60:g} minutes")
        self._began_s = time.time()
        others = [
            asyncio.create_task(each)
            for each in (
                self._sampling(load, server),
                self._scraping(probes),
                self._restarting_api(load, server.port),
                self._restarting_upstreams(),
            )
        ]
        await asyncio.sleep(self._seconds)
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    async def _rate(self, load: Load, server: Server) -> float:
        """Return at which rate this load takes half of a core."""
        pids, asked = server.pids(), load.asked
        before_s, began_s = measure.cpu_s(pids), time.monotonic()
        await asyncio.sleep(5)
        cpu_s, wall_s = measure.cpu_s(pids) - before_s, time.monotonic() - began_s
        asked = load.asked - asked
        say(f"{asked / wall_s:,.0f} questions a second: {cpu_s / wall_s:.0%} of a core")
        return min(MOST_RATE, SHARE / max(cpu_s, 0.01) * asked)

    async def _sampling(self, load: Load, server: Server) -> None:
        pids = server.pids()
        before = self._counted(pids)
        while True:
            await asyncio.sleep(1)
            after = self._counted(pids)
            self._sample(
                load, server, [now - then for now, then in zip(after, before, strict=True)]
            )
            before = after
            for made in self._world.services:
                made.service.forget(load.since_s(time.time()) - 2 * LAG_S)

    def _counted(self, pids: list[int]) -> list[float]:
        cpu_s, waited_s = measure.cpu_s(pids), measure.core_wait_s(pids)
        return [time.monotonic(), cpu_s, waited_s, self._writer.events]

    def _sample(self, load: Load, server: Server, passed: list[float]) -> None:
        """Note what passed since the last one: seconds, those of `_counted`, events."""
        counts, load.counts = load.counts, Counts()
        delays = sorted(counts.delays) or [0.0]
        wall_s, cpu_s, waited_s, events = passed
        sample = Sample(
            at_s=time.time() - self._began_s,
            asked=counts.asked,
            by_tcp=counts.by_tcp,
            wrong=counts.wrong,
            lost=counts.lost,
            p50_ms=statistics.median(delays),
            p99_ms=delays[len(delays) * 99 // 100],
            most_ms=delays[-1],
            oldest_s=counts.oldest_s,
            rss_mb=measure.memory(server.pids()).rss_mb,
            cached_mb=self._cached_mb,
            share=cpu_s / wall_s,
            waited=waited_s / wall_s,
            events=int(events),
        )
        self.samples.append(sample)
        if counts.wrong or counts.lost:
            say(f"{sample.at_s:.0f} s: {counts.wrong} wrong, {counts.lost} lost")

    async def _scraping(self, probes: int) -> None:
        while True:
            await asyncio.sleep(SCRAPE_S)
            text = await asyncio.to_thread(get, f"http://{HOST}:{probes}/metrics")
            self._cached_mb = sum(map(float, CACHED.findall(text))) / (1 << 20)

    async def _restarting_api(self, load: Load, port: int) -> None:
        """Kill the API server and stop it, in turn; it is back once answers show new objects."""
        for number in range(1, API_EVERY):
            await asyncio.sleep(
                max(0.0, self._began_s + self._seconds * number / API_EVERY - time.time())
            )
            load.outages.append((time.time(), None))
            await asyncio.to_thread(self._api.kill if number % 2 else self._api.stop)
            await asyncio.sleep(API_AWAY_S)
            with pinned(self._cores.load):
                await asyncio.to_thread(self._api.start)
            started_s = time.time()
            await asyncio.to_thread(self._wait_for_beacon, port)
            load.outages[-1] = (load.outages[-1][0], time.time())
            say(f"the API server's objects are answered {time.time() - started_s:.1f} s after it")

    def _wait_for_beacon(self, port: int) -> None:
        self._beacons += 1
        address = f"10.255.{self._beacons >> 8}.{self._beacons & 255}"
        for write in self._world.beacon(address):
            self._writer.write(write)
            deadline_s = time.monotonic() + BACK_LIMIT_S
            while not answers(port, write.service, address):
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"{write.path} is not seen")
                time.sleep(0.05)

    async def _restarting_upstreams(self) -> None:
        """Kill one upstream after the other, never both."""
        while True:
            for port in self._upstreams:
                await asyncio.sleep(UPSTREAM_EVERY_S)
                began_s = time.time()
                self._processes[port].kill()
                await asyncio.to_thread(self._processes[port].wait)
                await asyncio.sleep(UPSTREAM_AWAY_S)
                self._start_upstream(port)
                self.upstream_away.append((began_s, time.time()))


def answers(port: int, service: Service, address: str) -> bool:
    """Ask once whether a service has an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect((HOST, port))
        sock.send(plain_message((service.owner, "A")))
        with contextlib.suppress(TimeoutError):
            return socket.inet_aton(address) in sock.recv(4096)
    return False


def get(url: str) -> bytes:
    """Read a page."""
    with urllib.request.urlopen(url, timeout=30) as response:
        content: bytes = response.read()
        return content


def wait_for_ready(probes: int) -> None:
    """Wait until everything is read."""
    while True:
        with contextlib.suppress(OSError):
            if get(f"http://{HOST}:{probes}/readyz").startswith(b"ready"):
                return
        time.sleep(0.1)


def main() -> int:
    """Run it; status 1 where something was wrong or lost."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("build/soak.json"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    APISERVER.binary(build=True)
    with tempfile.TemporaryDirectory(prefix="mcsdns-soak-", ignore_cleanup_errors=True) as name:
        report = Run(options, Path(name), measure.choose_cores()).run()
    options.json.parent.mkdir(exist_ok=True)
    options.json.write_bytes(msgspec.json.encode(report))
    totals = {
        what: sum(getattr(each, what) for each in report.samples)
        for what in ("asked", "by_tcp", "wrong", "lost", "events")
    }
    for line in report.examples:
        print(line)
    print(", ".join(f"{number:,} {what}" for what, number in totals.items()))
    return 1 if totals["wrong"] or totals["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
