"""What is in flight: a query, the clients that wait for its reply, its tries and their deadlines.

State only: `forwarder` decides. The parts of a pending query refer to each other in circles, and
the garbage collector does not look at them (it took a tenth of a forwarded miss): whoever ends a
query breaks the circles with `PendingQuery.end`.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

import msgspec

from mcsdns.dns import Query
from mcsdns.dns.name import ROOT, Name
from mcsdns.forward import health, stream_pool, udp_pool
from mcsdns.forward.address import Address
from mcsdns.forward.health import Health
from mcsdns.forward.quirks import OPT, Quirks
from mcsdns.forward.reply import UpstreamReply
from mcsdns.forward.stream_pool import StreamPool, StreamQuery
from mcsdns.forward.udp_pool import Sockets, UdpPool, UdpSocket

TICK_S: Final = 0.02
"""The grain of deadlines."""

Deliver: TypeAlias = Callable[["Attempt", bytes, float], bool]
Fail: TypeAlias = Callable[["Attempt", str, float], None]


class Network(Sockets, Protocol):
    """What opens sockets and connections, and calls the forwarder when it is time."""

    def stream_pool(self, address: Address, deliver: Deliver, fail: Fail) -> "StreamPool[Attempt]":
        """Make the connections to an upstream; nothing is opened before the first query.

        Raises:
            ConfigError: as `StreamPool`.
        """
        ...

    def wake(self) -> None:
        """Look at `Forwarder.next_deadline` again: it may be earlier than it was."""
        ...


class UpstreamStatistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one upstream.

    Attributes:
        malformed: replies to what was asked that could not be read.
        udp: None where it is not asked over UDP.
    """

    health: health.Statistics
    malformed: int
    stream: stream_pool.Statistics
    udp: udp_pool.Statistics | None


class Upstream:
    """One upstream of one zone, with its two ways to be asked.

    Attributes:
        udp: None where it is asked over TCP or TLS alone.
        quirks: what it cannot take. asked_plain_s: when it was last found out whether it answers
            at all. malformed: replies to what was asked that could not be read.
        loops_until_s: until when what is sent to it for its zone is held to come back,
            0 where it is not. loop_logged_s: when that was last logged.
        probed_s: when a question that it did not answer was last looked for in a loop.
        logged_s: when it was last logged that it is down. is_logged: whether the log says so still.
    """

    def __init__(
        self,
        zone: Name,
        address: Address,
        stream: "StreamPool[Attempt]",
        udp: "UdpPool[Attempt] | None",
    ) -> None:
        self.zone = zone
        self.address = address
        self.health = Health(address)
        self.stream = stream
        self.udp = udp
        self.quirks = Quirks()
        self.malformed = 0
        self.logged_s = self.loop_logged_s = self.probed_s = self.asked_plain_s = float("-inf")
        self.loops_until_s = 0.0
        self.is_logged = False

    def close(self) -> None:
        """Close all sockets."""
        self.stream.close()
        if self.udp is not None:
            self.udp.close()

    def statistics(self) -> UpstreamStatistics:
        """Return the counters."""
        udp = self.udp.statistics() if self.udp else None
        return UpstreamStatistics(
            self.health.statistics(), self.malformed, self.stream.statistics(), udp
        )


class UpstreamGroup:
    """The upstreams of one zone; `is_stub` unless they are those of all other names."""

    def __init__(self, zone: Name, upstreams: Sequence[Upstream]) -> None:
        self.zone = zone
        self.upstreams = upstreams
        self.healths = [upstream.health for upstream in upstreams]
        self.is_stub = zone != ROOT

    @property
    def is_down(self) -> bool:
        """Whether no upstream answers; there is at least one."""
        healths = self.healths
        return healths[0].is_down and all(each.is_down for each in healths)


class Waiter(msgspec.Struct, gc=False):
    """A client that waits: its query, the octets that its reply may have, and since when."""

    query: Query
    limit: int
    tcp: bool
    send: Callable[[bytes], None]
    asked_s: float


