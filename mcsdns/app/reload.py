"""When settings are read again: on SIGHUP, and when the config file changes."""

import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import anyio
import anyio.to_thread

from mcsdns.app.process import Server
from mcsdns.app.succession import Succession
from mcsdns.config import Settings
from mcsdns.errors import McsdnsError
from mcsdns.metrics.snapshot import Reloads
from mcsdns.sources.manifests import files

logger = logging.getLogger(__name__)

_STILL_S: Final = 0.3
"""What was written to may be written to again: so long it has to stand still."""
_MAX_FILE_BYTES: Final = 1 << 20


class Reloader:
    """Reads the settings again and lets them take effect, one time after the other."""

    def __init__(
        self, server: Server, succession: Succession, reread: Callable[[], Settings]
    ) -> None:
        """Take who reads the settings."""
        self._server = server
        self._succession = succession
        self._reread = reread
        self._asked = anyio.Event()
        self._wants_rescan = False
        self._scope: anyio.CancelScope | None = None

    def ask(self, *, rescan: bool = False) -> None:
        """Read the settings again soon, in place of a time that is under way.

        With `rescan` the objects are looked at too, where that is how changes are found.
        """
        self._wants_rescan = self._wants_rescan or rescan
        self._asked.set()
        if self._scope:
            self._scope.cancel()

    async def run(self) -> None:
        """Do what is asked for until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            with anyio.CancelScope() as self._scope:
                await self._reload()
            self._scope = None
            if self._wants_rescan and not self._asked.is_set():
                self._wants_rescan = False
                await self._server.rescan()  # cut short, it would think told what was not

    async def _reload(self) -> None:
        """Let the settings take effect, or say why not."""
        try:
            what = await self._succession.change(self._reread())
        except McsdnsError as error:
            self._refuse(str(error))
        else:
            self._note(what.names)

    def _refuse(self, why: str) -> None:
        logger.error("%s; the settings in force stay", why)
        before = self._server.reloads
        self._server.refusal = f"the settings that were read last are not in force: {why}"
        self._server.reloads = Reloads(before.applied, before.refused + 1, is_applied=False)

    def _note(self, names: tuple[str, ...]) -> None:
        before = self._server.reloads
        self._server.refusal = ""
        self._server.reloads = Reloads(before.applied + 1, before.refused, is_applied=True)
        if names:
            logger.info("settings changed: %s", ", ".join(names))
        else:
            logger.info("the settings have not changed")


async def follow_file(path: str, changed: Callable[[], None]) -> None:
    """Tell whenever a file says something else, however it was replaced, until cancelled.

    A ConfigMap's file is a link to a link in its folder, which is exchanged: so folders are
    watched, and what counts is the content.
    """
    known = await anyio.to_thread.run_sync(_content_of, path)
    async with aclosing(files.notices(lambda: files.find([path]).folders)) as notices:
        async for _ in notices:
            found = await anyio.to_thread.run_sync(_content_of, path)
            while found != known:
                await anyio.sleep(_STILL_S)
                before, found = found, await anyio.to_thread.run_sync(_content_of, path)
                if found == before:
                    known = found
                    logger.info("%s changed", path)
                    changed()


def _content_of(path: str) -> bytes | None:
    """Return what a file says; None where it cannot be read, which is a change too."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE_BYTES + 1)
    except OSError:
        return None
