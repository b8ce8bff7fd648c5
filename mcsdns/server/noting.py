"""What the sockets keep of requests besides counts: how long they took, and a note of some."""

from collections.abc import Sequence
from typing import Final, Protocol

SECONDS: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01)
"""Upper bounds of how long an answer takes that waits for nobody."""


class QueryLog(Protocol):
    """Takes a note of some requests."""

    def due(self, requests: int) -> Sequence[int]:
        """Return which of the next so many requests are to be noted, by their place."""
        ...

    def note(
        self, request: bytes, reply: bytes, address: bytes, transport: str, kind: str = ""
    ) -> None:
        """Note one request; `reply` is empty where it comes later or never."""
        ...
