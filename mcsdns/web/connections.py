"""Connections for HTTP: what each of them may hold and for how long, and who makes room for whom.

aiohttp bounds a field and the number of fields, but neither a head nor the time that it takes, and
a connection costs it 20 KB and a task before the first octet. So it is given whole heads only, one
at a time: until then a connection is a socket and the octets that came. No request here has a body,
and none that brings one is passed on.

A connection is always in one row, with the time at which it came into it:

- `reading`: a head is not whole yet. It has `head_s` from the first octet, or from the connection.
- `ready`: the head is whole. Requests are taken in turn by address, one in a turn of the loop, and
  `busy` are being answered at once.
- `busy`, `sending`: it is being answered, the client has not taken all of it: `answer_s`.
- `idle`: it was answered, and keeps alive for `idle_s`.

Who makes room. Past `settled` connections, or `of_address` of one address, the one idle longest is
closed, else the first of those that have no whole head; but none that is younger than `young_s`: a
kubelet that has just connected is heard however many others connect. What is young may therefore be
more, up to `connections`; then accepting pauses. An address is never refused as such: a kubelet
shares that of its node with all pods of the host's network.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from mcsdns.metrics.catalog import HTTP_CLOSED
from mcsdns.server.accept import Opening
from mcsdns.stats import LogInterval
from mcsdns.web.head import END, HeadLimits, fault_of, response

logger = logging.getLogger(__name__)

Reason = Literal["room", "slow", "large", "memory"]
MakeRequestHandler = Callable[["Connection"], "BoundedRequestHandler"]

_READ_BYTES: Final = 1 << 14
_DISCARDED_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 2048
"""A head so long is read even when all heads together take too much: those of probes are less."""
_SWEEP_S: Final = 0.25


_WHY: Final[dict[Reason, str]] = {
    "room": "it was idle, and others want to connect",
    "slow": "it took too long to send a request or to read a response",
    "large": "its request is too large, or no HTTP",
    "memory": "all together hold too many octets",
}


class Limits(msgspec.Struct, frozen=True):
    """Bounds in number, octets and seconds (see above).

    Attributes:
        heads_bytes, unsent_bytes: of all connections together; past it the one that adds to it, or
            the one with most, is closed.
    """

    connections: int = 2048
    settled: int = 128
    of_address: int = 64
    busy: int = 32
    head: HeadLimits = HeadLimits()
    heads_bytes: int = 2 << 20
    unsent_bytes: int = 4 << 20
    young_s: float = 1.0
    head_s: float = 5.0
    answer_s: float = 30.0
    idle_s: float = 30.0


class _Rows:
    """Connections by what they are at, each row in the order in which they came to it."""

    def __init__(self) -> None:
        self.reading: dict[Connection, float] = {}
        self.ready: dict[Connection, float] = {}
        self.busy: dict[Connection, float] = {}
        self.sending: dict[Connection, float] = {}
        self.idle: dict[Connection, float] = {}

    def __len__(self) -> int:
        waiting = len(self.reading) + len(self.ready) + len(self.idle)
        return waiting + len(self.busy) + len(self.sending)

    def spare(self, born_before_s: float) -> "Connection | None":
        """Return the connection that makes room first, if there is any."""
        for row in (self.idle, self.reading):
            for connection in row:
                if connection.born_s <= born_before_s:
                    return connection
                break
        return None


class Connections:
    """All connections for HTTP, whichever of our sockets they came to."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        """Begin without any; `clock` gives monotonic seconds."""
        self.limits = limits
        self.clock = clock
        self.held_bytes = 0
        self.opening = Opening()
        self._rows = _Rows()
        self._rows_of: dict[str, _Rows] = {}
        self._ready: dict[str, deque[Connection]] = {}
        self.unsent_bytes = 0
        self._is_pumping = False
        self._closed: dict[str, int] = dict.fromkeys(HTTP_CLOSED, 0)
        self._lines = LogInterval()
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look for connections whose time is over."""
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def close(self) -> None:
        """Close all of them."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        rows = self._rows
        for row in (rows.reading, rows.ready, rows.busy, rows.sending, rows.idle):
            for connection in list(row):
                self.drop(connection)

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._rows)

    @property
    def closed(self) -> dict[str, int]:
        """How many of them we closed, by the reason."""
        return dict(self._closed)

    def has_room(self) -> bool:
        """Return whether to accept one more."""
        return len(self._rows) < self.limits.connections

    def take(self, sock: socket.socket, address: str, make_handler: MakeRequestHandler) -> None:
        """Own a new connection, closing others for it where there are many."""
        rows = self._rows_of.get(address)
        while rows and len(rows) >= self.limits.of_address and self._close_spare(rows):
            pass
        while len(self._rows) >= self.limits.settled and self._close_spare(self._rows):
            pass
        connection = Connection(self, sock, address, make_handler)
        self.move(connection, "reading", connection.born_s)
        connection.start()

    def move(self, connection: "Connection", row: str, since_s: float) -> None:
        """Put a connection into a row, at its end."""
        self._forget(connection)
        rows = self._rows_of.get(connection.address)
        if rows is None:
            rows = self._rows_of[connection.address] = _Rows()
        connection.row = row
        getattr(self._rows, row)[connection] = getattr(rows, row)[connection] = since_s
        if row == "ready":
            self._ready.setdefault(connection.address, deque()).append(connection)
            self._pump_soon()
        elif row == "sending":
            connection.unsent_bytes = connection.count_unsent()
            self.unsent_bytes += connection.unsent_bytes
            if self.unsent_bytes > self.limits.unsent_bytes:
                self.shed(max(self._rows.sending, key=lambda each: each.unsent_bytes), "memory")

    def drop(self, connection: "Connection") -> None:
        """Close a connection, and forget it."""
        self._forget(connection)
        connection.abort()

    def shed(self, connection: "Connection", reason: Reason) -> None:
        """Close a connection for a reason that is counted, and told once a minute."""
        self.count(reason)
        self.drop(connection)

    def count(self, reason: Reason) -> None:
        """Count a connection that is closed."""
        self._closed[reason] += 1
        if self._lines.may_pass(self.clock()):
            logger.warning(
                "a connection to the probes or the status page was closed: %s; %d are open, "
                "mcsdns_http_closed_total counts such; a NetworkPolicy says who may connect",
                _WHY[reason],
                len(self._rows),
            )

    def _forget(self, connection: "Connection") -> None:
        row, connection.row = connection.row, ""
        if not row:
            return
        self.unsent_bytes -= connection.unsent_bytes
        connection.unsent_bytes = 0
        rows = self._rows_of[connection.address]
        del getattr(self._rows, row)[connection], getattr(rows, row)[connection]
        if not len(rows):
            del self._rows_of[connection.address]
        if row == "busy":
            self._pump_soon()

    def _close_spare(self, rows: _Rows) -> bool:
        spare = rows.spare(self.clock() - self.limits.young_s)
        if spare is not None:
            self.shed(spare, "room")
        return spare is not None

    def _pump_soon(self) -> None:
        if self._ready and not self._is_pumping and len(self._rows.busy) < self.limits.busy:
            self._is_pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Have one request answered: of the address whose turn it is, the first."""
        self._is_pumping = False
        if not self._ready or len(self._rows.busy) >= self.limits.busy:
            return
        address, waiting = next(iter(self._ready.items()))
        del self._ready[address]
        connection = waiting.popleft()
        if waiting:
            self._ready[address] = waiting
        if connection.row == "ready":
            self.move(connection, "busy", self.clock())
            connection.answer()
        self._pump_soon()

    def _sweep(self) -> None:
        now_s, rows, limits = self.clock(), self._rows, self.limits
        for connection in _since(rows.reading, now_s - limits.head_s):
            if connection.has_begun:
                connection.say(408, "the head of the request did not come in time")
                self.count("slow")
            self.drop(connection)
        for row in (rows.ready, rows.busy, rows.sending):
            for connection in _since(row, now_s - limits.answer_s):
                self.shed(connection, "slow")
        for connection in _since(rows.idle, now_s - limits.idle_s):
            self.drop(connection)
        while len(rows) > limits.settled and self._close_spare(rows):
            pass
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


