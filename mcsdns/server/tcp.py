"""TCP: framing, pipelining, and limits on octets, time and number (RFC 7766).

Requests of one connection are answered as they are ready (6.2.1.1).

Turns. All connections share one slice of `SLICE_S` in each turn of the event loop, whatever they
ask, so that UDP and all else are served in between. The listener has an epoll of its own, of which
the loop sees one descriptor. Whoever has something to do stands in a queue, once; taken out of it,
a connection reads up to `READ_BYTES` if it has no whole request, and answers until there is none
left, until the replies have `TURN_BYTES`, or until the slice is over. What is left then stands at
the end of the queue. The clock is read after a reply that had to be made and after `CLOCK_BYTES`
of requests whose replies were cached, so the slice ends late by one reply at most.

What is held: the requests that were read and not answered, and the replies that the client has not
taken. No turn begins, and nothing is read, while more than `TURN_BYTES` are unsent or `MAX_AWAITED`
replies are to come from upstreams; those that come then are held, too. The kernel holds no more
than `SOCKET_BYTES` each way. All connections together hold `max_held_bytes`; past it the one that
holds most is cut. It is found without looking at all of them: connections are grouped by the length
of their number of octets, in bits.

Idle is a connection to which nothing is unsent and which awaits nothing (6.2.3). Its time begins
with the last whole request or the last octet that was sent; octets of a request alone do not count.
A client that takes no octet of what is unsent for as long is cut: its questions do not count
meanwhile. The listener keeps its connections in the order of that time, so the first one is the
first to be closed, to make room as well. Whoever has not taken all is reset when we close, so that
the kernel forgets what it held.
"""

import asyncio
import enum
import fcntl
import logging
import select
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from mcsdns.dns import HEADER_BYTES
from mcsdns.server.accept import Acceptor
from mcsdns.server.handler import SECONDS, Handler
from mcsdns.server.packet_cache import NegativeReply
from mcsdns.stats import Histogram, HistogramStatistics, LogInterval

if TYPE_CHECKING:  # only who logs queries loads it
    from mcsdns.server.query_log import QueryLog

logger = logging.getLogger(__name__)

