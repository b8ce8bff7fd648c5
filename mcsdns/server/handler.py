"""One request's bytes -> its reply's bytes, for one transport.

The order is that of cost: a kept reply under the request's own bytes, one under its parsed
shape, and only then the zone and the writer. Whatever a peer sends ends in a reply or in none.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from mcsdns.dns import (
    HEADER_BYTES,
    MAX_TCP_BYTES,
    MAX_UDP_BYTES,
    Query,
    RenderedMessage,
    Response,
    read_query,
    write_error,
    write_response,
)
from mcsdns.dns.types import Rcode, RRset, RRType
from mcsdns.errors import MessageError
from mcsdns.server.authority import Authority, Decision
from mcsdns.server.forward_handler import Client, ForwardHandler
from mcsdns.server.packet_cache import (
    MAX_ROTATIONS,
    PacketCache,
    Shaped,
    Value,
    marked,
    raw_key,
    shape_key,
    value_of,
    without_options,
)
from mcsdns.stats import TRANSPORTS, ReplyCounters, ReplyKind
from mcsdns.zone.lookup import Answer, NoData, NotReady
from mcsdns.zone.name_shape import owner_of
from mcsdns.zone.tree import Tree

logger = logging.getLogger(__name__)

_MAX_KEPT_REPLY_BYTES: Final = 16384
_ROTATIONS_BYTES: Final = 2048
"""Rotations of one reply beyond the second take no more: what is kept must stay near the core's
caches (measured: SRV of 10,000 services, 8.3 us of CPU with 8 rotations, 6.6 us with this)."""
_SHAPES_PER_NAME: Final = 48
_LOGGED_FAILURES: Final = 10
_STRIDE: Final = 7919
"""Records from one rendering's first to the next one's: a prime, so that cut answers soon have
shown every record."""


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of what one responder did.

    Attributes:
        rendered: replies made anew. malformed: requests answered with FORMERR or NOTIMP.
        dropped: datagrams and messages that got no reply. oversized: answers over 65,535 octets,
        of which a subset was sent. failures: requests that met a fault of ours.
    """

    rendered: int
    malformed: int
    dropped: int
    oversized: int
    failures: int


