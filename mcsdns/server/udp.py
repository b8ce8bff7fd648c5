"""UDP sockets: many datagrams per wake-up, answered from kept replies where there are any.

The one place besides `tcp` that touches the event loop directly: a reader callback drains a
non-blocking socket, which measured several times faster than a DatagramProtocol.
"""

import asyncio
import socket
import struct
from typing import Final

import msgspec

from mcsdns.server.kept import Negative
from mcsdns.server.respond import Responder

BATCH: Final = 64
"""Datagrams per turn of the loop, so that TCP and the sources get theirs."""
_RECEIVE_BYTES: Final = 4096
_RECEIVE_BUFFER_BYTES: Final = 4 << 20
_IP_PKTINFO: Final = 8
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
_ANCILLARY_BYTES: Final = 64

_Ancillary = list[tuple[int, int, bytes]]


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one socket.

    Attributes:
        received: datagrams read. send_errors: replies the kernel did not take.
        receive_errors: reads that failed. kernel_drops: datagrams lost because our receive
            buffer was full.
    """

    received: int
    send_errors: int
    receive_errors: int
    kernel_drops: int


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
    """Serves one bound socket."""

    def __init__(self, sock: socket.socket, responder: Responder, *, wildcard: bool) -> None:
        """Take a socket from `bind`; with `wildcard`, reply from the address that was asked."""
        self._sock = sock
        self._responder = responder
        self._wildcard = wildcard
        self._received = self._send_errors = self._receive_errors = 0
        self._sources: dict[bytes, _Ancillary] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to read in the running loop."""
        self._loop = asyncio.get_running_loop()
        drain = self.drain_wildcard if self._wildcard else self.drain
        self._loop.add_reader(self._sock.fileno(), drain)

    def close(self) -> None:
        """Answer what has arrived, then close the socket."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            (self.drain_wildcard if self._wildcard else self.drain)()
        self._sock.close()

    def drain(self) -> None:
        """Answer up to BATCH datagrams; every statement of the loop counts (docs/performance)."""
        recvfrom, sendto = self._sock.recvfrom, self._sock.sendto
        known, respond = self._responder.kept.known.get, self._responder.respond
        received = 0
        for _ in range(BATCH):
            try:
                message, peer = recvfrom(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self._receive_errors += 1
                continue
            received += 1
            value = known(message[2:])
            if value is None:
                reply = respond(message)
                if reply is None:
                    continue
            elif value.__class__ is bytes:
                reply = message[:2] + value
            elif value.__class__ is Negative:
                reply = message[:2] + value.head + value.tails[value.at] + value.opt
            else:
                reply = message[:2] + next(value)
            try:
                sendto(reply, peer)
            except OSError:
                self._send_errors += 1
        self._received += received

    def drain_wildcard(self) -> None:
        """The same for a socket on all addresses: the reply's source is the address asked."""
        recvmsg, sendmsg = self._sock.recvmsg, self._sock.sendmsg
        known, respond = self._responder.kept.known.get, self._responder.respond
        sources = self._sources
        received = 0
        for _ in range(BATCH):
            try:
                message, ancillary, _flags, peer = recvmsg(_RECEIVE_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self._receive_errors += 1
                continue
            received += 1
            value = known(message[2:])
            if value is None:
                reply = respond(message)
                if reply is None:
                    continue
            elif value.__class__ is bytes:
                reply = message[:2] + value
            elif value.__class__ is Negative:
                reply = message[:2] + value.head + value.tails[value.at] + value.opt
            else:
                reply = message[:2] + next(value)
            destination = ancillary[0][2] if ancillary else b""
            source = sources.get(destination)
            if source is None:
                source = self._remember_source(destination)
            try:
                sendmsg((reply,), source, 0, peer)
            except OSError:
                self._send_errors += 1
        self._received += received

    def statistics(self) -> Statistics:
        """Return the counters; asks the kernel for its own (SO_MEMINFO, the drops are last)."""
        if self._sock.fileno() < 0:
            drops = 0
        else:
            meminfo = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            drops = _MEMINFO.unpack(meminfo)[-1]
        return Statistics(self._received, self._send_errors, self._receive_errors, drops)

    def _remember_source(self, destination: bytes) -> _Ancillary:
        """Turn the packet information of a request into that of its reply."""
        if len(self._sources) >= 1024:  # noqa: PLR2004 - addresses of one host; anycast at most
            self._sources.clear()
        source = self._sources[destination] = _reply_ancillary(destination)
        return source


def _ask_for_destination(sock: socket.socket) -> None:
    """Have the kernel tell which of our addresses each datagram was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def _reply_ancillary(destination: bytes) -> _Ancillary:
    """Build the control message that sends from the address in `destination`.

    The interface is left to the routing table, save for link-local addresses, which mean nothing
    without one (RFC 3542, 6.2; ip(7)).
    """
    if len(destination) == 20:  # noqa: PLR2004 - struct in6_pktinfo: address, interface
        link_local = destination[0] == 0xFE and destination[1] & 0xC0 == 0x80  # noqa: PLR2004
        interface = destination[16:] if link_local else bytes(4)
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, destination[:16] + interface)]
    if len(destination) == 12:  # noqa: PLR2004 - struct in_pktinfo: interface, local, header
        return [(socket.IPPROTO_IP, _IP_PKTINFO, bytes(4) + destination[8:12] + bytes(4))]
    return []
