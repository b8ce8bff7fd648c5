"""Who sent a request, as far as a reply that comes later needs it."""

from collections.abc import Callable
from typing import Protocol


class Asker(Protocol):
    """The sender of the request that is being answered now; valid within that call only."""

    def address(self) -> bytes:
        """Return the client's address, 4 or 16 octets."""
        ...

    def detach(self) -> Callable[[bytes], None]:
        """Return what sends a whole message there later; it does nothing if nobody is there."""
        ...