class PendingQuery(msgspec.Struct, gc=False, eq=False):
    """A query in flight.

    Attributes:
        key: what its reply is cached under; empty where no client waits for it, and it is tried
            once.
        pending_key: what the same query finds it under, to share its reply.
        mark: the longest of those who wait for it, empty where it is not marked (see `loops`).
        came_back: it came in again.
        order: upstreams by turn. step: how many turns were had.
        fallback: a poor reply, for when no better one comes.
        wrong: replies that repeat it, with IDs that were never sent. is_forged: they are too many
            to believe anything that comes over UDP. is_malformed: so was a reply.
        edns: what the next try has; less with each that finds silence. had_failed: what is asked
            aside failed with an OPT record before.
        client: the address of who asked first. is_shared: clients of another prefix wait for it
            too (see `places`).
        is_cut: clients on UDP are sent a truncated reply at once; those on TCP wait on.
    """

    key: bytes
    pending_key: bytes
    query: Query
    mark: bytes
    group: UpstreamGroup
    until_s: float
    edns: int
    client: bytes = b""
    order: Sequence[int] = ()
    step: int = 0
    waiters: list[Waiter] = []
    attempts: "list[Attempt]" = []
    current: "Attempt | None" = None
    fallback: UpstreamReply | None = None
    is_done: bool = False
    came_back: bool = False
    wrong: int = 0
    is_forged: bool = False
    is_malformed: bool = False
    had_failed: bool = False
    is_cut: bool = False
    is_shared: bool = False

    @property
    def is_aside(self) -> bool:
        """Whether no client waits for it."""
        return not self.key

    def awaits_another(self, upstream: Upstream) -> bool:
        """Return whether another upstream still has time to reply."""
        return any(
            not (each.is_over or each.has_failed) and each.upstream is not upstream
            for each in self.attempts
        )

    def may_hear_from_another(self, upstream: Upstream) -> bool:
        """Return whether a reply of another upstream may come, be it late."""
        return any(not each.is_over and each.upstream is not upstream for each in self.attempts)

    def has_another_up(self) -> bool:
        """Return whether the next turn is one's that was not asked yet, and is not down."""
        order, step = self.order, self.step
        return step < len(order) and not self.group.healths[order[step]].is_down

    def ask_with_less(self, attempt: "Attempt") -> None:
        """Leave something out of the next try, after one that found silence.

        Never the mark of another mcsdns: in a loop all find silence (see `loops`). Not the OPT
        record of who wants DNSSEC, while nothing says that it is the OPT record.
        """
        edns = self.query.edns
        if not self.mark and attempt.edns > (OPT if edns is not None and edns.do else 0):
            self.edns = min(self.edns, attempt.edns - 1)

    def failed_with_more(self, answered: "Attempt") -> bool:
        """Return whether the upstream of a try failed on one that had more."""
        return self.had_failed or any(
            each.has_failed and each.edns > answered.edns and each.upstream is answered.upstream
            for each in self.attempts
        )

    def leave_udp(self) -> None:
        """Take no reply over UDP, be it right, and none that came so."""
        self.is_forged = True
        self.fallback = None
        for attempt in self.attempts:
            if not (attempt.is_streamed or attempt.is_over):
                attempt.forget()

    def end(self) -> list[Waiter]:
        """Await nothing more; returns the clients that wait, each once."""
        self.is_done = True
        for attempt in self.attempts:
            if not attempt.is_over:
                attempt.forget()
        waiters, self.waiters, self.attempts, self.current = self.waiters, [], [], None
        return waiters


class Attempt(msgspec.Struct, gc=False, eq=False):
    """A query as it was sent to one upstream: one try.

    Attributes:
        is_streamed: over TCP or TLS. edns: what it had, `quirks.NO_OPT`, `OPT` or `MARK`.
        has_failed: counted as a failure of the upstream, though a late reply may come; or the reply
            rejects EDNS.
        is_over: answered or failed, so that nothing more is to be learned from it.
        error: why it could not even be sent.
        socket, message_id: what awaits its reply over UDP. stream_query: the same over a stream.
    """

    pending: PendingQuery
    upstream: Upstream
    sent_s: float
    is_streamed: bool
    edns: int
    has_failed: bool = False
    is_over: bool = False
    error: str = ""
    socket: "UdpSocket[Attempt] | None" = None
    message_id: bytes = b""
    stream_query: "StreamQuery[Attempt] | None" = None

    @property
    def tells_health(self) -> bool:
        """Whether it says how the upstream is: TCP after a truncated reply says it of TCP only."""
        return not self.is_streamed or self.upstream.udp is None

    def forget(self) -> None:
        """Await no reply any longer, and break the circle."""
        self.is_over = True
        if self.stream_query is not None:
            self.upstream.stream.forget(self.stream_query)
            self.stream_query = None
        elif self.socket is not None:
            self.socket.awaited[self.message_id] = None
            self.socket = None


class Deadlines:
    """Attempts by the tick in which they have waited enough: cheaper than a heap.

    An attempt stays until its tick, whatever becomes of it: nothing has to be found and removed.

    Attributes:
        first_s: the earliest deadline, infinite where there is none.
    """

    def __init__(self) -> None:
        self._ticks: dict[int, list[Attempt]] = {}
        self.first_s = float("inf")

    def add(self, at_s: float, attempt: Attempt) -> None:
        """Note when an attempt has waited enough."""
        tick = int(at_s / TICK_S) + 1
        attempts = self._ticks.get(tick)
        if attempts is not None:
            attempts.append(attempt)
            return
        self._ticks[tick] = [attempt]
        if tick * TICK_S < self.first_s:
            self.first_s = tick * TICK_S

    def due(self, now_s: float, most: int) -> list[Attempt]:
        """Return attempts whose time is over, those of the earliest first, and remove them."""
        due: list[Attempt] = []
        last = int(now_s / TICK_S)
        for tick in sorted(tick for tick in self._ticks if tick <= last):
            if len(due) == most:
                break
            attempts = self._ticks[tick]
            room = most - len(due)
            due += attempts[-room:]
            del attempts[-room:]
            if attempts:
                break
            del self._ticks[tick]
        self.first_s = min(self._ticks) * TICK_S if self._ticks else float("inf")
        return due

    def clear(self) -> list[Attempt]:
        """Remove all, and return them."""
        attempts = [each for tick in self._ticks.values() for each in tick]
        self._ticks.clear()
        self.first_s = float("inf")
        return attempts
