"""Upstreams, and firewalls before them, that take less than they should: scripted."""

from collections.abc import Callable

import pytest

from mcsdns.dns.types import Rcode
from mcsdns.forward.forwarder import Settings
from mcsdns.forward.health import Policy
from mcsdns.forward.quirks import MARK, NO_OPT, OPT, Quirks
from tests.forward import client_query
from tests.forward.scripted import (
    SERVFAIL,
    Asker,
    addresses,
    answer,
    errors,
    has_mark,
    has_opt,
    question_end,
    rcode,
    request,
)
from tests.forward.test_forwarder import FIRST, SECOND, World

Answer = Callable[[bytes], bytes | None]
FORMERR, NOTIMP = Rcode.FORMERR, Rcode.NOTIMP
SEQUENTIAL = Settings(policy=Policy.SEQUENTIAL)


class Quirky(World):
    """Upstreams that answer by what is in a question, over UDP; TCP says nothing."""

    def __init__(self, *answers: Answer, settings: Settings = SEQUENTIAL) -> None:
        super().__init__(*(FIRST, SECOND)[: len(answers)], settings=settings)
        self.answers = answers
        self._seen = [0] * len(answers)

    def pass_s(self, seconds: float) -> None:
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.turn()
            super().pass_s(min(0.01, end_s - self.clock.now_s))
        self.turn()

    def turn(self) -> None:
        """Answer what was sent, and what comes of it."""
        for at, answer_of in enumerate(self.answers):
            while self._seen[at] < len(self.udp(at).sent):
                self._seen[at] += 1
                message = self.udp(at).requests[self._seen[at] - 1]
                reply = answer_of(message)
                if reply is not None:
                    self.udp(at).say(reply, self._seen[at] - 1)

    def ask_and_wait(self, name: str, **more: bool) -> Asker:
        asker = self.ask(request(name, **more))
        self.pass_s(1.8)
        return asker

    def forms(self, at: int = 0) -> list[int]:
        """What each question that a client waits for had."""
        sent = [each for each in self.udp(at).requests if b"loop-check" not in each]
        return [has_opt(each) + (has_opt(each) and has_mark(each)) for each in sent]


def good(message: bytes) -> bytes:
    return answer(message, edns=has_opt(message))


def silent(message: bytes) -> None:
    """Say nothing."""


def drops_options(message: bytes) -> bytes | None:
    return None if has_opt(message) and has_mark(message) else good(message)


def drops_opt(message: bytes) -> bytes | None:
    return None if has_opt(message) else good(message)


def fails_opt(code: int, *, edns: bool = False) -> Answer:
    def answered(message: bytes) -> bytes:
        return answer(message, (), rcode=code, edns=edns) if has_opt(message) else good(message)

    return answered


def bare_formerr(message: bytes) -> bytes:
    """As a server that knows no EDNS may say it (RFC 6891, 7): without the question."""
    return message[:2] + b"\x81\x81" + bytes(8) if has_opt(message) else good(message)


