"""The gate before work that cannot be cut into slices, and the rates of answers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcsdns.stats import ReplyCount, ReplyKind
from mcsdns.web import fairness
from mcsdns.web.fairness import BusyError, Gate
from mcsdns.web.rates import Ring
from tests.test_timeslice import Clock


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, in seconds; it takes one turn of the loop each."""
    found: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        found.append(seconds)
        await real(0)

    monkeypatch.setattr(fairness.asyncio, "sleep", sleep)
    return found


async def test_gate_lets_in_one_at_a_time() -> None:
    gate = Gate()
    inside = most = 0

    async def enter() -> None:
        nonlocal inside, most
        async with gate.passed():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(4)))
    assert (inside, most) == (0, 1)


async def test_gate_stays_shut_in_proportion_to_the_cost(slept: list[float]) -> None:
    clock = Clock()
    gate = Gate(share=0.05, least_pause_s=0.1, clock=clock)
    for cost_s in (0.067, 0.0, 0.0):
        async with gate.passed():
            clock.now_s += cost_s
    assert slept == [0.0, pytest.approx(19 * 0.067), pytest.approx(0.1)]
    clock.now_s += 0.2
    async with gate.passed():
        pass
    assert slept[-1] == 0.0


async def test_gate_turns_away_whoever_comes_when_too_many_wait() -> None:
    gate = Gate(most_waiting=2)
    leave = asyncio.Event()

    async def enter() -> None:
        async with gate.passed():
            await leave.wait()

    waiting = [asyncio.create_task(enter()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError) as refused:
        async with gate.passed():
            pass
    assert refused.value.retry_s >= 1
    leave.set()
    await asyncio.gather(*waiting)
    async with gate.passed():
        pass


async def test_gate_opens_again_after_an_error() -> None:
    gate = Gate(most_waiting=0)

    async def fail() -> AsyncIterator[None]:
        async with gate.passed():
            raise KeyError("gone")
        yield

    for _ in range(3):
        with pytest.raises(KeyError):
            await anext(aiter(fail()))


def counts(**numbers: int) -> list[ReplyCount]:
    return [
        ReplyCount("udp", "clusterset.local.", "A", "NOERROR", ReplyKind[kind.upper()], number)
        for kind, number in numbers.items()
    ]


def test_rate_is_the_gain_over_the_time_that_passed() -> None:
    ring = Ring()
    ring.add(counts(clusterset=100), 10.0, 1.0)
    ring.add(counts(clusterset=150, negative=50), 12.0, 3.0)
    rates = ring.rates()
    assert rates.answers == (50.0,)
    assert rates.until_s == 3.0
    assert rates.kinds == {"clusterset": 25.0, "negative": 25.0}
    assert (rates.now, rates.peak) == (50.0, 50.0)


def test_counters_that_begin_anew_are_no_negative_rate() -> None:
    ring = Ring()
    ring.add(counts(clusterset=100), 1.0, 1.0)
    ring.add(counts(clusterset=5), 2.0, 2.0)
    ring.add(counts(clusterset=9), 3.0, 3.0)
    assert ring.rates().answers == (0.0, 4.0)


def test_ring_holds_the_last_minutes_only() -> None:
    ring = Ring(size=3)
    for second in range(10):
        ring.add(counts(clusterset=second * second), float(second), float(second))
    assert ring.rates().answers == (13.0, 15.0, 17.0)


def test_nothing_is_known_before_the_second_look() -> None:
    ring = Ring()
    assert ring.rates().answers == ()
    assert ring.rates().now == ring.rates().peak == 0.0
    ring.add(counts(clusterset=7), 1.0, 1.0)
    assert ring.rates().answers == ()