SLICE_S: Final = 0.001
"""How long all connections together may hold one turn of the loop."""
TURN_BYTES: Final = 1 << 16
"""Replies of one connection in one turn; and unsent ones past which it has none."""
READ_BYTES: Final = 1 << 14
SOCKET_BYTES: Final = 1 << 15
"""Buffers of a socket, each way; Linux takes twice as much, for its own needs too."""
CLOCK_BYTES: Final = 4096
MAX_AWAITED: Final = 128
"""Replies that a connection may wait for; past it, it is not read from."""
_BACKLOG: Final = 1024
_SEGMENT_BYTES: Final = 1220
"""What fits a packet of 1280 octets: some ways swallow larger ones and tell nobody (RFC 8900)."""
_EVENTS_AT_ONCE: Final = 64
_COMPARED: Final = 64
"""Connections among which the one that holds most is looked for."""
_SWEEP_S: Final = 1.0
_READABLE: Final[int] = select.EPOLLIN
_WRITABLE: Final[int] = select.EPOLLOUT
_GONE: Final[int] = select.EPOLLHUP | select.EPOLLERR
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time."""


class TcpSettings(msgspec.Struct, frozen=True):
    """Limits on connections.

    Attributes:
        idle_s: seconds after which a connection that is idle, or takes nothing, is closed.
        max_connections: past it, the connection that is idle longest makes room.
        max_held_bytes: requests and replies that all connections hold (see above).
    """

    idle_s: float = 10.0
    max_connections: int = 2000
    max_held_bytes: int = 64 << 20


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of the listener.

    Attributes:
        received: whole requests. accepted, open: connections. held_bytes: see above.
        idle_closed: closed for silence. stalled: cut because they took nothing. shed: closed to
            make room. held_most: cut because all held too much. aborted: closed because the framing
            cannot be right. no_files: pauses of accepting for want of file descriptors or memory.
        seconds: how long requests took, but for those that were forwarded.
    """

    received: int
    accepted: int
    open: int
    held_bytes: int
    idle_closed: int
    stalled: int
    shed: int
    held_most: int
    aborted: int
    no_files: int
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
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class TcpListener:
    """Serves all listening sockets.

    Attributes:
        handler, settings: what answers, and the limits; both may be replaced at any time.
        query_log, is_counting: as those of `udp.UdpListener`.
        epoll: what connections wait on. read_area: what they read into, one at a time: a buffer of
            that size for each read that is then cut short would leave holes in the heap.
        received, aborted: counters. seconds: how long the requests of one turn took.
    """

    def __init__(
        self,
        socks: Sequence[socket.socket],
        handler: Handler,
        settings: TcpSettings,
        clock: Callable[[], float],
    ) -> None:
        """Take sockets from `bind`; `clock` gives monotonic seconds."""
        self.handler = handler
        self.settings = settings
        self.query_log: QueryLog | None = None
        self.is_counting = True
        self.epoll = select.epoll()
        self.read_area = memoryview(bytearray(READ_BYTES))
        self.received = self.aborted = 0
        self.seconds = Histogram(SECONDS)
        self._clock = clock
        self._acceptors = [Acceptor(sock, self._take) for sock in socks]
        self._connections: dict[int, _Connection] = {}
        self._active: dict[_Connection, float] = {}
        self._by_size: list[dict[_Connection, None]] = [{} for _ in range(64)]
        self._held_bytes = 0
        self._lingering: dict[_Connection, None] = {}
        self._queue: deque[_Connection] = deque()
        self._is_scheduled = self._is_closed = False
        self._idle_closed = self._stalled = self._shed = self._held_most = 0
        self._lines = LogInterval()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept in the running loop."""
        loop = self._loop = asyncio.get_running_loop()
        for acceptor in self._acceptors:  # what is accepted inherits these
            acceptor.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            acceptor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            acceptor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
            acceptor.start()
        loop.add_reader(self.epoll.fileno(), self._turn)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)

    def close(self) -> None:
        """Stop to accept; close every connection once its replies are written."""
        self._is_closed = True
        for acceptor in self._acceptors:
            acceptor.close()
        for connection in list(self._active):
            connection.finish()
        self._end_if_done()

    def statistics(self) -> Statistics:
        """Return the counters."""
        acceptors = [each.statistics() for each in self._acceptors]
        return Statistics(
            self.received,
            sum(each.accepted for each in acceptors),
            len(self._active),
            self._held_bytes,
            self._idle_closed,
            self._stalled,
            self._shed,
            self._held_most,
            self.aborted,
            sum(each.no_files for each in acceptors),
            self.seconds.statistics(),
        )

    # What connections call

    def touch(self, connection: "_Connection") -> None:
        """Take a connection that is not idle, or was not until now; it stands last from now on."""
        if self._active.pop(connection, None) is not None:
            self._active[connection] = self._clock()

    def wake(self, connection: "_Connection") -> None:
        """Give a connection a turn."""
        if not connection.is_queued:
            connection.is_queued = True
            self._queue.append(connection)
            self._schedule()

    def hold(self, connection: "_Connection", held_bytes: int) -> None:
        """Note what a connection holds; where all hold too much, cut the one that holds most."""
        before, connection.held_bytes = connection.held_bytes, held_bytes
        self._held_bytes += held_bytes - before
        size = held_bytes.bit_length()
        if size != before.bit_length():
            self._by_size[before.bit_length()].pop(connection, None)
            if size:
                self._by_size[size][connection] = None
        while self._held_bytes > self.settings.max_held_bytes:
            most = next(group for group in reversed(self._by_size) if group)
            cut = max(islice(most, _COMPARED), key=lambda each: each.held_bytes)
            self._held_most += 1
            self._tell(cut)
            cut.close()

    def linger(self, connection: "_Connection", fd: int) -> None:
        """Look now and then whether a client has taken all, as there is nothing else to do."""
        self.epoll.unregister(fd)
        self._lingering[connection] = None

    def forget(self, connection: "_Connection", fd: int) -> None:
        """Forget a connection that is about to be closed."""
        self.hold(connection, 0)
        if connection in self._lingering:
            del self._lingering[connection]
        else:
            self.epoll.unregister(fd)
        del self._active[connection], self._connections[fd]
        if self._is_closed:
            self._end_if_done()

    # Turns

    def _schedule(self) -> None:
        if not self._is_scheduled:
            assert self._loop is not None
            self._is_scheduled = True
            self._loop.call_soon(self._on_schedule)

    def _on_schedule(self) -> None:
        self._is_scheduled = False
        if not self.epoll.closed:
            self._turn()

    def _turn(self) -> None:
        """Let connections read and answer for a slice of time; the queue goes first."""
        if self._is_scheduled:
            return
        ends_s = perf_counter() + SLICE_S
        queue, connections = self._queue, self._connections
        is_over = bool(queue)
        if len(queue) < _EVENTS_AT_ONCE:
            for fd, events in self.epoll.poll(0, _EVENTS_AT_ONCE):
                connection = connections[fd]
                if is_over or connection.step(events, ends_s):
                    connection.events |= events
                    self.wake(connection)
                is_over = is_over or perf_counter() > ends_s
        while queue:
            if perf_counter() > ends_s:
                self._schedule()
                break
            connection = queue.popleft()
            connection.is_queued = False
            if connection.step(connection.events, ends_s):
                self.wake(connection)

    # Connections come and go

    def _take(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Take a connection, at the cost of the least active one where there are too many."""
        connection = _Connection(self, sock, address)
        self._connections[sock.fileno()] = connection
        self.epoll.register(sock.fileno(), _READABLE)
        self._active[connection] = self._clock()
        if len(self._active) > self.settings.max_connections:
            self._shed += 1
            next(iter(self._active)).close()

    def _sweep(self) -> None:
        assert self._loop is not None
        for connection in [each for each in self._lingering if each.has_all_taken()]:
            connection.close()
        oldest_allowed = self._clock() - self.settings.idle_s
        late: list[_Connection] = []
        for connection, since_s in self._active.items():
            if since_s > oldest_allowed:
                break
            late.append(connection)
        for connection in late:
            if connection.unsent:
                self._stalled += 1
            elif connection.awaited:
                self.touch(connection)
                continue
            else:
                self._idle_closed += 1
            connection.close()
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def _end_if_done(self) -> None:
        if not self._connections and not self.epoll.closed:
            if self._loop is not None:
                self._loop.remove_reader(self.epoll.fileno())
            if self._sweeper is not None:
                self._sweeper.cancel()
            self.epoll.close()

    def _tell(self, cut: "_Connection") -> None:
        if self._lines.may_pass(self._clock()):
            logger.warning(
                "TCP connections hold more than %d octets of requests, and of replies that "
                "clients do not take: the one that holds most is cut, now one of %s with %d; "
                "raise --tcp-bytes if the clients are yours",
                self.settings.max_held_bytes,
                cut.address_text,
                cut.held_bytes,
            )


