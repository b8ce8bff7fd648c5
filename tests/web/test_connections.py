"""Connections for HTTP: bounds in octets, time and number, and who makes room for whom."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from mcsdns.server.accept import Acceptor
from mcsdns.web.connections import Connections, Limits, handler_maker
from mcsdns.web.head import END, HeadLimits, fault_of
from tests.sources.test_timeslice import Clock
from tests.waiting import until

REQUEST = b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE_BYTES = 3 << 20
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Served:
    """Connections behind one listening socket, whose clock a test moves."""

    def __init__(self, limits: Limits) -> None:
        self.clock = Clock()
        self.connections = Connections(limits, self.clock)
        self.asked: list[str] = []
        self.held: asyncio.Event | None = None
        self._peers: list[asyncio.StreamWriter] = []
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/small", self._small)
        app.router.add_get("/large", self._large)
        self.runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
        await self.runner.setup()
        assert self.runner.server is not None
        make = handler_maker(self.runner.server, {"access_log": None, "lingering_time": 0.0})
        self.acceptor = Acceptor(
            self._sock,
            lambda sock, address: self.connections.take(sock, address[0], make),
            self.connections.has_room,
        )
        self.connections.start()
        self.acceptor.start()

    async def stop(self) -> None:
        self.acceptor.close()
        await self.runner.cleanup()
        self.connections.close()
        for writer in self._peers:
            writer.close()

    async def connect(self, octets: bytes = b"", *, host: str = "127.0.0.1") -> Peer:
        """Connect from an address, and send something."""
        where = self._sock.getsockname()
        reader, writer = await asyncio.open_connection(*where, local_addr=(host, 0))
        self._peers.append(writer)
        writer.write(octets)
        return reader, writer

    async def _small(self, request: web.Request) -> web.Response:
        self.asked.append(request.remote or "")
        if self.held is not None:
            await self.held.wait()
        return web.Response(text="ok")

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE_BYTES)


@contextlib.asynccontextmanager
async def serving(**limits: object) -> AsyncIterator[Served]:
    served = Served(Limits(**limits))  # type: ignore[arg-type]
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of a response whose body is `ok`, or of the last one."""
    head = await reader.readuntil(END)
    if b"close" not in head.lower():
        await reader.readexactly(2)
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /small" + b"x" * 9000, 414),
        (b"GET /small HTTP/1.1\r\nA: " + b"x" * 9000, 431),
        (b"GET /small HTTP/1.1\r\nA: " + b"x" * 9000 + END, 431),
        (b"GET /small HTTP/1.1\r\n" + b"A: %s\r\n" % (b"x" * 4000) * 9, 431),
        (b"GET /small HTTP/1.1\r\n" + b"A: %s\r\n" % (b"x" * 4000) * 9 + b"\r\n", 431),
        (b"GET /small HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400),
        (b"GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 413),
        (b"GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\nxx", 413),
        (b"GET /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET /small HTTP/1.1\r\nHost: a\r\nTRANSFER-encoding : chunked\r\n\r\n", 413),
        (
            b"GET /small HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
            413,
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /small\r\n\r\n", 400),
    ],
)
async def test_what_is_too_large_or_has_a_body_is_refused(octets: bytes, status: int) -> None:
    async with serving() as served:
        reader, _ = await served.connect(octets)
        assert await status_of(reader) == status
        assert not served.asked
        await until(lambda: not served.connections.held_bytes, "nothing held")


@pytest.mark.parametrize(
    "octets",
    [
        REQUEST,
        b"\r\n\r\n" + REQUEST,
        b"GET /small HTTP/1.0\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /small HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"GET /small?" + b"q" * 8000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
async def test_a_request_may_come_in_any_pieces(octets: bytes, chunk: int) -> None:
    async with serving() as served:
        reader, writer = await served.connect()
        for begin in range(0, len(octets), chunk if len(octets) < 999 else 1 << 20):
            writer.write(octets[begin : begin + (chunk if len(octets) < 999 else 1 << 20)])
            await asyncio.sleep(0)
        assert await status_of(reader) == 200


async def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    async with serving() as served:
        reader, writer = await served.connect(REQUEST * 2000)
        writer.write_eof()
        assert [await status_of(reader) for _ in range(2000)] == [200] * 2000
        assert await reader.read() == b""


async def test_a_half_closed_client_gets_its_response() -> None:
    async with serving() as served:
        served.held = asyncio.Event()
        reader, writer = await served.connect(REQUEST)
        writer.write_eof()
        await until(lambda: served.asked, "the request")
        served.held.set()
        assert await status_of(reader) == 200
        assert await reader.read() == b""


async def test_a_head_has_a_time_of_its_own_however_its_octets_come() -> None:
    async with serving() as served:
        silent, _ = await served.connect()
        slow, writer = await served.connect(b"GET /small HTTP/1.1\r\nA: ")
        await until(lambda: len(served.connections) == 2, "both")
        for _ in range(10):
            served.clock.now_s += 0.49
            writer.write(b"x")
            await asyncio.sleep(0)
        assert len(served.connections) == 2
        served.clock.now_s += 0.2
        assert await status_of(slow) == 408
        assert await silent.read() == b""
        await until(lambda: not len(served.connections), "closed")
        assert served.connections.closed["slow"] == 1
        assert served.connections.held_bytes == 0


async def test_keep_alive_ends_and_each_further_head_has_its_time() -> None:
    async with serving() as served:
        reader, writer = await served.connect(REQUEST)
        assert await status_of(reader) == 200
        served.clock.now_s += 29
        writer.write(REQUEST[:5])
        await until(lambda: served.connections.held_bytes, "a part of a head")
        served.clock.now_s += 4.9
        writer.write(REQUEST[5:])
        assert await status_of(reader) == 200
        served.clock.now_s += 31
        assert await reader.read() == b""
        assert not any(served.connections.closed.values())


async def test_unread_responses_are_bounded_for_one_connection_and_for_all() -> None:
    async with serving(unsent_bytes=LARGE_BYTES) as served:
        large = REQUEST.replace(b"small", b"large")
        _, writer = await served.connect(large * 50)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: served.connections.unsent_bytes, "what is unsent")
        assert served.connections.unsent_bytes < LARGE_BYTES
        _, writer = await served.connect(large)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: served.connections.closed["memory"], "too much")
        assert len(served.connections) == 1
        served.clock.now_s += 31
        await until(lambda: not len(served.connections), "both closed")
        assert served.connections.unsent_bytes == 0


async def test_heads_together_are_bounded_and_small_ones_are_read_still() -> None:
    half = b"GET /small HTTP/1.1\r\n" + b"A: %s\r\n" % (b"x" * 900) * 5
    async with serving(heads_bytes=50_000) as served:
        for _ in range(40):
            await served.connect(half)
        await until(lambda: served.connections.closed["memory"] == 30, "too much")
        reader, _ = await served.connect(REQUEST)
        assert await status_of(reader) == 200


async def test_no_young_connection_makes_room() -> None:
    async with serving(settled=4, of_address=2) as served:
        peers = [await served.connect() for _ in range(20)]
        await until(lambda: len(served.connections) == 20, "all of them")
        for reader, writer in peers:
            writer.write(REQUEST)
            assert await status_of(reader) == 200
        assert not served.connections.closed["room"]
        served.clock.now_s += 1
        await until(lambda: len(served.connections) == 4, "room")


async def test_idle_keep_alive_goes_first_and_then_the_oldest_silent_one() -> None:
    async with serving(settled=3) as served:
        silent, _ = await served.connect()
        half, writer = await served.connect(REQUEST[:5])
        alive, _ = await served.connect(REQUEST)
        assert await status_of(alive) == 200
        served.clock.now_s += 1
        assert await status_of((await served.connect(REQUEST))[0]) == 200
        assert await alive.read() == b""
        assert await status_of((await served.connect(REQUEST))[0]) == 200
        assert await silent.read() == b""
        writer.write(REQUEST[5:])
        assert await status_of(half) == 200


async def test_an_address_makes_room_for_itself() -> None:
    async with serving(settled=8, of_address=3) as served:
        other, writer = await served.connect(host="127.0.0.2")
        for _ in range(3):
            await served.connect()
        await until(lambda: len(served.connections) == 4, "all of them")
        served.clock.now_s += 1
        for _ in range(9):
            reader, _ = await served.connect(REQUEST)
            assert await status_of(reader) == 200
            served.clock.now_s += 0.4
        writer.write(REQUEST)
        assert await status_of(other) == 200


async def test_addresses_take_turns() -> None:
    async with serving(busy=1) as served:
        served.held = asyncio.Event()
        flood = [await served.connect(REQUEST) for _ in range(20)]
        await until(lambda: len(served.connections) == 20 and served.asked, "all of them")
        kubelet, _ = await served.connect(REQUEST, host="127.0.0.2")
        await until(lambda: len(served.connections) == 21, "one more")
        served.held.set()
        assert await status_of(kubelet) == 200
        for reader, _ in flood:
            assert await status_of(reader) == 200
        assert served.asked.index("127.0.0.2") <= 2


async def test_accepting_pauses_while_there_is_no_room() -> None:
    async with serving(connections=3) as served:
        held = [await served.connect() for _ in range(3)]
        waiting, _ = await served.connect(REQUEST)
        await until(lambda: served.acceptor.statistics().no_room, "a pause")
        assert len(served.connections) == 3
        held[0][1].close()
        assert await status_of(waiting) == 200


def test_a_head_ends_within_its_bounds_to_the_octet() -> None:
    limits = HeadLimits(field_bytes=15, head_bytes=35)
    assert fault_of(bytearray(b"GET /aaaaaaaaaa"), -1, limits) is None
    assert fault_of(bytearray(b"GET /aaaaaaaaaaa"), -1, limits) is not None
    exact = bytearray(b"GET / HTTP/1.1\r\nA: bbbbbb\r\nC: ddddd" + END)
    assert fault_of(exact, len(exact) - 4, limits) is None
    assert fault_of(bytearray(b"GET /\r\n") + exact, len(exact) + 3, limits) is not None
