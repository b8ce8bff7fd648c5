"""UDP over real sockets: batches, drops, and replies of every kind of cached value."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import dnslib
import pytest

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.dns.types import RRType
from mcsdns.server import mmsg, udp
from tests.waiting import DEADLINE_S
from tests.worlds import endpoint_slice, handler_of, service_import, world_of

WEB = names.wire_from_text("web.shop.svc.clusterset.local")
DB = names.wire_from_text("db.shop.svc.clusterset.local")
NOPE = names.wire_from_text("nope.shop.svc.clusterset.local")


@contextlib.asynccontextmanager
async def listener(host: str = "127.0.0.1") -> AsyncIterator[tuple[udp.UdpListener, int]]:
    world = world_of(
        [
            service_import("web", ips=["10.0.0.1"]),
            service_import("db"),
            endpoint_slice("db", "eu", ["10.1.0.1", "10.1.0.2", "10.1.0.3"]),
        ]
    )
    sock = udp.bind(host, 0)
    port = sock.getsockname()[1]
    serving = udp.UdpListener(sock, handler_of(world), wildcard=udp.is_wildcard(host))
    serving.start()
    try:
        yield serving, port
    finally:
        serving.close()


def connected(host: str, port: int) -> socket.socket:
    """A socket that takes datagrams from that address alone."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect((host, port))
    return sock


async def exchange(sock: socket.socket, requests: list[bytes], replies: int) -> list[bytes]:
    loop = asyncio.get_running_loop()
    for request in requests:
        sock.send(request)
    async with asyncio.timeout(DEADLINE_S):
        return [await loop.sock_recv(sock, 65535) for _ in range(replies)]


@pytest.mark.parametrize("plain_sockets", [False, True])
async def test_batches_are_answered_whatever_is_among_them(
    plain_sockets: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain_sockets:
        monkeypatch.setattr(mmsg, "is_available", lambda: False)
    odd = [b"", b"x", b"\0" * 11, b"\xff" * 40, dns.write_query(9, b"\x40" + b"a" * 80, 1)]
    async with listener() as (serving, port):
        with contextlib.closing(connected("127.0.0.1", port)) as sock:
            for turn in range(5):
                requests = [
                    dns.write_query(1000 + turn * 100 + number, name, RRType.A)
                    for number, name in enumerate([WEB, DB, NOPE, WEB.upper(), DB] * 6)
                ]
                mixed = [each for pair in zip(requests, odd * 6, strict=True) for each in pair]
                replies = await exchange(sock, mixed, len(requests) + 6)
                answers = {reply[:2]: reply for reply in replies if reply[:2] != b"\0\x09"}
                assert len(answers) == len(requests)
                for request in requests:
                    parsed = dnslib.DNSRecord.parse(answers[request[:2]])
                    assert answers[request[:2]][12 : len(request)] == request[12:]
                    wanted = {WEB: (0, 1), DB: (0, 3), NOPE: (3, 0)}[request[12:-4].lower()]
                    assert (parsed.header.rcode, len(parsed.rr)) == wanted
        assert serving.statistics().received == 5 * 60
        assert serving.statistics().send_errors == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.9.8.7"])
async def test_a_wildcard_socket_answers_from_the_address_that_was_asked(host: str) -> None:
    async with listener("0.0.0.0") as (_, port):
        with contextlib.closing(connected(host, port)) as sock:
            requests = [dns.write_query(number, WEB, RRType.A) for number in range(100)]
            assert len(await exchange(sock, requests, 100)) == 100


async def test_an_ipv6_wildcard_is_ipv6_only_and_answers_from_the_address_asked() -> None:
    try:
        serving = listener("::")
        async with serving as (_, port):
            with contextlib.closing(connected("::1", port)) as sock:
                assert len(await exchange(sock, [dns.write_query(1, WEB, 1)] * 3, 3)) == 3
            with contextlib.closing(udp.bind("127.0.0.1", port)):
                pass  # the port is free for IPv4
    except OSError as error:
        if error.errno in (97, 99):
            pytest.skip(f"no IPv6 here: {error.strerror}")
        raise


async def test_a_long_datagram_is_malformed_and_its_neighbours_are_answered() -> None:
    async with listener() as (_, port):
        with contextlib.closing(connected("127.0.0.1", port)) as sock:
            query = dns.write_query(1, WEB, RRType.A)
            replies = await exchange(sock, [query, query + bytes(9000), query], 3)
            assert sorted(reply[3] & 15 for reply in replies) == [0, 0, 1]


async def test_datagrams_dropped_by_the_kernel_are_counted() -> None:
    async with listener() as (serving, port):
        with contextlib.closing(connected("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            for _ in range(200_000):  # the loop does not turn meanwhile, so nobody reads
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                    sock.send(b"x" * 60)
                if serving.statistics().kernel_drops:
                    break
            assert serving.statistics().kernel_drops > 0


def test_a_port_is_never_shared() -> None:
    with contextlib.closing(udp.bind("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(OSError, match="in use"):
                udp.bind(host, port)


async def test_replies_that_cannot_be_sent_are_counted_and_others_go_out() -> None:
    async with listener() as (serving, port):
        try:
            forged = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        except PermissionError:
            pytest.skip("forging source port 0 takes a raw socket, which takes root")
        query = dns.write_query(1, WEB, RRType.A)
        header = (0).to_bytes(2, "big") + port.to_bytes(2, "big")
        datagram = header + (8 + len(query)).to_bytes(2, "big") + b"\0\0" + query
        with contextlib.closing(forged), contextlib.closing(connected("127.0.0.1", port)) as sock:
            for _ in range(3):
                forged.sendto(datagram, ("127.0.0.1", 0))
                assert len(await exchange(sock, [query], 1)) == 1
        assert serving.statistics().send_errors == 3
