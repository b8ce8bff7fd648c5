"""Instances in a circle, each the upstream of the one before: it ends, whoever asks and when.

No sockets and no time: datagrams are passed on one after the other, and the clock is the test's.
"""

from collections import deque
from collections.abc import Callable

import pytest

from mcsdns import dns
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.forwarder import Forwarder
from tests.forward.scripted import (
    Asker,
    Clock,
    ScriptedNetwork,
    error_text,
    forwarder_of,
    rcode,
    request,
    without_options,
)
from tests.forward.scripted import ask as ask_forwarder

NEXT = Address(Protocol.UDP, "192.0.2.1", 53)
MOST_PACKETS = 60
"""Of an instance, for one question: two flights of some ten tries, each with a reply, and probes.
"""


class Circle:
    """Instances; those in `strips` pass nothing on of the options of what they are sent."""

    def __init__(self, count: int, strips: frozenset[int] = frozenset()) -> None:
        self.clock = Clock()
        self.strips = strips
        self.packets = 0
        self.networks = [ScriptedNetwork(self.clock) for _ in range(count)]
        self.forwarders: list[Forwarder] = [
            forwarder_of([NEXT], network=network) for network in self.networks
        ]
        self._seen = [0] * count
        self._replies: deque[tuple[int, int, bytes]] = deque()

    def ask(self, at: int, name: str = "www.example") -> Asker:
        return ask_forwarder(self.forwarders[at], request(name), now_s=self.clock.now_s)

    def turn(self) -> None:
        """Pass on all that is under way, and what comes of it."""
        under_way = True
        while under_way:
            under_way = False
            for at, network in enumerate(self.networks):
                sent = network.udp[NEXT].requests
                while self._seen[at] < len(sent):
                    under_way = True
                    self._seen[at] += 1
                    self._arrive(at, self._seen[at] - 1, sent[self._seen[at] - 1])
            while self._replies:
                under_way = True
                at, number, reply = self._replies.popleft()
                self.networks[at].udp[NEXT].say(reply, number)

    def pass_s(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            self.clock.now_s += 0.01
            for forwarder in self.forwarders:
                forwarder.expire(self.clock.now_s)
            self.turn()

    def _arrive(self, sender: int, number: int, message: bytes) -> None:
        self.packets += 1
        at = (sender + 1) % len(self.forwarders)
        if at in self.strips:
            message = without_options(message)
        query = dns.read_query(message)
        assert query is not None
        forwarder = self.forwarders[at]
        group = forwarder.router.find(query.name, query.labels)
        assert group is not None

        def detach() -> Callable[[bytes], None]:
            return lambda reply: self._replies.append((sender, number, reply))

        reply = forwarder.ask(group, query, b"", detach, 1232, self.clock.now_s, tcp=False)
        if reply is not None:
            self._replies.append((sender, number, reply.octets))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if "loop" in each.message]


CIRCLES = [
    (2, ()),
    (2, (0,)),
    (2, (0, 1)),
    (3, ()),
    (3, (1,)),
    (3, (0, 2)),
    (3, (0, 1, 2)),
    (9, ()),
]


@pytest.mark.parametrize(("count", "strips"), CIRCLES)
@pytest.mark.parametrize("asked", ["at one", "at all, one after the other", "at all at once"])
def test_a_circle_ends_in_servfail_and_is_told(
    count: int, strips: tuple[int, ...], asked: str, caplog: pytest.LogCaptureFixture
) -> None:
    circle = Circle(count, frozenset(strips))
    askers = []
    for at in range(1 if asked == "at one" else count):
        askers.append(circle.ask(at))
        if asked != "at all at once":
            circle.turn()
    circle.turn()
    circle.pass_s(3)
    assert {rcode(asker) for asker in askers} == {"SERVFAIL"}
    assert [len(asker.replies) for asker in askers] == [1] * len(askers)
    assert circle.packets <= MOST_PACKETS * count
    assert 1 <= len(lines(caplog)) <= count
    if count <= 8:  # else no entry comes home: the line alone tells
        assert any("forwarding loop" in error_text(asker) for asker in askers)
    before = circle.packets
    circle.pass_s(20)
    assert circle.packets == before
    assert not any(forwarder.statistics().pending for forwarder in circle.forwarders)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_marked_questions_that_wait_in_a_circle_end_before_their_time(count: int) -> None:
    """As if each were asked by an mcsdns of its own."""
    circle = Circle(count)
    for at in range(count):
        mark = dns.write_opt(options=b"\xff\x98\0\x08" + bytes((at,)) * 8)
        message = dns.write_query(at, b"\3www\7example\0", 1, opt=mark)
        ask_forwarder(circle.forwarders[at], message, now_s=circle.clock.now_s)
    circle.turn()
    assert sum(forwarder.statistics().pending for forwarder in circle.forwarders) == count
    circle.pass_s(1.5)
    assert not any(forwarder.statistics().pending for forwarder in circle.forwarders)
    assert not any(forwarder.statistics().gave_up for forwarder in circle.forwarders)


@pytest.mark.parametrize("strips", [(), (1,)])
def test_the_start_finds_it(strips: tuple[int, ...], caplog: pytest.LogCaptureFixture) -> None:
    circle = Circle(3, frozenset(strips))
    for forwarder in circle.forwarders:
        forwarder.start(circle.clock.now_s)
    circle.turn()
    packets = circle.packets
    for at in range(3):
        assert "forwarding loop" in error_text(circle.ask(at))
    assert circle.packets == packets
    assert len(lines(caplog)) == 3
