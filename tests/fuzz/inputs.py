"""Changes of inputs that know what an input is made of, and seeds for Hypothesis."""

import copy
import functools
import random
from typing import Any, Final

from hypothesis import strategies as st

from tests.fuzz.targets import MOST_BYTES, TARGETS, Target

EDITS: Final = st.lists(
    st.tuples(st.integers(0, MOST_BYTES), st.integers(0, 8), st.binary(max_size=8)), max_size=4
)
ODD: Final = (
    *(None, True, False, 0, -1, 53, 65536, 1 << 63, 1.5, float("inf"), [], {}, [[]], {"a": {}}),
    *(
        "",
        "x",
        "X-y",
        "-",
        "a.b",
        "a" * 63,
        "a" * 64,
        "a" * 300,
        "*",
        "\0",
        "\u2028",
        "\U0001f600",
        "\xe4",
    ),
    *(
        "10.0.0.1",
        "010.0.0.1",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "0x1",
        "80",
        "2026-01-01T00:00:00Z",
    ),
)
"""What is put in the place of a value."""


@functools.cache
def seeds_of(name: str) -> list[bytes]:
    return list(TARGETS[name].seeds())


def change(target: Target, octets: bytes, rng: random.Random) -> bytes | None:
    """Put something odd, or a copy of another value, in the place of a value or beside it."""
    if target.form is None:
        return None
    read, write = target.form
    try:
        top = [read(octets)]
        nodes: list[Any] = [top]
        for node in nodes:
            inside = node.values() if isinstance(node, dict) else node
            nodes += [each for each in inside if each and isinstance(each, dict | list)]
        for _ in range(rng.randint(1, 3)):
            node = rng.choice(nodes)
            new = rng.choice(ODD) if rng.random() < 0.7 else copy.deepcopy(rng.choice(nodes[1:]))
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if rng.random() < 0.1:
                del node[rng.choice(keys)]
            elif rng.random() < 0.1 and isinstance(node, list):
                node.append(new)
            else:
                node[rng.choice(keys)] = new
        return write(top[0])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None  # it is not of that form, or what was made cannot be written


@st.composite
def inputs_of(draw: st.DrawFn, name: str) -> bytes:
    """A seed with some values changed, or with some octets taken out and others put in."""
    seed = draw(st.sampled_from(seeds_of(name)))
    if draw(st.booleans()):
        return change(TARGETS[name], seed, draw(st.randoms())) or seed
    octets = bytearray(seed)
    for at, size, new in draw(EDITS):
        begin = at % (len(octets) + 1)
        octets[begin : begin + size] = new
    return bytes(octets)
