"""One question to other servers: what is kept, what is in flight, tries and deadlines.

`Forwarder.ask` answers at once from what is kept, or later through the way back that the asker
gives. No task and no timer belongs to a question: datagrams come by callback, and one timer looks
at the earliest deadlines. A question waits for at most `total_s`, in tries of three round trips;
then comes what is stale, or SERVFAIL with the reason.

Spec: RFC 5625 (proxies), RFC 8767 (stale), RFC 9520 (failures), RFC 8914 (errors); spec.md 3.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from mcsdns.dns import HEADER_BYTES, Query
from mcsdns.dns.name import Name, to_text
from mcsdns.dns.types import Rcode, RRType
from mcsdns.errors import ReplyError
from mcsdns.forward import cache as caching
from mcsdns.forward import failures
from mcsdns.forward import pending as flight
from mcsdns.forward.address import Address
from mcsdns.forward.cache import Cache, Found, key_of
from mcsdns.forward.health import ONLY, Chooser, Policy
from mcsdns.forward.loops import Loops, Probe, zones_to_probe
from mcsdns.forward.pending import TICK_S, Deadlines, Pending, Try, Upstream, UpstreamGroup, Waiter
from mcsdns.forward.render import Fitted, render
from mcsdns.forward.reply import UpstreamReply, read_upstream_reply
from mcsdns.forward.requests import Requests, query_of
from mcsdns.forward.router import Router
from mcsdns.forward.stream_pool import StreamPoolSettings
from mcsdns.forward.told import WaitStatistics
from mcsdns.forward.udp_pool import UdpPoolSettings
from mcsdns.stats import HistogramStatistics, ReplyCount, ReplyKind

logger = logging.getLogger(__name__)

_IDLE_TICKS: Final = 10
_BATCH: Final = 64
"""Tries looked at in one turn of the loop: a full house of silent ones took it for 80 ms, in which
the kernel dropped requests for our own zone."""
_SUSPICIOUS_WAITERS: Final = 16
_PROBE_EVERY_S: Final = 10.0
_TELL_EVERY_S: Final = 60.0
_ROUNDS_WHEN_BROKEN: Final = 2
_REFUSED_S: Final = 1.0
"""How long it is kept that upstreams refuse connections: one that restarts is back soon."""
_NO_EDNS_S: Final = 600.0
_NO_EDNS_RCODES: Final = (Rcode.FORMERR.value, Rcode.NOTIMP.value)
_NOERROR: Final = Rcode.NOERROR.value
_SERVFAIL: Final = Rcode.SERVFAIL.value
_POOR_RCODES: Final = (Rcode.SERVFAIL.value, Rcode.REFUSED.value)
"""Another upstream may know better, as stub resolvers hold it (res_send of glibc and musl)."""
_PLAIN_OPT_BYTES: Final = 11


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How questions are forwarded.

    Attributes:
        total_s: longest that a question waits; clients wait 5 s, CoreDNS 2 s.
        max_pending: questions in flight; past it SERVFAIL at once.
        max_waiters: askers that share one of them.
        policy: which of several upstreams is asked first.
    """

    total_s: float = 1.8
    max_pending: int = 4096
    max_waiters: int = 1024
    policy: Policy = Policy.FASTEST
    ports: UdpPoolSettings = UdpPoolSettings()
    streams: StreamPoolSettings = StreamPoolSettings()
    cache: caching.Settings = caching.Settings()


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        asked: questions. joined: those that found the same one in flight. pending: in flight.
        gave_up: without an answer in time. refused: for too many in flight. looped: loops.
        replies: by class, of those that had to wait. seconds: how long, by transport.
    """

    asked: int
    joined: int
    pending: int
    gave_up: int
    refused: int
    looped: int
    cache: caching.Statistics
    upstreams: list[flight.Statistics]
    replies: list[ReplyCount]
    seconds: dict[str, HistogramStatistics]


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A reply that was there at once.

    Attributes:
        octets: the whole message. kind: what it counts as.
        until_s: until when the same octets behind the ID are right; 0 for this once.
        found: where it was kept; with `key`, see `Forwarder.grown`.
    """

    octets: bytes
    kind: ReplyKind
    until_s: float = 0.0
    key: bytes = b""
    found: Found | None = None


