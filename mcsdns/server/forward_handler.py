"""Names outside our zones: who may have them looked up, and the way through the forwarder."""

import logging
import struct
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from mcsdns.dns import Query, Response, write_response
from mcsdns.dns.types import Ede, EdeCode, Rcode
from mcsdns.forward.cache import Found
from mcsdns.forward.forwarder import Forwarder
from mcsdns.forward.pending import UpstreamGroup
from mcsdns.forward.reply import UpstreamReply
from mcsdns.server.acl import Acl, prefix_text
from mcsdns.server.packet_cache import is_common, without_options
from mcsdns.stats import TRANSPORTS, ReplyCounters, ReplyKind

logger = logging.getLogger(__name__)

_MAX_READY: Final = 65536
_MAX_READY_TOTAL_BYTES: Final = 16 << 20
"""What is ready for its second; past it all go. With fewer, 20,000 questions in turn had none."""
_MAX_READY_BYTES: Final = 1232
_READY_OVERHEAD_BYTES: Final = 320
"""What a ready reply takes besides its octets: two keys, a struct, a slot."""
_HEAD_BYTES: Final = 11
"""The mark, and the header behind its ID."""
_TTL: Final = struct.Struct("!I")
_COUNTS: Final = struct.Struct("!HHH")
_COUNTS_AT: Final = 5
_MAX_LOGGED_PREFIXES: Final = 1000
_MAX_REFUSED: Final = 4096
_NOT_ALLOWED: Final = Response(
    rcode=Rcode.REFUSED,
    ede=Ede(EdeCode.PROHIBITED, "names outside the zone are not looked up for your address"),
)


class Client(Protocol):
    """The sender of the request at hand; valid within the call that it is handed to."""

    def address(self) -> bytes:
        """Return the client's address, 4 or 16 octets."""
        ...

    def detach(self) -> Callable[[bytes], None]:
        """Return what sends a message to the client later; it does nothing if nobody is there."""
        ...


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot: requests of who may not ask, and of whom there was a ready reply."""

    not_allowed: int
    ready: int


class _Ready(msgspec.Struct, gc=False):
    """A rendered reply for one second after the other.

    Attributes:
        marked: the mark, and the octets behind the ID. until_s: until when they are right.
        key, reply: what the forwarder keeps it as. age_s: how old it is in `marked`.
        records_at: where its records begin.
    """

    marked: bytes
    until_s: float
    key: bytes
    reply: UpstreamReply
    age_s: int
    records_at: int

    def grow(self, age_s: int) -> None:
        """Count the TTLs down to another age; it is right for another second then."""
        passed = age_s - self.age_s
        octets = bytearray(self.marked)
        for at in self.reply.ttls:
            ttl_at = self.records_at + at
            (ttl,) = _TTL.unpack_from(octets, ttl_at)
            _TTL.pack_into(octets, ttl_at, ttl - passed if ttl > passed else 0)
        self.marked, self.age_s = bytes(octets), age_s
        self.until_s += passed


class ForwardHandler:
    """Forwards what one transport was asked, and keeps rendered replies for their second."""

    def __init__(
        self,
        forwarder: Forwarder,
        allowed: Acl,
        clock: Callable[[], float],
        *,
        tcp: bool,
        tally: ReplyCounters | None = None,
        logged: set[str] | None = None,
    ) -> None:
        """Share a forwarder, its kept replies, and what was logged, with the other transport."""
        self._forwarder = forwarder
        self._allowed = allowed
        self._clock = clock
        self._tcp = tcp
        self.tally = tally or ReplyCounters(TRANSPORTS[tcp])
        self._ready: dict[bytes, _Ready] = {}
        self._logged: set[str] = set() if logged is None else logged
        self._refused: set[bytes] = set()
        self._ready_bytes = self._not_allowed = self._found_ready = 0

    def ready(self, key: bytes, client: Client) -> bytes | None:
        """Return the class and the reply behind its ID for a request; None where none is ready.

        `key` is the request behind its ID.
        """
        ready = self._ready.get(key)
        if ready is None:
            return None
        if not self._allowed.allows(client.address()):
            return None
        now_s = self._clock()
        if now_s >= ready.until_s:
            age_s = self._forwarder.grown(ready.key, ready.reply, now_s)
            if age_s is None:
                self._forget_ready(key)
                return None
            ready.grow(age_s)
        self._found_ready += 1
        return ready.marked

    def find(self, query: Query) -> UpstreamGroup | None:
        """Return the upstreams of a query's name; None where there are none."""
        return self._forwarder.find(query)

    def handle(
        self, group: UpstreamGroup, query: Query, message: bytes, client: Client, limit: int
    ) -> bytes | None:
        """Return the class and the reply behind its ID; None where the reply comes later.

        `group` is what `find` returned, `limit` the octets that the reply may have.
        """
        if not self._allowed.allows(client.address()):
            return self._refuse(query, client.address(), limit)
        reply = self._forwarder.ask(group, query, message, client, limit, tcp=self._tcp)
        if reply is None:
            return None
        octets = reply.octets
        mark = self.tally.response_class(None, query.qtype, octets[3] & 0xF, reply.kind)
        marked = mark + octets[2:]
        found = reply.found
        if found is not None and len(octets) <= _MAX_READY_BYTES:
            self._keep_ready(query, message, marked, reply.key, found)
        return marked

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(self._not_allowed, self._found_ready)

    def _keep_ready(
        self, query: Query, message: bytes, marked: bytes, kept_key: bytes, found: Found
    ) -> None:
        key, reply = message[2:], found.reply
        if (
            key != without_options(key).lower()
            or not is_common(key, query)
            or not _is_whole(marked, reply, query)
        ):
            return
        self._forget_ready(key)
        if len(self._ready) >= _MAX_READY or self._ready_bytes >= _MAX_READY_TOTAL_BYTES:
            self._ready.clear()
            self._ready_bytes = 0
        records_at = _HEAD_BYTES + len(query.question)
        until_s, age_s = found.until_s, found.age_s
        self._ready[key] = _Ready(marked, until_s, kept_key, reply, age_s, records_at)
        self._ready_bytes += len(marked) + _READY_OVERHEAD_BYTES

    def _forget_ready(self, key: bytes) -> None:
        ready = self._ready.pop(key, None)
        if ready is not None:
            self._ready_bytes -= len(ready.marked) + _READY_OVERHEAD_BYTES

    def _refuse(self, query: Query, address: bytes, limit: int) -> bytes:
        self._not_allowed += 1
        if address not in self._refused:
            self._note_refused(address)
        mark = self.tally.response_class(
            None, query.qtype, _NOT_ALLOWED.rcode, ReplyKind.NOT_ALLOWED
        )
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


def _is_whole(marked: bytes, reply: UpstreamReply, query: Query) -> bool:
    """Say whether a rendered reply has all records, so that the offsets of their TTLs hold."""
    additionals = reply.additionals + (query.edns is not None)
    counts: tuple[int, ...] = _COUNTS.unpack_from(marked, _COUNTS_AT)
    return counts == (reply.answers, reply.authorities, additionals)
