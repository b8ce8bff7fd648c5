"""The way of a body to the client: as it is, byte by byte, or cut off."""

import asyncio
import socket
import struct

from aiohttp import web

from tests.scripted.faults import Action, Dribble, Reset

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CutError(Exception):
    """The connection was reset by a fault."""


def reset(request: web.BaseRequest) -> None:
    """Reset the connection of a request: no end of the body, no farewell."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


class Pipe:
    """Writes the body of one response as its fault wants it."""

    def __init__(self, request: web.Request, action: Action | None) -> None:
        self._request = request
        self._left = action.after_bytes if isinstance(action, Reset) else None
        self._step = 1 if isinstance(action, Dribble) else 1 << 16
        self.response = web.StreamResponse(headers={"Content-Type": "application/json"})

    async def open(self, length: int | None = None, code: int = 200) -> None:
        """Send the headers; chunked where the length is not known."""
        self._cut_if(self._left is not None and self._left < 0)
        self.response.set_status(code)
        self.response.content_length = length
        await self.response.prepare(self._request)

    async def write(self, body: bytes) -> None:
        """Send a part of the body.

        Raises:
            CutError: the fault says that the connection ends here.
        """
        if self._left is not None:
            body, is_last = body[: self._left], len(body) >= self._left
            self._left -= len(body)
            await self._send(body)
            self._cut_if(is_last)
            return
        await self._send(body)

    async def _send(self, body: bytes) -> None:
        for start in range(0, len(body), self._step):
            await self.response.write(body[start : start + self._step])
            await asyncio.sleep(0)

    def _cut_if(self, condition: bool) -> None:
        if condition:
            reset(self._request)
            raise CutError
