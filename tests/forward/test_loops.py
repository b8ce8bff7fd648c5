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
from mcsdns.forward.loops import Loops, is_too_long, mark_of, write_mark
from tests.forward.scripted import (
    SERVFAIL,
    Asker,
    Clock,
    ScriptedNetwork,
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
from tests.waiting import until

ZONE = names.from_text("corp.example")


QUESTION = names.from_text("www.example") + b"\0\1\0\1"


def loops(seed: int = 1) -> Loops[str]:
    return Loops(random.Random(seed))


def options_of(option: bytes) -> bytes:
    """What the reader of requests finds in an OPT record."""
    return options_in(marked("a.b", option))


def test_our_own_entry_for_the_question_is_a_loop() -> None:
    ours = loops()
    mark = mark_of(options_of(write_mark(b"", ours.entry_of(QUESTION))))
    assert len(mark) == 8
    assert ours.has_passed_us(mark, QUESTION)


def test_our_entry_is_of_one_question_and_one_instance() -> None:
    entry = loops().entry_of(QUESTION)
    assert not loops().has_passed_us(entry, names.from_text("www.other") + QUESTION[-4:])
    assert not loops(2).has_passed_us(entry, QUESTION)


def test_entries_of_others_are_no_loop_and_stay_in_what_we_send() -> None:
    ours, other = loops(), loops(2)
    others = mark_of(write_mark(b"", other.entry_of(QUESTION)))
    assert not ours.has_passed_us(others, QUESTION)
    passed = mark_of(write_mark(others, ours.entry_of(QUESTION)))
    assert passed.startswith(others)
    assert ours.has_passed_us(passed, QUESTION)
    assert other.has_passed_us(passed, QUESTION)


def test_an_entry_is_found_where_it_begins_only() -> None:
    entry = loops().entry_of(QUESTION)
    assert not loops().has_passed_us(b"1234" + entry + b"1234", QUESTION)


def test_seven_others_are_carried_on_and_no_more() -> None:
    assert not is_too_long(bytes(56))
    assert is_too_long(bytes(64))


@pytest.mark.parametrize(
    ("option", "mark"),
    [
        (b"", b""),
        (b"\xff\x98\0\0", b""),
        (b"\xff\x98\0\5abcde", b""),
        (b"\xff\x99\0\x08abcdefgh", b""),
        (b"\0\x0a\0\x0c\xff\x98\0\x08abcdefgh", b""),
        (b"\0\x0a\0\x08cookie##\xff\x98\0\x08abcdefgh", b"abcdefgh"),
        (b"\xff\x98\0\5abcde\xff\x98\0\x10abcdefghabcdefgh", b"abcdefghabcdefgh"),
    ],
    ids=["none", "empty", "odd", "other", "within another", "behind another", "second"],
)
def test_a_mark_is_an_option_of_whole_entries(option: bytes, mark: bytes) -> None:
    assert mark_of(options_of(option)) == mark


def test_the_octets_of_a_mark_in_a_name_are_none() -> None:
    world = Scripted()
    name = b"\x0c\xff\x98\0\x08abcdefgh" + names.wire_from_text("www.example")
    for options in (b"", b"\0\x0a\0\x08cookie##"):
        world.ask(dns.write_query(1, name, 1, opt=dns.write_opt(1232, options=options)))
    assert len(world.sent(ALL)) == 1


def test_a_probe_is_known_by_its_name_for_a_few_seconds() -> None:
    ours = loops()
    name = ours.new_probe(ZONE, "upstream", 10.0)
    assert name.endswith(ZONE)
    assert ours.probed(name, 11.0) == "upstream"
    assert ours.probed(names.from_text("www.corp.example"), 11.0) is None
    assert loops(2).probed(name, 11.0) is None
    assert ours.probed(name, 15.0) is None
    assert not ours.probes


def test_a_name_that_leaves_no_room_is_not_probed() -> None:
    long = names.from_text(".".join(["a" * 50] * 4))
    assert loops().new_probe(long, "upstream", 0.0) is None


def test_no_number_of_probes_takes_memory_without_end() -> None:
    ours = loops()
    for _ in range(2000):
        ours.new_probe(ZONE, "upstream", 0.0)
    assert len(ours.probes) == 64


def marked(name: str, option: bytes) -> bytes:
    return dns.write_query(
        7, names.wire_from_text(name), 1, opt=dns.write_opt(1232, options=option)
    )


def options_in(message: bytes) -> bytes:
    query = dns.read_query(message)
    assert query is not None
    assert query.edns is not None
    return query.edns.options


class Scripted:
    """A forwarder whose upstreams are scripted, one for all names and one for a stub zone."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = ScriptedNetwork(self.clock)
        settings = Settings(policy=Policy.SEQUENTIAL)
        stub = {"corp.example": [CORP]}
        self.forwarder = forwarder_of([ALL], stub, settings, self.network)

    def ask(self, message: bytes) -> Asker:
        return ask(self.forwarder, message, now_s=self.clock.now_s)

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            self.clock.now_s += 0.01
            self.forwarder.expire(self.clock.now_s)

    def sent(self, upstream: Address) -> list[bytes]:
        return self.network.udp[upstream].requests


ALL, CORP = (Address(Protocol.UDP, f"192.0.2.{last}", 53) for last in (1, 2))


def test_a_loop_holds_for_its_zone_and_upstream_and_is_probed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = Scripted()
    world.forwarder.start(world.clock.now_s)
    (probe,) = world.sent(CORP)
    assert "forwarding loop" in error_text(world.ask(probe))
    assert "forwarding loop" in error_text(world.ask(request("www.corp.example")))
    assert len(world.sent(CORP)) == 1
    world.ask(request("www.example"))
    assert len(world.sent(ALL)) == 2  # its probe, and this
    world.clock.now_s += 31
    world.ask(request("www.corp.example"))
    again = world.sent(CORP)[1]
    assert b"loop-check" in again
    assert len(world.sent(CORP)) == 3
    world.ask(again)
    assert "forwarding loop" in error_text(world.ask(request("other.corp.example")))
    (line,) = [each.message for each in caplog.records if "loop" in each.message]
    assert line.startswith(
        "forwarding loop: what is sent to 192.0.2.2:53 for corp.example. comes back to us; take"
    )
    assert world.forwarder.statistics().looped == 5


def test_whoever_changes_the_upstreams_has_them_probed_again() -> None:
    world = Scripted()
    world.forwarder.replace(ZONE, [ALL], world.clock.now_s)
    assert not world.sent(ALL)  # the start does it
    world.forwarder.start(world.clock.now_s)
    world.forwarder.replace(ZONE, [ALL, CORP], world.clock.now_s)
    (probe,) = world.sent(CORP)
    assert b"loop-check" in probe
    assert "forwarding loop" in error_text(world.ask(probe))


def test_marks_of_clients_make_one_flight_whatever_stands_in_them() -> None:
    world = Scripted()
    askers = [world.ask(request("www.example"))]
    for number in range(100):
        option = write_mark(b"x" * 8 * (number % 7), number.to_bytes(8, "big"))
        askers.append(world.ask(marked("www.example", option)))
    assert len(world.sent(ALL)) == 2
    assert world.forwarder.statistics().pending == 2
    for at in (0, 1):
        world.network.udp[ALL].answer(at)
    assert {rcode(asker) for asker in askers} == {"NOERROR"}


def test_what_fails_in_a_marked_flight_is_for_its_own_alone() -> None:
    world = Scripted()
    option = write_mark(b"", b"somebody")
    theirs = world.ask(marked("www.example", option))
    ours = world.ask(request("www.example"))
    world.network.udp[ALL].answer(0, rdatas=(), rcode=SERVFAIL)
    assert rcode(theirs) == "SERVFAIL"
    assert not ours.replies
    world.ask(marked("www.example", option))
    assert len(world.sent(ALL)) == 3  # not from the cache
    world.network.udp[ALL].answer(1)
    assert rcode(ours) == "NOERROR"


def test_what_is_stale_in_a_marked_flight_is_fresh_for_others() -> None:
    world = Scripted()
    world.ask(request("www.example"))
    world.network.udp[ALL].answer(ttl=5)
    world.clock.now_s += 10
    theirs = world.ask(marked("www.example", write_mark(b"", b"somebody")))
    world.network.udp[ALL].answer(rdatas=(), rcode=SERVFAIL)
    assert addresses(theirs) == ["10.0.0.1"]
    assert world.ask(request("www.example")).detached


def test_a_flight_carries_the_longest_mark_of_those_who_wait() -> None:
    world = Scripted()
    for others in (b"first###", b"second##another#", b"third###"):
        world.ask(marked("www.example", write_mark(others[:-8], others[-8:])))
    world.clock.now_s += 0.25
    world.forwarder.expire(world.clock.now_s)
    marks = [mark_of(options_in(message)) for message in world.sent(ALL)]
    assert [mark[:-8] for mark in marks] == [b"first###", b"second##another#"]


def test_a_question_that_comes_back_without_its_mark_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = Scripted()
    client = world.ask(request("www.example"))
    world.pass_s(0.7)
    (probe,) = [each for each in world.sent(ALL) if b"loop-check" in each]
    assert names.from_text("www.example") in probe
    world.ask(without_options(probe))
    assert "forwarding loop" in error_text(client)
    assert "forwarding loop" in error_text(world.ask(request("www.example")))  # from the cache
    assert world.ask(request("other.example")).detached
    assert names.from_text("www.example") not in world.sent(ALL)[-2]  # a probe of all
    world.ask(without_options(world.sent(ALL)[-2]))
    assert "forwarding loop" in error_text(world.ask(request("third.example")))
    (line,) = [each.message for each in caplog.records if "loop" in each.message]
    assert "the question for www.example. was sent upstream and came back" in line


def test_an_upstream_that_is_silent_is_probed_once_a_second() -> None:
    world = Scripted()
    for number in range(100):
        world.ask(request(f"{number}.example"))
    world.pass_s(1.7)
    assert 1 <= sum(b"loop-check" in each for each in world.sent(ALL)) <= 3


def test_an_upstream_that_stops_answering_is_probed_for_a_loop() -> None:
    world = Scripted()
    for number in range(3):
        world.ask(request(f"{number}.corp.example"))
        world.network.udp[CORP].fail()
        world.network.udp[CORP].fail()
    (probe,) = [each for each in world.sent(CORP) if b"loop-check" in each]
    assert "forwarding loop" in error_text(world.ask(probe))
    assert "forwarding loop" in error_text(world.ask(request("www.corp.example")))


def test_a_query_that_comes_back_says_so_in_the_reply_to_its_client() -> None:
    world = Scripted()
    client = world.ask(request("www.example"))
    back = world.ask(world.sent(ALL)[0])
    assert "forwarding loop" in error_text(back)
    world.network.udp[ALL].answer(rdatas=(), rcode=SERVFAIL)
    assert "forwarding loop" in error_text(client)


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
        self.forwarder = forwarder_of(upstreams, settings=settings)

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
                group = self.forwarder.router.find(query.name, query.labels)
                assert group is not None
                answered = self.forwarder.ask(
                    group, query, b"", self.detach, 1232, time.monotonic(), tcp=False
                )
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


async def test_a_zone_below_ours_through_one_that_strips_options_ends_in_time(
    opened: Opened,
) -> None:
    """It is not found, for our own zone does not loop; but nothing goes round."""
    us = front(opened)
    other = await plain(opened, us.address, "corp.example", strips=True)
    us.point_at(other.server.address)
    assert us.forwarder
    us.forwarder.start(time.monotonic())
    asker = ask(us.forwarder, request("www.corp.example"))
    await replied(asker)
    assert rcode(asker) == "SERVFAIL"
    assert us.received < 20
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
    us.forwarder.start(time.monotonic())
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
    await until(lambda: len(waiting) > 1)  # a second try
    for message, send in waiting:
        send(answer(message))
    await replied(*askers)
    assert {rcode(asker) for asker in askers} == {"NOERROR"}
    assert us.forwarder.statistics().looped == 0
    assert not caplog.records


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
