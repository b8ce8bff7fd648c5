"""Names outside the zone through real listeners: who may ask, and the way back."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import dnslib
import pytest

from mcsdns import config
from mcsdns.app import process
from mcsdns.forward.forwarder import Forwarder
from mcsdns.server import udp
from mcsdns.server.acl import Acl
from mcsdns.server.forward_handler import ForwardHandler
from mcsdns.server.handler import Handler
from mcsdns.server.packet_cache import PacketCache
from mcsdns.server.tcp import MAX_AWAITED
from mcsdns.server.udp import UdpListener
from mcsdns.stats import ReplyCounters
from tests.forward.scripted import Server, answer, forwarder_of, framed, request
from tests.waiting import until
from tests.worlds import world_of

Start = Callable[..., Awaitable[tuple[process.Server, Server]]]


class Client:
    """Who asks a handler directly, from any address."""

    def __init__(self, host: str) -> None:
        self._packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
        self.replies: list[bytes] = []

    def address(self) -> bytes:
        return self._packed

    def detach(self) -> Callable[[bytes], None]:
        return self.replies.append


class Gone(Client):
    """Who went away before anybody looked."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1")
        self._packed = b""


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    opened: list[process.Server | Server] = []

    async def started(listen: str = "127.0.0.1:0") -> tuple[process.Server, Server]:
        upstream = Server()
        await upstream.start(tcp=True)
        opened.append(upstream)
        server = process.Server(
            config.Settings(
                source="none",
                upstream=[upstream.address.text],
                listen=[listen],
            )
        )
        await server.start()
        opened.append(server)
        return server, upstream

    yield started
    for each in reversed(opened):
        if isinstance(each, Server):
            each.stop()
        elif each.forwarding:
            each.close()
    await asyncio.sleep(0)


@pytest.fixture
async def upstream() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    server.stop()


def handler_of(
    forwarder: Forwarder, allow: list[str] | None = None, logged: set[str] | None = None
) -> tuple[Handler, ForwardHandler]:
    tally = ReplyCounters("udp")
    forward_handler = ForwardHandler(
        forwarder, Acl(allow, ()), time.monotonic, tcp=False, counters=tally, logged=logged
    )
    world = world_of([])
    return (
        Handler(
            world.authority,
            PacketCache(1 << 20),
            tcp=False,
            clock=time.monotonic,
            forward_handler=forward_handler,
        ),
        forward_handler,
    )


def port_of(server: process.Server) -> int:
    return int(server.addresses[0].rpartition(":")[2])


def parsed(message: bytes | None) -> dnslib.DNSRecord:
    assert message is not None
    return dnslib.DNSRecord.parse(message)


def ede(message: bytes | None) -> list[int]:
    (opt,) = [record for record in parsed(message).ar if record.rtype == dnslib.QTYPE.OPT]
    return [int.from_bytes(each.data[:2], "big") for each in opt.rdata if each.code == 15]


@pytest.fixture
async def forwarder(upstream: Server) -> AsyncIterator[Forwarder]:
    made = forwarder_of([upstream.address])
    yield made
    made.close()


async def test_who_may_not_ask_is_refused_and_logged_once_per_prefix(
    forwarder: Forwarder, upstream: Server, caplog: pytest.LogCaptureFixture
) -> None:
    logged: set[str] = set()
    over_udp, forward_handler = handler_of(forwarder, logged=logged)
    over_tcp, other = handler_of(forwarder, logged=logged)
    for handler in (over_udp, over_tcp):
        for last in (1, 1, 2, 3):
            client = Client(f"203.0.113.{last}")
            reply = handler.reply_to(request("www.example"), client)
            assert parsed(reply).header.rcode == dnslib.RCODE.REFUSED
            assert ede(reply) == [18]
            assert not client.replies
    over_udp.reply_to(request("www.example"), Client("2001:db8::1"))
    assert (forward_handler.statistics().not_allowed, other.statistics().not_allowed) == (5, 4)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].endswith("--allow default --allow 203.0.113.0/24")
    assert lines[1].endswith("--allow default --allow 2001:db8::/64")
    assert not upstream.requests


