"""Upstreams' replies by question: fresh ones, stale ones for when no upstream answers, failures.

Replies stand in an LRU cache bounded by number and octets; failures in one of their own, so that
a dead upstream asked for many names pushes out no reply. In front of both stands a plain dict of
what was handed out in the last second: most hits end there, already rendered.

Times are seconds of a monotonic clock that the caller reads.

Spec: RFC 2308 (negative), 2181 5.2 and 8 (TTLs), 8767 (stale), 9520 (failures).
"""

import bisect
import sys
from typing import Final

import cachetools
import msgspec

from mcsdns.dns import HEADER_BYTES, Query
from mcsdns.dns.types import EdeCode, Rcode
from mcsdns.errors import ConfigError
from mcsdns.forward.render import (
    MAX_KINDS,
    MAX_RENDERED_BYTES,
    Fitted,
    bounded,
    write_error_option,
)
from mcsdns.forward.reply import UpstreamReply, failed_reply, has_shared_offsets
from mcsdns.stats import ReplyKind

_SERVFAIL: Final = Rcode.SERVFAIL.value
_CACHED_ERROR: Final = 13
_STALE_TTL_S: Final = 30
_KEPT_OVERHEAD_BYTES: Final = 512
"""What a kept reply costs besides its octets and key: slots of three dicts, structs, numbers."""
_OFFSET_BYTES: Final = 8
_NUMBER_BYTES: Final = 32
_SHARED_NUMBERS: Final = 256
"""CPython has one object for each number up to this."""
_RECENT_OVERHEAD_BYTES: Final = 768
_MAX_FAILURE_S: Final = 300.0
_FLAGS: Final = tuple(bytes((number,)) for number in range(8))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept, and for how long.

    Attributes:
        max_entries: replies and failures kept; an eighth is for failures.
        max_bytes: octets they may take, of which an eighth is for failures and an eighth for
            octets already rendered.
        least_ttl_s, most_ttl_s: bounds of TTLs; a TTL of 0 is never kept.
        most_negative_ttl_s: the same for NODATA and NXDOMAIN.
        stale_s: for how long after its end a reply serves when no upstream answers.
        recheck_s: how often at most an upstream is asked for what is stale (RFC 8767, 5).
        failure_s: for how long a failure is kept (RFC 9520, 3.2: 1 s to 5 min).
        prefetch_share: the last share of a lifetime, in which a popular reply wants a refresh.
        prefetch_asked: popular is what was asked in this many different seconds.
    """

    max_entries: int = 65536
    max_bytes: int = 64 << 20
    least_ttl_s: int = 0
    most_ttl_s: int = 86400
    most_negative_ttl_s: int = 3600
    stale_s: float = 3600.0
    recheck_s: float = 5.0
    failure_s: float = 5.0
    prefetch_share: float = 0.1
    prefetch_asked: int = 2

    def __post_init__(self) -> None:
        """Check what would break a rule.

        Raises:
            ConfigError: a bound is impossible.
        """
        if not 1 <= self.failure_s <= _MAX_FAILURE_S:
            raise ConfigError(f"failure_s is {self.failure_s}; write 1 to 300 (RFC 9520, 3.2)")
        if not 0 <= self.least_ttl_s <= min(self.most_ttl_s, self.most_negative_ttl_s):
            raise ConfigError(
                f"least_ttl_s is {self.least_ttl_s}; write 0 to the smaller of most_ttl_s and "
                "most_negative_ttl_s"
            )


class Found(msgspec.Struct, frozen=True, gc=False):
    """A kept reply, as it is now.

    Attributes:
        fitted: renders it for a client. reply: what it renders, TTLs as they were at first.
        age_s: how old it is. until_s: when `fitted` ends to be right.
        stale: it is past its end, or a failure. wants_refresh: ask an upstream again now; said
            once in a lifetime.
    """

    fitted: Fitted
    reply: UpstreamReply
    age_s: int
    until_s: float
    stale: bool = False
    wants_refresh: bool = False

    @property
    def kind(self) -> ReplyKind:
        """What it counts as."""
        if not self.stale:
            return ReplyKind.CACHED
        return ReplyKind.FAILED if self.reply.rcode == _SERVFAIL else ReplyKind.STALE


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        replies, failures: how many are kept. size_bytes: the octets they take.
        hits: fresh replies found. failure_hits, stale_hits: failures and stale replies found.
        misses: nothing found. inserted: replies put. evicted: pushed out by the bounds.
        refreshes: how often a refresh was wanted.
    """

    replies: int
    failures: int
    size_bytes: int
    hits: int
    stale_hits: int
    failure_hits: int
    misses: int
    inserted: int
    evicted: int
    refreshes: int


