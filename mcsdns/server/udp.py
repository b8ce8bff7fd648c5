"""UDP sockets: many datagrams per wake-up, answered from the packet cache where it has the reply.

A reader callback of the event loop drains a non-blocking socket, which measured several times
faster than a DatagramProtocol (docs/decisions/0002-datagrams-in-batches.md).
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import msgspec

from mcsdns.server import mmsg
from mcsdns.server.handler import SECONDS, Handler
from mcsdns.server.packet_cache import NegativeReply
from mcsdns.stats import UNCOUNTED, Histogram, HistogramStatistics

if TYPE_CHECKING:  # few want them
    from mcsdns.server.query_log import QueryLog
    from mcsdns.server.rate_limit import RateLimiter

BATCHES: Final = 2
"""Batches per turn of the loop, so that TCP and the sources get theirs."""
_RECEIVE_BUFFER_BYTES: Final = 4 << 20
_IP_PKTINFO: Final = 8
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one socket.

    Attributes:
        received: datagrams read. send_errors: replies the kernel did not take.
        receive_errors: reads that failed. kernel_drops: datagrams lost because our receive
            buffer was full. seconds: how long each request took, but for those that were forwarded:
            from the moment its batch was read until the batch was answered.
    """

    received: int
    send_errors: int
    receive_errors: int
    kernel_drops: int
    seconds: HistogramStatistics


