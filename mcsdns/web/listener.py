"""The sockets for HTTP: the probes on all of them, on some the status page and its API too.

The sockets are handed in, bound before anything else; connections that come before `start` wait in
the backlog. Importing aiohttp takes 0.15 s and the page as much again. `start`, which is called
after the first objects are read, does that in a thread, so that neither the first answer waits for
it nor any later one. For this reason nothing here imports them at the top.
"""

import asyncio
import importlib
import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from mcsdns.dns import ip
from mcsdns.metrics.snapshot import HttpStatistics
from mcsdns.server.accept import Acceptor
from mcsdns.web.status import Operator

if TYPE_CHECKING:
    from aiohttp import web

    from mcsdns.web.connections import Connections

logger = logging.getLogger(__name__)

_SHUTDOWN_S: Final = 1.0
_MOST_FIELDS: Final = 128
_KEEP_ALIVE_S: Final = 3600.0
"""Of aiohttp, which is never to close a connection: `connections` does, and earlier."""
_SOCKET_BUFFER_BYTES: Final = 1 << 17
"""Each way; the kernel's own bound is megabytes a connection."""
_BACKLOG: Final = 4096


class WebListener:
    """Serves HTTP on sockets that are bound already: bounded, without an access log."""

    def __init__(self, page: Sequence[socket.socket], probes: Sequence[socket.socket]) -> None:
        """Take the sockets of the status page and of the probes; nothing is read before `start`."""
        self._page = page
        self._probes = probes
        self._connections: Connections | None = None
        self._acceptors: list[Acceptor] = []
        self._runners: list[web.AppRunner] = []
        for sock in (*page, *probes):  # connections have the options of their listening socket
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)

    async def start(self, operator: Operator, most_connections: int) -> None:
        """Begin to answer everywhere, with so many connections at once at most."""
        if not self._page and not self._probes:
            return
        if self._page:
            await anyio.to_thread.run_sync(importlib.import_module, "mcsdns.web.html.page")
        await anyio.to_thread.run_sync(importlib.import_module, "mcsdns.web.probes")
        from mcsdns.web.connections import Connections, Limits  # noqa: PLC0415 - see above

        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        limits = Limits(connections=most_connections)
        self._connections = Connections(limits, asyncio.get_running_loop().time)
        self._connections.start()
        for sock in self._page:
            await self._serve(sock, operator, self._connections, has_page=True)
        for sock in self._probes:
            await self._serve(sock, operator, self._connections, has_page=False)

    async def close(self) -> None:
        """Take no more connections, let requests in flight end, close all sockets."""
        for acceptor in self._acceptors:
            acceptor.close()
        for runner in self._runners:
            await runner.cleanup()
        if self._connections is not None:
            self._connections.close()
        for sock in (*self._page, *self._probes):
            sock.close()

    def statistics(self) -> HttpStatistics:
        """Return the counters of all sockets together."""
        connections = self._connections
        return HttpStatistics(
            len(connections) if connections is not None else 0,
            connections.closed if connections is not None else {},
            [each.statistics() for each in self._acceptors],
        )

    async def _serve(
        self,
        sock: socket.socket,
        operator: Operator,
        connections: "Connections",
        *,
        has_page: bool,
    ) -> None:
        from aiohttp import web  # noqa: PLC0415 - see above

        from mcsdns.web import probes  # noqa: PLC0415
        from mcsdns.web.connections import handler_maker  # noqa: PLC0415

        app = web.Application(client_max_size=1)
        probes.add_routes(app, operator, is_public=not has_page)
        if has_page:
            from mcsdns.web.html import page  # noqa: PLC0415

            page.add_routes(app, operator)
        app.on_response_prepare.append(_add_headers)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        assert runner.server is not None
        make_handler = handler_maker(
            runner.server,
            {
                "access_log": None,
                "keepalive_timeout": _KEEP_ALIVE_S,
                "max_line_size": connections.limits.head.field_bytes,
                "max_field_size": connections.limits.head.field_bytes,
                "max_headers": _MOST_FIELDS,
                "lingering_time": 0.0,
            },
        )

        def take(connection: socket.socket, address: tuple[str, int]) -> None:
            connections.take(connection, address[0], make_handler)

        sock.listen(_BACKLOG)
        acceptor = Acceptor(sock, take, connections.has_room)
        acceptor.start()
        self._acceptors.append(acceptor)
        self._runners.append(runner)
        url = f"http://{ip.with_port(*sock.getsockname()[:2])}/"
        logger.info("%s on %s", "status page" if has_page else "probes", url)


async def _add_headers(_: "web.Request", response: "web.StreamResponse") -> None:
    response.headers["Server"] = "mcsdns"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether a line is about a fault of ours: what a peer may send is no news."""
    from aiohttp.http import HttpProcessingError  # noqa: PLC0415

    fault = record.exc_info[1] if record.exc_info else None
    return not isinstance(fault, HttpProcessingError)
