"""TCP framing, pipelining and limits, over real sockets."""

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.server import tcp
from mcsdns.server.forward_handler import Client
from mcsdns.server.handler import Handler
from mcsdns.server.packet_cache import PacketCache
from tests.waiting import until
from tests.worlds import handler_of, service_import, world_of

NAME = names.wire_from_text("web.shop.svc.clusterset.local")


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def listener(
    max_connections: int = 100,
    clock: Clock | None = None,
    *,
    handler: Handler | None = None,
    max_held_bytes: int = 64 << 20,
    sock: socket.socket | None = None,
) -> AsyncIterator[tuple[tcp.TcpListener, int]]:
    world = world_of([service_import("web", ips=["10.0.0.1"])])
    sock = sock or tcp.bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    serving = tcp.TcpListener(
        [sock],
        handler or handler_of(world, tcp=True),
        tcp.TcpSettings(10, max_connections, max_held_bytes),
        clock or Clock(),
    )
    serving.start()
    try:
        yield serving, port
    finally:
        serving.close()
        await until(lambda: serving.statistics().open == 0)


@contextlib.asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def framed(message_id: int, name: bytes = NAME) -> bytes:
    query = dns.write_query(message_id, name, 1)
    return len(query).to_bytes(2, "big") + query


async def reply_id(reader: asyncio.StreamReader) -> int:
    size = int.from_bytes(await reader.readexactly(2), "big")
    return int.from_bytes((await reader.readexactly(size))[:2], "big")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 10_000])
async def test_requests_may_arrive_in_any_pieces(chunk: int) -> None:
    stream = b"".join(framed(number) for number in range(20))
    async with listener() as (_, port), client(port) as (reader, writer):
        for at in range(0, len(stream), chunk):
            writer.write(stream[at : at + chunk])
            await writer.drain()
            await asyncio.sleep(0)
        assert sorted([await reply_id(reader) for _ in range(20)]) == list(range(20))


async def test_thousands_of_pipelined_requests_are_all_answered() -> None:
    async with listener() as (serving, port), client(port) as (reader, writer):
        writer.write(b"".join(framed(number) for number in range(5000)))
        assert {await reply_id(reader) for _ in range(5000)} == set(range(5000))
        assert serving.statistics().received == 5000


async def test_a_half_closed_client_gets_its_replies() -> None:
    async with listener() as (_, port), client(port) as (reader, writer):
        writer.write(b"".join(framed(number) for number in range(500)))
        writer.write_eof()
        assert {await reply_id(reader) for _ in range(500)} == set(range(500))
        assert await reader.read() == b""


@pytest.mark.parametrize("size", [0, 1, 11])
async def test_a_length_too_short_for_a_header_ends_the_connection(size: int) -> None:
    async with listener() as (serving, port), client(port) as (reader, writer):
        writer.write(framed(1) + size.to_bytes(2, "big") + bytes(40))
        assert await reply_id(reader) == 1
        assert await reader.read() == b""
        assert (serving.statistics().aborted, serving.statistics().received) == (1, 1)


async def test_a_response_sent_to_us_gets_no_reply_and_the_next_question_does() -> None:
    async with listener() as (_, port), client(port) as (reader, writer):
        response = bytearray(framed(1))
        response[4] |= 0x80
        writer.write(bytes(response) + framed(2))
        assert await reply_id(reader) == 2


async def test_silent_and_half_sent_connections_are_closed_after_the_idle_time() -> None:
    clock = Clock()
    async with (
        listener(clock=clock) as (serving, port),
        client(port) as (silent, _),
        client(port) as (half, half_writer),
        client(port) as (busy, busy_writer),
    ):
        half_writer.write(framed(1)[:-1])
        await until(lambda: serving.statistics().open == 3)
        clock.now += 9
        busy_writer.write(framed(2))
        assert await reply_id(busy) == 2
        half_writer.write(b"")
        clock.now += 2
        assert await silent.read() == b""
        with contextlib.suppress(ConnectionResetError):
            assert await half.read() == b""
        busy_writer.write(framed(3))
        assert await reply_id(busy) == 3
        statistics = serving.statistics()
        assert (statistics.idle_closed, statistics.open) == (2, 1)


async def test_dribbled_octets_do_not_keep_a_connection() -> None:
    clock = Clock()
    async with listener(clock=clock) as (serving, port), client(port) as (reader, writer):
        for octet in framed(1)[:-1]:
            writer.write(bytes((octet,)))
            await writer.drain()
            clock.now += 1
            if writer.is_closing():
                break
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert serving.statistics().idle_closed == 1


