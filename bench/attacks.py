"""What a server costs, and what a client of it sees, while it is attacked.

Attacks are those by which something gave way once, at twice the strength. The server has a core for
itself; on the other one are the attacker and a client that asks for what it may, 2,000 times a
second. "Normal" is the same attacker against a port that discards all, beside the same client, in
the same run of the server; so what is told is what the server does about it.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench import hostile, measure
from bench.hostile import STRANGER, Target, framed, swarm, together, udp_flood
from bench.hostile_peers import hostile_api, upstream
from bench.load import HOST
from bench.measure import pinned
from bench.peers import OURS, PEERS, Command, Site
from bench.probe import NOERROR, Expected, Probe, Probed
from bench.queries import plain_message
from bench.runner import in_turn, say
from bench.scenarios import ATTACKS
from bench.servers import Server, free_port, running
from bench.world import Endpoint, Service, World, build_world, write_manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.measure import Cores
    from bench.runner import Settings

QUIET_S = 1.0
READY_S = 60.0
HEALTH_EVERY_S = 0.2
HEALTH_LIMIT_S = 5.0
"""As the kubelet's in deploy/."""
ENDPOINTS = 4_500
QUESTIONS = 200
FILES = 512
LIMIT = re.compile(r"limits:\s+memory: (\d+)Gi")
BIG = "big.ns-000.svc.clusterset.local"


class Attack(msgspec.Struct, frozen=True):
    """An attack: who sends; the settings of the server; what is asked beside it.

    `mode` is what a hostile API server does; then there is no other attacker.
    """

    name: str
    attacker: Callable[[Target, float], int] | None = None
    settings: tuple[str, ...] = ()
    forwards: bool = False
    before: tuple[str, ...] = ()
    mode: str = ""


def _fresh(number: int) -> bytes:
    return plain_message((f"silent-{number:x}.example", "A"))


