"""Runs a module as `python -m` does, and writes down each long turn of its event loop.

    python bench/turns.py FILE MODULE ARGUMENT...

A line has the moment at which the turn ended (CLOCK_MONOTONIC, seconds), how long it was, and how
much CPU of the loop's thread it took, both in milliseconds: one that was long and took little had
to wait for a core or a lock. A script of its own that imports nothing of ours, so that an earlier
mcsdns can be run by it.
"""

import os
import runpy
import selectors
import sys
import time

LONG_S = 0.001


class _Selector(selectors.EpollSelector):
    """Between two waits of the selector lies a turn."""

    log_fd = -1

    def __init__(self) -> None:
        super().__init__()
        self._began_s = self._cpu_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Write down how long it was since the last one, if that was long."""
        now_s = time.monotonic()
        if self._began_s and now_s - self._began_s > LONG_S:
            cpu_s = time.thread_time() - self._cpu_s
            lasted_ms = (now_s - self._began_s) * 1e3
            os.write(self.log_fd, b"%.6f %.3f %.3f\n" % (now_s, lasted_ms, cpu_s * 1e3))
        found = super().select(timeout)
        self._cpu_s = time.thread_time()
        self._began_s = time.monotonic()
        return found


def main() -> None:
    """Take the file's name off the arguments and run the module with the rest."""
    _Selector.log_fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    selectors.DefaultSelector = _Selector
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
