"""The way from a real cluster DNS to mcsdns: each way it fails is told in the first three lines."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve, ServeProcess
from tests.diagnostics.check.conftest import Check, assert_documented
from tests.forwarding import examples
from tests.forwarding.servers import Servers
from tests.waiting import DEADLINE_S, free_port

WEB = """\
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: web, namespace: shop}
spec: {type: ClusterSetIP, ips: [10.0.0.1], ports: [{name: http, port: 80}]}
"""
NAME, ZONE = "web.shop.svc.clusterset.local", "clusterset.local"
DNS = "10.96.0.10:53"
"""As the docs have it."""
NOTHING_BEHIND = ".:PORT {\n    template ANY ANY {\n        rcode NXDOMAIN\n    }\n}\n"
Write = Callable[[str], Path]


@pytest.fixture
def objects(manifests: Write) -> Path:
    return manifests(WEB)


@pytest.fixture
def server(serve: Serve, objects: Path) -> ServeProcess:
    """The mcsdns that the stub block points at."""
    return serve("--manifests", objects)


def text_of(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def stub(target: str, *lines: str) -> str:
    """A Corefile with a stub block, and nothing else that answers."""
    inside = "".join(f"        {line}\n" for line in lines)
    block = f"{ZONE}:PORT {{\n    forward . {target} {{\n        max_fails 0\n{inside}    }}\n}}\n"
    return block + NOTHING_BEHIND


def test_working_stub_block_is_clean(
    check: Check, servers: Servers, server: ServeProcess, objects: Path
) -> None:
    dns = servers.coredns(stub(text_of(server.address)))
    given = ("--manifests", objects, "--cluster-dns", dns.text, "--server", text_of(server.address))
    found = check(*given)
    assert (found.status, found.err) == (0, ""), found.out
    assert found.out.startswith("found    nothing wrong\n")
    assert f"{ZONE} at cluster DNS {dns.text} (--cluster-dns), over UDP and TCP" in found.out


def test_missing_stub_block(check: Check, servers: Servers, objects: Path) -> None:
    dns = servers.coredns(NOTHING_BEHIND)
    found = check("--manifests", objects, "--cluster-dns", dns.text)
    assert found.status == 1
    assert "error    the stub block is missing: the cluster DNS does not send" in found.cause
    assert f"cluster DNS {dns.text} (--cluster-dns), over UDP and TCP" in found.cause
    assert "mcsdns stub PLATFORM --ip" in found.cause
    assert_documented(found, {dns.text: DNS})


def test_missing_stub_block_where_nothing_else_is_served(check: Check, servers: Servers) -> None:
    dns = servers.coredns("cluster.local:PORT {\n    whoami\n}\n")
    found = check("--cluster-dns", dns.text, "--json")
    assert found.reasons() == ["stub_block_missing"]
    assert "is REFUSED" in found.finding("stub_block_missing")["what"]


class OneTransport:
    """What a Service is that has one of the two ports: relays it to a server."""

    def __init__(self, to: tuple[str, int], kind: socket.SocketKind) -> None:
        self._to, self._kind = to, kind
        self.port = free_port()
        self._sock = socket.socket(socket.AF_INET, kind)
        self._sock.bind(("127.0.0.1", self.port))
        if kind is socket.SOCK_STREAM:
            self._sock.listen()
        self._sock.settimeout(0.1)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.is_set():
            with contextlib.suppress(OSError):
                self._tcp() if self._kind is socket.SOCK_STREAM else self._udp()

    def _udp(self) -> None:
        request, client = self._sock.recvfrom(4096)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.settimeout(DEADLINE_S)
            out.connect(self._to)
            out.send(request)
            self._sock.sendto(out.recv(4096), client)

    def _tcp(self) -> None:
        client, _ = self._sock.accept()
        client.settimeout(DEADLINE_S)
        with client, socket.create_connection(self._to, DEADLINE_S) as out:
            for one, other in ((client, out), (out, client)):
                with one.makefile("rb") as stream:
                    size = stream.read(2)
                    other.sendall(size + stream.read(int.from_bytes(size, "big")))

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._sock.close()


@pytest.fixture
def only() -> Iterator[Callable[[tuple[str, int], socket.SocketKind], OneTransport]]:
    """Let one transport of a server through."""
    made: list[OneTransport] = []

    def make(to: tuple[str, int], kind: socket.SocketKind) -> OneTransport:
        made.append(OneTransport(to, kind))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("kind", "works", "fails"),
    [(socket.SOCK_DGRAM, "UDP", "TCP"), (socket.SOCK_STREAM, "TCP", "UDP")],
)
def test_stub_block_that_works_over_one_transport(
    check: Check,
    servers: Servers,
    server: ServeProcess,
    objects: Path,
    only: Callable[[tuple[str, int], socket.SocketKind], OneTransport],
    kind: socket.SocketKind,
    works: str,
    fails: str,
) -> None:
    target = only(server.address, kind)
    dns = servers.coredns(stub(f"127.0.0.1:{target.port}"))
    found = check("--manifests", objects, "--cluster-dns", dns.text)
    assert found.status == 1
    assert f"error    {ZONE} is answered over {works}, but over {fails} the stub" in found.cause
    assert f"(--cluster-dns), over {fails}\n" in found.cause
    assert "port 53 for UDP and for TCP" in found.cause
    if fails == "TCP":
        assert_documented(found, {dns.text: DNS})


def test_stub_block_that_points_nowhere(check: Check, servers: Servers, objects: Path) -> None:
    dns = servers.coredns(stub(f"127.0.0.1:{free_port()}"))
    found = check("--manifests", objects, "--cluster-dns", dns.text)
    assert found.status == 1
    assert f"error    the cluster DNS gets no answer for {ZONE}: SERVFAIL" in found.cause
    assert "ClusterIP of the mcsdns Service" in found.cause


def test_stub_block_that_points_at_another_zone(
    check: Check, servers: Servers, serve: Serve, objects: Path
) -> None:
    other = serve("--manifests", objects, "--zone", "mcs.example")
    dns = servers.coredns(stub(text_of(other.address)))
    found = check("--manifests", objects, "--cluster-dns", dns.text)
    assert "that is no mcsdns serving this zone" in found.cause, found.out
    assert "only mcs.example. is served here" in found.cause


def test_answer_of_another_cluster_is_a_warning(
    check: Check, servers: Servers, server: ServeProcess, manifests: Write
) -> None:
    dns = servers.coredns(stub(text_of(server.address)))
    other = manifests(WEB.replace("10.0.0.1", "10.9.9.9"))
    found = check("--manifests", other, "--cluster-dns", dns.text)
    assert found.status == 0
    assert found.cause.startswith(f"warning  {NAME} A is 10.0.0.1 from the cluster DNS (from a")
    assert "10.9.9.9 from mcsdns" in found.cause


def test_name_that_the_cluster_dns_denies_is_an_error(
    check: Check, servers: Servers, server: ServeProcess, manifests: Write
) -> None:
    dns = servers.coredns(stub(text_of(server.address)))
    other = manifests(WEB.replace("name: web", "name: new"))
    found = check("--manifests", other, "--cluster-dns", dns.text, "--json")
    assert found.status == 1
    what = found.finding("answers_differ")["what"]
    assert what.startswith("new.shop.svc.clusterset.local A is NXDOMAIN (not exported")


# Forwarders that do more than forward.


def test_dnsmasq_that_drops_private_addresses(
    check: Check, servers: Servers, server: ServeProcess, objects: Path
) -> None:
    example = examples.dnsmasq_conf(server.address[1])
    without = example.partition("# Its addresses")[0]
    strict = servers.dnsmasq(f"stop-dns-rebind\n{without}")
    found = check("--manifests", objects, "--cluster-dns", strict.text)
    assert found.status == 1
    assert "error    the forwarder drops private addresses" in found.cause
    assert "rebind-domain-ok=/clusterset.local/" in found.cause
    assert_documented(found, {strict.text: DNS})
    mended = servers.dnsmasq(f"stop-dns-rebind\n{example}")
    assert check("--manifests", objects, "--cluster-dns", mended.text).status == 0


def unbound(servers: Servers, port: int, *lines: str) -> str:
    """A validating Unbound that drops private addresses, with these lines of the example."""
    options, clauses = examples.unbound_conf(port)
    wanted = "".join(
        f"{line}\n" for line in options.splitlines() if line.strip().partition(":")[0] in lines
    )
    strict = f"""
        module-config: "validator iterator"
        trust-anchor: "local. DS 1 8 2 {"0" * 64}"
        private-address: 10.0.0.0/8
    """
    # Who has all else refuses to say: it is no use to wait for the internet.
    parent = f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{port}\n'
    return servers.unbound(strict + wanted, parent + clauses).text


def test_unbound_that_finds_the_zone_bogus(
    check: Check, servers: Servers, server: ServeProcess, objects: Path
) -> None:
    dns = unbound(servers, server.address[1], "private-domain")
    found = check("--manifests", objects, "--cluster-dns", dns)
    assert found.status == 1
    assert f"validates (DNSSEC) and finds {ZONE} bogus" in found.cause
    assert 'domain-insecure: "clusterset.local"' in found.cause


def test_unbound_that_drops_private_addresses(
    check: Check, servers: Servers, server: ServeProcess, objects: Path
) -> None:
    dns = unbound(servers, server.address[1], "domain-insecure")
    found = check("--manifests", objects, "--cluster-dns", dns)
    assert found.status == 1
    assert "error    the forwarder drops private addresses" in found.cause
    assert 'private-domain: "clusterset.local"' in found.cause


def test_unbound_with_the_lines_of_the_example_is_clean(
    check: Check, servers: Servers, server: ServeProcess, objects: Path
) -> None:
    dns = unbound(servers, server.address[1], "domain-insecure", "private-domain")
    found = check("--manifests", objects, "--cluster-dns", dns)
    assert found.status == 0, found.out


# Loops.


@pytest.mark.parametrize("kind", ["coredns", "dnsmasq", "unbound"])
def test_loop_of_names_outside_the_zone(
    check: Check, servers: Servers, serve: Serve, objects: Path, kind: str
) -> None:
    port, dns_port = free_port(), free_port()
    back = f"127.0.0.1:{dns_port}"
    server = serve("--manifests", objects, "--listen", f"127.0.0.1:{port}", "--upstream", back)
    make = {
        "coredns": lambda: servers.coredns(
            f".:PORT {{\n    forward . 127.0.0.1:{port}\n}}\n", port=dns_port
        ),
        "dnsmasq": lambda: servers.dnsmasq(f"server=127.0.0.1#{port}\n", port=dns_port),
        "unbound": lambda: servers.unbound(
            "", f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{port}\n', port=dns_port
        ),
    }
    dns = make[kind]()
    given = ("--server", text_of(server.address), "--cluster-dns", dns.text)
    found = check("--manifests", objects, *given)
    assert found.status == 1
    assert "error    forwarding loop: what mcsdns sends upstream comes back" in found.cause
    assert f"{text_of(server.address)} (--server)" in found.cause
    assert "take the root (.) out of the forward to mcsdns" in found.cause
    assert_documented(found, {text_of(server.address): "10.96.0.53:53"})


def test_loop_of_the_zone_itself(check: Check, servers: Servers, serve: Serve) -> None:
    port, dns_port = free_port(), free_port()
    given = ("--source", "none", "--stub-zone", f"{ZONE}=127.0.0.1:{dns_port}")
    server = serve(*given, "--listen", f"127.0.0.1:{port}")
    dns = servers.coredns(stub(text_of(server.address)), port=dns_port)
    found = check("--cluster-dns", dns.text)
    assert found.status == 1
    assert f"error    forwarding loop: mcsdns sends {ZONE} back" in found.cause, found.out


# mcsdns itself.


def test_server_that_is_not_there(check: Check, objects: Path) -> None:
    found = check("--manifests", objects, "--server", f"127.0.0.1:{free_port()}", "--json")
    assert found.status == 1
    assert found.reasons() == ["server_silent", "server_silent"]


def test_server_that_serves_something_else(
    check: Check, server: ServeProcess, manifests: Write
) -> None:
    other = manifests(WEB.replace("10.0.0.1", "10.9.9.9"))
    found = check("--manifests", other, "--server", text_of(server.address), "--json")
    assert found.reasons() == ["answers_differ"]
    found = check("--zone", "mcs.example", "--server", text_of(server.address), "--json")
    assert found.reasons() == ["server_fails"]


def test_silent_cluster_dns_does_not_hold_up_for_long(check: Check) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        found = check("--cluster-dns", f"127.0.0.1:{port}", "--timeout", "0.1", "--json")
    assert found.reasons() == ["cluster_dns_silent"]
    assert "neither over UDP nor over TCP" in found.finding("cluster_dns_silent")["what"]


def test_pods_that_ask_an_mcsdns_without_upstream(
    check: Check, serve: Serve, servers: Servers, server: ServeProcess, objects: Path
) -> None:
    found = check("--manifests", objects, "--cluster-dns", text_of(server.address))
    assert found.status == 1
    assert_documented(found, {text_of(server.address): "10.96.0.53:53"})
    upstream = serve("--manifests", objects, "--upstream", servers.coredns(NOTHING_BEHIND).text)
    found = check("--cluster-dns", text_of(upstream.address), "--json")
    assert found.reasons() == []
