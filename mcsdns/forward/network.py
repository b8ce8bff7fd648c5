"""The descriptors and the timer of a forwarder, on asyncio; decides nothing.

The clock is that of the loop, `time.monotonic`.

What the forwarder sends over UDP in one turn of the loop leaves in one go behind it: each system
call that finds the upstream asleep wakes it, which cost more than the rest of the call (8 us in a
virtual machine); of a row of them only the first one does.

All UDP sockets are read through one epoll object that is itself one descriptor of the loop: asyncio
makes a key, a handle and a call through a context for every readable socket, and with replies that
arrive on dozens of random ports that was a fifth of a forwarded query. Elsewhere than on Linux each
socket is a reader of the loop.
"""

import asyncio
import errno
import random
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from mcsdns.dns.types import TC
from mcsdns.forward.address import Address
from mcsdns.forward.forwarder import Forwarder, Settings
from mcsdns.forward.pending import Attempt, Deliver, Fail
from mcsdns.forward.stream_pool import StreamPool, error_text
from mcsdns.forward.udp_pool import UdpSocket

_MOST_EVENTS: Final = 64
"""Sockets that are read in one turn of the loop."""
_DATAGRAM_BYTES: Final = 4096
"""More than we offer; what is longer counts as truncated, whatever its TC bit says."""
_TC: Final = TC >> 8
_BATCH: Final = 16
"""Datagrams of one socket per turn of the loop, and that many only where they are unwanted."""
_STALL_S: Final = 0.1
"""A timer that is so late tells that this process had no processor: silence proves nothing then."""
_CATCH_UP_TURNS: Final = 64
_BIND_TRIES: Final = 16
PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
RESERVED_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
_DEFAULT_RANGE: Final = (32768, 60999)

AnyUdpSocket = UdpSocket[Any]


