"""What we forward and what comes back to us: caught, and no honest question taken for a loop."""

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.forwarder import Forwarder, Settings
from mcsdns.forward.health import Policy
from mcsdns.forward.loops import Loops, zones_of, zones_to_probe
from tests.forward.callers import until
from tests.forward.scripted import (
    Server,
    addresses,
    answer,
    ask,
    error_text,
    forwarder_of,
    has_mark,
    rcode,
    replied,
    request,
    without_options,
)

UPSTREAM = Address(Protocol.UDP, "192.0.2.1", 53)
ZONE = names.from_text("corp.example")


def loops() -> Loops:
    return Loops(random.Random(1))


def marked(option: bytes) -> bytes:
    return dns.write_query(
        1, names.wire_from_text("a.b"), 1, opt=dns.write_opt(1232, options=option)
    )


def test_our_own_mark_is_a_loop() -> None:
    ours = loops()
    mark = ours.mark_of(marked(ours.option))
    assert ours.is_loop(mark)
    assert ours.is_own(mark)


def test_a_mark_of_another_is_no_loop_and_stays_in_what_we_send() -> None:
    ours, other = loops(), Loops(random.Random(2))
    mark = ours.mark_of(marked(other.option))
    assert mark
    assert not ours.is_loop(mark)
    passed = other.mark_of(marked(ours.option_after(mark)))
    assert other.is_loop(passed)
    assert ours.is_loop(passed)


def test_a_long_way_is_a_loop() -> None:
    ours = loops()
    mark = bytes(range(64))
    assert ours.is_loop(mark)
    assert not ours.is_own(mark)
    assert not ours.is_loop(mark[:56])


@pytest.mark.parametrize(
    "option", [b"", b"\xff\x98\0\0", b"\xff\x98\0\5abcde", b"\xff\x99\0\x08abcdefgh"]
)
def test_what_is_no_mark_is_none(option: bytes) -> None:
    assert loops().mark_of(marked(option)) == b""
    assert loops().mark_of(marked(b"\xff\x98\0\x08abcdefgh")[:-1]) == b""


def test_a_probe_is_known_by_its_name_for_a_few_seconds() -> None:
    ours = loops()
    name = ours.new_probe(ZONE, UPSTREAM, 10.0)
    probe = ours.probe_of(name, 11.0)
    assert probe is not None
    assert (probe.zone, probe.upstream) == (ZONE, UPSTREAM)
    assert ours.probe_of(name, 15.0) is None
    assert ours.probe_of(names.from_text("www.corp.example"), 11.0) is None
    assert Loops(random.Random(2)).probe_of(name, 11.0) is None


def test_a_loop_holds_for_its_zone_and_upstream_and_ends_by_itself() -> None:
    ours = loops()
    probe = ours.probe_of(ours.new_probe(ZONE, UPSTREAM, 0.0), 0.0)
    assert probe is not None
    assert ours.note(probe, 0.0)
    assert not ours.note(probe, 1.0)
    name = names.from_text("www.corp.example")
    assert ours.holds(UPSTREAM, name, 30.0)
    assert not ours.holds(UPSTREAM, names.from_text("www.example"), 30.0)
    assert not ours.holds(Address(Protocol.UDP, "192.0.2.2", 53), name, 30.0)
    assert not ours.holds(UPSTREAM, name, 31.0)
    assert not ours.any
    assert not ours.note(probe, 40.0)  # it was told not long ago
    assert ours.note(probe, 1000.0)


def test_no_number_of_loops_takes_memory_without_end() -> None:
    ours = loops()
    for number in range(2000):
        ours.new_probe(ZONE, UPSTREAM, 0.0)
        ours.note_return(names.from_text(f"{number}.example"), 0.0)
    assert len(ours._probes) == 64
    assert len(ours._came_back) == 256


def test_the_widest_zones_are_probed_first_but_none_wider_than_asked_for() -> None:
    name = names.from_text("a.b.corp.example")
    assert zones_of(name)[-1] == names.ROOT
    assert zones_to_probe(name, ZONE) == [ZONE, names.from_text("b.corp.example"), name]
    deep = names.from_text(".".join("x" * 60 for _ in range(4)))
    assert all(len(zone) < 200 for zone in zones_to_probe(deep, names.ROOT))


