"""Who holds the places of questions in flight, and which of these gives way when none is free.

One client that asks for what no upstream answers would hold them all. No share is fixed, for behind
another resolver or one address of a node stand many; whoever holds most gives way, and only when no
place is free. So:

- A holder is a prefix of clients, IPv4 /24 or IPv6 /56; for the questions of a stub zone, whoever
  asks, it is that zone, since its upstreams are what takes so long.
- Of the holder that has most the oldest question gives way, once it has had 200 ms: what is
  answered at all is mostly answered by then. Not one that clients of another prefix wait for.
- Nothing is counted while there is room. When there is none, who may give way is found in one walk
  over the oldest questions, a bounded number, and that serves for the next 20 ms where many are in
  flight. What came in between is too young to give way.
"""

import heapq
import ipaddress
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from mcsdns.dns.ip import unmapped
from mcsdns.dns.name import to_text
from mcsdns.forward.pending import PendingQuery

_LEAST_AGE_S: Final = 0.2
_MOST_COUNTED: Final = 8192
_FEW: Final = 256
_COUNTED_S: Final = 0.02
_IPV4_BYTES: Final = 4
_IPV4_PREFIX_BYTES: Final = 3
_IPV6_BYTES: Final = 16
_IPV6_PREFIX_BYTES: Final = 7


def prefix_of(client: bytes) -> bytes:
    """Return the prefix of an address, 3 or 7 octets."""
    client = unmapped(client)
    return client[: _IPV4_PREFIX_BYTES if len(client) == _IPV4_BYTES else _IPV6_PREFIX_BYTES]


def network_text(prefix: bytes) -> str:
    """Return a prefix for people."""
    octets = _IPV4_BYTES if len(prefix) == _IPV4_PREFIX_BYTES else _IPV6_BYTES
    return f"{ipaddress.ip_address(prefix.ljust(octets, bytes(1)))}/{8 * len(prefix)}"


def holder_text(pending: PendingQuery) -> str:
    """Return who holds the place of a question, for people."""
    if pending.group.is_stub:
        return "the stub zone " + to_text(pending.group.zone)
    prefix = prefix_of(pending.client)
    return f"clients in {network_text(prefix)}" if prefix else "clients of no known address"


class Places:
    """Finds the questions that give way, among all in flight, the oldest first."""

    def __init__(self, pending: Mapping[bytes, PendingQuery], total_s: float) -> None:
        """Take what is in flight, and how long a question has in all."""
        self._pending = pending
        self._young_s = total_s - _LEAST_AGE_S
        self._counted_s = float("-inf")
        self._holders: list[tuple[int, int, Iterator[PendingQuery]]] = []

    def gives_way(self, now_s: float) -> tuple[PendingQuery, int] | None:
        """Return the question that gives way, and how many its holder has; None without one."""
        if len(self._pending) <= _FEW or now_s >= self._counted_s + _COUNTED_S:
            self._count(now_s)
        holders = self._holders
        while holders:
            negative, number, old = holders[0]
            for pending in old:
                if not (pending.is_done or pending.is_shared):
                    heapq.heapreplace(holders, (negative + 1, number, old))
                    return pending, -negative
            return None  # it has nothing that may give way, and who has less does not for it
        return None

    def _count(self, now_s: float) -> None:
        """Sort the oldest questions by their holders."""
        self._counted_s = now_s
        held: dict[bytes, list[PendingQuery]] = {}
        for pending in islice(self._pending.values(), _MOST_COUNTED):
            group = pending.group
            holder = group.zone if group.is_stub else prefix_of(pending.client)
            held.setdefault(holder, []).append(pending)
        old_s = now_s + self._young_s
        self._holders = [
            (-len(all_held), number, iter([each for each in all_held if each.until_s <= old_s]))
            for number, all_held in enumerate(held.values())
        ]
        heapq.heapify(self._holders)
