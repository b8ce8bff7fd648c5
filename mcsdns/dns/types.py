"""Record types, classes, response codes and RRsets: plain values, no wire format of messages."""

import enum

import msgspec


class RRType(enum.IntEnum):
    """The record types this server knows by name (IANA DNS parameters)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    DS = 43
    SVCB = 64
    HTTPS = 65
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255
    CAA = 257


class RRClass(enum.IntEnum):
    """The classes this server knows by name."""

    IN = 1
    CH = 3
    HS = 4
    NONE = 254
    ANY = 255


class Rcode(enum.IntEnum):
    """Response codes (RFC 1035, 4.1.1; RFC 6891, 9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class EdeCode(enum.IntEnum):
    """Info codes of Extended DNS Errors (RFC 8914, 5.2)."""

    OTHER = 0
    STALE_ANSWER = 3
    NOT_READY = 14
    PROHIBITED = 18
    STALE_NXDOMAIN = 19
    NOT_AUTHORITATIVE = 20
    NOT_SUPPORTED = 21
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


class Ede(msgspec.Struct, frozen=True, gc=False):
    """One Extended DNS Error: its code and a sentence for people (UTF-8, kept short)."""

    code: int
    text: str


class RRset(msgspec.Struct, frozen=True, gc=False):
    """All records of one owner and type; the owner is known from where the RRset stands.

    Attributes:
        rtype: the record type.
        ttl: seconds, equal for all records (RFC 2181, 5.2).
        rdatas: RDATA of each record, without names that could be compressed, no two equal.
    """

    rtype: int
    ttl: int
    rdatas: tuple[bytes, ...]


def type_text(rtype: int) -> str:
    """Write a record type by its name, or as `TYPE65280` (RFC 3597, 5)."""
    try:
        return RRType(rtype).name
    except ValueError:
        return f"TYPE{rtype}"


def type_from_text(text: str) -> int:
    """Read a record type by name or in RFC 3597 form.

    Raises:
        ValueError: no such type.
    """
    upper = text.upper()
    if upper in RRType.__members__:
        return RRType[upper]
    if upper.startswith("TYPE") and upper[4:].isdigit() and int(upper[4:]) <= 0xFFFF:  # noqa: PLR2004
        return int(upper[4:])
    raise ValueError(f"{text!r} is no record type; write a name such as AAAA, or TYPE65")


def rcode_text(rcode: int) -> str:
    """Write a response code by its name."""
    try:
        return Rcode(rcode).name
    except ValueError:
        return f"RCODE{rcode}"