class AsyncioNetwork:
    """Opens, sends and reads for one forwarder in the running loop."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._forwarder: Forwarder | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._epoll: select.epoll | None = None
        self._sockets: dict[AnyUdpSocket, socket.socket] = {}
        self._readable: dict[int, tuple[Callable[[int], bytes], AnyUdpSocket]] = {}
        self._outgoing: list[tuple[AnyUdpSocket, bytes]] = []
        self._source_ports = source_ports()

    def drive(self, forwarder: Forwarder) -> None:
        """Call a forwarder's `expire` from now on, in time."""
        self._forwarder = forwarder

    def wake(self) -> None:
        """Have the forwarder called at its next deadline, which may be earlier than it was."""
        if self._forwarder is None:
            return
        deadline_s = self._forwarder.next_deadline()
        if self._timer is not None:
            if deadline_s is not None and self._timer.when() <= deadline_s:
                return
            self._timer.cancel()
            self._timer = None
        if deadline_s is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline_s, self._expire)

    def _expire(self, turns: int = _CATCH_UP_TURNS) -> None:
        """Expire what is due; after a stall of ours not before all that came meanwhile is read."""
        timer, self._timer = self._timer, None
        has_stalled = timer is not None and time.monotonic() > timer.when() + _STALL_S
        if timer and has_stalled and turns and self._epoll is not None and self._epoll.poll(0, 1):
            loop = asyncio.get_running_loop()  # which reads before it looks at timers
            self._timer = loop.call_at(timer.when(), self._expire, turns - 1)
        elif self._forwarder is not None:
            self._forwarder.expire(time.monotonic())
            self.wake()

    def stream_pool(self, address: Address, deliver: Deliver, fail: Fail) -> StreamPool[Attempt]:
        """Make the connections to an upstream.

        Raises:
            ConfigError: as `StreamPool`.
        """
        return StreamPool(address, deliver, fail, self._settings.streams, self._rng)

    def open_udp(self, udp_socket: AnyUdpSocket, address: Address) -> None:
        """Open a socket on a random port, connected to an upstream.

        Raises:
            OSError: there is no way there, or no descriptor left.
        """
        loop = asyncio.get_running_loop()
        sock = socket.socket(address.family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            self._bind(sock)
            sock.connect(address.socket_address())
        except BaseException:
            sock.close()
            raise
        fd = sock.fileno()
        self._sockets[udp_socket] = sock
        self._readable[fd] = sock.recv, udp_socket
        if sys.platform != "linux":
            loop.add_reader(fd, self._read_one, fd)
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._read_all, self._epoll)
        self._epoll.register(fd, select.EPOLLIN)

    def send_udp(self, udp_socket: AnyUdpSocket, datagram: bytes) -> None:
        """Send a datagram, with all others of this turn; failures come later."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._send_all)
        self._outgoing.append((udp_socket, datagram))

    def close_udp(self, udp_socket: AnyUdpSocket) -> None:
        """Close a socket at once."""
        sock = self._sockets.pop(udp_socket)
        fd = sock.fileno()
        del self._readable[fd]
        if sys.platform != "linux":
            asyncio.get_running_loop().remove_reader(fd)
        elif self._epoll is not None:
            self._epoll.unregister(fd)
            if not self._readable:
                asyncio.get_running_loop().remove_reader(self._epoll.fileno())
                self._epoll.close()
                self._epoll = None
        sock.close()

    def _send_all(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        sockets = self._sockets
        for udp_socket, datagram in outgoing:
            sock = sockets.get(udp_socket)
            if sock is None:
                continue  # it was closed meanwhile
            try:
                sock.send(datagram)
            except OSError as error:
                self._not_sent(sock, udp_socket, datagram, error)

    def _not_sent(
        self, sock: socket.socket, udp_socket: AnyUdpSocket, datagram: bytes, error: OSError
    ) -> None:
        """Try again: the error may be that of an earlier datagram (ip(7), SO_ERROR)."""
        now_s = time.monotonic()
        pool, why = udp_socket.pool, error_text(error)
        try:
            sock.send(datagram)
        except OSError:
            pool.fail_datagram(udp_socket, datagram[:2], why, now_s)
        else:
            pool.fail_socket(udp_socket, why, now_s, besides=datagram[:2])

    def _read_all(self, epoll: select.epoll) -> None:
        now_s = time.monotonic()
        readable = self._readable
        for fd, _ in epoll.poll(0, _MOST_EVENTS):
            if fd in readable:  # it may be closed because of what another one read
                self._read(*readable[fd], now_s)

    def _read_one(self, fd: int) -> None:
        self._read(*self._readable[fd], time.monotonic())

    def _read(
        self, receive: Callable[[int], bytes], udp_socket: AnyUdpSocket, now_s: float
    ) -> None:
        """Read until a reply is found; the loop calls again where more wait, which costs less."""
        pool = udp_socket.pool
        for _ in range(_BATCH):
            try:
                datagram = receive(_DATAGRAM_BYTES + 1)
            except BlockingIOError:
                return
            except OSError as error:
                pool.fail_socket(udp_socket, error_text(error), now_s)
                return
            if len(datagram) > _DATAGRAM_BYTES:
                datagram = datagram[:2] + bytes((datagram[2] | _TC,)) + datagram[3:]
            if pool.receive(udp_socket, datagram, now_s):
                return

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


def source_ports() -> tuple[int, int, frozenset[int]]:
    """Return the ports that this system gives to clients: first, last, the reserved ones.

    RFC 5452, 9.2 wants the range to be "as large as possible and practicable": outside of the
    kernel's range we might sit on the port of a neighbour that is about to start (VXLAN, mDNS).
    """
    try:
        low, high = map(int, PORT_RANGE.read_text().split())
        reserved = RESERVED_PORTS.read_text().strip()
        return low, high, frozenset(_numbers(reserved))
    except (OSError, ValueError):  # a system that does not tell; bind finds out what is taken
        return *_DEFAULT_RANGE, frozenset[int]()


def _numbers(text: str) -> Iterator[int]:
    """Read `8080,9000-9002`."""
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
