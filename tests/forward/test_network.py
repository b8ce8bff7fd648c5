"""Queries over UDP on real sockets, to small peers on loopback."""

import asyncio
import contextlib
import errno
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from mcsdns.forward import network
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.forwarder import Forwarder, Settings
from mcsdns.forward.network import AsyncioNetwork
from mcsdns.forward.udp_pool import UdpPool, UdpPoolSettings, UdpSocket
from tests.forward.callers import QUESTION, RNG, Caller
from tests.waiting import DEADLINE_S, until

Reply = Callable[["Peer", bytes, tuple[str, int]], None]


class Peer:
    """A server in the test's loop; does with each question what the test says."""

    def __init__(self, reply: Reply, host: str = "127.0.0.1") -> None:
        self.sock = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.address = Address(Protocol.UDP, host, self.sock.getsockname()[1])
        self.questions: list[tuple[bytes, tuple[str, int]]] = []
        self._reply = reply
        asyncio.get_running_loop().add_reader(self.sock, self._read)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                message, client = self.sock.recvfrom(4096)
                self.questions.append((message, client))
                self._reply(self, message, client)

    def close(self) -> None:
        if self.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self.sock)
            self.sock.close()


def echo(peer: Peer, message: bytes, client: tuple[str, int]) -> None:
    peer.sock.sendto(message[:2] + b"\x81\x80" + message[4:], client)


def silence(peer: Peer, message: bytes, client: tuple[str, int]) -> None:
    """Say nothing."""


class World:
    """One upstream, one caller; whatever was opened is closed at the end."""

    def __init__(self) -> None:
        self.caller = Caller()
        self._open: list[Peer | UdpPool[int]] = []

    def peer(self, reply: Reply, host: str = "127.0.0.1") -> Peer:
        peer = Peer(reply, host)
        self._open.append(peer)
        return peer

    def udp_pool(
        self, peer: Peer | Address, rng: random.Random = RNG, **settings: float
    ) -> UdpPool[int]:
        address = peer.address if isinstance(peer, Peer) else peer
        self.network = AsyncioNetwork(Settings(), rng)
        upstream: UdpPool[int] = UdpPool(
            address,
            self.caller.deliver,
            self.caller.fail,
            self.caller.wrong,
            UdpPoolSettings(**settings),  # type: ignore[arg-type]
            self.network,
            rng,
        )
        self._open.append(upstream)
        return upstream

    def close(self) -> None:
        for each in reversed(self._open):
            each.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.close()


def ask(upstream: UdpPool[int], token: int) -> tuple[UdpSocket[int], bytes]:
    return upstream.send(token, QUESTION[2:], asyncio.get_running_loop().time())


def forget(handle: tuple[UdpSocket[int], bytes]) -> None:
    socket, message_id = handle
    socket.awaited[message_id] = None


async def marked(upstream: UdpPool[int], caller: Caller) -> None:
    """Wait until a question asked now is answered: whatever was sent before has arrived."""
    ask(upstream, -1)
    await until(lambda: -1 in caller.tokens)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_each_question_gets_its_own_reply(world: World, host: str) -> None:
    upstream = world.udp_pool(peer := world.peer(echo, host))
    for token in range(100):
        ask(upstream, token)
    await until(lambda: len(world.caller.replies) == 100)
    assert world.caller.tokens == list(range(100))
    assert {message[2:] for message, _ in peer.questions} == {QUESTION[2:]}
    statistics = upstream.statistics()
    assert (statistics.sent, statistics.received, statistics.dropped) == (100, 100, 0)


async def test_questions_come_from_64_ports_with_random_ids(world: World) -> None:
    upstream = world.udp_pool(peer := world.peer(echo))
    for token in range(2000):
        ask(upstream, token)
        if token % 100 == 99:
            await until(lambda: len(world.caller.replies) == token + 1)  # noqa: B023
    assert len({client for _, client in peer.questions}) == 64
    assert upstream.statistics().open == 64
    ids = [int.from_bytes(message[:2], "big") for message, _ in peer.questions]
    assert len(set(ids)) > 1900
    for bit in range(16):
        assert 700 < sum(number >> bit & 1 for number in ids) < 1300
    low, high, reserved = network.source_ports()
    assert all(low <= port <= high and port not in reserved for port in ids_ports(peer))
    assert max(ids_ports(peer)) - min(ids_ports(peer)) > (high - low) // 4