ODD = {
    "drops options": drops_options,
    "drops OPT": drops_opt,
    "SERVFAIL to OPT": fails_opt(SERVFAIL),
    "FORMERR to OPT": fails_opt(FORMERR),
    "FORMERR without the question": bare_formerr,
    "NOTIMP to OPT": fails_opt(NOTIMP),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("edns", [False, True], ids=["plain client", "client with OPT"])
def test_a_name_is_answered_from_the_first_question_on(odd: Answer, edns: bool) -> None:
    world = Quirky(odd)
    for number in range(5):
        asker = world.ask_and_wait(f"n{number}.corp.example", edns=edns)
        assert addresses(asker) == ["10.0.0.1"]
    assert not world.health().is_down


@pytest.mark.parametrize("rtt_s", [0.001, 0.1, 0.18, 0.5])
def test_three_ways_to_ask_fit_into_the_time_of_a_question(rtt_s: float) -> None:
    world = Quirky(silent)
    world.ask("first.example")
    world.turn()
    world.clock.now_s += rtt_s
    world.udp().answer()
    world.answers = (drops_opt,)
    asker = world.ask_and_wait("www.example")
    assert rcode(asker) == "NOERROR"
    assert world.forms()[1:4] == [MARK, OPT, NO_OPT]


@pytest.mark.parametrize("odd", [drops_opt, fails_opt(SERVFAIL), fails_opt(FORMERR)])
def test_edns_is_left_out_after_three_zones_for_ten_minutes(odd: Answer) -> None:
    world = Quirky(odd)
    for zone in ("a.example", "b.example", "c.example"):
        world.ask_and_wait(f"www.{zone}")
    before = len(world.forms())
    assert rcode(world.ask_and_wait("www.d.example")) == "NOERROR"
    assert world.forms()[before:] == [NO_OPT]
    world.clock.now_s += 601
    before = len(world.forms())
    assert rcode(world.ask_and_wait("www.e.example")) == "NOERROR"
    assert world.forms()[before:][0] == MARK


def test_our_option_is_left_out_after_three_zones_and_edns_stays() -> None:
    world = Quirky(drops_options)
    for zone in ("a.example", "b.example", "c.example"):
        world.ask_and_wait(f"www.{zone}")
    before = len(world.forms())
    assert rcode(world.ask_and_wait("www.d.example", do=True)) == "NOERROR"
    assert world.forms()[before:] == [OPT]


@pytest.mark.parametrize("fails", [drops_opt, fails_opt(SERVFAIL), fails_opt(FORMERR)])
def test_one_bad_name_switches_edns_off_for_nobody(fails: Answer) -> None:
    def one_zone(message: bytes) -> bytes | None:
        return fails(message) if b"\3bad\7example\0" in message else good(message)

    world = Quirky(one_zone)
    for number in range(5):
        assert rcode(world.ask_and_wait(f"{number}.bad.example")) == "NOERROR"
    assert rcode(world.ask_and_wait("www.example")) == "NOERROR"
    assert world.forms()[-1] == MARK


def test_an_answer_with_edns_between_proves_that_it_is_understood() -> None:
    def some(message: bytes) -> bytes | None:
        return drops_opt(message) if b"\3bad" in message else good(message)

    world = Quirky(some)
    for zone in ("a.bad", "b.bad", "fine", "c.bad", "d.bad"):
        assert rcode(world.ask_and_wait(f"www.{zone}")) == "NOERROR"
    before = len(world.forms())
    world.ask_and_wait("www.example")
    assert world.forms()[before:] == [MARK]


@pytest.mark.parametrize(
    ("odd", "more"),
    [
        (fails_opt(SERVFAIL), {"cd": True}),
        (fails_opt(SERVFAIL), {"do": True}),
        (fails_opt(SERVFAIL, edns=True), {}),
    ],
    ids=["CD", "DO", "with an OPT"],
)
def test_servfail_that_is_meant_comes_through(odd: Answer, more: dict[str, bool]) -> None:
    world = Quirky(odd)
    assert rcode(world.ask_and_wait("www.example", **more)) == "SERVFAIL"
    assert world.forms() == [MARK]


def test_servfail_to_both_ways_comes_through() -> None:
    world = Quirky(lambda message: answer(message, (), rcode=SERVFAIL, edns=False))
    assert rcode(world.ask_and_wait("www.example")) == "SERVFAIL"
    assert world.forms() == [MARK, NO_OPT]


def test_who_wants_dnssec_is_not_asked_for_without_opt_until_it_is_known() -> None:
    world = Quirky(drops_opt)
    assert rcode(world.ask_and_wait("www.example", do=True)) == "SERVFAIL"
    for zone in ("a.example", "b.example", "c.example"):
        world.ask_and_wait(f"www.{zone}")
    world.turn()
    asker = world.ask(request("www.d.example", do=True))
    world.udp().answer(ad=True, edns=False, ttl=3600)
    assert (addresses(asker), asker.reply.header.ad) == (["10.0.0.1"], 0)
    world.clock.now_s += 31
    assert world.ask(request("www.d.example", do=True)).detached  # not kept for its TTL


def test_clients_that_all_want_dnssec_find_it_out_too() -> None:
    world = Quirky(drops_opt)
    for number in range(6):
        world.ask_and_wait(f"www.zone{number}.example", do=True)
    assert addresses(world.ask_and_wait("www.example", do=True)) == ["10.0.0.1"]
    assert not world.health().is_down


def test_silence_to_opt_alone_marks_no_upstream_down() -> None:
    world = Quirky(drops_opt, good)
    for number in range(20):
        assert rcode(world.ask_and_wait(f"www.zone{number}.example", do=True)) == "NOERROR"
        assert not world.health(0).is_down


def test_silence_to_all_does() -> None:
    world = Quirky(silent, good)
    for number in range(5):
        world.ask_and_wait(f"www.zone{number}.example", do=True)
    assert world.health(0).is_down


def test_an_upstream_that_is_down_is_probed_without_edns() -> None:
    world = Quirky(silent, good)
    for number in range(5):
        world.ask_and_wait(f"www.zone{number}.example")
    world.answers = (drops_opt, good)
    world.pass_s(60)
    assert not world.health(0).is_down


def test_where_marks_are_off_there_is_none() -> None:
    world = Quirky(good, settings=Settings(policy=Policy.SEQUENTIAL, has_mark=False))
    for number in range(3):
        assert rcode(world.ask_and_wait(f"{number}.example")) == "NOERROR"
    assert set(world.forms()) == {OPT}


def cut(message: bytes) -> bytes:
    return answer(message, tc=True)


def test_truncated_without_tcp_is_remembered() -> None:
    world = Quirky(cut)
    asker = world.ask_and_wait("tc.example")
    assert (addresses(asker), asker.reply.header.tc) == (["10.0.0.1"], 1)
    assert (len(world.udp().sent), len(world.tcp().sent)) == (1, 1)
    asker = world.ask(request("tc.example"))
    world.turn()
    assert (addresses(asker), asker.reply.header.tc) == (["10.0.0.1"], 1)
    assert (len(world.udp().sent), len(world.tcp().sent)) == (2, 1)
    world.clock.now_s += 61
    world.ask(request("tc.example"))
    world.turn()
    assert (len(world.udp().sent), len(world.tcp().sent)) == (3, 2)


def test_without_tcp_clients_on_tcp_wait_and_those_on_udp_do_not() -> None:
    world = Quirky(cut)
    world.ask_and_wait("tc.example")
    over_tcp, over_udp = world.ask(tcp=True), world.ask()
    world.turn()
    assert over_udp.reply.header.tc == 1
    assert world.ask().reply.header.tc == 1
    assert not over_tcp.replies
    world.tcp().answer()
    assert addresses(over_tcp) == ["10.0.0.1"]
    again = world.ask("other.example")
    world.turn()
    assert not again.replies  # TCP is asked again, since it answered


def test_clients_on_tcp_are_told_that_there_is_none() -> None:
    world = Quirky(cut)
    for number in range(2):
        asker = world.ask(f"{number}.example", tcp=True)
        world.pass_s(1.8)
        assert (rcode(asker), errors(asker)) == ("SERVFAIL", [23])


def test_slow_tcp_is_not_silent() -> None:
    world = Quirky(cut)
    slow = world.ask("slow.example")
    world.pass_s(0.5)
    quick = world.ask("quick.example")
    world.turn()
    world.tcp().answer()
    assert addresses(quick) == ["10.0.0.1"]
    world.pass_s(1.8)
    assert slow.reply.header.tc == 1
    world.ask("other.example")
    world.turn()
    assert len(world.tcp().sent) == 3


def test_a_forged_question_goes_over_tcp_whatever_is_remembered() -> None:
    world = Quirky(cut)
    world.ask_and_wait("tc.example")
    world.answers = (silent,)
    world.ask("www.example")
    for _ in range(2):
        world.udp().say_wrong(answer(request("www.example")))
    assert len(world.tcp().sent) == 2


def damaged(message: bytes) -> bytes:
    return answer(message)[: question_end(message) + 14]


def test_a_malformed_reply_is_told_and_no_silence(caplog: pytest.LogCaptureFixture) -> None:
    world = Quirky(damaged)
    for number in range(5):
        asker = world.ask(request(f"{number}.example"))
        world.turn()
        assert len(world.tcp().sent) == number + 1
        assert world.tcp().say(damaged(world.tcp().requests[-1]))
        assert (rcode(asker), errors(asker)) == ("SERVFAIL", [24])
    assert len(world.udp().sent) == 5
    assert not world.health().is_down
    assert world.forwarder.statistics().upstreams[0].malformed == 10
    (line,) = [each.message for each in caplog.records]
    assert line.startswith(
        "upstream 192.0.2.1:53: in its reply to the question for 0.example. record 1 is malformed"
    )


def test_a_malformed_reply_is_asked_for_over_tcp_once() -> None:
    world = Quirky(damaged)
    asker = world.ask()
    world.turn()
    world.tcp().answer()
    assert addresses(asker) == ["10.0.0.1"]
    no_tcp = world.ask(request("other.example"))
    world.pass_s(0.5)
    assert (rcode(no_tcp), errors(no_tcp)) == ("SERVFAIL", [24])
    assert len(world.tcp().sent) == 2


def test_another_upstream_may_write_it_better() -> None:
    world = Quirky(damaged, good)
    asker = world.ask()
    world.turn()
    world.tcp(0).fail()
    world.turn()
    assert addresses(asker) == ["10.0.0.1"]


def test_a_stub_zone_counts_its_names() -> None:
    quirks = Quirks()
    corp = b"\4corp\0"
    for number in range(3):
        query = client_query(f"n{number}.corp")
        quirks.answers_without(query, corp, NO_OPT, 0.0)
    assert quirks.most(MARK, 599.0) == NO_OPT
    assert quirks.most(MARK, 600.0) == MARK


def test_of_one_zone_any_number_of_names_is_one() -> None:
    quirks = Quirks()
    for number in range(9):
        quirks.answers_without(client_query(f"n{number}.corp.example"), b"\0", NO_OPT, 0.0)
    assert quirks.is_odd
    assert quirks.most(MARK, 0.0) == MARK
    quirks.answers(MARK)
    assert not quirks.is_odd
