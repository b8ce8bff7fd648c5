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
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from mcsdns.dns import ip
from mcsdns.web.status import Operator

if TYPE_CHECKING:
    from aiohttp import web

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS: Final = 64
"""Past it the oldest one makes room: a kubelet and a Prometheus keep one or two each."""
_KEEP_ALIVE_S: Final = 30.0
_SHUTDOWN_S: Final = 1.0
_MAX_BODY_BYTES: Final = 4096
_MAX_FIELD_BYTES: Final = 32768
"""Browsers send the cookies of everything else on this host."""
_BACKLOG: Final = 128


class WebListener:
    """Serves HTTP on sockets that are bound already: bounded, without an access log."""

    def __init__(self, page: Sequence[socket.socket], probes: Sequence[socket.socket]) -> None:
        """Take the sockets of the status page and of the probes; nothing is read before `start`."""
        self._page = page
        self._probes = probes
        self._serving: list[tuple[asyncio.Server, web.AppRunner]] = []

    async def start(self, operator: Operator) -> None:
        """Begin to answer everywhere."""
        if self._page:
            await anyio.to_thread.run_sync(importlib.import_module, "mcsdns.web.html.page")
        if self._page or self._probes:
            await anyio.to_thread.run_sync(importlib.import_module, "mcsdns.web.probes")
        for sock in self._page:
            await self._serve(sock, operator, has_page=True)
        for sock in self._probes:
            await self._serve(sock, operator, has_page=False)

    async def close(self) -> None:
        """Take no more connections, let requests in flight end, close all sockets."""
        for server, runner in self._serving:
            server.close()
            await runner.cleanup()
        for sock in (*self._page, *self._probes):
            sock.close()

    async def _serve(self, sock: socket.socket, operator: Operator, *, has_page: bool) -> None:
        from aiohttp import web  # noqa: PLC0415 - see above

        from mcsdns.web import probes  # noqa: PLC0415

        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        probes.add_routes(app, operator)
        if has_page:
            from mcsdns.web.html import page  # noqa: PLC0415

            page.add_routes(app, operator)
        app.on_response_prepare.append(_add_headers)
        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_S,
            keepalive_timeout=_KEEP_ALIVE_S,
            max_field_size=_MAX_FIELD_BYTES,
            lingering_time=0.0,
        )
        await runner.setup()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(partial(_accept, runner), sock=sock, backlog=_BACKLOG)
        self._serving.append((server, runner))
        url = f"http://{ip.with_port(*sock.getsockname()[:2])}/"
        logger.info("%s on %s", "status page" if has_page else "probes", url)


def _accept(runner: "web.AppRunner") -> asyncio.Protocol:
    """Return the protocol of a new connection, at the cost of the oldest one if there are many."""
    server = runner.server
    assert server is not None
    connections = [each for each in server.connections if each.transport is not None]
    if len(connections) >= _MOST_CONNECTIONS:
        connections[0].force_close()
    return server()


async def _add_headers(_: "web.Request", response: "web.StreamResponse") -> None:
    response.headers["Server"] = "mcsdns"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether a line is about a fault of ours: what a peer may send is no news."""
    from aiohttp.http import HttpProcessingError  # noqa: PLC0415

    fault = record.exc_info[1] if record.exc_info else None
    return not isinstance(fault, HttpProcessingError)