async def test_past_the_limit_the_connection_idle_longest_makes_room() -> None:
    async with listener(max_connections=3) as (serving, port), contextlib.AsyncExitStack() as stack:
        clients = []
        for number in range(3):
            reader, writer = await stack.enter_async_context(client(port))
            writer.write(framed(number))
            assert await reply_id(reader) == number
            clients.append((reader, writer))
        clients[0][1].write(framed(7))
        assert await reply_id(clients[0][0]) == 7
        fresh, fresh_writer = await stack.enter_async_context(client(port))
        fresh_writer.write(framed(9))
        assert await reply_id(fresh) == 9
        with contextlib.suppress(ConnectionResetError):
            assert await clients[1][0].read() == b""
        for reader, writer in (clients[0], clients[2]):
            writer.write(framed(8))
            assert await reply_id(reader) == 8
        assert serving.statistics().shed == 1


async def test_a_client_that_does_not_read_is_not_read_from() -> None:
    async with listener() as (serving, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        stream = b"".join(framed(number) for number in range(2000))
        refused = sent = 0
        while refused < 1000:  # the kernel's buffers are full and nobody empties them
            try:
                sent += sock.send(stream)
                refused = 0
            except BlockingIOError:
                refused += 1
            await asyncio.sleep(0)
        received = serving.statistics().received
        async with client(port) as (reader, writer):
            writer.write(framed(1))
            assert await reply_id(reader) == 1
        assert serving.statistics().received == received + 1
        assert received * len(framed(0)) < sent
        sock.close()


async def test_close_flushes_what_was_answered() -> None:
    async with listener() as (serving, port), client(port) as (reader, writer):
        writer.write(framed(1))
        await until(lambda: serving.statistics().received == 1)
        serving.close()
        assert await reply_id(reader) == 1
        assert await reader.read() == b""


class Scripted(Handler):
    """A handler whose replies a test makes: `reply` has the request, and its client."""

    def __init__(self, reply: Callable[[bytes, Client], bytes | None]) -> None:
        world = world_of([])
        super().__init__(world.authority, PacketCache(0), tcp=True, clock=Clock())
        self._reply = reply

    def handle(self, message: bytes, client: Client | None = None) -> bytes | None:
        assert client is not None
        message_after_id = self._reply(message, client)
        return None if message_after_id is None else b"\0" + message_after_id


def always(size: int) -> Scripted:
    """Replies of so many octets, with the ID."""
    return Scripted(lambda message, _: bytes(size - 2))


def connect(port: int) -> socket.socket:
    """A client that takes little, and reads when it is told to."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


async def read_all(sock: socket.socket) -> int:
    """Read to the end; returns how many octets came."""
    loop, size = asyncio.get_running_loop(), 0
    while octets := await loop.sock_recv(sock, 1 << 16):
        size += len(octets)
    return size


async def test_one_client_that_does_not_read_is_held_a_few_replies() -> None:
    async with listener(handler=always(60_000)) as (serving, port):
        with connect(port) as sock:
            sock.send(b"".join(framed(number) for number in range(500)))
            await until(lambda: serving.statistics().held_bytes > tcp.TURN_BYTES)
            for _ in range(50):
                await asyncio.sleep(0)
                most = 2 * tcp.TURN_BYTES + 60_000 + tcp.READ_BYTES
                assert serving.statistics().held_bytes < most
            sock.shutdown(socket.SHUT_WR)
            assert await read_all(sock) == 500 * 60_002
        await until(lambda: serving.statistics().held_bytes == 0)


async def test_all_together_hold_no_more_than_is_allowed_and_the_one_with_most_goes() -> None:
    async with listener(handler=always(60_000), max_held_bytes=1 << 20, max_connections=1000) as (
        serving,
        port,
    ):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(port)) for _ in range(60)]
            for number, sock in enumerate(socks):
                sock.send(b"".join(framed(number) for _ in range(number + 1)))
                await asyncio.sleep(0)
                assert serving.statistics().held_bytes <= 1 << 20
            await until(lambda: serving.statistics().held_most)
            async with client(port) as (reader, writer):
                for number in range(20):
                    writer.write(framed(number))
                    assert await reply_id(reader) == number
                    assert serving.statistics().held_bytes <= 1 << 20
            statistics = serving.statistics()
            assert statistics.held_most > 0
            assert statistics.open >= (1 << 20) // (3 * tcp.TURN_BYTES)


async def test_requests_that_are_never_whole_count_as_held() -> None:
    part = (60_000).to_bytes(2, "big") + bytes(50_000)
    async with (
        listener(max_held_bytes=1 << 20) as (serving, port),
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(40):
            _, writer = await stack.enter_async_context(client(port))
            with contextlib.suppress(ConnectionError):
                writer.write(part)
                await writer.drain()
            assert serving.statistics().held_bytes <= 1 << 20
        await until(lambda: serving.statistics().held_most)


async def test_replies_that_come_later_count_as_held() -> None:
    sends: list[Callable[[bytes], None]] = []
    handler = Scripted(lambda _, client: sends.append(client.detach()))
    async with listener(handler=handler, max_held_bytes=1 << 20) as (serving, port):
        with connect(port) as sock:
            sock.send(b"".join(framed(number) for number in range(100)))
            await until(lambda: len(sends) == 100)
            for send in sends:
                send(bytes(60_000))
                assert serving.statistics().held_bytes <= 1 << 20
            assert serving.statistics().held_most == 1


async def test_a_connection_that_awaits_replies_is_not_idle() -> None:
    clock, sends = Clock(), list[Callable[[bytes], None]]()
    handler = Scripted(lambda _, client: sends.append(client.detach()))
    async with (
        listener(handler=handler, clock=clock) as (serving, port),
        client(port) as (reader, writer),
        client(port) as (idle, _),
    ):
        writer.write(framed(1))
        await until(lambda: sends)
        clock.now += 11
        assert await idle.read() == b""
        assert serving.statistics().open == 1
        clock.now += 9
        sends.pop()(bytes(20))
        assert await reply_id(reader) == 0
        clock.now += 9  # idle since the reply, not since the question
        async with client(port) as (other, _):
            await until(lambda: serving.statistics().open == 2)
            clock.now += 2
            assert await reader.read() == b""
            assert serving.statistics().idle_closed == 2
            clock.now += 9
            assert await other.read() == b""


async def test_a_client_that_takes_nothing_is_cut_whatever_it_asks() -> None:
    clock = Clock()
    async with listener(handler=always(50_000), clock=clock) as (serving, port):
        with connect(port) as sock:
            sock.send(framed(1) * 2)
            await until(lambda: serving.statistics().held_bytes)
            while serving.statistics().open:
                with contextlib.suppress(ConnectionError):
                    sock.send(framed(1))
                clock.now += 0.01
                await asyncio.sleep(0.001)
        assert serving.statistics().stalled == 1


async def test_a_client_that_takes_a_little_now_and_then_is_not_cut() -> None:
    clock = Clock()
    async with listener(handler=always(50_000), clock=clock) as (serving, port):
        with connect(port) as sock:
            sock.send(framed(1) * 20)
            sock.shutdown(socket.SHUT_WR)
            await until(lambda: serving.statistics().held_bytes)
            size, loop = 0, asyncio.get_running_loop()
            while octets := await loop.sock_recv(sock, 2048):
                size += len(octets)
                clock.now += 0.05
                await asyncio.sleep(0)
            assert size == 20 * 50_002
        assert serving.statistics().stalled == 0


async def test_who_says_no_more_and_reads_nothing_still_counts_as_a_connection() -> None:
    async with listener(handler=always(20_000)) as (serving, port):
        with connect(port) as sock:
            sock.send(framed(1))
            sock.shutdown(socket.SHUT_WR)
            await until(lambda: serving.statistics().received)
            for _ in range(50):
                await asyncio.sleep(0)
            assert (serving.statistics().open, serving.statistics().held_bytes) == (1, 0)
            assert await read_all(sock) == 20_002
            await until(lambda: not serving.statistics().open)


async def test_others_are_served_between_requests_that_take_long() -> None:
    def slow(message: bytes, _: Client) -> bytes:
        time.sleep(2 * tcp.SLICE_S)
        return message[2:]

    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        loop.call_soon(tick)

    loop = asyncio.get_running_loop()
    async with (
        listener(handler=Scripted(slow)) as (serving, port),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(client(port)) for _ in range(10)]
        tick()
        for _, writer in clients:
            writer.write(b"".join(framed(number) for number in range(20)))
        await until(lambda: serving.statistics().received >= 10)
        before = ticks
        async with client(port) as (reader, writer):
            writer.write(framed(99))
            assert await reply_id(reader) == 99
            asked = serving.statistics().received
            assert asked < 200  # it did not wait for all that came before it
            assert ticks - before >= (asked - 20) // 2
        for reader, _ in clients:
            assert [await reply_id(reader) for _ in range(20)] == list(range(20))


class NoFiles(socket.socket):
    """Accepts nothing, for want of file descriptors, for a while."""

    tries = 5

    def accept(self) -> tuple[socket.socket, Any]:
        if self.tries:
            self.tries -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_without_file_descriptors_clients_wait_and_it_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bound = tcp.bind("127.0.0.1", 0)
    sock = NoFiles(bound.family, bound.type, 0, bound.detach())
    sock.setblocking(False)
    async with listener(sock=sock) as (serving, port), client(port) as (reader, writer):
        writer.write(framed(1))
        assert await reply_id(reader) == 1
        assert serving.statistics().no_files == 5
    assert len(caplog.records) == 1
