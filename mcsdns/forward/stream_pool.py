"""Queries to one upstream over TCP or TLS: few connections, kept open and pipelined (RFC 7766).

What always holds:

- A query waits for its reply on one connection. Replies come in any order; its ID, which no other
  query of the connection has, tells whose a reply is, and the caller compares the question.
- A reply to a query that was forgotten is owed still: its ID is not used again until it came. A
  connection that owes too many, or on which nothing comes, gets no further query and ends with the
  last one that waits there.
- What breaks a connection fails all that wait there, with one exception: a server may close a
  connection that it holds idle at the moment in which we ask, or after as many replies as it likes.
  Where it has replied on it before, such queries go on to another connection (RFC 7766, 6.2.4), at
  first together; the second time, or where that was its only reply, each on one of its own. So do
  several that it closed without any reply: it may not know what to make of more than one. A query
  alone on a connection goes no further, so each is sent three times at most.
- Some servers (systemd-resolved before 240, small ones) take one question of a connection. That is
  learned where two connections, of which the second was made after the first had ended, ended with
  one reply and more questions on them, and none had a second reply between; a restart of a server
  ends all connections at once, and mostly such that had more. Then for ten minutes each query has a
  connection of its own, so many at once, and others wait their turn.

Whether the end comes as FIN or as RST tells nothing: a server that closes a connection on which
there is more to be read sends RST (RFC 1122, 4.2.2.13).
"""

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from mcsdns.errors import ConfigError
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.udp_pool import TransportStatistics

T = TypeVar("T")

logger = logging.getLogger(__name__)

_HEADER_BYTES: Final = 12
_RANDOM_BYTES: Final = 4096
_WRITE_BUFFER_BYTES: Final = 1 << 16
_SWEEP_S: Final = 1.0
_TLS_SHUTDOWN_S: Final = 1.0
_ALONE_S: Final = 600.0
"""For how long it is believed that a server takes one question of a connection."""
_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1220),  # packets of 1280 octets get through everywhere
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
)
"""A peer that is gone is found out after 10 to 20 seconds, also where nothing is asked."""
_PROVEN: Final = 2
"""Replies on one connection after which a server is held to take many questions there."""
_OUT_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_WRONG_NAMES: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


class StreamPoolSettings(msgspec.Struct, frozen=True):
    """Limits of one upstream's connections.

    Attributes:
        connections: at most so many. most_awaited: replies that one connection may owe; past it
            the next one is opened, and past all of them queries fail at once. alone: connections
            with one query each, for a server that takes no more; as many queries as the others
            could have may wait for one.
        idle_s: seconds without a query after which a connection is closed.
        connect_s: seconds that a connection may take to come about, TLS included.
        most_wrong: replies of one connection to what was never asked, before it is broken off.
        most_silent: queries forgotten in a row while not an octet came, after which a
            connection is used no more.
        ca_file: certificates of the authorities to trust; None for the system's.
    """

    connections: int = 4
    alone: int = 64
    most_awaited: int = 128
    idle_s: float = 30.0
    connect_s: float = 5.0
    most_wrong: int = 32
    most_silent: int = 8
    ca_file: str | None = None


class Statistics(TransportStatistics, frozen=True):
    """An immutable snapshot of one upstream's connections.

    Attributes:
        errors: connections that could not be had or were broken. retried: queries that went
            on to another connection. connected: connections ever. open: connections now, with
            those that are being made.
    """

    retried: int
    connected: int
    open: int


class StreamQuery(Generic[T]):
    """One query that waits for its reply; what `send` returns and `forget` takes."""

    __slots__ = ("connection", "is_awaited", "message", "message_id", "retries", "token")

    def __init__(self, token: T, message: bytes) -> None:
        self.token = token
        self.message = message
        self.message_id = b""
        self.is_awaited = True
        self.retries = 0
        self.connection: _Connection[T] | None = None


