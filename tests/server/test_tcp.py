"""TCP framing, pipelining and limits, over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.server import tcp
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
    max_connections: int = 100, clock: Clock | None = None
) -> AsyncIterator[tuple[tcp.TcpListener, int]]:
    world = world_of([service_import("web", ips=["10.0.0.1"])])
    sock = tcp.bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    serving = tcp.TcpListener(
        sock,
        handler_of(world, tcp=True),
        tcp.TcpSettings(idle_s=10, max_connections=max_connections),
        clock or Clock(),
    )
    await serving.start()
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
