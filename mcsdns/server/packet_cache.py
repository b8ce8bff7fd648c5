"""A packet cache: rendered replies, found by the octets of the request.

Keys. A reply is a function of the question without the case of its name, RD, CD, OPT and DO, the
transport, the size that the client takes, and the zone. There are two kinds of keys:

- a common request is its own key: its octets behind the ID, in lower case and without EDNS options.
  The transports find such a reply without parsing the request. A request is common only if none of
  its octets outside the name is an ASCII letter, so that folding the case of all octets folds that
  of the name alone, and if its EDNS size is one that many clients send;
- all other requests share one key for each question and flags, with the QR bit set. The reply is
  the one for the largest size. It is right for a client that takes less, if it fits: the writer
  adds whole records until one does not fit, so a smaller limit that is not exceeded changes
  nothing. These replies are held apart, for a datagram with QR set must never find one.

What is cached when. Most names of a scan are asked once, and each reply costs memory, so:

1. The first question for a key leaves one hash in a table of fixed size (the doorkeeper).
2. The reply to the second question is cached as it was sent, but for the case of its question.
   An answer with several records has several rotations; a cached reply is all of them, sent in
   turn, so that every client does not connect to the first address. Until all are there, the reply
   is incomplete, and no transport finds it.
3. Each further question for an incomplete reply renders the next rotation and sends it. The last
   one makes the reply ready. So nothing is rendered that is not sent, and nothing of the zone is
   held: what an incomplete reply knows is where the rotations to come begin. They belong together,
   since a change of the service evicts the reply, complete or not.

What is ready is octets; or a C iterator over the octets of all rotations, so that taking the next
one runs no Python code; or a negative reply, whose SOA record is the zone's at the moment of
sending: a new serial changes one shared list of records, not the replies.
In front of the octets stands that of the response class (`stats.ReplyCounters`), instead of the ID.

What goes when. Each reply has an owner, whose change alone can change it (`name_shape.owner_of`),
and is evicted with it. Replies for names that exist have a budget in octets; the owner that came
first makes room. Replies for all other names have a budget in number, and the oldest go. So
unknown names never push out known ones. Nor do odd requests for one name push out other names: an
owner has a bounded number of keys.
"""

import array
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mcsdns.dns import HEADER_BYTES, Query
from mcsdns.dns.types import RRType

_DOOR_SLOTS: Final = 1 << 16
_EVICTED_AT_ONCE: Final = 64
_KEY_OVERHEAD_BYTES: Final = 200
"""What a cached reply takes besides its octets: key, dictionary slot, owner's list."""
_USUAL_SIZES: Final = frozenset({512, 1232, 1220, 1400, 1410, 1452, 1472, 4000, 4096, 8192})
_QR: Final = 0x80
_QUESTION_AND_OPT: Final = b"\0\1\0\0\0\0\0\1"
_OPT_OWNER_AND_TYPE: Final = b"\0\0\x29"
_OPT_BYTES: Final = 11
_TYPES: Final = frozenset(
    {
        *(RRType.A, RRType.AAAA, RRType.SRV, RRType.TXT, RRType.NS, RRType.SOA, RRType.CNAME),
        *(RRType.PTR, RRType.MX, RRType.HTTPS, RRType.SVCB, RRType.ANY),
    }
)
"""Replies for other types are never cached."""


class NegativeReply(msgspec.Struct, frozen=True, gc=False):
    """A NODATA or NXDOMAIN reply, with the SOA record that its zone has when it is sent.

    Attributes:
        head: the response class, and from the flags to the end of the question.
        soas: the zone's SOA record by offset of the apex, shared with all others. at: which one.
        opt: the OPT record, if any.
    """

    head: bytes
    soas: list[bytes]
    at: int
    opt: bytes


ReadyReply = bytes | NegativeReply | Iterator[bytes]