_SRV = plain_message((f"_http._tcp.{BIG}", "SRV"))
_FORWARDED = ("--cache-entries", "0", "--forward-limit", "256")
FEW_FILES = ("prlimit", f"--nofile={FILES}:{FILES}")
ALL = {
    f"{ATTACKS}/{one.name}": one
    for one in (
        Attack("tcp-unread", swarm(200, framed(BIG, "A", 128))),
        Attack(
            "tcp-unread-forwarded", swarm(200, framed("large.example", "A", 128)), forwards=True
        ),
        Attack("tcp-pipelined", swarm(20, framed(f"_http._tcp.{BIG}", "SRV", 256), reads=True)),
        Attack("srv-flood", udp_flood(lambda _: _SRV, 600)),
        Attack("http-heads", swarm(128, hostile.HEAD + hostile.FIELD * 120, http=True)),
        Attack("http-connects", hostile.connect_flood(8_400)),
        Attack("silent-zone", udp_flood(_fresh, 600, STRANGER), _FORWARDED, forwards=True),
        Attack(
            "files",
            together(swarm(2 * FILES, b""), swarm(320, b"", http=True)),
            before=FEW_FILES,
        ),
        Attack("bad-objects", mode="objects"),
        Attack("gzip-bomb", mode="gzip"),
        Attack("endless-page", mode="endless"),
    )
}


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of one attack showed.

    `memory_mb` is the most of resident memory and of what the kernel held for TCP, both ends;
    `turn_ms` the longest turn of the loop, `turn_cpu_ms` that with most CPU.
    """

    round: int
    normal: Probed
    attacked: Probed
    memory_mb: float
    kernel_mb: float
    turn_ms: float
    turn_cpu_ms: float
    normal_turn_ms: float
    healthy: int
    unhealthy: int
    server_share: float
    sent: int
    normal_sent: int
    log_lines: int

    @property
    def lost(self) -> int:
        """Questions that got no answer, or a wrong one."""
        return self.attacked.missing + self.attacked.wrong

    @property
    def times_p99(self) -> float:
        """By how much the client waits longer than beside the same traffic to another port."""
        return self.attacked.p99_ms / self.normal.p99_ms if self.normal.p99_ms else 0.0

    @property
    def health(self) -> float:
        """The share of /healthz that was answered."""
        return self.healthy / max(1, self.healthy + self.unhealthy)


def measure_attacks(
    chosen: list[str], servers: list[str], settings: Settings, cores: Cores, folder: Path
) -> dict[str, dict[str, list[Attacked]]]:
    """Measure attacks, round by round, each server right after the other."""
    peers = [name for name in PEERS if name in servers and name.startswith((OURS, "before"))]
    folder.mkdir()
    world = _with_big(build_world(settings.services, settings.seed))
    write_manifests(world, folder / "manifests")
    found: dict[str, dict[str, list[Attacked]]] = {
        name: {peer: [] for peer in peers} for name in chosen
    }
    with pinned(cores.load):
        for number in range(settings.rounds):
            for name in chosen:
                for peer in in_turn(peers, number):
                    own = folder / f"{peer}-{number}-{ALL[name].name}"
                    own.mkdir()
                    one = _Measuring(ALL[name], peer, world, own, cores)
                    attacked = one.run(number, settings.seconds)
                    found[name][peer].append(attacked)
                    say(
                        f"round {number + 1}: {name} {peer} {attacked.lost} lost, "
                        f"{attacked.memory_mb:.0f} MB, turn {attacked.turn_ms:.1f} ms"
                    )
    return found


def memory_limit_mb() -> int:
    """Return the limit of the stub target in deploy/."""
    base = Path(__file__).parent.parent / "deploy" / "kustomize" / "base" / "deployment.yaml"
    limit = LIMIT.search(base.read_text())
    assert limit
    return int(limit[1]) << 10


class _Measuring:
    """One server, attacked once."""

    def __init__(self, attack: Attack, peer: str, world: World, folder: Path, cores: Cores) -> None:
        self._attack = attack
        self._peer = peer
        self._world = world
        self._folder = folder
        self._cores = cores
        self._turns = folder / "turns"

    def run(self, number: int, seconds: float) -> Attacked:
        attack, core = self._attack, self._cores.load
        with contextlib.ExitStack() as stack:
            more = list(attack.settings)
            api = None
            if attack.forwards:
                more += ["--upstream", f"{HOST}:{stack.enter_context(upstream(core))}"]
            if attack.mode:
                api = stack.enter_context(hostile_api(core, self._world))
                more += ["--kubeconfig", str(api.write_kubeconfig(self._folder / "kubeconfig"))]
            else:
                more += ["--manifests", str(self._folder.parent / "manifests")]
            discarding = Target(*[stack.enter_context(hostile.sink(core))] * 2)
            server, at = stack.enter_context(self._server(more))
            expected = self._expected()
            server.wait_answer((self._world.services[-2].owner, "A"))  # all of it is read
            server.wait_answer(expected[0].question)
            with Health(at.http) as health:
                health.wait()
                probe = stack.enter_context(Probe(server.port, core, expected))
                time.sleep(QUIET_S)
                probe.mark()
                began = time.monotonic()
                if api is not None:
                    discard = swarm(2, api.discard(attack.mode).encode(), reads=True, mb_s=1e-6)
                    normal_sent = hostile.attack(discard, Target(api.port, 0), seconds, core)
                else:
                    assert attack.attacker
                    normal_sent = hostile.attack(attack.attacker, discarding, seconds, core)
                normal_turn_ms, _ = self._longest(began)
                probe.mark()
                time.sleep(QUIET_S)
                probe.mark()
                health.reset()
                began, lines = time.monotonic(), server.log_text().count("\n")
                with Memory(server) as memory:
                    cpu_s = measure.cpu_s(server.pids())
                    if api is not None:
                        api.turn(attack.mode)
                        time.sleep(seconds)
                        sent = 0
                    else:
                        assert attack.attacker
                        sent = hostile.attack(attack.attacker, at, seconds, core)
                    cpu_s = measure.cpu_s(server.pids()) - cpu_s
                lasted_s = time.monotonic() - began
                probe.mark()
                turn_ms, turn_cpu_ms = self._longest(began)
                parts = probe.finish()
                lines = server.log_text().count("\n") - lines
                return Attacked(
                    round=number,
                    normal=parts[1],
                    attacked=parts[3],
                    memory_mb=memory.most_mb,
                    kernel_mb=memory.kernel_mb,
                    turn_ms=turn_ms,
                    turn_cpu_ms=turn_cpu_ms,
                    normal_turn_ms=normal_turn_ms,
                    healthy=health.good,
                    unhealthy=health.bad,
                    server_share=cpu_s / lasted_s,
                    sent=sent,
                    normal_sent=normal_sent,
                    log_lines=lines,
                )

    @contextlib.contextmanager
    def _server(self, more: list[str]) -> Iterator[tuple[Server, Target]]:
        port, http_port = free_port(), free_port()
        site = Site(self._folder, port, 0, Path(), Path())
        python = PEERS[self._peer].configure(site).arguments
        python = python[: python.index("-m")]
        script = str(Path(__file__).parent / "turns.py")
        flags = ["--listen", f"{HOST}:{port}", "--admin", "none", "--lameduck", "0"]
        command = Command(
            [
                *(*self._attack.before, *python, script, str(self._turns), "mcsdns", "serve"),
                *(*flags, "--probes", f"{HOST}:{http_port}", *more),
            ]
        )
        with running(command, port, self._cores.server, self._folder) as server:
            yield server, Target(port, http_port)

    def _expected(self) -> list[Expected]:
        if self._attack.forwards and self._attack.settings:
            names = [f"good.n{number}.example" for number in range(QUESTIONS)]
            return [Expected((name, "A"), NOERROR, ("192.0.2.1",)) for name in names]
        return [
            Expected((one.owner, "A"), NOERROR, (one.ip,))
            for one in self._world.services
            if not one.headless
        ][:QUESTIONS]

    def _longest(self, since_s: float) -> tuple[float, float]:
        """Return the longest turn since then, and the one with most CPU, in milliseconds."""
        most_ms = most_cpu_ms = 0.0
        for line in self._turns.read_text().splitlines():
            at_s, lasted_ms, cpu_ms = map(float, line.split())
            if at_s >= since_s:
                most_ms, most_cpu_ms = max(most_ms, lasted_ms), max(most_cpu_ms, cpu_ms)
        return most_ms, most_cpu_ms


class Health:
    """Asks for /healthz again and again, as the kubelet does, in a thread."""

    def __init__(self, port: int) -> None:
        """Start nothing yet."""
        self.good = self.bad = 0
        self._port = port
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Health:
        """Begin to ask."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ends.set()
        self._thread.join()

    def wait(self) -> None:
        """Wait for the first good answer."""
        deadline = time.monotonic() + READY_S
        while not self.good and time.monotonic() < deadline:
            time.sleep(0.01)

    def reset(self) -> None:
        """Count from here."""
        self.good = self.bad = 0

    def _run(self) -> None:
        while not self._ends.wait(HEALTH_EVERY_S):
            asking = http.client.HTTPConnection(HOST, self._port, timeout=HEALTH_LIMIT_S)
            try:
                asking.request("GET", "/healthz", headers={"Connection": "close"})
                is_good = asking.getresponse().status == http.HTTPStatus.OK
            except OSError:
                is_good = False
            finally:
                asking.close()
            self.good += is_good
            self.bad += not is_good


