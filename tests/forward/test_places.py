"""Who gives way when no place is free for another question."""

from collections.abc import Iterable

import pytest

from mcsdns.dns import name as names
from mcsdns.forward.forwarder import Settings
from mcsdns.forward.health import Policy
from mcsdns.forward.places import prefix_of
from tests.forward.scripted import (
    Asker,
    ask,
    error_text,
    errors,
    rcode,
    request,
)
from tests.forward.test_forwarder import FIRST, SECOND, World

GREEDY, NEIGHBOUR, MODEST = b"\x0a\1\1\1", b"\x0a\1\1\2", b"\x0a\2\2\2"
PLACES = 20


class Crowded(World):
    """A forwarder with few places, whose upstreams say nothing."""

    def __init__(self, places: int = PLACES) -> None:
        settings = Settings(policy=Policy.SEQUENTIAL, max_pending=places)
        super().__init__(FIRST, settings=settings)
        self.forwarder.replace(names.from_text("corp.example"), [SECOND], self.clock.now_s)

    def ask_as(self, client: bytes, name: str, *, tcp: bool = False) -> Asker:
        now_s = self.clock.now_s
        return ask(self.forwarder, request(name), tcp=tcp, now_s=now_s, client=client)

    def fill(self, client: bytes, zone: str, count: int = PLACES) -> list[Asker]:
        """Ask so many questions, one after the other."""
        askers = []
        for number in range(count):
            askers.append(self.ask_as(client, f"{number}.{zone}"))
            self.clock.now_s += 0.001
        return askers

    @property
    def displaced(self) -> int:
        return self.forwarder.statistics().displaced


def told(askers: Iterable[Asker]) -> list[int]:
    return [at for at, asker in enumerate(askers) if asker.replies]


@pytest.mark.parametrize(
    ("client", "prefix"),
    [
        (b"\x0a\1\2\3", b"\x0a\1\2"),
        (bytes(10) + b"\xff\xff\x0a\1\2\3", b"\x0a\1\2"),
        (bytes(range(1, 17)), bytes(range(1, 8))),
        (b"", b""),
    ],
    ids=["IPv4 /24", "IPv4-mapped", "IPv6 /56", "not known"],
)
def test_clients_of_one_prefix_are_one_holder(client: bytes, prefix: bytes) -> None:
    assert prefix_of(client) == prefix


def test_the_oldest_of_who_has_most_gives_way(caplog: pytest.LogCaptureFixture) -> None:
    world = Crowded()
    modest = world.fill(MODEST, "modest.example", 5)
    greedy = world.fill(GREEDY, "greedy.example", 15)
    world.clock.now_s += 0.2
    fresh = [world.ask_as(MODEST, f"fresh{number}.example") for number in range(5)]
    assert told(greedy) == [0, 1, 2, 3, 4]
    assert not told(modest)
    assert not told(fresh)
    assert (rcode(greedy[0]), errors(greedy[0])) == ("SERVFAIL", [0])
    assert "too many" in error_text(greedy[0])
    assert world.displaced == 5
    (line,) = [each.message for each in caplog.records if "wait for upstreams" in each.message]
    assert line.startswith("20 questions wait for upstreams, as many as may (--forward-limit)")
    assert "of clients in 10.1.1.0/24 are 15" in line


def test_what_gave_way_is_not_kept_as_a_failure() -> None:
    world = Crowded()
    world.fill(GREEDY, "greedy.example")
    world.clock.now_s += 0.2
    world.ask_as(MODEST, "www.example")
    assert world.ask_as(MODEST, "0.greedy.example").detached


def test_nobody_gives_way_while_there_is_room() -> None:
    world = Crowded()
    greedy = world.fill(GREEDY, "greedy.example", PLACES - 1)
    world.clock.now_s += 0.5
    world.ask_as(MODEST, "www.example")
    assert not told(greedy)
    assert world.displaced == 0