class Front:
    """A forwarder behind a socket, as mcsdns is."""

    def __init__(self, stub: str = "") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.address = Address(Protocol.UDP, "127.0.0.1", self.sock.getsockname()[1])
        self.forwarder: Forwarder | None = None
        self.received = 0
        self._client: tuple[str, int] = ("", 0)
        asyncio.get_running_loop().add_reader(self.sock, self._read)

    def point_at(self, *upstreams: Address, policy: Policy = Policy.SEQUENTIAL) -> None:
        settings = Settings(policy=policy)
        self.forwarder = forwarder_of(time.monotonic, upstreams, settings=settings)

    def detach(self) -> Callable[[bytes], None]:
        client = self._client
        return lambda message: self._send(message, client)

    def _send(self, message: bytes, client: tuple[str, int]) -> None:
        if self.sock.fileno() >= 0:
            self.sock.sendto(message, client)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                message, self._client = self.sock.recvfrom(4096)
                self.received += 1
                query = dns.read_query(message)
                assert query is not None
                assert self.forwarder is not None
                group = self.forwarder.find(query)
                assert group is not None
                answered = self.forwarder.ask(group, query, message, self, 1232, tcp=False)
                if answered is not None:
                    self._send(answered.octets, self._client)

    def close(self) -> None:
        if self.forwarder is not None:
            self.forwarder.close()
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()


class Plain:
    """A plain forwarder: sends some zone back to us, and has an answer for all else."""

    def __init__(self, back: Address, zone: str = "", *, strips: bool) -> None:
        self.server = Server()
        self.server.on_udp = self._take
        self._back, self._strips = back, strips
        self._zone = names.from_text(zone) if zone else names.ROOT
        self._socks: list[socket.socket] = []

    def _take(self, message: bytes, send: Callable[[bytes], None]) -> None:
        query = dns.read_query(message)
        assert query is not None
        if not query.name.endswith(self._zone):
            send(answer(message))
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect((self._back.host, self._back.port))
        self._socks.append(sock)
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, lambda: self._give_back(sock, message[:2], send))
        sock.send(without_options(message) if self._strips else message)

    def _give_back(
        self, sock: socket.socket, message_id: bytes, send: Callable[[bytes], None]
    ) -> None:
        with contextlib.suppress(OSError):
            send(message_id + sock.recv(4096)[2:])

    def close(self) -> None:
        self.server.stop()
        for sock in self._socks:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()


@pytest.fixture
async def opened() -> AsyncIterator[list[Front | Plain | Server]]:
    each_opened: list[Front | Plain | Server] = []
    yield each_opened
    for each in each_opened:
        each.stop() if isinstance(each, Server) else each.close()


Opened = list[Front | Plain | Server]


def front(opened: Opened) -> Front:
    opened.append(made := Front())
    return made


async def plain(opened: Opened, back: Address, zone: str = "", *, strips: bool) -> Plain:
    made = Plain(back, zone, strips=strips)
    await made.server.start()
    opened.append(made)
    return made


