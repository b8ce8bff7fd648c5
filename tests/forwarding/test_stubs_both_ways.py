"""A resolver sends us the zone, we send it all else: names of both kinds through both entries."""

from collections.abc import Callable

import pytest

from tests.conftest import ServeProcess
from tests.forwarding import examples
from tests.forwarding.conftest import OUR_ADDRESS, OURS, Forward
from tests.forwarding.digging import Dug, dig
from tests.forwarding.servers import Daemon, Servers
from tests.forwarding.zones import OTHER
from tests.waiting import free_port

NO_OURS, NO_THEIRS = "no.shop.svc.clusterset.local", "no.other.test"
THEIRS, THEIR_ADDRESS = "www.other.test", "198.18.0.80"
MakeStub = Callable[[int], Daemon]


@pytest.fixture
def origin(servers: Servers) -> Daemon:
    """The server of the other names."""
    return servers.knot({"other.test": OTHER})


@pytest.fixture
def unbound(servers: Servers, origin: Daemon) -> MakeStub:
    """Unbound that validates `local` and holds off private addresses, with our example."""

    def make(mcsdns_port: int, *, with_example: bool = True) -> Daemon:
        options, clauses = examples.unbound_conf(mcsdns_port)
        if not with_example:
            options = options.partition("private-domain")[0]
        strict = f"""
            module-config: "validator iterator"
            trust-anchor: "local. DS 1 8 2 {"0" * 64}"
            private-address: 10.0.0.0/8
            local-zone: test. nodefault
        """
        stub = f"stub-zone:\n  name: other.test\n  stub-addr: 127.0.0.1@{origin.port}\n"
        return servers.unbound(strict + options, clauses + stub)

    return make


@pytest.fixture
def dnsmasq(servers: Servers, origin: Daemon) -> MakeStub:
    """dnsmasq that holds off private addresses, with our example."""

    def make(mcsdns_port: int, *, with_example: bool = True) -> Daemon:
        example = examples.dnsmasq_conf(mcsdns_port)
        if not with_example:
            example = example.partition("rebind-domain-ok")[0]
        return servers.dnsmasq(f"server=127.0.0.1#{origin.port}\nstop-dns-rebind\n{example}")

    return make


@pytest.fixture
def coredns(servers: Servers, origin: Daemon) -> MakeStub:
    """CoreDNS with our example."""
    return lambda mcsdns_port: servers.coredns(examples.corefile(mcsdns_port, origin.text))


def both_ways(make: MakeStub, forward: Forward) -> tuple[Daemon, ServeProcess]:
    port = free_port()
    stub = make(port)
    return stub, forward(stub, flags=("--listen", f"127.0.0.1:{port}"))


@pytest.mark.parametrize("kind", ["unbound", "dnsmasq", "coredns"])
def test_names_of_both_kinds_through_both_entries(
    request: pytest.FixtureRequest, kind: str, forward: Forward
) -> None:
    stub, server = both_ways(request.getfixturevalue(kind), forward)
    for entry in (stub.address, server.address):
        for way in ((), ("+tcp",), ("+dnssec",), ("+noedns",)):
            seen = {
                name: found(dig(entry, name, "A", *way))
                for name in (OURS, THEIRS, NO_OURS, NO_THEIRS)
            }
            assert seen == {
                OURS: ("NOERROR", [OUR_ADDRESS]),
                THEIRS: ("NOERROR", [THEIR_ADDRESS]),
                NO_OURS: ("NXDOMAIN", []),
                NO_THEIRS: ("NXDOMAIN", []),
            }, (entry, way)
        assert dig(entry, "dns-version.clusterset.local", "TXT").data == ['"1.0.0"']
        assert found(dig(entry, OURS, "AAAA")) == ("NOERROR", [])
    assert "loop" not in server.log
    assert "WARNING" not in server.log


def found(dug: Dug) -> tuple[str, list[str]]:
    return dug.status, [each.data for each in dug.answer if each.rtype != "RRSIG"]


@pytest.mark.parametrize("kind", ["unbound", "dnsmasq"])
def test_without_a_line_of_the_examples_private_addresses_are_lost(
    request: pytest.FixtureRequest, kind: str, forward: Forward
) -> None:
    make = request.getfixturevalue(kind)
    stub, server = both_ways(lambda port: make(port, with_example=False), forward)
    assert found(dig(stub.address, OURS)) == ("NOERROR", [])
    assert found(dig(server.address, OURS)) == ("NOERROR", [OUR_ADDRESS])