class Expiring:
    """Stands for a forwarder; notes how many replies there were when it had to expire."""

    def __init__(self, caller: Caller) -> None:
        self.deadline_s: float | None = None
        self.known = -1
        self._caller = caller

    def next_deadline(self) -> float | None:
        return self.deadline_s

    def expire(self, now_s: float) -> None:
        self.deadline_s = None
        self.known = len(self._caller.replies)


async def test_what_came_while_we_stood_still_is_read_before_anything_expires(world: World) -> None:
    def echo_and_stand_still(peer: Peer, message: bytes, client: tuple[str, int]) -> None:
        echo(peer, message, client)
        if len(peer.questions) == 50:
            forwarder.deadline_s = asyncio.get_running_loop().time()
            world.network.wake()
            time.sleep(0.2)  # nobody has a turn

    upstream = world.udp_pool(world.peer(echo_and_stand_still), sockets=1)
    forwarder = Expiring(world.caller)
    world.network.drive(cast("Forwarder", forwarder))
    for token in range(50):
        ask(upstream, token)
    await until(lambda: forwarder.known >= 0)
    assert forwarder.known == 50


def ids_ports(peer: Peer) -> set[int]:
    return {client[1] for _, client in peer.questions}


async def test_a_reply_from_another_port_never_arrives(world: World) -> None:
    def elsewhere(peer: Peer, message: bytes, client: tuple[str, int]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(message, client)
        if client in asked:
            echo(peer, message, client)
        asked.add(client)

    asked: set[tuple[str, int]] = set()
    upstream = world.udp_pool(peer := world.peer(elsewhere), sockets=1)
    ask(upstream, 1)
    await until(lambda: peer.questions)
    await marked(upstream, world.caller)
    assert world.caller.tokens == [-1]
    assert upstream.statistics().dropped == 0


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\0\0", b"x" * 5000])
async def test_garbage_is_dropped_and_the_reply_behind_it_found(
    world: World, garbage: bytes
) -> None:
    def garbled(peer: Peer, message: bytes, client: tuple[str, int]) -> None:
        wrong = bytes((message[0] ^ 1,)) + message[1:2] + garbage if garbage else b""
        peer.sock.sendto(wrong, client)
        echo(peer, message, client)

    upstream = world.udp_pool(world.peer(garbled))
    ask(upstream, 1)
    await until(lambda: world.caller.replies)
    assert upstream.statistics().wrong == 1


async def test_a_flood_is_read_in_parts_so_that_others_have_their_turn(world: World) -> None:
    def flood(peer: Peer, message: bytes, client: tuple[str, int]) -> None:
        for _ in range(100):
            peer.sock.sendto(b"\0\0" + message[2:], client)

    upstream = world.udp_pool(peer := world.peer(flood), most_wrong=1000)
    ask(upstream, 1)
    most = seen = 0
    while seen < 100:
        await asyncio.sleep(0)
        now = upstream.statistics().dropped
        most = max(most, now - seen)
        seen = now
    assert 0 < most <= 16
    assert len(peer.questions) == 1


async def test_a_closed_port_is_told_at_once(world: World) -> None:
    peer = world.peer(silence)
    peer.close()
    upstream = world.udp_pool(peer)
    ask(upstream, 1)
    await until(lambda: world.caller.failed)
    assert world.caller.failed == [(1, "Connection refused")]
    assert upstream.statistics().errors == 1


async def test_a_port_that_is_closed_fails_all_that_wait_on_its_socket(world: World) -> None:
    upstream = world.udp_pool(peer := world.peer(silence), sockets=1)
    for token in range(3):
        ask(upstream, token)
    forgotten = ask(upstream, 3)
    await until(lambda: len(peer.questions) == 4)
    forget(forgotten)
    peer.close()
    ask(upstream, 4)
    await until(lambda: len(world.caller.failed) == 4)
    assert world.caller.failed_tokens == [0, 1, 2, 4]


async def test_an_error_of_an_earlier_question_does_not_stop_the_next(world: World) -> None:
    """The kernel tells of the first question when the second is sent."""
    upstream = world.udp_pool(peer := world.peer(silence), sockets=1)
    port = peer.address.port
    peer.close()
    ask(upstream, 1)
    await asyncio.sleep(0)  # it is sent behind what this turn of the loop asks
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        ask(upstream, 2)
        assert world.caller.failed == [], "nobody is told from within send"
        await until(lambda: world.caller.failed)
        sock.settimeout(DEADLINE_S)
        message, client = sock.recvfrom(4096)
        sock.sendto(message, client)
        await until(lambda: world.caller.replies)
    assert world.caller.failed_tokens == [1]
    assert world.caller.tokens == [2]


async def test_whoever_is_told_may_ask_again_at_once(world: World) -> None:
    peer = world.peer(silence)
    peer.close()
    upstream = world.udp_pool(peer, sockets=1)
    world.caller.then = lambda: ask(upstream, 2) if len(world.caller.failed) < 50 else None
    ask(upstream, 1)
    await until(lambda: len(world.caller.failed) == 50)


async def test_where_no_socket_can_be_opened_another_serves_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = world.udp_pool(peer := world.peer(echo), sockets=2, queries=3)
    await marked(upstream, world.caller)

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(AsyncioNetwork, "open_udp", refuse)
    for token in range(50):
        ask(upstream, token)
    await until(lambda: len(world.caller.replies) == 51)
    assert len(ids_ports(peer)) == 1
    upstream.close()
    with pytest.raises(OSError, match="Too many open files"):
        ask(upstream, 99)


async def test_ports_in_use_are_passed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = world.peer(echo)
    taken = peer.address.port
    monkeypatch.setattr(network, "source_ports", lambda: (taken, taken, frozenset()))
    upstream = world.udp_pool(peer)
    await marked(upstream, world.caller)
    assert peer.questions[0][1][1] != taken


def test_the_ports_of_the_system_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "range").write_text("2000\t3000\n")
    (tmp_path / "reserved").write_text("2000,2004-2006\n")
    monkeypatch.setattr(network, "PORT_RANGE", tmp_path / "range")
    monkeypatch.setattr(network, "RESERVED_PORTS", tmp_path / "reserved")
    assert network.source_ports() == (2000, 3000, frozenset({2000, 2004, 2005, 2006}))
    (tmp_path / "reserved").write_text("\n")
    assert network.source_ports() == (2000, 3000, frozenset())
    (tmp_path / "range").unlink()
    assert network.source_ports() == (32768, 60999, frozenset())


