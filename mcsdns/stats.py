"""Counters, histograms and intervals that any room can keep.

Replies are counted by class, at the cost of one octet and one addition each. A class is one
combination of zone, type, rcode and kind. Every reply that is ready to be sent has the octet of its
class in front of it; the transport that sends the reply adds one to the counter of that octet.
Zones come from the settings, types and rcodes from closed sets, so classes are few, and past 254
further ones count as `other`: nothing that a peer sends makes the counters grow.

A histogram costs one bisection and two additions for each value.
"""

import enum
import functools
import operator
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from mcsdns.dns.name import Name, to_text
from mcsdns.dns.types import Rcode, RRType

OTHER: Final = "other"
TRANSPORTS: Final = ("udp", "tcp")
"""By whether it is TCP."""
UNCOUNTED: Final = b"\xff"
"""The class of what is counted elsewhere, or not sent at all."""
_OTHER_CLASS: Final = b"\xfe"
_NO_ZONE: Final = "."
_MOST_KNOWN: Final = 1024
_TYPES: Final = {
    each.value: each.name
    for each in (
        *(RRType.A, RRType.AAAA, RRType.SRV, RRType.PTR, RRType.TXT, RRType.CNAME, RRType.MX),
        *(RRType.NS, RRType.SOA, RRType.HTTPS, RRType.SVCB, RRType.ANY),
    )
}
_RCODES: Final = {each.value: each.name for each in Rcode}


class LogInterval:
    """Lets one log line pass in so many seconds."""

    def __init__(self, every_s: float = 60.0) -> None:
        self._every_s = every_s
        self._last_s = float("-inf")

    def may_pass(self, now_s: float) -> bool:
        """Return whether it is time again, and note it."""
        if now_s < self._last_s + self._every_s:
            return False
        self._last_s = now_s
        return True


class ReplyKind(enum.StrEnum):
    """What a reply is.

    Attributes:
        CLUSTERSET: records of our zones. NEGATIVE: NODATA or NXDOMAIN of our zones.
        STALE: what was true a while ago, of our zones or of an upstream.
        NOT_READY: SERVFAIL before the first sync.
        PER_CLUSTER: the refused per-cluster form. OUTSIDE: a name of no zone, refused.
        NOT_ALLOWED: forwarding, refused to this client.
        FORWARDED: an upstream's reply. CACHED: one from the cache. FAILED: no upstream had one.
        IDENTITY: what this server is. REJECTED: the request is malformed, or for something that is
        not served.
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
    IDENTITY = "identity"
    REJECTED = "rejected"


class ReplyCount(msgspec.Struct, frozen=True):
    """How many replies of one class one transport gave; `zone` is `.` outside our zones."""

    transport: str
    zone: str
    qtype: str
    rcode: str
    kind: ReplyKind
    number: int


class ReplyCounters:
    """The counters of one transport.

    Attributes:
        by_class: replies by the octet of their class; the sender adds to it. The last one
            (`UNCOUNTED`) means nothing.
        response_class: returns the octet of a class of replies, by the zone's apex (None outside
            our zones), type, rcode and kind; what was asked before is not looked up again.
    """

    def __init__(self, transport: str) -> None:
        self.by_class = [0] * 256
        self._transport = transport
        self._classes: dict[tuple[Name | None, str, str, ReplyKind], bytes] = {}
        self.response_class = functools.lru_cache(_MOST_KNOWN)(self._class_of)

    def _class_of(self, zone: Name | None, qtype: int, rcode: int, kind: ReplyKind) -> bytes:
        key = (zone, _TYPES.get(qtype, OTHER), _RCODES.get(rcode, OTHER), kind)
        octet = self._classes.get(key)
        if octet is None:
            if len(self._classes) >= _OTHER_CLASS[0]:
                return _OTHER_CLASS
            octet = self._classes[key] = bytes((len(self._classes),))
        return octet

    def kind_of(self, response_class: int) -> str:
        """Return the kind of replies of a class; empty for what is counted elsewhere."""
        classes = list(self._classes)
        return classes[response_class][3] if response_class < len(classes) else ""

    def add(self, zone: Name | None, qtype: int, rcode: int, kind: ReplyKind) -> None:
        """Count one reply."""
        self.by_class[self.response_class(zone, qtype, rcode, kind)[0]] += 1

    def counts(self) -> Iterator[ReplyCount]:
        """Iterate over the classes that were met."""
        for (zone, qtype, rcode, kind), octet in self._classes.items():
            text = _NO_ZONE if zone is None else to_text(zone)
            number = self.by_class[octet[0]]
            yield ReplyCount(self._transport, text, qtype, rcode, kind, number)
        if others := self.by_class[_OTHER_CLASS[0]]:
            yield ReplyCount(self._transport, OTHER, OTHER, OTHER, ReplyKind.REJECTED, others)


class LimitedReplies(msgspec.Struct):
    """Counts the replies that a rate limit dropped, and those that it truncated."""

    dropped: int = 0
    truncated: int = 0


class HistogramStatistics(msgspec.Struct, frozen=True):
    """A histogram at one moment.

    Attributes:
        bounds: upper bounds of the buckets, each inclusive; the last bucket has none.
        counts: values in each bucket alone, one more than there are bounds.
        sum: of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def __add__(self, other: "HistogramStatistics") -> "HistogramStatistics":
        """Add a histogram of the same bounds, such as that of another socket.

        Raises:
            ValueError: the bounds differ.
        """
        if self.bounds != other.bounds:
            raise ValueError("only histograms of the same bounds can be added")
        counts = tuple(map(operator.add, self.counts, other.counts))
        return HistogramStatistics(self.bounds, counts, self.sum + other.sum)


class Histogram:
    """Counts values in buckets."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Take the upper bounds of the buckets, in rising order; a further bucket is above all.

        Raises:
            ValueError: no bound, or bounds that do not rise.
        """
        if not bounds or not all(low < high for low, high in pairwise(bounds)):
            raise ValueError(f"{bounds} are no rising bounds")
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or the same value several times (a batch that took one duration)."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def statistics(self) -> HistogramStatistics:
        """Return how many values each bucket has."""
        return HistogramStatistics(self._bounds, tuple(self._counts), self._sum)
