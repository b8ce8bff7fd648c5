"""Many sockets behind one reader of the event loop.

asyncio makes a key, a handle and a call through a context for every readable socket: with replies
that arrive on dozens of random ports that was a fifth of a forwarded question. Here an epoll
object of our own holds the sockets and is itself one descriptor of the loop; elsewhere than on
Linux each socket is a reader of the loop.
"""

import asyncio
import select
import sys
from collections.abc import Callable
from typing import Final

_MOST_EVENTS: Final = 64
"""Sockets that are read in one turn of the loop."""


class Readers:
    """Calls who reads a socket when there is something to read."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._reads: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Have a socket read, in the running loop, again and again while it has something."""
        loop = asyncio.get_running_loop()
        if sys.platform != "linux":
            loop.add_reader(fd, read)
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._read_all, self._epoll)
        self._epoll.register(fd, select.EPOLLIN)
        self._reads[fd] = read

    def remove(self, fd: int) -> None:
        """Have a socket read no longer; to be called before it is closed."""
        if self._reads.pop(fd, None) is None:
            asyncio.get_running_loop().remove_reader(fd)
        elif self._epoll is not None:
            self._epoll.unregister(fd)
            if not self._reads:
                asyncio.get_running_loop().remove_reader(self._epoll.fileno())
                self._epoll.close()
                self._epoll = None

    def _read_all(self, epoll: select.epoll) -> None:
        reads = self._reads
        for fd, _ in epoll.poll(0, _MOST_EVENTS):
            read = reads.get(fd)
            if read is not None:  # it may be closed because of what another one read
                read()
