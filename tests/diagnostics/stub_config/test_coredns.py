"""What the texts make of a real CoreDNS: it asks mcsdns over UDP and TCP."""

from pathlib import Path

import pytest

from tests.conftest import addresses, ask, rcode
from tests.diagnostics.stub_config import texts
from tests.diagnostics.stub_config.conftest import (
    LONG,
    LONG_COUNT,
    MISSING,
    OUR_ADDRESS,
    OUR_ADDRESS_6,
    OURS,
    CoreDns,
    There,
)
from tests.forwarding.digging import dig
from tests.forwarding.servers import Servers
from tests.waiting import free_port, wait_until

each_platform = pytest.mark.parametrize("platform", texts.COREDNS)


@each_platform
def test_zone_is_answered_over_udp_and_tcp(platform: str, coredns: CoreDns) -> None:
    address = coredns(platform).address
    for way in ((), ("+tcp",), ("+noedns",), ("+dnssec",)):
        found, missing = (dig(address, name, "A", *way) for name in (OURS, MISSING))
        assert (found.status, found.data) == ("NOERROR", [OUR_ADDRESS]), way
        assert missing.status == "NXDOMAIN", way
    assert dig(address, OURS, "AAAA").data == [OUR_ADDRESS_6]
    assert dig(address, "dns-version.clusterset.local", "TXT").data == ['"1.0.0"']
    cut, whole = (dig(address, LONG, "A", *way) for way in (("+ignore",), ("+tcp",)))
    assert "tc" in cut.flags
    assert len(whole.data) == LONG_COUNT


@pytest.mark.parametrize("ips", [(texts.IPV6,), (texts.IPV4, texts.IPV6)], ids=["IPv6", "both"])
@pytest.mark.parametrize("platform", [each for each in texts.COREDNS if "kube-dns" not in each])
def test_addresses_of_both_families_are_asked(
    platform: str, ips: tuple[str, ...], coredns: CoreDns
) -> None:
    address = coredns(platform, ips=ips).address
    for name in (OURS, OURS.upper()):
        assert addresses(ask(address, name)) == [OUR_ADDRESS]
    assert addresses(ask(address, OURS, "AAAA", tcp=True)) == [OUR_ADDRESS_6]


@each_platform
def test_of_two_addresses_one_is_enough(platform: str, coredns: CoreDns) -> None:
    address = coredns(platform, ips=(texts.DEAD, texts.IPV4)).address
    names = [f"n{number}.shop.svc.clusterset.local" for number in range(12)]
    assert {rcode(ask(address, name)) for name in names} == {"NXDOMAIN"}


@each_platform
def test_several_zones_are_forwarded(platform: str, coredns: CoreDns) -> None:
    zones = ["clusterset.local", "other.test"]
    address = coredns(platform, zones=zones).address
    for zone in zones:
        assert addresses(ask(address, f"web.shop.svc.{zone}")) == [OUR_ADDRESS]


def test_names_of_others_stay_with_the_main_block(coredns: CoreDns) -> None:
    assert rcode(ask(coredns("kubeadm").address, "www.example.com")) == "SERVFAIL"


def test_corefile_takes_addresses_without_a_port(servers: Servers) -> None:
    block = texts.text("kubeadm", (texts.IPV4, texts.IPV6), port=53)
    assert f"forward . {texts.IPV4} {texts.IPV6} {{" in block
    port = free_port()
    servers.coredns(texts.here(texts.MAIN + block, {}, port), port=port)


def test_two_blocks_of_one_zone_keep_coredns_from_starting(servers: Servers, there: There) -> None:
    """As the text for NodeLocal DNSCache says of itself and of that for kube-dns."""
    both = texts.text("nodelocal") + texts.of_node_cache(texts.parsed("kube-dns"))
    port = free_port()
    with pytest.raises(AssertionError, match="already defined"):
        servers.coredns(texts.here(both, there, port), port=port)


def test_new_key_of_coredns_custom_is_taken_up_without_a_restart(
    servers: Servers, there: There, tmp_path: Path
) -> None:
    port = free_port()
    corefile = texts.corefile_of("k3s", there, port, tmp_path)
    (key,) = tmp_path.glob("*.server")
    block = key.read_text()
    key.unlink()
    corefile = corefile.replace("reload", "reload 2s 1s")
    address = servers.coredns(corefile, port=port).address
    assert rcode(ask(address, OURS)) == "SERVFAIL"
    key.write_text(block)
    wait_until(lambda: addresses(ask(address, OURS)) == [OUR_ADDRESS], "reload")
