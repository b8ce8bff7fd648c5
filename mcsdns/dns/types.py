"""Record types, classes, response codes, flags, the fixed parts of messages, and RRsets."""

import enum
import struct
from typing import Final

import msgspec

DNS_PORT: Final = 53
HEADER_BYTES: Final = 12

QR: Final = 0x8000
OPCODE: Final = 0x7800
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
AD: Final = 0x0020
CD: Final = 0x0010
RCODE: Final = 0x000F
FLAGS: Final = {"qr": QR, "aa": AA, "tc": TC, "rd": RD, "ra": RA, "z": 0x0040, "ad": AD, "cd": CD}
"""The flags of a header by name, in its order (RFC 1035, 4.1.1; AD and CD: RFC 4035, 3)."""

POINTER: Final = 0xC0
"""The bits that tell a compression pointer from a label (RFC 1035, 4.1.4)."""
HEADER: Final = struct.Struct("!HHHHHH")
"""ID, flags, and how many entries each of the four sections has (RFC 1035, 4.1.1)."""
HEADER_WITH_ID: Final = struct.Struct("!2sHHHHH")
"""The same, the ID as octets."""
QUESTION: Final = struct.Struct("!HH")
"""What stands behind a question's name: type and class (RFC 1035, 4.1.2)."""
RECORD: Final = struct.Struct("!HHIH")
"""What stands behind a record's owner: type, class, TTL, length of RDATA (RFC 1035, 4.1.3)."""

DO: Final = 0x8000
"""DNSSEC OK among the flags of an OPT record (RFC 3225)."""
NSID_OPTION: Final = 3
"""The option code of a server's identifier (RFC 5001, 2.3)."""
COOKIE_OPTION: Final = 10
"""The option code of a DNS cookie (RFC 7873, 4)."""
EDE_OPTION: Final = 15
"""The option code of an Extended DNS Error (RFC 8914, 2)."""
OPTION: Final = struct.Struct("!HH")
"""What stands before an EDNS option: its code and length (RFC 6891, 6.1.2)."""


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
    """Response codes (RFC 1035, 4.1.1; RFC 6891, 9; RFC 8945, 5.2.1)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    NOTAUTH = 9
    BADVERS = 16


class EdeCode(enum.IntEnum):
    """Info codes of the Extended DNS Errors that we send or look for (RFC 8914, 5.2)."""

    OTHER = 0
    STALE_ANSWER = 3
    NOT_READY = 14
    PROHIBITED = 18
    STALE_NXDOMAIN = 19
    NOT_AUTHORITATIVE = 20
    NOT_SUPPORTED = 21
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23
    INVALID_DATA = 24


EDE_NAMES: Final = (
    "Other",
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "Not Ready",
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
)
"""The purposes of info codes 0 to 24, as IANA has them (RFC 8914, 5.2)."""


class Ede(msgspec.Struct, frozen=True, gc=False):
    """One Extended DNS Error: its info code and a sentence for people (UTF-8, short)."""

    code: int
    text: str

    @property
    def name(self) -> str:
        """The purpose of the code; empty where IANA has none."""
        return EDE_NAMES[self.code] if self.code < len(EDE_NAMES) else ""


class RRset(msgspec.Struct, frozen=True, gc=False):
    """All records of one owner and type; the owner is known from where the RRset stands.

    Attributes:
        rtype: the record type.
        ttl: seconds, equal for all records (RFC 2181, 5.2).
        rdatas: RDATA of each record, without names that could be compressed, no two equal.
        suffix: what each of them ends with, held once: an answer of many records is made without
            touching those that it does not show.
    """

    rtype: int
    ttl: int
    rdatas: tuple[bytes, ...]
    suffix: bytes = b""

    def from_record(self, start: int, most: int) -> tuple[bytes, ...]:
        """Return `most` records at most, from record `start` on as they wrap around.

        They are without the suffix. It takes as long as what it returns, not as the RRset.
        """
        rdatas = self.rdatas[start : start + most]
        return rdatas + self.rdatas[: min(start, most - len(rdatas))] if start else rdatas


def rcode_text(rcode: int) -> str:
    """Write a response code by its name."""
    try:
        return Rcode(rcode).name
    except ValueError:
        return f"RCODE{rcode}"
