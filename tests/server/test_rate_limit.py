"""Limits on replies over UDP: how many, to whom, what becomes of the others."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.server import mmsg, udp
from mcsdns.server.handler import Handler
from mcsdns.server.rate_limit import RateLimiter
from mcsdns.server.reply_options import Cookies, ReplyOptions
from mcsdns.stats import LimitedReplies
from tests.forward.scripted import Server, forwarder_of
from tests.server.test_forward_handler import Client
from tests.server.test_forward_handler import handler_of as forwarding_handler_of
from tests.waiting import DEADLINE_S, until
from tests.worlds import handler_of, service_import, world_of

WEB = "web.shop.svc.clusterset.local."
WORLD = world_of([service_import("web", ips=["10.0.0.1"])])
REQUEST = dns.message.make_query(WEB, "A", use_edns=0, payload=1232).to_wire()
HERE, NEIGHBOUR, ELSEWHERE = b"\x0a\1\2\3", b"\x0a\1\2\xff", b"\x0a\1\3\3"


class Limits:
    """A limiter, its clock, and a handler whose replies it limits."""

    def __init__(self, rate: int, slip: int = 0) -> None:
        self.now_s = 1000.0
        self.counted = LimitedReplies()
        self.options = ReplyOptions("", Cookies("", lambda: self.now_s))
        self.limiter = RateLimiter(rate, slip, self.options, lambda: self.now_s, self.counted)
        self.handler = handler_of(WORLD)
        self.handler.reply_options = self.options

    def ask(self, client: bytes, request: bytes = REQUEST) -> bytes:
        """What is sent to a client."""
        text = socket.inet_ntop(socket.AF_INET if len(client) == 4 else socket.AF_INET6, client)
        reply = self.handler.reply_to(request, Client(text))
        assert reply is not None
        return self.limiter.limit(request, reply, client)

    def sent(self, client: bytes, times: int) -> int:
        """How many of so many whole replies are sent."""
        return sum(len(self.ask(client)) > len(REQUEST) for _ in range(times))


@pytest.mark.parametrize("rate", [1, 7, 100, 5000])
def test_a_prefix_has_so_many_replies_a_second(rate: int) -> None:
    limits = Limits(rate)
    assert rate <= limits.sent(HERE, 2 * rate + 2) <= rate + 1
    for _ in range(3):
        limits.now_s += 1.0
        assert rate - 1 <= limits.sent(HERE, 2 * rate + 2) <= rate + 1
    limits.now_s += 100.0
    assert rate <= limits.sent(HERE, 2 * rate + 2) <= rate + 1, "a second's worth at once, not more"


def test_neighbours_share_a_limit_and_others_have_their_own() -> None:
    limits = Limits(10)
    limits.sent(HERE, 100)
    assert limits.sent(NEIGHBOUR, 10) == 0
    assert limits.sent(ELSEWHERE, 10) == 10
    host, neighbour, elsewhere = (
        socket.inet_pton(socket.AF_INET6, text)
        for text in ("2001:db8:0:7::1", "2001:db8:0:ff::2", "2001:db8:0:100::1")
    )
    limits.sent(host, 100)
    assert limits.sent(neighbour, 10) == 0
    assert limits.sent(elsewhere, 10) == 10


def test_replies_that_are_no_longer_than_their_request_are_always_sent() -> None:
    limits = Limits(1)
    refused = dns.message.make_query("www.example.", "A").to_wire()
    for _ in range(50):
        assert limits.ask(HERE, refused)
    assert limits.counted == LimitedReplies()


@pytest.mark.parametrize("slip", [0, 1, 2, 5])
def test_one_reply_of_every_few_says_come_over_tcp(slip: int) -> None:
    limits = Limits(10, slip)
    assert limits.sent(HERE, 10) == 10
    replies = [limits.ask(HERE) for _ in range(100)]
    truncated = [reply for reply in replies if reply]
    assert limits.counted.truncated == len(truncated)
    assert len(truncated) == (100 // slip if slip else 0)
    assert limits.counted.dropped == 100 - len(truncated)
    for wire in truncated:
        assert len(wire) <= len(REQUEST)
        reply = dns.message.from_wire(wire)
        assert reply.flags & dns.flags.TC
        assert reply.flags & dns.flags.AA
        assert (reply.id.to_bytes(2, "big"), reply.edns) == (REQUEST[:2], 0)
        assert reply.question == dns.message.from_wire(REQUEST).question
        assert not reply.answer


def with_cookie(cookie: bytes) -> bytes:
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
    query = dns.message.make_query(WEB, "A", use_edns=0, payload=1232, options=[option])
    return query.to_wire()


def test_who_is_limited_learns_a_cookie_and_who_shows_it_is_not_limited() -> None:
    limits = Limits(1, slip=1)
    limits.sent(HERE, 10)
    first = limits.ask(HERE, with_cookie(b"clientis"))
    reply = dns.message.from_wire(first)
    assert reply.flags & dns.flags.TC
    (option,) = reply.options
    cookie = option.to_wire()
    assert cookie is not None
    for _ in range(50):
        assert dns.message.from_wire(limits.ask(HERE, with_cookie(cookie))).answer
    for forged in (cookie[:-1] + b"?", b"clientiz" + cookie[8:], cookie[:8]):
        assert not dns.message.from_wire(limits.ask(HERE, with_cookie(forged))).answer
    limits.sent(ELSEWHERE, 10)
    assert not dns.message.from_wire(limits.ask(ELSEWHERE, with_cookie(cookie))).answer


def test_one_line_a_minute_says_whom_it_concerns(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(5)
    limits.sent(HERE, 1000)
    limits.now_s += 59.0
    limits.sent(HERE, 1000)
    assert [line.partition(",")[0] for line in caplog.messages] == ["clients in 10.1.2.0/24"]
    limits.now_s += 2.0
    limits.sent(ELSEWHERE, 1000)
    assert "raise --rate-limit" in caplog.messages[1]
    assert len(caplog.messages) == 2


@given(st.binary(max_size=200), st.integers(0, 0x7FFF), st.integers(0, 4))
def test_whatever_is_asked_is_sent_a_reply_no_longer_than_before(
    octets: bytes, flags: int, additionals: int
) -> None:
    limits = Limits(1, slip=1)
    limits.sent(HERE, 3)
    head = b"ID" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + additionals.to_bytes(2, "big")
    for request in (head + octets, REQUEST[:12] + octets, REQUEST[:30] + octets):
        reply = limits.handler.reply_to(request, Client("10.1.2.3"))
        if reply is not None:
            assert len(limits.limiter.limit(request, reply, HERE)) <= len(reply)


@contextlib.asynccontextmanager
async def listening(
    handler: Handler, limits: Limits | None
) -> AsyncIterator[tuple[udp.UdpListener, socket.socket]]:
    sock = udp.bind("127.0.0.1", 0)
    serving = udp.UdpListener(sock, handler, wildcard=False)
    serving.limit(limits.limiter if limits else None)
    serving.start()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    client.connect(sock.getsockname())
    try:
        yield serving, client
    finally:
        client.close()
        serving.close()


@pytest.mark.parametrize("plain_sockets", [False, True])
async def test_over_sockets_what_is_past_the_limit_is_missing_and_not_counted(
    plain_sockets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain_sockets:
        monkeypatch.setattr(mmsg, "is_available", lambda: False)
    limits = Limits(10, slip=3)
    refused = dns.message.make_query("www.example.", "A").to_wire()
    loop = asyncio.get_running_loop()
    async with listening(limits.handler, limits) as (serving, sock):
        for number in range(30):
            sock.send(number.to_bytes(2, "big") + REQUEST[2:])
            sock.send((number + 100).to_bytes(2, "big") + refused[2:])
        by_id: dict[int, dns.message.Message] = {}
        async with asyncio.timeout(DEADLINE_S):
            while len(by_id) < 30 + 10 + 6:
                reply = dns.message.from_wire(await loop.sock_recv(sock, 4096))
                by_id[reply.id] = reply
        assert all(number + 100 in by_id for number in range(30))
        assert sum(bool(reply.answer) for reply in by_id.values()) == 10
        assert sum(bool(reply.flags & dns.flags.TC) for reply in by_id.values()) == 6
        assert limits.counted == LimitedReplies(14, 6)
        assert sum(limits.handler.counters.by_class[:-1]) == 46
        serving.limit(None)
        for _ in range(20):
            sock.send(REQUEST)
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(20):
                assert dns.message.from_wire(await loop.sock_recv(sock, 4096)).answer


@pytest.mark.parametrize("plain_sockets", [False, True])
async def test_replies_that_come_later_are_limited_too(
    plain_sockets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain_sockets:
        monkeypatch.setattr(mmsg, "is_available", lambda: False)
    upstream = Server()
    await upstream.start()
    forwarder = forwarder_of([upstream.address])
    handler, _ = forwarding_handler_of(forwarder)
    limits = Limits(3)
    async with listening(handler, limits) as (_, sock):
        for number in range(20):
            sock.send(dns.message.make_query(f"www{number}.example.", "A").to_wire())
        await until(lambda: limits.counted.dropped == 17)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(3):
                assert dns.message.from_wire(await loop.sock_recv(sock, 4096)).answer
    forwarder.close()
    upstream.stop()