class _Kept(msgspec.Struct, gc=False):
    """A reply or failure, since when, and what became of it."""

    reply: UpstreamReply
    put_s: float
    lifetime_s: float
    size_bytes: int
    asked: int = 0
    refreshing: bool = False
    rested_until_s: float = 0.0


class _Bounded(cachetools.LRUCache[bytes, _Kept]):
    """An LRU cache with bounds on number and octets, which counts what it pushes out."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=lambda kept: kept.size_bytes)
        self.evicted = 0
        self._max_entries = max_entries

    def put(self, key: bytes, kept: _Kept) -> bool:
        """Keep it, unless it alone is too large."""
        self.drop(key)
        if kept.size_bytes > self.maxsize or not self._max_entries:
            return False
        while len(self) >= self._max_entries:
            self.popitem()
        self[key] = kept
        return True

    def drop(self, key: bytes) -> None:
        """Forget one, if it is there."""
        if key in self:
            del self[key]

    def popitem(self) -> tuple[bytes, _Kept]:
        """Push out what was not used for longest."""
        self.evicted += 1
        return super().popitem()


def key_of(query: Query) -> bytes:
    """Return what a reply is kept under: name in lower case, type, class, DO, CD and RD.

    Whoever clears RD may get a referral or a refusal, which is no reply for all others.
    """
    edns = query.edns
    do = edns is not None and edns.do
    return query.name + query.question[-4:] + _FLAGS[(not query.rd) << 2 | do << 1 | query.cd]


class Cache:
    """Upstreams' replies by question."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        eighth, few = settings.max_bytes // 8, settings.max_entries // 8
        self._replies = _Bounded(settings.max_entries - few, settings.max_bytes - 2 * eighth)
        self._failures = _Bounded(few, eighth)
        self._recent: dict[bytes, Found] = {}
        self._recent_bytes = 0
        self._max_recent_bytes = eighth
        self._hits = self._stale_hits = self._failure_hits = 0
        self._misses = self._inserted = self._refreshes = 0

    def find(self, key: bytes, now_s: float) -> Found | None:
        """Return a reply that is fresh; what is stale or a failure while no upstream is asked."""
        found = self._recent.get(key)
        if found is None or now_s >= found.until_s:
            found = self._find_kept(key, now_s)
            if found is None:
                self._misses += 1
                return None
        if not found.stale:
            self._hits += 1
        elif found.reply.rcode == Rcode.SERVFAIL:
            self._failure_hits += 1
        else:
            self._stale_hits += 1
        return found

    def find_stale(self, key: bytes, now_s: float) -> Found | None:
        """Return the reply to send when no upstream answered; it rests for `recheck_s` then.

        Until then `find` returns it too, so that the name is not asked upstream.
        """
        kept = self._replies.get(key)
        if kept is None:
            return None
        if now_s < kept.put_s + kept.lifetime_s:
            return self.find(key, now_s)
        kept.rested_until_s = now_s + self._settings.recheck_s
        found = self._stale(key, kept, now_s)
        if found is not None:
            self._stale_hits += 1
        return found

    def grown(self, key: bytes, reply: UpstreamReply, now_s: float) -> int | None:
        """Return the age of a reply that `find` returned; None where `find` has to look again.

        It is no hit here: who has it ready counts it.

        That is where the reply is not kept any more, has ended, or is soon to be refreshed.
        """
        kept = self._replies.get(key)
        if kept is None or kept.reply is not reply:
            return None
        age_s = int(now_s - kept.put_s)
        if age_s >= kept.lifetime_s or (not kept.refreshing and self._ends_soon(kept, age_s)):
            return None
        kept.asked += 1
        return age_s

    def _ends_soon(self, kept: _Kept, age_s: int) -> bool:
        """Say whether a reply is in the last share of its life.

        A second is the grain: of a lifetime of 5 s the last tenth begins within the last second.
        """
        return age_s + 1 > kept.lifetime_s * (1 - self._settings.prefetch_share)

    def put(self, key: bytes, reply: UpstreamReply, now_s: float) -> UpstreamReply:
        """Keep a reply if it may be kept; return it as it is to be sent, TTLs within bounds.

        Never kept: what is truncated, other rcodes, a lifetime of 0, and with it what denies
        without SOA, and referrals. A reply that may not be kept still ends an older one.
        """
        if reply.truncated or reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            if reply.rcode == Rcode.SERVFAIL and not reply.truncated:
                self.put_failure(key, now_s, reply.errors)
            return reply
        self._failures.drop(key)
        self._forget_recent(key)
        self._replies.drop(key)
        if reply.lifetime_s:
            reply = self._bounded(reply)
        if reply.lifetime_s:
            kept = _Kept(reply, now_s, reply.lifetime_s, _size_bytes(key, reply))
            self._inserted += self._replies.put(key, kept)
        return reply

    def put_failure(
        self, key: bytes, now_s: float, errors: bytes = b"", most_s: float | None = None
    ) -> None:
        """Keep that no upstream could answer; an older reply stays for who takes it stale.

        For `most_s` seconds, where it is given: what was told at once may be over at once.
        """
        reply = failed_reply(errors)
        failure_s = self._settings.failure_s if most_s is None else most_s
        kept = _Kept(reply, now_s, failure_s, _size_bytes(key, reply))
        self._failures.put(key, kept)

    def clear(self) -> None:
        """Forget everything but the counts."""
        self._replies.clear()
        self._failures.clear()
        self._recent.clear()
        self._recent_bytes = 0

    def statistics(self) -> Statistics:
        """Return how much is kept and what was found."""
        return Statistics(
            len(self._replies),
            len(self._failures),
            int(self._replies.currsize + self._failures.currsize) + self._recent_bytes,
            self._hits,
            self._stale_hits,
            self._failure_hits,
            self._misses,
            self._inserted,
            self._replies.evicted + self._failures.evicted,
            self._refreshes,
        )

    def _bounded(self, reply: UpstreamReply) -> UpstreamReply:
        """Return a reply with its TTLs within our bounds.

        Where something is denied no TTL is above the lifetime: the SOA's counts down from the
        smaller of its TTL and MINIMUM (RFC 2308, 5 and 6).
        """
        settings = self._settings
        most_s = settings.most_ttl_s
        if reply.negative:
            most_s = min(settings.most_negative_ttl_s, max(reply.lifetime_s, settings.least_ttl_s))
        return bounded(reply, settings.least_ttl_s, most_s)

    def _find_kept(self, key: bytes, now_s: float) -> Found | None:
        """Look behind what is recent; this refreshes the order, once a second at most."""
        kept = self._replies.get(key)
        if kept is not None:
            age_s = int(now_s - kept.put_s)
            if age_s < kept.lifetime_s:
                return self._fresh(key, kept, age_s)
            rested_until_s = max(kept.rested_until_s, self._failing_until_s(key))
            if now_s < rested_until_s:
                kept.rested_until_s = rested_until_s
                return self._stale(key, kept, now_s) or self._find_failure(key, now_s)
        return self._find_failure(key, now_s)

    def _failing_until_s(self, key: bytes) -> float:
        """Return until when a failure is kept; what is stale is better than it (RFC 8767, 5)."""
        failure = self._failures.get(key)
        return 0.0 if failure is None else failure.put_s + failure.lifetime_s

    def _fresh(self, key: bytes, kept: _Kept, age_s: int) -> Found:
        kept.asked += 1
        reply = kept.reply
        found = Found(Fitted(reply, age_s), reply, age_s, kept.put_s + age_s + 1)
        self._remember(key, found)
        is_popular = kept.asked >= self._settings.prefetch_asked
        if kept.refreshing or not is_popular or not self._ends_soon(kept, age_s):
            return found
        kept.refreshing = True
        self._refreshes += 1
        return msgspec.structs.replace(found, wants_refresh=True)

    def _stale(self, key: bytes, kept: _Kept, now_s: float) -> Found | None:
        """Return what is past its end, with the error that says so (RFC 8767, 4; RFC 8914, 4.4)."""
        last_s = kept.put_s + kept.lifetime_s + self._settings.stale_s
        if now_s >= last_s:
            del self._replies[key]
            return None
        reply = kept.reply
        denied = reply.rcode == Rcode.NXDOMAIN
        code = EdeCode.STALE_NXDOMAIN if denied else EdeCode.STALE_ANSWER
        fitted = Fitted(reply, 0, _STALE_TTL_S, write_error_option(code))
        age_s = int(now_s - kept.put_s)
        found = Found(fitted, reply, age_s, min(kept.rested_until_s, last_s), stale=True)
        self._remember(key, found)
        return found

    def _find_failure(self, key: bytes, now_s: float) -> Found | None:
        kept = self._failures.get(key)
        if kept is None:
            return None
        until_s = kept.put_s + kept.lifetime_s
        if now_s >= until_s:
            del self._failures[key]
            return None
        fitted = Fitted(kept.reply, errors=write_error_option(_CACHED_ERROR))
        found = Found(fitted, kept.reply, int(now_s - kept.put_s), until_s, stale=True)
        self._remember(key, found)
        return found

    def _remember(self, key: bytes, found: Found) -> None:
        """Keep what is handed out for the second in which it is right; all go where it is much."""
        self._forget_recent(key)
        size_bytes = _recent_bytes(key, found.reply)
        if self._recent_bytes + size_bytes > self._max_recent_bytes:
            self._recent.clear()
            self._recent_bytes = 0
        if size_bytes <= self._max_recent_bytes:
            self._recent_bytes += size_bytes
            self._recent[key] = found

    def _forget_recent(self, key: bytes) -> None:
        found = self._recent.pop(key, None)
        if found is not None:
            self._recent_bytes -= _recent_bytes(key, found.reply)


def _size_bytes(key: bytes, reply: UpstreamReply) -> int:
    """Return what a kept reply takes, close to what Python has allocated for it."""
    octets = sys.getsizeof(key) + len(reply.records) + len(reply.errors)
    if has_shared_offsets(reply):
        return _KEPT_OVERHEAD_BYTES + octets
    numbers = len(reply.ttls) - bisect.bisect_right(reply.ttls, _SHARED_NUMBERS)
    offsets = _OFFSET_BYTES * len(reply.ttls) + _NUMBER_BYTES * numbers
    return _KEPT_OVERHEAD_BYTES + octets + offsets


def _recent_bytes(key: bytes, reply: UpstreamReply) -> int:
    """Return the most that a recent reply takes: its records by age, and all it is rendered to."""
    whole = HEADER_BYTES + len(key) + len(reply.records) + len(reply.errors)
    return _RECENT_OVERHEAD_BYTES + len(reply.records) + MAX_KINDS * min(whole, MAX_RENDERED_BYTES)
