"""What is in flight: a question, who waits for it, its tries and when they have waited enough.

State only: `forward` decides. The parts of a question know each other in circles while it is in
flight, and the collector does not look at them (it took a tenth of a miss): whoever ends a
question cuts the circles with `Pending.cut`.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from mcsdns.dns import Query
from mcsdns.dns.name import Name
from mcsdns.forward import health, stream_pool
from mcsdns.forward import udp_pool as ports
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.health import Health
from mcsdns.forward.reply import UpstreamReply
from mcsdns.forward.stream_pool import StreamPool, StreamPoolSettings, StreamQuestion
from mcsdns.forward.udp_pool import Handle, UdpPool, UdpPoolSettings

TICK_S: Final = 0.02

Deliver: TypeAlias = Callable[["Try", bytes], bool]
Fail: TypeAlias = Callable[["Try", str], None]


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one upstream; `ports` is None where it is not asked over UDP."""

    health: health.Statistics
    stream: stream_pool.Statistics
    ports: ports.Statistics | None


class Upstream:
    """One upstream with its two ways to be asked.

    Attributes:
        no_edns_until_s: until when it is asked without EDNS. probed_s: when a loop was last
            looked for. told_s: when it was last logged that it is down. is_told: whether the log
        says so still.
    """

    def __init__(
        self,
        address: Address,
        deliver: Deliver,
        fail: Fail,
        settings: tuple[UdpPoolSettings, StreamPoolSettings],
        rng: random.Random,
    ) -> None:
        """Open nothing yet.

        Raises:
            ConfigError: as `StreamPool`.
        """
        self.address = address
        self.health = Health(address)
        self.no_edns_until_s = self.probed_s = self.told_s = float("-inf")
        self.is_told = False
        self.stream: StreamPool[Try] = StreamPool(address, deliver, fail, settings[1], rng)
        self.ports: UdpPool[Try] | None = None
        if address.protocol is Protocol.UDP:
            self.ports = UdpPool(address, deliver, fail, settings[0], rng)

    def forget(self, attempt: "Try") -> None:
        """Await no reply to a try."""
        if attempt.question is not None:
            self.stream.forget(attempt.question)
        elif attempt.handle is not None and self.ports is not None:
            self.ports.forget(attempt.handle)

    def close(self) -> None:
        """Close all sockets."""
        self.stream.close()
        if self.ports is not None:
            self.ports.close()

    def statistics(self) -> Statistics:
        """Return the counters."""
        over_udp = self.ports.statistics() if self.ports else None
        return Statistics(self.health.statistics(), self.stream.statistics(), over_udp)


class UpstreamGroup:
    """The upstreams of one zone."""

    def __init__(self, zone: Name, upstreams: Sequence[Upstream]) -> None:
        self.zone = zone
        self.upstreams = upstreams
        self.healths = [upstream.health for upstream in upstreams]

    @property
    def is_down(self) -> bool:
        """Whether no upstream answers; there is at least one."""
        healths = self.healths
        return healths[0].is_down and all(each.is_down for each in healths)


class Waiter(msgspec.Struct, gc=False):
    """Who is to get the reply: for which request, in how many octets, how, and since when."""

    query: Query
    limit: int
    tcp: bool
    send: Callable[[bytes], None]
    asked_s: float


class Pending(msgspec.Struct, gc=False, eq=False):
    """A question in flight.

    Attributes:
        key: what its reply is kept under; empty where nobody waits for it, and it is tried once.
        flight_key: what others find it under, to share its reply. mark: what it has passed.
        order: upstreams by turn. step: how many turns were had.
        fallback: a poor reply, for when no better one comes.
    """

    key: bytes
    flight_key: bytes
    query: Query
    mark: bytes
    group: UpstreamGroup
    until_s: float
    order: Sequence[int] = ()
    step: int = 0
    waiters: list[Waiter] = []
    tries: "list[Try]" = []
    current: "Try | None" = None
    fallback: UpstreamReply | None = None
    is_done: bool = False

    @property
    def is_aside(self) -> bool:
        """Whether nobody waits for it."""
        return not self.key

    def awaits_another(self, upstream: Upstream) -> bool:
        """Say whether another upstream still has time to reply."""
        return any(
            not (each.is_over or each.has_failed) and each.upstream is not upstream
            for each in self.tries
        )

    def may_hear_from_another(self, upstream: Upstream) -> bool:
        """Say whether a reply of another upstream may come, be it late."""
        return any(not each.is_over and each.upstream is not upstream for each in self.tries)

    def has_another_up(self) -> bool:
        """Say whether the next turn is one's that was not asked yet, and is not down."""
        order, step = self.order, self.step
        return step < len(order) and not self.group.healths[order[step]].is_down

    def cut(self) -> list[Waiter]:
        """End it; returns who is to get the reply, each once."""
        self.is_done = True
        for attempt in self.tries:
            if not attempt.is_over:
                attempt.upstream.forget(attempt)
                attempt.end()
        waiters, self.waiters, self.tries, self.current = self.waiters, [], [], None
        return waiters


class Try(msgspec.Struct, gc=False, eq=False):
    """A question as it was sent to one upstream.

    Attributes:
        is_streamed: over TCP or TLS. has_edns: with an OPT record.
        has_failed: counted as a failure of the upstream, though a late reply may come. is_over:
        answered or failed, so that nothing more is to be learned from it.
    """

    pending: Pending
    upstream: Upstream
    sent_s: float
    is_streamed: bool
    has_edns: bool
    has_failed: bool = False
    is_over: bool = False
    handle: "Handle[Try] | None" = None
    question: "StreamQuestion[Try] | None" = None

    def end(self) -> None:
        """Note that nothing more will be learned, and break the circle: no collector sees it."""
        self.is_over = True
        self.handle = self.question = None

    @property
    def tells_health(self) -> bool:
        """Whether its fate says how the upstream is: TCP after a cut reply tells only of TCP."""
        return not self.is_streamed or self.upstream.ports is None


class Deadlines:
    """Tries by the tick in which they have waited enough: cheaper than a heap, and exact enough."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Try]] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._slots)

    def add(self, at_s: float, attempt: Try) -> None:
        """Note when a try has waited enough."""
        slot = int(at_s / TICK_S) + 1
        tries = self._slots.get(slot)
        if tries is None:
            self._slots[slot] = [attempt]
        else:
            tries.append(attempt)

    def due(self, now_s: float, most: int) -> list[Try]:
        """Return tries whose time is over, those of the earliest first, and forget them."""
        last = int(now_s / TICK_S)
        due: list[Try] = []
        for slot in sorted(slot for slot in self._slots if slot <= last):
            tries = self._slots[slot]
            room = most - len(due)
            due += tries[-room:]
            del tries[-room:]
            if tries:
                break
            del self._slots[slot]
            if len(due) == most:
                break
        return due

    def clear(self) -> list[Try]:
        """Forget all, and return them."""
        tries = [each for slot in self._slots.values() for each in slot]
        self._slots.clear()
        return tries