class StreamPool(Generic[T]):
    """Sends queries to one upstream and says what becomes of each."""

    def __init__(
        self,
        address: Address,
        deliver: Callable[[T, bytes, float], bool],
        fail: Callable[[T, str, float], None],
        settings: StreamPoolSettings,
        rng: random.Random,
    ) -> None:
        """Take whom to call, as `UdpPool` does; nothing is opened before the first query.

        Raises:
            ConfigError: the file of authorities cannot be read.
        """
        self.deliver = deliver
        self.settings = settings
        self.received = self.late = self.wrong = self.refused = self.connected = 0
        self._address = address
        self._server_name = address.name or address.host.partition("%")[0]
        self._fail = fail
        self._rng = rng
        self._random = b""
        self._random_at = 0
        self._tls = tls_context(settings.ca_file) if address.protocol is Protocol.TLS else None
        self._connections: list[_Connection[T]] = []
        self._alone: set[_Connection[T]] = set()
        self._waiting: dict[StreamQuery[T], None] = {}
        self._alone_until_s = 0.0
        self._suspected_s: float | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sent = self._errors = self._retried = 0

    def send(self, token: T, message: bytes) -> StreamQuery[T]:
        """Send a query with an id of our own in place of its first two octets."""
        self._sent += 1
        query = StreamQuery(token, message)
        self._place(query)
        return query

    def forget(self, query: StreamQuery[T]) -> None:
        """Await no reply to a query any longer."""
        if query.is_awaited:
            query.is_awaited = False
            self._waiting.pop(query, None)
            if query.connection is not None:
                query.connection.forget(query)

    def close(self) -> None:
        """Close all connections; what was awaited does not fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for task in self._connecting:
            task.cancel()
        for connection in (*self._connections, *self._alone):
            connection.drop()
        self._connections = []
        self._alone.clear()
        self._waiting.clear()

    def close_idle(self, now: float) -> None:
        """Close connections that were not used for a while.

        Called once a second by a timer of its own; `now` is the time of the loop.
        """
        for connection in list(self._connections):
            if connection.is_idle(now):
                connection.end()

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(
            self._sent,
            self.received,
            self.late,
            self.wrong,
            self.refused,
            self._errors,
            self._retried,
            self.connected,
            len(self._connections) + len(self._alone),
        )

    def random_id(self) -> bytes:
        """Return a random id."""
        at = self._random_at
        if at >= len(self._random):
            self._random = self._rng.randbytes(_RANDOM_BYTES)
            at = 0
        self._random_at = at + 2
        return self._random[at : at + 2]

    def left(self, connection: "_Connection[T]") -> None:
        """Leave a connection that ended."""
        if connection in self._connections:
            self._connections.remove(connection)
        elif connection in self._alone:
            self._alone.discard(connection)
            if self._waiting:
                query = next(iter(self._waiting))
                del self._waiting[query]
                self._place_alone(query)

    def broken(self, queries: "list[StreamQuery[T]]", why: str) -> None:
        """Fail queries: their connection broke, or was not to be had."""
        self._errors += 1
        for query in queries:
            self._fail_query(query, why)

    def again(self, queries: "list[StreamQuery[T]]", replies: int, made_s: float) -> None:
        """Send once more what a server left unanswered when it closed a connection.

        Args:
            queries: what it left, as it was asked.
            replies: how many it gave on that connection.
            made_s: when that was made.
        """
        if replies == 1:
            self._suspect(made_s)
        for query in queries:
            self._retried += 1
            query.retries += 1
            query.connection = None
            if replies > 1 and query.retries == 1:
                self._place(query)
            else:
                self._place_alone(query)

    def trust(self) -> None:
        """Learn that a server takes more than one question of a connection."""
        self._alone_until_s, self._suspected_s = 0.0, None

    def _suspect(self, made_s: float) -> None:
        """Learn that a server ended a connection after one reply, with more questions on it."""
        now = asyncio.get_running_loop().time()
        suspected_s = self._suspected_s
        if suspected_s is None or now >= suspected_s + _ALONE_S:
            self._suspected_s = now
        elif made_s > suspected_s and now >= self._alone_until_s:
            self._alone_until_s = now + _ALONE_S
            logger.info(
                "upstream %s takes one question of each connection; it is asked so for %g s",
                self._address.text,
                _ALONE_S,
            )

    def _place(self, query: StreamQuery[T]) -> None:
        if self._alone_until_s:
            if asyncio.get_running_loop().time() < self._alone_until_s:
                self._place_alone(query)
                return
            self.trust()
        for connection in self._connections:
            if connection.has_room():
                connection.ask(query)
                return
        if len(self._connections) < self.settings.connections:
            made = self._connect()
            self._connections.append(made)
            made.ask(query)
            return
        self._refuse(query, len(self._connections))

    def _place_alone(self, query: StreamQuery[T]) -> None:
        settings = self.settings
        if len(self._alone) < settings.alone:
            made = self._connect(is_alone=True)
            self._alone.add(made)
            made.ask(query)
        elif len(self._waiting) < settings.connections * settings.most_awaited:
            self._waiting[query] = None
        else:
            self._refuse(query, len(self._alone))

    def _refuse(self, query: StreamQuery[T], connections: int) -> None:
        self._errors += 1
        why = f"{connections} connections are full of questions without a reply"
        asyncio.get_running_loop().call_soon(self._fail_query, query, why)

    def _fail_query(self, query: StreamQuery[T], why: str) -> None:
        """Fail a query, unless it was forgotten meanwhile."""
        if query.is_awaited:
            query.is_awaited = False
            self._fail(query.token, why, asyncio.get_running_loop().time())

    def _connect(self, *, is_alone: bool = False) -> "_Connection[T]":
        loop = asyncio.get_running_loop()
        connection = _Connection(self, loop, is_alone=is_alone)
        task = connection.connecting = loop.create_task(self._establish(connection, loop))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop)
        return connection

    async def _establish(
        self, connection: "_Connection[T]", loop: asyncio.AbstractEventLoop
    ) -> None:
        try:
            async with asyncio.timeout(self.settings.connect_s):
                await self._open(connection, loop)
        except TimeoutError:
            connection.fail(f"no connection within {self.settings.connect_s:g} s")
        except OSError as error:
            connection.fail(_why_no_connection(error))

    async def _open(self, connection: "_Connection[T]", loop: asyncio.AbstractEventLoop) -> None:
        sock = socket.socket(self._address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            for level, option, value in _SOCKET_OPTIONS:
                sock.setsockopt(level, option, value)
            await loop.sock_connect(sock, self._address.socket_address())
        except BaseException:
            sock.close()
            raise
        is_tls = self._tls is not None
        await loop.create_connection(
            lambda: connection,
            sock=sock,
            ssl=self._tls,
            server_hostname=self._server_name if is_tls else None,
            ssl_shutdown_timeout=_TLS_SHUTDOWN_S if is_tls else None,
        )

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.close_idle(loop.time())
        again = bool(self._connections)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop) if again else None


class _Connection(asyncio.Protocol, Generic[T]):
    """One connection, from the first attempt on; queries wait until it is there.

    One that is for a query `alone` ends with it.
    """

    def __init__(
        self, pool: StreamPool[T], loop: asyncio.AbstractEventLoop, *, is_alone: bool
    ) -> None:
        self.connecting: asyncio.Task[None] | None = None
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._awaited: dict[bytes, StreamQuery[T]] = {}
        self._late: set[bytes] = set()
        self._unsent: list[StreamQuery[T]] = []
        self._buffer = b""
        self._wrong = self._silent = self._replies = 0
        self._made_s = self._used_at = loop.time()
        self._is_active = self._is_writable = True
        self._is_retired = is_alone
        self._is_scheduled = self._is_over = False

    def has_room(self) -> bool:
        """Return whether one more query may be sent here; late replies are owed as well."""
        owed = len(self._awaited) + len(self._late)
        return (
            owed < self._pool.settings.most_awaited
            and self._is_writable
            and not self._is_retired
            and not self._is_over
        )

    def ask(self, query: StreamQuery[T]) -> None:
        """Send a query, with all others of this turn of the loop."""
        message_id = self._pool.random_id()
        while message_id in self._awaited or message_id in self._late:
            message_id = self._pool.random_id()
        query.message_id = message_id
        query.connection = self
        self._awaited[message_id] = query
        self._unsent.append(query)
        self._is_active = True
        if self._transport is not None and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def forget(self, query: StreamQuery[T]) -> None:
        """Await no reply any longer; a connection on which none comes is used no more."""
        if self._awaited.get(query.message_id) is not query:
            return
        del self._awaited[query.message_id]
        if self._transport is None:
            self._end_if_retired()
            return
        self._late.add(query.message_id)
        self._silent += 1
        settings = self._pool.settings
        if self._silent >= settings.most_silent or 2 * len(self._late) > settings.most_awaited:
            self._is_retired = True
        self._end_if_retired()

    def is_idle(self, now: float) -> bool:
        """Return whether nothing was sent for long; notes the time of use at each look."""
        if self._awaited or self._is_active or self._transport is None:
            self._is_active = False
            self._used_at = now
            return False
        return now - self._used_at >= self._pool.settings.idle_s

    def end(self) -> None:
        """Close properly."""
        self._is_over = True
        self._pool.left(self)
        if self._transport is not None:
            self._transport.close()
        elif self.connecting is not None:
            self.connecting.cancel()

    def drop(self) -> None:
        """Close at once."""
        self._is_over = True
        self._awaited.clear()
        if self._transport is not None:
            self._transport.abort()

    def fail(self, why: str) -> None:
        """Give up the connection and all that wait for replies on it."""
        if self._is_over:
            return
        waiting = list(self._awaited.values())
        self.drop()
        self._pool.left(self)
        self._pool.broken(waiting, why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_over:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._pool.connected += 1
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed(error_text(exc) if isinstance(exc, OSError) else "")

    def eof_received(self) -> None:
        self._closed("")

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        self._silent = at = 0
        end = len(buffer)
        while at + 2 <= end and not self._is_over:
            size = buffer[at] << 8 | buffer[at + 1]
            if size < _HEADER_BYTES:
                self.fail(f"it sent a message of {size} octets, which is no DNS")
                return
            begin = at + 2
            if begin + size > end:
                break
            at = begin + size
            self._take(buffer[begin:at])
        self._buffer = buffer[at:]

    def _take(self, message: bytes) -> None:
        message_id = message[:2]
        query = self._awaited.get(message_id)
        pool = self._pool
        if query is not None:
            if pool.deliver(query.token, message, self._loop.time()):
                pool.received += 1
                query.is_awaited = False
                self._awaited.pop(message_id, None)
                self._count_reply()
                self._end_if_retired()
                return
            pool.refused += 1
        elif message_id in self._late:
            self._late.discard(message_id)
            pool.late += 1
            self._count_reply()
            return
        else:
            pool.wrong += 1
        self._wrong += 1
        if self._wrong >= pool.settings.most_wrong:
            self.fail(f"it sent {self._wrong} replies to what it was not asked")

    def _count_reply(self) -> None:
        self._replies += 1
        if self._replies == _PROVEN:
            self._pool.trust()

    def _flush(self) -> None:
        self._is_scheduled = False
        unsent, self._unsent = self._unsent, []
        if self._transport is None or self._is_over:
            return
        frames: list[bytes] = []
        for query in unsent:
            if query.is_awaited:
                message = query.message
                frames += (len(message).to_bytes(2, "big"), query.message_id, message[2:])
        if frames:
            self._transport.write(b"".join(frames))

    def _end_if_retired(self) -> None:
        if self._is_retired and not self._awaited and not self._is_over:
            self.end()

    def _closed(self, why: str) -> None:
        """Sort what waited: to be sent elsewhere, or failed."""
        if self._is_over:
            return
        waiting = list(self._awaited.values())
        is_cut, self._buffer = bool(self._buffer), b""
        self.drop()
        self._pool.left(self)
        if not waiting:
            return
        if is_cut or not (self._replies or len(waiting) > 1):
            where = "in the middle of a message" if is_cut else "before any reply"
            self._pool.broken(waiting, why or f"it closed the connection {where}")
        else:
            self._pool.again(waiting, self._replies, self._made_s)


def error_text(error: OSError) -> str:
    """Return what an error says, without its number."""
    return error.strerror or str(error) or type(error).__name__


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Make what checks certificates: all names, no exceptions (RFC 8310, 8.1: strict).

    Raises:
        ConfigError: the file cannot be read, or holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        why = "it holds no certificates" if isinstance(error, ssl.SSLError) else error_text(error)
        raise ConfigError(
            f"--upstream-ca {ca_file}: {why}; name a PEM file with the certificates of authorities"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["dot"])
    return context


def _why_no_connection(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _why_untrusted(error)
    if isinstance(error, ssl.SSLError):
        return f"no TLS with it ({error.reason}); does DNS over TLS listen on this port?"
    return error_text(error)


def _why_untrusted(error: ssl.SSLCertVerificationError) -> str:
    what = error.verify_message.rstrip(".")
    if error.verify_code in _WRONG_NAMES:
        return f"certificate refused: {what}; write behind # the name that it is for"
    if error.verify_code in _OUT_OF_TIME:
        return f"certificate refused: {what}; renew it, or set the clock of this host"
    return f"certificate refused: {what}; name its authority's certificate with --upstream-ca"