def bind(host: str, port: int) -> socket.socket:
    """Open a UDP socket on one address, or on all of a family (`0.0.0.0`, `::`).

    The port is never shared: no SO_REUSEADDR, which on UDP would let two servers share it unseen.

    Raises:
        OSError: as the system says.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_wildcard(host):
            _ask_for_destination(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def is_wildcard(host: str) -> bool:
    """Return whether an address stands for all addresses of its family."""
    return host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


class UdpListener:
    """Serves one bound socket.

    Attributes:
        handler: what answers; may be replaced at any time.
        query_log: logs some of the requests; None for no log.
        is_counting: whether replies are counted and timed.
    """

    def __init__(self, sock: socket.socket, handler: Handler, *, wildcard: bool) -> None:
        """Take a socket from `bind`; with `wildcard`, reply from the address that was asked."""
        self._sock = sock
        self.handler = handler
        self.query_log: QueryLog | None = None
        self.is_counting = True
        self._seconds = Histogram(SECONDS)
        self._batch = mmsg.Batch(sock, wildcard=wildcard) if mmsg.is_available() else None
        self._limiter: RateLimiter | None = None
        self.limit(None)
        self._wildcard = wildcard
        self._sender: mmsg.Sender | None = None
        self._unsent: list[tuple[bytes, bytes]] = []
        self._slot = 0
        self._peer: tuple[str, int] = ("", 0)
        self._message = b""
        self._received = self._send_errors = self._receive_errors = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def limit(self, limiter: "RateLimiter | None") -> None:
        """Limit replies from now on, or no more.

        What sends a batch is another function then, so that no limit costs nothing.
        """
        self._limiter = limiter
        if self._batch is not None:
            self._send_batch = self._batch.send if limiter is None else self._send_limited

    def start(self) -> None:
        """Begin to read in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._drain)

    def close(self) -> None:
        """Answer what has arrived, then close the socket."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._drain()
            self._send_unsent()
        self._sock.close()

    def address(self) -> bytes:
        """Return the address of the request at hand (`forward_handler.Client`)."""
        if self._batch is not None:
            return self._batch.address(self._slot)
        return socket.inet_pton(self._sock.family, self._peer[0].partition("%")[0])

    def detach(self) -> Callable[[bytes], None]:
        """Return what sends a reply to the client at hand later (`forward_handler.Client`)."""
        send: Callable[[bytes], None]
        if self._batch is not None:
            send = partial(self._send_later, self._batch.destination(self._slot))
        else:
            send = partial(self._send_to, self._peer)
        if self._limiter is None:
            return send
        request = self._message if self._batch is None else self._batch.request(self._slot)
        return partial(self._limiter.send, send, request, self.address())

    def _send_later(self, destination: bytes, message: bytes) -> None:
        """Send a message with all others of this turn of the loop."""
        if not self._unsent and self._loop is not None:
            self._loop.call_soon(self._send_unsent)
        self._unsent.append((destination, message))

    def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not unsent or self._sock.fileno() < 0:
            return
        if self._sender is None:  # a quarter of a megabyte, for those who forward
            self._sender = mmsg.Sender(self._sock, wildcard=self._wildcard)
        self._send_errors += self._sender.send(unsent)

    def _send_to(self, peer: tuple[str, int], message: bytes) -> None:
        try:
            self._sock.sendto(message, peer)
        except OSError:
            self._send_errors += 1

    def _drain(self) -> None:
        """Answer what has arrived, up to `BATCHES` batches."""
        if self._batch is None:
            self._drain_one_by_one()
            return
        for _ in range(BATCHES):
            try:
                sizes = self._batch.receive()
            except OSError:
                self._receive_errors += 1
                return
            if not sizes:
                return
            self._received += len(sizes)
            begin = perf_counter()
            self._answer(self._batch, sizes)
            if self.is_counting:
                self._seconds.observe(perf_counter() - begin, len(sizes))

    def _answer(self, batch: mmsg.Batch, sizes: list[int]) -> None:
        """Answer the datagrams of a batch.

        Every statement of the loop counts (docs/performance.md), so it holds what `octets_of` does,
        and replies are counted once for the batch. Where a reply comes later or never, what is
        ready before it is sent first, since sendmmsg takes slots in a row.
        """
        requests, replies, reply_sizes = batch.requests, batch.replies, batch.reply_sizes
        handler = self.handler
        known, unknown = handler.cache.known.get, handler.cache.unknown.get
        at, item, slot, unsent = 0, 3, 0, 0
        for size in sizes:
            key = requests[at + 2 : at + size].tobytes()
            ready = known(key) or unknown(key)
            if ready is None:
                self._slot = slot
                reply = handler.handle(requests[at : at + size].tobytes(), self)
                if reply is None:
                    if slot > unsent:
                        self._send_errors += self._send_batch(unsent, slot)
                    unsent = slot + 1
                    octets = UNCOUNTED
                else:
                    octets = reply
            elif isinstance(ready, bytes):
                octets = ready
            elif isinstance(ready, NegativeReply):
                octets = ready.head + ready.soas[ready.at] + ready.opt
            else:
                octets = next(ready)
            length = len(octets)
            reply_sizes[item] = length - 1
            replies[at : at + length] = octets
            at += mmsg.SLOT_BYTES
            item += 4
            slot += 1
        self._send_errors += self._send_batch(unsent, slot)
        if self.is_counting:
            by_class = handler.counters.by_class
            for response_class in replies[0 : slot * mmsg.SLOT_BYTES : mmsg.SLOT_BYTES]:
                by_class[response_class] += 1
        if self.query_log is not None:
            self._log(self.query_log, batch, sizes)

    def _send_limited(self, begin: int, end: int) -> int:
        """Send the replies of slots as far as the limiter lets them; see `mmsg.Batch.send`."""
        batch, limiter = self._batch, self._limiter
        assert batch is not None
        assert limiter is not None
        refused = 0
        for slot in range(begin, end):
            request, at = batch.request(slot), slot * mmsg.SLOT_BYTES
            reply = request[:2] + batch.replies[at + 1 : at + 1 + batch.reply_sizes[4 * slot + 3]]
            limited = limiter.limit(request, reply, batch.address(slot))
            if limited is reply:
                continue
            batch.reply_sizes[4 * slot + 3] = max(len(limited) - 2, 0)
            if limited:
                batch.replies[at + 1 : at + len(limited) - 1] = limited[2:]
            else:
                batch.replies[at] = UNCOUNTED[0]
                refused += batch.send(begin, slot)
                begin = slot + 1
        return refused + batch.send(begin, end)

    def _log(self, query_log: "QueryLog", batch: mmsg.Batch, sizes: list[int]) -> None:
        """Log some of a batch, as it still lies in its slots."""
        for slot in query_log.due(len(sizes)):
            at = slot * mmsg.SLOT_BYTES
            request = batch.requests[at : at + sizes[slot]].tobytes()
            response_class, size = batch.replies[at], batch.reply_sizes[4 * slot + 3]
            reply = request[:2] + batch.replies[at + 1 : at + 1 + size] if size else b""
            kind = self.handler.counters.kind_of(response_class)
            query_log.log(request, reply, batch.address(slot), "udp", kind)

    def _drain_one_by_one(self) -> None:
        """Answer what has arrived on systems without recvmmsg."""
        for _ in range(mmsg.SLOTS):
            try:
                message, peer = self._sock.recvfrom(mmsg.SLOT_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._receive_errors += 1
                continue
            self._received += 1
            self._peer, self._message = peer, message
            counters, reply, kind = self.handler.counters, b"", ""
            octets = self.handler.handle(message, self)
            if octets is not None:
                reply, kind = message[:2] + octets[1:], counters.kind_of(octets[0])
                if self._limiter is not None:
                    reply = self._limiter.limit(message, reply, self.address())
            if octets is not None and reply:
                counters.by_class[octets[0]] += 1
                self._send_to(peer, reply)
            if self.query_log is not None and self.query_log.due(1):
                self.query_log.log(message, reply, self.address(), "udp", kind)

    def statistics(self) -> Statistics:
        """Return the counters; asks the kernel for its own (SO_MEMINFO, the drops are last)."""
        if self._sock.fileno() < 0:
            drops = 0
        else:
            meminfo = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            drops = _MEMINFO.unpack(meminfo)[-1]
        return Statistics(
            self._received,
            self._send_errors,
            self._receive_errors,
            drops,
            self._seconds.statistics(),
        )


def _ask_for_destination(sock: socket.socket) -> None:
    """Have the kernel tell which of our addresses each datagram was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
