"""How an upstream is doing, and who is asked first."""

import random

import pytest

from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.health import Chooser, Health, Policy


def health_of(rtt_s: float | None = None) -> Health:
    health = Health(Address(Protocol.UDP, "192.0.2.1", 53))
    if rtt_s is not None:
        health.answer(rtt_s, 0.0)
    return health


def down() -> Health:
    health = health_of()
    while not health.fail(10.0):
        pass
    return health


@pytest.mark.parametrize(
    ("rtt_s", "try_s"), [(None, 0.2), (0.001, 0.2), (0.1, 0.3), (0.18, 0.54), (0.5, 0.56)]
)
def test_a_try_waits_three_round_trips_within_bounds(rtt_s: float | None, try_s: float) -> None:
    assert health_of(rtt_s).try_s == pytest.approx(try_s)


def test_round_trips_are_smoothed() -> None:
    health = health_of(0.1)
    health.answer(0.9, 1.0)
    assert health.rtt_s == pytest.approx(0.2)


def test_three_failures_in_a_row_bring_it_down() -> None:
    health = health_of(0.01)
    assert [health.fail(10.0) for _ in range(3)] == [False, False, True]
    assert not health.fail(10.0)


def test_an_answer_between_failures_keeps_it_up() -> None:
    health = health_of(0.01)
    for number in range(10):
        assert not health.fail(number)
        assert not health.fail(number)
        health.answer(0.01, number)


def test_failures_right_after_an_answer_do_not_bring_it_down() -> None:
    health = health_of(0.01)
    assert not any(health.fail(0.1) for _ in range(100))
    assert health.fail(0.2)


def test_an_answer_brings_it_up_with_the_round_trip_of_now() -> None:
    health = down()
    assert health.answer(0.004, 20.0)
    assert (health.is_down, health.rtt_s) == (False, 0.004)
    assert not health.answer(0.004, 20.0)


def test_probes_come_less_often_but_always_come() -> None:
    health = down()
    pauses: list[float] = []
    for _ in range(8):
        before = health.probe_due_s
        health.probe(before)
        pauses.append(health.probe_due_s - before)
    assert pauses[0] == pytest.approx(1.0)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(10.0)


def test_who_never_answered_has_no_round_trip_to_show() -> None:
    assert down().statistics().rtt_s is None


def test_the_fastest_comes_first_and_unknown_ones_before_it() -> None:
    chooser = Chooser(Policy.FASTEST, random.Random(1))
    assert chooser.order([health_of(0.2), health_of(0.1), health_of()]) == [2, 1, 0]


def test_sequential_keeps_the_order_and_round_robin_turns_it() -> None:
    healths = [health_of(0.2), health_of(0.1), health_of(0.3)]
    assert Chooser(Policy.SEQUENTIAL, random.Random(1)).order(healths) == [0, 1, 2]
    turning = Chooser(Policy.ROUND_ROBIN, random.Random(1))
    assert {turning.order(healths)[0] for _ in range(3)} == {0, 1, 2}


def test_random_asks_each_first() -> None:
    chooser = Chooser(Policy.RANDOM, random.Random(1))
    healths = [health_of(0.2), health_of(0.1), health_of(0.3)]
    orders = [chooser.order(healths) for _ in range(50)]
    assert {order[0] for order in orders} == {0, 1, 2}
    assert all(sorted(order) == [0, 1, 2] for order in orders)


@pytest.mark.parametrize("policy", list(Policy))
def test_who_is_down_comes_last_under_every_policy(policy: Policy) -> None:
    chooser = Chooser(policy, random.Random(1))
    assert chooser.order([down(), health_of(0.3)]) == [1, 0]
    assert sorted(chooser.order([down(), down()])) == [0, 1]
    assert chooser.order([down()]) == [0]
    assert list(chooser.order([])) == []


def test_only_fastest_explores_and_only_who_is_up() -> None:
    healths = [health_of(0.1), health_of(0.2), down()]
    fastest = Chooser(Policy.FASTEST, random.Random(1))
    explored = [fastest.explore(healths, 0) for _ in range(100)]
    assert [at for at in explored if at is not None] == [1, 1]
    other = Chooser(Policy.RANDOM, random.Random(1))
    assert not any(other.explore(healths, 0) for _ in range(100))
