"""Queries to other servers: the core of forwarding, without descriptors and without a clock.

`Forwarder.ask` returns a reply at once from the cache, or sends it to the client later. No task and
no timer belongs to a query. `network.AsyncioNetwork` drives the core: it passes on what arrives,
and calls `expire` when `next_deadline` has come; each call says what time it is. What is to be sent
goes to the `Network` in one call.

What always holds:

- A query waits for at most `total_s`, then its clients get what is stale, or SERVFAIL with the
  reason. It is tried again and again: a try lasts three round trips of its upstream, then it is the
  next upstream's turn. A reply to an earlier try that comes late is as good as any.
- The same query (name, type, class, DO, CD, RD) is in flight once; its clients share the reply.
  Once more it may be in flight for those that have passed other instances of mcsdns: they may be
  in a loop.
- SERVFAIL and REFUSED of one upstream are believed when no other upstream that is up knows better,
  as stub resolvers do it (res_send of glibc and musl). A truncated reply is asked for over TCP.
- An upstream that rejects EDNS is asked once more without it (RFC 6891, 6.2.2). A try after one
  that found silence leaves out our option, the next one EDNS (see `quirks`).
- A reply that cannot be read is none, and no silence: it is asked for once more over TCP.
- To a question that two wrong replies repeat no reply over UDP is taken: whoever forges has two
  guesses, then it goes over TCP.
- A failed try counts once against its upstream; silence to EDNS alone brings none down. An upstream
  that is down is probed with queries that no client waits for. While all are down all are tried,
  and what is stale is sent at once.

Spec: RFC 5625 (proxies), RFC 8767 (stale), RFC 9520 (failures), RFC 8914 (errors); spec.md 3.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from mcsdns.dns import HEADER_BYTES, Edns, Query, write_opt, write_query
from mcsdns.dns.name import MAX_LABEL_BYTES, MAX_NAME_BYTES, Name, to_text
from mcsdns.dns.types import QR, QUESTION, RCODE, Rcode, RRType
from mcsdns.errors import MalformedReplyError, ReplyError
from mcsdns.forward import cache as caching
from mcsdns.forward import render as rendering
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.cache import Cache, CachedReply, key_of, keys_of_question
from mcsdns.forward.health import Chooser, Policy
from mcsdns.forward.loops import Loops, is_too_long, mark_of, write_mark
from mcsdns.forward.pending import (
    TICK_S,
    Attempt,
    Deadlines,
    Network,
    PendingQuery,
    Upstream,
    UpstreamGroup,
    UpstreamStatistics,
    Waiter,
)
from mcsdns.forward.places import Places, holder_text, prefix_of
from mcsdns.forward.quirks import MARK, NO_OPT, OPT
from mcsdns.forward.render import render
from mcsdns.forward.reply import UpstreamReply, failed_reply, read_upstream_reply
from mcsdns.forward.router import Router
from mcsdns.forward.stream_pool import StreamPoolSettings
from mcsdns.forward.udp_pool import GUESSING, UdpPool, UdpPoolSettings
from mcsdns.stats import (
    TRANSPORTS,
    Histogram,
    HistogramStatistics,
    LogInterval,
    ReplyCount,
    ReplyCounters,
    ReplyKind,
)

logger = logging.getLogger(__name__)

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Upper bounds: from a neighbour in the same node to the longest that a query waits."""
_BATCH: Final = 64
"""Tries looked at in one turn of the loop: 4,096 silent ones took it for 80 ms, in which the kernel
dropped requests for our own zone."""
_SWEEP_S: Final = 1.0
_LOG_EVERY_S: Final = 60.0
_LOG_LOOPS_EVERY_S: Final = 600.0
_LOOPS_S: Final = 30.0
_PLAIN_EVERY_S: Final = 1.0
_LEAST_KNOWN_S: Final = 30
"""How long it is cached at most what was answered without EDNS to who wants DNSSEC."""
_ROUNDS_WHEN_UNREACHABLE: Final = 2
_REFUSED_S: Final = 1.0
"""How long it is cached that upstreams refuse connections: one that restarts is back soon."""
_NO_EDNS_RCODES: Final = (Rcode.FORMERR.value, Rcode.NOTIMP.value, Rcode.SERVFAIL.value)
"""What an upstream may say to an OPT record (RFC 2671, 5.3; RFC 6891, 7)."""
_NOERROR: Final = Rcode.NOERROR.value
_SERVFAIL: Final = Rcode.SERVFAIL.value
_POOR_RCODES: Final = (Rcode.SERVFAIL.value, Rcode.REFUSED.value)
_FORWARDED: Final = ReplyKind.FORWARDED  # to find a member takes 0.18 us in CPython 3.11
_QR: Final = QR >> 8
_ARCOUNT_AT: Final = 10
_MARKED: Final = b"m"
_BEHIND_NAME_BYTES: Final = 5
"""Of the key of a question: type, class and flags."""
_WRONG_UNTIL_FORGED: Final = 2
_WAITERS_PER_PENDING: Final = 8
"""Clients that wait at once, for each of the questions that may be in flight."""
_FEW_CLIENTS: Final = 7
"""So many replies of 64 KB take a millisecond; to more clients they go in several turns."""
_TURN_BYTES: Final = 1 << 19
_CLIENT_BYTES: Final = 1 << 12
"""What a small reply costs, as octets of a large one: 1,024 clients of one that had 64 KB each took
120 ms of the loop."""
_PROBED_TRIES: Final = 2
"""Tries that found silence, after which it is looked whether the question is in a loop."""
_PROBE_QUESTION_EVERY_S: Final = 1.0
_BITS: Final = (False, True)
_OPTS: Final = [write_opt(do=do, options=write_mark(b"", b"12345678"))[:-8] for do in _BITS]
"""OPT records, by DO, up to our entry in the mark of a question that passed no other mcsdns."""
_BARE_OPTS: Final = [write_opt(do=do) for do in _BITS]
_HEADS: Final = [
    write_query(0, b"", 0, rd=rd, cd=cd, ad=True, opt=b"\0" if edns else b"")[2:HEADER_BYTES]
    for cd in _BITS
    for rd in _BITS
    for edns in _BITS
]
"""Headers behind the ID, by CD, RD and EDNS. AD is always set: the reply may be for several
clients, of which one may understand the bit (RFC 6840, 5.7); it is taken off for all others."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How queries are forwarded.

    Attributes:
        total_s: longest that a query waits; clients wait 5 s, CoreDNS 2 s.
        max_pending: queries in flight; past it an old one gives way (see `places`), or else the
            new one gets SERVFAIL at once.
        max_waiters: clients that share one of them; of all at most 8 times `max_pending` wait.
        policy: which of several upstreams is asked first.
        has_mark: whether loops are marked (see `loops`).
    """

    total_s: float = 1.8
    max_pending: int = 4096
    max_waiters: int = 1024
    policy: Policy = Policy.FASTEST
    has_mark: bool = True
    ports: UdpPoolSettings = UdpPoolSettings()
    streams: StreamPoolSettings = StreamPoolSettings()
    cache: caching.Settings = caching.Settings()


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        asked: queries. joined: those that found the same one in flight. pending: in flight.
        gave_up: without an answer in time. refused: for too many in flight. looped: loops.
        forged: those that went over TCP, for wrong replies to them came; forged_failed: those of
            them that TCP had no answer for.
        displaced: those that gave way to others for want of a place. waiting: clients that wait.
        replies: by class, of those that had to wait. seconds: how long, by transport.
    """

    asked: int
    joined: int
    pending: int
    gave_up: int
    refused: int
    looped: int
    forged: int
    forged_failed: int
    displaced: int
    waiting: int
    cache: caching.Statistics
    upstreams: list[UpstreamStatistics]
    replies: list[ReplyCount]
    seconds: dict[str, HistogramStatistics]


class LatencyStatistics:
    """Counts replies that had to be waited for, and how long that took, by transport."""

    def __init__(self) -> None:
        self._counters = tuple(map(ReplyCounters, TRANSPORTS))
        self._seconds = tuple(Histogram(SECONDS) for _ in TRANSPORTS)

    def add(self, waiter: Waiter, rcode: int, kind: ReplyKind, now_s: float) -> None:
        """Count one reply."""
        counters = self._counters[waiter.tcp]
        response_class = counters.response_class(None, waiter.query.qtype, rcode, kind)
        counters.by_class[response_class[0]] += 1
        self._seconds[waiter.tcp].observe(now_s - waiter.asked_s)

    def counts(self) -> list[ReplyCount]:
        """Return the replies by class."""
        return [count for each in self._counters for count in each.counts()]

    def seconds(self) -> dict[str, HistogramStatistics]:
        """Return by transport how long they took."""
        return {
            transport: each.statistics()
            for transport, each in zip(TRANSPORTS, self._seconds, strict=True)
        }


class ImmediateReply(msgspec.Struct, frozen=True, gc=False):
    """A reply that need not be waited for.

    Attributes:
        octets: the whole message. kind: what it counts as.
        key, cached: where it is in the cache, if it is; the same octets behind the ID are right
            until `cached.until_s`, and then as `Cache.age_of` says.
    """

    octets: bytes
    kind: ReplyKind
    key: bytes = b""
    cached: CachedReply | None = None


class Forwarder:
    """Answers from other servers."""

    def __init__(
        self,
        settings: Settings,
        zones: Mapping[Name, Sequence[Address]],
        network: Network,
        rng: random.Random,
        latency: LatencyStatistics | None = None,
    ) -> None:
        """Take the upstreams of each zone; those of the root are for all other names.

        `rng` must not be predictable; `latency` goes on counting where this follows another
        forwarder.

        Raises:
            ConfigError: an upstream is not usable.
        """
        self.settings = settings
        self.cache = Cache(settings.cache)
        self._network = network
        self._rng = rng
        self._loops = Loops[tuple[Upstream, bytes]](rng)
        self._chooser = Chooser(settings.policy, rng)
        self._groups = {zone: self._group(zone, addresses, {}) for zone, addresses in zones.items()}
        self.router = Router(self._groups)
        self._latency = latency or LatencyStatistics()
        self._pending: dict[bytes, PendingQuery] = {}
        self._unsent: deque[tuple[list[Waiter], UpstreamReply, bytes, ReplyKind]] = deque()
        self._deadlines = Deadlines()
        self._sweep_s = self._question_logged_s = float("-inf")
        self._displaced_lines = LogInterval()
        self._forged_lines, self._chain_lines = LogInterval(), LogInterval(_LOG_LOOPS_EVERY_S)
        self._malformed_lines = LogInterval()
        self._edns = MARK if settings.has_mark else OPT
        self._is_started = False
        self._wait_s = settings.total_s - TICK_S
        self._places = Places(self._pending, self._wait_s)
        self._is_caching = settings.cache.max_entries > 0
        self._asked = self._joined = self._gave_up = self._refused = self._looped = 0
        self._forged = self._forged_failed = self._displaced = self._waiting = 0
        self._most_waiting = settings.max_pending * _WAITERS_PER_PENDING

    def start(self, now_s: float) -> None:
        """Look for loops."""
        self._is_started = True
        for upstream in self._upstreams():
            self._probe_for_loop(upstream, now_s)

    def close(self) -> None:
        """Give up whatever is in flight, without a word, and close all sockets."""
        for pending in list(self._pending.values()):
            pending.end()
        self._pending.clear()
        self._unsent.clear()
        for attempt in self._deadlines.clear():
            attempt.pending.end()  # what no client waits for is in no other list
        for upstream in self._upstreams():
            upstream.close()
        self._groups = {zone: UpstreamGroup(zone, ()) for zone in self._groups}
        self.router = Router(self._groups)
        self._network.wake()

    def replace(self, zone: Name, addresses: Sequence[Address], now_s: float) -> None:
        """Take other upstreams for a zone; what is in flight to the old ones is asked anew.

        Those that stay keep their sockets and what is known of them.
        """
        before = self._groups.get(zone)
        known = {each.address: each for each in before.upstreams} if before else {}
        self._groups[zone] = group = self._group(zone, addresses, known)
        self.router = Router(self._groups)
        gone = [each for each in known.values() if each not in group.upstreams]
        for pending in [each for each in self._pending.values() if each.group is before]:
            pending.group, pending.step = group, 0
            pending.order = self._chooser.order(group.healths)
            if pending.current is None or pending.current.upstream in gone:
                self._try_next(pending, now_s)
        for upstream in gone:
            upstream.close()
        if self._is_started:
            for upstream in group.upstreams:
                self._probe_for_loop(upstream, now_s)

    def ask(
        self,
        group: UpstreamGroup,
        query: Query,
        client: bytes,
        detach: Callable[[], Callable[[bytes], None]],
        limit: int,
        now_s: float,
        *,
        tcp: bool,
    ) -> ImmediateReply | None:
        """Return the reply; None where it comes later, through what `detach` returns.

        Args:
            group: the upstreams of the name, as `router` finds them.
            query: what the client asks.
            client: whose it is: an address of 4 or 16 octets, empty where it is not known.
            detach: called once where the reply comes later; returns what sends it to the client.
            limit: octets that the reply may have.
            now_s: monotonic seconds.
            tcp: the client is on TCP.
        """
        self._asked += 1
        pending_key = key = key_of(query)
        mark = b""
        edns = query.edns
        if edns is not None and edns.options:
            if self._edns == MARK:
                mark = mark_of(edns.options)
            query = _without_options(query, edns)
            if mark:
                pending_key = key + _MARKED
                if self._closes_loop(query, key, mark, now_s):
                    return self._answer_loop(query, limit, tcp=tcp)
        cached = self.cache.find(key, now_s) if self._is_caching else None
        if cached is not None:
            if self.cache.wants_refresh(cached) and self._may_refresh(key):
                self._begin(group, key, key, query, b"", client, now_s)
            octets = render(cached.reply, query, limit, cached.errors, tcp=tcp)
            return ImmediateReply(octets, cached.kind, key, cached)
        if self._loops.probes and self._ends_probe(query, now_s):
            return self._answer_loop(query, limit, tcp=tcp)
        if self._waiting >= self._most_waiting and not self._make_room(now_s):
            return self._refuse(query, key, self._too_many(), limit, now_s, tcp=tcp)
        pending = self._pending.get(pending_key)
        if pending is not None:
            self._joined += 1
            errors = b""
            if not pending.is_shared:
                pending.is_shared = prefix_of(client) != prefix_of(pending.client)
            if len(mark) > len(pending.mark):
                pending.mark = mark
            if pending.is_cut and pending.fallback is not None and not tcp:
                octets = render(pending.fallback, query, limit, rendering.NO_TCP, tcp=False)
                return ImmediateReply(octets, _FORWARDED)
        else:
            pending, errors = self._begin(group, key, pending_key, query, mark, client, now_s)
        if pending is None or len(pending.waiters) >= self.settings.max_waiters:
            return self._refuse(query, key, errors or self._too_many(), limit, now_s, tcp=tcp)
        self._waiting += 1
        pending.waiters.append(Waiter(query, limit, tcp, detach(), now_s))
        return None

    def next_deadline(self) -> float | None:
        """Return when `expire` is to be called at the latest; None while nothing is in flight."""
        if self._unsent:
            return float("-inf")
        deadline_s = self._deadlines.first_s
        for upstream in self._upstreams():
            if upstream.health.is_down:
                deadline_s = min(deadline_s, upstream.health.probe_due_s)
            if upstream.udp is not None and upstream.udp.has_open:
                deadline_s = min(deadline_s, self._sweep_s + _SWEEP_S)
        return deadline_s if deadline_s < float("inf") else None

    def expire(self, now_s: float) -> None:
        """Look at the tries whose time is over, at upstreams that are down, and at old sockets.

        What many clients wait for is sent to some of them at each call.
        """
        if self._unsent:
            self._reply_to_some(now_s)
        for attempt in self._deadlines.due(now_s, _BATCH):
            pending = attempt.pending
            if attempt.error:
                self._fail(attempt, attempt.error, now_s)
            elif not pending.is_done and pending.current is attempt:
                self._hear_nothing(attempt, now_s)
        is_sweep = now_s >= self._sweep_s + _SWEEP_S
        if is_sweep:
            self._sweep_s = now_s
        for upstream in self._upstreams():
            if upstream.health.is_down and upstream.health.probe_due_s <= now_s:
                upstream.health.probe(now_s)
                self._ask_aside(upstream, upstream.zone, RRType.NS, now_s, edns=NO_OPT)
            if is_sweep and upstream.udp is not None:
                upstream.udp.renew(now_s)

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(
            self._asked,
            self._joined,
            len(self._pending),
            self._gave_up,
            self._refused,
            self._looped,
            self._forged,
            self._forged_failed,
            self._displaced,
            self._waiting,
            self.cache.statistics(),
            [upstream.statistics() for upstream in self._upstreams()],
            self._latency.counts(),
            self._latency.seconds(),
        )

    def _group(
        self, zone: Name, addresses: Sequence[Address], known: Mapping[Address, Upstream]
    ) -> UpstreamGroup:
        upstreams: list[Upstream] = []
        for address in dict.fromkeys(addresses):
            if address in known:
                upstreams.append(known[address])
                continue
            stream = self._network.stream_pool(address, self._deliver, self._fail)
            udp: UdpPool[Attempt] | None = None
            if address.protocol is Protocol.UDP:
                udp = UdpPool(
                    address,
                    self._deliver,
                    self._fail,
                    self._heed_wrong,
                    self.settings.ports,
                    self._network,
                    self._rng,
                )
            upstreams.append(Upstream(zone, address, stream, udp))
        return UpstreamGroup(zone, upstreams)

    def _upstreams(self) -> Iterator[Upstream]:
        for group in self._groups.values():
            yield from group.upstreams

    # A query from its first try to its last.

    def _begin(
        self,
        group: UpstreamGroup,
        key: bytes,
        pending_key: bytes,
        query: Query,
        mark: bytes,
        client: bytes,
        now_s: float,
    ) -> tuple[PendingQuery | None, bytes]:
        """Send a query; returns it, or why no client may wait for it.

        While all upstreams are down what is stale is sent at once, and asked for beside that.
        """
        if not group.upstreams:
            return None, rendering.NO_UPSTREAM
        if len(self._pending) >= self.settings.max_pending and not self._make_room(now_s):
            return None, self._too_many()
        until_s = now_s + self._wait_s
        pending = PendingQuery(key, pending_key, query, mark, group, until_s, self._edns, client)
        self._pending[pending_key] = pending
        self._try_next(pending, now_s)
        if pending.is_done:
            return None, rendering.LOOP
        if len(group.upstreams) > 1:
            at = self._chooser.explore(group.healths, pending.order[0])
            if at is not None:
                self._ask_aside(group.upstreams[at], query.name, query.qtype, now_s, query)
        if group.is_down and self.cache.find_stale(key, now_s) is not None:
            return None, rendering.SILENT
        return pending, b""

    def _try_next(self, pending: PendingQuery, now_s: float) -> None:
        """Ask the next upstream in turn, or give up where the time is over."""
        if now_s >= pending.until_s or pending.is_aside:
            self._give_up(pending, rendering.SILENT, now_s)
            return
        upstreams = pending.group.upstreams
        if not upstreams:
            self._give_up(pending, rendering.NO_UPSTREAM, now_s)
            return
        order = pending.order = pending.order or self._chooser.order(pending.group.healths)
        for _ in order:
            upstream = upstreams[order[pending.step % len(order)]]
            pending.step += 1
            if not upstream.loops_until_s or not self._is_looping(upstream, now_s):
                self._send(pending, upstream, now_s)
                return
        self._looped += 1
        self._end(pending, failed_reply(rendering.LOOP), b"", ReplyKind.FAILED, now_s)

    def _send(
        self,
        pending: PendingQuery,
        upstream: Upstream,
        now_s: float,
        *,
        over_tcp: bool = False,
        edns: int | None = None,
    ) -> None:
        """Send the client's question in a request of our own.

        EDNS is hop by hop (RFC 6891, 6.1.1), so the OPT record is ours: our size, the client's DO,
        our mark.

        Args:
            pending: what is asked.
            upstream: who is asked.
            now_s: monotonic seconds.
            over_tcp: where UDP would do else.
            edns: what it has at most; None for what the question has come to.
        """
        udp = None if over_tcp or pending.is_forged else upstream.udp
        if edns is None:
            edns = pending.edns
        if upstream.quirks.is_odd:
            edns = upstream.quirks.most(edns, now_s)
        attempt = Attempt(pending, upstream, now_s, udp is None, edns)
        pending.current = attempt
        pending.attempts.append(attempt)
        health = upstream.health
        health.asked += 1
        query = pending.query
        opt = b""
        if edns:
            do = query.edns is not None and query.edns.do
            if edns == OPT:
                opt = _BARE_OPTS[do]
            else:
                entry = self._loops.entry_of(query.name + query.question[-4:])
                opt = _OPTS[do] + entry
                if pending.mark:
                    opt = write_opt(do=do, options=write_mark(pending.mark, entry))
        body = b"".join(
            (_HEADS[query.cd << 2 | query.rd << 1 | (edns > NO_OPT)], query.question, opt)
        )
        deadline_s = now_s + health.try_s
        if deadline_s > pending.until_s:
            deadline_s = pending.until_s
        if udp is None:
            attempt.stream_query = upstream.stream.send(attempt, b"\0\0" + body)
        else:
            try:
                attempt.socket, attempt.message_id = udp.send(attempt, body, now_s)
            except OSError as error:
                attempt.error = error.strerror or str(error)
                deadline_s = now_s - TICK_S  # it fails in the next turn, never within a call
        is_first = deadline_s < self._deadlines.first_s
        self._deadlines.add(deadline_s, attempt)
        if is_first:
            self._network.wake()

    def _deliver(self, attempt: Attempt, message: bytes, now_s: float) -> bool:
        """Take what came for a try; returns whether it is a reply to what was asked."""
        pending = attempt.pending
        query = pending.query
        try:
            reply = read_upstream_reply(message, query.question, query.labels)
        except MalformedReplyError as error:
            self._take_malformed(attempt, error, now_s)
            return True
        except ReplyError:
            return False
        attempt.is_over = True
        attempt.socket = attempt.stream_query = None
        upstream = attempt.upstream
        if attempt.tells_health and upstream.health.answer(now_s - attempt.sent_s, now_s):
            _log_up(upstream)
        if pending.is_done:
            return True
        rcode = reply.rcode
        if (attempt.edns < self._edns or upstream.quirks.is_odd) and rcode not in _NO_EDNS_RCODES:
            self._learn_edns(attempt, now_s)
        if attempt.is_streamed:
            upstream.quirks.answers_tcp(now_s)
        if pending.is_aside:
            pending.end()
        elif reply.truncated and not attempt.is_streamed:
            pending.fallback = reply
            if upstream.quirks.has_tcp(now_s) or self._leave_those_on_tcp(pending, reply, now_s):
                self._send(pending, upstream, now_s, over_tcp=True, edns=attempt.edns)
        elif attempt.edns and rcode in _NO_EDNS_RCODES and _may_be_of_edns(message, query):
            attempt.has_failed = True
            if rcode == _SERVFAIL:
                pending.fallback = pending.fallback or reply
            self._send(pending, upstream, now_s, over_tcp=attempt.is_streamed, edns=NO_OPT)
        elif rcode in _POOR_RCODES and len(pending.order) > 1:
            pending.fallback = pending.fallback or reply
            if pending.has_another_up():
                if pending.current is attempt:
                    self._try_next(pending, now_s)
            elif not pending.awaits_another(upstream):
                self._finish(pending, reply, now_s)
        else:
            if not attempt.edns and query.edns is not None and query.edns.do:
                reply = _without_dnssec(reply)
            self._finish(pending, reply, now_s)
        return True

    def _hear_nothing(self, attempt: Attempt, now_s: float) -> None:
        """Go on where a try found silence."""
        pending, upstream = attempt.pending, attempt.upstream
        self._count_failure(attempt, "no reply in time", now_s, is_silent=True)
        if attempt.tells_health:
            pending.ask_with_less(attempt)
            if len(pending.attempts) == _PROBED_TRIES:
                self._probe_question(pending, upstream, now_s)
        elif pending.fallback is not None and len(pending.order) == 1 and now_s < pending.until_s:
            self._deadlines.add(pending.until_s, attempt)  # TCP loses nothing: it may be slow
            return
        self._try_next(pending, now_s)

    def _leave_those_on_tcp(
        self, pending: PendingQuery, reply: UpstreamReply, now_s: float
    ) -> bool:
        """Send a truncated reply to clients on UDP; returns whether some on TCP wait on."""
        waiters = pending.waiters
        pending.waiters = [each for each in waiters if each.tcp]
        over_udp = [each for each in waiters if not each.tcp]
        self._reply(over_udp, reply, rendering.NO_TCP, _FORWARDED, now_s)
        pending.is_cut = bool(pending.waiters)
        if not pending.is_cut:
            self._end(pending, reply, rendering.NO_TCP, _FORWARDED, now_s)
        return pending.is_cut

    def _take_malformed(self, attempt: Attempt, error: ReplyError, now_s: float) -> None:
        """Ask over TCP for what could not be read, once, then another upstream."""
        pending, upstream = attempt.pending, attempt.upstream
        attempt.is_over = True
        attempt.socket = attempt.stream_query = None
        upstream.malformed += 1
        if attempt.tells_health and upstream.health.answer(now_s - attempt.sent_s, now_s):
            _log_up(upstream)
        if self._malformed_lines.may_pass(now_s):
            logger.warning(
                "upstream %s: in its reply to the question for %s %s; such a question is asked "
                "over TCP, then elsewhere, and else ends in SERVFAIL",
                upstream.address.text,
                to_text(pending.query.name),
                error,
            )
        if pending.is_done:
            return
        if pending.is_aside:
            pending.end()
        elif not (attempt.is_streamed or pending.is_malformed):
            pending.is_malformed = True
            self._send(pending, upstream, now_s, over_tcp=True, edns=attempt.edns)
        elif pending.has_another_up():
            pending.is_malformed = True
            if pending.current is attempt:
                self._try_next(pending, now_s)
        elif not pending.awaits_another(upstream):
            reply = pending.fallback or failed_reply(rendering.MALFORMED)
            self._finish(pending, reply, now_s)

    def _learn_edns(self, attempt: Attempt, now_s: float) -> None:
        """Note what an upstream answered to, and what it failed on for the same question."""
        pending, upstream = attempt.pending, attempt.upstream
        upstream.quirks.answers(attempt.edns)
        if attempt.edns < self._edns and pending.failed_with_more(attempt):
            upstream.quirks.answers_without(pending.query, upstream.zone, attempt.edns, now_s)
            if attempt.tells_health:
                upstream.health.forgive(now_s - attempt.sent_s)

    def _fail(self, attempt: Attempt, why: str, now_s: float) -> None:
        """Learn that a try will not be answered."""
        is_guessed = why is GUESSING  # which says nothing of the upstream: the next port may do
        if not is_guessed:
            self._count_failure(attempt, why, now_s)
        attempt.is_over = True
        attempt.socket = attempt.stream_query = None
        pending = attempt.pending
        if pending.current is not attempt or pending.is_done:
            return
        if is_guessed or pending.step < _ROUNDS_WHEN_UNREACHABLE * len(pending.order):
            self._try_next(pending, now_s)
        elif pending.may_hear_from_another(attempt.upstream):  # then it goes on
            until_s = min(now_s + attempt.upstream.health.try_s, pending.until_s)
            self._deadlines.add(until_s, attempt)
            self._network.wake()
        else:  # at once, so that clients ask elsewhere
            self._give_up(pending, rendering.UNREACHABLE, now_s)

    def _heed_wrong(self, datagram: bytes, now_s: float) -> None:
        """Count a reply with an ID that was never sent against what it repeats."""
        question = _question_of(datagram)
        if not question:
            return
        for key in keys_of_question(question):
            for pending in self._flights(key):
                pending.wrong += 1
                if pending.wrong >= _WRONG_UNTIL_FORGED and not pending.is_forged:
                    self._forged += 1
                    pending.leave_udp()
                    attempt = pending.current
                    if attempt is not None and not attempt.is_streamed:
                        self._send(pending, attempt.upstream, now_s, edns=attempt.edns)

    def _finish(self, pending: PendingQuery, reply: UpstreamReply, now_s: float) -> None:
        """Cache a reply and send it; what is stale is better than a failure (RFC 8767, 4)."""
        key = pending.key
        if reply.rcode != _SERVFAIL:
            reply = self.cache.put(key, reply, now_s) if self._is_caching else reply
            self._end(pending, reply, b"", _FORWARDED, now_s)
            return
        if pending.came_back:
            reply = msgspec.structs.replace(reply, errors=rendering.LOOP + reply.errors)
        if not pending.mark:
            self.cache.put_failure(key, now_s, reply.errors)
        stale = self.cache.find_stale(key, now_s, once=bool(pending.mark))
        if stale is None:
            self._end(pending, reply, b"", ReplyKind.FAILED, now_s)
        else:
            self._end(pending, stale.reply, stale.errors, ReplyKind.STALE, now_s)

    def _give_up(self, pending: PendingQuery, errors: bytes, now_s: float) -> None:
        if pending.is_aside:
            pending.end()
            return
        self._gave_up += 1
        if pending.is_malformed:
            errors = rendering.MALFORMED
        if pending.is_forged:
            self._forged_failed += 1
            errors = rendering.FORGED
            if self._forged_lines.may_pass(now_s):
                logger.error(
                    "%s: replies came that nobody asked for, as if someone forges them, and over "
                    "TCP there is no answer; let the upstream answer on its TCP port",
                    to_text(pending.query.name),
                )
        fallback = pending.fallback
        if fallback is None:
            if pending.came_back:
                errors = rendering.LOOP + errors
            is_over = not pending.mark
            reply, errors, kind = self._last_resort(pending.key, errors, now_s, is_over=is_over)
            self._end(pending, reply, errors, kind, now_s)
        elif fallback.truncated:  # all that is to be had; clients on TCP cannot be sent it
            for each in pending.attempts:
                if each.is_streamed and not each.is_over:
                    each.upstream.quirks.finds_silence_over_tcp(each.sent_s, now_s)
            self._end(pending, fallback, rendering.NO_TCP, ReplyKind.FORWARDED, now_s)
        else:
            self._finish(pending, fallback, now_s)

    def _last_resort(
        self, key: bytes, errors: bytes, now_s: float, *, is_over: bool
    ) -> tuple[UpstreamReply, bytes, ReplyKind]:
        """Return what was true a while ago, else SERVFAIL, which is cached where all `is_over`."""
        stale = self.cache.find_stale(key, now_s, once=not is_over)
        if stale is not None:
            return stale.reply, stale.errors, ReplyKind.STALE
        if is_over:
            most_s = _REFUSED_S if errors is rendering.UNREACHABLE else None
            self.cache.put_failure(key, now_s, errors, most_s)
        return failed_reply(errors), b"", ReplyKind.FAILED

    def _end(
        self,
        pending: PendingQuery,
        reply: UpstreamReply,
        errors: bytes,
        kind: ReplyKind,
        now_s: float,
    ) -> None:
        """Send the reply to all clients that wait, and await nothing more."""
        self._pending.pop(pending.pending_key, None)
        self._reply(pending.end(), reply, errors, kind, now_s)

    def _reply(
        self,
        waiters: list[Waiter],
        reply: UpstreamReply,
        errors: bytes,
        kind: ReplyKind,
        now_s: float,
    ) -> None:
        """Send a reply, to all in this turn if that takes no time."""
        if not self._unsent and len(waiters) <= _FEW_CLIENTS:
            self._send_replies(waiters, reply, errors, kind, now_s)
            return
        self._unsent.append((waiters, reply, errors, kind))
        if len(self._unsent) == 1:
            self._reply_to_some(now_s)
        self._network.wake()

    def _reply_to_some(self, now_s: float) -> None:
        """Send what has waited longest to as many clients as one turn has time for."""
        waiters, reply, errors, kind = self._unsent[0]
        most = max(_FEW_CLIENTS, _TURN_BYTES // (len(reply.records) + _CLIENT_BYTES))
        if len(waiters) > most:
            self._unsent[0] = waiters[most:], reply, errors, kind
        else:
            self._unsent.popleft()
        self._send_replies(waiters[:most], reply, errors, kind, now_s)

    def _send_replies(
        self,
        waiters: list[Waiter],
        reply: UpstreamReply,
        errors: bytes,
        kind: ReplyKind,
        now_s: float,
    ) -> None:
        self._waiting -= len(waiters)
        add, rcode = self._latency.add, reply.rcode
        for waiter in waiters:
            waiter.send(render(reply, waiter.query, waiter.limit, errors, tcp=waiter.tcp))
            add(waiter, rcode, kind, now_s)

    def _refuse(
        self, query: Query, key: bytes, errors: bytes, limit: int, now_s: float, *, tcp: bool
    ) -> ImmediateReply:
        """Answer what may not wait with what was true a while ago, else SERVFAIL."""
        reply, errors, kind = self._last_resort(key, errors, now_s, is_over=False)
        return ImmediateReply(render(reply, query, limit, errors, tcp=tcp), kind)

    def _make_room(self, now_s: float) -> bool:
        """Have a question give way; returns whether one did (see `places`)."""
        found = self._places.gives_way(now_s)
        if found is None:
            return False
        pending, held = found
        self._displaced += 1
        if self._displaced_lines.may_pass(now_s):
            logger.warning(
                "%d questions wait for upstreams, as many as may (--forward-limit); of %s are %d, "
                "so the oldest of these end in SERVFAIL; look what they ask for, and why no "
                "upstream answers",
                len(self._pending),
                holder_text(pending),
                held,
            )
        reply, errors, kind = self._last_resort(
            pending.key, rendering.TOO_MANY, now_s, is_over=False
        )
        self._end(pending, reply, errors, kind, now_s)
        return True

    def _may_refresh(self, key: bytes) -> bool:
        """Return whether something may be asked for again beside what clients wait for."""
        return key not in self._pending and len(self._pending) < self.settings.max_pending

    def _too_many(self) -> bytes:
        self._refused += 1
        return rendering.TOO_MANY

    # What no client waits for.

    def _count_failure(
        self, attempt: Attempt, why: str, now_s: float, *, is_silent: bool = False
    ) -> None:
        """Count once for each try that it failed; a late reply still counts.

        An upstream that is silent to tries with an OPT record alone is asked the same without.
        """
        upstream = attempt.upstream
        if attempt.has_failed or attempt.is_over or not attempt.tells_health:
            return
        attempt.has_failed = True
        is_sure = not (is_silent and attempt.edns)
        if upstream.health.fail(now_s, is_sure=is_sure):
            if now_s >= upstream.logged_s + _LOG_EVERY_S:
                upstream.logged_s = now_s
                upstream.is_logged = True
                text = upstream.address.text
                logger.warning("upstream %s is left alone until it answers: %s", text, why)
            self._probe_for_loop(upstream, now_s)
            return
        is_due = now_s >= upstream.asked_plain_s + _PLAIN_EVERY_S
        if upstream.health.is_suspect and not is_sure and is_due:
            upstream.asked_plain_s = now_s
            query = attempt.pending.query
            self._ask_aside(
                upstream, query.name, query.qtype, now_s, query, edns=NO_OPT, had_failed=True
            )

    def _ask_aside(
        self,
        upstream: Upstream,
        name: Name,
        qtype: int,
        now_s: float,
        query: Query | None = None,
        *,
        edns: int = MARK,
        had_failed: bool = False,
    ) -> None:
        """Ask something that no client waits for."""
        question = name + qtype.to_bytes(2, "big") + b"\0\1"
        query = query or Query(b"\0\0", True, False, question, name, (), qtype, 1, None)
        group = self._groups[upstream.zone]
        until_s, edns = now_s + self._wait_s, min(edns, self._edns)
        pending = PendingQuery(b"", b"", query, b"", group, until_s, edns)
        pending.had_failed = had_failed
        self._send(pending, upstream, now_s)

    # Loops (see `loops`).

    def _probe_for_loop(self, upstream: Upstream, now_s: float) -> None:
        name = self._loops.new_probe(upstream.zone, (upstream, b""), now_s)
        if name is not None:
            self._ask_aside(upstream, name, RRType.TXT, now_s)

    def _probe_question(self, pending: PendingQuery, upstream: Upstream, now_s: float) -> None:
        """Look whether a question that an upstream does not answer comes back to us."""
        if pending.is_aside or now_s < upstream.probed_s + _PROBE_QUESTION_EVERY_S:
            return
        name = self._loops.new_probe(pending.query.name, (upstream, pending.key), now_s)
        if name is not None:
            upstream.probed_s = now_s
            self._ask_aside(upstream, name, RRType.TXT, now_s)

    def _is_looping(self, upstream: Upstream, now_s: float) -> bool:
        """Return whether what is sent to an upstream comes back; probes again when that is over."""
        if now_s < upstream.loops_until_s:
            return True
        upstream.loops_until_s = 0.0
        self._probe_for_loop(upstream, now_s)
        return False

    def _closes_loop(self, query: Query, key: bytes, mark: bytes, now_s: float) -> bool:
        """Return whether a query with a mark is not to be forwarded again."""
        if not self._loops.has_passed_us(mark, query.name + query.question[-4:]):
            is_closed = is_too_long(mark)
            if is_closed and self._chain_lines.may_pass(now_s):  # any client can write such a mark
                logger.error(
                    "the question for %s has passed more than seven mcsdns, which is a forwarding "
                    "loop or as bad; let fewer of them forward to each other",
                    to_text(query.name),
                )
            return is_closed
        if not self._ends_probe(query, now_s):
            for pending in self._flights(key):
                pending.came_back = True
            self._log_question(query.name, now_s)
        return True

    def _ends_probe(self, query: Query, now_s: float) -> bool:
        """Return whether a query is a probe of ours, which closes a loop."""
        probed = self._loops.probed(query.name, now_s)
        if probed is None:
            return False
        upstream, key = probed
        if not key:
            self._hold_loop(upstream, now_s)
            return True
        self._log_question(Name(key[:-_BEHIND_NAME_BYTES]), now_s)
        self._probe_for_loop(upstream, now_s)  # perhaps all of the zone does
        for pending in self._flights(key):
            pending.came_back = True
            if len(pending.order) == 1:
                self._finish(pending, failed_reply(b""), now_s)
            elif pending.current is not None and pending.current.upstream is upstream:
                self._try_next(pending, now_s)
        return True

    def _flights(self, key: bytes) -> list[PendingQuery]:
        """Return what is in flight for a question."""
        flights = self._pending.get(key), self._pending.get(key + _MARKED)
        return [each for each in flights if each is not None]

    def _hold_loop(self, upstream: Upstream, now_s: float) -> None:
        """Send nothing for a zone to an upstream for a while, for it comes back."""
        upstream.loops_until_s = now_s + _LOOPS_S
        last_s = max(self._question_logged_s, upstream.loop_logged_s)
        if now_s >= last_s + _LOG_LOOPS_EVERY_S:
            upstream.loop_logged_s = now_s
            logger.error(
                "forwarding loop: what is sent to %s for %s comes back to us; take this zone out "
                "of that server's forward to mcsdns, or that server out of the upstreams",
                upstream.address.text,
                to_text(upstream.zone),
            )
        for pending in list(self._pending.values()):
            if pending.current is not None and pending.current.upstream is upstream:
                self._try_next(pending, now_s)

    def _log_question(self, name: Name, now_s: float) -> None:
        last_s = max(self._question_logged_s, *(each.loop_logged_s for each in self._upstreams()))
        if now_s >= last_s + _LOG_LOOPS_EVERY_S:
            self._question_logged_s = now_s
            logger.error(
                "forwarding loop: the question for %s was sent upstream and came back to us; take "
                "its zone out of the other server's forward to mcsdns, or that server out of the "
                "upstreams",
                to_text(name),
            )

    def _answer_loop(self, query: Query, limit: int, *, tcp: bool) -> ImmediateReply:
        self._looped += 1
        octets = render(failed_reply(rendering.LOOP), query, limit, tcp=tcp)
        return ImmediateReply(octets, ReplyKind.FAILED)


def _may_be_of_edns(message: bytes, query: Query) -> bool:
    """Return whether a failure may be for our OPT record alone, not for the question.

    Who answers SERVFAIL with an OPT record understands it; for DO and CD validation fails so.
    """
    if message[3] & RCODE != _SERVFAIL:
        return True
    is_dnssec = query.cd or (query.edns is not None and query.edns.do)
    return not is_dnssec and message[_ARCOUNT_AT:HEADER_BYTES] == b"\0\0"


def _without_dnssec(reply: UpstreamReply) -> UpstreamReply:
    """Return what was answered without EDNS for who wants DNSSEC: unproven, and not for long."""
    lifetime_s = min(reply.lifetime_s, _LEAST_KNOWN_S)
    return msgspec.structs.replace(reply, authentic=False, lifetime_s=lifetime_s)


def _question_of(reply: bytes) -> bytes:
    """Return the question that a reply repeats, its name in lower case; empty without one."""
    at = HEADER_BYTES
    if len(reply) < at or not reply[2] & _QR:
        return b""
    try:
        while length := reply[at]:
            at += length + 1
            if length > MAX_LABEL_BYTES or at > HEADER_BYTES + MAX_NAME_BYTES:
                return b""
    except IndexError:
        return b""
    at += 1
    return reply[HEADER_BYTES:at].lower() + reply[at : at + QUESTION.size]


def _without_options(query: Query, edns: Edns) -> Query:
    """Return a query that waits without the options of its client, which may be 64 KiB."""
    return msgspec.structs.replace(query, edns=msgspec.structs.replace(edns, options=b""))


def _log_up(upstream: Upstream) -> None:
    if upstream.is_logged:
        upstream.is_logged = False
        logger.warning("upstream %s answers again", upstream.address.text)