class Memory:
    """The most memory of a server while the block runs; in a thread, since it comes and goes."""

    def __init__(self, server: Server) -> None:
        """Start nothing yet."""
        self.most_mb = self.kernel_mb = 0.0
        self._pids = server.pids()
        self._before_mb = _tcp_mb()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(0.05):
            kernel_mb = max(0.0, _tcp_mb() - self._before_mb)
            rss_mb = sum(map(_rss_mb, self._pids))
            self.kernel_mb = max(self.kernel_mb, kernel_mb)
            self.most_mb = max(self.most_mb, rss_mb + kernel_mb)


def _tcp_mb() -> float:
    """Return what the kernel holds for all TCP connections (man 5 proc, sockstat: in pages)."""
    text = Path("/proc/net/sockstat").read_text()
    pages = re.search(r"^TCP: .*mem (\d+)$", text, re.MULTILINE)
    assert pages
    return int(pages[1]) * 4096 / (1 << 20)


def _rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(resident[1]) / 1024 if resident else 0.0
    return 0.0


def _with_big(world: World) -> World:
    """Return a world with one more service, headless and large."""
    places = range(ENDPOINTS)
    endpoints = tuple(
        Endpoint(f"pod-{place}", f"10.200.{place >> 8}.{place & 255}") for place in places
    )
    big = Service(len(world.services), "ns-000", "big", "", {"eu": endpoints, "us": ()})
    return World((*world.services, big))
