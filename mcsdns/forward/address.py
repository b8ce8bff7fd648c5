"""Where an upstream is: `[PROTO://]ADDR[:PORT][#NAME]`. Nothing is connected here."""

import enum
import ipaddress
import re
import socket
from typing import Final

import msgspec

from mcsdns.dns import ip
from mcsdns.dns.types import DNS_PORT
from mcsdns.errors import ConfigError

_TLS_PORT: Final = 853
_MAX_NAME: Final = 253
_HOST_NAME: Final = re.compile(
    r"(?=.*[a-z])[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*"
)
_FORMS: Final = "write ADDR, ADDR:PORT, tcp://ADDR or tls://ADDR#NAME"


class Protocol(enum.StrEnum):
    """How an upstream is asked."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class Address(msgspec.Struct, frozen=True):
    """One upstream.

    Attributes:
        host: an IP address without brackets; a link-local one may end in `%` and an interface.
        name: what the certificate of a TLS server is to be for; empty for its IP address.
    """

    protocol: Protocol
    host: str
    port: int
    name: str = ""

    @property
    def text(self) -> str:
        """As in settings, for logs and metrics: `10.0.0.1:53`, `tls://[::1]:853#dns.example`."""
        scheme = "" if self.protocol is Protocol.UDP else f"{self.protocol}://"
        return f"{scheme}{ip.with_port(self.host, self.port)}{'#' if self.name else ''}{self.name}"

    @property
    def family(self) -> socket.AddressFamily:
        """The address family of its sockets."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def socket_address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return what `connect` takes.

        Raises:
            OSError: the interface of a link-local address is not there.
        """
        if self.family == socket.AF_INET:
            return self.host, self.port
        host, _, scope = self.host.partition("%")
        return host, self.port, 0, _scope_id(scope)


def parse(text: str) -> Address:
    """Read one upstream as settings have it.

    Raises:
        ConfigError: it is written badly, or is no address; says what to write.
    """
    rest, has_name, name = text.strip().partition("#")
    scheme, has_scheme, place = rest.partition("://")
    if not has_scheme:
        place = rest
    try:
        host, port, brackets = ip.split_port(place)
    except ValueError:
        raise ConfigError(f"upstream {text!r}: this is no address; {_FORMS}") from None
    if place.count(":") > 1 and not brackets:
        host, port = place, None
    protocol = _protocol(text, scheme) if has_scheme else Protocol.UDP
    return Address(
        protocol,
        _ip(text, host, brackets=brackets),
        _port(text, port, protocol),
        _name(text, name, protocol) if has_name else "",
    )


def _protocol(text: str, protocol: str) -> Protocol:
    try:
        return Protocol(protocol.lower())
    except ValueError:
        known = ", ".join(f"{each}://" for each in Protocol)
        raise ConfigError(
            f"upstream {text!r}: {protocol}:// is not spoken here; {known} are"
        ) from None


def _ip(text: str, host: str, *, brackets: bool = False) -> str:
    try:
        address = ipaddress.ip_address(ip.drop_scope(host))
    except ValueError:
        raise ConfigError(_why_no_ip(text, host)) from None
    if brackets and address.version == 4:  # noqa: PLR2004
        raise ConfigError(f"upstream {text!r}: only an IPv6 address stands in brackets")
    if address.is_unspecified or address.is_multicast:
        raise ConfigError(f"upstream {text!r}: no server has the address {host}; name its own")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _why_no_ip(text: str, host: str) -> str:
    if _HOST_NAME.fullmatch(host.lower().removesuffix(".")):
        return (
            f"upstream {text!r}: {host} is a host name, and who is to resolve it? "
            "Write the server's IP address"
        )
    return f"upstream {text!r}: {host!r} is no IP address; {_FORMS}"


def _port(text: str, port: str | None, protocol: Protocol) -> int:
    if port is None:
        return _TLS_PORT if protocol is Protocol.TLS else DNS_PORT
    number = ip.port_number(port)
    if not number:
        raise ConfigError(f"upstream {text!r}: {port!r} is no port; 1 to {ip.MAX_PORT} are")
    return number


def _name(text: str, given: str, protocol: Protocol) -> str:
    if protocol is not Protocol.TLS:
        raise ConfigError(
            f"upstream {text!r}: only TLS servers have a name; write tls://, or leave out #"
        )
    name = given.lower().removesuffix(".")
    if len(name) > _MAX_NAME or not _HOST_NAME.fullmatch(name):
        raise ConfigError(
            f"upstream {text!r}: behind # stands {given!r}, which is no host name; "
            "write the name that the server's certificate is for"
        )
    return name


def _scope_id(scope: str) -> int:
    if not scope:
        return 0
    return int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
