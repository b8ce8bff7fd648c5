"""Forwarding loops: somebody sends us what we forwarded, and we would forward it again.

What we forward carries a mark, an EDNS option for local use (RFC 6891, 9: 65001 to 65534) with the
instances of our kind that it has passed, eight octets each. Our own among them is a loop, and so
is a long list. Forwarders that take options off do not bring the mark back; for them a name that
nobody else asks for is sent out, at the start and on suspicion: who asks us for it closes a loop.

A loop that was found so holds for one upstream and one zone, for a while: the other upstreams, and
all other names, are asked as before.
"""

import random
from typing import Final, TypeVar

import msgspec

from mcsdns.dns import name as names
from mcsdns.dns.name import MAX_NAME_BYTES, ROOT, Name
from mcsdns.forward.address import Address

_K = TypeVar("_K")

OPTION_CODE: Final = 65432
_CODE: Final = OPTION_CODE.to_bytes(2, "big")
_INSTANCE_BYTES: Final = 8
_MAX_HOPS: Final = 8
_MAX_PROBES: Final = 64
_PROBE_S: Final = 5.0
"""For how long a probe that comes back counts: some people ask again for names they saw pass."""
_LOOPED_S: Final = 30.0
_TOLD_S: Final = 600.0
_MAX_ZONES: Final = 256
_PROBED_ZONES: Final = 5
_PROBE_LABEL: Final = names.wire_label("mcsdns-loop-check")
_RANDOM_LABEL_BYTES: Final = 33


class Probe(msgspec.Struct, frozen=True, gc=False):
    """A name that was sent out: below which zone, to whom, and until when it counts."""

    zone: Name
    upstream: Address
    until_s: float


class Loops:
    """Recognises what we forwarded ourselves, and remembers where it came back.

    Attributes:
        option: the EDNS option of most of what we forward. any: whether a loop is remembered.
    """

    def __init__(self, rng: random.Random) -> None:
        self._instance = rng.randbytes(_INSTANCE_BYTES)
        self._rng = rng
        self._probes: dict[bytes, Probe] = {}
        self._looped: dict[tuple[Name, Address], float] = {}
        self._came_back: dict[Name, float] = {}
        self._told: dict[Name, float] = {}
        self.any = False
        self.option = self.option_after(b"")

    def mark_of(self, message: bytes) -> bytes:
        """Return the mark of a request, the instances it has passed; empty where it has none."""
        at = message.rfind(_CODE)
        if at < 0:
            return b""
        begin = at + 4
        length = int.from_bytes(message[at + 2 : begin], "big")
        if not length or length % _INSTANCE_BYTES or begin + length > len(message):
            return b""
        return message[begin : begin + length]

    def is_loop(self, mark: bytes) -> bool:
        """Say whether a request has been here, or has passed too many of our kind."""
        return len(mark) >= _MAX_HOPS * _INSTANCE_BYTES or self.is_own(mark)

    def is_own(self, mark: bytes) -> bool:
        """Say whether a request has been here."""
        return any(
            mark.startswith(self._instance, at) for at in range(0, len(mark), _INSTANCE_BYTES)
        )

    def option_after(self, mark: bytes) -> bytes:
        """Return the EDNS option for what is forwarded: what it has passed, and we."""
        passed = mark + self._instance
        return _CODE + len(passed).to_bytes(2, "big") + passed

    def note_return(self, name: Name, now_s: float) -> bool:
        """Note that a question with our mark came back; returns whether that is to be told."""
        self._came_back = _still(self._came_back, now_s)
        if len(self._came_back) < _MAX_ZONES:
            self._came_back[name] = now_s + _LOOPED_S
        return self._is_news(ROOT, now_s)

    def came_back(self, name: Name, now_s: float) -> bool:
        """Say whether a question for a name came back with our mark a while ago."""
        return bool(self._came_back) and self._came_back.get(name, now_s) > now_s

    def new_probe(self, zone: Name, upstream: Address, now_s: float) -> Name:
        """Return a name below a zone that nobody else will ask for, to send to an upstream."""
        label = names.wire_label(self._rng.randbytes(16).hex())
        if len(self._probes) >= _MAX_PROBES:
            self._probes.pop(next(iter(self._probes)))
        self._probes[label] = Probe(zone, upstream, now_s + _PROBE_S)
        return Name(label + _PROBE_LABEL + zone)

    def probe_of(self, name: Name, now_s: float) -> Probe | None:
        """Return the probe that a question is, coming back; None of all others."""
        if not name.startswith(_PROBE_LABEL, _RANDOM_LABEL_BYTES):
            return None
        probe = self._probes.get(name[:_RANDOM_LABEL_BYTES])
        return probe if probe is not None and now_s < probe.until_s else None

    def note(self, probe: Probe, now_s: float) -> bool:
        """Note a loop; returns whether that is to be told."""
        was_known = self.holds(probe.upstream, probe.zone, now_s)
        self._looped[probe.zone, probe.upstream] = now_s + _LOOPED_S
        self.any = True
        return not was_known and self._is_news(probe.zone, now_s)

    def holds(self, upstream: Address, name: Name, now_s: float) -> bool:
        """Say whether what is sent to an upstream for a name would come back."""
        if not self._looped:
            return False
        self._looped = _still(self._looped, now_s)
        self.any = bool(self._looped)
        return any((zone, upstream) in self._looped for zone in zones_of(name))

    def _is_news(self, zone: Name, now_s: float) -> bool:
        """Say whether nothing of a zone, nor of one above or below it, was told for a while."""
        self._told = _still(self._told, now_s)
        if ROOT in self._told or len(self._told) >= _MAX_ZONES:
            return False
        above = zones_of(zone)
        if any(told in above or zone in zones_of(told) for told in self._told):
            return False
        self._told[zone] = now_s + _TOLD_S
        return True


def zones_of(name: Name) -> list[Name]:
    """Return the zones that a name may be in: itself, its ancestors, and the root last."""
    zones = [name]
    while name[0]:
        name = Name(name[1 + name[0] :])
        zones.append(name)
    return zones


def zones_to_probe(name: Name, least: Name) -> list[Name]:
    """Return zones below one of which a question may loop, the widest first.

    None is wider than `least`, the zone for which the upstream is asked.
    """
    most_bytes = MAX_NAME_BYTES - _RANDOM_LABEL_BYTES - len(_PROBE_LABEL)
    zones = [each for each in zones_of(name) if len(least) <= len(each) <= most_bytes]
    return zones[-_PROBED_ZONES:][::-1]


def _still(until: dict[_K, float], now_s: float) -> dict[_K, float]:
    """Return what is not over; the same where nothing is."""
    if all(until_s > now_s for until_s in until.values()):
        return until
    return {each: until_s for each, until_s in until.items() if until_s > now_s}
