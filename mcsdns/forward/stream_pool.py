"""Questions to one upstream over TCP or TLS: few connections, kept open and pipelined (RFC 7766).

A question waits for its reply on one connection. What breaks the connection fails all that wait
there, with one exception: a server may close a connection that it holds idle, at the moment in
which we ask; such questions go on to another connection, once (RFC 7766, 6.2.4).
"""

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from mcsdns.errors import ConfigError
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.counts import Counts, text_of

T = TypeVar("T")

_HEADER_BYTES: Final = 12
_RANDOM_BYTES: Final = 4096
_WRITE_BUFFER_BYTES: Final = 1 << 16
_SWEEP_S: Final = 1.0
_TLS_SHUTDOWN_S: Final = 1.0
_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
)
"""A peer that is gone is found out after 10 to 20 seconds, also where nothing is asked."""
_OUT_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_WRONG_NAMES: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


class StreamPoolSettings(msgspec.Struct, frozen=True):
    """Limits of one upstream's connections.

    Attributes:
        connections: at most so many. most_awaited: replies that one connection may owe; past it
            the next one is opened, and past all of them questions fail at once.
        idle_s: seconds without a question after which a connection is closed.
        connect_s: seconds that a connection may take to come about, TLS included.
        most_wrong: replies of one connection to what was never asked, before it is broken off.
        most_silent: questions forgotten in a row while not an octet came, after which a
            connection is asked no more.
        ca_file: certificates of the authorities to trust; None for the system's.
    """

    connections: int = 4
    most_awaited: int = 128
    idle_s: float = 30.0
    connect_s: float = 5.0
    most_wrong: int = 32
    most_silent: int = 8
    ca_file: str | None = None


class Statistics(Counts, frozen=True):
    """An immutable snapshot of one upstream's connections.

    Attributes:
        errors: connections that could not be had or were broken. retried: questions that went
            on to another connection. connected: connections ever. open: connections now, with
            those that are being made.
    """

    retried: int
    connected: int
    open: int


class StreamQuestion(Generic[T]):
    """One question that waits for its reply; what `send` returns and `forget` takes."""

    __slots__ = ("connection", "is_awaited", "is_retried", "key", "message", "token")

    def __init__(self, token: T, message: bytes) -> None:
        self.token = token
        self.message = message
        self.key = b""
        self.is_awaited = True
        self.is_retried = False
        self.connection: _Connection[T] | None = None


class StreamPool(Generic[T]):
    """Sends questions to one upstream and tells what becomes of each."""

    def __init__(
        self,
        address: Address,
        deliver: Callable[[T, bytes], bool],
        fail: Callable[[T, str], None],
        settings: StreamPoolSettings,
        rng: random.Random,
    ) -> None:
        """Take who is told, as `ports.Ports` does; nothing is opened before the first question.

        Raises:
            ConfigError: the file of authorities cannot be read.
        """
        self.deliver = deliver
        self.settings = settings
        self.received = self.late = self.wrong = self.refused = self.connected = 0
        self._address = address
        self._fail = fail
        self._rng = rng
        self._pool = b""
        self._at = 0
        self._tls = tls_context(settings.ca_file) if address.protocol is Protocol.TLS else None
        self._connections: list[_Connection[T]] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sent = self._errors = self._retried = 0

    def send(self, token: T, message: bytes) -> StreamQuestion[T]:
        """Send a question with an id of our own in place of its first two octets."""
        self._sent += 1
        question = StreamQuestion(token, message)
        self._place(question)
        return question

    def forget(self, question: StreamQuestion[T]) -> None:
        """Await no reply to a question any longer."""
        if question.is_awaited:
            question.is_awaited = False
            if question.connection is not None:
                question.connection.forget(question)

    def close(self) -> None:
        """Close all connections; nobody is told what was awaited."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for task in self._connecting:
            task.cancel()
        for connection in self._connections:
            connection.drop()
        self._connections = []

    def close_idle(self, now: float) -> None:
        """Close connections that nobody used for a while.

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
            len(self._connections),
        )

    def random_key(self) -> bytes:
        """Return a random id."""
        at = self._at
        if at >= len(self._pool):
            self._pool = self._rng.randbytes(_RANDOM_BYTES)
            at = 0
        self._at = at + 2
        return self._pool[at : at + 2]

    def left(self, connection: "_Connection[T]") -> None:
        """Leave a connection that ended."""
        if connection in self._connections:
            self._connections.remove(connection)

    def broken(self, questions: "list[StreamQuestion[T]]", why: str) -> None:
        """Tell that a connection broke while questions waited there, or was not to be had."""
        self._errors += 1
        for question in questions:
            self._tell(question, why)

    def again(self, questions: "list[StreamQuestion[T]]") -> None:
        """Ask on another connection what a server left unanswered when it closed one."""
        for question in questions:
            self._retried += 1
            question.is_retried = True
            self._place(question)

    def _place(self, question: StreamQuestion[T]) -> None:
        for connection in self._connections:
            if connection.has_room():
                connection.ask(question)
                return
        if len(self._connections) < self.settings.connections:
            self._connect().ask(question)
            return
        why = f"{len(self._connections)} connections are full of questions without a reply"
        asyncio.get_running_loop().call_soon(self._tell, question, why)

    def _tell(self, question: StreamQuestion[T], why: str) -> None:
        """Tell that a question failed, unless it was forgotten meanwhile."""
        if question.is_awaited:
            question.is_awaited = False
            self._fail(question.token, why)

    def _connect(self) -> "_Connection[T]":
        loop = asyncio.get_running_loop()
        connection = _Connection(self, loop)
        self._connections.append(connection)
        task = loop.create_task(self._establish(connection, loop))
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
        if self._tls is None:
            await loop.create_connection(lambda: connection, sock=sock)
            return
        await loop.create_connection(
            lambda: connection,
            sock=sock,
            ssl=self._tls,
            server_hostname=self._address.name or self._address.host.partition("%")[0],
            ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
        )

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.close_idle(loop.time())
        again = bool(self._connections)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop) if again else None


