"""Two instances behind a real forwarder are restarted one after the other: no query fails."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Serve, ServeProcess, ask, rcode
from tests.forwarding.load import Load
from tests.forwarding.servers import Daemon, Servers, received
from tests.waiting import free_port, wait_until

SERVICES = 500
IN_FLIGHT = 16
LAMEDUCK_S = 0.5

Before = Callable[[Servers, int, int], Daemon]

IMPORT = """\
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {{name: web-{number}, namespace: shop}}
spec: {{type: ClusterSetIP, ips: [10.0.{high}.{low}], ports: [{{port: 80}}]}}
"""


def unbound_before(servers: Servers, first: int, second: int) -> Daemon:
    """Keeps nothing: every query is one to an instance.

    It leaves alone for minutes one that was away for longer than its retries take, so with it only
    one is restarted.
    """
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


@pytest.mark.parametrize(("before", "restarts"), [(unbound_before, 1), (coredns_before, 2)])
def test_rolling_restart_fails_no_query(
    before: Before, restarts: int, servers: Servers, serve: Serve, tmp_path: Path
) -> None:
    manifest = tmp_path / "services.yaml"
    numbers = range(SERVICES)
    manifest.write_text("".join(IMPORT.format(number=n, high=n >> 8, low=n & 255) for n in numbers))
    ports = free_port(), free_port()
    probes = [free_port() for _ in ports]

    def start(at: int) -> ServeProcess:
        flags = ("--listen", f"127.0.0.1:{ports[at]}", "--probes", f"127.0.0.1:{probes[at]}")
        return serve("--manifests", manifest, *flags, "--lameduck", LAMEDUCK_S)

    instances = [start(at) for at in range(2)]
    forwarder = before(servers, *ports)
    wait_until(lambda: answers(forwarder), "an answer through the forwarder")
    with Load(forwarder.address, IN_FLIGHT, name) as load:
        for at in range(restarts):
            for each in probes:
                wait_until(lambda each=each: received(each) > 0, "each is asked")  # type: ignore[misc]
            assert instances[at].end() == 0, "it drains and ends by itself"
            instances[at] = start(at)
            seen = load.seen.total()
            wait_until(lambda seen=seen: load.seen.total() > seen + SERVICES, "answers")  # type: ignore[misc]
    assert (load.seen, load.missing) == ({"NOERROR": load.sent}, 0)


def name(number: int) -> str:
    return f"web-{number % SERVICES}.shop.svc.clusterset.local"


def answers(forwarder: Daemon) -> bool:
    return rcode(ask(forwarder.address, name(0))) == "NOERROR"