async def test_a_ready_reply_is_not_for_who_may_not_ask(forwarder: Forwarder) -> None:
    handler, forward_handler = handler_of(forwarder)
    friend, stranger = Client("10.0.0.1"), Client("203.0.113.1")
    assert handler.reply_to(request("www.example"), friend) is None
    await until(lambda: friend.replies)
    for _ in range(3):
        assert parsed(handler.reply_to(request("www.example"), friend)).header.rcode == 0
    assert forward_handler.statistics().ready == 2
    reply = handler.reply_to(request("www.example"), stranger)
    assert parsed(reply).header.rcode == dnslib.RCODE.REFUSED
    assert forward_handler.statistics().ready == 2


async def test_a_ready_reply_has_the_id_of_its_request(forwarder: Forwarder) -> None:
    handler, _ = handler_of(forwarder)
    client = Client("10.0.0.1")
    handler.reply_to(request("www.example"), client)
    await until(lambda: client.replies)
    for message_id in (b"ab", b"cd", b"ef"):
        reply = handler.reply_to(message_id + request("www.example")[2:], client)
        assert reply is not None
        assert reply[:2] == message_id


async def test_who_is_gone_is_refused_without_a_fault(
    forwarder: Forwarder, caplog: pytest.LogCaptureFixture
) -> None:
    handler, _ = handler_of(forwarder)
    reply = handler.reply_to(request("www.example"), Gone())
    assert parsed(reply).header.rcode == dnslib.RCODE.REFUSED
    assert handler.statistics().failures == 0
    assert not caplog.records


@pytest.mark.parametrize(("qtype", "rcode"), [(252, "REFUSED"), (251, "REFUSED"), (41, "FORMERR")])
async def test_transfers_and_meta_types_are_not_forwarded(
    forwarder: Forwarder, upstream: Server, qtype: int, rcode: str
) -> None:
    handler, _ = handler_of(forwarder)
    reply = handler.reply_to(request("www.example", qtype), Client("10.0.0.1"))
    assert dnslib.RCODE.get(parsed(reply).header.rcode) == rcode
    chaos = bytearray(request("www.example"))
    chaos[-12] = 3
    assert parsed(handler.reply_to(bytes(chaos), Client("10.0.0.1"))).header.rcode == 5
    assert not upstream.requests


async def test_the_zone_itself_is_answered_to_everybody(forwarder: Forwarder) -> None:
    handler, _ = handler_of(forwarder)
    reply = parsed(handler.reply_to(request("clusterset.local", 6), Client("203.0.113.1")))
    assert (reply.header.rcode, reply.header.aa) == (0, 1)


async def test_replies_leave_from_the_address_that_was_asked(start: Start) -> None:
    server, _ = await start("0.0.0.0:0")
    loop = asyncio.get_running_loop()
    for _ in range(2):  # the second one is kept
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.5", port_of(server)))
            sock.send(request("www.example"))
            assert parsed(await loop.sock_recv(sock, 4096)).header.rcode == 0


@pytest.mark.parametrize("batched", [True, False])
async def test_many_clients_get_their_own_replies(
    start: Start, monkeypatch: pytest.MonkeyPatch, batched: bool
) -> None:
    if not batched:
        monkeypatch.setattr(udp.mmsg, "is_available", lambda: False)
    server, _ = await start()
    loop = asyncio.get_running_loop()
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
    try:
        for number, sock in enumerate(socks):
            sock.setblocking(False)
            sock.connect(("127.0.0.1", port_of(server)))
            sock.send(struct.pack("!H", number) + request(f"{number % 50}.example")[2:])
        for number, sock in enumerate(socks):
            reply = parsed(await loop.sock_recv(sock, 4096))
            assert reply.header.id == number
            assert str(reply.q.qname) == f"{number % 50}.example."
    finally:
        for sock in socks:
            sock.close()


async def connect(server: process.Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port_of(server))


async def read(reader: asyncio.StreamReader) -> dnslib.DNSRecord:
    size = int.from_bytes(await reader.readexactly(2), "big")
    return dnslib.DNSRecord.parse(await reader.readexactly(size))


