"""Loss, delay, another order, small packets and silence, between mcsdns and everybody else."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dnslib
import pytest

from tests.conftest import addresses, ask, rcode
from tests.faults.conftest import (
    ENDPOINTS,
    MANY,
    WEB,
    WEB_ADDRESS,
    Start,
    Upstream,
    ask_until_answered,
    metrics,
    scripted,
    warnings,
    web,
)
from tests.faults.network import OURS, OURS_6, THEIRS, Faults, Hosts
from tests.faults.table import row
from tests.real.asking import extended_errors
from tests.waiting import wait_until


def ask_ours(hosts: Hosts, name: str) -> dnslib.DNSRecord:
    """Ask on our host, where nothing is wrong with the way."""
    return hosts.on_ours(lambda: ask((OURS, 53), name))


def number(name: int) -> tuple[str, list[str]]:
    return f"n{name}.example.test", [f"198.18.0.{name}"]


def test_loss_before_clients(hosts: Hosts, start: Start, manifest: Path) -> None:
    assert not row("a quarter of the packets to and from clients is lost").lines
    server = start("--manifests", manifest)
    hosts.wire.faults = Faults(loss=1 / 4)
    for _ in range(20):
        assert addresses(ask_until_answered(WEB)) == [WEB_ADDRESS]
    for _ in range(3):
        assert addresses(ask_until_answered(WEB, tcp=True)) == [WEB_ADDRESS]
    assert hosts.wire.dropped
    assert not warnings(server)


def test_loss_before_the_upstream(
    hosts: Hosts, start: Start, manifest: Path, upstream: Upstream
) -> None:
    fault = row("a quarter of the packets to and from the upstream is lost")
    server = start("--manifests", manifest, "--upstream", upstream.text)
    hosts.wire.faults = Faults(loss=1 / 4)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda at: ask_ours(hosts, number(at)[0]), range(60)))
        assert {rcode(each) for each in replies} <= {"NOERROR", "SERVFAIL"}
        assert sum(rcode(each) == "NOERROR" for each in replies) > len(replies) / 2
    assert addresses(ask_ours(hosts, WEB)) == [WEB_ADDRESS]
    hosts.wire.faults = Faults()
    for at in range(60):
        name, expected = number(at)
        wait_until(lambda n=name, e=expected: addresses(ask_ours(hosts, n)) == e, name)
    assert all(any(text in line for text in fault.lines) for line in warnings(server))


def test_delay_before_the_upstream(
    hosts: Hosts, start: Start, manifest: Path, upstream: Upstream
) -> None:
    fault = row("the upstream answers a second late")
    server = start("--manifests", manifest, "--upstream", upstream.text)
    hosts.wire.faults = Faults(delay_s=0.5)
    name, expected = number(1)
    wait_until(lambda: addresses(ask_ours(hosts, name)) == expected, "a late answer")
    assert addresses(ask_ours(hosts, WEB)) == [WEB_ADDRESS]
    for line in fault.lines:
        server.wait_log(line)


def test_another_order(hosts: Hosts, start: Start, manifest: Path, upstream: Upstream) -> None:
    assert not row("packets come in another order").lines
    server = start("--manifests", manifest, "--upstream", upstream.text)
    hosts.wire.faults = Faults(jitter_s=0.1)
    with ThreadPoolExecutor(32) as pool:
        names = [number(at) for at in range(200)]
        replies = pool.map(lambda each: ask_until_answered(each[0]), names)
        for (name, expected), reply in zip(names, replies, strict=True):
            assert rcode(reply) == "NOERROR", name
            assert addresses(reply) == expected
        for reply in pool.map(lambda _: ask_until_answered(MANY, tcp=True), range(20)):
            assert len(addresses(reply)) == ENDPOINTS
    assert not warnings(server)


@pytest.mark.parametrize("hosts", [1280], indirect=True)
def test_small_packets(hosts: Hosts, start: Start, manifest: Path) -> None:
    assert not row("MTU 1280").lines
    server = start("--manifests", manifest, "--listen", f"[{OURS_6}]:53")
    for host in (OURS, OURS_6):
        by_udp = ask_until_answered(MANY, host=host)
        assert by_udp.header.tc
        assert len(by_udp.rr) > 60
        assert len(ask_until_answered(MANY, host=host, tcp=True).rr) == ENDPOINTS
    assert hosts.wire.largest <= 1280
    assert not hosts.wire.fragments
    assert not warnings(server)


def test_small_packets_and_nobody_is_told(hosts: Hosts, start: Start, manifest: Path) -> None:
    assert not row("packets above 1280 octets vanish").lines
    server = start("--manifests", manifest, "--listen", f"[{OURS_6}]:53")
    hosts.wire.faults = Faults(most_octets=1280)
    for host in (OURS, OURS_6):
        assert ask_until_answered(MANY, host=host).header.tc
        assert len(ask_until_answered(MANY, host=host, tcp=True).rr) == ENDPOINTS
    assert not warnings(server)


def test_the_upstream_is_silent(
    hosts: Hosts, start: Start, manifest: Path, upstream: Upstream
) -> None:
    fault = row("the upstream is a black hole")
    upstream.ttl_s = 1
    server = start("--manifests", manifest, "--upstream", upstream.text)
    (known, expected), (unknown, _) = number(1), number(2)
    assert addresses(ask_ours(hosts, known)) == expected
    hosts.wire.faults = Faults(is_cut=True)
    assert rcode(ask_ours(hosts, unknown)) == "SERVFAIL"
    wait_until(lambda: extended_errors(ask_ours(hosts, known)) & {3, 19}, "a stale answer")
    assert addresses(ask_ours(hosts, known)) == expected
    assert addresses(ask_ours(hosts, WEB)) == [WEB_ADDRESS]
    down, up = fault.lines
    wait_until(lambda: rcode(ask_ours(hosts, unknown)) and down in server.log, down)
    hosts.wire.faults = Faults()
    wait_until(lambda: rcode(ask_ours(hosts, unknown)) == "NOERROR", "an answer")
    server.wait_log(up)


def test_the_api_server_is_silent(hosts: Hosts, start: Start, tmp_path: Path) -> None:
    fault = row("the API server is a black hole")
    with scripted(THEIRS) as api:
        kubeconfig = api.api.write_kubeconfig(tmp_path / "kubeconfig")
        server = start("--kubeconfig", kubeconfig, "--stale-after", 1)
        hosts.wire.faults = Faults(is_cut=True)
        api.put(web("new", "10.0.0.2"))
        server.wait_log(fault.lines[0])
        reply = ask_ours(hosts, WEB)
        assert addresses(reply) == [WEB_ADDRESS]
        assert extended_errors(reply) == {3}
        hosts.wire.faults = Faults()
        new = "new.shop.svc.clusterset.local"
        wait_until(lambda: addresses(ask_ours(hosts, new)) == ["10.0.0.2"], "what came meanwhile")
        wait_until(lambda: not extended_errors(ask_ours(hosts, WEB)), "answers that are not stale")
        server.wait_log(fault.lines[1])


def test_the_api_server_is_silent_at_the_start(hosts: Hosts, start: Start, tmp_path: Path) -> None:
    fault = row("the API server is a black hole at the start")
    with scripted(THEIRS) as api:
        kubeconfig = api.api.write_kubeconfig(tmp_path / "kubeconfig")
        hosts.wire.faults = Faults(is_cut=True)
        server = start("--kubeconfig", kubeconfig, ready=False)
        wait_until(lambda: hosts.on_ours(is_bound), "sockets")
        reply = ask_ours(hosts, WEB)
        assert rcode(reply) == "SERVFAIL"
        assert extended_errors(reply) == {14}
        server.wait_log(fault.lines[0])
        hosts.wire.faults = Faults()
        wait_until(lambda: addresses(ask_ours(hosts, WEB)) == [WEB_ADDRESS], "an answer")


def is_bound() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((OURS, 53))
        except OSError:
            return True
    return False


def test_a_client_vanishes(hosts: Hosts, start: Start, manifest: Path) -> None:
    assert not row("a client over TCP vanishes in the middle").lines
    server = start("--manifests", manifest, "--tcp-idle", 1)
    request = dnslib.DNSRecord.question(MANY).pack()
    with socket.create_connection((OURS, 53)) as sock:
        sock.sendall(len(request).to_bytes(2, "big") + request)
        assert sock.recv(2)
        hosts.wire.faults = Faults(is_cut=True)
        wait_until(lambda: metrics(hosts)["mcsdns_tcp_connections"] == 0, "its connection to end")
    hosts.wire.faults = Faults()
    assert len(ask_until_answered(MANY, tcp=True).rr) == ENDPOINTS
    assert not warnings(server)
