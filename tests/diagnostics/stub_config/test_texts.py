"""What is put into the texts, what is refused, and what every text says."""

import argparse
import itertools
import re
from collections.abc import Callable

import pytest

from mcsdns.cli import stub
from mcsdns.diagnostics.stub_config.render import (
    StubTarget,
    find,
    platforms,
    read_target,
    render,
)
from mcsdns.errors import ConfigError
from tests.diagnostics.stub_config import texts

Run = Callable[..., str]
NAMES = list(platforms())


def comment_of(platform: str) -> str:
    """What a comment begins with."""
    return "--" if find(platform).suffix == "lua" else "#"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command and return what it prints; errors come through."""

    def start(*arguments: str) -> str:
        parser = argparse.ArgumentParser()
        stub.add_stub(parser)
        flags = vars(parser.parse_args(arguments))
        assert flags.pop("run")(flags) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return start


def test_command_without_a_platform_lists_them(run: Run) -> None:
    lines = run().splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.parametrize("platform", NAMES)
def test_command_prints_the_text_and_nothing_else(platform: str, run: Run) -> None:
    given = read_target(["10.1.2.3", "fd00::3"], ["multi.example"])
    printed = run(platform, "--ip", "10.1.2.3", "--ip", "fd00::3", "--zone", "multi.example")
    assert printed == render(find(platform), given)


@pytest.mark.parametrize("platform", NAMES)
def test_text_has_addresses_and_zone_and_nothing_of_others(platform: str) -> None:
    text = texts.text(platform, ["10.1.2.3", "fd00::3"], ["multi.example"], port=53)
    assert "clusterset" not in text.replace("Cloud DNS answers clusterset.local", "")
    sign = comment_of(platform)
    what = [line for line in text.splitlines() if not line.lstrip().startswith(sign)]
    for wanted in ("10.1.2.3", "fd00::3", "multi.example"):
        assert any(wanted in line for line in what), wanted


@pytest.mark.parametrize("platform", NAMES)
def test_head_says_where_how_and_what_to_know(platform: str) -> None:
    text = texts.text(platform, ["10.1.2.3"], port=53)
    sign = comment_of(platform)
    head = list(itertools.takewhile(lambda line: line.startswith(sign), text.splitlines()))
    assert head[0].endswith(f": mcsdns stub {platform} --ip 10.1.2.3")
    for word in ("Where: ", "Apply:", "Know:"):
        assert any(line.startswith(f"{sign} {word}") for line in head)
    command = f"mcsdns stub {platform} --ip 10.1.2.3"
    assert any(line.startswith(f"{sign}   ") and command in line for line in head)
    assert max(map(len, text.splitlines())) <= 120
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


@pytest.mark.parametrize("platform", NAMES)
def test_head_repeats_the_command_with_its_flags(platform: str) -> None:
    ips = ["10.1.2.3", "10.1.2.4"]
    text = texts.text(platform, ips, ["a.example", "b.example"], port=5300)
    flags = "--ip 10.1.2.3 --ip 10.1.2.4 --zone a.example --zone b.example --port 5300"
    assert f"mcsdns stub {platform} {flags}" in text


def test_nearest_platform_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"'kubeadmin', did you mean kubeadm\? .*dnsdist$"):
        find("kubeadmin")
    with pytest.raises(ConfigError, match=r"'OpenShift', did you mean openshift\?"):
        find("OpenShift")
    with pytest.raises(ConfigError, match=r"^no platform 'zzz'; the platforms are kubeadm, "):
        find("zzz")


@pytest.mark.parametrize(
    ("ip", "why"),
    [
        ("mcsdns.mcsdns.svc.cluster.local", "this is a host name, and whoever resolved it"),
        ("localhost", "this is a host name"),
        ("10.0.0.300", "this is no IP address"),
        ("", "this is no IP address"),
        ("10.0.0.0/8", "this is a network"),
        ("10.0.0.53:5353", "write --ip 10.0.0.53 --port 5353"),
        ("[fd00::53]:5353", "write --ip fd00::53 --port 5353"),
        ("127.0.0.1", "it is the pod itself"),
        ("::1", "it is the pod itself"),
        ("0.0.0.0", "nobody can ask it there"),
        ("::", "nobody can ask it there"),
        ("224.0.0.251", "an address of many"),
        ("255.255.255.255", "an address of many"),
        ("fe80::1", "on one interface only"),
        ("fe80::1%eth0", "on one interface only"),
    ],
)
def test_address_that_is_none_of_a_service_is_refused(ip: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_target([ip], [])
    assert str(caught.value).startswith(f"--ip {ip!r}: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        ("cluster.local", "would take cluster.local"),
        ("Local.", "would take cluster.local"),
        (".", "this is no zone"),
        ("", "this is no zone"),
        ("a_b.local", "this is no zone"),
        ("a..b", "this is no zone"),
        ("x {\n}", "this is no zone"),
        (".".join(["a" * 63] * 4), "this is no zone"),
    ],
)
def test_zone_that_is_none_is_refused(zone: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read_target(["10.0.0.53"], [zone])
    assert "\n" not in str(caught.value)


def test_missing_or_wrong_flags_are_refused(run: Run) -> None:
    for arguments, why in (
        (["k3s"], "--ip is missing; give the clusterIP"),
        (["--ip", "10.0.0.53"], "PLATFORM is missing; name one of kubeadm,"),
        (["--port", "53"], "PLATFORM is missing"),
        (["k3s", "--ip", "10.0.0.53", "--port", "0"], "1 to 65535"),
        (["k3s", *(f"--ip=10.0.0.{number}" for number in range(1, 17))], "CoreDNS takes 15"),
    ):
        with pytest.raises(ConfigError, match=why):
            run(*arguments)


def test_loopback_is_right_for_forwarders_of_a_host() -> None:
    for platform in platforms().values():
        if platform.on_host:
            assert "127.0.0.1" in render(platform, read_target(["127.0.0.1"], [], on_host=True))
    assert "do-not-query-localhost" in texts.text("unbound", ["127.0.0.1"])
    assert "do-not-query-localhost" not in texts.text("unbound", ["10.0.0.53"])


def test_kube_dns_refuses_an_ipv6_address_with_a_port() -> None:
    for platform in ("kube-dns", "gke-kube-dns"):
        with pytest.raises(ConfigError, match="cannot be told an IPv6 address with a port"):
            texts.text(platform, ["10.0.0.53", "fd00::53"], port=5353)
        assert "fd00::53" in texts.text(platform, ["fd00::53"], port=53)


def test_addresses_are_written_in_their_short_form_and_once() -> None:
    given = read_target(
        ["[FD00:0:0::53]", "fd00::53", "::ffff:10.0.0.53", "10.0.0.53"], ["A.Test."]
    )
    assert given == StubTarget(("fd00::53", "10.0.0.53"), ("a.test",))
    assert given.targets == ["fd00::53", "10.0.0.53"]
    other = read_target(["fd00::53", "10.0.0.53"], [], 5353)
    assert other.targets == ["[fd00::53]:5353", "10.0.0.53:5353"]
    assert other.targets_with("@") == ["fd00::53@5353", "10.0.0.53@5353"]
