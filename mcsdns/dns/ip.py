"""IP addresses as packed octets, and the label that an address becomes (spec.md 1)."""

import ipaddress


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


def to_text(packed: bytes) -> str:
    """Write an address; IPv6 as RFC 5952 says, mapped IPv4 in mixed notation (its section 5)."""
    if len(packed) == 4:  # noqa: PLR2004
        return "{}.{}.{}.{}".format(*packed)
    if len(packed) != 16:  # noqa: PLR2004
        return ""
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        return "::ffff:" + to_text(packed[12:])
    return str(ipaddress.IPv6Address(packed))


def to_label(packed: bytes) -> str:
    """Write an address as a host label: `172-0-0-2`, `fd00-6-0-1--0`."""
    label = to_text(packed).replace(".", "-").replace(":", "-")
    return label + "0" if label.endswith("-") else label
