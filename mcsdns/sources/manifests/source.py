"""Manifests in files: the same events as a watch, from YAML and JSON that people edit.

Every file keeps its last good state: a document or object that breaks while we run leaves what it
said before, and so does a named file or folder that cannot be found any more. A file that is gone
from its folder takes its objects along. Of objects that are there twice the first is served, by
the order of paths, and the other reported.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from mcsdns.errors import SourceError
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object, Problem, ServiceImport
from mcsdns.sources.base import SourceState
from mcsdns.sources.manifests import files, worker
from mcsdns.sources.manifests.documents import ANYTHING, FileState, Located, Manifest
from mcsdns.sources.manifests.files import Listing
from mcsdns.sources.manifests.patience import Debounce, Pending
from mcsdns.sources.manifests.state import (
    Contents,
    Objects,
    in_turns,
    log_problems,
    with_consequence,
)
from mcsdns.sources.manifests.worker import STANDARD_INPUT

logger = logging.getLogger(__name__)

_INLINE_BYTES: Final = 512 * 1024
"""Up to so much is read in this process before serving; it takes about a tenth of a second."""
_MISSING: Final = "missing"
_MOST_REASONS: Final = 20

Sink = Callable[[Event], None]


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        files: that say something. ignored: objects of kinds or for readers other than us.
        problems: in force. reads: how often a file was read. failed_reads: without any result.
        wrong: objects with problems, by reason.
    """

    files: int
    objects: int
    ignored: int
    problems: int
    reads: int
    failed_reads: int
    wrong: Mapping[str, int] = {}


