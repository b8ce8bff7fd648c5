"""Forwarding loops: a server sends us what we forwarded, and we would forward it again.

What is forwarded carries a mark: an EDNS option for local use (RFC 6891, 9: 65001 to 65534) with an
entry of eight octets for each mcsdns that the question has passed. Ours is a hash of the question,
keyed with a secret made at start: nobody can make one or tell by it who forwarded. Those of others
are carried on unread, at most seven. A question that comes in with our own entry is a loop, and so
is one with more than seven others. It is answered with SERVFAIL.

What is in flight is joined by its question alone, never by what a client may choose (RFC 5452, 5:
"a resolver SHOULD not allow multiple outstanding queries for the same question"; CERT VU#457875).
But who joins waits, and in a loop all wait for each other: A's question goes on to B, joins what B
sent to A for a client of its own, and that has joined A's. So for one question there are two
flights at most, unmarked and marked:

- A question with a mark joins the marked one or begins it, whatever stands in its mark. It has
  passed another mcsdns and may be our own, so it never waits for what a client began. For two in a
  circle, each asked by a client, that is enough: either question returns with its entry.
- Of three, each asked by a client, three marked flights wait in a circle, and no entry comes home,
  for each has joined on its way. So the mark of a flight is the longest of those who wait for it,
  and the next try carries that: what waits in a circle makes the mark longer at each try, until an
  entry meets its owner or there are too many. No try is sent for that alone.
- What fails in a marked flight may have failed of the loop alone. It is not cached, and nobody who
  asked without a mark is told. The tries of others may begin such a flight anew, but only with a
  longer mark, so it ends. What fails in an unmarked flight is cached, which ends loops that lose
  marks.

A forwarder between us may take options off, and then no entry comes back. So a name that no other
client asks for, a probe, is sent to an upstream: one below its zone at the start, whenever
upstreams change and when it stops answering; one below the name of a question that two tries found
silence for, at most one a second. A probe that comes in closes a loop. Where it was a zone's,
nothing is sent to that upstream for that zone for a while, then it is probed again; where it was a
question's, this question ends, and the zone is probed.
"""

import random
import struct
from typing import Final, Generic, TypeVar

from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.types import OPTION

T = TypeVar("T")

OPTION_CODE: Final = 65432
_ENTRY_BYTES: Final = 8
_MAX_OTHERS_BYTES: Final = 7 * _ENTRY_BYTES
_HASH: Final = struct.Struct("!q")
_SECRET_BYTES: Final = 32
_MAX_PROBES: Final = 64
_PROBE_S: Final = 5.0
"""For how long a probe that comes back counts: monitors ask again for names that they saw."""
_PROBE_LABEL: Final = names.wire_label("mcsdns-loop-check")
_RANDOM_LABEL_BYTES: Final = 33


def mark_of(options: bytes) -> bytes:
    """Return the mark among the options of an OPT record that was read; empty without one."""
    at = 0
    while at < len(options):
        code, size_bytes = OPTION.unpack_from(options, at)
        begin, at = at + OPTION.size, at + OPTION.size + size_bytes
        if code == OPTION_CODE and not size_bytes % _ENTRY_BYTES:
            return options[begin:at]
    return b""


def write_mark(others: bytes, entry: bytes) -> bytes:
    """Return the EDNS option for what is forwarded: the entries of others, and ours."""
    return OPTION.pack(OPTION_CODE, len(others) + _ENTRY_BYTES) + others + entry


def is_too_long(mark: bytes) -> bool:
    """Return whether a question has passed too many others."""
    return len(mark) > _MAX_OTHERS_BYTES


class Loops(Generic[T]):
    """Recognises what we forwarded ourselves.

    Attributes:
        probes: what was probed, by the random label of the probe's name, and until when it counts.
    """

    def __init__(self, rng: random.Random) -> None:
        self._secret = rng.randbytes(_SECRET_BYTES)
        self._rng = rng
        self.probes: dict[bytes, tuple[T, float]] = {}

    def entry_of(self, question: bytes) -> bytes:
        """Return our entry for a question: its name in lower case, type and class.

        SipHash, as Python hashes octets: BLAKE2 took 0.9 us of the 40 of a forwarded question, and
        a forged entry gains nothing but SERVFAIL for who forges it.
        """
        return _HASH.pack(hash(self._secret + question))

    def has_passed_us(self, mark: bytes, question: bytes) -> bool:
        """Return whether our entry for a question stands in a mark."""
        entry = self.entry_of(question)
        return any(mark.startswith(entry, at) for at in range(0, len(mark), _ENTRY_BYTES))

    def new_probe(self, below: Name, probed: T, now_s: float) -> Name | None:
        """Return a name that no client will ask for; None where it would be too long."""
        label = names.wire_label(self._rng.randbytes(16).hex())
        name = Name(label + _PROBE_LABEL + below)
        if len(name) > names.MAX_NAME_BYTES:
            return None
        if len(self.probes) >= _MAX_PROBES:
            self.probes.pop(next(iter(self.probes)))
        self.probes[label] = probed, now_s + _PROBE_S
        return name

    def probed(self, name: Name, now_s: float) -> T | None:
        """Return what a probe of this name was sent for; None for all other names."""
        for label in [label for label, (_, until_s) in self.probes.items() if until_s <= now_s]:
            del self.probes[label]
        if not name.startswith(_PROBE_LABEL, _RANDOM_LABEL_BYTES):
            return None
        probed, _ = self.probes.get(name[:_RANDOM_LABEL_BYTES], (None, 0.0))
        return probed
