"""Where the status page and the probes are: bound before anything else, served once there is time.

Importing aiohttp takes 0.15 s. It is done in a thread, after the first objects are read, so that
neither the first answer waits for it nor any later one; who asks meanwhile waits in the backlog.
"""

import importlib
import logging
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from mcsdns.app.listeners import Address, bind_each, text_of
from mcsdns.config import Settings
from mcsdns.errors import ConfigError
from mcsdns.server import tcp
from mcsdns.web.status import Operator

if TYPE_CHECKING:
    from mcsdns.web.listener import HttpServer

logger = logging.getLogger(__name__)

_ADMIN: Final = "--admin"
_PROBES: Final = "--probes"


class Site:
    """One address and what is served there; `flag` is the setting that names it."""

    def __init__(self, flag: str, address: Address, sock: socket.socket) -> None:
        self.flag = flag
        self.address = address
        self.url = f"http://{text_of(*sock.getsockname()[:2])}/"
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
        self.release()

    def release(self) -> None:
        """Close the socket where nothing was served yet."""
        self._sock.close()


class Sites:
    """All addresses over HTTP."""

    def __init__(self, settings: Settings) -> None:
        """Bind them.

        Raises:
            ConfigError: an address that the settings name cannot be bound.
        """
        self._sites: list[Site] = []
        self._sites = self.bind(settings)
        self._lock = anyio.Lock()
        self._is_closed = False

    def bind(self, settings: Settings) -> list[Site]:
        """Bind what the settings add, and return these sites with those that stay.

        Raises:
            ConfigError: an address that the settings name cannot be bound; no new one is then.
        """
        known = {(each.flag, each.address): each for each in self._sites}
        added: list[Site] = []
        try:
            for flag, addresses in _wanted(settings):
                missing = [each for each in addresses if (flag, each) not in known]
                is_last = len(addresses) == 1
                for address, sock in _bind(flag, missing, settings, is_last=is_last):
                    added.append(Site(flag, address, sock))
        except ConfigError:
            self.release(added)
            raise
        wanted = {(flag, each) for flag, addresses in _wanted(settings) for each in addresses}
        return [*(each for place, each in known.items() if place in wanted), *added]

    def release(self, sites: Sequence[Site]) -> None:
        """Close those that are not adopted after all."""
        for site in sites:
            if site not in self._sites:
                site.release()

    async def start(self, operator: Operator) -> None:
        """Begin to answer everywhere."""
        async with self._lock:
            await self._start(self._sites, operator)

    async def adopt(self, sites: list[Site], operator: Operator) -> None:
        """Answer on these from now on, and on no others."""
        async with self._lock:
            before, self._sites = self._sites, sites
            for site in [each for each in before if each not in sites]:
                await site.close()
            await self._start([each for each in sites if each not in before], operator)

    async def close(self) -> None:
        """Let requests in flight end and close all sockets."""
        self._is_closed = True
        async with self._lock:
            for site in self._sites:
                await site.close()

    async def _start(self, sites: Sequence[Site], operator: Operator) -> None:
        if sites:
            await anyio.to_thread.run_sync(_preload, {site.flag for site in sites})
        for site in sites:
            if self._is_closed:
                return
            await site.start(operator)
            what = "status page" if site.flag == _ADMIN else "probes"
            logger.info("%s on %s", what, site.url)


def _preload(flags: set[str]) -> None:
    """Import what these sites need, beside the event loop."""
    for name in ("probes", "listener", *(["html.page"] if _ADMIN in flags else [])):
        importlib.import_module(f"mcsdns.web.{name}")


def _wanted(settings: Settings) -> list[tuple[str, list[Address]]]:
    admin = settings.admin_address()
    return [(_ADMIN, [admin] if admin else []), (_PROBES, settings.probe_addresses())]


def _bind(
    flag: str, addresses: Sequence[Address], settings: Settings, *, is_last: bool
) -> Iterator[tuple[Address, socket.socket]]:
    """Bind addresses; the page does without its own where nobody asked for it.

    Raises:
        ConfigError: an address that the settings name cannot be bound.
    """
    try:
        yield from bind_each(flag, addresses, tcp.bind, is_last=is_last)
    except ConfigError as error:
        if flag != _ADMIN or settings.admin:
            raise
        logger.warning("there is no status page: %s", error)
