"""Counts replies by what they were, at the cost of one octet and one addition each.

Whatever is ready to be sent has the number of its class in front of it; who sends it adds to the
counter of that number. A class is one combination of zone, type, rcode and kind; zones come from
the settings, types and rcodes from closed sets, so there are few, and past 254 further ones count
as `other`: nothing that a peer asks makes the counters grow.
"""

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from mcsdns.dns.name import Name, to_text
from mcsdns.dns.types import Rcode, RRType

OTHER: Final = "other"
TRANSPORTS: Final = ("udp", "tcp")
"""By whether it is TCP."""
UNCOUNTED: Final = 255
"""The number of what is counted elsewhere, or not sent at all."""
_MOST: Final = 254
_NO_ZONE: Final = "."
_TYPES: Final = {
    each.value: each.name
    for each in (
        *(RRType.A, RRType.AAAA, RRType.SRV, RRType.PTR, RRType.TXT, RRType.CNAME, RRType.MX),
        *(RRType.NS, RRType.SOA, RRType.HTTPS, RRType.SVCB, RRType.ANY),
    )
}
_RCODES: Final = {each.value: each.name for each in Rcode}


class ReplyKind(enum.StrEnum):
    """What a reply is.

    Attributes:
        CLUSTERSET: records of ours. NEGATIVE: NODATA or NXDOMAIN of ours.
        STALE: what was true a while ago, of ours or of an upstream.
        NOT_READY: SERVFAIL before everything was read.
        PER_CLUSTER: the refused per-cluster form. OUTSIDE: a name of no zone, refused.
        NOT_ALLOWED: forwarding, refused to this client.
        FORWARDED: an upstream's reply. CACHED: one that was kept. FAILED: no upstream had one.
        REJECTED: the request is malformed, or of what is not served.
    """

    CLUSTERSET = "clusterset"
    NEGATIVE = "negative"
    STALE = "stale"
    NOT_READY = "not_ready"
    PER_CLUSTER = "per_cluster"
    OUTSIDE = "outside"
    NOT_ALLOWED = "not_allowed"
    FORWARDED = "forwarded"
    CACHED = "cached"
    FAILED = "failed"
    REJECTED = "rejected"


class ReplyCount(msgspec.Struct, frozen=True):
    """How many replies of one class one transport gave; `zone` is `.` where it is none of ours."""

    transport: str
    zone: str
    qtype: str
    rcode: str
    kind: ReplyKind
    number: int


class ReplyCounters:
    """The counters of one transport.

    Attributes:
        numbers: replies by class; who sends adds to it. The last one means nothing.
    """

    def __init__(self, transport: str) -> None:
        self.numbers = [0] * (UNCOUNTED + 1)
        self._transport = transport
        self._classes: dict[tuple[Name | None, str, str, ReplyKind], int] = {}

    def number_of(self, zone: Name | None, qtype: int, rcode: int, kind: ReplyKind) -> int:
        """Return the number of a class, 0 to 254; `zone` is the apex, None for none of ours."""
        of = (zone, _TYPES.get(qtype, OTHER), _RCODES.get(rcode, OTHER), kind)
        number = self._classes.get(of)
        if number is None:
            number = len(self._classes)
            if number >= _MOST:
                return _MOST
            self._classes[of] = number
        return number

    def mark_of(self, zone: Name | None, qtype: int, rcode: int, kind: ReplyKind) -> bytes:
        """Return the number of a class as the octet that stands in front of a reply."""
        return MARKS[self.number_of(zone, qtype, rcode, kind)]

    def kind_of(self, number: int) -> str:
        """Return the kind of a class by its number; nothing for what is counted elsewhere."""
        classes = list(self._classes)
        return classes[number][3] if number < len(classes) else ""

    def add(self, zone: Name | None, qtype: int, rcode: int, kind: ReplyKind) -> None:
        """Count one reply."""
        self.numbers[self.number_of(zone, qtype, rcode, kind)] += 1

    def counts(self) -> Iterator[ReplyCount]:
        """Iterate over the classes that were met."""
        for (zone, qtype, rcode, kind), number in self._classes.items():
            text = _NO_ZONE if zone is None else to_text(zone)
            yield ReplyCount(self._transport, text, qtype, rcode, kind, self.numbers[number])
        if self.numbers[_MOST]:
            yield ReplyCount(
                self._transport, OTHER, OTHER, OTHER, ReplyKind.REJECTED, self.numbers[_MOST]
            )


MARKS: Final = tuple(bytes((number,)) for number in range(UNCOUNTED + 1))
NO_MARK: Final = MARKS[UNCOUNTED]