class _State(enum.IntEnum):
    """What is still to be done, in the order in which a connection ends."""

    OPEN = 0
    ENDED = 1
    """The client says no more; its requests are answered."""
    FINISHING = 2
    """No request is answered any more; what is unsent is written."""
    LINGERING = 3
    """The kernel has all that is left."""
    CLOSED = 4


_OPEN, _ENDED, _FINISHING, _LINGERING, _CLOSED = map(int, _State)  # an enum's take time to find


class _Connection:
    """One client.

    Attributes:
        events: what epoll told since the last step. is_queued: whether a step is to come.
        unsent: octets that the kernel has not taken. awaited: replies to come from upstreams.
        held_bytes: what the listener knows to be held.
    """

    __slots__ = (
        *("_address", "_at", "_buffer", "_fd", "_listener", "_mask", "_sock", "_state"),
        *("awaited", "events", "held_bytes", "is_queued", "unsent"),
    )

    def __init__(
        self, listener: TcpListener, sock: socket.socket, address: tuple[str, int]
    ) -> None:
        self._listener = listener
        self._sock = sock
        self._fd = sock.fileno()
        self._address = address
        self._mask = _READABLE
        self._state = _OPEN
        self._buffer = b""
        self._at = 0
        self.unsent = bytearray()
        self.events = self.awaited = self.held_bytes = 0
        self.is_queued = False

    @property
    def address_text(self) -> str:
        """The client's address, for people."""
        return self._address[0]

    def address(self) -> bytes:
        """Return the client's address (`forward_handler.Client`)."""
        host = self._address[0].partition("%")[0]
        return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)

    def detach(self) -> Callable[[bytes], None]:
        """Return what sends a reply later (`forward_handler.Client`)."""
        self.awaited += 1
        return self._send_later

    # Its end

    def finish(self) -> None:
        """Close once all replies are written; read no more."""
        self._state = max(self._state, _FINISHING)
        self._settle()

    def close(self) -> None:
        """Close; but a client that has not taken what the kernel holds is reset."""
        if self._state < _CLOSED and not self.has_all_taken():
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def has_all_taken(self) -> bool:
        """Return whether the client has acknowledged all that the kernel had for it."""
        return not any(fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4)))

    def _linger(self) -> None:
        """Say that there is no more, and close once the client has all.

        A socket that is closed at once would hold its octets in the kernel for minutes if the
        client never takes them, and nobody would count it.
        """
        if self.has_all_taken():
            self._close()
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        self._state = _LINGERING
        self._listener.linger(self, self._fd)

    def _close(self) -> None:
        if self._state < _CLOSED:
            self._state = _CLOSED
            self._buffer = b""
            self.unsent.clear()
            self._listener.forget(self, self._fd)
            self._sock.close()

    # Its turns

    def step(self, events: int, ends_s: float) -> bool:
        """Write, read and answer as epoll told; return whether there is more to do at once."""
        self.events = 0
        if events & ~_READABLE:
            if events & _GONE:
                self.close()
            else:
                self._send_unsent()
        has_more = False
        if self._state <= _ENDED and len(self.unsent) <= TURN_BYTES and self.awaited < MAX_AWAITED:
            if events & _READABLE and not (self._buffer and self._has_whole()):
                self._read()
            if self._buffer:
                self._answer(ends_s)
                has_more = bool(self._buffer) and self._has_whole() and self._has_room()
        self._settle()
        return has_more

    def _settle(self) -> None:
        """Tell the listener what is held, and epoll what is waited for; end what is done."""
        state, unsent = self._state, self.unsent
        if state:
            if state >= _LINGERING:
                return
            if not unsent and (state == _FINISHING or not (self.awaited or self._has_whole())):
                self._linger()
                return
        has_room = self.awaited < MAX_AWAITED and len(unsent) <= TURN_BYTES
        mask = _READABLE if has_room and not state else 0
        if unsent:
            mask |= _WRITABLE
        if mask != self._mask:
            self._mask = mask
            self._listener.epoll.modify(self._fd, mask)
        held_bytes = len(self._buffer) + len(unsent)
        if held_bytes != self.held_bytes:
            self._listener.hold(self, held_bytes)

    def _has_room(self) -> bool:
        """Return whether a turn may begin."""
        return self.awaited < MAX_AWAITED and len(self.unsent) <= TURN_BYTES

    def _has_whole(self) -> bool:
        """Return whether the next request is here, or a length that none can have."""
        buffer, at = self._buffer, self._at
        end = len(buffer)
        if end < at + 2:
            return False
        size = buffer[at] << 8 | buffer[at + 1]
        return size < HEADER_BYTES or at + 2 + size <= end

    def _read(self) -> None:
        area = self._listener.read_area
        try:
            octets = area[: self._sock.recv_into(area)].tobytes()
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if octets:
            self._buffer = self._buffer[self._at :] + octets if self._buffer else octets
            self._at = 0
        else:
            self._state = _ENDED

    def _send(self, octets: bytes) -> None:
        """Write as much as the kernel takes; the rest is held."""
        sent = 0
        if not self.unsent:
            try:
                sent = self._sock.send(octets)
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        if sent < len(octets):
            self.unsent += memoryview(octets)[sent:]

    def _send_unsent(self) -> None:
        if self._state >= _LINGERING or not self.unsent:
            return
        try:
            sent = self._sock.send(self.unsent)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        del self.unsent[:sent]
        self._listener.touch(self)

    def _send_later(self, message: bytes) -> None:
        """Send a reply out of order, and read on where too many were awaited."""
        self.awaited -= 1
        if self._state >= _FINISHING:
            return
        if not self.unsent:
            self._listener.touch(self)
        self._send(len(message).to_bytes(2, "big") + message)
        if self.awaited == MAX_AWAITED - 1:
            self._listener.wake(self)
        self._settle()

    def _answer(self, ends_s: float) -> None:
        """Answer whole requests for one turn."""
        begin_s = perf_counter()
        listener = self._listener
        was_unsent = bool(self.unsent)
        replies: list[bytes] = []
        received = self._take(replies, ends_s)
        if received:
            listener.received += received
            if not was_unsent:
                listener.touch(self)
        if replies:
            self._send(b"".join(replies))
            if listener.is_counting:
                listener.seconds.observe(perf_counter() - begin_s, len(replies) // 3)

    def _take(self, replies: list[bytes], ends_s: float) -> int:
        """Add the framed replies to the requests at hand; return how many requests there were.

        A reply is three pieces: length, ID, and the rest. A message too short for a header means
        that the framing is lost: it is the last one. Every statement of the inner loop counts; so
        it has a piece of the requests to go through, and the clock is read behind it.
        """
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        handler, query_log = self._listener.handler, self._listener.query_log
        known, unknown = handler.cache.known.get, handler.cache.unknown.get
        by_class = handler.counters.by_class
        is_counting = self._listener.is_counting
        without_reply = 0
        room = TURN_BYTES
        is_over = False
        while not is_over:
            piece_end = min(end, at + CLOCK_BYTES)
            while at + 2 <= piece_end and room > 0:
                size = buffer[at] << 8 | buffer[at + 1]
                begin = at + 2
                if size < HEADER_BYTES:
                    self._listener.aborted += 1
                    self._state = _FINISHING
                if size < HEADER_BYTES or begin + size > end:
                    is_over = True
                    break
                at = begin + size
                key = buffer[begin + 2 : at]
                ready = known(key) or unknown(key)
                if ready is None:
                    octets = handler.handle(buffer[begin:at], self)
                    if self.awaited >= MAX_AWAITED or perf_counter() > ends_s:
                        is_over, piece_end = True, at
                    if octets is None:
                        without_reply += 1
                        if query_log is not None and query_log.due(1):
                            query_log.log(buffer[begin:at], b"", self.address(), "tcp", "")
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
                room -= size
                replies += (size.to_bytes(2, "big"), buffer[begin : begin + 2], octets[1:])
                if query_log is not None and query_log.due(1):
                    kind = handler.counters.kind_of(octets[0])
                    request = buffer[begin:at]
                    query_log.log(request, request[:2] + octets[1:], self.address(), "tcp", kind)
            if at + 2 > end or room <= 0 or perf_counter() > ends_s:
                is_over = True
        self._at = at
        if at == end:
            self._buffer, self._at = b"", 0
        return len(replies) // 3 + without_reply
