"""The API server as checks ask it: one document at a time, each within a time."""

from typing import Final, TypeVar

import anyio
import msgspec

from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.codec import UNREADABLE, ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_ANSWER_S: Final = 10.0

Form = TypeVar("Form")


class Api:
    """An API server and our identity there."""

    def __init__(self, cluster: ApiServer, *, within_s: float = _ANSWER_S) -> None:
        """Take the cluster, which whoever made it closes."""
        self._cluster = cluster
        self._within_s = within_s

    @property
    def url(self) -> str:
        """Which one it is."""
        return self._cluster.place.url

    async def read(self, path: str) -> bytes | None:
        """Read a document; None where there is none (404).

        Raises:
            ApiError: it cannot be read.
        """
        try:
            return await self._exchange(path, b"")
        except ApiError as error:
            if error.trouble is Trouble.NOT_FOUND:
                return None
            raise

    async def read_as(self, path: str, form: type[Form]) -> Form | None:
        """Read a document into a form; see `read`."""
        octets = await self.read(path)
        return None if octets is None else self._decode(path, octets, form)

    async def post(self, path: str, document: object, form: type[Form]) -> Form:
        """Send a document and read what comes back.

        Raises:
            ApiError: it was refused, or not answered.
        """
        octets = await self._exchange(path, msgspec.json.encode(document))
        return self._decode(path, octets, form)

    async def _exchange(self, path: str, document: bytes) -> bytes:
        cluster, within_s = self._cluster, self._within_s
        asked = (
            cluster.post(path, document, within_s=within_s)
            if document
            else cluster.get(path, within_s=within_s)
        )
        async with asked as response:
            with anyio.move_on_after(within_s):
                return await response.read()
        raise ApiError(Trouble.LOST, f"{self.url}{path}: no answer in time")

    def _decode(self, path: str, octets: bytes, form: type[Form]) -> Form:
        try:
            return msgspec.json.decode(octets, type=form)
        except UNREADABLE as error:
            why = f"{self.url}{path}: the answer is not understood: {error}"
            raise ApiError(Trouble.UNREADABLE, why) from None