async def test_two_that_point_at_each_other(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = front(opened), front(opened)
    one.point_at(other.address)
    other.point_at(one.address)
    assert one.forwarder
    asker = ask(one.forwarder, request("www.example"))
    await replied(asker)
    assert rcode(asker) == "SERVFAIL"
    assert "loop" in error_text(asker)
    assert (one.received, other.received) == (1, 1)
    assert one.forwarder.statistics().looped == 1
    assert len([each for each in caplog.records if "loop" in each.message]) == 1


async def test_both_asked_at_once_do_not_wait_for_each_other(opened: Opened) -> None:
    one, other = front(opened), front(opened)
    one.point_at(other.address)
    other.point_at(one.address)
    assert one.forwarder
    assert other.forwarder
    askers = [ask(each, request("www.example")) for each in (one.forwarder, other.forwarder)]
    await replied(*askers)
    assert [rcode(asker) for asker in askers] == ["SERVFAIL"] * 2
    assert one.received <= 2
    assert one.forwarder.statistics().gave_up == 0


async def test_through_one_that_keeps_options(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    us = front(opened)
    other = await plain(opened, us.address, "corp.example", strips=False)
    us.point_at(other.server.address)
    assert us.forwarder
    askers = [ask(us.forwarder, request(f"{number}.corp.example")) for number in range(20)]
    await replied(*askers)
    assert {rcode(asker) for asker in askers} == {"SERVFAIL"}
    assert all("forwarding loop" in error_text(asker) for asker in askers)
    assert has_mark(other.server.requests[0])
    assert us.received == 20
    lines = [each.message for each in caplog.records if "loop" in each.message]
    assert len(lines) == 1
    assert "forward to mcsdns" in lines[0]
    assert "upstreams" in lines[0]
    fine = ask(us.forwarder, request("www.example"))
    await replied(fine)
    assert addresses(fine) == ["10.0.0.1"]


async def test_through_one_that_strips_options(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    us = front(opened)
    other = await plain(opened, us.address, "corp.example", strips=True)
    us.point_at(other.server.address)
    assert us.forwarder
    us.forwarder.start()
    asker = ask(us.forwarder, request("www.corp.example"))
    await replied(asker)
    assert rcode(asker) == "SERVFAIL"
    assert "forwarding loop" in error_text(asker)
    lines = [each.message for each in caplog.records if "loop" in each.message]
    assert len(lines) == 1
    assert "corp.example" in lines[0]
    assert us.received < 20
    received = us.received
    later = ask(us.forwarder, request("other.corp.example"))
    assert "forwarding loop" in error_text(later)
    assert us.received == received
    fine = ask(us.forwarder, request("www.example"))
    await replied(fine)
    assert addresses(fine) == ["10.0.0.1"]


@pytest.mark.parametrize("strips", [False, True])
async def test_one_that_sends_all_back_is_found_at_the_start(
    opened: Opened, caplog: pytest.LogCaptureFixture, strips: bool
) -> None:
    us = front(opened)
    other = await plain(opened, us.address, strips=strips)
    us.point_at(other.server.address)
    assert us.forwarder
    us.forwarder.start()
    await until(lambda: caplog.records)
    assert "what is sent to" in caplog.text
    asker = ask(us.forwarder, request("www.example"))
    assert "forwarding loop" in error_text(asker)


async def test_with_another_upstream_a_loop_costs_one_try(opened: Opened) -> None:
    us = front(opened)
    other = await plain(opened, us.address, "corp.example", strips=False)
    opened.append(good := Server())
    await good.start()
    us.point_at(other.server.address, good.address)
    assert us.forwarder
    asker = ask(us.forwarder, request("www.corp.example"))
    await replied(asker)
    assert addresses(asker) == ["10.0.0.1"]


async def test_honest_retries_are_no_loop(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    us = front(opened)
    opened.append(slow := Server())
    waiting: list[tuple[bytes, Callable[[bytes], None]]] = []
    slow.on_udp = lambda message, send: waiting.append((message, send))
    await slow.start()
    us.point_at(slow.address)
    assert us.forwarder
    askers = [ask(us.forwarder, request("www.corp.example")) for _ in range(20)]
    await until(lambda: len(waiting) > 4)  # a second try, and probes
    for message, send in waiting:
        send(answer(message))
    await replied(*askers)
    assert {rcode(asker) for asker in askers} == {"NOERROR"}
    assert us.forwarder.statistics().looped == 0
    assert not caplog.records
    assert not us.forwarder._loops.any


async def test_a_question_that_passed_others_of_our_kind_is_answered(opened: Opened) -> None:
    first, second = front(opened), front(opened)
    opened.append(server := Server())
    await server.start()
    first.point_at(second.address)
    second.point_at(server.address)
    assert first.forwarder
    askers = [ask(first.forwarder, request("www.example")) for _ in range(20)]
    await replied(*askers)
    assert {rcode(asker) for asker in askers} == {"NOERROR"}
    assert len([each for each in server.requests if b"loop-check" not in each]) == 1
