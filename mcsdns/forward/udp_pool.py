"""Queries to one upstream over UDP: many sockets with random ports, each for a while only.

Nothing is sent or read here, and no clock is read: `Sockets` sends, the caller says the time.

RFC 5452 makes a forged reply improbable. "A resolver implementation MUST match responses to all of
the following attributes of the query": addresses, destination port, query ID, name, class and type
(9.1). It must "use an unpredictable source port" and "an unpredictable query ID" (9.2). So:

- A query goes out on a random one of 64 sockets. These are bound to random ports, and connected, so
  that the kernel drops what other addresses send.
- Its ID is random, and no other query of that socket has or had it: a late reply cannot meet
  another query, and a reply counts on the very socket that asked.
- The caller compares the question (`deliver`). What is no reply to a query leaves it awaited.
- What answers an ID that was never sent from its socket is wrong, and the caller is told
  (`wrong`): it bounds the guesses at one question. A socket on which too much arrives that was not
  asked for is closed beside that, whatever it repeats: the kernel drops the rest of a flood, port
  and IDs are new.
- Sockets are renewed after some hundred queries or half a minute, whichever is first.
"""

import random
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from mcsdns.forward.address import Address

T = TypeVar("T")

_RANDOM_BYTES: Final = 4096
_RANDOM_LAST: Final = _RANDOM_BYTES - 3
"""A query takes three octets: one for the socket, two for the ID."""
_MOST_SOCKETS: Final = 256
_MOST_IDS: Final = 16384
"""IDs that may have been used on a socket where no other can be opened."""
GUESSING: Final = "too many wrong replies came to one port, someone may be guessing"


class UdpPoolSettings(msgspec.Struct, frozen=True):
    """How long a socket is used.

    Attributes:
        sockets: how many are asked from, 1 to 256; each is opened when chance first chooses it.
        queries: queries after which a socket is renewed. renew_s: the same in seconds. Both
            vary by a quarter.
        most_wrong: datagrams that answer no query ever sent from a socket, after which it is
            closed.
    """

    sockets: int = 64
    queries: int = 500
    renew_s: float = 30.0
    most_wrong: int = 32


class TransportStatistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of what came of queries to one upstream, over one transport.

    Attributes:
        sent: queries. received: replies that were taken.
        late: replies to what was answered or forgotten before. wrong: IDs never sent.
        refused: the ID was right, but it was no reply to the question.
        errors: what failed below DNS.
    """

    sent: int
    received: int
    late: int
    wrong: int
    refused: int
    errors: int

    @property
    def dropped(self) -> int:
        """How many replies were not believed."""
        return self.late + self.wrong + self.refused


class Statistics(TransportStatistics, frozen=True):
    """An immutable snapshot of one upstream's sockets.

    Attributes:
        errors: what the kernel said, such as a closed port. abandoned: sockets closed for
            too many wrong replies. open: sockets.
    """

    abandoned: int
    open: int


class UdpSocket(Generic[T]):
    """One socket and every ID that was sent from it.

    Attributes:
        pool: whose it is.
        awaited: by ID what awaits a reply; None where it is no longer awaited.
        left: queries until it is renewed. expires_s: when it is renewed.
        wrong: how much arrived that was not asked for.
    """

    __slots__ = ("awaited", "expires_s", "left", "pool", "wrong")

    def __init__(self, pool: "UdpPool[T]", left: int, expires_s: float) -> None:
        self.pool = pool
        self.awaited: dict[bytes, T | None] = {}
        self.left = left
        self.expires_s = expires_s
        self.wrong = 0

    @property
    def is_awaiting(self) -> bool:
        """Whether any query sent from it awaits a reply."""
        return any(each is not None for each in self.awaited.values())


class Sockets(Protocol):
    """What opens, sends and closes; it calls `receive` and `fail` of the socket's pool."""

    def open_udp(self, udp_socket: UdpSocket[T], address: Address) -> None:
        """Open a socket on a random port, connected to an upstream.

        Raises:
            OSError: there is no way there, or no descriptor left.
        """
        ...

    def send_udp(self, udp_socket: UdpSocket[T], datagram: bytes) -> None:
        """Send a datagram, with all others of this turn; failures come later."""
        ...

    def close_udp(self, udp_socket: UdpSocket[T]) -> None:
        """Close a socket at once."""
        ...