class IncompleteReply(msgspec.Struct, gc=False):
    """A reply some of whose rotations were rendered.

    Attributes:
        rotations: those that were sent. starts: the first records of those to come, last one first.
    """

    rotations: list[bytes]
    starts: list[int]


CachedReply = bytes | NegativeReply | IncompleteReply


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot: how many replies are cached, and the octets they take."""

    known: int
    unknown: int
    size_bytes: int


class PacketCache:
    """The cached replies of one transport.

    Attributes:
        known: ready replies to common requests for names that exist.
        unknown: the same for all other names.
        odd: ready replies to all other requests.
        incomplete: replies that are not ready, to requests of all kinds.
    """

    def __init__(self, max_bytes: int, max_unknown: int = 16384) -> None:
        """Bound what is cached by octets, for names that exist, and by number for all others."""
        self.known: dict[bytes, ReadyReply] = {}
        self.unknown: dict[bytes, ReadyReply] = {}
        self.odd: dict[bytes, ReadyReply] = {}
        self.incomplete: dict[bytes, IncompleteReply] = {}
        self._keys_of: dict[bytes, dict[bytes, int]] = {}
        self._unknown_keys_of: dict[bytes, set[bytes]] = {}
        self._unknown_keys = 0
        self._door = array.array("q", bytes(8 * _DOOR_SLOTS))
        self._max_bytes = max_bytes
        self._max_unknown = max_unknown
        self._size_bytes = 0

    def get(self, key: bytes) -> ReadyReply | None:
        """Return the ready reply to a common request."""
        return self.known.get(key) or self.unknown.get(key)

    def was_asked(self, key: bytes) -> bool:
        """Return whether a key was asked for not long ago, and note that it was now."""
        hashed = hash(key)
        slot = hashed & (_DOOR_SLOTS - 1)
        if self._door[slot] == hashed:
            return True
        self._door[slot] = hashed
        return False

    def put(self, owner: bytes, key: bytes, reply: CachedReply, max_keys: int) -> None:
        """Cache a reply for a name that exists; the owner that came first makes room.

        Of the owner's keys the oldest goes where it has `max_keys`.
        """
        keys = self._keys_of.setdefault(owner, {})
        if key in keys:
            self._drop(keys, key)
        while len(keys) >= max_keys:
            self._drop(keys, next(iter(keys)))
        match reply:
            case IncompleteReply():
                self.incomplete[key] = reply
                size_bytes = len(reply.rotations[0]) * (1 + len(reply.starts))
            case NegativeReply():
                self._ready(self.known, key)[key] = reply
                size_bytes = len(octets_of(reply))
            case octets:
                self._ready(self.known, key)[key] = octets
                size_bytes = len(octets)
        keys[key] = size_bytes + len(key) + _KEY_OVERHEAD_BYTES
        self._size_bytes += keys[key]
        while self._size_bytes > self._max_bytes:
            self._evict_known(next(iter(self._keys_of)))

    def put_unknown(self, owner: bytes, key: bytes, reply: CachedReply) -> None:
        """Cache a reply for a name that does not exist; where there are too many, old ones go."""
        assert not isinstance(reply, IncompleteReply), "there are no records"
        if self._unknown_keys >= self._max_unknown:
            self._evict_some_unknown()
        self._ready(self.unknown, key)[key] = reply
        keys = self._unknown_keys_of.setdefault(owner, set())
        self._unknown_keys += key not in keys
        keys.add(key)

    def add_rotation(self, key: bytes, octets: bytes) -> None:
        """Add the next rotation of an incomplete reply; the last one makes it ready."""
        reply = self.incomplete[key]
        reply.rotations.append(octets)
        reply.starts.pop()
        if not reply.starts:
            del self.incomplete[key]
            self._ready(self.known, key)[key] = itertools.cycle(reply.rotations)

    def evict(self, owners: Iterable[bytes]) -> None:
        """Drop the replies of these owners, and no others."""
        for owner in owners:
            self._evict_known(owner)
            self._evict_unknown(owner)

    def owners(self) -> set[bytes]:
        """Return the owners of all replies."""
        return self._keys_of.keys() | self._unknown_keys_of.keys()

    def statistics(self) -> Statistics:
        """Return how much is cached."""
        known = sum(map(len, self._keys_of.values()))
        return Statistics(known, self._unknown_keys, self._size_bytes)

    def _ready(self, common: dict[bytes, ReadyReply], key: bytes) -> dict[bytes, ReadyReply]:
        return self.odd if key[0] & _QR else common

    def _evict_known(self, owner: bytes) -> None:
        keys = self._keys_of.pop(owner, {})
        while keys:
            self._drop(keys, next(iter(keys)))

    def _evict_some_unknown(self) -> None:
        """Drop the oldest replies for names that do not exist; all of them would take 10 ms."""
        left = _EVICTED_AT_ONCE
        for owner in tuple(itertools.islice(self._unknown_keys_of, left)):
            keys = self._unknown_keys_of[owner]
            while keys and left:
                key = keys.pop()
                self._ready(self.unknown, key).pop(key, None)
                self._unknown_keys -= 1
                left -= 1
            if not keys:
                del self._unknown_keys_of[owner]

    def _evict_unknown(self, owner: bytes) -> None:
        keys = self._unknown_keys_of.pop(owner, ())
        self._unknown_keys -= len(keys)
        for key in keys:
            self._ready(self.unknown, key).pop(key, None)

    def _drop(self, keys: dict[bytes, int], key: bytes) -> None:
        self._size_bytes -= keys.pop(key)
        self._ready(self.known, key).pop(key, None)
        self.incomplete.pop(key, None)


def without_options(octets: bytes) -> bytes:
    """Return a request's octets behind its ID as they were without EDNS options.

    Only for requests of exactly one question without NUL in its name and one OPT record behind
    it, whose options are well-formed; all others are returned as they are.
    """
    if not octets.startswith(_QUESTION_AND_OPT, 2):
        return octets
    opt = octets.find(b"\0", 10) + 5
    begin = at = opt + _OPT_BYTES
    end = len(octets)
    if begin >= end or not octets.startswith(_OPT_OWNER_AND_TYPE, opt):
        return octets
    if octets[begin - 2] << 8 | octets[begin - 1] != end - begin:
        return octets
    while at + 4 <= end:
        at += 4 + (octets[at + 2] << 8 | octets[at + 3])
    return octets[: begin - 2] + b"\0\0" if at == end else octets


def is_common(octets: bytes, query: Query) -> bool:
    """Return whether a request is its own key; `octets` are as `without_options` returns them."""
    edns = query.edns
    if edns is not None and not (edns.plain and edns.size in _USUAL_SIZES):
        return False
    name_end = HEADER_BYTES - 2 + len(query.name)
    if octets.find(b"\0", HEADER_BYTES - 2) != name_end - 1:
        return False  # a NUL in a label: the end of a cached reply's name is found by its NUL
    rest = octets[: HEADER_BYTES - 2] + octets[name_end:]
    return rest == rest.swapcase()


def request_key(octets: bytes, query: Query) -> tuple[bytes | None, bool]:
    """Return the key of a request, and whether requests for other sizes share it.

    `octets` are as `without_options` returns them. There is no key where the reply is never cached.
    """
    edns = query.edns
    if query.qtype not in _TYPES or (edns is not None and (edns.version or query.reply_options)):
        return None, False
    if is_common(octets, query):
        return octets.lower(), False
    kind = 0 if edns is None else 2 if edns.do else 1
    flags = _QR | kind << 2 | query.rd << 1 | query.cd
    return bytes((flags,)) + query.name + query.question[-4:], edns is not None


def octets_of(reply: ReadyReply) -> bytes:
    """Return what to send: the response class and the octets behind the ID, in lower case."""
    if isinstance(reply, bytes):
        return reply
    if isinstance(reply, NegativeReply):
        return reply.head + reply.soas[reply.at] + reply.opt
    return next(reply)
