"""Which socket and which ID a query gets, and which datagrams are its reply: without sockets."""

import errno
import random
from collections.abc import Callable

import pytest

from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.udp_pool import UdpPool, UdpPoolSettings, UdpSocket
from tests.forward.callers import QUESTION, RNG, Caller

UPSTREAM = Address(Protocol.UDP, "192.0.2.1", 53)
Sent = tuple[UdpSocket[int], bytes]


class Sockets:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.open: list[UdpSocket[int]] = []
        self.ever: list[UdpSocket[int]] = []
        self.sent: list[Sent] = []
        self.most = 1000

    def open_udp(self, socket: UdpSocket[int], address: Address) -> None:
        if len(self.open) >= self.most:
            raise OSError(errno.EMFILE, "Too many open files")
        self.open.append(socket)
        self.ever.append(socket)

    def send_udp(self, socket: UdpSocket[int], datagram: bytes) -> None:
        assert socket in self.open
        self.sent.append((socket, datagram))

    def close_udp(self, socket: UdpSocket[int]) -> None:
        self.open.remove(socket)


class World:
    """A pool, its sockets, and the caller; time is the test's."""

    def __init__(self, rng: random.Random = RNG, **settings: float) -> None:
        self.sockets, self.caller = Sockets(), Caller()
        self.now_s = 1000.0
        self.pool: UdpPool[int] = UdpPool(
            UPSTREAM,
            self.caller.deliver,
            self.caller.fail,
            self.caller.wrong,
            UdpPoolSettings(**settings),  # type: ignore[arg-type]
            self.sockets,
            rng,
        )

    def ask(self, token: int) -> Sent:
        self.pool.send(token, QUESTION[2:], self.now_s)
        return self.sockets.sent[-1]

    def arrive(
        self, sent: Sent, change: Callable[[bytes], bytes] = lambda message: message
    ) -> bool:
        """Let a datagram arrive where a query left; by default it is that query's reply."""
        socket, message = sent
        return self.pool.receive(socket, change(message), self.now_s)


def with_id(distance: int) -> Callable[[bytes], bytes]:
    """Guess an ID that is so far from the right one."""

    def changed(message: bytes) -> bytes:
        right = int.from_bytes(message[:2], "big")
        return (right + distance & 0xFFFF).to_bytes(2, "big") + message[2:]

    return changed


def forget(sent: Sent) -> None:
    socket, message = sent
    socket.awaited[message[:2]] = None


def test_sockets_are_opened_when_they_are_needed() -> None:
    world = World()
    assert world.pool.statistics().open == 0
    world.ask(1)
    assert world.pool.statistics().open == 1


def test_queries_come_from_64_sockets_with_random_ids() -> None:
    world = World()
    for token in range(2000):
        assert world.arrive(world.ask(token))
    assert len(world.sockets.ever) == 64
    ids = [int.from_bytes(message[:2], "big") for _, message in world.sockets.sent]
    assert len(set(ids)) > 1900
    for bit in range(16):
        assert 700 < sum(number >> bit & 1 for number in ids) < 1300
    assert {message[2:] for _, message in world.sockets.sent} == {QUESTION[2:]}


