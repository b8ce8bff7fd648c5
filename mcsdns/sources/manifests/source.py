"""Manifests in files: the same events as from a watch, from YAML and JSON that people edit.

Files are looked at (`files.find`) when the system reports a change and every few seconds. A file
that differs from what was read is not read at once: editors empty, rename and write in several
steps, and generators take their time. A change is believed once it has lasted (`PendingChanges`).
Then changed files are read by a child process, each replaces its last good state (`state`), and
of the objects of all files those are sent that differ from the store, the first time all of them.

All of one service is sent in one turn of the event loop, so no answer shows half of an edit.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from mcsdns.errors import SourceError
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind
from mcsdns.objects.store import ServiceKey
from mcsdns.sources.base import Sink, SourceState
from mcsdns.sources.manifests import files, worker
from mcsdns.sources.manifests.documents import FileState, Located, Manifest
from mcsdns.sources.manifests.files import Listing
from mcsdns.sources.manifests.state import ManifestState, Statistics, identity_of
from mcsdns.sources.manifests.worker import STANDARD_INPUT
from mcsdns.sources.timeslice import Timeslice

logger = logging.getLogger(__name__)

_INLINE_BYTES: Final = 512 * 1024
"""Up to so much is read in this process before serving; it takes about a tenth of a second."""
_MOST_REASONS: Final = 20

Changes = Mapping[str, FileState | None]
"""Path -> state of a file that is new or changed, None of one that is gone."""


class Debounce(msgspec.Struct, frozen=True):
    """How long a change has to last before it is believed, in seconds.

    Attributes:
        still_s: a file is read once it has been still for so long: nobody is writing it.
        gone_s: a file counts as gone after so long: editors and generators write it anew.
        most_s: so long do changes that may be believed wait for those that may not.
        restless_s: a file that is never still is read after so long, as it may be.
        retry_s: so long after a child process died, what it was to read is tried again.
    """

    still_s: float = 0.1
    gone_s: float = 1.0
    most_s: float = 3.0
    restless_s: float = 30.0
    retry_s: float = 60.0


class PendingChanges:
    """The changes that were seen and are not read yet; no clock and no file here.

    Each is a state, since when the file has it, and since when the file is not as it was read.
    """

    def __init__(self, debounce: Debounce) -> None:
        self._debounce = debounce
        self._changes: dict[str, tuple[FileState | None, float, float]] = {}

    def look(self, changes: Changes, now: float) -> dict[str, FileState | None]:
        """Take what differs now from what was read; return what of it may be believed."""
        before, self._changes = self._changes, {}
        believed: dict[str, FileState | None] = {}
        for path, state in changes.items():
            seen, since, first = before.get(path, (state, now, now))
            since = since if seen == state else now
            self._changes[path] = state, since, first
            lasting_s = self._debounce.gone_s if state is None else self._debounce.still_s
            if now - since >= lasting_s or (state and self.is_restless(path, now)):
                believed[path] = state
        return believed

    def is_restless(self, path: str, now: float) -> bool:
        """Return whether a file has been changing for so long that it is read as it is."""
        _, _, first = self._changes.get(path, (None, now, now))
        return path in self._changes and now - first >= self._debounce.restless_s

    def done(self, path: str) -> None:
        """Forget a change: the file has been read."""
        self._changes.pop(path, None)


class ManifestSource:
    """Reads manifests, follows their changes and sends them to a sink."""

    def __init__(
        self,
        paths: Sequence[str],
        sink: Sink,
        *,
        max_bytes: int = 64 << 20,
        profile: SliceProfile = SliceProfile.MCS,
        debounce: Debounce | None = None,
    ) -> None:
        """Name files and folders; `-` is standard input, read once."""
        self._paths = [path for path in paths if path != STANDARD_INPUT]
        self._has_input = STANDARD_INPUT in paths
        self._sink = sink
        self._max_bytes = max_bytes
        self._profile = profile
        self._debounce = debounce or Debounce()
        self._pending = PendingChanges(self._debounce)
        self._listing = Listing()
        self._retry_at = 0.0
        self._state = ManifestState()
        self._lock = anyio.Lock()
        self._is_loaded = False

    @property
    def name(self) -> str:
        """What is read, for people."""
        return ", ".join([*self._paths, *(["standard input"] if self._has_input else [])])

    async def load(self) -> None:
        """Read everything once and send it.

        Raises:
            SourceError: a path does not exist.
        """
        async with self._lock:
            self._listing = await self._find()
            for path in self._paths:
                if path in self._listing.missing:
                    why = self._listing.missing[path]
                    raise SourceError(f"{path}: {why}; name a file or folder of manifests")
            if self._has_input:
                await self._read_by_child([STANDARD_INPUT])
            wanted = self._listing.files
            if not wanted and self._paths:
                logger.warning("%s: no file of %s there", self.name, ", ".join(files.SUFFIXES))
            if sum(state.size_bytes for state in wanted.values()) > _INLINE_BYTES:
                await self._read_by_child(list(wanted))
            else:
                for path in wanted:
                    await self._take(path, worker.read_file(path, self._max_bytes, self._profile))
                    await anyio.lowlevel.checkpoint()
            self._state.note_missing(self._listing.missing)
            await self._send()
            self._is_loaded = True

    async def run(self) -> None:
        """Load, then follow the files until cancelled.

        Raises:
            SourceError: a path does not exist.
        """
        await self.load()
        await self.watch()

    async def watch(self) -> None:
        """Follow the files until cancelled."""
        if self._paths:
            async with aclosing(files.notices(lambda: self._listing.folders)) as notices:
                async for _ in notices:
                    await self.rescan()
        await anyio.sleep_forever()

    async def rescan(self) -> None:
        """Look for changes, once everything was read, and send what they make of the objects."""
        if not self._is_loaded:
            return
        async with self._lock:
            changes = await self._settle()
            self._state.note_missing(self._listing.missing)
            if not changes:
                return
            changed = [path for path, state in changes.items() if state is not None]
            await self._read_by_child(changed)
            for path in changes.keys() - changed:
                self._state.drop(path)
            logger.info(
                "manifests: %d files read, %d gone", len(changed), len(changes) - len(changed)
            )
            await self._send()

    def problems(self) -> Iterator[Located]:
        """Iterate over what is wrong now."""
        return self._state.problems()

    def states(self) -> list[SourceState]:
        """Return the state of the files, with what is wrong in them."""
        return [
            SourceState(
                name=self.name,
                kind="manifests",
                synced=self._is_loaded,
                connected=True,
                reasons=_lines_of(self.problems()),
                faults=["manifests have problems"] if any(True for _ in self.problems()) else [],
            )
        ]

    def statistics(self) -> Statistics:
        """Return the counters."""
        return self._state.statistics()

    async def _find(self) -> Listing:
        return await anyio.to_thread.run_sync(files.find, self._paths)

    async def _settle(self) -> dict[str, FileState | None]:
        """Look until what is new stands still; return what may be believed."""
        first_look: float | None = None
        while True:
            self._listing = await self._find()
            changes, now = self._changes(), anyio.current_time()
            first_look = first_look or now
            believed = self._pending.look(changes, now)
            if len(believed) == len(changes) or now - first_look > self._debounce.most_s:
                return believed
            await anyio.sleep(self._debounce.still_s)

    def _changes(self) -> dict[str, FileState | None]:
        """Return what differs between the files and their last good states."""
        found, known = self._listing.files, self._state.files
        may_retry = anyio.current_time() >= self._retry_at
        again = self._state.unread if may_retry else []
        changes: dict[str, FileState | None] = {
            path: state
            for path, state in found.items()
            if known.get(path) != state or path in again
        }
        for path in known.keys() - found.keys() - {STANDARD_INPUT}:
            if not self._listing.is_missing(path):
                changes[path] = None
        return changes

    async def _read_by_child(self, paths: list[str]) -> None:
        await worker.read_by_child(paths, self._max_bytes, self._take, self._profile)
        self._retry_at = anyio.current_time() + self._debounce.retry_s

    async def _take(self, path: str, manifest: Manifest) -> None:
        """Take what was read, unless somebody was writing it: then it will have changed again.

        Before serving there is nothing better to serve than what was read.
        """
        looked, read = self._listing.files.get(path), manifest.state
        is_written = self._is_loaded and looked and read and read.is_written_since(looked)
        if is_written and not self._pending.is_restless(path, anyio.current_time()):
            logger.debug("%s: is being written", path)
            return
        self._pending.done(path)
        await self._state.take(path, looked, manifest)

    async def _send(self) -> None:
        """Send what differs from the store, what belongs to one service in one turn.

        First that is a whole list, so that the store is synced. A list for every change would cost
        two long turns: its begin copies the names of all objects, and its end frees them.
        """
        timeslice = Timeslice()
        store = self._sink.store
        event_of = Apply if self._is_loaded else InitApply
        wanted = await self._state.merge()
        services: dict[ServiceKey, list[Event]] = {}
        for each in wanted.values():
            if not self._is_loaded or store.object(each.kind, each.key) != each:
                services.setdefault(each.service_key, []).append(event_of(each))
            await timeslice.checkpoint()
        for kind in Kind:
            for each in store.objects(kind):
                if identity_of(each) not in wanted:
                    services.setdefault(each.service_key, []).append(Delete(kind, each.key))
                await timeslice.checkpoint()
        if not self._is_loaded:
            for kind in Kind:
                self._sink.apply(Init(kind))
        for events in services.values():
            for event in events:
                self._sink.apply(event)
            events.clear()  # to free a hundred thousand at once would be a long turn
            await timeslice.checkpoint()
        if not self._is_loaded:
            for kind in Kind:
                self._sink.apply(InitDone(kind))


def _lines_of(problems: Iterator[Located]) -> list[str]:
    """Return problems for people, a line each; of very many the first ones."""
    lines = [
        f"{each.origin}: {each.problem.subject}: {each.problem.path}: {each.problem.text}"
        for each in itertools.islice(problems, _MOST_REASONS)
    ]
    more = sum(1 for _ in problems)
    return [*lines, f"{more} more problems"] if more else lines
