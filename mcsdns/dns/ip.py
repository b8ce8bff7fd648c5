"""IP addresses: as packed octets, as text, with a port, and as a label (spec.md 1)."""

import ipaddress
import re
from typing import Final

MAX_PORT: Final = 0xFFFF
_MAPPED: Final = bytes(10) + b"\xff\xff"
_HOST_AND_PORT: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<bare>[^\[\]]*?))(?::(?P<port>[^:\[\]]*))?"
)


def pack(text: str) -> bytes:
    """Return the 4 or 16 octets of an address.

    Raises:
        ValueError: the text is no IPv4 or IPv6 address (zone identifiers are none).
    """
    octets = text.split(".")
    if len(octets) == 4 and text.isascii():  # noqa: PLR2004 - the usual case, ten times faster
        try:
            packed = bytes(map(int, octets))
        except ValueError:
            packed = b""
        if to_text(packed) == text:
            return packed
    if "%" in text:
        raise ValueError(f"{text!r} has a zone identifier")
    return ipaddress.ip_address(text).packed


def drop_scope(host: str) -> str:
    """Return an address without its scope (`%eth0`) where that means nothing.

    Only a link-local address is one thing on one interface and another on the next; all interfaces
    are in the one zone of the global scope (RFC 4007, 5).
    """
    address, percent, _ = host.partition("%")
    if not percent:
        return host
    try:
        return host if ipaddress.IPv6Address(address).is_link_local else address
    except ValueError:
        return host


def to_text(packed: bytes) -> str:
    """Write an address; IPv6 as RFC 5952 says, mapped IPv4 in mixed notation (its section 5)."""
    if len(packed) == 4:  # noqa: PLR2004
        return "{}.{}.{}.{}".format(*packed)
    if len(packed) != 16:  # noqa: PLR2004
        return ""
    if (mapped := unmapped(packed)) != packed:
        return "::ffff:" + to_text(mapped)
    return str(ipaddress.IPv6Address(packed))


def unmapped(packed: bytes) -> bytes:
    """Return a mapped IPv4 address as such, any other as it is (RFC 4291, 2.5.5.2)."""
    return packed[len(_MAPPED) :] if packed.startswith(_MAPPED) else packed


def to_label(packed: bytes) -> str:
    """Write an address as a host label: `172-0-0-2`, `fd00-6-0-1--0`."""
    label = to_text(packed).replace(".", "-").replace(":", "-")
    return label + "0" if label.endswith("-") else label


def with_port(host: str, port: int) -> str:
    """Write ADDR:PORT, an IPv6 address in brackets (RFC 5952, 6)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_port(text: str) -> tuple[str, str | None, bool]:
    """Split `HOST:PORT`, `[HOST]:PORT` or `HOST`, at the last colon.

    Returns the host without brackets, the port as it stands (None without a colon), and whether
    there were brackets. Neither is checked.

    Raises:
        ValueError: there is another bracket.
    """
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not ADDR or ADDR:PORT")
    bracketed = match["bracketed"] is not None
    return match["bracketed"] if bracketed else match["bare"], match["port"], bracketed


def port_number(text: str) -> int | None:
    """Read a port, 0 to 65535 in ASCII digits; None where the text is none."""
    is_number = text.isascii() and text.isdigit() and len(text) < 6  # noqa: PLR2004
    return int(text) if is_number and int(text) <= MAX_PORT else None
