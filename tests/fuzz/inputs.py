"""Seeds that Hypothesis changes, so that what it finds is made small."""

import functools

from hypothesis import strategies as st

from tests.fuzz.targets import MOST_BYTES, TARGETS

EDITS = st.lists(
    st.tuples(st.integers(0, MOST_BYTES), st.integers(0, 8), st.binary(max_size=8)), max_size=4
)


@functools.cache
def seeds_of(name: str) -> list[bytes]:
    return list(TARGETS[name].seeds())


@st.composite
def inputs_of(draw: st.DrawFn, name: str) -> bytes:
    """A seed of a target with some octets taken out, and others put in their place."""
    octets = bytearray(draw(st.sampled_from(seeds_of(name))))
    for at, size, new in draw(EDITS):
        begin = at % (len(octets) + 1)
        octets[begin : begin + size] = new
    return bytes(octets)
