"""Upstreams that fail in every way, on real sockets: a right answer or SERVFAIL, in time."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import dnslib
import pytest

from mcsdns.forward import cache
from mcsdns.forward.forwarder import Forwarder, Settings
from mcsdns.forward.health import Policy
from mcsdns.forward.udp_pool import UdpPoolSettings
from tests.forward.scripted import (
    TXT,
    Server,
    addresses,
    answer,
    ask,
    errors,
    forwarder_of,
    framed,
    question_end,
    rcode,
    replied,
    reply,
    request,
    until,
)

Send = Callable[[bytes], None]
Start = Callable[..., Awaitable[tuple[Forwarder, list[Server]]]]
SOCKETS = 64


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    servers: list[Server] = []
    forwarders: list[Forwarder] = []

    async def started(
        count: int = 1, *, tcp: bool = False, total_s: float = 1.8
    ) -> tuple[Forwarder, list[Server]]:
        made = [Server() for _ in range(count)]
        servers.extend(made)
        for server in made:
            await server.start(tcp=tcp)
        settings = Settings(
            policy=Policy.SEQUENTIAL,
            total_s=total_s,
            ports=UdpPoolSettings(sockets=SOCKETS),
            cache=cache.Settings(max_entries=0),
        )
        forwarders.append(forwarder_of([each.address for each in made], settings=settings))
        return forwarders[-1], made

    yield started
    for forwarder in forwarders:
        statistics = forwarder.statistics()
        assert statistics.pending == 0
        for upstream in statistics.upstreams:
            assert upstream.udp is not None
            assert upstream.udp.open <= 2 * SOCKETS
            assert upstream.stream.open <= 4
        forwarder.close()
    for server in servers:
        server.stop()


def silent(message: bytes, send: Send) -> None:
    """Say nothing."""


def late(message: bytes, send: Send) -> None:
    asyncio.get_running_loop().call_later(0.3, send, answer(message))


def twice(message: bytes, send: Send) -> None:
    send(answer(message))
    send(answer(message))


def someone_elses(message: bytes, send: Send) -> None:
    other = request("www.other")
    send(message[:2] + answer(other)[2:])


def garbage(message: bytes, send: Send) -> None:
    send(b"")
    send(b"\xff")
    send(message[:2] + b"\xff" * 50)
    send(message)
    send(answer(message)[:-20])


def circles(message: bytes, send: Send) -> None:
    """Answer with a CNAME whose name points to itself."""
    end = question_end(message)
    head = message[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + message[12:end]
    at = 0xC000 | len(head) + 12
    record = b"\xc0\x0c" + struct.pack("!HHIHH", 5, 1, 60, 2, at)
    send(head + record)


def flood(message: bytes, send: Send) -> None:
    """Guess ids; the reply of the right one says 10.0.0.1, all others 10.6.6.6."""
    right = int.from_bytes(message[:2], "big")
    forged = answer(message, [b"\x0a\6\6\6"])
    for number in range(1, 200):
        send(((right + number) & 0xFFFF).to_bytes(2, "big") + forged[2:])


def cut(message: bytes, send: Send) -> None:
    send(answer(message, [], tc=True))


@pytest.mark.parametrize("fault", [silent, someone_elses, garbage, circles, flood])
async def test_it_ends_in_servfail_in_time(
    start: Start, fault: Callable[[bytes, Send], None]
) -> None:
    forwarder, (server,) = await start(total_s=0.5)
    server.on_udp = fault
    askers = [ask(forwarder, request(f"{number}.example")) for number in range(20)]
    await replied(*askers)
    assert {rcode(asker) for asker in askers} == {"SERVFAIL"}
    assert all(set(errors(asker)) <= {0, 22, 23, 24} for asker in askers)
    assert all(errors(asker) for asker in askers)


@pytest.mark.parametrize("fault", [silent, someone_elses, garbage, circles, late, twice])
async def test_with_another_upstream_the_answer_is_right(
    start: Start, fault: Callable[[bytes, Send], None]
) -> None:
    forwarder, (server, _) = await start(2)
    server.on_udp = fault
    askers = [ask(forwarder, request(f"{number}.example")) for number in range(20)]
    await replied(*askers)
    assert [addresses(asker) for asker in askers] == [["10.0.0.1"]] * 20
    assert [len(asker.replies) for asker in askers] == [1] * 20


async def test_what_is_forged_is_answered_over_tcp(start: Start) -> None:
    forwarder, (server,) = await start(tcp=True)
    server.on_udp = flood
    server.on_tcp = lambda message, transport: transport.write(framed(answer(message)))
    askers = [ask(forwarder, request(f"{number}.example")) for number in range(20)]
    await replied(*askers)
    assert [addresses(asker) for asker in askers] == [["10.0.0.1"]] * 20
    assert forwarder.statistics().forged == 20


async def test_a_flood_of_wrong_ids_does_not_hide_the_right_one(start: Start) -> None:
    forwarder, (server,) = await start()
    servers = [flood, reply]
    server.on_udp = lambda message, send: [each(message, send) for each in servers[:2]]
    asker = ask(forwarder, request("www.example"))
    await until(lambda: len(server.requests) > 1 or asker.replies)
    servers[0] = silent
    await replied(asker)
    again = ask(forwarder, request("www.example"))
    await replied(again)
    assert addresses(again) == ["10.0.0.1"]
    assert "10.6.6.6" not in addresses(asker)
    udp = forwarder.statistics().upstreams[0].udp
    assert udp is not None
    assert udp.dropped >= 32


async def test_a_slow_reply_is_taken_where_nobody_else_is(start: Start) -> None:
    forwarder, (server,) = await start()
    server.on_udp = late
    asker = ask(forwarder, request("www.example"))
    await replied(asker)
    assert addresses(asker) == ["10.0.0.1"]


async def test_a_refusing_host_is_told_at_once_and_used_once_it_is_back(start: Start) -> None:
    forwarder, (server,) = await start()
    server.stop()
    for number in range(5):
        asker = ask(forwarder, request(f"{number}.example"))
        await replied(asker)
        assert (rcode(asker), errors(asker)) == ("SERVFAIL", [23])
    await server.start()
    asker = ask(forwarder, request("www.example"))
    await replied(asker)
    assert rcode(asker) == "NOERROR"


async def test_it_may_cut_without_tcp(start: Start) -> None:
    forwarder, (server,) = await start()
    server.on_udp = cut
    over_udp = ask(forwarder, request("www.example"))
    over_tcp = ask(forwarder, request("www.example"), tcp=True)
    await replied(over_udp, over_tcp)
    assert (rcode(over_udp), over_udp.reply.header.tc) == ("NOERROR", 1)
    assert (rcode(over_tcp), errors(over_tcp)) == ("SERVFAIL", [23])


def close_midway(message: bytes, transport: asyncio.Transport) -> None:
    transport.write(framed(answer(message))[:20])
    transport.close()


def never(message: bytes, transport: asyncio.Transport) -> None:
    """Say nothing."""


def rubbish(message: bytes, transport: asyncio.Transport) -> None:
    transport.write(b"\0\3abc")


@pytest.mark.parametrize("fault", [close_midway, never, rubbish])
async def test_tcp_may_fail_in_every_way(
    start: Start, fault: Callable[[bytes, asyncio.Transport], None]
) -> None:
    forwarder, (server,) = await start(tcp=True, total_s=0.5)
    server.on_udp, server.on_tcp = cut, fault
    askers = [ask(forwarder, request(f"{number}.example"), tcp=True) for number in range(10)]
    await replied(*askers)
    assert {rcode(asker) for asker in askers} == {"SERVFAIL"}
    assert {tuple(errors(asker)) for asker in askers} == {(23,)}


async def test_64_kilobytes_of_records_come_through(start: Start) -> None:
    forwarder, (server,) = await start(tcp=True)
    server.on_udp = cut
    texts = [bytes((250,)) + number.to_bytes(2, "big") * 125 for number in range(245)]
    server.on_tcp = lambda message, transport: transport.write(
        framed(answer(message, texts, rtype=TXT))
    )
    large, small = (
        ask(forwarder, request("www.example", TXT), tcp=True),
        ask(forwarder, request("www.example", TXT)),
    )
    await replied(large, small)
    assert len(large.reply.rr) == 245
    assert len(large.replies[0]) > 64000
    assert small.reply.header.tc == 1
    assert len(small.replies[0]) <= 1232


async def test_it_comes_and_goes_a_hundred_times(start: Start) -> None:
    forwarder, (server,) = await start()
    for number in range(100):
        gone, back = f"gone{number}.example", f"back{number}.example"
        server.stop()
        asker = ask(forwarder, request(gone))
        await replied(asker)
        assert rcode(asker) == "SERVFAIL"
        await server.start()
        asker = ask(forwarder, request(back))
        await replied(asker)
        assert rcode(asker) == "NOERROR"


async def test_killed_under_load_no_question_is_lost(start: Start) -> None:
    forwarder, servers = await start(2)
    askers = []
    for number in range(1000):
        askers.append(ask(forwarder, request(f"{number}.example")))
        if number == 500:
            servers[0].stop()
        if not number % 10:
            await asyncio.sleep(0)
    await replied(*askers)
    assert {rcode(asker) for asker in askers} == {"NOERROR"}


async def test_any_octets_in_place_of_a_reply_are_survived(start: Start) -> None:
    forwarder, (server, _) = await start(2)
    noise = dnslib.DNSRecord.question("x").pack() * 20

    def mutated(message: bytes, send: Send) -> None:
        right = answer(message)
        number = len(server.requests)
        at = 12 + number % (len(right) - 12)
        send(right[:at] + noise[number : number + 9] + right[at + 9 :])

    server.on_udp = mutated
    askers = [ask(forwarder, request(f"{number}.example")) for number in range(200)]
    await replied(*askers)
    assert all(len(asker.replies) == 1 for asker in askers)
