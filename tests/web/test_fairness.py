"""The gate before work that cannot be cut into slices."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcsdns.web.fairness import BusyError, Gate
from tests.sources.test_timeslice import Clock
from tests.sources.test_timeslice import slept as slept


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
    assert int(refused.value.headers["Retry-After"]) >= 1
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