class _Connection(asyncio.Protocol, Generic[T]):
    """One connection, from the first attempt on; questions wait until it is there."""

    def __init__(self, stream: StreamPool[T], loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._awaited: dict[bytes, StreamQuestion[T]] = {}
        self._late: set[bytes] = set()
        self._unsent: list[StreamQuestion[T]] = []
        self._buffer = b""
        self._wrong = self._silent = 0
        self._used_at = loop.time()
        self._is_active = self._is_writable = True
        self._is_scheduled = self._is_proven = self._is_retired = self._is_over = False

    def has_room(self) -> bool:
        """Say whether one more question may be asked here; late replies are owed as well."""
        owed = len(self._awaited) + len(self._late)
        return (
            owed < self._stream.settings.most_awaited
            and self._is_writable
            and not self._is_retired
            and not self._is_over
        )

    def ask(self, question: StreamQuestion[T]) -> None:
        """Send a question, with all others of this turn of the loop."""
        key = self._stream.random_key()
        while key in self._awaited or key in self._late:
            key = self._stream.random_key()
        question.key = key
        question.connection = self
        self._awaited[key] = question
        self._unsent.append(question)
        self._is_active = True
        if self._transport is not None and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def forget(self, question: StreamQuestion[T]) -> None:
        """Await no reply any longer; a connection on which none comes is asked no more."""
        if self._awaited.get(question.key) is not question:
            return
        del self._awaited[question.key]
        if self._transport is None:
            return
        self._late.add(question.key)
        self._silent += 1
        settings = self._stream.settings
        if self._silent >= settings.most_silent or 2 * len(self._late) > settings.most_awaited:
            self._is_retired = True
        self._end_if_retired()

    def is_idle(self, now: float) -> bool:
        """Say whether nothing was asked for long; notes the time of use at each look."""
        if self._awaited or self._is_active or self._transport is None:
            self._is_active = False
            self._used_at = now
            return False
        return now - self._used_at >= self._stream.settings.idle_s

    def end(self) -> None:
        """Close properly."""
        self._is_over = True
        self._stream.left(self)
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Close at once; nobody is told."""
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
        self._stream.left(self)
        self._stream.broken(waiting, why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_over:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._stream.connected += 1
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed(text_of(exc) if isinstance(exc, OSError) else "")

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
        key = message[:2]
        question = self._awaited.get(key)
        stream = self._stream
        if question is not None:
            if stream.deliver(question.token, message):
                stream.received += 1
                question.is_awaited = False
                self._awaited.pop(key, None)
                self._is_proven = True
                self._end_if_retired()
                return
            stream.refused += 1
        elif key in self._late:
            self._late.discard(key)
            stream.late += 1
            return
        else:
            stream.wrong += 1
        self._wrong += 1
        if self._wrong >= stream.settings.most_wrong:
            self.fail(f"it sent {self._wrong} replies to what it was not asked")

    def _flush(self) -> None:
        self._is_scheduled = False
        unsent, self._unsent = self._unsent, []
        if self._transport is None or self._is_over:
            return
        frames: list[bytes] = []
        for question in unsent:
            if question.is_awaited:
                message = question.message
                frames += (len(message).to_bytes(2, "big"), question.key, message[2:])
        if frames:
            self._transport.write(b"".join(frames))

    def _end_if_retired(self) -> None:
        if self._is_retired and not self._awaited and not self._is_over:
            self.end()

    def _closed(self, why: str) -> None:
        """Sort what waited: to ask elsewhere, or failed."""
        if self._is_over:
            return
        waiting = list(self._awaited.values())
        is_cut, self._buffer = bool(self._buffer), b""
        self.drop()
        self._stream.left(self)
        if not waiting:
            return
        if is_cut or not self._is_proven:
            where = "in the middle of a message" if is_cut else "before any reply"
            self._stream.broken(waiting, why or f"it closed the connection {where}")
            return
        failed = [question for question in waiting if question.is_retried]
        self._stream.again([question for question in waiting if not question.is_retried])
        if failed:
            self._stream.broken(failed, why or "it closed the connection twice without a reply")


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Make what checks certificates: all names, no exceptions (RFC 8310, 8.1: strict).

    Raises:
        ConfigError: the file cannot be read, or holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        why = "it holds no certificates" if isinstance(error, ssl.SSLError) else text_of(error)
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
    return text_of(error)


def _why_untrusted(error: ssl.SSLCertVerificationError) -> str:
    what = error.verify_message.rstrip(".")
    if error.verify_code in _WRONG_NAMES:
        return f"certificate refused: {what}; write behind # the name that it is for"
    if error.verify_code in _OUT_OF_TIME:
        return f"certificate refused: {what}; renew it, or set the clock of this host"
    return f"certificate refused: {what}; name its authority's certificate with --upstream-ca"
