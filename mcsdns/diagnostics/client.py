"""Asks: a request's octets to a server or to this process, and the reply's octets back.

Blocking sockets, one question at a time: for commands, not for serving. Of a reply only ID and QR
are looked at here.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from mcsdns.dns import HEADER_BYTES, ip
from mcsdns.dns.request import Received, Request, Transport
from mcsdns.dns.types import DNS_PORT, QR
from mcsdns.errors import ConfigError, NoReplyError
from mcsdns.server.authority import Authority
from mcsdns.server.handler import Handler
from mcsdns.server.packet_cache import PacketCache

TIMEOUT_S: Final = 2.0
TRIES: Final = 3
"""How often a question is sent over UDP before the server counts as silent."""
_MAX_BYTES: Final = 0xFFFF
_CACHE_BYTES: Final = 1 << 20


class InProcessServer:
    """Answers from a zone in this process, through the code that serves: bytes in, bytes out."""

    def __init__(
        self,
        authority: Authority,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what to answer from, and what to call it."""
        self._name = name
        self._clock = clock
        self._handlers = {
            transport: Handler(
                authority, PacketCache(_CACHE_BYTES), tcp=transport is Transport.TCP, clock=clock
            )
            for transport in Transport
        }

    def ask(self, request: Request, transport: Transport) -> Received:
        """Answer; see `NameServer`."""
        begin = self._clock()
        reply = self._handlers[transport].reply_to(request.encode(_new_id()))
        if reply is None:
            raise NoReplyError(f"{self._name}: to such a request there is no reply")
        return Received(reply, self._name, transport, self._clock() - begin)


class RemoteServer(msgspec.Struct, frozen=True):
    """A server at an address or host name and port.

    Attributes:
        timeout_s: seconds for each try; TCP has one.
    """

    host: str
    port: int
    timeout_s: float = TIMEOUT_S
    tries: int = TRIES
    clock: Callable[[], float] = time.monotonic

    def __str__(self) -> str:
        return ip.with_port(self.host, self.port)

    def ask(self, request: Request, transport: Transport) -> Received:
        """Ask the server, a name's addresses in turn; see `NameServer`."""
        message = request.encode(_new_id())
        kind = socket.SOCK_DGRAM if transport is Transport.UDP else socket.SOCK_STREAM
        begin = self.clock()
        try:
            found = socket.getaddrinfo(self.host, self.port, type=kind)
        except OSError as error:
            raise NoReplyError(
                f"{self.host}: {error.strerror or error}; give --server an address"
            ) from None
        why = ""
        for family, _, _, _, (host, *_) in found:
            try:
                with socket.socket(family, kind) as sock:
                    sock.settimeout(self.timeout_s)
                    sock.connect((str(host), self.port))
                    reply = self._exchange(sock, message, transport)
            except (OSError, EOFError) as error:
                why = self._why(error, transport)
            else:
                server = f"{host}#{self.port}({self.host})"
                return Received(reply, server, transport, self.clock() - begin)
        raise NoReplyError(f"no reply from {self}{why}")

    def _exchange(self, sock: socket.socket, message: bytes, transport: Transport) -> bytes:
        """Send a request and return its reply.

        Raises:
            OSError, EOFError: there was none.
        """
        if transport is Transport.TCP:
            deadline = self.clock() + self.timeout_s
            sock.sendall(len(message).to_bytes(2, "big") + message)
            while True:
                size_bytes = int.from_bytes(self._receive_all(sock, 2, deadline), "big")
                reply = self._receive_all(sock, size_bytes, deadline)
                if _answers(reply, message):
                    return reply
        for _ in range(self.tries):
            deadline = self.clock() + self.timeout_s
            sock.send(message)
            with suppress(TimeoutError):
                while not _answers(reply := self._receive(sock, _MAX_BYTES, deadline), message):
                    pass  # a late reply, or one from somebody else
                return reply
        raise TimeoutError

    def _receive_all(self, sock: socket.socket, count: int, deadline: float) -> bytes:
        octets = b""
        while len(octets) < count:
            chunk = self._receive(sock, count - len(octets), deadline)
            if not chunk:
                raise EOFError
            octets += chunk
        return octets

    def _receive(self, sock: socket.socket, most: int, deadline: float) -> bytes:
        """Receive what comes before the deadline.

        Raises:
            TimeoutError: nothing did.
        """
        left_s = deadline - self.clock()
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(left_s)
        return sock.recv(most)

    def _why(self, error: OSError | EOFError, transport: Transport) -> str:
        """Say for people what went wrong."""
        how = transport.upper()
        match error:
            case EOFError():
                return f" over {how}: it closed the connection; is it a DNS server?"
            case TimeoutError() if transport is Transport.UDP:
                return (
                    f" over UDP, {self.tries} tries of {self.timeout_s:g} s; is it up, and may "
                    "UDP pass to it? `--tcp` asks over TCP"
                )
            case TimeoutError():
                return (
                    f" over {how} within {self.timeout_s:g} s; is it up, and may {how} pass to it?"
                )
            case ConnectionRefusedError():
                return (
                    f": nothing listens there on {how}; start the server, or give --server its "
                    "address and port"
                )
            case _:
                return f" over {how}: {error.strerror or error}; can it be reached?"


def server_from_text(text: str, flag: str = "--server") -> tuple[str, int]:
    """Read `ADDR`, `ADDR:PORT` or `[ADDR]:PORT`; host names will do, the port is 53 by default.

    `flag` is where the text is from, for the error.

    Raises:
        ConfigError: the text is neither.
    """
    if text.count(":") > 1 and not text.startswith("["):
        return ip.drop_scope(text), DNS_PORT
    try:
        host, port_text, _ = ip.split_port(text)
    except ValueError:
        host, port_text = "", None
    port = DNS_PORT if port_text is None else ip.port_number(port_text)
    if not (host and port):
        raise ConfigError(f"{flag}: {text!r} is not ADDR or ADDR:PORT, such as 127.0.0.1:1053")
    return ip.drop_scope(host), port


def _answers(reply: bytes, request: bytes) -> bool:
    return len(reply) >= HEADER_BYTES and reply[:2] == request[:2] and bool(reply[2] & QR >> 8)


def _new_id() -> int:
    return int.from_bytes(os.urandom(2), "big")
