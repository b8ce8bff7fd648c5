"""Where the status page and the probes are: bound before anything else, served once there is time.

Importing aiohttp takes 0.15 s. It is done in a thread, after the first objects are read, so that
neither the first answer waits for it nor any later one; who asks meanwhile waits in the backlog.
"""

import importlib
import logging
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from mcsdns.web.status import Operator

if TYPE_CHECKING:
    from mcsdns.web.listener import HttpServer

logger = logging.getLogger(__name__)

_ADMIN: Final = "--admin"
_PROBES: Final = "--probes"


class Site:
    """One address and what is served there; `flag` is the setting that names it."""

    def __init__(self, flag: str, sock: socket.socket) -> None:
        self.flag = flag
        host, port = sock.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self._sock = sock
        self._server: HttpServer | None = None

    async def start(self, operator: Operator) -> None:
        """Begin to answer; everything it needs is imported."""
        from mcsdns.web import listener, probes  # noqa: PLC0415

        application = listener.make_application()
        probes.add_routes(application, operator)
        if self.flag == _ADMIN:
            from mcsdns.web.html import page  # noqa: PLC0415 - see above

            page.add_routes(application, operator)
        self._server = listener.HttpServer(application, [self._sock])
        await self._server.start()

    async def close(self) -> None:
        """Let requests in flight end and close the socket."""
        if self._server is not None:
            await self._server.close()
        self._sock.close()


class Sites:
    """All addresses over HTTP."""

    def __init__(self, page: Sequence[socket.socket], probes: Sequence[socket.socket]) -> None:
        """Take the bound sockets of the status page and of the probes."""
        self._sites = [
            *(Site(_ADMIN, sock) for sock in page),
            *(Site(_PROBES, sock) for sock in probes),
        ]

    async def start(self, operator: Operator) -> None:
        """Begin to answer everywhere."""
        if self._sites:
            await anyio.to_thread.run_sync(_preload, {site.flag for site in self._sites})
        for site in self._sites:
            await site.start(operator)
            what = "status page" if site.flag == _ADMIN else "probes"
            logger.info("%s on %s", what, site.url)

    async def close(self) -> None:
        """Let requests in flight end and close all sockets; nothing starts any more."""
        for site in self._sites:
            await site.close()


def _preload(flags: set[str]) -> None:
    """Import what these sites need, beside the event loop."""
    for name in ("probes", "listener", *(["html.page"] if _ADMIN in flags else [])):
        importlib.import_module(f"mcsdns.web.{name}")
