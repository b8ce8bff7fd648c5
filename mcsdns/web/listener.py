"""One aiohttp application on sockets that are bound already: bounded, without an access log.

Importing this takes 0.15 s, so it is left to `sites`, which does it beside the answers.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

_MOST_CONNECTIONS: Final = 64
"""Past it the oldest one makes room: a kubelet and a Prometheus keep one or two each."""
_KEEP_ALIVE_S: Final = 30.0
_SHUTDOWN_S: Final = 1.0
_MAX_BODY_BYTES: Final = 4096
_MAX_FIELD_BYTES: Final = 32768
"""Browsers send the cookies of everything else on this host."""
_BACKLOG: Final = 128


class HttpServer:
    """Serves one application."""

    def __init__(self, application: web.Application, sockets: Sequence[socket.socket]) -> None:
        """Take an application and its listening sockets; nothing is read before `start`."""
        application.on_response_prepare.append(_name_us)
        logging.getLogger("aiohttp.server").addFilter(_is_ours)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_S,
            keepalive_timeout=_KEEP_ALIVE_S,
            max_field_size=_MAX_FIELD_BYTES,
            lingering_time=0.0,
        )
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Begin to answer in the running loop."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            server = await loop.create_server(self._accept, sock=sock, backlog=_BACKLOG)
            self._servers.append(server)

    async def close(self) -> None:
        """Take no more connections, let requests in flight end, close everything."""
        for server in self._servers:
            server.close()
        await self._runner.cleanup()

    def _accept(self) -> asyncio.Protocol:
        """Make who reads a new connection, at the cost of the oldest one where there are many."""
        server = self._runner.server
        assert server is not None
        connections = [each for each in server.connections if each.transport is not None]
        if len(connections) >= _MOST_CONNECTIONS:
            connections[0].force_close()
        return server()


def make_application() -> web.Application:
    """Make an application that takes no large requests."""
    return web.Application(client_max_size=_MAX_BODY_BYTES)


async def _name_us(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "mcsdns"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _is_ours(record: logging.LogRecord) -> bool:
    """Say whether a line is about a fault of ours: what a peer may send is no news."""
    fault = record.exc_info[1] if record.exc_info else None
    return not isinstance(fault, HttpProcessingError)
