"""Upstreams that send everything back to us: told in a reply and in the log, and calm."""

import itertools
import socket
from collections.abc import Callable

import dnslib
import pytest

from tests.conftest import ServeProcess, addresses, ask
from tests.forwarding.conftest import OUR_ADDRESS, OURS, Forward
from tests.forwarding.digging import dig
from tests.forwarding.servers import Daemon, Servers, received
from tests.forwarding.zones import OTHER
from tests.waiting import DEADLINE_S, free_port, wait_until

LINE = "ERROR forwarding loop: "
TEXT = "forwarding loop: "
CALM = 100
Back = Callable[..., Daemon]


@pytest.fixture
def unbound(servers: Servers) -> Back:
    """Takes EDNS options off."""

    def make(mcsdns_port: int, *, port: int = 0) -> Daemon:
        back = f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{mcsdns_port}\n'
        return servers.unbound("local-zone: test. nodefault", back, port=port)

    return make


@pytest.fixture
def dnsmasq(servers: Servers) -> Back:
    def make(mcsdns_port: int, *, port: int = 0) -> Daemon:
        return servers.dnsmasq(f"server=127.0.0.1#{mcsdns_port}\n", port=port)

    return make


@pytest.fixture
def coredns(servers: Servers) -> Back:
    def make(mcsdns_port: int, *, port: int = 0) -> Daemon:
        text = f".:PORT {{\n    forward . 127.0.0.1:{mcsdns_port}\n    cache 5\n}}\n"
        return servers.coredns(text, port=port)

    return make


@pytest.fixture(params=["unbound", "dnsmasq", "coredns"])
def back(request: pytest.FixtureRequest) -> Back:
    """Start a server that forwards all to the mcsdns at a port."""
    make: Back = request.getfixturevalue(request.param)
    return make


def assert_told(server: ServeProcess, name: str) -> None:
    dug = dig(server.address, name)
    assert dug.status == "SERVFAIL"
    assert any(text.startswith(TEXT) for text in dug.errors.values()), (dug.errors, server.log)


def assert_calm(server: ServeProcess, probes: int) -> None:
    """Nothing goes round: once what an upstream asks again is over, all that arrives is ours."""

    def is_calm() -> bool:
        before = received(probes)
        for _ in range(CALM):
            assert addresses(ask(server.address, OURS)) == [OUR_ADDRESS]
        return received(probes) == before + CALM

    wait_until(is_calm, "an end of what goes round")


def flags(port: int, probes: int) -> tuple[str, ...]:
    return ("--listen", f"127.0.0.1:{port}", "--probes", f"127.0.0.1:{probes}")


def test_loop_that_is_there_at_the_start(back: Back, forward: Forward) -> None:
    port, probes = free_port(), free_port()
    upstream = back(port)
    server = forward(upstream, flags=flags(port, probes))
    wait_until(lambda: LINE in server.log, f"a line of the loop: {server.log}")
    for number in range(30):
        assert_told(server, f"n{number}.other.test")
    for number in range(3):
        assert dig(upstream.address, f"through{number}.other.test").status == "SERVFAIL"
    assert dig(upstream.address, OURS).data == [OUR_ADDRESS]
    assert_calm(server, probes)
    assert server.log.count(LINE) == 1
    assert f"what is sent to {upstream.text} for . comes back" in server.log


def test_loop_that_comes_later(back: Back, forward: Forward, servers: Servers) -> None:
    port, probes, upstream_port = free_port(), free_port(), free_port()
    honest = servers.knot({"other.test": OTHER}, port=upstream_port)
    server = forward(honest, flags=flags(port, probes))
    assert dig(server.address, "www.other.test").data == ["198.18.0.80"]
    honest.end()
    back(port, port=upstream_port)
    numbers = itertools.count()

    def is_told() -> bool:
        Crowd(server.address, f"m{next(numbers)}.other.test").wait()
        return LINE in server.log

    wait_until(is_told, "a line of the loop")  # suspicion sends a probe every 10 s at most
    assert_told(server, "n1.other.test")
    assert_calm(server, probes)
    assert server.log.count(LINE) == 1


class Crowd:
    """Asks the same from many sockets at once."""

    def __init__(self, address: tuple[str, int], name: str) -> None:
        wire = dnslib.DNSRecord.question(name).pack()
        self._socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(40)]
        for sock in self._socks:
            sock.settimeout(DEADLINE_S)
            sock.connect(address)
            sock.send(wire)

    def wait(self) -> None:
        """Wait until all are told SERVFAIL."""
        for sock in self._socks:
            with sock:
                assert dnslib.DNSRecord.parse(sock.recv(4096)).header.rcode == dnslib.RCODE.SERVFAIL


def test_loop_of_one_zone_leaves_the_others(
    dnsmasq: Back, forward: Forward, servers: Servers
) -> None:
    port = free_port()
    upstream, honest = dnsmasq(port), servers.knot({"other.test": OTHER})
    stub = ("--stub-zone", f"corp.test={upstream.text}", "--listen", f"127.0.0.1:{port}")
    server = forward(honest, flags=stub)
    assert_told(server, "a.corp.test")
    assert dig(server.address, "www.other.test").data == ["198.18.0.80"]
    assert addresses(ask(server.address, OURS)) == [OUR_ADDRESS]


def test_two_that_forward_to_each_other(serve_two: tuple[ServeProcess, ServeProcess]) -> None:
    for server in serve_two:
        assert_told(server, "a.other.test")
        assert addresses(ask(server.address, OURS)) == [OUR_ADDRESS]


@pytest.fixture
def serve_two(forward: Forward) -> tuple[ServeProcess, ServeProcess]:
    """Two of us, each the upstream of the other."""
    first, second = free_port(), free_port()
    return (
        forward(f"127.0.0.1:{second}", flags=("--listen", f"127.0.0.1:{first}")),
        forward(f"127.0.0.1:{first}", flags=("--listen", f"127.0.0.1:{second}")),
    )


@pytest.mark.parametrize("between", [False, True], ids=["two", "three, one takes options off"])
def test_a_circle_that_is_asked_at_both_ends_at_once(
    between: bool, forward: Forward, request: pytest.FixtureRequest
) -> None:
    first, second = free_port(), free_port()
    probes = free_port(), free_port()
    upstream: Daemon | str = f"127.0.0.1:{second}"
    if between:
        upstream = request.getfixturevalue("unbound")(second)
    ends = [
        forward(upstream, flags=flags(first, probes[0])),
        forward(f"127.0.0.1:{first}", flags=flags(second, probes[1])),
    ]
    for number in range(10):
        crowds = [Crowd(end.address, f"n{number}.other.test") for end in ends]
        for each in crowds:
            each.wait()
    for end, port in zip(ends, probes, strict=True):
        assert_calm(end, port)
        assert end.log.count(LINE) <= 1
    assert sum(end.log.count(LINE) for end in ends) >= 1
