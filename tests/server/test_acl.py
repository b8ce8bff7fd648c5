"""Who may have names looked up elsewhere."""

import ipaddress
import socket

import pytest

from mcsdns.errors import ConfigError
from mcsdns.server import acl
from mcsdns.server.acl import MOST_DECISIONS, Acl, own_networks, prefix_text


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("172.16.0.0", True),
        ("172.32.0.0", False),
        ("192.168.7.7", True),
        ("192.169.0.0", False),
        ("100.64.0.0", True),
        ("100.127.255.255", True),
        ("100.128.0.0", False),
        ("169.254.20.10", True),
        ("fe80::1", True),
        ("fec0::1", False),
        ("fd00::1", True),
        ("fc00::1", True),
        ("fe00::1", False),
        ("240.0.0.1", True),
        ("8.8.8.8", False),
        ("203.0.113.9", False),
        ("2001:db8::1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("::ffff:0:10.0.0.1", False),
        ("0.0.0.1", False),
        ("::", False),
    ],
)
def test_by_default_nobody_from_the_internet_may_ask(client: str, expected: bool) -> None:
    allowed = Acl(None, [])
    assert allowed.allows(packed(client)) is expected
    assert allowed.allows(packed(client)) is expected, "asked again, as it was decided"


def test_neighbours_of_our_interfaces_may_ask_by_default() -> None:
    own = [ipaddress.ip_network("203.0.113.0/24"), ipaddress.ip_network("2001:db8:7::/64")]
    allowed = Acl(None, own)
    assert allowed.allows(packed("203.0.113.77"))
    assert allowed.allows(packed("2001:db8:7::9"))
    assert not allowed.allows(packed("203.0.114.1"))


def test_new_prefixes_count_from_when_they_are_told() -> None:
    allowed = Acl(None, [])
    assert not allowed.allows(packed("203.0.113.77"))
    allowed.renew([ipaddress.ip_network("203.0.113.0/24")])
    assert allowed.allows(packed("203.0.113.77"))
    allowed.renew([])
    assert not allowed.allows(packed("203.0.113.77"))


def test_named_networks_stand_in_place_of_the_default() -> None:
    allowed = Acl(["203.0.113.0/24", "2001:db8::7"], [ipaddress.ip_network("198.18.0.0/15")])
    assert allowed.allows(packed("203.0.113.1"))
    assert allowed.allows(packed("2001:db8::7"))
    assert not allowed.allows(packed("2001:db8::8"))
    assert not allowed.allows(packed("127.0.0.1"))
    assert not allowed.allows(packed("198.18.0.1"))


def test_named_networks_may_be_added_to_the_default() -> None:
    allowed = Acl(["default", "203.0.113.0/24"], [ipaddress.ip_network("198.18.0.0/15")])
    for client in ("203.0.113.1", "127.0.0.1", "198.18.0.1"):
        assert allowed.allows(packed(client))
    assert not allowed.allows(packed("8.8.8.8"))


def test_all_the_world_can_be_let_in_on_purpose() -> None:
    allowed = Acl(["0.0.0.0/0", "::/0"], [])
    assert allowed.allows(packed("8.8.8.8"))
    assert allowed.allows(packed("2001:db8::1"))


def test_nobody_may_ask_where_no_network_is_named() -> None:
    assert not Acl([], []).allows(packed("127.0.0.1"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("fd00::1/8", "did you mean fd00::/8?"),
        ("everybody", "this is no network; write one such as 10.0.0.0/8"),
        ("10.0.0.0/33", "this is no network"),
        ("", "this is no network"),
    ],
)
def test_a_network_that_is_written_badly_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Acl([text], [])
    assert why in str(caught.value)


def test_what_is_remembered_of_clients_is_bounded() -> None:
    allowed = Acl(None, [])
    for number in range(MOST_DECISIONS):
        client = number.to_bytes(3, "big")
        assert allowed.allows(b"\x0a" + client)
        assert not allowed.allows(b"\x09" + client)
        assert allowed.remembered <= MOST_DECISIONS


@pytest.mark.parametrize(
    ("client", "prefix"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_the_flag_to_add_lets_the_client_in_and_nobody_out(client: str, prefix: str) -> None:
    assert prefix_text(packed(client)) == prefix
    assert Acl(["10.0.0.0/8"], []).flags_for(packed(client)) == f"--allow {prefix}"
    flags = Acl(None, []).flags_for(packed(client))
    assert flags == f"--allow default --allow {prefix}"
    networks = [word for word in flags.split() if word != "--allow"]
    assert Acl(networks, []).allows(packed(client))
    assert Acl(networks, []).allows(packed("127.0.0.1"))


def test_own_prefixes_are_those_of_the_interfaces() -> None:
    networks = own_networks()
    assert ipaddress.ip_network("127.0.0.0/8") in networks
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 53))
        except OSError:
            return
        address = ipaddress.ip_address(sock.getsockname()[0])
    assert any(address in network for network in networks if network.version == 4)


def test_an_interface_to_all_the_world_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [
        (packed("198.51.100.1"), packed("0.0.0.0")),
        (packed("198.51.100.1"), packed("254.0.0.0")),
        (packed("2001:db8::1"), packed("8000::")),
        (packed("203.0.113.5"), packed("255.255.255.0")),
        (packed("203.0.114.5"), packed("255.255.255.255")),
    ]
    monkeypatch.setattr(acl, "interface_addresses", lambda: iter(pairs))
    assert {str(network) for network in own_networks()} == {"203.0.113.0/24", "203.0.114.5/32"}
