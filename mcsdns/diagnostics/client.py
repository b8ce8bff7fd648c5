"""Asks: a request's octets to a server or to this process, and the reply's octets back.

Blocking sockets, one question at a time: for commands, not for serving. Of a reply only ID and QR
are looked at here.
"""

import os
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

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
_RECEIVE_BYTES: Final = 0xFFFF
_CACHE_BYTES: Final = 1 << 20
_Address = tuple[str, int]


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


class RemoteServer:
    """A server at an address or host name and port."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float = TIMEOUT_S,
        tries: int = TRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Name the server; `timeout_s` is for each try, TCP has one."""
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._tries = tries
        self._clock = clock

    def __str__(self) -> str:
        return ip.with_port(self._host, self._port)

    def ask(self, request: Request, transport: Transport) -> Received:
        """Ask the server, a name's addresses in turn; see `NameServer`."""
        message = request.encode(_new_id())
        exchange = self._over_udp if transport is Transport.UDP else self._over_tcp
        begin = self._clock()
        failure: NoReplyError | None = None
        for family, address in self._addresses(transport):
            try:
                reply = exchange(message, family, address)
            except NoReplyError as error:
                failure = error
            else:
                server = f"{address[0]}#{self._port}({self._host})"
                return Received(reply, server, transport, self._clock() - begin)
        assert failure is not None
        raise failure

    def _addresses(self, transport: Transport) -> list[tuple[int, _Address]]:
        kind = socket.SOCK_DGRAM if transport is Transport.UDP else socket.SOCK_STREAM
        try:
            found = socket.getaddrinfo(self._host, self._port, type=kind)
        except OSError as error:
            raise NoReplyError(
                f"{self._host}: {error.strerror or error}; give --server an address"
            ) from None
        return [(family, (str(address[0]), self._port)) for family, _, _, _, address in found]

    def _over_udp(self, message: bytes, family: int, address: _Address) -> bytes:
        with self._connected(family, socket.SOCK_DGRAM, address) as sock:
            for _ in range(self._tries):
                sock.send(message)
                reply = self._receive(sock, message[:2])
                if reply is not None:
                    return reply
        raise NoReplyError(
            f"no reply from {self} over UDP, {self._tries} tries of {self._timeout_s:g} s; is "
            "it up, and may UDP pass to it? `--tcp` asks over TCP"
        )

    def _receive(self, sock: socket.socket, message_id: bytes) -> bytes | None:
        """Return the reply with that ID, None where the time is over; pass over all else."""
        deadline = self._clock() + self._timeout_s
        while (left_s := deadline - self._clock()) > 0:
            sock.settimeout(left_s)
            try:
                reply = sock.recv(_RECEIVE_BYTES)
            except TimeoutError:
                return None
            if _is_reply(reply, message_id):
                return reply
        return None

    def _over_tcp(self, message: bytes, family: int, address: _Address) -> bytes:
        deadline = self._clock() + self._timeout_s
        with self._connected(family, socket.SOCK_STREAM, address) as sock:
            sock.sendall(len(message).to_bytes(2, "big") + message)
            while True:
                size_bytes = int.from_bytes(self._receive_octets(sock, 2, deadline), "big")
                reply = self._receive_octets(sock, size_bytes, deadline)
                if _is_reply(reply, message[:2]):
                    return reply

    def _receive_octets(self, sock: socket.socket, count: int, deadline: float) -> bytes:
        octets = b""
        while len(octets) < count:
            left_s = deadline - self._clock()
            if left_s <= 0:
                raise TimeoutError
            sock.settimeout(left_s)
            chunk = sock.recv(count - len(octets))
            if not chunk:
                raise NoReplyError(
                    f"no reply from {self} over TCP: it closed the connection; is it a DNS server?"
                )
            octets += chunk
        return octets

    @contextmanager
    def _connected(
        self, family: int, kind: socket.SocketKind, address: _Address
    ) -> Generator[socket.socket]:
        """Open a socket to the server, and say for people what goes wrong while it is used."""
        how = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
        try:
            with socket.socket(family, kind) as sock:
                sock.settimeout(self._timeout_s)
                sock.connect(address)
                yield sock
        except TimeoutError:
            raise NoReplyError(
                f"no reply from {self} over {how} within {self._timeout_s:g} s; is it up, and "
                f"may {how} pass to it?"
            ) from None
        except ConnectionRefusedError:
            raise NoReplyError(
                f"no reply from {self}: nothing listens there on {how}; start the server, or "
                "give --server its address and port"
            ) from None
        except OSError as error:
            raise NoReplyError(
                f"no reply from {self} over {how}: {error.strerror or error}; can it be reached?"
            ) from None


def server_from_text(text: str) -> tuple[str, int]:
    """Read `ADDR`, `ADDR:PORT` or `[ADDR]:PORT`; host names will do, the port is 53 by default.

    Raises:
        ConfigError: the text is neither.
    """
    if text.count(":") > 1 and not text.startswith("["):
        return text, DNS_PORT
    try:
        host, port_text, _ = ip.split_port(text)
    except ValueError:
        host, port_text = "", None
    port = DNS_PORT if port_text is None else ip.port_number(port_text)
    if not (host and port):
        raise ConfigError(f"--server: {text!r} is not ADDR or ADDR:PORT, such as 127.0.0.1:1053")
    return host, port


def _is_reply(message: bytes, message_id: bytes) -> bool:
    return len(message) >= HEADER_BYTES and message[:2] == message_id and bool(message[2] & QR >> 8)


def _new_id() -> int:
    return int.from_bytes(os.urandom(2), "big")
