"""Forwarding loops: a server sends us what we forwarded, and we would forward it again.

What we forward carries a loop tag: an EDNS option for local use (RFC 6891, 9: 65001 to 65534) with
the instances of mcsdns that the query has passed, eight octets each. A query that comes in with our
own instance in its tag is a loop, and so is one with a long tag. It is answered with SERVFAIL, and
the query of ours that it was once is answered so too.

A forwarder between us that takes options off does not bring the tag back. For it a probe, a name
that no other client asks for, is sent to an upstream at the start, and whenever the upstream stops
answering, as it does in a loop. A probe that comes in closes a loop: for a while nothing is sent to
that upstream for that zone, then it is probed again.
"""

import random
from typing import Final, Generic, TypeVar

from mcsdns.dns import name as names
from mcsdns.dns.name import Name

T = TypeVar("T")

OPTION_CODE: Final = 65432
_CODE: Final = OPTION_CODE.to_bytes(2, "big")
_INSTANCE_BYTES: Final = 8
_MAX_HOPS: Final = 8
_MAX_PROBES: Final = 64
_PROBE_S: Final = 5.0
"""For how long a probe that comes back counts: monitors ask again for names that they saw."""
_PROBE_LABEL: Final = names.wire_label("mcsdns-loop-check")
_RANDOM_LABEL_BYTES: Final = 33


class Loops(Generic[T]):
    """Recognises what we forwarded ourselves.

    Attributes:
        option: the EDNS option of what we forward and no other instance has forwarded before.
        probes: who was sent a probe by the random label of its name, and until when it counts.
    """

    def __init__(self, rng: random.Random) -> None:
        self._instance = rng.randbytes(_INSTANCE_BYTES)
        self._rng = rng
        self.probes: dict[bytes, tuple[T, float]] = {}
        self.option = self.option_after(b"")

    def tag_of(self, message: bytes) -> bytes:
        """Return the loop tag of a request, the instances it has passed; empty without one."""
        at = message.rfind(_CODE)
        if at < 0:
            return b""
        begin = at + 4
        length = int.from_bytes(message[at + 2 : begin], "big")
        if not length or length % _INSTANCE_BYTES or begin + length > len(message):
            return b""
        return message[begin : begin + length]

    def passed_before_us(self, tag: bytes) -> bytes | None:
        """Return the tag that a query had when it came here first; None where it never did."""
        for at in range(0, len(tag), _INSTANCE_BYTES):
            if tag.startswith(self._instance, at):
                return tag[:at]
        return None

    def is_too_long(self, tag: bytes) -> bool:
        """Return whether a query has passed too many instances."""
        return len(tag) >= _MAX_HOPS * _INSTANCE_BYTES

    def option_after(self, tag: bytes) -> bytes:
        """Return the EDNS option for what is forwarded: the instances passed, and ours."""
        passed = tag + self._instance
        return _CODE + len(passed).to_bytes(2, "big") + passed

    def new_probe(self, zone: Name, upstream: T, now_s: float) -> Name:
        """Return a name below a zone that no client will ask for, to send to an upstream."""
        label = names.wire_label(self._rng.randbytes(16).hex())
        if len(self.probes) >= _MAX_PROBES:
            self.probes.pop(next(iter(self.probes)))
        self.probes[label] = upstream, now_s + _PROBE_S
        return Name(label + _PROBE_LABEL + zone)

    def probed(self, name: Name, now_s: float) -> T | None:
        """Return the upstream to which a name was sent as a probe; None for all other names."""
        for label in [label for label, (_, until_s) in self.probes.items() if until_s <= now_s]:
            del self.probes[label]
        if not name.startswith(_PROBE_LABEL, _RANDOM_LABEL_BYTES):
            return None
        upstream, _ = self.probes.get(name[:_RANDOM_LABEL_BYTES], (None, 0.0))
        return upstream
