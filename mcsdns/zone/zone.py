"""A zone this server is authoritative for: its apex and its SOA record.

The names below the apex are not here: every zone has the same ones, which are the tree's.
"""

import struct
from typing import Final

from mcsdns.dns import HEADER_BYTES, NegativeSoa
from mcsdns.dns.name import MAX_NAME_BYTES, Name
from mcsdns.dns.types import POINTER, RECORD, RRClass, RRset, RRType

_MNAME: Final = b"\x02ns\x03dns"
_RNAME: Final = b"\x0ahostmaster"
_REFRESH_S, _RETRY_S, _EXPIRE_S = 7200, 1800, 86400
_NUMBERS: Final = struct.Struct("!IIIII")


class Zone:
    """One zone.

    The SOA record stands in every NODATA and NXDOMAIN (RFC 2308, 3). Names in it are compressed,
    so its octets depend only on where the apex stands in the message: in the question, at one of
    255 offsets. They are rendered for each offset whenever the serial changes, at most once a
    second, and shared by all negative replies, also by those that are cached.

    Attributes:
        apex: the name of the zone.
        name_server: the only one, `ns.dns.<apex>` (RFC 1035, 3.3.13: MNAME).
        ttl: seconds, both TTL and MINIMUM of the SOA record (RFC 2308, 3 takes the smaller);
            another one shows with the next serial.
        soa: the SOA record, its names not compressed.
        negative_soa: the SOA record as it stands in negative replies.
    """

    def __init__(self, apex: Name, ttl: int) -> None:
        self.apex = apex
        self.name_server = Name(_MNAME + apex)
        self.ttl = ttl
        self.negative_soa = NegativeSoa(len(apex), [])
        self.replace_serial(0)

    def replace_serial(self, serial: int) -> None:
        """Render the SOA record with another serial."""
        numbers = _NUMBERS.pack(serial, _REFRESH_S, _RETRY_S, _EXPIRE_S, self.ttl)
        rdata = self.name_server + _RNAME + self.apex + numbers
        self.soa = RRset(RRType.SOA, self.ttl, (rdata,))
        size = len(_MNAME) + len(_RNAME) + 4 + len(numbers)
        fixed = RECORD.pack(RRType.SOA, RRClass.IN, self.ttl, size) + _MNAME
        pointers = [
            (POINTER << 8 | at).to_bytes(2, "big") for at in range(HEADER_BYTES + MAX_NAME_BYTES)
        ]
        self.negative_soa.records[:] = [p + fixed + p + _RNAME + p + numbers for p in pointers]