class UdpPool(Generic[T]):
    """Sends queries to one upstream and says what becomes of each.

    Attributes:
        address: the upstream. has_open: whether any socket is open, so that `renew` has to be
            called once a second.
    """

    def __init__(
        self,
        address: Address,
        deliver: Callable[[T, bytes, float], bool],
        fail: Callable[[T, str, float], None],
        wrong: Callable[[bytes, float], None],
        settings: UdpPoolSettings,
        sockets: Sockets,
        rng: random.Random,
    ) -> None:
        """Take whom to call; nothing is opened before the first query.

        `deliver` returns whether a message is the reply to a query; if not, it stays awaited.
        `fail` is called with what will not be answered, never from within `send`; `wrong` with a
        datagram whose ID was never sent from its socket. `rng` must not be predictable:
        `random.SystemRandom()`.
        """
        assert 0 < settings.sockets <= _MOST_SOCKETS
        assert 0 < settings.queries < _MOST_IDS
        self.address = address
        self._deliver = deliver
        self._fail = fail
        self._tell_wrong = wrong
        self._settings = settings
        self._sockets = sockets
        self._rng = rng
        self._random = b""
        self._random_at = _RANDOM_LAST + 1
        self._none = UdpSocket(self, 0, 0.0)
        self._slots = [self._none] * settings.sockets
        self._retired: list[UdpSocket[T]] = []
        self._sent = self._received = self._late = self._wrong = self._refused = 0
        self._errors = self._abandoned = 0

    @property
    def has_open(self) -> bool:
        """Whether any socket is open."""
        return bool(self._retired) or any(each is not self._none for each in self._slots)

    def send(self, token: T, body: bytes, now_s: float) -> tuple[UdpSocket[T], bytes]:
        """Send a query, given behind its ID; returns the socket and the ID.

        Raises:
            OSError: no socket can be had.
        """
        at = self._random_at
        if at > _RANDOM_LAST:
            self._random = self._rng.randbytes(_RANDOM_BYTES)
            at = 0
        self._random_at = at + 3
        slot = self._random[at] % len(self._slots)
        socket = self._slots[slot]
        if socket.left <= 0:
            socket = self._renewed(slot, now_s)
        message_id = self._random[at + 1 : at + 3]
        awaited = socket.awaited
        while message_id in awaited:
            message_id = self._rng.randbytes(2)
        awaited[message_id] = token
        socket.left -= 1
        self._sent += 1
        self._sockets.send_udp(socket, message_id + body)
        return socket, message_id

    def receive(self, socket: UdpSocket[T], datagram: bytes, now_s: float) -> bool:
        """Take a datagram; returns whether it was what the socket's reader waits for.

        False where it is unwanted: it is to be read away, so that a reply behind it is found in
        time. A socket that was closed for it needs no further reading: True.
        """
        message_id = datagram[:2]
        awaited = socket.awaited
        token = awaited.get(message_id)
        if token is not None:
            if self._deliver(token, datagram, now_s):
                self._received += 1
                awaited[message_id] = None
                return True
            self._refused += 1
        elif message_id in awaited:
            self._late += 1
            return False
        else:
            self._wrong += 1
            self._tell_wrong(datagram, now_s)
        socket.wrong += 1
        if socket.wrong < self._settings.most_wrong:
            return False
        self._abandoned += 1
        if socket in self._retired:
            self._retired.remove(socket)
        else:
            self._slots = [self._none if each is socket else each for each in self._slots]
        self._sockets.close_udp(socket)
        self._fail_awaited(socket, list(awaited), GUESSING, now_s)
        return True

    def fail_socket(
        self, socket: UdpSocket[T], why: str, now_s: float, *, besides: bytes = b""
    ) -> None:
        """Fail what was sent from a socket, for the kernel says that the upstream is not there.

        All but the datagram with the ID `besides`: a failing `send` may have said it of an earlier
        one (ip(7), SO_ERROR).
        """
        self._errors += 1
        self._fail_awaited(socket, [each for each in socket.awaited if each != besides], why, now_s)

    def fail_datagram(
        self, socket: UdpSocket[T], message_id: bytes, why: str, now_s: float
    ) -> None:
        """Fail what could not be sent."""
        self._errors += 1
        self._fail_awaited(socket, [message_id], why, now_s)

    def renew(self, now_s: float) -> None:
        """Retire sockets that are old, and close retired ones where nothing is awaited."""
        for slot, socket in enumerate(self._slots):
            if socket is not self._none and socket.expires_s <= now_s:
                self._slots[slot] = self._none
                self._retired.append(socket)
        retired, self._retired = self._retired, []
        for socket in retired:
            if socket.is_awaiting:
                self._retired.append(socket)
            else:
                self._sockets.close_udp(socket)

    def close(self) -> None:
        """Close all sockets; what was awaited does not fail."""
        for socket in self._open():
            socket.awaited.clear()
            self._sockets.close_udp(socket)
        self._slots = [self._none] * len(self._slots)
        self._retired = []

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(
            self._sent,
            self._received,
            self._late,
            self._wrong,
            self._refused,
            self._errors,
            self._abandoned,
            len(self._open()),
        )

    def _open(self) -> list[UdpSocket[T]]:
        return [each for each in self._slots if each is not self._none] + self._retired

    def _fail_awaited(
        self, socket: UdpSocket[T], message_ids: list[bytes], why: str, now_s: float
    ) -> None:
        """Fail each query that is still awaited when its turn comes."""
        for message_id in message_ids:
            token = socket.awaited.get(message_id)
            if token is not None:
                socket.awaited[message_id] = None
                self._fail(token, why, now_s)

    def _renewed(self, slot: int, now_s: float) -> UdpSocket[T]:
        """Open a socket in place of one that was used up, or never there.

        Where none can be had (the limit of open files) another one serves a while longer.
        """
        vary = self._rng.uniform(0.75, 1.25)
        left = max(1, int(self._settings.queries * vary))
        socket = UdpSocket(self, left, now_s + self._settings.renew_s * vary)
        try:
            self._sockets.open_udp(socket, self.address)
        except OSError:
            self._errors += 1
            for other in self._slots:
                if other is not self._none and len(other.awaited) < _MOST_IDS:
                    return other
            raise
        if (old := self._slots[slot]) is not self._none:
            self._retired.append(old)
        self._slots[slot] = socket
        return socket
