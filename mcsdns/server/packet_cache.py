"""Replies rendered before, found by the bytes of the request; forgets exactly what changed.

A reply is a function of the question, RD, CD, OPT and DO, the transport, the size the client
takes, and the zone. Keys are of two forms, which cannot meet since a request has QR clear:

- the request behind its ID, name in lower case and without EDNS options: found without parsing.
  Only for requests whose other octets are no ASCII letters, so that folding the case of all
  octets folds the name alone;
- `shape_key`: question and flags after parsing, for requests of odd sizes.

Values are what stands behind the ID, with the mark of `tally` in front: octets; an endless iterator
over up to 8 rotations; or a negative reply, whose SOA is taken from the zone's shared list at the
moment of sending.

Names that exist are held apart from all others, so that unknown names never push out known ones;
a reply is kept when it is asked for the second time, so that a scan leaves nothing behind.
"""

import array
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mcsdns.dns import HEADER_BYTES, Query, RenderedMessage
from mcsdns.dns.types import RRType

MAX_ROTATIONS: Final = 8
_DOOR_SLOTS: Final = 1 << 16
_KEY_OVERHEAD_BYTES: Final = 200
"""What a kept reply costs besides its octets: key, dictionary slot, owner's list."""
_USUAL_SIZES: Final = frozenset({512, 1232, 1220, 1400, 1410, 1452, 1472, 4000, 4096, 8192})
_QUESTION_AND_OPT: Final = b"\0\1\0\0\0\0\0\1"
_OPT_OWNER_AND_TYPE: Final = b"\0\0\x29"
_OPT_BYTES: Final = 11
KEPT_TYPES: Final = frozenset(
    {
        *(RRType.A, RRType.AAAA, RRType.SRV, RRType.TXT, RRType.NS, RRType.SOA, RRType.CNAME),
        *(RRType.PTR, RRType.MX, RRType.HTTPS, RRType.SVCB, RRType.ANY),
    }
)


class Negative(msgspec.Struct, frozen=True, gc=False):
    """A kept reply with the zone's SOA in it.

    Attributes:
        head: the mark, and from the flags to the end of the question. opt: the OPT record, if any.
        tails: the zone's SOA records by offset, shared with all others. at: which one.
    """

    head: bytes
    tails: list[bytes]
    at: int
    opt: bytes


