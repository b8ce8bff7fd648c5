"""One question and what becomes of it: upstreams are scripted, the clock is the test's."""

import errno
import logging
from collections.abc import Callable, Iterator

import pytest

from mcsdns.dns import name as names
from mcsdns.forward import cache
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.forwarder import Settings
from mcsdns.forward.health import Policy
from mcsdns.forward.health import Statistics as HealthStatistics
from mcsdns.forward.pending import TICK_S
from mcsdns.forward.udp_pool import UdpPoolSettings
from tests.forward.scripted import (
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    TXT,
    Asker,
    Clock,
    ScriptedNetwork,
    ScriptedStream,
    ScriptedUdp,
    addresses,
    answer,
    ask,
    error_text,
    errors,
    forwarder_of,
    rcode,
    request,
)

FIRST, SECOND, THIRD = (Address(Protocol.UDP, f"192.0.2.{last}", 53) for last in (1, 2, 3))
SEQUENTIAL = Settings(policy=Policy.SEQUENTIAL)
NO_CACHE = Settings(policy=Policy.SEQUENTIAL, cache=cache.Settings(max_entries=0))


class World:
    """A forwarder whose upstreams say what they are told to."""

    def __init__(self, *upstreams: Address, settings: Settings = SEQUENTIAL) -> None:
        self.clock = Clock()
        self.network = ScriptedNetwork(self.clock)
        self.forwarder = forwarder_of(upstreams, settings=settings, network=self.network)
        self.addresses = list(upstreams)

    def udp(self, at: int = 0) -> ScriptedUdp:
        return self.network.udp[self.addresses[at]]

    def tcp(self, at: int = 0) -> ScriptedStream:
        return self.network.streams[self.addresses[at]]

    def health(self, at: int = 0) -> HealthStatistics:
        return self.forwarder.statistics().upstreams[at].health

    def replace(self, *upstreams: Address) -> None:
        self.addresses = list(dict.fromkeys(upstreams))
        self.forwarder.replace(names.ROOT, upstreams, self.clock.now_s)

    def ask(self, message: bytes | str = "www.example", *, tcp: bool = False) -> Asker:
        message = request(message) if isinstance(message, str) else message
        return ask(self.forwarder, message, tcp=tcp, now_s=self.clock.now_s)

    def pass_s(self, seconds: float) -> None:
        """Let time pass, in ticks."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.clock.now_s = min(self.clock.now_s + 0.01, end_s)
            self.forwarder.expire(self.clock.now_s)

    def bring_down(self, at: int = 0) -> None:
        for number in range(3):
            self.ask(f"down{number}.example")
            self.udp(at).fail()
            self.udp(at).fail()

    @property
    def pending(self) -> int:
        return self.forwarder.statistics().pending


Make = Callable[..., World]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[World] = []

    def made_of(*upstreams: Address, settings: Settings = SEQUENTIAL) -> World:
        made.append(World(*upstreams, settings=settings))
        return made[-1]

    yield made_of
    for world in made:
        world.forwarder.close()
        assert not world.pending


def test_a_reply_comes_back_and_is_kept(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    assert not asker.replies
    assert world.udp().answer()
    assert addresses(asker) == ["10.0.0.1"]
    assert addresses(world.ask("WWW.example")) == ["10.0.0.1"]
    assert len(world.udp().sent) == 1


def test_identical_questions_in_flight_share_one(make: Make) -> None:
    world = make(FIRST)
    askers = [world.ask(), world.ask("wWw.example"), world.ask(request("www.example", edns=False))]
    assert len(world.udp().sent) == 1
    world.udp().answer()
    assert [addresses(asker) for asker in askers] == [["10.0.0.1"]] * 3
    assert [str(asker.reply.q.qname) for asker in askers][:2] == ["www.example.", "wWw.example."]
    assert world.forwarder.statistics().joined == 2
    world.udp().answer()
    assert [len(asker.replies) for asker in askers] == [1, 1, 1]


@pytest.mark.parametrize(
    "other",
    [
        request("www.example", do=True),
        request("www.example", cd=True),
        request("www.example", rd=False),
        request("www.example", TXT),
    ],
    ids=["DO", "CD", "no RD", "type"],
)
def test_questions_that_may_have_other_replies_do_not_share(make: Make, other: bytes) -> None:
    world = make(FIRST)
    askers = world.ask(), world.ask(other)
    assert len(world.udp().sent) == 2
    world.udp().answer(0)
    assert (len(askers[0].replies), len(askers[1].replies)) == (1, 0)
    world.udp().answer(1, rcode=REFUSED)
    assert rcode(askers[1]) == "REFUSED"
    assert rcode(world.ask()) == "NOERROR"


def test_ad_is_for_who_understands_it_whoever_asked_first(make: Make) -> None:
    world = make(FIRST)
    without, with_ad = world.ask(), world.ask(request("www.example", ad=True))
    assert len(world.udp().sent) == 1
    assert world.udp().requests[0][3] & 0x20
    world.udp().answer(ad=True)
    assert (without.reply.header.ad, with_ad.reply.header.ad) == (0, 1)


def test_a_silent_upstream_is_followed_by_the_next(make: Make) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.pass_s(0.19)
    assert not world.udp(1).sent
    world.pass_s(0.04)
    world.udp(1).answer()
    assert addresses(asker) == ["10.0.0.1"]
    assert not world.udp(0).awaited
    assert not world.pending


def test_a_late_reply_of_an_earlier_try_is_taken(make: Make) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.pass_s(0.25)
    world.udp(0).answer()
    assert addresses(asker) == ["10.0.0.1"]
    assert not world.udp(1).awaited
    world.udp(1).answer()
    assert len(asker.replies) == 1


def test_silence_ends_in_servfail_within_1_8_s(make: Make) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.pass_s(1.7)
    assert not asker.replies
    world.pass_s(0.1)
    assert (rcode(asker), errors(asker)) == ("SERVFAIL", [22])
    assert not world.pending


def test_where_all_is_answered_there_is_no_deadline(make: Make) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.pass_s(0.25)
    world.udp(1).answer()
    assert asker.replies
    assert world.forwarder.next_deadline() is not None
    world.pass_s(40)  # sockets are renewed after 30 s
    assert world.forwarder.next_deadline() is None


def test_a_failure_is_kept_for_five_seconds_only(make: Make) -> None:
    world = make(FIRST)
    world.ask()
    world.pass_s(1.8)
    sent = len(world.udp().sent)
    assert (rcode(again := world.ask()), errors(again)) == ("SERVFAIL", [22, 13])
    world.clock.now_s += 5
    asker = world.ask()
    assert len(world.udp().sent) > sent
    world.udp().answer()
    assert rcode(asker) == "NOERROR"


def test_a_refused_connection_is_told_at_once(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    world.udp().fail()
    assert not asker.replies
    world.udp().fail()
    assert (rcode(asker), errors(asker)) == ("SERVFAIL", [23])


def test_where_there_is_no_way_the_query_fails_but_not_within_the_call(make: Make) -> None:
    world = make(FIRST)
    world.network.fault = OSError(errno.ENETUNREACH, "Network is unreachable")
    asker = world.ask()
    assert not asker.replies
    assert world.forwarder.next_deadline() == pytest.approx(world.clock.now_s, abs=TICK_S)
    for _ in range(2):
        world.forwarder.expire(world.clock.now_s)
    assert (rcode(asker), errors(asker)) == ("SERVFAIL", [23])
    world.network.fault = None
    other = world.ask("other.example")
    world.udp().answer()
    assert rcode(other) == "NOERROR"


def test_who_may_still_answer_is_waited_for(make: Make) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.pass_s(0.25)
    for _ in range(2):
        world.udp(1).fail()
        world.pass_s(0.6)
    assert not asker.replies
    world.udp(0).answer(0)
    assert rcode(asker) == "NOERROR"


def test_what_was_true_a_while_ago_comes_where_nobody_answers(make: Make) -> None:
    world = make(FIRST)
    world.ask()
    world.udp().answer(ttl=5)
    world.clock.now_s += 10
    asker = world.ask()
    world.pass_s(1.8)
    assert (addresses(asker), errors(asker)) == (["10.0.0.1"], [3])


def test_while_all_are_down_what_is_stale_comes_at_once(make: Make) -> None:
    world = make(FIRST)
    world.ask()
    world.udp().answer(ttl=5)
    world.clock.now_s += 10
    world.bring_down()
    sent = len(world.udp().sent)
    asker = world.ask()
    assert (addresses(asker), errors(asker)) == (["10.0.0.1"], [3])
    assert len(world.udp().sent) == sent + 1
    world.udp().answer(rdatas=[b"\x0a\0\0\2"])
    assert addresses(world.ask()) == ["10.0.0.2"]


def test_stale_is_better_than_an_upstreams_servfail(make: Make) -> None:
    world = make(FIRST)
    world.ask()
    world.udp().answer(ttl=5)
    world.clock.now_s += 10
    asker = world.ask()
    world.udp().answer(rdatas=(), rcode=SERVFAIL)
    assert (addresses(asker), errors(asker)) == (["10.0.0.1"], [3])


def test_servfail_of_the_only_upstream_comes_through(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    world.udp().answer(rdatas=(), rcode=SERVFAIL, ede=6)
    assert (rcode(asker), errors(asker)) == ("SERVFAIL", [6])


@pytest.mark.parametrize("poor", [SERVFAIL, REFUSED])
def test_another_upstream_may_know_better(make: Make, poor: int) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.udp(0).answer(rdatas=(), rcode=poor)
    world.udp(1).answer()
    assert rcode(asker) == "NOERROR"


@pytest.mark.parametrize("poor", [SERVFAIL, REFUSED])
def test_what_all_upstreams_say_comes_through_at_once(make: Make, poor: int) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.udp(0).answer(rdatas=(), rcode=poor)
    world.udp(1).answer(rdatas=(), rcode=poor)
    assert rcode(asker) == poor.name  # type: ignore[attr-defined]
    assert not world.pending


def test_nobody_that_is_down_is_asked_for_a_second_opinion(make: Make) -> None:
    world = make(FIRST, SECOND)
    for number in range(3):
        world.ask(f"{number}.example")
        world.udp(0).fail()
        world.udp(1).answer()
    asker = world.ask()
    world.udp(1).answer(rdatas=(), rcode=SERVFAIL)
    assert rcode(asker) == "SERVFAIL"


def test_a_cut_reply_is_asked_for_over_tcp(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    world.udp().answer(rdatas=(), tc=True)
    assert not asker.replies
    world.tcp().answer()
    assert (addresses(asker), asker.reply.header.tc) == (["10.0.0.1"], 0)


def test_where_tcp_fails_clients_get_the_cut_reply(make: Make) -> None:
    world = make(FIRST)
    over_udp, over_tcp = world.ask(), world.ask(tcp=True)
    for _ in range(2):
        world.udp().answer(tc=True)
        world.tcp().fail()
    assert (addresses(over_udp), over_udp.reply.header.tc) == (["10.0.0.1"], 1)
    assert (rcode(over_tcp), errors(over_tcp)) == ("SERVFAIL", [23])


def test_failing_tcp_says_nothing_of_udp(make: Make) -> None:
    world = make(FIRST)
    for number in range(5):
        world.ask(f"{number}.example")
    for number in range(5):
        world.udp().answer(number, tc=True)
    world.clock.now_s += 1
    for number in range(5):
        world.tcp().fail(number)
    assert not world.health().is_down


def forged(world: World, name: str = "www.example") -> None:
    """A reply arrives with an ID that was never sent."""
    world.udp().say_wrong(answer(request(name), [b"\x0a\6\6\6"]), 0)


def test_after_two_wrong_replies_a_question_goes_over_tcp_alone(make: Make) -> None:
    world = make(FIRST)
    askers = [world.ask(), world.ask(request("www.example", cd=True))]
    forged(world)
    assert not world.tcp().sent
    forged(world, "WWW.eXample")
    assert len(world.tcp().sent) == 2
    assert not world.udp().answer(0)  # right, but too late
    world.pass_s(1)
    assert asked(world) == 2
    for at in (0, 1):
        world.tcp().answer(at)
    assert [addresses(asker) for asker in askers] == [["10.0.0.1"]] * 2
    statistics = world.forwarder.statistics()
    assert (statistics.forged, statistics.forged_failed) == (2, 0)


def test_forged_replies_where_there_is_no_tcp_end_in_servfail(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(FIRST, SECOND)
    for name in ("www.example", "other.example"):
        asker = world.ask(name)
        for _ in range(2):
            world.udp(0).say_wrong(answer(request(name)))
        for at in (0, 1, 0, 1):
            world.tcp(at).fail()
        assert (rcode(asker), errors(asker)) == ("SERVFAIL", [0])
        assert "forges" in error_text(asker)
        assert errors(world.ask(name)) == [0, 13]
    assert world.forwarder.statistics().forged_failed == 2
    assert not world.udp(1).sent
    (line,) = [each.message for each in caplog.records if "forges" in each.message]
    assert line.startswith("www.example.: replies came")


def test_no_reply_that_came_before_the_wrong_ones_is_taken(make: Make) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.udp(0).answer(rdatas=(), tc=True)
    for _ in range(2):
        forged(world)
    assert len(world.tcp(0).sent) == 1  # which is in flight already
    for _ in range(3):
        world.pass_s(0.6)
    assert (rcode(asker), errors(asker)) == ("SERVFAIL", [0])


def test_wrong_replies_count_for_what_they_repeat_alone(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    for _ in range(5):
        forged(world, "other.example")
        world.udp().say_wrong(answer(request("www.example", TXT)))
        world.udp().say_wrong(request("www.example"))  # no reply
        world.udp().say_wrong(b"\0\0\x81\x80" + b"\xff" * 20)
        world.udp().say_wrong(b"\0\0\x81\x80" + bytes(8) + b"\1a" * 200)
    other = world.ask(request("www.example", TXT))
    forged(world)
    assert not world.tcp().sent
    world.udp().answer(0)
    assert addresses(asker) == ["10.0.0.1"]
    assert not other.replies


def test_a_port_that_is_closed_under_a_flood_costs_no_question(make: Make) -> None:
    ports = UdpPoolSettings(sockets=1, most_wrong=3)
    settings = Settings(policy=Policy.SEQUENTIAL, ports=ports)
    world = make(FIRST, settings=settings)
    asker = world.ask()
    for number in range(5):
        at = len(world.udp().sent) - 1
        for _ in range(3):
            world.udp().say_wrong(answer(request(f"{number}.other")), at)
    assert not world.health().is_down
    last = max(at for at, message in enumerate(world.udp().requests) if b"www" in message)
    world.udp().answer(last)
    assert addresses(asker) == ["10.0.0.1"]


def test_replies_to_what_was_asked_before_are_not_wrong(make: Make) -> None:
    world = make(FIRST, settings=NO_CACHE)
    world.ask()
    world.udp().answer()
    asker = world.ask()
    for _ in range(5):
        world.udp().answer(0)
    assert not world.tcp().sent
    world.udp().answer(1)
    assert asker.replies


def test_past_the_limit_of_questions_the_answer_comes_at_once(make: Make) -> None:
    world = make(FIRST, settings=Settings(max_pending=10))
    waiting = [world.ask(f"{number}.example") for number in range(10)]
    refused = world.ask("10.example")
    assert (rcode(refused), errors(refused)) == ("SERVFAIL", [0])
    assert "too many" in error_text(refused)
    assert world.ask("3.example").detached
    world.udp().answer(0)
    assert waiting[0].replies
    assert world.ask("10.example").detached
    assert world.forwarder.statistics().refused == 1


def test_a_refresh_is_bound_by_the_limit_too(make: Make) -> None:
    world = make(FIRST, settings=Settings(max_pending=1))
    world.ask()
    world.udp().answer(ttl=10)
    world.ask("other.example")
    for _ in range(9):
        world.clock.now_s += 1
        assert rcode(world.ask()) == "NOERROR"
    assert world.pending == 1


def test_what_is_popular_is_asked_again_before_it_ends(make: Make) -> None:
    world = make(FIRST)
    world.ask()
    world.udp().answer(ttl=10)
    for _ in range(9):
        world.clock.now_s += 1
        assert addresses(world.ask()) == ["10.0.0.1"]
    assert len(world.udp().sent) == 2
    joined = world.ask("www.example")
    assert len(joined.replies) == 1
    world.udp().answer(rdatas=[b"\x0a\0\0\2"], ttl=10)
    assert addresses(world.ask()) == ["10.0.0.2"]
    assert len(joined.replies) == 1


def test_past_the_limit_of_waiters_the_answer_comes_at_once(make: Make) -> None:
    world = make(FIRST, settings=Settings(max_waiters=5))
    waiting = [world.ask() for _ in range(5)]
    assert errors(world.ask()) == [0]
    world.udp().answer()
    assert [len(asker.replies) for asker in waiting] == [1] * 5


def test_many_clients_of_a_large_reply_are_sent_it_in_several_turns(make: Make) -> None:
    world = make(FIRST)
    many = [world.ask(tcp=True) for _ in range(50)]
    world.udp().answer(rdatas=[number.to_bytes(4, "big") for number in range(4000)])
    world.ask("another.example", tcp=True)
    world.udp().answer()

    def replies() -> int:
        return sum(len(each.replies) for each in many)

    before = 0
    while (now := replies()) < 50:
        assert 0 < now - before <= 10
        before = now
        assert world.forwarder.statistics().waiting == 51 - now
        assert world.forwarder.next_deadline() == float("-inf")
        world.forwarder.expire(world.clock.now_s)
    world.forwarder.expire(world.clock.now_s)
    assert world.forwarder.statistics().waiting == 0
    assert [len(each.replies) for each in many] == [1] * 50


def test_an_upstream_that_is_down_is_probed_until_it_answers(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(FIRST, SECOND)
    for number in range(3):
        world.ask(f"{number}.example")
        world.udp(0).fail()
        world.udp(1).answer()
    assert world.health(0).is_down
    asked = len(world.udp(0).sent)
    world.ask()
    assert len(world.udp(0).sent) == asked
    world.pass_s(60)
    probes = len(world.udp(0).sent) - asked
    assert 5 <= probes <= 12
    assert world.udp(0).requests[-1][12:17] == b"\0\0\2\0\1"
    while not world.udp(0).awaited:
        world.pass_s(0.1)
    asked = len(world.udp(0).sent)
    world.udp(0).answer(rdatas=(), rcode=REFUSED)
    assert not world.health(0).is_down
    world.pass_s(60)
    assert len(world.udp(0).sent) == asked
    told = [record.message for record in caplog.records if "192.0.2.1" in record.message]
    assert [text.split(":53 ")[1] for text in told] == [
        "is left alone until it answers: Connection refused",
        "answers again",
    ]


def test_when_all_are_down_all_are_tried(make: Make) -> None:
    world = make(FIRST, SECOND, settings=NO_CACHE)
    for number in range(4):
        world.ask(f"{number}.example")
        for _ in range(2):
            world.udp(0).fail()
            world.udp(1).fail()
    assert all(world.health(at).is_down for at in range(2))
    asker = world.ask()
    world.udp(0).fail()
    world.udp(1).answer()
    assert rcode(asker) == "NOERROR"


def test_who_answered_just_now_is_not_down(make: Make) -> None:
    world = make(FIRST)
    for number in range(20):
        world.ask(f"{number}.example")
    world.udp().answer(0)
    for at in range(1, 20):
        world.udp().fail(at)
    assert not world.health().is_down


def test_coming_and_going_is_not_logged_each_time(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(FIRST, settings=NO_CACHE)
    for _ in range(20):
        world.bring_down()
        world.ask()
        world.udp().answer()
        world.clock.now_s += 0.5
    assert len(caplog.records) == 2


def test_replaced_upstreams_are_asked_anew(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    old = world.udp()
    world.replace(SECOND, SECOND)
    assert not old.sockets
    assert len(world.forwarder.statistics().upstreams) == 1
    world.udp().answer()
    old.answer()
    assert len(asker.replies) == 1


def test_an_upstream_that_stays_keeps_what_is_in_flight(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    kept = world.udp()
    world.replace(SECOND, FIRST)
    assert kept.sockets
    assert world.udp(1) is kept
    kept.fail()
    assert not asker.replies
    world.udp(0).answer()
    assert rcode(asker) == "NOERROR"


def test_where_no_upstream_is_left_all_are_told(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    world.replace()
    assert (rcode(asker), errors(asker)) == ("SERVFAIL", [23])
    later = world.ask("other.example")
    assert (rcode(later), error_text(later)) == ("SERVFAIL", "no upstream is known")


def test_closing_leaves_nothing_in_flight(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    udp = world.udp()
    world.forwarder.close()
    assert not udp.sockets
    udp.fail()
    udp.answer()
    assert not asker.replies
    assert world.forwarder.next_deadline() is None
    assert rcode(world.ask("other.example")) == "SERVFAIL"


def test_garbage_leaves_a_question_awaited(make: Make) -> None:
    world = make(FIRST)
    asker = world.ask()
    assert not world.udp().say(b"\0" * 40)
    assert not world.udp().say(answer(request("www.other")))
    assert world.udp().answer()
    assert rcode(asker) == "NOERROR"


def test_one_in_fifty_measures_another_upstream_beside(make: Make) -> None:
    world = make(FIRST, SECOND, settings=Settings())
    for at in range(2):  # one that was never asked is asked first
        world.ask(f"measured{at}.example")
        world.clock.now_s += 0.001 * (1 + at)
        world.udp(at).answer()
    for number in range(200):
        asker = world.ask(f"{number}.example")
        world.udp(0).answer()
        assert asker.replies
    assert len(world.udp(1).sent) == 1 + 4
    world.udp(1).answer()
    assert world.health(1).rtt_s != 0.002


def test_denials_come_through_without_a_second_opinion(make: Make) -> None:
    world = make(FIRST, SECOND)
    asker = world.ask()
    world.udp(0).answer(rdatas=(), rcode=NXDOMAIN)
    assert rcode(asker) == "NXDOMAIN"
    assert not world.udp(1).sent


def test_no_line_is_logged_per_question(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = make(FIRST, settings=NO_CACHE)
    for number in range(100):
        world.ask(f"{number}.example")
        world.udp().fail()
        world.udp().fail()
    assert len(caplog.records) == 1


def asked(world: World) -> int:
    """How often the upstream was asked what clients wait for."""
    return sum(b"loop-check" not in message for message in world.udp().requests)


def test_a_full_house_of_silent_tries_is_looked_at_by_and_by(make: Make) -> None:
    world = make(FIRST)
    for number in range(300):
        world.ask(f"{number}.example")
    world.clock.now_s += 0.25
    world.forwarder.expire(world.clock.now_s)
    assert 364 <= asked(world) <= 365  # one asks whether it answers at all
    for _ in range(5):
        world.forwarder.expire(world.clock.now_s)
    assert 600 <= asked(world) <= 601
    world.clock.now_s += 2
    for _ in range(20):
        world.forwarder.expire(world.clock.now_s)
    assert not world.pending


def test_what_is_over_holds_nothing(make: Make) -> None:
    """A try and what awaits its reply hold each other, and the collector sees neither."""
    world = make(FIRST, SECOND, settings=NO_CACHE)
    world.ask("answered.example")
    world.udp().answer()
    world.ask("refused.example")
    world.udp().fail()
    world.udp(1).answer()
    world.ask("silent.example")
    world.pass_s(3)
    sent = [attempt for at in (0, 1) for attempt, _ in world.udp(at).sent]
    tries = [attempt for attempt in sent if attempt.pending.is_done]
    assert len(tries) > 4
    assert [(each.socket, each.stream_query) for each in tries] == [(None, None)] * len(tries)
