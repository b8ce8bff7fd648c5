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


@given(st.ip_addresses())
def test_packing_agrees_with_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert ip.pack(str(address)) == address.packed
    assert ip.pack(ip.to_text(address.packed)) == address.packed
