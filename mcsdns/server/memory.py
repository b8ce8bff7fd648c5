"""Gives memory back to the system after a burst.

The allocator keeps what was freed for the next request, unless it lies at the end of the heap. So
what a burst took would stay: glibc's `malloc_trim` gives back every page that nothing is in. It
takes 5 ms for 100 MB, so it is asked once a burst is over, and not often.
"""

import ctypes
from collections.abc import Callable
from typing import Final

_WORTH_BYTES: Final = 8 << 20
"""Bursts of less stay: the next one takes the same memory."""
_OVER: Final = 4
"""A burst is over when so many times less is held than at its height."""
_PAUSE_S: Final = 30.0


def _system_trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # another C library
        return lambda _: 0
    return trim


class Trimmer:
    """Watches how much is held, and gives back what is not any more.

    Attributes:
        highest_bytes: the most that was held since memory was given back; its user sets it.
    """

    def __init__(
        self, clock: Callable[[], float], trim: Callable[[int], object] | None = None
    ) -> None:
        """`clock` gives monotonic seconds; `trim` stands in for the system's."""
        self.highest_bytes = 0
        self._clock = clock
        self._trim = trim or _system_trim()
        self._not_before_s = clock()

    def look(self, held_bytes: int) -> None:
        """Give memory back if a burst is over; to be called now and then."""
        highest = self.highest_bytes
        if highest < _WORTH_BYTES or held_bytes > highest // _OVER:
            return
        now_s = self._clock()
        if now_s >= self._not_before_s:
            self._not_before_s = now_s + _PAUSE_S
            self.highest_bytes = held_bytes
            self._trim(0)
