"""How an upstream is written."""

import socket

import pytest

from mcsdns.errors import ConfigError
from mcsdns.forward.address import Address, Protocol, parse

UDP, TCP, TLS = Protocol.UDP, Protocol.TCP, Protocol.TLS


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("10.0.0.1", Address(UDP, "10.0.0.1", 53), "10.0.0.1:53"),
        (" 10.0.0.1:5353 ", Address(UDP, "10.0.0.1", 5353), "10.0.0.1:5353"),
        ("udp://10.0.0.1", Address(UDP, "10.0.0.1", 53), "10.0.0.1:53"),
        ("tcp://10.0.0.1", Address(TCP, "10.0.0.1", 53), "tcp://10.0.0.1:53"),
        ("TCP://10.0.0.1:54", Address(TCP, "10.0.0.1", 54), "tcp://10.0.0.1:54"),
        ("tls://9.9.9.9", Address(TLS, "9.9.9.9", 853), "tls://9.9.9.9:853"),
        (
            "tls://9.9.9.9#DNS.Quad9.net.",
            Address(TLS, "9.9.9.9", 853, "dns.quad9.net"),
            "tls://9.9.9.9:853#dns.quad9.net",
        ),
        (
            "tls://[2620:fe::fe]:8853#dns.quad9.net",
            Address(TLS, "2620:fe::fe", 8853, "dns.quad9.net"),
            "tls://[2620:fe::fe]:8853#dns.quad9.net",
        ),
        ("::1", Address(UDP, "::1", 53), "[::1]:53"),
        ("[::1]", Address(UDP, "::1", 53), "[::1]:53"),
        ("[::1]:54", Address(UDP, "::1", 54), "[::1]:54"),
        ("2001:DB8:0::1", Address(UDP, "2001:db8::1", 53), "[2001:db8::1]:53"),
        ("fe80::1%eth0", Address(UDP, "fe80::1%eth0", 53), "[fe80::1%eth0]:53"),
        ("2001:db8::53%en0", Address(UDP, "2001:db8::53", 53), "[2001:db8::53]:53"),
        ("[fd00::1%9]:54", Address(UDP, "fd00::1", 54), "[fd00::1]:54"),
        ("tls://[::1%lo]#a.b", Address(TLS, "::1", 853, "a.b"), "tls://[::1]:853#a.b"),
        ("::ffff:10.0.0.1%eth0", Address(UDP, "10.0.0.1", 53), "10.0.0.1:53"),
        ("tcp://[fe80::1%eth0]:54", Address(TCP, "fe80::1%eth0", 54), "tcp://[fe80::1%eth0]:54"),
        ("::ffff:10.0.0.1", Address(UDP, "10.0.0.1", 53), "10.0.0.1:53"),
    ],
)
def test_an_upstream_is_an_address(text: str, address: Address, shown: str) -> None:
    assert parse(text) == address
    assert address.text == shown
    assert parse(address.text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no IP address; write ADDR"),
        ("dns.example", "dns.example is a host name, and who is to resolve it?"),
        ("dns.example:53", "dns.example is a host name"),
        ("tls://dns.quad9.net", "Write the server's IP address"),
        ("localhost", "localhost is a host name"),
        ("https://9.9.9.9", "https:// is not spoken here; udp://, tcp://, tls:// are"),
        ("://9.9.9.9", ":// is not spoken here"),
        ("10.0.0.256", "'10.0.0.256' is no IP address"),
        ("010.0.0.1", "is no IP address"),
        ("10.0.0.1:", "'' is no port"),
        ("10.0.0.1:0", "'0' is no port; 1 to 65535 are"),
        ("10.0.0.1:65536", "'65536' is no port"),
        ("10.0.0.1:+53", "'+53' is no port"),
        ("10.0.0.1:\u0665\u0663", "is no port"),
        ("[10.0.0.1]:53", "only an IPv6 address stands in brackets"),
        ("[::1", "this is no address"),
        ("[::1]53", "this is no address"),
        ("0.0.0.0", "no server has the address 0.0.0.0"),
        ("[::]:53", "no server has the address ::"),
        ("224.0.0.251:5353", "no server has the address 224.0.0.251"),
        ("10.0.0.1#dns.example", "only TLS servers have a name"),
        ("tls://10.0.0.1#", "behind # stands '', which is no host name"),
        ("tls://10.0.0.1#a b", "behind # stands 'a b'"),
        ("tls://10.0.0.1#10.0.0.1", "behind # stands '10.0.0.1'"),
        ("10.0.0.1/24", "is no IP address"),
    ],
)
def test_what_is_no_upstream_is_refused_with_what_to_do(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert why in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sockets_are_told_the_interface_of_a_link_local_address() -> None:
    index = socket.if_nametoindex("lo")
    assert parse("fe80::1%lo").socket_address() == ("fe80::1", 53, 0, index)
    assert parse("fe80::1%7").socket_address() == ("fe80::1", 53, 0, 7)
    assert parse("::1").socket_address() == ("::1", 53, 0, 0)
    assert parse("10.0.0.1").socket_address() == ("10.0.0.1", 53)
    assert parse("10.0.0.1").family == socket.AF_INET


def test_an_interface_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="interface"):
        parse("fe80::1%nowhere0").socket_address()
