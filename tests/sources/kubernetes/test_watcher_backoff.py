"""Delays between attempts, drawn from a given random source."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.sources.kubernetes.watcher import Backoff


class Fixed(random.Random):
    """Draws one point of every range."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.share


def delays(backoff: Backoff, number: int) -> list[float]:
    return [backoff.next_s() for _ in range(number)]


def test_delays_double_up_to_the_most() -> None:
    assert delays(Backoff(Fixed(1), 1, 10), 6) == [1, 2, 4, 8, 10, 10]


def test_delay_is_at_least_half() -> None:
    assert delays(Backoff(Fixed(0), 1, 10), 6) == [0.5, 1, 2, 4, 5, 5]


def test_reset_begins_anew() -> None:
    backoff = Backoff(Fixed(1), 1, 10)
    delays(backoff, 5)
    backoff.reset()
    assert delays(backoff, 3) == [1, 2, 4]


@pytest.mark.parametrize("most_s", [1, 0.5])
def test_delays_that_cannot_grow_stay(most_s: float) -> None:
    first, *rest = delays(Backoff(Fixed(1), 1, most_s), 4)
    assert first == 1
    assert set(rest) == {most_s}


@given(st.integers(), st.floats(0.001, 10), st.floats(10, 1000), st.integers(1, 40))
def test_delays_lie_between_half_and_whole(
    seed: int, first_s: float, most_s: float, number: int
) -> None:
    whole_s = first_s
    for delay_s in delays(Backoff(random.Random(seed), first_s, most_s), number):
        assert whole_s / 2 <= delay_s <= whole_s
        whole_s = min(2 * whole_s, most_s)


def test_the_same_seed_gives_the_same_delays() -> None:
    one, other = (Backoff(random.Random(7), 0.1, 10) for _ in range(2))
    assert delays(one, 20) == delays(other, 20)
