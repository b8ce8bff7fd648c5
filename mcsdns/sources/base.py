"""What every source of objects offers, and what it is given: the border of `sources`.

A source reads objects from somewhere (an API server, files) and sends them to one `Sink` for as
long as it runs. Its kinds live in rooms of their own.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from mcsdns.objects.events import Event
from mcsdns.objects.store import Store
from mcsdns.sources.manifests.documents import Located


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """One source of objects, as it is now.

    Attributes:
        name: for people. kind: `manifests`, `kubernetes`, `snapshot` or `none`.
        synced: everything was read once. connected: changes are seen as they happen.
        fresh_s: seconds since the source last sent anything; None where it cannot be said.
        reasons: what is not as it should be, for people, a line each.
        faults: the same in fixed words of ours, without addresses, paths and what others wrote:
            anybody may read them.
    """

    name: str
    kind: str
    synced: bool
    connected: bool
    fresh_s: float | None = None
    reasons: Sequence[str] = ()
    faults: Sequence[str] = ()


class Sink(Protocol):
    """Where a source sends its events.

    Attributes:
        store: the objects that were sent, read-only for a source.
    """

    store: Store

    def apply(self, event: Event) -> None:
        """Take one event; the store has it when this returns."""

    def note(self, why: str, *, imports_only: bool) -> None:
        """Take why the source is not complete, in words for any client; empty when it is.

        `imports_only`: EndpointSlices cannot be read at all, so that imports have to do.
        """

    def mark_stale(self, *, stale: bool) -> None:
        """Let all answers say, or no longer say, that they are older than they should be."""


class Source(Protocol):
    """Where objects come from."""

    @property
    def name(self) -> str:
        """What is read, for people."""
        ...

    async def run(self) -> None:
        """Send everything, then every change, until cancelled.

        Raises:
            SourceError: what is to be read is not there.
        """

    async def rescan(self) -> None:
        """Look for changes now, where looking is how they are found."""

    def problems(self) -> Iterable[Located]:
        """Iterate over what is wrong with objects now."""
        ...

    def states(self) -> list[SourceState]:
        """Return the state of each part of the source; the first one is the source itself."""
        ...