def test_ids_of_one_socket_are_never_repeated() -> None:
    class Stuck(random.Random):
        """Gives few different octets first."""

        def randbytes(self, n: int) -> bytes:
            return b"\0\1\2" * (n // 3 + 1) if n > 2 else RNG.randbytes(n)

    world = World(Stuck(), sockets=1, queries=200)
    for token in range(100):
        world.arrive(world.ask(token))
    assert world.caller.tokens == list(range(100))
    assert len({message[:2] for _, message in world.sockets.sent}) == 100


def test_a_socket_is_renewed_after_so_many_queries() -> None:
    world = World(sockets=1, queries=10)
    for token in range(100):
        world.arrive(world.ask(token))
    assert 100 / 13 <= len(world.sockets.ever) <= 100 / 7
    world.pool.renew(0.0)
    assert world.pool.statistics().open == 1


def test_a_socket_is_renewed_after_a_time_and_idle_ones_are_closed() -> None:
    world = World(sockets=1, renew_s=30)
    world.arrive(world.ask(1))
    world.pool.renew(world.now_s + 20)
    assert world.pool.statistics().open == 1
    assert world.pool.has_open
    world.pool.renew(world.now_s + 40)
    assert world.pool.statistics().open == 0
    assert not world.pool.has_open
    world.arrive(world.ask(2))
    assert world.caller.tokens == [1, 2]
    assert len(world.sockets.ever) == 2


def test_a_renewed_socket_lives_until_nothing_is_awaited_there() -> None:
    world = World(sockets=1, renew_s=30)
    first, second = world.ask(1), world.ask(2)
    later = world.now_s + 60
    world.pool.renew(later)
    assert world.pool.statistics().open == 1
    world.arrive(second)
    assert world.caller.tokens == [2]
    world.pool.renew(later)
    assert world.pool.statistics().open == 1
    forget(first)
    world.pool.renew(later)
    assert world.pool.statistics().open == 0


def test_a_reply_counts_on_the_socket_that_asked_only() -> None:
    """RFC 5452, 9.1: the destination port must match, too."""
    world = World()
    sent, other = world.ask(1), world.ask(2)
    while other[0] is sent[0]:
        other = world.ask(3)
    assert not world.pool.receive(other[0], sent[1], world.now_s)
    assert world.caller.replies == []
    assert world.pool.statistics().wrong == 1
    assert world.caller.wrongs == [sent[1]]
    assert world.arrive(sent)
    assert world.caller.tokens == [1]


def test_silence_is_told_by_nobody() -> None:
    world = World()
    forget(world.ask(1))
    world.pool.renew(world.now_s + 100)
    assert world.caller.replies == world.caller.failed == []


def test_a_reply_after_the_query_was_forgotten_is_late() -> None:
    world = World(sockets=1)
    sent = world.ask(1)
    forget(sent)
    assert not world.arrive(sent)
    assert world.caller.replies == []
    assert world.pool.statistics().late == 1
    assert world.pool.statistics().dropped == 1
    assert not world.caller.wrongs


def test_a_second_reply_is_dropped() -> None:
    world = World(most_wrong=1)
    for token in range(50):
        sent = world.ask(token)
        assert world.arrive(sent)
        assert not world.arrive(sent)
    assert world.caller.tokens == list(range(50))
    statistics = world.pool.statistics()
    assert (statistics.received, statistics.late, statistics.abandoned) == (50, 50, 0)


def test_what_the_caller_refuses_stays_awaited() -> None:
    world = World()
    sent = world.ask(1)
    assert not world.arrive(sent, lambda message: message[:12] + b"\1x\0\0\1\0\1")
    assert world.pool.statistics().refused == 1
    assert world.arrive(sent)
    assert world.caller.tokens == [1]


@pytest.mark.parametrize("datagram", [b"", b"\0", bytes(5000)])
def test_garbage_is_wrong(datagram: bytes) -> None:
    world = World()
    sent = world.ask(1)
    garbage = bytes((sent[1][0] ^ 1,)) + sent[1][1:2] + datagram if datagram else b""
    assert not world.arrive(sent, lambda _: garbage)
    assert world.pool.statistics().wrong == 1
    assert world.arrive(sent)


def test_a_flood_of_wrong_ids_is_not_accepted_and_ends_at_a_closed_socket() -> None:
    world = World(most_wrong=32)
    sent = world.ask(1)
    reads = [world.arrive(sent, with_id(distance)) for distance in range(1, 33)]
    assert reads == [False] * 31 + [True]
    assert world.caller.replies == []
    assert "someone may be guessing" in world.caller.failed[0][1]
    statistics = world.pool.statistics()
    assert (statistics.wrong, statistics.abandoned, statistics.open) == (32, 1, 0)
    world.ask(2)
    assert len(world.sockets.ever) == 2


def test_an_error_of_a_socket_fails_what_is_awaited_there() -> None:
    world = World(sockets=1)
    sent = [world.ask(token) for token in range(4)]
    forget(sent[3])
    socket, message = sent[1]
    world.pool.fail_socket(socket, "Connection refused", world.now_s, besides=message[:2])
    assert world.caller.failed == [(0, "Connection refused"), (2, "Connection refused")]
    world.pool.fail_datagram(socket, message[:2], "No route", world.now_s)
    assert world.caller.failed[2:] == [(1, "No route")]
    assert world.pool.statistics().errors == 2


def test_where_no_socket_can_be_opened_another_serves_longer() -> None:
    world = World(sockets=2, queries=3)
    world.ask(0)
    world.sockets.most = 0
    for token in range(50):
        world.arrive(world.ask(token))
    assert len(world.sockets.ever) == 1
    world.pool.close()
    with pytest.raises(OSError, match="Too many open files"):
        world.ask(99)
    assert world.pool.statistics().open == 0
