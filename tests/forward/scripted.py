"""Askers, replies and upstreams that do what a test says."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import cast

import dnslib

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.dns.types import Rcode
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.forwarder import Forwarder, Settings
from mcsdns.forward.loops import OPTION_CODE
from mcsdns.forward.network import AsyncioNetwork
from mcsdns.forward.pending import Attempt, Deliver, Fail
from mcsdns.forward.stream_pool import StreamPool
from mcsdns.forward.udp_pool import UdpSocket
from tests.forward.callers import RNG
from tests.waiting import until

EDE = 15
A = 1
TXT = 16


class Asker:
    """Who asks: counts what it is sent."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.detached = 0

    def detach(self) -> Callable[[bytes], None]:
        self.detached += 1
        return self.replies.append

    @property
    def reply(self) -> dnslib.DNSRecord:
        (only,) = self.replies
        return dnslib.DNSRecord.parse(only)


def request(name: str, qtype: int = A, *, edns: bool = True, **more: bool) -> bytes:
    do = more.pop("do", False)
    opt = dns.write_opt(1232, do=do) if edns else b""
    return dns.write_query(7, names.wire_from_text(name), qtype, opt=opt, **more)


def ask(
    forwarder: Forwarder,
    message: bytes,
    *,
    tcp: bool = False,
    now_s: float | None = None,
    client: bytes = b"\x7f\0\0\1",
) -> Asker:
    """Ask; what is answered at once is among the replies as well."""
    asker = Asker()
    query = dns.read_query(message)
    assert query is not None
    limit = dns.MAX_TCP_BYTES if tcp else query.udp_limit(dns.MAX_UDP_BYTES)
    group = forwarder.router.find(query.name, query.labels)
    assert group is not None
    now_s = time.monotonic() if now_s is None else now_s
    answered = forwarder.ask(group, query, client, asker.detach, limit, now_s, tcp=tcp)
    if answered is not None:
        assert not asker.detached
        asker.replies.append(answered.octets)
    return asker


async def replied(*askers: Asker) -> None:
    """Wait until all have a reply."""
    await until(lambda: all(asker.replies for asker in askers))


def question_end(message: bytes) -> int:
    at = 12
    while length := message[at]:
        at += length + 1
    return at + 5


def answer(
    message: bytes,
    rdatas: Sequence[bytes] = (b"\x0a\0\0\1",),
    *,
    rcode: int = 0,
    ttl: int = 60,
    rtype: int = A,
    tc: bool = False,
    ad: bool = False,
    ede: int | None = None,
    edns: bool = True,
) -> bytes:
    """Write the reply to a request."""
    end = question_end(message)
    record = b"\xc0\x0c" + struct.pack("!HHI", rtype, 1, ttl)
    records = b"".join(record + len(each).to_bytes(2, "big") + each for each in rdatas)
    options = b"" if ede is None else struct.pack("!HHH", EDE, 2, ede)
    opt = dns.write_opt(1232, options=options) if edns else b""
    flags = 0x8180 | tc << 9 | ad << 5 | rcode
    head = struct.pack("!HHHHH", flags, 1, len(rdatas), 0, edns)
    return message[:2] + head + message[12:end] + records + opt


def rcode(asker: Asker) -> str:
    return str(dnslib.RCODE.get(asker.reply.header.rcode))


def errors(asker: Asker) -> list[int]:
    """The codes of the Extended DNS Errors."""
    return [
        int.from_bytes(data[:2], "big") for code, data in options(asker.replies[0]) if code == EDE
    ]


def error_text(asker: Asker) -> str:
    return " ".join(data[2:].decode() for code, data in options(asker.replies[0]) if code == EDE)


def options(message: bytes) -> list[tuple[int, bytes]]:
    """The EDNS options of a message."""
    return [
        (option.code, option.data)
        for record in dnslib.DNSRecord.parse(message).ar
        if record.rtype == dnslib.QTYPE.OPT
        for option in record.rdata
    ]


def addresses(asker: Asker) -> list[str]:
    return [str(record.rdata) for record in asker.reply.rr]


def without_options(message: bytes) -> bytes:
    """What a forwarder makes of a request that knows no options."""
    end = question_end(message)
    return message[:10] + b"\0\1" + message[12:end] + dns.write_opt(1232)


def has_mark(message: bytes) -> bool:
    return OPTION_CODE in [code for code, _ in options(message)]


