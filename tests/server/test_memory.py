"""When memory is given back."""

from mcsdns.server.memory import Trimmer

MIB = 1 << 20


def test_memory_is_given_back_once_a_burst_is_over_and_not_often() -> None:
    now = 0.0
    trims: list[float] = []

    def trim(pad: int) -> None:
        assert pad == 0
        trims.append(now)

    trimmer = Trimmer(lambda: now, trim)

    def burst(highest: int, *then: int) -> None:
        trimmer.highest_bytes = max(trimmer.highest_bytes, highest)
        for held in then:
            trimmer.look(held)

    burst(5 * MIB, 0)
    assert trims == []  # the next one takes the same memory
    burst(60 * MIB, 60 * MIB, 30 * MIB)
    assert trims == []  # it goes on
    burst(60 * MIB, 2 * MIB, MIB, 0)
    assert trims == [0.0]
    now = 20.0
    burst(60 * MIB, 0)
    assert trims == [0.0]  # not yet
    now = 31.0
    burst(0, 0)
    assert trims == [0.0, 31.0]
    now = 90.0
    burst(0, 0)
    assert trims == [0.0, 31.0]


def test_the_systems_own_call_is_harmless() -> None:
    trimmer = Trimmer(lambda: 0.0)
    trimmer.highest_bytes = 64 * MIB
    trimmer.look(0)
    assert trimmer.highest_bytes == 0
