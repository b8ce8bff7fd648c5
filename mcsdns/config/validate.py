"""What texts of settings must look like, and what they mean."""

from typing import Final

from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.errors import ConfigError
from mcsdns.forward import address
from mcsdns.forward.address import Address
from mcsdns.server import acl

_ALL: Final = ("0.0.0.0", "[::]")  # noqa: S104 - what `:PORT` asks for


def split_address(text: str) -> tuple[str, int]:
    """Split `ADDR:PORT`, IPv6 in brackets.

    Raises:
        ConfigError: there is no port, or the address is none.
    """
    wrong = ConfigError(f"{text!r} is not ADDR:PORT, such as 127.0.0.1:1053 or [::1]:1053")
    try:
        host, port_text, is_bracketed = ip.split_port(text)
        host = ip.drop_scope(host)
        packed = ip.pack(host)
    except ValueError:
        raise wrong from None
    port = ip.port_number(port_text or "")
    if port is None:
        raise wrong
    if is_bracketed != (len(packed) == 16):  # noqa: PLR2004
        raise ConfigError(f"{text!r}: an IPv6 address stands in brackets, an IPv4 address does not")
    return host, port


def split_listen(text: str) -> list[tuple[str, int]]:
    """Split `ADDR:PORT`; `:PORT` stands for all addresses of both families.

    Raises:
        ConfigError: as `split_address`.
    """
    if text.startswith(":"):
        return [split_address(host + text) for host in _ALL]
    return [split_address(text)]


def split_stub_zone(text: str) -> tuple[Name, list[Address]]:
    """Read ZONE=UPSTREAM+UPSTREAM.

    Raises:
        ConfigError, InvalidNameError: it is not of this form.
    """
    zone, equals, rest = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not ZONE=UPSTREAM, such as corp.example=10.0.0.53")
    return names.from_text(zone), [address.parse(each) for each in rest.split("+")]


def check_zone(text: str) -> None:
    """Check the name of a zone; names of services must fit below it."""
    zone = names.from_text(text)
    if zone == names.ROOT:
        raise ValueError("the root cannot be served; name a zone such as clusterset.local")
    if len(zone) > 128:  # noqa: PLR2004 - <svc>.<ns>.svc must find room
        raise ValueError(f"{text!r} leaves no room for names below it (at most 128 octets)")


def check_allow(text: str) -> None:
    """Check a network, or the word for the default ones."""
    if text != "default":
        acl.parse(text)


def check_cookie_secrets(path: str) -> None:
    """Check a file of secrets."""
    from mcsdns.server.reply_options import read_secrets  # noqa: PLC0415 - few want it

    if path:
        read_secrets(path)


def check_namespace(text: str) -> None:
    """Check the name of a namespace."""
    if not names.is_dns_label(text):
        raise ValueError(f"{text!r} is not a namespace: lower-case letters, digits and hyphens")


def check_admin(text: str) -> None:
    """Check where the status page is; `none` for nowhere."""
    if text not in ("", "none"):
        split_address(text)


def check_probes(text: str) -> None:
    """Check where the probes are; `none` for nowhere."""
    if text not in ("", "none"):
        split_listen(text)
