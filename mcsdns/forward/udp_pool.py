"""Questions to one upstream over UDP: many sockets with random ports, each for a while only.

What makes a forged reply improbable (RFC 5452, 9.2 and 10): a random one of 64 source ports, a
random id that no other question of that socket has or had, a peer that the kernel checks
(connected sockets), and a socket that is closed when too much arrives that nobody asked for.

No task and no timer belongs to a question: who asks says when it gives up (`forget`).
"""

import asyncio
import errno
import random
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from mcsdns.forward.address import Address
from mcsdns.forward.counts import Counts, text_of
from mcsdns.forward.readers import Readers

T = TypeVar("T")

_RANDOM_BYTES: Final = 4096
_RANDOM_LAST: Final = _RANDOM_BYTES - 3
"""A question takes three octets: one for the socket, two for the id."""
_MOST_SOCKETS: Final = 256
_MOST_IDS: Final = 16384
"""Ids that may have been used on a socket where no other can be opened."""
_DATAGRAM_BYTES: Final = 4096
"""More than we offer; what is longer is cut and then read as malformed."""
_BATCH: Final = 16
"""Datagrams of one socket per turn of the loop, and that many only where they are unwanted."""
_SWEEP_S: Final = 1.0
_BIND_TRIES: Final = 16
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RESERVED_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
_DEFAULT_RANGE: Final = (32768, 60999)


class UdpPoolSettings(msgspec.Struct, frozen=True):
    """How long a socket is used.

    Attributes:
        sockets: how many are asked from, 1 to 256; each is opened when chance first chooses it.
        queries: questions after which a socket is renewed. renew_s: the same in seconds. Both
            vary by a quarter.
        most_wrong: datagrams that answer no question ever asked from a socket, after which it is
            closed: whoever guesses ids has that many guesses.
    """

    sockets: int = 64
    queries: int = 500
    renew_s: float = 30.0
    most_wrong: int = 32


class Statistics(Counts, frozen=True):
    """An immutable snapshot of one upstream's sockets.

    Attributes:
        errors: what the kernel said, such as a closed port. abandoned: sockets closed for
            too many wrong replies. open: sockets.
    """

    abandoned: int
    open: int


class _Port(Generic[T]):
    """One socket and every id that was asked from it; None where that is no longer awaited.

    An id is never used twice on a socket, so that a late reply cannot meet another question.
    """

    __slots__ = ("asked", "expires", "left", "recv", "send", "sock", "wrong")

    def __init__(self, sock: socket.socket, left: int, expires: float) -> None:
        self.sock = sock
        self.send: Callable[[bytes], int] = sock.send
        self.recv: Callable[[int], bytes] = sock.recv
        self.asked: dict[bytes, Handle[T] | None] = {}
        self.left = left
        self.expires = expires
        self.wrong = 0

    def awaited(self) -> "list[Handle[T]]":
        return [handle for handle in self.asked.values() if handle is not None]


Handle: TypeAlias = tuple[_Port[T], bytes, T]
"""One question that was sent; a tuple because it is made for each."""


