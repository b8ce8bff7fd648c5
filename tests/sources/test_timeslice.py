"""Long work is cut by time: the loop runs once a slice is over, and not before."""

import asyncio

import pytest

from mcsdns.sources import timeslice
from mcsdns.sources.timeslice import Timeslice


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, in seconds; it takes one turn of the loop each."""
    found: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        found.append(seconds)
        await real(0)

    monkeypatch.setattr(timeslice.asyncio, "sleep", sleep)
    return found


async def work(clock: Clock, steps: int, step_s: float) -> None:
    """Work in slices of a millisecond, with pauses twice as long."""
    held = Timeslice(0.001, pause_s=0.002, clock=clock)
    for _ in range(steps):
        clock.now_s += step_s
        await held.checkpoint()


async def test_work_without_a_step_does_not_give_way(slept: list[float]) -> None:
    await work(Clock(), 0, 0.0)
    assert slept == []


async def test_short_work_is_one_slice(slept: list[float]) -> None:
    await work(Clock(), 9, 0.0001)
    assert slept == []


async def test_long_work_gives_way_every_millisecond(slept: list[float]) -> None:
    await work(Clock(), 10, 0.0015)
    assert slept == [0.002] * 10


async def test_the_next_slice_begins_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now_s += 5.0

    monkeypatch.setattr(timeslice.asyncio, "sleep", sleep)
    held = Timeslice(0.001, clock=clock)
    clock.now_s += 0.002
    assert held.is_over
    await held.checkpoint()
    assert not held.is_over


async def test_other_tasks_run_in_between() -> None:
    clock = Clock()
    turns: list[int] = []

    async def other() -> None:
        while len(turns) < 3:
            turns.append(1)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    held = Timeslice(clock=clock)
    for _ in range(4):
        clock.now_s += 1.0
        await held.checkpoint()
    await task
    assert turns == [1, 1, 1]
