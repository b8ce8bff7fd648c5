"""Gives memory back to the system as it is freed."""

import contextlib
import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = (-3, 32 << 10)
_TRIM_THRESHOLD: Final = (-1, 1 << 20)
_TOP_PAD: Final = (-2, 16 << 10)
"""mallopt(3): a parameter and its value. The end of the heap grows by less than a large block has:
it would be taken from there, and what is small and stays would lie behind it."""


def give_back_at_once() -> None:
    """Have the allocator map large blocks on their own; to be called before there are many.

    What was freed in the heap is kept there for the next request unless it lies at its end, and
    glibc takes ever larger blocks from there, the larger ones it has seen freed: so what a burst of
    connections took would stay. `malloc_trim` gives all of it back, but holds the heap for 12 ms
    for 100 MB, in which nothing is answered (in a thread of its own neither). A block that is
    mapped costs 10 us to free, one by one as connections end.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD):
            mallopt(parameter, value)
