"""TCP: framing, pipelining, and limits on time and number (RFC 7766).

Requests of one connection are answered as they are ready (6.2.1.1). Reading from it pauses for
three reasons, and each ends by a call of `_Connection._process`:

- a turn of the loop answered `BATCH` requests: the rest is taken in the next turn, so that other
  connections get theirs;
- the client does not read its replies, and the write buffer is full: until `resume_writing`;
- `MAX_AWAITED` replies are to come from upstreams: until one of them was sent.

A connection is active while it sends whole requests; octets alone do not count. The listener keeps
its connections in the order of their last activity, so the first one is the first to be closed, by
the idle timeout or to make room.
"""

import asyncio
import socket
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from mcsdns.dns import HEADER_BYTES
from mcsdns.server.handler import SECONDS, Handler
from mcsdns.server.packet_cache import NegativeReply
from mcsdns.stats import Histogram, HistogramStatistics

if TYPE_CHECKING:  # only who logs queries loads it
    from mcsdns.server.query_log import QueryLog

BATCH: Final = 128
"""Requests of one connection per turn of the loop."""
MAX_AWAITED: Final = 128
"""Replies that a connection may wait for; past it, it is not read from."""
_WRITE_BUFFER_BYTES: Final = 1 << 17
_BACKLOG: Final = 1024
_SWEEP_S: Final = 1.0


