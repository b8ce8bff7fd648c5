"""What a name is to be answered with, by docs/spec.md alone: nothing here is taken from mcsdns.

A service is one import and some slices. `names_of` gives all names of one state. `Service` has the
versions that each of its objects had, and gives every answer that was right at some moment: one
may be as old as `since_s`, so a version counts until that long after its successor stood.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

NOERROR, NXDOMAIN, REFUSED = 0, 3, 5
Record = tuple[str, str]
"""Type, and data as text with names in lower case and without a final dot."""
Below = tuple[str, ...]
"""Labels of a name below the name of its service."""


class Port(NamedTuple):
    """A port of an import or a slice."""

    name: str
    protocol: str
    number: int


class Endpoint(NamedTuple):
    """One endpoint; `hostname` may be empty."""

    hostname: str
    address: str
    ready: bool


class Import(NamedTuple):
    """What counts of a ServiceImport."""

    headless: bool
    ips: tuple[str, ...]
    ports: tuple[Port, ...]


class Slice(NamedTuple):
    """What counts of an EndpointSlice."""

    cluster: str
    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]


class Answer(NamedTuple):
    """An rcode and the records of the answer section."""

    rcode: int
    records: frozenset[Record] = frozenset()


Names = dict[Below, set[Record] | None]
"""Names of a service; one without records is an empty non-terminal, None is refused."""


@functools.lru_cache(maxsize=10_000)
def names_of(owner: str, imported: Import | None, slices: tuple[Slice, ...]) -> Names:
    """Return all names of a service with their records, but for the refused ones of one label."""
    names: Names = {}
    if imported is None:
        return names
    if not imported.headless:
        names[()] = {_address(ip) for ip in imported.ips}
        for port in imported.ports:
            _add_port(names, port, owner)
        _refuse_clusters(names, slices)
        return names
    for one in slices:
        for endpoint in one.endpoints:
            if endpoint.ready:
                host = endpoint.hostname or _host_of(endpoint.address)
                below = (host, *one.cluster.split("."))
                for name in ((), below):
                    _add(names, name, _address(endpoint.address))
                for port in one.ports:
                    _add_port(names, port, ".".join((*below, owner)))
    _refuse_clusters(names, slices)
    return names


def _add_port(names: Names, port: Port, target: str) -> None:
    record = ("SRV", f"0 100 {port.number} {target}")
    protocol = f"_{port.protocol.lower()}"
    _add(names, (), record)
    names.setdefault((protocol,), set())
    _add(names, (f"_{port.name}", protocol), record)


def _add(names: Names, below: Below, record: Record) -> None:
    records = names.setdefault(below, set())
    assert records is not None
    records.add(record)


def _refuse_clusters(names: Names, slices: tuple[Slice, ...]) -> None:
    """Refuse cluster ids of two labels, where a name with records does not win."""
    for one in slices:
        if names and "." in one.cluster:
            names.setdefault(tuple(one.cluster.split(".")), None)


def _address(text: str) -> Record:
    return ("AAAA" if ":" in text else "A"), text


def _host_of(address: str) -> str:
    host = address.replace(".", "-").replace(":", "-")
    return f"{host}0" if host.endswith("-") else host


def answer_of(names: Names, below: Below, qtype: str) -> Answer:
    """Return the answer for a name of a service, or below it."""
    is_refused = bool(names) and len(below) == 1 and not below[0].startswith("_")
    records = names.get(below)
    if records is not None:
        return Answer(NOERROR, frozenset(each for each in records if each[0] == qtype))
    return Answer(REFUSED if is_refused or below in names else NXDOMAIN)


class _Version:
    """What an object was from some moment on, None for not there."""

    __slots__ = ("acked_s", "sent_s", "value")

    def __init__(self, value: Import | Slice | None, sent_s: float, acked_s: float | None) -> None:
        self.value, self.sent_s, self.acked_s = value, sent_s, acked_s


class History:
    """The versions of one object, oldest first."""

    def __init__(self, value: Import | Slice | None) -> None:
        """Begin with what was there before all else."""
        self._versions = [_Version(value, 0.0, 0.0)]

    @property
    def newest(self) -> Import | Slice | None:
        """What was written last."""
        return self._versions[-1].value

    def send(self, value: Import | Slice | None, now_s: float) -> None:
        """Note that a version is on its way: from now on it may be seen."""
        self._versions.append(_Version(value, now_s, None))

    def ack(self, now_s: float) -> None:
        """Note that the newest version stands."""
        self._versions[-1].acked_s = now_s

    def forget(self, before_s: float) -> None:
        """Drop what nobody may answer with any more."""
        while len(self._versions) > 1 and (self._versions[1].acked_s or before_s) < before_s:
            del self._versions[0]

    def between(
        self, since_s: float, until_s: float
    ) -> Iterator[tuple[Import | Slice | None, float]]:
        """Yield the versions in force within a time, newest first, and when each was over."""
        over_s = until_s
        for version in reversed(self._versions):
            if version.sent_s <= until_s:
                yield version.value, over_s
            if version.acked_s is not None:
                over_s = version.acked_s
                if over_s <= since_s:
                    return


class Service:
    """One service: the histories of its import and of its slices.

    Attributes:
        generation: another number after each change.
    """

    def __init__(self, owner: str, imported: Import, slices: list[Slice]) -> None:
        """Take the first state, which is to be written before anybody asks."""
        self.owner = owner
        self.imported = History(imported)
        self.slices = [History(each) for each in slices]
        self.generation = 0
        self._known: tuple[int, Names] = (-1, {})

    def send(self, history: History, value: Import | Slice | None, now_s: float) -> None:
        """Note that a change is on its way."""
        history.send(value, now_s)
        self.generation += 1

    def ack(self, history: History, now_s: float) -> None:
        """Note that it stands."""
        history.ack(now_s)
        self.generation += 1

    def forget(self, before_s: float) -> None:
        """Drop what nobody may answer with any more."""
        for history in (self.imported, *self.slices):
            history.forget(before_s)

    def names(self) -> Names:
        """Return the names of the newest state."""
        generation = self.generation  # another thread changes it after the version
        if self._known[0] != generation:
            newest = self._names(self.imported.newest, [each.newest for each in self.slices])
            self._known = generation, newest
        return self._known[1]

    def newest(self, below: Below, qtype: str) -> Answer:
        """Return the answer of the newest state."""
        return answer_of(self.names(), below, qtype)

    def right(
        self, below: Below, qtype: str, since_s: float, until_s: float
    ) -> Iterator[tuple[Answer, Names, float]]:
        """Yield the answers that are right, the names of their state, and when that was over.

        Two watches bring imports and slices, so every combination of versions is one.
        """
        histories = (self.imported, *self.slices)
        ways = [list(each.between(since_s, until_s)) for each in histories]
        for (imported, over_s), *slices in itertools.product(*ways):
            names = self._names(imported, [value for value, _ in slices])
            ended_s = min(over_s, *(each_s for _, each_s in slices)) if slices else over_s
            yield answer_of(names, below, qtype), names, ended_s

    def _names(self, imported: object, slices: list[object]) -> Names:
        there = tuple(each for each in slices if isinstance(each, Slice))
        return names_of(self.owner, imported if isinstance(imported, Import) else None, there)
