"""What the texts make of real resolvers, which lose the answers without them."""

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Serve, addresses, ask, rcode
from tests.diagnostics.stub_config import texts
from tests.diagnostics.stub_config.conftest import (
    HUGE,
    HUGE_COUNT,
    LONG,
    LONG_COUNT,
    MISSING,
    OUR_ADDRESS,
    OUR_ADDRESS_6,
    OURS,
)
from tests.forwarding.digging import dig
from tests.forwarding.servers import Daemon, Servers
from tests.waiting import free_port

FAMILIES = [("127.0.0.1",), ("::1",), ("127.0.0.1", "::1")]
VALIDATING = f"""
    module-config: "validator iterator"
    trust-anchor: "local. DS 1 8 2 {"0" * 64}"
    private-address: 10.0.0.0/8
    private-address: fd00::/8
    local-zone: "local." static
    do-not-query-localhost: yes
"""


def unbound(servers: Servers, text: str, *, without: str = "") -> Daemon:
    """Start one that does all it can against such a zone."""
    lines = [line for line in text.splitlines() if not (without and without in line)]
    server, behind = "\n".join(lines).split("forward-zone:", 1)
    options = server.partition("server:\n")[2]
    # Who has the keys of `local.` refuses to say: it is no use to wait for the internet.
    parent = behind.replace("clusterset.local.", "local.").replace("other.test.", "invalid.")
    clauses = f"forward-zone:{parent}\nforward-zone:{behind}\n"
    return servers.unbound(VALIDATING + options, clauses)


def dnsmasq(servers: Servers, text: str) -> Daemon:
    return servers.dnsmasq(f"stop-dns-rebind\n{text}")


def signed_lines(sign: str, text: str) -> str:
    """The lines that belong elsewhere: those with a sign, as the head of the text says."""
    return "\n".join(re.findall(rf"^{re.escape(sign)} *(.*)", text, re.MULTILINE))


def bind(servers: Servers, text: str, *, without: str = "") -> Daemon:
    """Start one that validates `local.`, whose keys it cannot have."""
    kept = "\n".join(line for line in text.splitlines() if not (without and without in line))
    parent = re.sub(r'"[a-z.]+" \{', '"local" {', kept.split("\n\n")[1])
    anchor = f'trust-anchors {{ "local." static-ds 1 8 2 "{"0" * 64}"; }};'
    return servers.bind(signed_lines("#+", kept), f"{anchor}\n{kept}\n{parent}")


def knot_resolver(servers: Servers, text: str, *, without: str = "") -> Daemon:
    kept = "\n".join(line for line in text.splitlines() if not (without and without in line))
    anchor = f"trust_anchors.add('local. 3600 IN DS 1 8 2 {'0' * 64}')\n"
    (parent,) = re.findall(r"^policy\.add.*", kept, re.MULTILINE)
    parent = parent.replace("STUB", "FORWARD").replace("zones", "{todname('local')}")
    return servers.kresd(f"{anchor}{kept}\n{parent}\n")


def powerdns(servers: Servers, text: str, *, without: str = "") -> Daemon:
    kept = "\n".join(line for line in text.splitlines() if not (without and without in line))
    parent = re.sub(r"^forward-zones=[^=]*=([^,]*).*", r"local=\1", kept.splitlines()[-1])
    lua = f'addTA("local", "1 8 2 {"0" * 64}")\n{signed_lines("#+", kept)}'
    return servers.pdns_recursor(f"dnssec=validate\n{kept}, {parent}\n", lua)


def dnsdist(servers: Servers, text: str) -> Daemon:
    return servers.dnsdist(text)


Start = Callable[..., Daemon]
STARTS: dict[str, Start] = {
    "unbound": unbound,
    "dnsmasq": dnsmasq,
    "bind": bind,
    "knot-resolver": knot_resolver,
    "powerdns": powerdns,
    "dnsdist": dnsdist,
}
EVERY = pytest.mark.parametrize("platform", STARTS)


def assert_whole(address: tuple[str, int]) -> None:
    for way in ((), ("+tcp",), ("+dnssec",), ("+noedns",)):
        found = dig(address, OURS, "A", *way)
        assert (found.status, found.data) == ("NOERROR", [OUR_ADDRESS]), way
        assert dig(address, MISSING, "A", *way).status == "NXDOMAIN", way
    assert dig(address, OURS, "AAAA").data == [OUR_ADDRESS_6]
    assert len(dig(address, LONG, "A", "+tcp").data) == LONG_COUNT
    assert len(dig(address, HUGE, "A", "+tcp").data) == HUGE_COUNT


@EVERY
@pytest.mark.parametrize("hosts", FAMILIES, ids=",".join)
def test_zone_is_answered_whole(
    platform: str, hosts: tuple[str, ...], servers: Servers, mcsdns: int
) -> None:
    text = texts.text(platform, hosts, port=mcsdns)
    assert_whole(STARTS[platform](servers, text).address)


@EVERY
def test_several_zones_are_forwarded(platform: str, servers: Servers, mcsdns: int) -> None:
    zones = ["clusterset.local", "other.test"]
    text = texts.text(platform, ["127.0.0.1"], zones, port=mcsdns)
    address = STARTS[platform](servers, text).address
    for zone in zones:
        assert addresses(ask(address, f"web.shop.svc.{zone}")) == [OUR_ADDRESS]


