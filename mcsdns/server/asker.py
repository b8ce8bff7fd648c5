"""Who sent a request, as far as a reply that comes later needs it."""

from typing import Protocol

from mcsdns.forward import forwarder


class Asker(forwarder.Asker, Protocol):
    """The sender of the request that is being answered now; valid within that call only."""

    def address(self) -> bytes:
        """Return the client's address, 4 or 16 octets."""
        ...
