"""Two instances behind a real forwarder are restarted one after the other: no query fails."""

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Serve, ServeProcess, ask, rcode, wait_until
from tests.forwarding.servers import Daemon, Servers, free_port, need

SERVICES = 500
RATE = 10_000
LAMEDUCK_S = 2
THREADS = 2

IMPORT = """\
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {{name: web-{number}, namespace: shop}}
spec: {{type: ClusterSetIP, ips: [10.0.{high}.{low}], ports: [{{port: 80}}]}}
"""


def unbound_before(servers: Servers, first: int, second: int) -> Daemon:
    """Keeps nothing: every query is one to an instance."""
    return servers.unbound(
        "domain-insecure: local.\nlocal-zone: local. nodefault",
        f"forward-zone:\n  name: clusterset.local.\n  forward-no-cache: yes\n"
        f"  forward-addr: 127.0.0.1@{first}\n  forward-addr: 127.0.0.1@{second}\n",
    )


def coredns_before(servers: Servers, first: int, second: int) -> Daemon:
    """The stub block that people use, without its cache.

    In a cluster readiness keeps queries from an instance that has not read anything, and says so
    with SERVFAIL; here CoreDNS asks the other one then.
    """
    return servers.coredns(
        f"clusterset.local:PORT {{\n  bind 127.0.0.1\n"
        f"  forward . 127.0.0.1:{first} 127.0.0.1:{second} {{\n    failover SERVFAIL\n  }}\n}}\n"
    )


@pytest.mark.parametrize("before", [unbound_before, coredns_before])
def test_rolling_restart_under_load_fails_no_query(
    before: object, servers: Servers, serve: Serve, tmp_path: Path
) -> None:
    dnsperf, names = need("dnsperf"), tmp_path / "names"
    manifest = tmp_path / "services.yaml"
    numbers = range(SERVICES)
    manifest.write_text("".join(IMPORT.format(number=n, high=n >> 8, low=n & 255) for n in numbers))
    names.write_text("".join(f"web-{n}.shop.svc.clusterset.local A\n" for n in numbers))
    ports = free_port(), free_port()
    probes = [free_port() for _ in ports]

    def start(at: int) -> ServeProcess:
        flags = ("--listen", f"127.0.0.1:{ports[at]}", "--probes", f"127.0.0.1:{probes[at]}")
        return serve("--manifests", manifest, *flags, "--lameduck", LAMEDUCK_S)

    instances = [start(at) for at in range(2)]
    forwarder: Daemon = before(servers, *ports)  # type: ignore[operator]
    wait_until(lambda: answers(forwarder), "an answer through the forwarder")
    command = [dnsperf, "-s", "127.0.0.1", "-p", str(forwarder.port), "-d", str(names), "-t", "5"]
    command += ["-Q", str(RATE), "-T", str(THREADS), "-c", str(THREADS), "-l", "60"]
    with running(command, tmp_path / "dnsperf"):
        for at in range(2):
            assert instances[at].end() == 0, "it drains and ends by itself"
            instances[at] = start(at)
            wait_until(lambda at=at: received(probes[at]) > RATE / 10, "it is asked again")  # type: ignore[misc]
    out = (tmp_path / "dnsperf").read_text()
    counts = {what: int(count) for what, count in re.findall(r"Queries (\w+): +(\d+)", out)}
    assert counts["sent"] > RATE, out
    # Interrupted are those that were under way when the load was ended, as many as it allows.
    assert counts["completed"] + counts.get("interrupted", 0) == counts["sent"], out
    assert counts.get("lost", 0) == 0, out
    completed = f"NOERROR {counts['completed']} (100.00%)"
    assert re.findall(r"Response codes: +(.+)", out) == [completed], out


def answers(forwarder: Daemon) -> bool:
    return rcode(ask(forwarder.address, "web-0.shop.svc.clusterset.local")) == "NOERROR"


def received(probes: int) -> float:
    """Return how many queries an instance was asked so far, by its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{probes}/metrics", timeout=10) as response:
        text = response.read().decode()
    found = re.search(
        r'^mcsdns_requests_received_total\{transport="udp"\} (\S+)', text, re.MULTILINE
    )
    return float(found[1]) if found else 0.0


@contextmanager
def running(command: list[str], output: Path) -> Iterator[None]:
    """Run dnsperf beside the block, and let it sum up at its end."""
    with output.open("w") as out:
        process = subprocess.Popen(command, stdout=out)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
