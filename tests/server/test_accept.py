"""Accepting: a few connections in a turn, a pause while there is no room, and one line about it."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mcsdns.server.accept import Acceptor, Opening
from tests.waiting import until


class Scarce(socket.socket):
    """A listening socket that accepts only while a test lets it."""

    fault = 0
    tries = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        if self.fault:
            raise OSError(self.fault, "as the test wants it")
        return super().accept()


@contextlib.asynccontextmanager
async def accepting(
    has_room: Callable[[], bool] = lambda: True,
) -> AsyncIterator[tuple[Scarce, Acceptor, list[socket.socket]]]:
    sock = Scarce(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    taken: list[socket.socket] = []
    acceptor = Acceptor(sock, lambda connection, _: taken.append(connection), has_room)
    acceptor.start()
    try:
        yield sock, acceptor, taken
    finally:
        acceptor.close()
        for each in taken:
            each.close()


@pytest.mark.parametrize("fault", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_files_it_waits_and_says_so_once(
    fault: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with accepting() as (sock, acceptor, taken):
        sock.fault = fault
        with socket.create_connection(sock.getsockname()):
            await until(lambda: acceptor.statistics().no_files == 3, "pauses")
            assert sock.tries == 3
            sock.fault = 0
            await until(lambda: taken, "the connection")
    (line,) = caplog.messages
    assert "UDP goes on" in line
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("fault", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EAGAIN])
async def test_a_connection_that_has_gone_is_no_news(
    fault: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with accepting() as (sock, acceptor, taken):
        sock.fault = fault
        with socket.create_connection(sock.getsockname()):
            await until(lambda: sock.tries, "a try")
            sock.fault = 0
            await until(lambda: taken, "the connection")
        assert acceptor.statistics().no_files == 0
    assert not caplog.messages


async def test_who_finds_no_room_waits_for_it() -> None:
    room = [True, True]

    def has_room() -> bool:
        return bool(room)

    async with accepting(has_room) as (sock, acceptor, taken):
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(socket.create_connection(sock.getsockname()))
            await until(lambda: len(taken) == 4, "all")
            room.clear()
            stack.enter_context(socket.create_connection(sock.getsockname()))
            await until(lambda: acceptor.statistics().no_room == 2, "pauses")
            assert len(taken) == 4
            room.append(True)
            await until(lambda: len(taken) == 5, "room")
            assert acceptor.statistics().accepted == 5


async def test_others_have_their_turn_between_a_few_connections() -> None:
    async with accepting() as (sock, _, taken):
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(sock.getsockname()))
            seen: list[int] = []
            while len(taken) < 100:
                await asyncio.sleep(0)
                seen.append(len(taken))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= 16


async def test_a_socket_becomes_a_protocol() -> None:
    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"hello")
            transport.close()

    opening = Opening()
    async with accepting() as (sock, _, taken):
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        await until(lambda: taken, "the connection")
        opening.open(taken.pop(), Greeting())
        assert await reader.read() == b"hello"
        writer.close()