class Handler:
    """Replies to requests of one transport."""

    def __init__(
        self,
        answerer: Authority,
        tree: Tree,
        kept: PacketCache,
        *,
        tcp: bool,
        clock: Callable[[], float],
        relay: ForwardHandler | None = None,
        tally: ReplyCounters | None = None,
    ) -> None:
        """Take what to answer from; `clock` gives seconds and only turns subsets around.

        With a `relay`, which counts on the same `tally`, names outside our zones are asked
        elsewhere.
        """
        self.kept = kept
        self.tally = tally or (relay.tally if relay else ReplyCounters(TRANSPORTS[tcp]))
        self._relay = relay
        self._answerer = answerer
        self._tree = tree
        self._tcp = tcp
        self._clock = clock
        self._turn = 0
        self._rendered = self._malformed = self._dropped = 0
        self._oversized = self._failures = 0

    def respond(self, message: bytes, asker: Client | None = None) -> bytes | None:
        """Return the reply to a request and count it; None where there is none, or none yet."""
        key = message[2:]
        value = self._find(key)
        reply = self.respond_unkept(message, key, asker) if value is None else marked(value)
        if reply is None:
            return None
        self.tally.by_class[reply[0]] += 1
        return message[:2] + reply[1:]

    def respond_unkept(
        self, message: bytes, key: bytes, asker: Client | None = None
    ) -> bytes | None:
        """Return the reply to a request for which nothing is kept under its own octets.

        That is the octet by which the sender counts it, and the message behind its ID. `key` is
        the request behind its ID; the socket loops look it up themselves. A reply that comes later
        goes through the `asker`; without one nothing is asked elsewhere.
        """
        if self._relay is not None and asker is not None:
            ready = self._relay.ready(key, asker)
            if ready is not None:
                return ready
        plain = without_options(key)
        if plain is not key and (value := self._find(plain)) is not None:
            return marked(value)
        folded = plain.lower()
        if folded != plain and (value := self._find(folded)) is not None:
            question_end = message.index(b"\0", HEADER_BYTES) + 5
            return _echo(message[HEADER_BYTES:question_end], marked(value))
        try:
            query = read_query(message)
            if query is None:
                self._dropped += 1
                return None
            return self._respond_to(message, query, asker)
        except MessageError as error:
            self._malformed += 1
            return self._rejected(message, error)
        except Exception as fault:
            self._note(fault, message)
            return self._rejected(message, MessageError(Rcode.SERVFAIL, "internal fault"))

    def _find(self, key: bytes) -> Value | None:
        return self.kept.known.get(key) or self.kept.unknown.get(key)

    def statistics(self) -> Statistics:
        """Return what was done so far."""
        return Statistics(
            self._rendered, self._malformed, self._dropped, self._oversized, self._failures
        )

    def _respond_to(self, message: bytes, query: Query, asker: Client | None) -> bytes | None:
        limit = self._limit_for(query)
        relay = self._relay
        if relay is not None and asker is not None:  # noqa: SIM102 - so that it is read
            if self._answerer.is_foreign(query) and (group := relay.find(query)) is not None:
                return relay.handle(group, query, message, asker, limit)
        key = shape_key(query)
        if key is not None:
            shaped = self.kept.shaped(key)
            if shaped is not None and shaped.serves(limit):
                self._alias(message, query, shaped)
                return _echo(query.question, marked(shaped.value))
        decision = self._answerer.answer_query(query)
        return self._render(message, query, key, decision)

    def _limit_for(self, query: Query) -> int:
        """Return the octets that a reply to this client may have."""
        return MAX_TCP_BYTES if self._tcp else query.udp_limit()

    def _render(self, message: bytes, query: Query, key: bytes | None, decision: Decision) -> bytes:
        self._rendered += 1
        limit = self._limit_for(query)
        response = decision.response
        if self._tcp and isinstance(decision.outcome, Answer):
            response = self._within_tcp(query, decision.outcome, response)
        records = len(response.answer.rdatas) if response.answer else 1
        self._turn += _STRIDE
        start = self._turn % records
        reply = write_response(query, response, limit, ra=self._relay is not None, start=start)
        is_subset = response is not decision.response
        if key is not None and self.kept.asked_before(key) and not is_subset:
            self._keep(message, query, key, decision)
        return self._mark_of(query, decision) + reply.wire[2:]

    def _mark_of(self, query: Query, decision: Decision) -> bytes:
        rcode = decision.response.rcode
        return self.tally.response_class(decision.zone, query.qtype, rcode, decision.kind)

    def _rejected(self, message: bytes, error: MessageError) -> bytes:
        mark = self.tally.response_class(None, 0, error.rcode, ReplyKind.REJECTED)
        return mark + write_error(message, error)[2:]

    def _keep(self, message: bytes, query: Query, key: bytes, decision: Decision) -> None:
        """Keep a reply with its rotations, if together they hold every record of the answer.

        A common request's is kept under its own octets, an odd one's for all odd requests.
        """
        if decision.shape is None or isinstance(decision.outcome, NotReady):
            return
        raw = raw_key(message, query)
        limit = self._limit_for(query)
        if raw is None and not self._tcp and query.edns is not None:
            limit = MAX_UDP_BYTES
        plain = _in_lower_case(query)
        write = partial(write_response, plain, decision.response, limit, ra=self._relay is not None)
        first = write()
        replies = [
            first if not start else write(start=start) for start in _rotations(decision, first)
        ]
        if not replies:
            return
        tail = decision.response.negative
        shaped = Shaped(
            owner_of(decision.shape),
            isinstance(decision.outcome, Answer | NoData),
            value_of(replies, tail.records if tail else None, self._mark_of(query, decision)),
            limit,
            max(len(each.wire) for each in replies),
            all(each.whole for each in replies),
        )
        size_bytes = sum(len(each.wire) for each in replies)
        if raw is not None:
            self._remember(shaped, raw, shaped.value, size_bytes)
        else:
            self._remember(shaped, key, shaped, size_bytes)

    def _alias(self, message: bytes, query: Query, shaped: Shaped) -> None:
        """Let a request of a common shape find an odd one's reply by its own bytes."""
        raw = raw_key(message, query)
        if raw is not None:
            self._remember(shaped, raw, shaped.value, 0)

    def _remember(self, shaped: Shaped, key: bytes, value: Value | Shaped, size_bytes: int) -> None:
        if not shaped.known:
            self.kept.remember_unknown(shaped.owner, key, value)
            return
        service = self._tree.service(shaped.owner)
        self.kept.trim(shaped.owner, _SHAPES_PER_NAME * (len(service.names) if service else 4))
        self.kept.remember(shaped.owner, key, value, size_bytes)

    def _within_tcp(self, query: Query, answer: Answer, response: Response) -> Response:
        """Cut addresses that would exceed 65,535 octets to a subset that turns with time.

        "DNS servers MAY limit the number of endpoints" (KEP-1645 specification 2.4.1): A and
        AAAA of a name hold the same endpoints within one TTL.
        """
        rrset = answer.rrset
        if rrset.rtype not in (RRType.A, RRType.AAAA):
            return response
        record_bytes = 28 if answer.twins or rrset.rtype == RRType.AAAA else 16
        fitting = (MAX_TCP_BYTES - HEADER_BYTES - len(query.question) - 256) // record_bytes
        records = len(rrset.rdatas)
        endpoints = max(records, answer.twins)
        if endpoints <= fitting:
            return response
        self._oversized += 1
        start = int(self._clock() / max(rrset.ttl, 1)) * fitting
        chosen = [(start + number) % endpoints for number in range(fitting)]
        rdatas = tuple(rrset.rdatas[at] for at in chosen if at < records)
        subset = RRset(rrset.rtype, rrset.ttl, rdatas or rrset.rdatas[:fitting])
        return msgspec.structs.replace(response, answer=subset)

    def _note(self, fault: Exception, message: bytes) -> None:
        """Count a fault of ours and log the first ones; the loop goes on."""
        self._failures += 1
        if self._failures <= _LOGGED_FAILURES:
            logger.error("request failed", exc_info=fault, extra={"request": message[:512].hex()})


def _rotations(decision: Decision, reply: RenderedMessage) -> range | list[int]:
    """Return the records that kept replies begin with; none where the reply is not to be kept.

    Not kept: what is long, and an answer that is cut so short that its rotations would hide some
    of the records for as long as they are kept.
    """
    rrset = decision.response.answer
    records = len(rrset.rdatas) if rrset else 1
    shown = records - reply.left_out
    needed = -(-records // shown) if shown else MAX_ROTATIONS + 1
    affordable = max(2, _ROTATIONS_BYTES // len(reply.wire))
    rotations = max(needed, min(records, MAX_ROTATIONS, affordable))
    if needed > MAX_ROTATIONS or len(reply.wire) * rotations > _MAX_KEPT_REPLY_BYTES:
        return []
    return [number * records // rotations for number in range(rotations)]


def _in_lower_case(query: Query) -> Query:
    return msgspec.structs.replace(query, question=query.name + query.question[-4:])


def _echo(question: bytes, reply: bytes) -> bytes:
    """Put the question as it was asked into a kept reply."""
    return b"".join((reply[:11], question, reply[11 + len(question) :]))
