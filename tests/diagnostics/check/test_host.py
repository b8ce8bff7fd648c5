"""How the host and its pods look names up: nsswitch.conf and resolv.conf."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mcsdns.diagnostics.check.cluster_dns import Resolver, of_resolv_conf
from mcsdns.diagnostics.check.finding import Finding, Report
from mcsdns.diagnostics.check.run import check_nsswitch
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from tests.diagnostics.check.conftest import Check
from tests.waiting import free_port

LOCAL = [names.from_text("clusterset.local")]


def found_in(
    text: str, zones: Sequence[Name] = LOCAL, path: str = "nsswitch.conf"
) -> list[Finding]:
    report = Report()
    check_nsswitch(report, text, zones, path)
    return report.findings


POD = "search shop.svc.cluster.local svc.cluster.local cluster.local\n"


@pytest.mark.parametrize(
    "hosts",
    [
        "files mdns4_minimal [NOTFOUND=return] dns",
        "files mdns_minimal [notfound = return] dns myhostname",
        "mdns6_minimal [!UNAVAIL=return] files dns",
        "files mymachines mdns4 [SUCCESS=return NOTFOUND=return] resolve dns",
        "files mdns4_minimal [NOTFOUND=return]",
    ],
)
def test_multicast_dns_that_stops_before_dns(hosts: str) -> None:
    (finding,) = found_in(f"passwd: files\nhosts:\t{hosts}\n", path="/etc/nsswitch.conf")
    assert (finding.severity, finding.reason) == ("warning", "mdns_first")
    assert "mdns" in finding.what
    assert finding.where == "/etc/nsswitch.conf, line hosts"


@pytest.mark.parametrize(
    "hosts",
    [
        "files dns",
        "files dns mdns4_minimal [NOTFOUND=return]",
        "files mdns4_minimal dns",
        "files resolve [NOTFOUND=return] dns",
        "files mdns4 [UNAVAIL=return] dns",
        "files dns # mdns4_minimal [NOTFOUND=return] dns",
        "",
    ],
)
def test_dns_that_is_asked(hosts: str) -> None:
    text = f"#hosts: mdns4_minimal [NOTFOUND=return] dns\nhosts: {hosts}\n"
    assert found_in(text) == []


def test_zone_outside_local_is_not_concerned() -> None:
    zones = [names.from_text("mcs.example")]
    text = "hosts: files mdns4_minimal [NOTFOUND=return] dns\n"
    assert found_in(text, zones) == []


def test_host_is_looked_at_where_dns_is(check: Check, host: Path) -> None:
    (host / "nsswitch.conf").write_text("hosts: files mdns4_minimal [NOTFOUND=return] dns\n")
    found = check("--cluster-dns", f"127.0.0.1:{free_port()}", "--json")
    assert found.reasons() == ["cluster_dns_silent", "mdns_first"]
    assert "mdns_first" not in check("--manifests", "examples/manifests", "--json").reasons()


def test_servers_of_a_pod() -> None:
    found = of_resolv_conf(f"{POD}nameserver 10.96.0.10\nnameserver fd00::a\n", "resolv.conf")
    assert found == [
        Resolver("10.96.0.10", 53, "resolv.conf"),
        Resolver("fd00::a", 53, "resolv.conf"),
    ]
    assert str(found[1]) == "cluster DNS [fd00::a]:53 (resolv.conf)"


def test_servers_of_a_node_are_not_the_cluster_dns() -> None:
    assert of_resolv_conf("nameserver 192.0.2.53\nsearch example.com\n", "resolv.conf") == []


def test_cache_of_the_node_is_told_by_its_address() -> None:
    (found,) = of_resolv_conf(f"{POD}nameserver 169.254.20.10\n", "resolv.conf")
    assert found.is_node_local
    assert str(found) == "NodeLocal DNSCache 169.254.20.10:53 (resolv.conf)"
