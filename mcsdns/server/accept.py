"""Accepts connections: a few in a turn of the loop, and none while there is no room for them.

asyncio's own servers accept a whole backlog in one turn, in which nobody else is answered, and log
a traceback at each try while file descriptors are used up. Here what finds no room stays in the
kernel's queue until there is: whoever can wait is not refused.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec

from mcsdns.stats import LogInterval

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 16
"""Connections that are accepted in one turn: half a millisecond."""
_PAUSE_S: Final = 0.1
_USED_UP: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one acceptor.

    Attributes:
        accepted: connections. no_files, no_room: pauses, for want of file descriptors or memory,
            and because its user had no room.
    """

    accepted: int = 0
    no_files: int = 0
    no_room: int = 0


class Acceptor:
    """Accepts from one listening socket, which does not block, from `start` to `close`."""

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[socket.socket, Any], object],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """`take` owns a socket that does not block, and its address; `has_room` says whether to."""
        self.sock = sock
        self._take = take
        self._has_room = has_room
        self._accepted = self._no_files = self._no_room = 0
        self._lines = LogInterval()
        self._waiting: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to accept in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._resume()

    def close(self) -> None:
        """Accept no more, and close the socket."""
        if self._waiting is not None:
            self._waiting.cancel()
        if self._loop is not None and self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock)
        self.sock.close()

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(self._accepted, self._no_files, self._no_room)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._has_room():
                self._no_room += 1
                self._pause()
                return
            try:
                connection, address = self.sock.accept()
            except OSError as error:
                if error.errno in _USED_UP:
                    self._no_files += 1
                    self._tell(error)
                    self._pause()
                return  # accept(2): other errors are those of a connection that has gone
            connection.setblocking(False)
            self._accepted += 1
            self._take(connection, address)

    def _pause(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self.sock)
        self._waiting = self._loop.call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        assert self._loop is not None
        self._waiting = None
        self._loop.add_reader(self.sock, self._accept)

    def _tell(self, error: OSError) -> None:
        assert self._loop is not None
        if self._lines.may_pass(self._loop.time()):
            logger.warning(
                "no connection can be accepted on port %d: %s; those that come wait, UDP goes on; "
                "raise the limit of open files (ulimit -n, LimitNOFILE=)",
                self.sock.getsockname()[1],
                error.strerror,
            )


class Opening:
    """Gives accepted sockets to protocols, as asyncio's servers do."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._tasks: set[asyncio.Task[object]] = set()

    def open(self, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        """Have `protocol.connection_made` called soon."""
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(lambda: protocol, sock)
        )
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)
