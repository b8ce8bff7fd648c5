"""Upstreams' replies by question: fresh ones, stale ones for when no upstream answers, failures.

What always holds:

- A reply is found until its lifetime is over, the smallest of its TTLs (RFC 2181, 5.2), or of a
  negative reply the smaller of the SOA's TTL and MINIMUM (RFC 2308, 5). Its TTLs count down in
  whole seconds, once in a second at most: what `find` returns is right until `until_s`.
- A lifetime of 0 is never cached, nor a negative reply without SOA, a truncated one, a referral, or
  an rcode other than NOERROR and NXDOMAIN. SERVFAIL is cached as a failure.
- A reply whose lifetime is over stays for `stale_s`: "If the data is unable to be authoritatively
  refreshed when the TTL expires, the record MAY be used as though it is unexpired" (RFC 8767, 4),
  with a TTL of 30 s and EDE 3 or 19. The forwarder says when that is (`find_stale`). After that
  `find` returns the stale reply too for `recheck_s`, so that the name is not asked upstream
  (RFC 8767, 5).
- "Resolvers MUST cache resolution failures for at least 1 second" (RFC 9520, 3.2). A failure hides
  no fresh reply, and a stale reply is better than a failure. The next reply of an upstream ends it.

Replies and failures are two LRU caches, each bounded in number and octets, so that a dead upstream
that is asked for many names pushes out no reply.

Times are seconds of a monotonic clock that the caller reads.
"""

import bisect
import sys
from typing import Final

import cachetools
import msgspec

from mcsdns.dns import Query
from mcsdns.dns.types import EdeCode, Rcode
from mcsdns.errors import ConfigError
from mcsdns.forward.render import bound_ttls, cap_ttls, count_down, write_error_option
from mcsdns.forward.reply import UpstreamReply, failed_reply, has_shared_offsets
from mcsdns.stats import ReplyKind

_SERVFAIL: Final = Rcode.SERVFAIL.value
_CACHEABLE_RCODES: Final = (Rcode.NOERROR.value, Rcode.NXDOMAIN.value)
_NXDOMAIN: Final = Rcode.NXDOMAIN.value
_CACHED_ERROR: Final = write_error_option(13)
_STALE_TTL_S: Final = 30
_OVERHEAD_BYTES: Final = 512
"""What a cached reply takes besides its octets and key: slots of a dict, structs, numbers."""
_OFFSET_BYTES: Final = 8
_NUMBER_BYTES: Final = 32
_SHARED_NUMBERS: Final = 256
"""CPython has one object for each number up to this."""
_MAX_FAILURE_S: Final = 300.0
_FLAGS: Final = tuple(bytes((number,)) for number in range(8))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is cached, and for how long.

    Attributes:
        max_entries: replies and failures; an eighth is for failures.
        max_bytes: octets they may take; an eighth is for failures.
        least_ttl_s, most_ttl_s: bounds of TTLs; a TTL of 0 is never cached.
        most_negative_ttl_s: the same for NODATA and NXDOMAIN.
        stale_s: for how long after its end a reply serves when no upstream answers.
        recheck_s: how often at most an upstream is asked for what is stale (RFC 8767, 5).
        failure_s: for how long a failure is cached (RFC 9520, 3.2: 1 s to 5 min).
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


class CachedReply(msgspec.Struct, gc=False):
    """A reply or a failure in the cache, as it is to be sent until `until_s`.

    Attributes:
        reply: with its TTLs counted down to `age_s`.
        put_s: when it was put. lifetime_s: for how long it is fresh.
        until_s: when it has to be looked at again.
        kind: CACHED, STALE past its lifetime, FAILED for a failure.
        errors: Extended DNS Error options of our own, to be sent with it.
        asked: different seconds in which it was asked for. is_refreshing: a refresh was wanted.
        stale_until_s: until when it is found although it is stale.
    """

    reply: UpstreamReply
    put_s: float
    lifetime_s: float
    size_bytes: int
    until_s: float
    kind: ReplyKind = ReplyKind.CACHED
    errors: bytes = b""
    age_s: int = 0
    asked: int = 0
    is_refreshing: bool = False
    stale_until_s: float = 0.0


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        replies, failures: how many are cached. size_bytes: the octets they take.
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


