"""Names outside our zones: which clients may have them looked up, and the way to the forwarder.

A reply is held in two forms. The forwarder's cache has it by question, for any client. Here its
octets are held by those of the request, behind their response class, as they are right for this
second: the next request with the same octets is answered without being read. When the second is
over, the TTLs are counted down in these octets, as long as the cache has the reply and wants no
refresh of it. Whether the client may ask is looked at each time.
"""

import logging
import struct
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from mcsdns.dns import Query, Response, write_response
from mcsdns.dns.types import Ede, EdeCode, Rcode
from mcsdns.forward.cache import CachedReply
from mcsdns.forward.forwarder import Forwarder
from mcsdns.forward.pending import UpstreamGroup
from mcsdns.server.acl import Acl, prefix_text
from mcsdns.server.packet_cache import is_common, without_options
from mcsdns.stats import TRANSPORTS, ReplyCounters, ReplyKind

logger = logging.getLogger(__name__)

_MAX_READY: Final = 65536
_MAX_READY_TOTAL_BYTES: Final = 16 << 20
"""Past it all ready replies go. With fewer, 20,000 queries in turn had none."""
_MAX_READY_BYTES: Final = 1232
_READY_OVERHEAD_BYTES: Final = 320
"""What a ready reply takes besides its octets: two keys, a struct, a slot."""
_HEAD_BYTES: Final = 11
"""The response class, and the header behind its ID."""
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
    """An immutable snapshot: requests refused by the ACL, and requests with a ready reply."""

    not_allowed: int
    ready: int


class _ReadyReply(msgspec.Struct, gc=False):
    """A rendered reply for one second after the other.

    Attributes:
        octets: the response class, and the reply behind its ID. until_s: until when they are right.
        key, cached: where the forwarder has the reply. age_s: how old it is in `octets`.
        records_at: where its records begin.
    """

    octets: bytes
    until_s: float
    key: bytes
    cached: CachedReply
    age_s: int
    records_at: int

    def count_down(self, age_s: int) -> None:
        """Count the TTLs down to another age; they are right for another second then."""
        passed = age_s - self.age_s
        octets = bytearray(self.octets)
        for at in self.cached.reply.ttls:
            ttl_at = self.records_at + at
            (ttl,) = _TTL.unpack_from(octets, ttl_at)
            _TTL.pack_into(octets, ttl_at, ttl - passed if ttl > passed else 0)
        self.octets, self.age_s = bytes(octets), age_s
        self.until_s += passed


class ForwardHandler:
    """Forwards the queries of one transport, and holds rendered replies for their second.

    Attributes:
        counters: those of the transport.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        acl: Acl,
        clock: Callable[[], float],
        *,
        tcp: bool,
        counters: ReplyCounters | None = None,
        logged: set[str] | None = None,
    ) -> None:
        """Share a forwarder, its cache, and what was logged, with the other transport."""
        self._forwarder = forwarder
        self._acl = acl
        self._clock = clock
        self._tcp = tcp
        self.counters = counters or ReplyCounters(TRANSPORTS[tcp])
        self._ready: dict[bytes, _ReadyReply] = {}
        self._logged: set[str] = set() if logged is None else logged
        self._refused: set[bytes] = set()
        self._ready_bytes = self._not_allowed = self._found_ready = 0

    def ready(self, key: bytes, client: Client) -> bytes | None:
        """Return the class and the reply behind its ID for a request; None where none is ready.

        `key` is the request behind its ID.
        """
        ready = self._ready.get(key)
        if ready is None or not self._acl.allows(client.address()):
            return None
        now_s = self._clock()
        if now_s >= ready.until_s:
            age_s = self._forwarder.cache.age_of(ready.key, ready.cached, now_s)
            if age_s is None:
                self._drop(key)
                return None
            ready.count_down(age_s)
        self._found_ready += 1
        return ready.octets

    def find(self, query: Query) -> UpstreamGroup | None:
        """Return the upstreams of a query's name; None where there are none."""
        return self._forwarder.router.find(query.name, query.labels)

    def handle(
        self, group: UpstreamGroup, query: Query, message: bytes, client: Client, limit: int
    ) -> bytes | None:
        """Return the class and the reply behind its ID; None where the reply comes later.

        `group` is what `find` returned, `limit` the octets that the reply may have.
        """
        address = client.address()
        if not self._acl.allows(address):
            return self._refuse(query, address, limit)
        reply = self._forwarder.ask(
            group, query, address, client.detach, limit, self._clock(), tcp=self._tcp
        )
        if reply is None:
            return None
        octets = reply.octets
        response_class = self.counters.response_class(
            None, query.qtype, octets[3] & 0xF, reply.kind
        )
        octets = response_class + octets[2:]
        if reply.cached is not None and len(octets) <= _MAX_READY_BYTES:
            self._put(query, message, octets, reply.key, reply.cached)
        return octets

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(self._not_allowed, self._found_ready)

    def _put(
        self, query: Query, message: bytes, octets: bytes, cached_key: bytes, cached: CachedReply
    ) -> None:
        """Hold a reply under its request's octets, if these are common and it has all records.

        Only then the offsets of the TTLs hold.
        """
        key, reply = message[2:], cached.reply
        counts: tuple[int, ...] = _COUNTS.unpack_from(octets, _COUNTS_AT)
        additionals = reply.additionals + (query.edns is not None)
        is_whole = counts == (reply.answers, reply.authorities, additionals)
        if not (is_whole and key == without_options(key).lower() and is_common(key, query)):
            return
        self._drop(key)
        if len(self._ready) >= _MAX_READY or self._ready_bytes >= _MAX_READY_TOTAL_BYTES:
            self._ready.clear()
            self._ready_bytes = 0
        records_at = _HEAD_BYTES + len(query.question)
        self._ready[key] = _ReadyReply(
            octets, cached.until_s, cached_key, cached, cached.age_s, records_at
        )
        self._ready_bytes += len(octets) + _READY_OVERHEAD_BYTES

    def _drop(self, key: bytes) -> None:
        ready = self._ready.pop(key, None)
        if ready is not None:
            self._ready_bytes -= len(ready.octets) + _READY_OVERHEAD_BYTES

    def _refuse(self, query: Query, address: bytes, limit: int) -> bytes:
        self._not_allowed += 1
        if address not in self._refused:
            self._log_refused(address)
        octets = write_response(query, _NOT_ALLOWED, limit, ra=True).wire
        kind = ReplyKind.NOT_ALLOWED
        response_class = self.counters.response_class(None, query.qtype, Rcode.REFUSED, kind)
        return response_class + octets[2:]

    def _log_refused(self, address: bytes) -> None:
        """Log each prefix once; a client that is refused often costs no more than the reply."""
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
                self._acl.flags_for(address),
            )