class UdpPool(Generic[T]):
    """Sends questions to one upstream and tells what becomes of each."""

    def __init__(
        self,
        address: Address,
        deliver: Callable[[T, bytes], bool],
        fail: Callable[[T, str], None],
        settings: UdpPoolSettings,
        rng: random.Random,
    ) -> None:
        """Take who is told; nothing is opened before the first question.

        `deliver` says whether the message is a reply to the question; if not, it stays awaited.
        `fail` is told what will not be answered, never from within `send`. `rng` must not be
        predictable: `random.SystemRandom()`.
        """
        assert 0 < settings.sockets <= _MOST_SOCKETS
        assert 0 < settings.queries < _MOST_IDS
        self._address = address
        self._deliver = deliver
        self._fail = fail
        self._settings = settings
        self._rng = rng
        self._pool = b""
        self._at = _RANDOM_LAST + 1
        self._none: _Port[T] = _Port(_closed_socket(), 0, 0.0)
        self._slots = [self._none] * settings.sockets
        self._count = settings.sockets
        self._retired: list[_Port[T]] = []
        self._readers = Readers()
        self._outgoing: list[tuple[Callable[[bytes], int], bytes, Handle[T]]] = []
        self._source_ports = source_ports()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sent = self._received = self._late = self._wrong = self._refused = 0
        self._errors = self._abandoned = 0

    def send(self, token: T, message: bytes) -> Handle[T]:
        """Send a question with an id of our own in place of its first two octets."""
        at = self._at
        if at > _RANDOM_LAST:
            self._pool = self._rng.randbytes(_RANDOM_BYTES)
            at = 0
        self._at = at + 3
        pool = self._pool
        slot = pool[at] % self._count
        port = self._slots[slot]
        if port.left <= 0:
            port = self._renewed(slot)
        key = pool[at + 1 : at + 3]
        asked = port.asked
        while key in asked:
            key = self._rng.randbytes(2)
        asked[key] = handle = (port, key, token)
        port.left -= 1
        self._sent += 1
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._outgoing.append((port.send, key + message[2:], handle))
        return handle

    def _send_all(self) -> None:
        """Send what was asked in this turn of the loop, in one go.

        Each system call that finds the upstream asleep wakes it, which cost more than the rest of
        the call (8 us in a virtual machine); of a row of them only the first one does.
        """
        outgoing, self._outgoing = self._outgoing, []
        for send, message, handle in outgoing:
            try:
                send(message)
            except OSError as error:
                self._not_sent(handle, message, error)

    def forget(self, handle: Handle[T]) -> None:
        """Await no reply to a question any longer."""
        port, key, _ = handle
        port.asked[key] = None

    def renew(self, now: float) -> None:
        """Retire sockets that are old, and close retired ones where nothing is awaited.

        Called once a second by a timer of its own; `now` is the time of the loop.
        """
        for slot, port in enumerate(self._slots):
            if port is not self._none and port.expires <= now:
                self._slots[slot] = self._none
                self._retired.append(port)
        retired, self._retired = self._retired, []
        for port in retired:
            if any(port.asked.values()):
                self._retired.append(port)
            else:
                self._close(port)

    def close(self) -> None:
        """Close all sockets; nobody is told what was awaited."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for port in self._all():
            port.asked.clear()
            self._close(port)
        self._slots = [self._none] * self._count
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
            len(self._all()),
        )

    def _all(self) -> list[_Port[T]]:
        return [port for port in self._slots if port is not self._none] + self._retired

    def _read(self, port: _Port[T]) -> None:
        """Take one reply; the loop calls again where more wait, which is cheaper than to look.

        What is unwanted is read away, so that a reply behind it is found in time.
        """
        asked = port.asked
        for _ in range(_BATCH):
            try:
                message = port.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(port, error)
                return
            key = message[:2]
            handle = asked.get(key)
            if handle is not None:
                if self._deliver(handle[2], message):
                    self._received += 1
                    asked[key] = None
                    return
                self._refused += 1
            elif key in asked:
                self._late += 1
                continue
            else:
                self._wrong += 1
            port.wrong += 1
            if port.wrong >= self._settings.most_wrong:
                self._abandon(port)
                return

    def _failed(self, port: _Port[T], error: OSError) -> None:
        """Tell what the kernel knows: nobody listens there, or there is no way there."""
        self._errors += 1
        self._tell(port.awaited(), text_of(error))

    def _abandon(self, port: _Port[T]) -> None:
        self._abandoned += 1
        if port in self._retired:
            self._retired.remove(port)
        else:
            self._slots = [self._none if each is port else each for each in self._slots]
        self._close(port)
        self._tell(
            port.awaited(), "too many wrong replies came to one port, someone may be guessing"
        )

    def _tell(self, handles: list[Handle[T]], why: str) -> None:
        for handle in handles:
            port, key, token = handle
            if port.asked.get(key) is handle:
                port.asked[key] = None
                self._fail(token, why)

    def _not_sent(self, handle: Handle[T], message: bytes, error: OSError) -> None:
        """Try again: the kernel may have told of an earlier question (ip(7), SO_ERROR)."""
        self._errors += 1
        port = handle[0]
        try:
            port.send(message)
        except OSError:
            failed = [handle]
        else:
            failed = [each for each in port.awaited() if each is not handle]
        self._tell(failed, text_of(error))

    def _renewed(self, slot: int) -> _Port[T]:
        """Open a socket in place of one that was used up, or never there.

        Where none can be had (the limit of open files) another one serves a while longer.
        """
        try:
            port = self._opened()
        except OSError as error:
            return self._substitute(error)
        if (old := self._slots[slot]) is not self._none:
            self._retired.append(old)
        self._slots[slot] = port
        return port

    def _substitute(self, error: OSError) -> _Port[T]:
        for port in self._slots:
            if port is not self._none and len(port.asked) < _MOST_IDS:
                self._errors += 1
                return port
        port = _Port[T](self._none.sock, 1, 0.0)
        port.send = _raising(error)
        return port

    def _opened(self) -> _Port[T]:
        loop = asyncio.get_running_loop()
        sock = socket.socket(self._address.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            self._bind(sock)
            sock.connect(self._address.socket_address())
        except BaseException:
            sock.close()
            raise
        vary = self._rng.uniform(0.75, 1.25)
        settings = self._settings
        port: _Port[T] = _Port(
            sock, max(1, int(settings.queries * vary)), loop.time() + settings.renew_s * vary
        )
        self._readers.add(sock.fileno(), partial(self._read, port))
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop)
        return port

    def _bind(self, sock: socket.socket) -> None:
        """Bind to a random port that is free; the last try leaves the choice to the kernel."""
        host = "0.0.0.0"  # noqa: S104 - the kernel takes replies from the peer alone
        if sock.family == socket.AF_INET6:
            host = "::"
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        low, high, reserved = self._source_ports
        for _ in range(_BIND_TRIES):
            port = self._rng.randint(low, high)
            if port in reserved:
                continue
            try:
                sock.bind((host, port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                    raise
            else:
                return
        sock.bind((host, 0))

    def _close(self, port: _Port[T]) -> None:
        self._readers.remove(port.sock.fileno())
        port.sock.close()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.renew(loop.time())
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop) if self._all() else None


def source_ports() -> tuple[int, int, frozenset[int]]:
    """Return the ports that this system gives to those who ask: first, last, the reserved ones.

    RFC 5452, 9.2 wants the range to be "as large as possible and practicable": outside of the
    kernel's range we might sit on the port of a neighbour that is about to start (VXLAN, mDNS).
    """
    try:
        low, high = map(int, _PORT_RANGE.read_text().split())
        reserved = _RESERVED_PORTS.read_text().strip()
        return low, high, frozenset(_numbers(reserved))
    except (OSError, ValueError):  # a system that does not tell; bind finds out what is taken
        return *_DEFAULT_RANGE, frozenset[int]()


def _numbers(text: str) -> Iterator[int]:
    """Read `8080,9000-9002`."""
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _closed_socket() -> socket.socket:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return sock


def _raising(error: OSError) -> Callable[[bytes], int]:
    def send(_: bytes) -> int:
        raise error

    return send
