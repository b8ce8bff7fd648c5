"""One request's octets -> its reply's octets, for one transport.

Whatever a peer sends ends in a reply or in none. The order of the steps is that of their cost: a
cached reply under the request's own octets, which the transports look up themselves, or under those
of a common request; only then the request is parsed, routed, and answered from the zone.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from mcsdns.dns import (
    HEADER_BYTES,
    MAX_TCP_BYTES,
    MAX_UDP_BYTES,
    Query,
    RenderedMessage,
    Response,
    ip,
    read_query,
    write_bad_key,
    write_error,
    write_response,
)
from mcsdns.dns.name import SVC, Name, to_text
from mcsdns.dns.types import Rcode, RRType
from mcsdns.errors import MessageError
from mcsdns.server.authority import Authority, Decision, Foreign, Local
from mcsdns.server.forward_handler import Client, ForwardHandler
from mcsdns.server.packet_cache import (
    CachedReply,
    IncompleteReply,
    NegativeReply,
    PacketCache,
    octets_of,
    request_key,
    without_options,
)
from mcsdns.stats import TRANSPORTS, ReplyCounters, ReplyKind
from mcsdns.zone.lookup import Answer, NoData, NotReady, Outcome
from mcsdns.zone.name_shape import ServiceName, owner_of
from mcsdns.zone.records import NameRecords, ServiceNode, subset

if TYPE_CHECKING:  # few want them
    from mcsdns.server.reply_options import ReplyOptions

logger = logging.getLogger(__name__)

SECONDS: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01)
"""Upper bounds of how long a request takes that is not forwarded, for histograms."""
_MAX_ROTATIONS: Final = 8
_MAX_CACHED_BYTES: Final = 16384
"""Most octets of all rotations of one reply."""
_ROTATIONS_BYTES: Final = 2048
"""Rotations of one reply beyond the second take no more: what is cached must stay near the core's
caches (measured: SRV of 10,000 services, 8.3 us of CPU with 8 rotations, 6.6 us with this)."""
_KEYS_PER_NAME: Final = 48
_A, _AAAA, _SRV = RRType.A.value, RRType.AAAA.value, RRType.SRV.value
_ADDRESSES: Final = (_A, _AAAA)
_LIMITED: Final = (_A, _AAAA, _SRV)
_LOGGED_FAILURES: Final = 10
_STRIDE: Final = 7919
"""Records from the first of one rendering to the first of the next: a prime, so that truncated
answers soon have shown every record."""


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of what one handler did.

    Attributes:
        rendered: replies made anew. malformed: requests answered with FORMERR or NOTIMP.
        dropped: datagrams and messages that got no reply. oversized: answers of which a subset was
        sent, for their octets or how many records they have. failures: requests that met a fault of
        ours.
    """

    rendered: int
    malformed: int
    dropped: int
    oversized: int
    failures: int


