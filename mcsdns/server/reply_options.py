"""EDNS options that replies carry where the settings want it: NSID (RFC 5001)."""

from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import NSID_OPTION, OPTION


class ReplyOptions:
    """The options of replies."""

    def __init__(self, name: str) -> None:
        """Take the name of this server."""
        octets = name.encode()
        self._nsid = OPTION.pack(NSID_OPTION, len(octets)) + octets

    def of(self, options: bytes) -> bytes:
        """Return what the reply carries for a request's options, which are well-formed.

        An option counts once, however often it stands there.
        """
        asked = {code for code, _ in Cursor(options).options()}
        return self._nsid if NSID_OPTION in asked else b""
