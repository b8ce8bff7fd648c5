"""Names outside our zones: who may have them looked up, and the way through the forwarder."""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from mcsdns.rrset import Ede, EdeCode, Rcode
from mcsdns.server.allow import Allowed, prefix_text
from mcsdns.server.asker import Asker
from mcsdns.server.kept import raw_key
from mcsdns.tally import TRANSPORTS, Kind, Tally
from mcsdns.upstream.forward import Forwarder
from mcsdns.wire import Query, Response, write_response

logger = logging.getLogger(__name__)

_MAX_READY: Final = 65536
_MAX_READY_TOTAL_BYTES: Final = 16 << 20
"""What is ready for its second; past it all go. With fewer, 20,000 questions in turn had none."""
_MAX_READY_BYTES: Final = 1232
_MAX_LOGGED_PREFIXES: Final = 1000
_MAX_REFUSED: Final = 4096
_NOT_ALLOWED: Final = Response(
    rcode=Rcode.REFUSED,
    ede=Ede(EdeCode.PROHIBITED, "names outside the zone are not looked up for your address"),
)


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot: requests of who may not ask, and of whom there was a ready reply."""

    not_allowed: int
    ready: int


class Relay:
    """Forwards what one transport was asked, and keeps rendered replies for their second."""

    def __init__(
        self,
        forwarder: Forwarder,
        allowed: Allowed,
        clock: Callable[[], float],
        *,
        tcp: bool,
        tally: Tally | None = None,
        logged: set[str] | None = None,
    ) -> None:
        """Share a forwarder, its kept replies, and what was logged, with the other transport."""
        self._forwarder = forwarder
        self._allowed = allowed
        self._clock = clock
        self._tcp = tcp
        self.tally = tally or Tally(TRANSPORTS[tcp])
        self._ready: dict[bytes, tuple[bytes, float]] = {}
        self._logged: set[str] = set() if logged is None else logged
        self._refused: set[bytes] = set()
        self._ready_bytes = self._not_allowed = self._found_ready = 0

    def recall(self, key: bytes, asker: Asker) -> bytes | None:
        """Return the mark and what to send behind the ID for a request asked within this second."""
        ready = self._ready.get(key)
        if ready is None:
            return None
        octets, until_s = ready
        if self._clock() >= until_s:
            self._forget_ready(key)
            return None
        if not self._allowed.allows(asker.address()):
            return None
        self._found_ready += 1
        return octets

    def serves(self, query: Query) -> bool:
        """Say whether there is an upstream for a name."""
        return self._forwarder.serves(query)

    def ask(self, query: Query, message: bytes, asker: Asker, limit: int) -> bytes | None:
        """Return the mark and the reply behind its ID, or None where it comes later."""
        if not self._allowed.allows(asker.address()):
            return self._refuse(query, asker.address(), limit)
        reply = self._forwarder.ask(query, message, asker, limit, tcp=self._tcp)
        if reply is None:
            return None
        octets, until_s, kind = reply
        mark = self.tally.mark_of(None, query.qtype, octets[3] & 0xF, kind)
        marked = mark + octets[2:]
        if until_s and len(octets) <= _MAX_READY_BYTES:
            self._keep_ready(query, message, marked, until_s)
        return marked

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(self._not_allowed, self._found_ready)

    def _keep_ready(self, query: Query, message: bytes, marked: bytes, until_s: float) -> None:
        key = message[2:]
        if raw_key(message, query) != key:
            return
        self._forget_ready(key)
        if len(self._ready) >= _MAX_READY or self._ready_bytes >= _MAX_READY_TOTAL_BYTES:
            self._ready.clear()
            self._ready_bytes = 0
        self._ready[key] = marked, until_s
        self._ready_bytes += len(marked)

    def _forget_ready(self, key: bytes) -> None:
        octets, _ = self._ready.pop(key, (b"", 0.0))
        self._ready_bytes -= len(octets)

    def _refuse(self, query: Query, address: bytes, limit: int) -> bytes:
        self._not_allowed += 1
        if address not in self._refused:
            self._note_refused(address)
        mark = self.tally.mark_of(None, query.qtype, _NOT_ALLOWED.rcode, Kind.NOT_ALLOWED)
        return mark + write_response(query, _NOT_ALLOWED, limit, ra=True).wire[2:]

    def _note_refused(self, address: bytes) -> None:
        """Log each prefix once; who is refused often costs no more than the reply."""
        if not address or len(self._logged) >= _MAX_LOGGED_PREFIXES:
            return
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
        self._refused.add(address)
        prefix = prefix_text(address)
        if prefix not in self._logged:
            self._logged.add(prefix)
            logger.warning(
                "names outside the zone are not looked up for %s; to allow it: %s",
                prefix,
                self._allowed.flags_for(address),
            )
