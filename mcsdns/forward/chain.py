"""Whether a reply answers its question: where its chain of CNAME and DNAME records ends.

An answer is a record of the type and class asked, at the end of the chain that begins at the
question's name. What has none says that there is no such record, and is believed for as long as an
SOA record says, of a zone that the end of the chain is in (RFC 2308, 2.1 and 2.2: "the SOA record
... of the zone"; 5: without one it is not to be cached).

What always holds:

- Records may come in any order, owners compressed or not, in any case (RFC 4343).
- A question for ANY is answered by any record at its name, and one for DNAME, RRSIG or NSEC by that
  type there alone: a CNAME beside them leads nowhere (RFC 4035, 2.5; RFC 1034, 3.6.2).
- Where a DNAME stands without the CNAME that its server makes of it, its own meaning counts
  (RFC 6672, 2.2).
- The work is in proportion to the reply: a chain whose names have to be written out has 64 links at
  most, and all of them together are no longer than a message. What is longer answers nothing.
- Nearly all servers write a chain link by link, each owner a pointer to what led there: then
  nothing has to be written out, and `reply` sees the answer by itself.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mcsdns.dns.name import MAX_NAME_BYTES, Name, is_at_or_below
from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import HEADER_BYTES, POINTER, QUESTION, RRClass, RRType

_CNAME: Final = RRType.CNAME.to_bytes(2, "big")
_DNAME: Final = (39).to_bytes(2, "big")
_ANY: Final = RRType.ANY.to_bytes(2, "big")
_ANY_CLASS: Final = RRClass.ANY.to_bytes(2, "big")
TYPES_AT_THE_NAME: Final = (RRType.CNAME.value, 39, 46, 47, RRType.ANY.value)
"""Types that are asked of the name itself, also where a CNAME stands beside them."""
_MOST_LINKS: Final = 64
_MOST_BYTES: Final = 0xFFFF
_RDATA_BEHIND_TTL: Final = 6
_TYPE_BEFORE_RDATA: Final = 10
_CLASS_END_BEFORE_RDATA: Final = 6
_NOWHERE: Final = b""
"""The end of a chain that has none; it is in no zone."""


def end_of_chain(message: bytes, begin: int, ttls: Sequence[int]) -> bytes | None:
    """Return the name at which a chain ends, in lower case; None where it ends in an answer.

    Args:
        message: a reply whose names were checked, with its question.
        begin: where its answer section begins.
        ttls: where the TTL of each record there is, counted from `begin`.
    """
    asked = message[begin - QUESTION.size : begin]
    is_followed = int.from_bytes(asked[:2], "big") not in TYPES_AT_THE_NAME
    names = _Names(message)
    answered: set[bytes] = set()
    cnames: dict[bytes, int] = {}
    dnames: dict[bytes, int] = {}
    owner = begin
    for ttl_at in ttls:
        rdata = begin + ttl_at + _RDATA_BEHIND_TTL
        rtype = message[rdata - _TYPE_BEFORE_RDATA : rdata - _TYPE_BEFORE_RDATA + 2]
        rclass = message[rdata - _TYPE_BEFORE_RDATA + 2 : rdata - _CLASS_END_BEFORE_RDATA]
        if rclass == asked[2:] or asked[2:] == _ANY_CLASS:
            if rtype == asked[:2] or asked[:2] == _ANY:
                answered.add(names.at(owner))
            elif rtype == _CNAME:
                cnames.setdefault(names.at(owner), rdata)
            elif rtype == _DNAME:
                dnames.setdefault(names.at(owner), rdata)
        owner = rdata + (message[rdata - 2] << 8 | message[rdata - 1])
    name = names.at(HEADER_BYTES)
    for _ in range(_MOST_LINKS + 1):
        if name in answered and name != _NOWHERE:
            return None
        if not is_followed:
            return name
        if (target := cnames.get(name)) is not None:
            name = names.at(target)
        elif (substituted := _substituted(name, dnames, names)) is not None:
            name = substituted
        else:
            return name
    return _NOWHERE


def is_zone_of(message: bytes, zone: int, end: int | bytes) -> bool:
    """Return whether the name at the place `zone` is the end of a chain, or above it."""
    if isinstance(end, int):
        zone = place_of_name(message, zone)
        at = end
        while length := message[at]:
            if at == zone:
                return True
            at = place_of_name(message, at) if length >= POINTER else at + length + 1
        end = Cursor(message, end).name().lower()
    return is_at_or_below(Name(end), Name(Cursor(message, zone).name().lower()))


class _Names:
    """Names of a message in lower case, each written out once, up to a bound in octets."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._names: dict[int, bytes] = {}
        self._room = _MOST_BYTES

    def at(self, place: int) -> bytes:
        """Return the name that begins at an offset; `_NOWHERE` past the bound."""
        place = place_of_name(self._message, place)
        name = self._names.get(place)
        if name is None:
            if self._room < 0:
                return _NOWHERE
            name = Cursor(self._message, place).name().lower()
            self._names[place] = name
            self._room -= len(name)
        return name


def _substituted(name: bytes, dnames: Mapping[bytes, int], names: _Names) -> bytes | None:
    """Return a name below a DNAME with its end replaced; None where there is none.

    What gets too long is no name (RFC 6672, 2.2: YXDOMAIN).
    """
    at = 0
    while dnames and name[at : at + 1] > b"\0":
        at += name[at] + 1
        target = dnames.get(name[at:])
        if target is not None:
            substituted = name[:at] + names.at(target)
            return substituted if len(substituted) <= MAX_NAME_BYTES else _NOWHERE
    return None


def place_of_name(message: bytes, at: int) -> int:
    """Return where a name's octets begin: where a pointer leads, where nothing stands before it."""
    length = message[at]
    return (length << 8 | message[at + 1]) & 0x3FFF if length >= POINTER else at