class _Lru(cachetools.LRUCache[bytes, CachedReply]):
    """The least recently used goes first, past a bound on number or octets."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=_size_of)
        self.evicted = 0
        self._max_entries = max_entries

    def put(self, key: bytes, cached: CachedReply) -> bool:
        """Add a reply under a key that has none, unless it alone is too large."""
        if cached.size_bytes > self.maxsize or not self._max_entries:
            return False
        while len(self) >= self._max_entries:
            self.popitem()
        self[key] = cached
        return True

    def popitem(self) -> tuple[bytes, CachedReply]:
        """Remove the least recently used, which makes room."""
        self.evicted += 1
        return super().popitem()


def key_of(query: Query) -> bytes:
    """Return what a reply is cached under: name in lower case, type, class, DO, CD and RD.

    A query without RD may get a referral or a refusal, which is no reply for all others.
    """
    edns = query.edns
    do = edns is not None and edns.do
    return query.name + query.question[-4:] + _FLAGS[(not query.rd) << 2 | do << 1 | query.cd]


def keys_of_question(question: bytes) -> list[bytes]:
    """Return every key of a name in lower case, a type and a class."""
    return [question + flags for flags in _FLAGS]


class Cache:
    """Upstreams' replies by question."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        failures, failures_bytes = settings.max_entries // 8, settings.max_bytes // 8
        self._replies = _Lru(settings.max_entries - failures, settings.max_bytes - failures_bytes)
        self._failures = _Lru(failures, failures_bytes)
        self._hits = self._stale_hits = self._failure_hits = 0
        self._misses = self._inserted = self._refreshes = 0

    def find(self, key: bytes, now_s: float) -> CachedReply | None:
        """Return a reply that is fresh; a stale one or a failure while no upstream is asked."""
        found = self._replies.get(key)
        if found is None or (now_s >= found.until_s and not self._renew(key, found, now_s)):
            found = self._failures.get(key)
            if found is not None and now_s >= found.until_s:
                del self._failures[key]
                found = None
            if found is None:
                self._misses += 1
                return None
        if found.kind is ReplyKind.CACHED:
            self._hits += 1
        elif found.kind is ReplyKind.FAILED:
            self._failure_hits += 1
        else:
            self._stale_hits += 1
        return found

    def find_stale(self, key: bytes, now_s: float, *, once: bool = False) -> CachedReply | None:
        """Return the reply to send when no upstream answered.

        For `recheck_s` from now `find` returns it too, unless it is for this `once`.
        """
        cached = self._replies.get(key)
        if cached is None:
            return None
        if now_s < cached.put_s + cached.lifetime_s:
            return self.find(key, now_s)
        if not once:
            cached.stale_until_s = now_s + self._settings.recheck_s
        if not self._make_stale(key, cached, now_s):
            return None
        self._stale_hits += 1
        return cached

    def wants_refresh(self, found: CachedReply) -> bool:
        """Return whether to ask an upstream again for what `find` returned; once in a lifetime."""
        if (
            found.asked < self._settings.prefetch_asked
            or found.is_refreshing
            or found.kind is not ReplyKind.CACHED
            or not self._ends_soon(found, found.age_s)
        ):
            return False
        found.is_refreshing = True
        self._refreshes += 1
        return True

    def age_of(self, key: bytes, found: CachedReply, now_s: float) -> int | None:
        """Return the age of what `find` returned; None where `find` has to look again.

        That is where the reply is not in the cache any more, has ended, or is soon to be refreshed.
        It is no hit here: a caller that has the reply's octets counts it.
        """
        if self._replies.get(key) is not found:
            return None
        age_s = int(now_s - found.put_s)
        if age_s >= found.lifetime_s or (not found.is_refreshing and self._ends_soon(found, age_s)):
            return None
        found.asked += 1
        return age_s

    def put(self, key: bytes, reply: UpstreamReply, now_s: float) -> UpstreamReply:
        """Cache a reply if it may be; return it as it is to be sent, TTLs within bounds.

        A reply that may not be cached still ends an older one.
        """
        if reply.truncated or reply.rcode not in _CACHEABLE_RCODES:
            if reply.rcode == _SERVFAIL and not reply.truncated:
                self.put_failure(key, now_s, reply.errors)
            return reply
        if key in self._failures:
            del self._failures[key]
        if key in self._replies:
            del self._replies[key]
        if reply.lifetime_s:
            reply = self._bounded(reply)
        if lifetime_s := reply.lifetime_s:
            size_bytes = _size_bytes(key, reply)
            cached = CachedReply(reply, now_s, lifetime_s, size_bytes, until_s=now_s)
            self._inserted += self._replies.put(key, cached)
        return reply

    def put_failure(
        self, key: bytes, now_s: float, errors: bytes = b"", most_s: float | None = None
    ) -> None:
        """Cache that no upstream could answer; an older reply stays, to be used while it is stale.

        For `most_s` seconds, where that is given.
        """
        reply = failed_reply(errors)
        failure_s = self._settings.failure_s if most_s is None else most_s
        if key in self._failures:
            del self._failures[key]
        failure = CachedReply(
            reply, now_s, failure_s, _size_bytes(key, reply), now_s + failure_s, ReplyKind.FAILED
        )
        failure.errors = _CACHED_ERROR
        self._failures.put(key, failure)

    def statistics(self) -> Statistics:
        """Return how much is cached and what was found."""
        return Statistics(
            len(self._replies),
            len(self._failures),
            int(self._replies.currsize + self._failures.currsize),
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
        return bound_ttls(reply, settings.least_ttl_s, most_s)

    def _renew(self, key: bytes, cached: CachedReply, now_s: float) -> bool:
        """Make a reply right for another second; returns whether it is to be sent at all.

        No TTL of a fresh reply reaches 0, for none is below its lifetime.
        """
        age_s = int(now_s - cached.put_s)
        if age_s < cached.lifetime_s:
            cached.asked += 1
            if age_s > cached.age_s:
                cached.reply = count_down(cached.reply, age_s - cached.age_s)
                cached.age_s = age_s
            cached.until_s = cached.put_s + age_s + 1
            return True
        failure = self._failures.get(key)
        if failure is not None and failure.until_s > cached.stale_until_s:
            cached.stale_until_s = failure.until_s
        return now_s < cached.stale_until_s and self._make_stale(key, cached, now_s)

    def _make_stale(self, key: bytes, cached: CachedReply, now_s: float) -> bool:
        """Have a reply past its lifetime say so; returns False where it is too old, and removes it.

        Its TTLs count from what they were at first, 30 s at most (RFC 8767, 4; RFC 8914, 4.4).
        """
        last_s = cached.put_s + cached.lifetime_s + self._settings.stale_s
        if now_s >= last_s:
            del self._replies[key]
            return False
        if cached.kind is ReplyKind.CACHED:
            cached.kind = ReplyKind.STALE
            is_denial = cached.reply.rcode == _NXDOMAIN
            code = EdeCode.STALE_NXDOMAIN if is_denial else EdeCode.STALE_ANSWER
            cached.errors = write_error_option(code)
            cached.reply = cap_ttls(count_down(cached.reply, -cached.age_s), _STALE_TTL_S)
        cached.until_s = min(cached.stale_until_s, last_s)
        return True

    def _ends_soon(self, cached: CachedReply, age_s: int) -> bool:
        """Return whether a reply is in the last share of its lifetime.

        A second is the grain: of a lifetime of 5 s the last tenth begins within the last second.
        """
        return age_s + 1 > cached.lifetime_s * (1 - self._settings.prefetch_share)


def _size_of(cached: CachedReply) -> int:
    return cached.size_bytes


def _size_bytes(key: bytes, reply: UpstreamReply) -> int:
    """Return what a cached reply takes, close to what Python has allocated for it."""
    octets = sys.getsizeof(key) + len(reply.records) + len(reply.errors)
    if has_shared_offsets(reply):
        return _OVERHEAD_BYTES + octets
    numbers = len(reply.ttls) - bisect.bisect_right(reply.ttls, _SHARED_NUMBERS)
    offsets = _OFFSET_BYTES * len(reply.ttls) + _NUMBER_BYTES * numbers
    return _OVERHEAD_BYTES + octets + offsets
