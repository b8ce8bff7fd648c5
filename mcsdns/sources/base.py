"""Where a server's objects come from, whatever that is: files, an API server, or nothing.

One origin fills one world for as long as that is served. `upkeep` has the one for an API server.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import anyio
import msgspec

from mcsdns.config import Settings
from mcsdns.objects.events import Init, InitDone
from mcsdns.objects.model import Kind
from mcsdns.server.zone_state import UpdateQueue
from mcsdns.sources.deletion_guard import Statistics as GuardStatistics
from mcsdns.sources.keeper import Statistics as KeeperStatistics
from mcsdns.sources.kubernetes import watched
from mcsdns.sources.manifests.documents import Located
from mcsdns.sources.manifests.source import ManifestSource
from mcsdns.sources.manifests.source import Statistics as ManifestStatistics

_MOST_REASONS: Final = 20


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """One source of objects, as it is now.

    Attributes:
        name: for people. kind: `manifests`, `kubernetes`, `snapshot` or `none`.
        synced: everything was read once. connected: it can be heard now.
        fresh_s: seconds since it was last heard; None where it cannot be said.
        reasons: what is not as it should be, for people, a line each.
    """

    name: str
    kind: str
    synced: bool
    connected: bool
    fresh_s: float | None = None
    reasons: Sequence[str] = ()


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the rooms behind an origin say of themselves; None where there is no such room."""

    manifests: ManifestStatistics | None = None
    watches: Sequence[watched.Statistics] = ()
    guard: GuardStatistics | None = None
    keeper: KeeperStatistics | None = None


class Origin(Protocol):
    """Where the objects of one world come from."""

    @property
    def name(self) -> str:
        """Say what is read, for people."""
        ...

    @property
    def is_guarded(self) -> bool:
        """Whether losing most services at once is to be doubted."""
        ...

    async def run(self) -> None:
        """Tell the world's feed of objects until cancelled."""

    async def rescan(self) -> None:
        """Look for changes now, where looking is how they are found."""

    def take_over(self) -> None:
        """Learn that answers come from this world from now on."""

    def step_down(self) -> None:
        """Learn that answers come from another world: what is on disk is for that one to write."""

    def release(self) -> None:
        """Break the circles it is in, at its end: the collector does not see what was frozen."""

    def problems(self) -> Iterable[Located]:
        """Iterate over what is wrong with objects now."""
        ...

    def states(self) -> list[SourceState]:
        """Return how each source is doing."""
        ...

    def statistics(self) -> Statistics:
        """Return the counters of all rooms behind it."""
        ...


class NoOrigin:
    """Nothing is served but what upstreams say."""

    name = "no source"
    is_guarded = False

    def __init__(self, feed: UpdateQueue) -> None:
        """Take the feed of a world that stays empty."""
        self._feed = feed

    async def run(self) -> None:
        """Call the empty world complete, and wait until cancelled."""
        for kind in Kind:
            self._feed(Init(kind))
            self._feed(InitDone(kind))
        await anyio.sleep_forever()

    async def rescan(self) -> None:
        """Do nothing."""

    def take_over(self) -> None:
        """Do nothing."""

    def step_down(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing: it is in no circle."""

    def problems(self) -> Iterable[Located]:
        """Return nothing."""
        return ()

    def states(self) -> list[SourceState]:
        """Return the one state there is."""
        return [SourceState(name=self.name, kind="none", synced=True, connected=True)]

    def statistics(self) -> Statistics:
        """Return nothing."""
        return Statistics()


class ManifestOrigin:
    """Files and folders of manifests."""

    is_guarded = False

    def __init__(self, settings: Settings, feed: UpdateQueue) -> None:
        """Name the files; nothing is read before `run`."""
        self._feed = feed
        self._source = ManifestSource(
            settings.manifests, feed, max_bytes=settings.manifest_max_bytes, profile=settings.slices
        )

    @property
    def name(self) -> str:
        """Say what is read, for people."""
        return self._source.name

    async def run(self) -> None:
        """Load, then follow the files until cancelled.

        Raises:
            SourceError: a path does not exist.
        """
        await self._source.run()

    async def rescan(self) -> None:
        """Look at the files now, if they were read at all."""
        if self._feed.synced.is_set():
            await self._source.rescan()

    def take_over(self) -> None:
        """Do nothing."""

    def step_down(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Forget the source, and by that all it has read."""
        vars(self._source).clear()

    def problems(self) -> Iterable[Located]:
        """Iterate over what is wrong in the files."""
        return self._source.problems()

    def states(self) -> list[SourceState]:
        """Return how the files are, with what is wrong in them."""
        return [
            SourceState(
                name=self.name,
                kind="manifests",
                synced=self._feed.synced.is_set(),
                connected=True,
                reasons=lines_of(self._source.problems()),
            )
        ]

    def statistics(self) -> Statistics:
        """Return the counters of the source."""
        return Statistics(manifests=self._source.statistics())


def lines_of(problems: Iterable[Located]) -> list[str]:
    """Return problems for people, a line each; of very many the first ones."""
    problems = iter(problems)
    lines = [
        f"{each.origin}: {each.problem.subject}: {each.problem.path}: {each.problem.text}"
        for each in itertools.islice(problems, _MOST_REASONS)
    ]
    more = sum(1 for _ in problems)
    return [*lines, f"{more} more problems"] if more else lines
