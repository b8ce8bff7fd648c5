import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.dns import ip


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("172.0.0.2", "172-0-0-2"),
        ("5678:abcd::1", "5678-abcd--1"),
        ("fd00:6:0:1::", "fd00-6-0-1--0"),
        ("::", "--0"),
        ("::1", "--1"),
        ("FD00::0001", "fd00--1"),
        ("fd00:0:0:1:0:0:0:1", "fd00-0-0-1--1"),
        ("::ffff:10.0.0.1", "--ffff-10-0-0-1"),
    ],
)
def test_address_becomes_a_label(text: str, label: str) -> None:
    assert ip.to_label(ip.pack(text)) == label


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4"),
        *("1.2.3.+4", "1.2.3.\u0664", "1_0.2.3.4", "fe80::1%eth0", "::1::", "g::"),
        *("1.2.3.4/32", "-1.2.3.4", "1.2..4"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ip.pack(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("2001:db8::53%en0", "2001:db8::53"),
        ("fd00::1%7", "fd00::1"),
        ("::1%lo", "::1"),
        ("::ffff:10.0.0.1%eth0", "::ffff:10.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("febf::1%eth0", "febf::1%eth0"),
        ("fec0::1%eth0", "fec0::1"),
        ("10.0.0.1%eth0", "10.0.0.1%eth0"),
        ("g::%eth0", "g::%eth0"),
        ("2001:db8::53", "2001:db8::53"),
    ],
)
def test_a_scope_means_something_on_a_link_local_address_alone(text: str, left: str) -> None:
    assert ip.drop_scope(text) == left


@given(st.ip_addresses())
def test_packing_agrees_with_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert ip.pack(str(address)) == address.packed
    assert ip.pack(ip.to_text(address.packed)) == address.packed


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("10.0.0.1:53", ("10.0.0.1", "53", False)),
        ("[::1]:53", ("::1", "53", True)),
        ("[::1]", ("::1", None, True)),
        ("dns.example", ("dns.example", None, False)),
        ("::1:53", ("::1", "53", False)),
        ("host:", ("host", "", False)),
        (":53", ("", "53", False)),
        ("", ("", None, False)),
    ],
)
def test_port_is_split_off(text: str, parts: tuple[str, str | None, bool]) -> None:
    assert ip.split_port(text) == parts


@pytest.mark.parametrize("text", ["[::1", "::1]", "[[::1]]:53", "[::1]53", "a[b]:53"])
def test_stray_brackets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not ADDR or ADDR:PORT"):
        ip.split_port(text)


def test_port_is_a_number_of_16_bits() -> None:
    assert [ip.port_number(text) for text in ("0", "53", "65535")] == [0, 53, 65535]
    texts = ("", "65536", "+1", "1_0", "\u0661", "-1", " 1")
    assert [ip.port_number(text) for text in texts] == [None] * len(texts)


def test_ipv6_address_with_a_port_has_brackets() -> None:
    assert ip.with_port("10.0.0.1", 53) == "10.0.0.1:53"
    assert ip.with_port("::1", 53) == "[::1]:53"