@pytest.mark.parametrize(
    ("platform", "line", "name", "seen"),
    [
        ("unbound", "domain-insecure", OURS, ("SERVFAIL", [])),
        ("unbound", "private-domain", OURS, ("NOERROR", [])),
        ("unbound", "local-zone", OURS, ("NXDOMAIN", [])),
        ("unbound", "do-not-query-localhost", OURS, ("SERVFAIL", [])),
        ("bind", "validate-except", OURS, ("SERVFAIL", [])),
        ("bind", "max-records-per-type", HUGE, ("SERVFAIL", [])),
        ("powerdns", "addNTA", OURS, ("SERVFAIL", [])),
    ],
)
def test_every_line_is_wanted(
    platform: str, line: str, name: str, seen: tuple[str, list[str]], servers: Servers, mcsdns: int
) -> None:
    text = texts.text(platform, ["127.0.0.1"], port=mcsdns)
    assert line in text
    reply = ask(STARTS[platform](servers, text, without=line).address, name)
    assert (rcode(reply), addresses(reply)) == seen


@pytest.mark.parametrize(("without", "status"), [("", "NOERROR"), ("set_insecure", "SERVFAIL")])
def test_a_forward_of_knot_resolver_that_comes_first_does_not_validate_the_zone(
    without: str, status: str, servers: Servers, mcsdns: int
) -> None:
    text = texts.text("knot-resolver", ["127.0.0.1"], port=mcsdns).replace("STUB", "FORWARD")
    assert dig(knot_resolver(servers, text, without=without).address, OURS).status == status


def test_bind_as_it_comes_takes_100_records(servers: Servers, serve: Serve, world: Path) -> None:
    server = serve("--manifests", world, "--max-records", 100)
    text = texts.text("bind", ["127.0.0.1"], port=server.address[1])
    address = bind(servers, text, without="max-records-per-type").address
    for qtype in ("A", "SRV"):
        found = dig(address, HUGE, qtype, "+tcp")
        assert (found.status, len(found.data)) == ("NOERROR", 100)


def test_dnsmasq_loses_private_addresses_without_its_line(servers: Servers, mcsdns: int) -> None:
    text = texts.text("dnsmasq", ["127.0.0.1"], port=mcsdns)
    less = text.replace("rebind-domain-ok", "# rebind-domain-ok")
    assert addresses(ask(dnsmasq(servers, less).address, OURS)) == []


def test_dnsmasq_that_validates_does_not_validate_the_zone(servers: Servers, mcsdns: int) -> None:
    anchor = f"dnssec\ntrust-anchor=.,1,8,2,{'0' * 64}\nserver=127.0.0.1#{free_port()}\n"
    text = texts.text("dnsmasq", ["127.0.0.1"], port=mcsdns)
    assert_whole(dnsmasq(servers, anchor + text).address)


def test_more_special_zone_of_dnsmasq_wins(servers: Servers, mcsdns: int) -> None:
    text = texts.text("dnsmasq", ["127.0.0.1"], port=mcsdns)
    assert_whole(dnsmasq(servers, "local=/local/\n" + text).address)


@pytest.mark.parametrize("platform", ["kube-dns", "gke-kube-dns"])
def test_dnsmasq_of_kube_dns_answers_the_zone(platform: str, servers: Servers, mcsdns: int) -> None:
    """With the options that kube-dns gives it; it has no --stop-dns-rebind."""
    options = "\n".join(texts.of_kube_dns(texts.parsed(platform)))
    here = options.replace(f"{texts.IPV4}#{texts.PORT}", f"127.0.0.1#{mcsdns}")
    assert here != options
    assert_whole(servers.dnsmasq(f"no-negcache\n{here}\n").address)


def test_dnsmasq_refuses_what_kube_dns_would_make_of_an_ipv6_address_with_a_port(
    servers: Servers,
) -> None:
    """Which is why `mcsdns stub kube-dns` refuses it."""
    with pytest.raises(AssertionError):
        servers.dnsmasq("server=/clusterset.local/[fd00::53]#5353\n")
    servers.dnsmasq(
        "\n".join(texts.of_kube_dns(texts.parsed("kube-dns", ips=["fd00::53"], port=53)))
    )


@pytest.mark.parametrize("host", ["127.53.53.53", "::1"])
def test_port_53_is_meant_where_none_is_given(host: str, servers: Servers, serve: Serve) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as sock:
            try:
                sock.bind((host, 53))
            except OSError as error:
                pytest.skip(f"port 53 of {host} cannot be had: {error.strerror}")
    serve(
        "--manifests",
        "examples/manifests",
        "--listen",
        f"[{host}]:53" if ":" in host else f"{host}:53",
    )
    name = "rebel-base.default.svc.clusterset.local"
    port = free_port()
    block = texts.text("kubeadm", port=53).replace(texts.IPV4, host)
    forwarders = [
        *(start(servers, texts.text(each, [host], port=53)) for each, start in STARTS.items()),
        servers.coredns(texts.here(texts.MAIN + block, {}, port), port=port),
    ]
    for forwarder in forwarders:
        assert rcode(ask(forwarder.address, name)) == "NOERROR", forwarder.log
        assert addresses(ask(forwarder.address, name))