def test_nothing_gives_way_before_it_had_200_ms() -> None:
    world = Crowded()
    greedy = world.fill(GREEDY, "greedy.example")
    refused = world.ask_as(MODEST, "www.example")
    assert (rcode(refused), errors(refused)) == ("SERVFAIL", [0])
    assert not told(greedy)
    world.clock.now_s += 0.19
    assert world.ask_as(MODEST, "www.example").detached
    assert told(greedy) == [0]


def test_what_others_wait_for_does_not_give_way() -> None:
    world = Crowded()
    greedy = world.fill(GREEDY, "greedy.example")
    others = [world.ask_as(MODEST, f"{number}.greedy.example") for number in range(3)]
    own = [world.ask_as(NEIGHBOUR, f"{number}.greedy.example") for number in range(3, 6)]
    world.clock.now_s += 0.2
    for number in range(3):
        world.ask_as(MODEST, f"fresh{number}.example")
    assert told(greedy) == [3, 4, 5]
    assert not told(others)
    assert told(own) == [0, 1, 2]


def test_a_stub_zone_is_a_holder_whoever_asks() -> None:
    world = Crowded()
    stub = [
        world.ask_as(bytes((10, number, 0, 1)), f"{number}.corp.example")
        for number in range(PLACES - 5)
    ]
    modest = world.fill(MODEST, "modest.example", 5)
    world.clock.now_s += 0.2
    for number in range(4):
        world.ask_as(MODEST, f"fresh{number}.example")
    assert told(stub) == [0, 1, 2, 3]
    assert not told(modest)


def test_who_has_as_many_shares_the_turns() -> None:
    world = Crowded()
    first, second = world.fill(GREEDY, "a.example", 10), world.fill(MODEST, "b.example", 10)
    world.clock.now_s += 0.3
    third = [world.ask_as(b"\x0a\3\3\3", f"{number}.example") for number in range(6)]
    assert (len(told(first)), len(told(second)), len(told(third))) == (3, 3, 0)


def test_of_very_many_holders_somebody_gives_way() -> None:
    world = Crowded(1000)
    first = [
        world.ask_as(b"\x0a" + number.to_bytes(2, "big") + b"\1", f"{number}.example")
        for number in range(1000)
    ]
    world.clock.now_s += 0.3
    fresh = [world.ask_as(MODEST, f"fresh{number}.example") for number in range(20)]
    assert not told(fresh)
    assert len(told(first)) == 20


def test_what_was_answered_since_it_was_counted_does_not_give_way() -> None:
    world = Crowded(300)
    greedy = world.fill(GREEDY, "greedy.example", 300)
    world.clock.now_s += 0.2
    world.ask_as(MODEST, "first.example")
    world.udp().answer(1)
    world.ask_as(MODEST, "in-its-place.example")
    world.ask_as(MODEST, "second.example")
    assert told(greedy) == [0, 1, 2]
    assert rcode(greedy[1]) == "NOERROR"


def test_a_refresh_displaces_nobody() -> None:
    world = Crowded(1)
    world.ask_as(MODEST, "www.example")
    world.udp().answer(ttl=10)
    waiting = world.ask_as(GREEDY, "other.example")
    for _ in range(9):
        world.clock.now_s += 1
        assert rcode(world.ask_as(MODEST, "www.example")) == "NOERROR"
    assert not waiting.replies
    assert world.displaced == 0


def test_all_clients_that_wait_are_bounded() -> None:
    world = Crowded(2)
    crowd = [world.ask_as(GREEDY, "www.example") for _ in range(16)]
    assert world.forwarder.statistics().waiting == 16
    refused = world.ask_as(MODEST, "www.example")
    assert errors(refused) == [0]
    assert not told(crowd)
    world.clock.now_s += 0.3
    fresh = world.ask_as(MODEST, "other.example")
    assert fresh.detached
    assert len(told(crowd)) == 16
    world.udp().answer()
    assert rcode(fresh) == "NOERROR"
    assert world.forwarder.statistics().waiting == 0
