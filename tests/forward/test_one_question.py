"""An upstream that takes one question of each TCP connection, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from mcsdns.forward.address import Protocol
from mcsdns.forward.forwarder import Settings
from tests.forward.scripted import (
    Server,
    addresses,
    answer,
    ask,
    forwarder_of,
    framed,
    rcode,
    replied,
    request,
)


def once(message: bytes, transport: asyncio.Transport) -> None:
    """Answer the first question of a connection, and close it."""
    if not transport.is_closing():
        transport.write(framed(answer(message)))
        transport.close()


def truncated(message: bytes, send: Callable[[bytes], None]) -> None:
    send(answer(message, [], tc=True))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start(tcp=True)
    server.on_udp, server.on_tcp = truncated, once
    yield server
    server.stop()


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("at_once", [1, 5, 20, 100])
async def test_every_question_is_answered(server: Server, protocol: Protocol, at_once: int) -> None:
    address = msgspec.structs.replace(server.address, protocol=protocol)
    forwarder = forwarder_of([address], settings=Settings(total_s=60))
    for turn in range(3):
        askers = [
            ask(forwarder, request(f"n{turn}x{number}.example"), tcp=bool(number % 2))
            for number in range(at_once)
        ]
        await replied(*askers)
        assert {(rcode(asker), *addresses(asker)) for asker in askers} == {("NOERROR", "10.0.0.1")}
    forwarder.close()
