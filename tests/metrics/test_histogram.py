import pytest

from mcsdns.histogram import Histogram, total


def test_bounds_are_inclusive_and_the_last_bucket_has_none() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    seen = histogram.statistics()
    assert seen.counts == (2, 2, 1)
    assert seen.sum == pytest.approx(6.6)
    assert seen.count == 5


def test_a_batch_counts_as_many_values() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(0.5, 64)
    assert histogram.statistics().counts == (64, 0)
    assert histogram.statistics().sum == 32.0


def test_statistics_do_not_change_afterwards() -> None:
    histogram = Histogram((1.0,))
    before = histogram.statistics()
    histogram.observe(3.0)
    assert before.counts == (0, 0)


def test_histograms_of_the_same_bounds_add_up() -> None:
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(2.0, 3)
    both = total([one.statistics(), other.statistics()])
    assert (both.bounds, both.counts, both.sum) == ((1.0,), (1, 3), 6.5)


def test_histograms_of_other_bounds_do_not() -> None:
    with pytest.raises(ValueError, match="same bounds"):
        total([Histogram((1.0,)).statistics(), Histogram((2.0,)).statistics()])
    with pytest.raises(ValueError, match="same bounds"):
        total([])


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0)])
def test_bounds_have_to_rise(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising"):
        Histogram(bounds)