class ManifestSource:
    """Reads manifests, follows their changes and tells a sink."""

    is_guarded = False

    def __init__(
        self,
        paths: Sequence[str],
        sink: Sink,
        *,
        max_bytes: int = 64 << 20,
        profile: SliceProfile = SliceProfile.MCS,
        patience: Debounce | None = None,
    ) -> None:
        """Name files and folders; `-` is standard input, read once."""
        self._paths = [path for path in paths if path != STANDARD_INPUT]
        self._has_input = STANDARD_INPUT in paths
        self._sink = sink
        self._max_bytes = max_bytes
        self._profile = profile
        self._patience = patience or Debounce()
        self._pending = Pending(self._patience)
        self._found = Listing()
        self._retry_at = 0.0
        self._contents = Contents()
        self._sent: Objects = {}
        self._missing: dict[str, Located] = {}
        self._lock = anyio.Lock()
        self._is_loaded = False

    @property
    def name(self) -> str:
        """Say what is read, for people."""
        return ", ".join([*self._paths, *(["standard input"] if self._has_input else [])])

    async def load(self) -> None:
        """Read everything once and send it as a whole new list.

        Raises:
            SourceError: a path does not exist.
        """
        async with self._lock:
            self._found = await self._find()
            for path in self._paths:
                if path in self._found.missing:
                    why = self._found.missing[path]
                    raise SourceError(f"{path}: {why}; name a file or folder of manifests")
            if self._has_input:
                await self._read_by_child([STANDARD_INPUT], self._take_first)
            await self._load_files()
            self._report_missing()
            await self._send_all()
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
            async with aclosing(files.notices(lambda: self._found.folders)) as notices:
                async for _ in notices:
                    await self.rescan()
        await anyio.sleep_forever()

    async def rescan(self) -> None:
        """Look for changes and send what they make of the objects, once everything was read."""
        if not self._is_loaded:
            return
        async with self._lock:
            changes = await self._settle()
            self._report_missing()
            if not changes:
                return
            changed = [path for path, signature in changes.items() if signature is not None]
            await self._read_by_child(changed, self._take_again)
            for path in changes.keys() - changed:
                self._contents.drop(path)
            logger.info(
                "manifests: %d files read, %d gone", len(changed), len(changes) - len(changed)
            )
            await self._send_changes()

    def problems(self) -> Iterator[Located]:
        """Iterate over what is wrong now."""
        yield from self._missing.values()
        yield from self._contents.problems()

    def take_over(self) -> None:
        """Do nothing."""

    def step_down(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Forget all that was read."""
        vars(self).clear()

    def states(self) -> list[SourceState]:
        """Return how the files are, with what is wrong in them."""
        return [
            SourceState(
                name=self.name,
                kind="manifests",
                synced=self._is_loaded,
                connected=True,
                reasons=_lines_of(self.problems()),
            )
        ]

    def statistics(self) -> Statistics:
        """Return the counters."""
        contents, missing = self._contents, len(self._missing)
        return Statistics(
            len(contents),
            len(self._sent),
            contents.ignored,
            contents.problem_count + missing,
            contents.reads,
            contents.failed_reads,
            {**contents.wrong, _MISSING: contents.wrong[_MISSING] + missing},
        )

    async def _find(self) -> Listing:
        return await anyio.to_thread.run_sync(files.find, self._paths)

    def _changes(self) -> dict[str, FileState | None]:
        found, known = self._found, self._contents.signatures()
        changes: dict[str, FileState | None] = {
            path: signature
            for path, signature in found.files.items()
            if known.get(path) != signature
        }
        if anyio.current_time() >= self._retry_at:
            unread = self._contents.unread()
            changes |= {path: found.files[path] for path in unread if path in found.files}
        unseen = known.keys() - found.files.keys() - {STANDARD_INPUT}
        return changes | {path: None for path in unseen if not found.is_missing(path)}

    async def _settle(self) -> dict[str, FileState | None]:
        """Look until what is new stands still; return what may be believed."""
        deadline = anyio.current_time() + self._patience.most_s
        while True:
            self._found = await self._find()
            changes, now = self._changes(), anyio.current_time()
            believed = self._pending.look(changes, now)
            if len(believed) == len(changes) or now > deadline:
                return believed
            await anyio.sleep(self._patience.still_s)

    async def _load_files(self) -> None:
        wanted = self._found.files
        if not wanted and self._paths:
            logger.warning("%s: no file of %s there", self.name, ", ".join(files.SUFFIXES))
        if sum(signature.size_bytes for signature in wanted.values()) > _INLINE_BYTES:
            await self._read_by_child(list(wanted), self._take_first)
            return
        for path in wanted:
            manifest = worker.read_file(path, self._max_bytes, self._profile)
            await self._take_first(path, manifest)
            await anyio.lowlevel.checkpoint()

    async def _read_by_child(self, paths: list[str], take: worker.Take) -> None:
        await worker.read_by_child(paths, self._max_bytes, take, self._profile)
        self._retry_at = anyio.current_time() + self._patience.retry_s

    async def _take_first(self, path: str, manifest: Manifest) -> None:
        await self._contents.take(path, self._found.files.get(path), manifest)

    async def _take_again(self, path: str, manifest: Manifest) -> None:
        """Take what was read, unless somebody was writing it: then look again."""
        looked, read = self._found.files[path], manifest.signature
        is_restless = self._pending.is_restless(path, anyio.current_time())
        if read is not None and read.is_written_since(looked) and not is_restless:
            logger.debug("%s: is being written", path)
            return
        self._pending.done(path)
        await self._contents.take(path, looked, manifest)

    async def _send_all(self) -> None:
        self._sent = await self._contents.merge()
        for kind in Kind:
            self._sink(Init(kind))
        async for each in in_turns(self._sent.values()):
            self._sink(InitApply(each))
        for kind in Kind:
            self._sink(InitDone(kind))

    async def _send_changes(self) -> None:
        """Send what differs from what was sent, all objects of one service in one turn."""
        before, self._sent = self._sent, await self._contents.merge()
        events: dict[tuple[str, str], list[Event]] = {}
        async for identity, each in in_turns(self._sent.items()):
            if before.get(identity) != each:
                events.setdefault(_service_of(each), []).append(Apply(each))
        async for identity, each in in_turns(before.items()):
            if identity not in self._sent:
                deletion = Delete(Kind(identity[0]), each.key)
                events.setdefault(_service_of(each), []).append(deletion)
        async for of_one_service in in_turns(events.values()):
            for event in of_one_service:
                self._sink(event)
        async for _ in in_turns(range(len(before))):
            before.popitem()  # to free a hundred thousand objects at once takes 50 ms

    def _report_missing(self) -> None:
        before, self._missing = self._missing, {}
        for path, why in self._found.missing.items():
            kept = any(files.is_in(file, path) for file in self._contents.signatures())
            located = Located(path, Problem(_MISSING, "file", "$", why), lost=ANYTHING)
            self._missing[path] = with_consequence(located, kept=kept)
        log_problems(each for path, each in self._missing.items() if path not in before)
        for path in before.keys() - self._missing.keys():
            logger.info("%s: it is there again", path)


def _service_of(each: Object) -> tuple[str, str]:
    return each.namespace, each.name if isinstance(each, ServiceImport) else each.service


def _lines_of(problems: Iterator[Located]) -> list[str]:
    """Return problems for people, a line each; of very many the first ones."""
    lines = [
        f"{each.origin}: {each.problem.subject}: {each.problem.path}: {each.problem.text}"
        for each in itertools.islice(problems, _MOST_REASONS)
    ]
    more = sum(1 for _ in problems)
    return [*lines, f"{more} more problems"] if more else lines
