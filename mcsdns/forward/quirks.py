"""What an upstream cannot take: found out, remembered for a while, forgotten at once.

Servers, or firewalls before them, drop questions with an EDNS option that they do not know, or all
with an OPT record, or answer those with FORMERR, NOTIMP or SERVFAIL (RFC 2671, 5.3; RFC 6891, 7).
What they fail on is left out, step by step, in the tries that a question has anyway. That is
remembered, so that further questions need no such tries, but not on the word of one zone: its
servers may be what is odd, and EDNS would be off for all.

- Three questions of different parent zones must have failed with, and been answered without.
- One that is answered with in between proves the contrary, then and later.
- After ten minutes it is tried again.

What came truncated over UDP and finds silence over TCP, for all the time of a question, as all
that was asked over TCP then, is not asked over TCP again for a minute: clients on UDP get it
truncated at once. For clients on TCP it is asked all the same.

A try that finds silence with an OPT record says nothing of whether an upstream is up; one without
does (see `health`).
"""

from typing import Final

from mcsdns.dns import Query

NO_OPT, OPT, MARK = range(3)
"""What a try may have: no OPT record, one without options, one with our mark (see `loops`)."""

_ZONES: Final = 3
_REMEMBERED_S: Final = 600.0
_NO_TCP_S: Final = 60.0
_NEVER: Final = float("-inf")


class Doubt:
    """Whether an upstream fails on something that it answers without."""

    def __init__(self) -> None:
        self.until_s = _NEVER
        self._zones: set[bytes] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is anything to forget."""
        return bool(self._zones) or self.until_s > _NEVER

    def fails(self, zone: bytes, now_s: float) -> None:
        """Note that a question of a zone failed with it and was answered without."""
        self._zones.add(zone)
        if len(self._zones) == _ZONES:
            self._zones.clear()
            self.until_s = now_s + _REMEMBERED_S

    def succeeds(self) -> None:
        """Note that a question was answered with it."""
        self._zones.clear()
        self.until_s = _NEVER


class Quirks:
    """What is known of one upstream.

    Attributes:
        is_odd: whether there is anything to remember.
    """

    def __init__(self) -> None:
        self.is_odd = False
        self._edns = Doubt()
        self._mark = Doubt()
        self._no_tcp_until_s = self._tcp_heard_s = _NEVER

    def most(self, edns: int, now_s: float) -> int:
        """Return what a try may have, at most so much."""
        if now_s < self._edns.until_s:
            return NO_OPT
        return min(edns, OPT) if now_s < self._mark.until_s else edns

    def answers(self, edns: int) -> None:
        """Note that it answered a try that had so much."""
        if edns >= OPT:
            self._edns.succeeds()
        if edns == MARK:
            self._mark.succeeds()
        self.is_odd = self._edns.is_open or self._mark.is_open

    def answers_without(self, query: Query, zone: bytes, edns: int, now_s: float) -> None:
        """Note that it answered a try that had so much, and failed on one that had more.

        `zone` is what it is an upstream of: names right below count as zones of their own.
        """
        labels = query.labels
        parent = query.name[labels[1] :] if len(labels) > 1 else b"\0"
        self.is_odd = True
        doubt = self._edns if edns == NO_OPT else self._mark
        doubt.fails(query.name if parent == zone else parent, now_s)

    def has_tcp(self, now_s: float) -> bool:
        """Return whether TCP may be answered; no where it was silent a while ago."""
        return now_s >= self._no_tcp_until_s

    def answers_tcp(self, now_s: float) -> None:
        """Note that it answers over TCP."""
        self._tcp_heard_s = now_s
        self._no_tcp_until_s = _NEVER

    def finds_silence_over_tcp(self, since_s: float, now_s: float) -> None:
        """Note that what was asked over TCP found silence, as all did if it was for that."""
        if self._tcp_heard_s < since_s:
            self._no_tcp_until_s = now_s + _NO_TCP_S