Value = bytes | Negative | Iterator[bytes]


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot: how many replies are kept, and the octets they take."""

    known: int
    unknown: int
    size_bytes: int


class Shaped(msgspec.Struct, frozen=True, gc=False):
    """What is kept under a `shape_key`, and for whom it is right.

    Attributes:
        limit: the octets it was rendered for. size_bytes: the octets of the longest rotation.
        whole: nothing was left out, so it is right for every limit it fits in.
        owner: whose change drops it. known: whether the name exists.
    """

    owner: bytes
    known: bool
    value: Value
    limit: int
    size_bytes: int
    whole: bool

    def serves(self, limit: int) -> bool:
        """Say whether a client that takes `limit` octets would get the same reply."""
        return limit == self.limit or (self.whole and self.size_bytes <= limit)


class PacketCache:
    """Kept replies of one transport.

    Attributes:
        known: key -> value, of names that exist. unknown: the same of all others.
    """

    def __init__(self, max_bytes: int, max_unknown: int = 16384) -> None:
        self.known: dict[bytes, Value] = {}
        self.unknown: dict[bytes, Value] = {}
        self._shaped: dict[bytes, Shaped] = {}
        self._owners: dict[bytes, dict[bytes, int]] = {}
        self._unknown_of: dict[bytes, set[bytes]] = {}
        self._unknown_keys = 0
        self._door = array.array("q", bytes(8 * _DOOR_SLOTS))
        self._max_bytes = max_bytes
        self._max_unknown = max_unknown
        self._size_bytes = 0

    def asked_before(self, key: bytes) -> bool:
        """Say whether this key was seen not long ago, and remember that it was seen now."""
        mark = hash(key)
        slot = mark & (_DOOR_SLOTS - 1)
        if self._door[slot] == mark:
            return True
        self._door[slot] = mark
        return False

    def shaped(self, key: bytes) -> Shaped | None:
        """Return what is kept under a `shape_key`."""
        return self._shaped.get(key)

    def remember(self, owner: bytes, key: bytes, value: Value | Shaped, size_bytes: int) -> None:
        """Keep the reply of a name that exists; the owner kept longest makes room.

        `size_bytes` is what the value takes, 0 where another key has counted it.
        """
        keys = self._owners.setdefault(owner, {})
        if key in keys:
            self._drop(keys, key)
        if isinstance(value, Shaped):
            self._shaped[key] = value
        else:
            self.known[key] = value
        keys[key] = size_bytes + len(key) + _KEY_OVERHEAD_BYTES
        self._size_bytes += keys[key]
        while self._size_bytes > self._max_bytes:
            self._forget_known(next(iter(self._owners)))

    def trim(self, owner: bytes, max_keys: int) -> None:
        """Drop the oldest shapes of an owner that has more than `max_keys`."""
        keys = self._owners.get(owner, {})
        while len(keys) > max_keys:
            self._drop(keys, next(iter(keys)))

    def remember_unknown(self, owner: bytes, key: bytes, value: Value | Shaped) -> None:
        """Keep the reply of a name that does not exist; where too many are kept, all go."""
        if self._unknown_keys >= self._max_unknown:
            self.forget(list(self._unknown_of), unknown_only=True)
        if isinstance(value, Shaped):
            self._shaped[key] = value
        else:
            self.unknown[key] = value
        keys = self._unknown_of.setdefault(owner, set())
        self._unknown_keys += key not in keys
        keys.add(key)

    def forget(self, owners: Iterable[bytes], *, unknown_only: bool = False) -> None:
        """Drop the replies of these owners, and no others."""
        for owner in owners:
            if not unknown_only:
                self._forget_known(owner)
            keys = self._unknown_of.pop(owner, set())
            self._unknown_keys -= len(keys)
            for key in keys:
                self.unknown.pop(key, None)
                self._shaped.pop(key, None)

    def owners(self) -> set[bytes]:
        """Return whose replies are kept: for what all replies depend on."""
        return self._owners.keys() | self._unknown_of.keys()

    def statistics(self) -> Statistics:
        """Return how much is kept."""
        known = sum(map(len, self._owners.values()))
        return Statistics(known, self._unknown_keys, self._size_bytes)

    def _forget_known(self, owner: bytes) -> None:
        keys = self._owners.pop(owner, {})
        while keys:
            self._drop(keys, next(iter(keys)))

    def _drop(self, keys: dict[bytes, int], key: bytes) -> None:
        self._size_bytes -= keys.pop(key)
        self.known.pop(key, None)
        self._shaped.pop(key, None)


def raw_key(message: bytes, query: Query) -> bytes | None:
    """Return the key that finds this request unparsed; None where its shape is not common."""
    edns = query.edns
    if edns is not None and not (edns.plain and edns.size in _USUAL_SIZES):
        return None
    name_end = HEADER_BYTES + len(query.name)
    if message.find(b"\0", HEADER_BYTES) != name_end - 1:
        return None  # a NUL in a label: who echoes the case finds the name's end by its NUL
    key = without_options(message[2:])
    rest = key[: HEADER_BYTES - 2] + key[name_end - 2 :]
    if not rest.lower() == rest == rest.upper():
        return None
    return key.lower()


def without_options(key: bytes) -> bytes:
    """Return a request's octets behind its ID as they were without EDNS options.

    Only for requests of exactly one question without NUL in its name and one OPT record behind
    it, whose options are well-formed; all others are returned as they are.
    """
    if not key.startswith(_QUESTION_AND_OPT, 2):
        return key
    opt = key.find(b"\0", 10) + 5
    begin = at = opt + _OPT_BYTES
    end = len(key)
    if begin >= end or not key.startswith(_OPT_OWNER_AND_TYPE, opt):
        return key
    if key[begin - 2] << 8 | key[begin - 1] != end - begin:
        return key
    while at + 4 <= end:
        at += 4 + (key[at + 2] << 8 | key[at + 3])
    return key[: begin - 2] + b"\0\0" if at == end else key


def shape_key(query: Query) -> bytes | None:
    """Return the key of a parsed request; None where nothing of its shape is kept.

    Requests with an OPT share the replies made for the largest size; whether such a reply fits
    the client is for the caller to see.
    """
    edns = query.edns
    if query.qtype not in KEPT_TYPES or (edns is not None and edns.version):
        return None
    kind = 0 if edns is None else 2 if edns.do else 1
    flags = 0x80 | kind << 2 | query.rd << 1 | query.cd
    return bytes((flags,)) + query.name + query.question[-4:]


def value_of(replies: list[RenderedMessage], tails: list[bytes] | None, mark: bytes) -> Value:
    """Turn rendered replies, one per rotation, into what is kept."""
    first = replies[0]
    if first.soa_at and tails is not None:
        pointer = int.from_bytes(first.wire[first.soa_at : first.soa_at + 2], "big") & 0x3FFF
        return Negative(
            mark + first.wire[2 : first.soa_at], tails, pointer, first.wire[first.opt_at :]
        )
    if len(replies) == 1:
        return mark + first.wire[2:]
    return itertools.cycle([mark + reply.wire[2:] for reply in replies])


def marked(value: Value) -> bytes:
    """Return the mark and the octets to send behind the ID, with the question in lower case."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Negative):
        return value.head + value.tails[value.at] + value.opt
    return next(value)
