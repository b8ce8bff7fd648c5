"""One open watch: a queue of lines that a test, the history and the clock feed."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from tests.scripted.asked import Asked
from tests.scripted.history import Change
from tests.scripted.pipes import Pipe, reset
from tests.scripted.wire import event, expired


class Watch:
    """A watch as the server sees it.

    Attributes:
        asked: the request.
        opened_at: the resource version that the client asked for, 0 for none.
        sent: how many lines were written.
        bookmarks_at: the version that bookmarks carry; None: the one in force.
    """

    def __init__(self, asked: Asked, request: web.Request) -> None:
        self.asked = asked
        self.view = asked.view
        self.opened_at = asked.resource_version
        self._request = request
        self.sent = 0
        self.bookmarks_at: int | None = None
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._speaking = asyncio.Event()
        self._speaking.set()

    @property
    def wants_bookmarks(self) -> bool:
        return self.asked.query.get("allowWatchBookmarks") in ("true", "1")

    def send(self, lines: bytes) -> None:
        """Send anything; several lines in one piece arrive as one."""
        if lines:
            self._lines.put_nowait(lines)

    def tell(self, change: Change) -> None:
        """Send the line of a change, if the view sees it; never one that the client has."""
        if change.version > self.opened_at:
            self.send(self.view.line_of(change))

    def expire(self, reason: str = "Expired", then: bytes = b"") -> None:
        """Send 410 in the stream, then what a client must not take any more, then end."""
        self.send(event("ERROR", expired(reason)) + then)
        self.end()

    def bookmark(self, version: int) -> None:
        self.send(self.view.bookmark(self.bookmarks_at or version))

    def end(self) -> None:
        """End cleanly once all lines are sent."""
        self._lines.put_nowait(None)

    def reset(self) -> None:
        """Reset the connection."""
        reset(self._request)

    def silence(self) -> None:
        """Hold all lines back; the connection stays."""
        self._speaking.clear()

    def speak(self) -> None:
        """Send what was held back, to whoever still listens."""
        self._speaking.set()

    async def run(
        self, pipe: Pipe, interval_s: Callable[[], float | None], version: Callable[[], int]
    ) -> None:
        """Send lines until the end; bookmarks while there is nothing else to send."""
        while True:
            lines = await self._next(interval_s() if self.wants_bookmarks else None)
            await self._speaking.wait()
            if lines is None:
                return
            if not lines and self._lines.qsize():
                continue  # a bookmark must not overtake what was held back
            await pipe.write(lines or self.view.bookmark(self.bookmarks_at or version()))
            self.sent += 1

    async def _next(self, interval_s: float | None) -> bytes | None:
        """The next piece to send; empty where a bookmark is due, None at the end."""
        try:
            async with asyncio.timeout(interval_s):
                return await self._lines.get()
        except TimeoutError:
            return b""
