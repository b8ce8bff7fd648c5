"""What is lost at a steady rate while servers come and go: `make bench-losses`.

Two questions whose answers depend on how fast the machine is, so no test asks them: how many of
10,000 queries a second fail while two instances behind Unbound are restarted one after the other,
and how many of 5,000 forwarded ones while the first of two upstreams is killed or stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bench import load, upstream
from bench.load import HOST, Load
from bench.measure import choose_cores
from bench.peers import Command, Site
from bench.queries import write_text
from bench.runner import say
from bench.servers import Server, free_port, running
from bench.world import ZONE, build_world, write_manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.measure import Cores

SERVICES: Final = 500
RESTART_QPS: Final = 10_000
RESTART_S: Final = 16.0
KILLED_QPS: Final = 5_000
KILLED_S: Final = 6.0
LAMEDUCK_S: Final = 2
SETTLE_S: Final = 2.0


class Loss(msgspec.Struct, frozen=True):
    """What became of one load."""

    what: str
    sent: int
    lost: int
    rcodes: dict[str, int]

    def line(self) -> str:
        """Return the row of the report."""
        rcodes = ", ".join(f"{name} {number:,}" for name, number in sorted(self.rcodes.items()))
        return f"{self.what}: {self.sent:,} sent, {self.lost:,} lost; {rcodes}"


def measure_restart(folder: Path, cores: Cores) -> Loss:
    """Restart two instances behind Unbound, one after the other, under load."""
    world = build_world(SERVICES, seed=1)
    manifests = folder / "manifests"
    write_manifests(world, manifests)
    names = folder / "names.txt"
    write_text(names, [(one.owner, "A") for one in world.services if not one.headless])
    ports = free_port(), free_port()
    known = next((one.owner, "A") for one in world.services if not one.headless)

    def instance(at: int) -> contextlib.AbstractContextManager[Server]:
        flags = ["--manifests", str(manifests), "--listen", f"{HOST}:{ports[at]}"]
        flags += ["--admin", "none", "--lameduck", str(LAMEDUCK_S)]
        command = Command([sys.executable, "-m", "mcsdns", "serve", *flags])
        return running(command, ports[at], cores.server, _made(folder / f"instance-{time.time()}"))

    port = free_port()
    with contextlib.ExitStack() as stack:
        instances = [contextlib.ExitStack() for _ in ports]
        for at, each in enumerate(instances):
            stack.enter_context(each)
            each.enter_context(instance(at)).wait_answer(known)
        front = running(_unbound(folder, port, ports), port, cores.load, _made(folder / "front"))
        stack.enter_context(front).wait_answer(known)

        def restart_both() -> None:
            for at, each in enumerate(instances):
                time.sleep(SETTLE_S)
                each.close()
                each.enter_context(instance(at)).wait_answer(known)

        one = Load(path=names, seconds=RESTART_S, max_qps=RESTART_QPS)
        return _during(f"rolling restart, {RESTART_QPS:,} q/s", one, port, cores, restart_both)


def measure_killed(folder: Path, cores: Cores, number: signal.Signals) -> Loss:
    """Kill or stop the first of two upstreams under load."""
    upstream.write_questions(_made(folder), 1)
    site = Site(folder, free_port(), free_port(), folder, folder / "none")
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(_upstream(site, at, cores)) for at in range(2))
        flags = ["--source", "none", "--listen", f"{HOST}:{site.port}", "--admin", "none"]
        flags += ["--upstream-policy", "sequential", "--cache-entries", "0"]
        flags += [f"--upstream={HOST}:{each.port}" for each in (first, second)]
        command = Command([sys.executable, "-m", "mcsdns", "serve", *flags])
        server = stack.enter_context(running(command, site.port, cores.server, folder))
        server.wait_answer(upstream.KNOWN)

        def kill() -> None:
            time.sleep(SETTLE_S)
            for pid in first.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        path = folder / f"{upstream.NAMES_FILE}.txt"
        one = Load(path=path, seconds=KILLED_S, max_qps=KILLED_QPS)
        what = f"first of two upstreams, {number.name}, {KILLED_QPS:,} q/s"
        loss = _during(what, one, site.port, cores, kill)
        for pid in first.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return loss


def _during(what: str, one: Load, port: int, cores: Cores, meanwhile: Callable[[], None]) -> Loss:
    say(what)
    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(load.run, one, port, cores.load)
        meanwhile()
        result = ran.result()
    return Loss(what, result.sent, result.lost, result.rcodes)


@contextlib.contextmanager
def _upstream(site: Site, at: int, cores: Cores) -> Iterator[Server]:
    own = msgspec.structs.replace(site, folder=_made(site.folder / f"at-{at}"))
    with upstream.answering(own, cores.upstream) as server:
        yield server


def _unbound(folder: Path, port: int, instances: tuple[int, ...]) -> Command:
    """Configure a forwarder that keeps nothing: every query is one to an instance."""
    config = folder / "unbound.conf"
    forwards = "".join(f"  forward-addr: {HOST}@{each}\n" for each in instances)
    config.write_text(
        f"server:\n  interface: {HOST}@{port}\n  do-daemonize: no\n  chroot: ''\n"
        f'  username: ""\n  directory: "{folder}"\n  pidfile: ""\n  use-syslog: no\n'
        "  do-not-query-localhost: no\n  num-threads: 1\n  domain-insecure: local.\n"
        "  local-zone: local. nodefault\nremote-control:\n  control-enable: no\n"
        f"forward-zone:\n  name: {ZONE}.\n  forward-no-cache: yes\n{forwards}"
    )
    return Command(["unbound", "-d", "-c", str(config)])


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Measure all of it and print a line for each."""
    cores = choose_cores()
    with tempfile.TemporaryDirectory(prefix="mcsdns-losses-") as name:
        folder = Path(name)
        losses = [measure_restart(_made(folder / "restart"), cores)]
        losses += [
            measure_killed(_made(folder / number.name), cores, number)
            for number in (signal.SIGKILL, signal.SIGSTOP)
        ]
    for loss in losses:
        print(loss.line())


if __name__ == "__main__":
    main()