def has_opt(message: bytes) -> bool:
    return message[10:12] == b"\0\1"


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Transport:
    """What was sent to one upstream over UDP or a stream, and what is to become of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.sent: list[tuple[Attempt, bytes]] = []
        self._clock = clock

    def answer(self, at: int = -1, **reply: object) -> bool:
        message = self.sent[at][1]
        return self.say(answer(message, **reply), at)  # type: ignore[arg-type]

    def say(self, message: bytes, at: int = -1) -> bool:
        """Let a message arrive as if it were the reply to what was sent."""
        raise NotImplementedError

    @property
    def requests(self) -> list[bytes]:
        return [message for _, message in self.sent]


class ScriptedStream(Transport):
    """Stands for a `StreamPool`."""

    def __init__(self, clock: Callable[[], float], deliver: Deliver, fail: Fail) -> None:
        super().__init__(clock)
        self._deliver, self._fail = deliver, fail

    def say(self, message: bytes, at: int = -1) -> bool:
        return self._deliver(self.sent[at][0], message, self._clock())

    def fail(self, at: int = -1) -> None:
        self._fail(self.sent[at][0], "Connection refused", self._clock())

    def send(self, token: Attempt, message: bytes) -> Attempt:
        self.sent.append((token, message))
        return token

    def forget(self, handle: Attempt) -> None:
        """Nothing more is awaited."""

    def close(self) -> None:
        """Nothing is open."""

    def statistics(self) -> None:
        return None


class ScriptedUdp(Transport):
    """Stands for the sockets of one upstream, behind the `UdpPool` of the forwarder.

    What a test says arrives on the socket that asked, with the ID that was sent.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.sockets: set[UdpSocket[Attempt]] = set()
        self._sent_from: list[UdpSocket[Attempt]] = []

    def take(self, socket: UdpSocket[Attempt], datagram: bytes) -> None:
        attempt = socket.awaited[datagram[:2]]
        assert attempt is not None
        assert socket in self.sockets
        self.sent.append((attempt, datagram))
        self._sent_from.append(socket)

    def say(self, message: bytes, at: int = -1) -> bool:
        socket, message_id = self._sent_from[at], self.requests[at][:2]
        return socket.pool.receive(socket, message_id + message[2:], self._clock())

    def say_wrong(self, message: bytes, at: int = -1) -> bool:
        """Let a message arrive there with an ID that was never sent from this socket."""
        socket = self._sent_from[at]
        ids = (number.to_bytes(2, "big") for number in range(1 << 16))
        message_id = next(each for each in ids if each not in socket.awaited)
        return socket.pool.receive(socket, message_id + message[2:], self._clock())

    def fail(self, at: int = -1) -> None:
        socket, message_id = self._sent_from[at], self.requests[at][:2]
        socket.pool.fail_datagram(socket, message_id, "Connection refused", self._clock())

    @property
    def awaited(self) -> int:
        """How many of the queries sent await a reply."""
        sent = zip(self._sent_from, self.requests, strict=True)
        return sum(socket.awaited.get(request[:2]) is not None for socket, request in sent)


class ScriptedNetwork:
    """A network without sockets: upstreams by their address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.udp: dict[Address, ScriptedUdp] = {}
        self.streams: dict[Address, ScriptedStream] = {}
        self.fault: OSError | None = None
        self._clock = clock

    def stream_pool(self, address: Address, deliver: Deliver, fail: Fail) -> StreamPool[Attempt]:
        self.udp[address] = ScriptedUdp(self._clock)
        self.streams[address] = made = ScriptedStream(self._clock, deliver, fail)
        return cast("StreamPool[Attempt]", made)

    def wake(self) -> None:
        """The test calls `expire` itself."""

    def open_udp(self, socket: UdpSocket[Attempt], address: Address) -> None:
        if self.fault is not None:
            raise self.fault
        self.udp[address].sockets.add(socket)

    def send_udp(self, socket: UdpSocket[Attempt], datagram: bytes) -> None:
        self.udp[socket.pool.address].take(socket, datagram)

    def close_udp(self, socket: UdpSocket[Attempt]) -> None:
        self.udp[socket.pool.address].sockets.remove(socket)


class Server:
    """An upstream in the test's loop, UDP and TCP on one port.

    `on_udp` is given a request, and what sends back; `on_tcp` the same and the transport. None is
    silence, and for TCP nobody who listens.
    """

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.streamed: list[bytes] = []
        self.on_udp: Callable[[bytes, Callable[[bytes], None]], object] | None = reply
        self.on_tcp: Callable[[bytes, asyncio.Transport], object] | None = None
        self.port = 0
        self._sock: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self.connections: list[asyncio.Transport] = []

    @property
    def address(self) -> Address:
        return Address(Protocol.UDP, "127.0.0.1", self.port)

    async def start(self, *, tcp: bool = False) -> None:
        loop = asyncio.get_running_loop()
        while tcp and self._server is None:
            with contextlib.suppress(OSError):  # another one's UDP port
                self._bind()
                self._server = await loop.create_server(
                    lambda: _Stream(self), "127.0.0.1", self.port, reuse_address=True
                )
            if self._server is None and self._sock is not None:
                self._sock.close()
                self.port = 0
        if not tcp:
            self._bind()
        assert self._sock is not None
        loop.add_reader(self._sock, self._read)

    def _bind(self) -> None:
        self._sock = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]

    def stop(self) -> None:
        """Go away, so that the kernel refuses what is sent here."""
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self.connections:
            connection.abort()
        self.connections = []

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._sock is not None:
                message, client = self._sock.recvfrom(4096)
                self.requests.append(message)
                if self.on_udp is not None:
                    self.on_udp(message, self._way_back(client))

    def _way_back(self, client: tuple[str, int]) -> Callable[[bytes], None]:
        def send(message: bytes) -> None:
            if self._sock is not None:
                self._sock.sendto(message, client)

        return send


class _Stream(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.append(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[2:end], self._buffer[end:]
            self._server.streamed.append(message)
            if self._server.on_tcp is not None:
                self._server.on_tcp(message, self._transport)


def reply(message: bytes, send: Callable[[bytes], None]) -> None:
    """Answer with one address."""
    send(answer(message))


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def forwarder_of(
    upstreams: Sequence[Address],
    zones: dict[str, Sequence[Address]] | None = None,
    settings: Settings | None = None,
    network: ScriptedNetwork | None = None,
) -> Forwarder:
    """A forwarder on real sockets in the running loop, or on a scripted network."""
    settings = settings or Settings()
    every = {names.ROOT: upstreams} if upstreams else {}
    every |= {names.from_text(zone): each for zone, each in (zones or {}).items()}
    if network is not None:
        return Forwarder(settings, every, network, RNG)
    real = AsyncioNetwork(settings, RNG)
    forwarder = Forwarder(settings, every, real, RNG)
    real.drive(forwarder)
    return forwarder


SERVFAIL, REFUSED, NXDOMAIN = Rcode.SERVFAIL, Rcode.REFUSED, Rcode.NXDOMAIN