class Handler:
    """Replies to requests of one transport.

    Attributes:
        cache: what the transport looks up before it calls `handle`.
        counters: replies by class; whoever sends a reply counts it.
        forward_handler: forwards names outside our zones; None where they are refused. It counts
            by the same classes, and may be replaced at any time.
        reply_options: the EDNS options that replies carry; None for none. Likewise.
    """

    def __init__(
        self,
        authority: Authority,
        cache: PacketCache,
        *,
        tcp: bool,
        clock: Callable[[], float],
        forward_handler: ForwardHandler | None = None,
        counters: ReplyCounters | None = None,
    ) -> None:
        """Take what to answer from; `clock` gives seconds and only rotates subsets."""
        self.cache = cache
        self.forward_handler = forward_handler
        self.reply_options: ReplyOptions | None = None
        if counters is None:
            counters = (
                forward_handler.counters if forward_handler else ReplyCounters(TRANSPORTS[tcp])
            )
        self.counters = counters
        self._authority = authority
        self._tcp = tcp
        self._max_bytes = MAX_TCP_BYTES if tcp else MAX_UDP_BYTES
        self._clock = clock
        self._turn = 0
        self._subsets: dict[tuple[bytes, bytes, int], tuple[ServiceNode, NameRecords]] = {}
        self._subset_turn = 0
        self._rendered = self._malformed = self._dropped = 0
        self._oversized = self._failures = 0

    def reply_to(self, message: bytes, client: Client | None = None) -> bytes | None:
        """Return the whole reply to a request and count it; None as for `handle`."""
        octets = self.handle(message, client)
        if octets is None:
            return None
        self.counters.by_class[octets[0]] += 1
        return message[:2] + octets[1:]

    def handle(self, message: bytes, client: Client | None = None) -> bytes | None:
        """Return the response class of the reply to a request, and its octets behind the ID.

        There is None where there is no reply, and where it comes later, through the client. Without
        a client nothing is forwarded.
        """
        forward_handler = self.forward_handler
        try:
            # 1. Look up: what is ready for the same octets but for options and case.
            key = message[2:]
            if forward_handler is not None and client is not None:
                forwarded = forward_handler.ready(key, client)
                if forwarded is not None:
                    return forwarded
            octets = without_options(key)
            folded = octets.lower()
            ready = None
            if self.reply_options is None or not self.reply_options.are_asked(key[len(octets) :]):
                ready = self.cache.get(folded)
            if ready is not None:
                reply = octets_of(ready)
                if folded == octets:
                    return reply
                return _echo(message[HEADER_BYTES : message.index(b"\0", HEADER_BYTES) + 5], reply)
            # 2. Read: header, one question, OPT.
            query = read_query(message)
            if query is None:
                self._dropped += 1
                return None
            if self.reply_options is not None and query.edns is not None and query.edns.options:
                address = client.address() if client is not None else b""
                options = self.reply_options.of(query.edns.options, address)
                query = msgspec.structs.replace(query, reply_options=options)
            limit = self._max_bytes if self._tcp else query.udp_limit(self._max_bytes)
            # 3. Route: our zones, an upstream, or neither.
            route = self._authority.route(query)
            # 4. Answer, and 5. store; or forward, or refuse.
            if isinstance(route, Local) and query.tsig is None:
                return self._answer(query, octets, route, limit)
            if isinstance(route, Foreign) and forward_handler is not None and client is not None:
                group = forward_handler.find(query)
                if group is not None:
                    return forward_handler.handle(group, query, message, client, limit)
            if query.tsig is not None:
                decision = Decision(Response(rcode=Rcode.NOTAUTH))
                wire = write_bad_key(query, query.tsig)
                return self._response_class(query, None, decision) + wire[2:]
            if isinstance(route, Foreign) and client is not None:
                self._tell_of_pod(query, client)
            decision = self._authority.answer(route, query.qtype)
            rendered = self._render(query, decision.response, limit)
            return self._response_class(query, None, decision) + rendered.wire[2:]
        except MessageError as error:
            self._malformed += 1
            return self._rejection(message, error)
        except Exception as fault:
            self._failures += 1
            if self._failures <= _LOGGED_FAILURES:
                request = message[:512].hex()
                logger.error("request failed", exc_info=fault, extra={"request": request})
            return self._rejection(message, MessageError(Rcode.SERVFAIL, "internal fault"))

    def _tell_of_pod(self, query: Query, client: Client) -> None:
        """Log, once, a pod that has this server as its own, which looks nothing else up.

        Its search list has `<ns>.svc.<cluster domain>`; a stub block sends no such names here.
        """
        if not self._authority.has_told_of_pod and query.name.find(SVC) >= 0:
            self._authority.has_told_of_pod = True
            logger.warning(
                "%s asks for %s, as pods do that have this server as their only one; names outside "
                "the zone are refused (musl waits 5 s for each): have it ask the cluster DNS with "
                "a stub block (mcsdns stub), or give --upstream",
                ip.to_text(client.address()),
                to_text(query.name),
            )

    def statistics(self) -> Statistics:
        """Return what was done so far."""
        return Statistics(
            self._rendered, self._malformed, self._dropped, self._oversized, self._failures
        )

    def _answer(self, query: Query, octets: bytes, route: Local, limit: int) -> bytes:
        """Answer from a zone, and store the reply as `packet_cache` says.

        `octets` are those of the request as `without_options` returns them.
        """
        key, is_shared = request_key(octets, query)
        ready = incomplete = None
        if key is not None:
            ready, incomplete = self.cache.odd.get(key), self.cache.incomplete.get(key)
        if ready is not None:
            reply = octets_of(ready)
            if len(reply) < limit:  # the response class is one octet, the ID two
                return _echo(query.question, reply)

        decision = self._authority.answer(route, query.qtype)
        response = self._shown_now(query, route, decision.response)
        records = len(response.answer.rdatas) if response.answer else 1
        self._turn += _STRIDE
        start = self._turn % records if incomplete is None else incomplete.starts[-1]
        rendered = self._render(query, response, limit, start)
        response_class = self._response_class(query, route.zone.apex, decision)
        reply = response_class + rendered.wire[2:]

        # What was cut for a smaller limit than the key's, or is a subset for the moment, is right
        # for this client alone; what was not read yet, for this moment.
        is_largest = rendered.whole or limit == self._max_bytes or not is_shared
        is_for_key = is_largest and response is decision.response
        if key is None or ready or not is_for_key or isinstance(decision.outcome, NotReady):
            return reply
        if incomplete is not None:
            self.cache.add_rotation(key, response_class + _folded(query, rendered.wire))
        elif self.cache.was_asked(key):
            folded = response_class + _folded(query, rendered.wire)
            cached = _cached_reply(response, rendered, folded, start)
            if cached is not None:
                self._store(owner_of(route.shape), key, cached, decision.outcome)
        return reply

    def _store(self, owner: bytes, key: bytes, reply: CachedReply, outcome: Outcome | None) -> None:
        if isinstance(outcome, Answer | NoData):
            service = self._authority.tree.services.get(owner)
            names = len(service.names) if service else 4
            self.cache.put(owner, key, reply, _KEYS_PER_NAME * names)
        else:
            self.cache.put_unknown(owner, key, reply)

    def _render(
        self, query: Query, response: Response, limit: int, start: int = 0
    ) -> RenderedMessage:
        self._rendered += 1
        ra = self.forward_handler is not None
        return write_response(query, response, limit, ra=ra, start=start)

    def _response_class(self, query: Query, apex: Name | None, decision: Decision) -> bytes:
        rcode = decision.response.rcode
        return self.counters.response_class(apex, query.qtype, rcode, decision.kind)

    def _rejection(self, message: bytes, error: MessageError) -> bytes:
        response_class = self.counters.response_class(None, 0, error.rcode, ReplyKind.REJECTED)
        return response_class + write_error(message, error)[2:]

    def _shown_now(self, query: Query, route: Local, response: Response) -> Response:
        """Cut an answer to the endpoints that are shown now, others with every TTL.

        It is cut where it has more records than the settings allow, and over TCP where it has more
        addresses than 65,535 octets hold. What is shown of a service is kept until the next turn.
        """
        tree, answer, shape = self._authority.tree, response.answer, route.shape
        limit = tree.settings.max_records
        types = _LIMITED if limit else _ADDRESSES if self._tcp else ()
        if answer is None or answer.rtype not in types or not isinstance(shape, ServiceName):
            return response
        node = tree.services[shape.service]
        records = node.names[shape.below]
        if not (records.a or records.aaaa):  # a port has those endpoints that the service has
            records = node.names[b""]
        most = most_srv = limit or MAX_TCP_BYTES
        if self._tcp:
            room = MAX_TCP_BYTES - HEADER_BYTES - len(query.question) - 256
            most = min(most, room // (28 if records.aaaa else 16))
        if max(len(records.a), len(records.aaaa)) <= most and len(records.srv) <= most_srv:
            return response
        self._oversized += 1
        turn = int(self._clock() / max(answer.ttl, 1))
        if turn != self._subset_turn:
            self._subset_turn = turn
            self._subsets.clear()
        key = shape.service, shape.below, most
        of, shown = self._subsets.get(key, (None, records))
        if of is not node:
            shown = subset(node, shape.below, most, most_srv, turn)
            self._subsets[key] = node, shown
        rdatas = {_A: shown.a, _AAAA: shown.aaaa, _SRV: shown.srv}[answer.rtype]
        return msgspec.structs.replace(
            response, answer=msgspec.structs.replace(answer, rdatas=rdatas)
        )


def _cached_reply(
    response: Response, rendered: RenderedMessage, octets: bytes, start: int
) -> CachedReply | None:
    """Return what is cached of a reply; None where it is not to be cached.

    `octets` are those of the reply as they are cached; `start` is the record that they begin with.

    A reply that was truncated shows so many records of all, in a row that wraps around. If as many
    rotations as are needed to show all begin at equal distances, no record is hidden for as long as
    the reply is cached. Where that takes too many rotations, or too many octets, it is not cached.
    """
    if response.negative is not None:
        apex = octets[rendered.soa_at - 1 : rendered.soa_at + 1]
        at = int.from_bytes(apex, "big") & 0x3FFF
        head, opt = octets[: rendered.soa_at - 1], octets[rendered.opt_at - 1 :]
        return NegativeReply(head, response.negative.records, at, opt)
    records = len(response.answer.rdatas) if response.answer else 1
    shown = records - rendered.left_out
    needed = -(-records // shown) if shown else _MAX_ROTATIONS + 1
    affordable = max(2, _ROTATIONS_BYTES // len(octets))
    rotations = max(needed, min(records, _MAX_ROTATIONS, affordable))
    if needed > _MAX_ROTATIONS or len(octets) * rotations > _MAX_CACHED_BYTES:
        return None
    if rotations == 1:
        return octets
    starts = [(start + turn * records // rotations) % records for turn in range(1, rotations)]
    return IncompleteReply([octets], starts[::-1])


def _folded(query: Query, wire: bytes) -> bytes:
    """Return a reply behind its ID, the name of its question in lower case."""
    if query.question.startswith(query.name):
        return wire[2:]
    return b"".join((wire[2:HEADER_BYTES], query.name, wire[HEADER_BYTES + len(query.name) :]))


def _echo(question: bytes, reply: bytes) -> bytes:
    """Put the question as it was asked into a cached reply."""
    return b"".join((reply[:11], question, reply[11 + len(question) :]))
