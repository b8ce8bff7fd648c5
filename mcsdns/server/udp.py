"""UDP sockets: many datagrams per wake-up, answered from kept replies where there are any.

The one place besides `tcp` that touches the event loop directly: a reader callback drains a
non-blocking socket, which measured several times faster than a DatagramProtocol.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Final

import msgspec

from mcsdns.server import mmsg
from mcsdns.server.handler import Handler
from mcsdns.server.noting import SECONDS, QueryLog
from mcsdns.server.packet_cache import Negative
from mcsdns.stats import UNCOUNTED, Histogram, HistogramStatistics

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
            buffer was full. seconds: how long each took that waited for nobody, from the moment
            its batch was read until that was answered.
    """

    received: int
    send_errors: int
    receive_errors: int
    kernel_drops: int
    seconds: HistogramStatistics


def bind(host: str, port: int) -> socket.socket:
    """Open a UDP socket on one address, or on all of a family (`0.0.0.0`, `::`).

    The port is never shared: no SO_REUSEADDR, which on UDP would let two servers answer by turns.

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
    """Say whether an address stands for all addresses of its family."""
    return host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


class UdpListener:
    """Serves one bound socket.

    Attributes:
        responder: what answers; may be replaced at any time.
        query_log: takes a note of some requests, if it is there.
        is_counting: whether replies are counted and timed.
    """

    def __init__(self, sock: socket.socket, responder: Handler, *, wildcard: bool) -> None:
        """Take a socket from `bind`; with `wildcard`, reply from the address that was asked."""
        self._sock = sock
        self.responder = responder
        self.query_log: QueryLog | None = None
        self.is_counting = True
        self._seconds = Histogram(SECONDS)
        self._batch = mmsg.Batch(sock, wildcard=wildcard) if mmsg.is_available() else None
        self._wildcard = wildcard
        self._outbox: mmsg.Outbox | None = None
        self._letters: list[tuple[bytes, bytes]] = []
        self._slot = 0
        self._peer: tuple[str, int] = ("", 0)
        self._received = self._send_errors = self._receive_errors = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to read in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._drain)

    def close(self) -> None:
        """Answer what has arrived, then close the socket."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._drain()
            self._post_all()
        self._sock.close()

    def address(self) -> bytes:
        """Return the address of the request at hand (`forward_handler.Client`)."""
        if self._batch is not None:
            return self._batch.address(self._slot)
        return socket.inet_pton(self._sock.family, self._peer[0].partition("%")[0])

    def detach(self) -> Callable[[bytes], None]:
        """Return the way back to the sender of the request at hand (`forward_handler.Client`)."""
        if self._batch is not None:
            return partial(self._post, self._batch.envelope(self._slot))
        return partial(self._send_to, self._peer)

    def _post(self, envelope: bytes, message: bytes) -> None:
        """Send with all that is to be sent in this turn of the loop."""
        if not self._letters and self._loop is not None:
            self._loop.call_soon(self._post_all)
        self._letters.append((envelope, message))

    def _post_all(self) -> None:
        letters, self._letters = self._letters, []
        if not letters or self._sock.fileno() < 0:
            return
        if self._outbox is None:  # a quarter of a megabyte, for those who forward
            self._outbox = mmsg.Outbox(self._sock, wildcard=self._wildcard)
        self._send_errors += self._outbox.send(letters)

    def _send_to(self, peer: tuple[str, int], message: bytes) -> None:
        try:
            self._sock.sendto(message, peer)
        except OSError:
            self._send_errors += 1

    def _drain(self) -> None:
        """Answer what has arrived, but no more than a turn's worth."""
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
        """Answer the datagrams of a batch; every statement of the loop counts (performance.md)."""
        requests, replies, reply_sizes = batch.requests, batch.replies, batch.reply_sizes
        kept = self.responder.kept
        known, unknown = kept.known.get, kept.unknown.get
        respond = self.responder.respond_unkept
        at, item, slot, unsent = 0, 3, 0, 0
        for size in sizes:
            key = requests[at + 2 : at + size].tobytes()
            value = known(key) or unknown(key)
            if value is None:
                self._slot = slot
                reply = respond(requests[at : at + size].tobytes(), key, self)
                if reply is None:
                    self._send_errors += batch.send(unsent, slot)
                    unsent = slot + 1
                    octets = UNCOUNTED
                else:
                    octets = reply
            elif isinstance(value, bytes):
                octets = value
            elif isinstance(value, Negative):
                octets = value.head + value.tails[value.at] + value.opt
            else:
                octets = next(value)
            length = len(octets)
            reply_sizes[item] = length - 1
            replies[at : at + length] = octets
            at += mmsg.SLOT_BYTES
            item += 4
            slot += 1
        self._send_errors += batch.send(unsent, slot)
        if self.is_counting:
            numbers = self.responder.tally.by_class
            for mark in replies[0 : slot * mmsg.SLOT_BYTES : mmsg.SLOT_BYTES]:
                numbers[mark] += 1
        if self.query_log is not None:
            self._note(self.query_log, batch, sizes)

    def _note(self, query_log: QueryLog, batch: mmsg.Batch, sizes: list[int]) -> None:
        """Note some of a batch, as it still lies in its slots."""
        for slot in query_log.due(len(sizes)):
            at = slot * mmsg.SLOT_BYTES
            request = batch.requests[at : at + sizes[slot]].tobytes()
            mark, size = batch.replies[at], batch.reply_sizes[4 * slot + 3]
            reply = request[:2] + batch.replies[at + 1 : at + 1 + size] if size else b""
            kind = self.responder.tally.kind_of(mark)
            query_log.note(request, reply, batch.address(slot), "udp", kind)

    def _drain_one_by_one(self) -> None:
        """The same for systems without recvmmsg."""
        for _ in range(mmsg.SLOTS):
            try:
                message, peer = self._sock.recvfrom(mmsg.SLOT_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._receive_errors += 1
                continue
            self._received += 1
            self._peer = peer
            reply = self.responder.respond(message, self)
            if reply is not None:
                self._send_to(peer, reply)
            if self.query_log is not None and self.query_log.due(1):
                self.query_log.note(message, reply or b"", self.address(), "udp")

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