async def test_an_upstream_may_come_and_go_100_times(world: World) -> None:
    peer = world.peer(echo)
    address = peer.address
    upstream = world.udp_pool(address, sockets=4)
    peer.close()
    for round_number in range(100):
        ask(upstream, round_number)
        await until(lambda: len(world.caller.failed) == round_number + 1)  # noqa: B023
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address.host, address.port))
            sock.settimeout(DEADLINE_S)
            ask(upstream, 1000 + round_number)
            await asyncio.sleep(0)
            sock.sendto(*sock.recvfrom(4096))
            await until(lambda: len(world.caller.replies) == round_number + 1)  # noqa: B023
    assert world.caller.failed_tokens == list(range(100))
    assert world.caller.tokens == list(range(1000, 1100))
    assert upstream.statistics().open <= 4


async def test_after_close_nobody_is_told(world: World) -> None:
    peer = world.peer(silence)
    upstream = world.udp_pool(peer)
    peer.close()
    handle = ask(upstream, 1)
    upstream.close()
    forget(handle)
    await asyncio.sleep(0)
    assert world.caller.failed == []
    assert upstream.statistics().open == 0


async def test_it_may_be_closed_by_who_is_told(world: World) -> None:
    upstream = world.udp_pool(world.peer(echo), sockets=1)
    world.caller.then = upstream.close
    ask(upstream, 1)
    ask(upstream, 2)
    await until(lambda: world.caller.replies)
    assert world.caller.tokens == [1]