class _Client(Protocol):
    """The way back."""

    def detach(self) -> Callable[[bytes], None]:
        """Return what sends a whole message there later; it does nothing if nobody is there."""
        ...


class Forwarder:
    """Answers from other servers."""

    def __init__(
        self,
        settings: Settings,
        zones: Mapping[Name, Sequence[Address]],
        clock: Callable[[], float],
        rng: random.Random,
        told: WaitStatistics | None = None,
    ) -> None:
        """Take the upstreams of each zone; that of the root is for all other names.

        `clock` gives monotonic seconds; `rng` must not be predictable; `told` goes on counting
        where this follows another forwarder.

        Raises:
            ConfigError: an upstream is not usable.
        """
        self.settings = settings
        self.cache = Cache(settings.cache)
        self._clock = clock
        self._rng = rng
        self._loops = Loops(rng)
        self._requests = Requests(self._loops)
        self._chooser = Chooser(settings.policy, rng)
        self._groups = {zone: self._group(zone, addresses) for zone, addresses in zones.items()}
        self._stubs = Router(self._groups)
        self._told = told or WaitStatistics()
        self._pending: dict[bytes, Pending] = {}
        self._deadlines = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._wait_s = settings.total_s - TICK_S
        self._keeps = settings.cache.max_entries > 0
        self._asked = self._joined = self._gave_up = self._refused = self._looped = 0

    def start(self) -> None:
        """Look for loops; in the running loop."""
        for group, upstream in self._upstreams():
            self._probe_for_loop(group, upstream, group.zone)

    def close(self) -> None:
        """Give up whatever is in flight, without a word, and close all sockets."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for pending in list(self._pending.values()):
            pending.cut()
        self._pending.clear()
        for attempt in self._deadlines.clear():
            attempt.pending.cut()  # what was asked aside is in no other list
        for _, upstream in self._upstreams():
            upstream.close()
        self._groups = {zone: UpstreamGroup(zone, ()) for zone in self._groups}
        self._stubs = Router(self._groups)

    def replace(self, zone: Name, addresses: Sequence[Address]) -> None:
        """Take other upstreams for a zone; what is in flight to the old ones is asked anew.

        Those that stay keep their sockets and what is known of them.
        """
        before = self._groups.get(zone)
        known = {each.address: each for each in before.upstreams} if before else {}
        self._groups[zone] = group = self._group(zone, addresses, known)
        self._stubs = Router(self._groups)
        gone = [each for each in known.values() if each not in group.upstreams]
        for pending in [each for each in self._pending.values() if each.group is before]:
            pending.group, pending.step = group, 0
            pending.order = self._chooser.order(group.healths)
            if pending.current is None or pending.current.upstream in gone:
                self._try_next(pending, self._clock())
        for upstream in gone:
            upstream.close()

    def find(self, query: Query) -> UpstreamGroup | None:
        """Return the upstreams of a query's name."""
        return self._stubs.find(query.name, query.labels)

    def ask(
        self,
        group: UpstreamGroup,
        query: Query,
        message: bytes,
        client: _Client,
        limit: int,
        *,
        tcp: bool,
    ) -> Answered | None:
        """Return the reply, or None where it will come through the client's way back."""
        self._asked += 1
        now_s = self._clock()
        mark = b""
        if len(message) > HEADER_BYTES + len(query.question) + _PLAIN_OPT_BYTES:
            mark = self._loops.mark_of(message)
            if mark and self._loops.is_loop(mark):
                self._note_return(query, mark, now_s)
                return Answered(self._tell_loop(query, limit, tcp=tcp), ReplyKind.FAILED)
        key = key_of(query)
        found = self.cache.find(key, now_s) if self._keeps else None
        if found is not None:
            if found.wants_refresh:
                self._refresh(group, key, query, now_s)
            octets = found.fitted.fit(query, limit, tcp=tcp, ad=query.ad)
            return Answered(octets, found.kind, found.until_s, key, found)
        probe = self._loops.probe_of(query.name, now_s)
        if probe is not None:
            self._note_loop(probe, now_s)
            return Answered(self._tell_loop(query, limit, tcp=tcp), ReplyKind.FAILED)
        # What has passed others of our kind shares with its like alone: it may be in a loop.
        pending = self._pending.get(key + mark)
        if pending is not None:
            self._joined += 1
            self._suspect(pending, now_s)
            refusal = b""
        else:
            pending, refusal = self._begin(group, key, query, mark, now_s)
        if pending is None or len(pending.waiters) >= self.settings.max_waiters:
            fitted, kind = self._last_resort(key, refusal or self._too_many(), now_s)
            return Answered(fitted.fit(query, limit, tcp=tcp, ad=query.ad), kind)
        pending.waiters.append(Waiter(query, limit, tcp, client.detach(), now_s))
        return None

    def grown(self, key: bytes, reply: UpstreamReply, now_s: float) -> int | None:
        """Return how old a kept reply is now; None where it has to be asked for again.

        For who keeps the octets of an `Answered`, counts their TTLs down, and counts these hits.
        """
        return self.cache.grown(key, reply, now_s)

    def deliver(self, attempt: Try, message: bytes) -> bool:
        """Take a reply of an upstream; returns whether it is one to what was asked."""
        pending = attempt.pending
        query = pending.query
        try:
            reply = read_upstream_reply(message, query.question, query.labels)
        except ReplyError:
            return False
        now_s = self._clock()
        attempt.end()
        upstream = attempt.upstream
        if attempt.tells_health and upstream.health.answer(now_s - attempt.sent_s, now_s):
            _tell_up(upstream)
        if pending.is_done:
            return True
        if reply.rcode == _NOERROR and attempt.has_edns and not reply.truncated and pending.key:
            self._finish(pending, reply, now_s)
        else:
            self._take(pending, attempt, reply, now_s)
        return True

    def fail(self, attempt: Try, why: str) -> None:
        """Learn that a try will not be answered."""
        now_s = self._clock()
        self._note_failure(attempt, why, now_s)
        attempt.end()
        pending = attempt.pending
        if pending.current is not attempt or pending.is_done:
            return
        if pending.step < _ROUNDS_WHEN_BROKEN * len(pending.order):
            self._try_next(pending, now_s)
        elif pending.may_hear_from_another(attempt.upstream):
            self._wait_on(pending, attempt, now_s)
        else:
            self._give_up(pending, failures.BROKEN, now_s)  # at once, so that clients ask elsewhere

    def tick(self) -> None:
        """Look at the tries whose time is over, and at upstreams that are down.

        Called by a timer of its own while there is anything to look at.
        """
        self._timer = None
        now_s = self._clock()
        due = self._deadlines.due(now_s, _BATCH)
        for attempt in due:
            pending = attempt.pending
            if not pending.is_done and pending.current is attempt:
                self._note_failure(attempt, "no reply in time", now_s)
                self._try_next(pending, now_s)
        is_any_down = self._probe_down(now_s)
        if self._deadlines:
            self._look_after(TICK_S if len(due) < _BATCH else 0.0)
        elif is_any_down:
            self._look_after(_IDLE_TICKS * TICK_S)

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(
            self._asked,
            self._joined,
            len(self._pending),
            self._gave_up,
            self._refused,
            self._looped,
            self.cache.statistics(),
            [upstream.statistics() for _, upstream in self._upstreams()],
            self._told.counts(),
            self._told.seconds(),
        )

    def _group(
        self,
        zone: Name,
        addresses: Sequence[Address],
        known: Mapping[Address, Upstream] | None = None,
    ) -> UpstreamGroup:
        settings = self.settings.ports, self.settings.streams
        known = known or {}
        return UpstreamGroup(
            zone,
            [
                known.get(each) or Upstream(each, self.deliver, self.fail, settings, self._rng)
                for each in dict.fromkeys(addresses)
            ],
        )

    def _upstreams(self) -> Iterator[tuple[UpstreamGroup, Upstream]]:
        for group in self._groups.values():
            for upstream in group.upstreams:
                yield group, upstream

    def _begin(
        self, group: UpstreamGroup, key: bytes, query: Query, mark: bytes, now_s: float
    ) -> tuple[Pending | None, bytes]:
        """Send a question; returns it, or why it is not in flight.

        While all upstreams are down what is stale is told at once, and asked for beside that.
        """
        if not group.upstreams:
            return None, failures.NOBODY
        if len(self._pending) >= self.settings.max_pending:
            return None, self._too_many()
        flight_key = key + mark
        pending = Pending(key, flight_key, query, mark, group, now_s + self._wait_s)
        self._pending[flight_key] = pending
        if len(group.upstreams) == 1 and not self._loops.any:
            pending.order, pending.step = ONLY, 1
            self._send(pending, group.upstreams[0], now_s)
        else:
            self._try_next(pending, now_s)
            if pending.is_done:
                return None, failures.LOOP
            self._explore(pending, now_s)
        if group.is_down and self.cache.find_stale(key, now_s) is not None:
            return None, failures.SILENT
        return pending, b""

    def _refresh(self, group: UpstreamGroup, key: bytes, query: Query, now_s: float) -> None:
        """Ask again for what ends soon; nobody waits for it."""
        if key not in self._pending:
            self._begin(group, key, query, b"", now_s)

    def _explore(self, pending: Pending, now_s: float) -> None:
        group = pending.group
        at = self._chooser.explore(group.healths, pending.order[0])
        if at is not None:
            self._ask_aside(group, pending.query, group.upstreams[at], now_s)

    def _try_next(self, pending: Pending, now_s: float) -> None:
        """Ask the next upstream in turn, or give up where the time is over."""
        if now_s >= pending.until_s or pending.is_aside:
            self._give_up(pending, failures.SILENT, now_s)
            return
        if not pending.order:
            pending.order = self._chooser.order(pending.group.healths)
        elif len(pending.waiters) > 1:
            self._suspect(pending, now_s)
        upstream = self._next(pending, now_s)
        if upstream is not None:
            self._send(pending, upstream, now_s)
        elif pending.group.upstreams:
            self._looped += 1
            self._end(pending, failures.failure(failures.LOOP), ReplyKind.FAILED)
        else:
            self._give_up(pending, failures.NOBODY, now_s)

    def _next(self, pending: Pending, now_s: float) -> Upstream | None:
        """Return whose turn it is; None where each would send the question back to us."""
        order, upstreams, loops = pending.order, pending.group.upstreams, self._loops
        for _ in order:
            upstream = upstreams[order[pending.step % len(order)]]
            pending.step += 1
            if not loops.any or not loops.holds(upstream.address, pending.query.name, now_s):
                return upstream
        return None

    def _send(
        self,
        pending: Pending,
        upstream: Upstream,
        now_s: float,
        *,
        over_tcp: bool = False,
        has_edns: bool = True,
    ) -> None:
        ports = None if over_tcp else upstream.ports
        has_edns = has_edns and now_s >= upstream.no_edns_until_s
        attempt = Try(pending, upstream, now_s, ports is None, has_edns)
        pending.current = attempt
        pending.tries.append(attempt)
        health = upstream.health
        health.asked += 1
        request = self._requests.render(pending.query, pending.mark, has_edns=has_edns)
        if ports is not None:
            attempt.handle = ports.send(attempt, request)
        else:
            attempt.question = upstream.stream.send(attempt, request)
        at_s = now_s + health.try_s
        self._deadlines.add(at_s if at_s < pending.until_s else pending.until_s, attempt)
        if self._timer is None:
            self._look_after(TICK_S)

    def _wait_on(self, pending: Pending, attempt: Try, now_s: float) -> None:
        """Let the replies come that others owe, then go on."""
        at_s = min(now_s + attempt.upstream.health.try_s, pending.until_s)
        self._deadlines.add(at_s, attempt)

    def _look_after(self, pause_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(pause_s, self.tick)

    def _take(self, pending: Pending, attempt: Try, reply: UpstreamReply, now_s: float) -> None:
        """Decide what a reply is good for."""
        upstream = attempt.upstream
        if pending.is_aside:
            pending.cut()
        elif reply.truncated and not attempt.is_streamed:
            pending.fallback = reply
            self._send(pending, upstream, now_s, over_tcp=True, has_edns=attempt.has_edns)
        elif attempt.has_edns and reply.rcode in _NO_EDNS_RCODES:
            over_tcp = attempt.is_streamed
            self._send(pending, upstream, now_s, over_tcp=over_tcp, has_edns=False)
        elif reply.rcode in _POOR_RCODES and len(pending.order) > 1:
            self._take_poor(pending, attempt, reply, now_s)
        else:
            self._note_edns(attempt, reply.rcode, now_s)
            self._finish(pending, reply, now_s)

    def _take_poor(
        self, pending: Pending, attempt: Try, reply: UpstreamReply, now_s: float
    ) -> None:
        """Ask the other upstreams before a failure of one of them is believed."""
        pending.fallback = pending.fallback or reply
        if pending.has_another_up():
            if pending.current is attempt:
                self._try_next(pending, now_s)
        elif not pending.awaits_another(attempt.upstream):
            self._finish(pending, reply, now_s)

    def _note_edns(self, attempt: Try, rcode: int, now_s: float) -> None:
        """Leave EDNS out for a while where a question was answered without, and only without."""
        upstream = attempt.upstream
        was_left_out = attempt.sent_s < upstream.no_edns_until_s
        if not attempt.has_edns and not was_left_out and rcode not in _NO_EDNS_RCODES:
            upstream.no_edns_until_s = now_s + _NO_EDNS_S

    def _finish(self, pending: Pending, reply: UpstreamReply, now_s: float) -> None:
        """Keep a reply and hand it out; what is stale is better than a failure (RFC 8767, 4)."""
        key = pending.key
        if reply.rcode != _SERVFAIL:
            self._hand_out(pending, self.cache.put(key, reply, now_s) if self._keeps else reply)
            return
        errors = reply.errors
        if self._loops.came_back(pending.query.name, now_s):
            errors = failures.LOOP + errors
            reply = msgspec.structs.replace(reply, errors=errors)
        self.cache.put_failure(key, now_s, errors)
        stale = self.cache.find_stale(key, now_s)
        if stale is None:
            self._end(pending, Fitted(reply), ReplyKind.FAILED)
        else:
            self._end(pending, stale.fitted, ReplyKind.STALE)

    def _give_up(self, pending: Pending, errors: bytes, now_s: float) -> None:
        if pending.is_aside:
            pending.cut()
            return
        self._gave_up += 1
        fallback = pending.fallback
        if fallback is None:
            self._end(pending, *self._last_resort(pending.key, errors, now_s, keep=True))
        elif fallback.truncated:  # all that is to be had; clients on TCP cannot be told of it
            self._end(pending, Fitted(fallback, errors=failures.NO_TCP), ReplyKind.FORWARDED)
        else:
            self._finish(pending, fallback, now_s)

    def _last_resort(
        self, key: bytes, errors: bytes, now_s: float, *, keep: bool = False
    ) -> tuple[Fitted, ReplyKind]:
        """Return what was true a while ago, else SERVFAIL."""
        stale = self.cache.find_stale(key, now_s)
        if stale is not None:
            return stale.fitted, ReplyKind.STALE
        if keep:
            is_refused = errors is failures.BROKEN
            self.cache.put_failure(key, now_s, errors, _REFUSED_S if is_refused else None)
        return failures.failure(errors), ReplyKind.FAILED

    def _hand_out(self, pending: Pending, reply: UpstreamReply) -> None:
        """Answer with a reply; for one asker, the usual case, no rendering is kept."""
        if len(pending.waiters) != 1:
            self._end(pending, Fitted(reply), ReplyKind.FORWARDED)
            return
        self._pending.pop(pending.flight_key, None)
        (waiter,) = pending.cut()
        query = waiter.query
        octets = render(reply, reply.records, query, waiter.limit, b"", waiter.tcp, query.ad)
        waiter.send(query.id + octets)
        self._told.note(waiter, reply.rcode, ReplyKind.FORWARDED, self._clock())

    def _end(self, pending: Pending, fitted: Fitted, kind: ReplyKind) -> None:
        """Answer all who wait, and await nothing more."""
        self._pending.pop(pending.flight_key, None)
        now_s = self._clock()
        for waiter in pending.cut():
            query = waiter.query
            waiter.send(fitted.fit(query, waiter.limit, tcp=waiter.tcp, ad=query.ad))
            self._told.note(waiter, fitted.reply.rcode, kind, now_s)

    def _too_many(self) -> bytes:
        self._refused += 1
        return failures.TOO_MANY

    def _note_failure(self, attempt: Try, why: str, now_s: float) -> None:
        """Note once for each try that it failed; a late reply still counts."""
        upstream = attempt.upstream
        if attempt.has_failed or attempt.is_over or not attempt.tells_health:
            return
        attempt.has_failed = True
        if upstream.health.fail(now_s):
            _tell_down(upstream, why, now_s)
            if self._timer is None and not self._is_closed:
                self._look_after(TICK_S)

    def _probe_down(self, now_s: float) -> bool:
        """Ask each upstream that is down whether it is back; returns whether there is one."""
        is_any_down = False
        for group, upstream in self._upstreams():
            health = upstream.health
            if health.is_down:
                is_any_down = True
                if health.probe_due_s <= now_s:
                    health.probe(now_s)
                    self._ask_aside(group, query_of(group.zone, RRType.NS), upstream, now_s)
        return is_any_down

    def _ask_aside(
        self, group: UpstreamGroup, query: Query, upstream: Upstream, now_s: float
    ) -> None:
        """Ask something that nobody waits for."""
        pending = Pending(b"", b"", query, b"", group, now_s + self._wait_s)
        self._send(pending, upstream, now_s)

    def _suspect(self, pending: Pending, now_s: float) -> None:
        """Look for a loop where the same question comes again while nothing answers it."""
        is_late = pending.step > 1 or len(pending.waiters) >= _SUSPICIOUS_WAITERS
        upstream = pending.current.upstream if pending.current else None
        if not is_late or upstream is None or now_s < upstream.probed_s + _PROBE_EVERY_S:
            return
        upstream.probed_s = now_s
        group = pending.group
        for zone in zones_to_probe(pending.query.name, group.zone):
            self._probe_for_loop(group, upstream, zone)

    def _probe_for_loop(self, group: UpstreamGroup, upstream: Upstream, zone: Name) -> None:
        now_s = self._clock()
        name = self._loops.new_probe(zone, upstream.address, now_s)
        self._ask_aside(group, query_of(name, RRType.TXT), upstream, now_s)

    def _note_return(self, query: Query, mark: bytes, now_s: float) -> None:
        probe = self._loops.probe_of(query.name, now_s)
        if probe is not None:
            self._note_loop(probe, now_s)
        elif self._loops.is_own(mark) and self._loops.note_return(query.name, now_s):
            logger.error(
                "forwarding loop: the question for %s was sent upstream and came back to us; take "
                "its zone out of the other server's forward to mcsdns, or that server out of the "
                "upstreams",
                to_text(query.name),
            )

    def _note_loop(self, probe: Probe, now_s: float) -> None:
        """Send nothing below a zone to an upstream for a while, for it comes back."""
        if self._loops.note(probe, now_s):
            logger.error(
                "forwarding loop: what is sent to %s for %s comes back to us; take this zone out "
                "of that server's forward to mcsdns, or that server out of the upstreams",
                probe.upstream.text,
                to_text(probe.zone),
            )
        for pending in list(self._pending.values()):
            attempt = pending.current
            if attempt is not None and self._loops.holds(
                attempt.upstream.address, pending.query.name, now_s
            ):
                self._try_next(pending, now_s)

    def _tell_loop(self, query: Query, limit: int, *, tcp: bool) -> bytes:
        self._looped += 1
        return failures.failure(failures.LOOP).fit(query, limit, tcp=tcp, ad=query.ad)


def _tell_down(upstream: Upstream, why: str, now_s: float) -> None:
    """Log it, but not each time where an upstream comes and goes."""
    if now_s >= upstream.told_s + _TELL_EVERY_S:
        upstream.told_s = now_s
        upstream.is_told = True
        logger.warning("upstream %s is left alone until it answers: %s", upstream.address.text, why)


def _tell_up(upstream: Upstream) -> None:
    if upstream.is_told:
        upstream.is_told = False
        logger.warning("upstream %s answers again", upstream.address.text)
