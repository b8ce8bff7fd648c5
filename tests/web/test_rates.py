"""The rates of answers, from samples of the counters."""

from mcsdns.stats import ReplyCount, ReplyKind
from mcsdns.web.rates import Ring


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