def _since(row: dict["Connection", float], before_s: float) -> Iterable["Connection"]:
    """Return those that are in a row since then, or longer."""
    found: list[Connection] = []
    for connection, since_s in row.items():
        if since_s > before_s:
            break
        found.append(connection)
    return found


class Connection(asyncio.Protocol):
    """One client: a socket until its first head is whole, a protocol and an aiohttp handler then.

    Attributes:
        row: where it stands, empty once it is closed. born_s: when it was accepted.
    """

    def __init__(
        self, connections: Connections, sock: socket.socket, address: str, make: MakeRequestHandler
    ) -> None:
        """Take a socket that was accepted."""
        self.address = address
        self.born_s = connections.clock()
        self.row = ""
        self.unsent_bytes = 0
        self._connections = connections
        self._sock: socket.socket | None = sock
        self._make_handler = make
        self._handler: BoundedRequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._head = b""
        self._held_bytes = 0
        self._seen = 0
        self._is_refused = self._has_ended = False
        self._discarded = 0

    @property
    def has_begun(self) -> bool:
        """Whether a part of a head is here, and nothing was said to it."""
        return bool(self._buffer) and not self._is_refused

    def start(self) -> None:
        """Read what has come already, and then whatever comes."""
        self._read()
        if self._sock is not None and self.row == "reading":
            asyncio.get_running_loop().add_reader(self._sock, self._read)

    def count_unsent(self) -> int:
        """Return how many octets the client has not taken."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def abort(self) -> None:
        """Close at once; `Connections.drop` calls it."""
        self._hold()
        sock, self._sock = self._sock, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        if self._transport is not None:
            self._transport.abort()

    def answer(self) -> None:
        """Hand the head to aiohttp."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._connections.opening.open(sock, self)
        else:
            self._feed()

    def answered(self) -> None:
        """Go on with the next head; aiohttp has written a whole response."""
        self._head = b""
        self._hold()
        if self.row != "busy":
            return
        if self.count_unsent():
            self._connections.move(self, "sending", self._connections.clock())
        else:
            self._go_on()

    def say(self, status: int, text: str) -> None:
        """Write an error of the protocol, as far as the client takes it."""
        octets = response(status, text)
        if self._transport is not None:
            self._transport.write(octets)
            self._transport.write_eof()
        elif self._sock is not None:
            try:
                self._sock.send(octets)
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has gone

    # What a transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to answer; the first head is here already."""
        assert isinstance(transport, asyncio.Transport)
        if self.row != "busy":
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # so that we hear of all that is unsent
        self._transport = transport
        self._handler = self._make_handler(self)
        self._handler.connection_made(transport)
        self._feed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._transport = None
        self._connections.drop(self)
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take octets of the next head, or of those after it."""
        self._take(data)

    def eof_received(self) -> bool:
        """Keep a connection that was half closed until what it asked for is written."""
        self._has_ended = True
        return self.row in {"ready", "busy"}

    def resume_writing(self) -> None:
        """Go on, now that the client has taken the whole response."""
        if self.row == "sending":
            self._go_on()

    # Heads

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data)
        else:
            self._connections.drop(self)

    def _take(self, data: bytes) -> None:
        if self._is_refused:
            self._discarded += len(data)
            if self._discarded > _DISCARDED_BYTES:
                self._connections.drop(self)
            return
        self._buffer += data
        self._hold()
        if self.row in {"reading", "idle"}:
            self._next_head()
        elif (
            self._transport is not None
            and len(self._buffer) > self._connections.limits.head.head_bytes
        ):
            self._transport.pause_reading()

    def _next_head(self) -> None:
        """Look whether a head is whole."""
        buffer, connections = self._buffer, self._connections
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: "SHOULD ignore at least one empty line"
            del buffer[:2]
        if not buffer:
            return
        if self.row == "idle":
            connections.move(self, "reading", connections.clock())
        end = buffer.find(END, max(0, self._seen - len(END)))
        self._seen = len(buffer)
        fault = fault_of(buffer, end, connections.limits.head)
        if fault is not None:
            self._refuse(*fault)
        elif end >= 0:
            end += len(END)
            self._head, self._seen = bytes(buffer[:end]), 0
            del buffer[:end]
            if self._sock is not None:
                asyncio.get_running_loop().remove_reader(self._sock)
            connections.move(self, "ready", connections.clock())
        elif connections.held_bytes > connections.limits.heads_bytes and (
            len(buffer) > _SMALL_BYTES
        ):
            connections.shed(self, "memory")
        self._hold()

    def _refuse(self, status: int, text: str) -> None:
        """Say why, and read on for a while: closed at once, it might never be read."""
        self._is_refused = True
        self._buffer.clear()
        self._connections.count("large")
        self.say(status, text)

    def _feed(self) -> None:
        assert self._handler is not None
        if not self._handler.feed(self._head):
            self._connections.shed(self, "large")

    def _go_on(self) -> None:
        """Wait for the next request, or take the one that has come already."""
        transport, connections = self._transport, self._connections
        connections.move(self, "idle", connections.clock())
        if transport is None or transport.is_closing():
            return
        self._next_head()
        if self._has_ended and self.row != "ready":
            transport.close()
        elif not self._has_ended and len(self._buffer) <= connections.limits.head.head_bytes:
            transport.resume_reading()

    def _hold(self) -> None:
        """Count the octets that are held."""
        held = len(self._buffer) + len(self._head) if self.row else 0
        self._connections.held_bytes += held - self._held_bytes
        self._held_bytes = held


class BoundedRequestHandler(web.RequestHandler):
    """aiohttp's part of a connection: a whole head in, a response out, and its connection told."""

    __slots__ = ("_connection",)

    def __init__(
        self, connection: Connection, server: web.Server, options: Mapping[str, Any]
    ) -> None:
        """Take the connection to tell, the server of an application, and aiohttp's own options."""
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._connection = connection

    def feed(self, octets: bytes) -> bool:
        """Take a head; return whether it is one request, good or bad, that will be answered."""
        known = self._request_count
        self.data_received(octets)
        return self._request_count == known + 1

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the response, and say so."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._connection.answered()


def handler_maker(server: web.Server, options: Mapping[str, Any]) -> MakeRequestHandler:
    """Return what makes the handler of a connection."""
    return lambda connection: BoundedRequestHandler(connection, server, options)