class TcpSettings(msgspec.Struct, frozen=True):
    """Limits on connections.

    Attributes:
        idle_s: seconds without a whole request after which a connection is closed (RFC 7766,
            6.2.3).
        max_connections: past it, the connection that is idle longest makes room.
    """

    idle_s: float = 10.0
    max_connections: int = 2000


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one listener.

    Attributes:
        received: whole requests. accepted, open: connections. idle_closed: closed for silence.
        shed: closed to make room. aborted: closed because the framing cannot be right.
        seconds: how long requests took, but for those that were forwarded.
    """

    received: int
    accepted: int
    open: int
    idle_closed: int
    shed: int
    aborted: int
    seconds: HistogramStatistics


def bind(host: str, port: int) -> socket.socket:
    """Open a listening TCP socket.

    Raises:
        OSError: as the system says.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class TcpListener:
    """Serves one listening socket.

    Attributes:
        handler, settings: what answers, and the limits; both may be replaced at any time.
        query_log, is_counting: as those of `udp.UdpListener`.
        received, aborted: counters. seconds: how long the requests of one turn took.
    """

    def __init__(
        self,
        sock: socket.socket,
        handler: Handler,
        settings: TcpSettings,
        clock: Callable[[], float],
    ) -> None:
        """Take a socket from `bind`; `clock` gives monotonic seconds."""
        self.handler = handler
        self.query_log: QueryLog | None = None
        self.is_counting = True
        self.seconds = Histogram(SECONDS)
        self.clock = clock
        self.received = self.aborted = 0
        self._sock = sock
        self.settings = settings
        self._active: dict[_Connection, float] = {}
        self._accepted = self._idle_closed = self._shed = 0
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Begin to accept in the running loop."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, loop), sock=self._sock, backlog=_BACKLOG
        )
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop)

    def close(self) -> None:
        """Stop to accept; close every connection once its replies are written."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        else:
            self._sock.close()
        for connection in list(self._active):
            connection.close()

    def touch(self, connection: "_Connection") -> None:
        """Take a connection that began or sent a whole request; the least active stands first."""
        self._active.pop(connection, None)
        self._active[connection] = self.clock()

    def opened(self, connection: "_Connection") -> None:
        """Take a new connection, at the cost of the least active one where there are too many."""
        self._accepted += 1
        self.touch(connection)
        if len(self._active) > self.settings.max_connections:
            self._shed += 1
            next(iter(self._active)).abort()

    def closed(self, connection: "_Connection") -> None:
        """Forget a connection."""
        self._active.pop(connection, None)

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(
            self.received,
            self._accepted,
            len(self._active),
            self._idle_closed,
            self._shed,
            self.aborted,
            self.seconds.statistics(),
        )

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        oldest_allowed = self.clock() - self.settings.idle_s
        idle: list[_Connection] = []
        for connection, active in self._active.items():
            if active > oldest_allowed:
                break
            idle.append(connection)
        for connection in idle:
            self._idle_closed += 1
            connection.abort()
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop)


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, listener: TcpListener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._at = 0
        self._writable = True
        self._scheduled = False
        self._awaited = 0
        self._has_ended = self._is_broken = False
        self._address = b""

    def address(self) -> bytes:
        """Return the client's address (`forward_handler.Client`)."""
        return self._address

    def detach(self) -> Callable[[bytes], None]:
        """Return what sends a reply later (`forward_handler.Client`)."""
        self._awaited += 1
        return self._send_later

    def _send_later(self, message: bytes) -> None:
        """Send a reply out of order, and read on where too many were awaited."""
        self._awaited -= 1
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(len(message).to_bytes(2, "big") + message)
        if self._awaited == MAX_AWAITED - 1 and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._process)
        elif self._has_ended and not self._awaited:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._transport = transport
        self._address = _packed_peer(transport)
        self._listener.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._listener.closed(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._process()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0
        if not self._scheduled:
            self._process()

    def eof_received(self) -> bool:
        """Close a connection that was half closed, but only after the replies that are to come."""
        self._has_ended = True
        return self._awaited > 0

    def close(self) -> None:
        """Close once all replies are written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._listener.closed(self)
        if self._transport is not None:
            self._transport.abort()

    def _process(self) -> None:
        """Answer up to `BATCH` whole requests; pause reading where the module's rules say so."""
        self._scheduled = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        begin = perf_counter()
        replies, whole = self._take()
        if whole:
            self._listener.received += whole
            self._listener.touch(self)
        if replies:
            transport.write(b"".join(replies))
            if self._listener.is_counting:
                self._listener.seconds.observe(perf_counter() - begin, len(replies) // 3)
        if self._is_broken:
            self._listener.aborted += 1
            self.close()
        elif self._awaited >= MAX_AWAITED:
            transport.pause_reading()
        elif whole == BATCH or not self._writable:
            transport.pause_reading()
            if self._writable:
                self._scheduled = True
                self._loop.call_soon(self._process)
        else:
            transport.resume_reading()

    def _take(self) -> tuple[list[bytes], int]:
        """Return the framed replies to the requests at hand, and how many requests there were.

        A reply is three pieces: length, ID, and the rest. A message too short for a header means
        that the framing is lost: it is the last one.
        """
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        handler, query_log = self._listener.handler, self._listener.query_log
        known, unknown = handler.cache.known.get, handler.cache.unknown.get
        by_class = handler.counters.by_class
        is_counting = self._listener.is_counting
        replies: list[bytes] = []
        whole = 0
        while whole < BATCH and at + 2 <= end and self._awaited < MAX_AWAITED:
            size = buffer[at] << 8 | buffer[at + 1]
            if size < HEADER_BYTES:
                self._is_broken = True
                return replies, whole
            begin = at + 2
            if begin + size > end:
                break
            at = begin + size
            whole += 1
            key = buffer[begin + 2 : at]
            ready = known(key) or unknown(key)
            if ready is None:
                octets = handler.handle(buffer[begin:at], self)
                if octets is None:
                    if query_log is not None and query_log.due(1):
                        query_log.log(buffer[begin:at], b"", self._address, "tcp", "")
                    continue
            elif isinstance(ready, bytes):
                octets = ready
            elif isinstance(ready, NegativeReply):
                octets = ready.head + ready.soas[ready.at] + ready.opt
            else:
                octets = next(ready)
            if is_counting:
                by_class[octets[0]] += 1
            size = len(octets) + 1  # without the response class, with the ID
            replies += (size.to_bytes(2, "big"), buffer[begin : begin + 2], octets[1:])
            if query_log is not None and query_log.due(1):
                kind = handler.counters.kind_of(octets[0])
                request = buffer[begin:at]
                query_log.log(request, request[:2] + octets[1:], self._address, "tcp", kind)
        self._at = at
        if at == end:
            self._buffer, self._at = b"", 0
        return replies, whole


def _packed_peer(transport: asyncio.Transport) -> bytes:
    """Return the address of the other end; octets that are no address where it is gone."""
    peer: tuple[str, int] | None = transport.get_extra_info("peername")
    if not peer:
        return b""
    host = peer[0].partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