async def test_tcp_questions_are_answered_as_they_are_ready(start: Start) -> None:
    server, upstream = await start()
    held: list[tuple[bytes, Callable[[bytes], None]]] = []
    upstream.on_udp = lambda message, send: held.append((message, send))
    reader, writer = await connect(server)
    writer.write(b"".join(framed(request(f"{number}.example")) for number in range(5)))
    await until(lambda: len([each for each in held if b"loop-check" not in each[0]]) == 5)
    asked = [each for each in held if b"loop-check" not in each[0]]
    for message, send in reversed(asked):
        send(answer(message))
    replied = [str((await read(reader)).q.qname) for _ in range(5)]
    assert sorted(replied) == [f"{number}.example." for number in range(5)]
    writer.close()
    await writer.wait_closed()


async def test_a_connection_that_is_owed_128_replies_is_not_read_from(start: Start) -> None:
    server, upstream = await start()
    held: list[tuple[bytes, Callable[[bytes], None]]] = []
    upstream.on_udp = lambda message, send: held.append((message, send))
    reader, writer = await connect(server)
    count = 2 * MAX_AWAITED
    writer.write(b"".join(framed(request(f"{number}.example")) for number in range(count)))
    assert server.forwarding
    statistics = server.forwarding.forwarder.statistics
    await until(lambda: statistics().pending == MAX_AWAITED)
    other_reader, other = await connect(server)
    other.write(framed(request("other.example")))
    await until(lambda: statistics().pending == MAX_AWAITED + 1)
    upstream.on_udp = lambda message, send: send(answer(message))
    for message, send in held:
        send(answer(message))
    for _ in range(count):
        assert (await read(reader)).header.rcode == 0
    assert (await read(other_reader)).header.rcode == 0
    for each in (writer, other):
        each.close()
        await each.wait_closed()


async def test_a_client_may_go_away_before_its_replies_come(start: Start) -> None:
    server, upstream = await start()
    held: list[tuple[bytes, Callable[[bytes], None]]] = []
    upstream.on_udp = lambda message, send: held.append((message, send))
    _, writer = await connect(server)
    writer.write(b"".join(framed(request(f"{number}.example")) for number in range(5)))
    await until(lambda: len(held) > 5)
    writer.transport.abort()
    await until(lambda: not server.listeners.tcp.statistics().open)
    for message, send in held:
        send(answer(message))
    assert server.forwarding
    statistics = server.forwarding.forwarder.statistics
    await until(lambda: not statistics().pending)


async def test_a_client_that_says_no_more_still_gets_its_replies(start: Start) -> None:
    server, _ = await start()
    reader, writer = await connect(server)
    writer.write(b"".join(framed(request(f"{number}.example")) for number in range(5)))
    writer.write_eof()
    for _ in range(5):
        assert (await read(reader)).header.rcode == 0
    assert not await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_closing_with_questions_in_flight_is_quiet(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server, upstream = await start()
    upstream.on_udp = None
    _, writer = await connect(server)
    writer.write(framed(request("www.example")))
    assert server.forwarding
    statistics = server.forwarding.forwarder.statistics
    await until(lambda: statistics().pending)
    server.close()
    writer.close()
    await writer.wait_closed()
    assert not caplog.records
    assert not statistics().pending


async def test_a_reply_for_a_closed_socket_is_dropped() -> None:
    sock = udp.bind("127.0.0.1", 0)
    world = world_of([])
    handler = Handler(world.authority, PacketCache(1 << 20), tcp=False, clock=time.monotonic)
    listener = UdpListener(sock, handler, wildcard=False)
    listener.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(sock.getsockname())
        client.send(request("www.example"))
        await until(lambda: listener.statistics().received)
        send = listener.detach()
    listener.close()
    send(b"\0" * 12)
    await asyncio.sleep(0)


def test_without_an_upstream_names_outside_are_refused() -> None:
    forwarder = forwarder_of([], {"corp.example": []})
    handler, _ = handler_of(forwarder)
    reply = handler.reply_to(request("www.example"), Client("10.0.0.1"))
    assert parsed(reply).header.rcode == dnslib.RCODE.REFUSED
    assert ede(reply) == [20]
    stub = handler.reply_to(request("www.corp.example"), Client("10.0.0.1"))
    assert ede(stub) == [23]
