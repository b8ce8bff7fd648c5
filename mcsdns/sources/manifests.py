"""Manifests in files: the same events as a watch, from YAML and JSON that people edit.

Every file keeps its last good state: a document or object that breaks while we run leaves what it
said before, a file that is gone takes its objects along. Of objects that are there twice the first
is served and the other reported.
"""

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Final

import anyio
import anyio.lowlevel
import msgspec
import watchfiles

from mcsdns.errors import SourceError
from mcsdns.index.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.index.objects import Kind, Object, Problem, ServiceImport
from mcsdns.sources import files
from mcsdns.sources.documents import Located
from mcsdns.sources.reading import Piece, pieces_from, pieces_of, read_file, read_octets

logger = logging.getLogger(__name__)

STANDARD_INPUT: Final = "-"
_INLINE_BYTES: Final = 512 * 1024
"""Up to so much is read in this process before serving; it takes about a quarter of a second."""
_RESCAN_MS: Final = 5000
"""How often files are looked at even without a notice: links to elsewhere, network volumes."""
_QUIET_MS: Final = 50
_EMPTY_GRACE_S: Final = 0.3
"""A file that turns empty is looked at again: most likely it is just being written."""
_REPORTED_PER_FILE: Final = 20

Sink = Callable[[Event], None]
ObjectId = tuple[Kind, tuple[str, str]]
Objects = dict[ObjectId, Object]
_KEPT = {True: "; what it said before is still served", False: ""}


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        files: read. ignored: objects of kinds or for readers other than us. problems: in force.
        reads: how often a file was read. failed_reads: of those, without any result.
    """

    files: int
    objects: int
    ignored: int
    problems: int
    reads: int
    failed_reads: int


class _File(msgspec.Struct):
    """What one file said last."""

    signature: files.Signature
    objects: dict[ObjectId, Object] = {}
    problems: list[Located] = []
    ignored: int = 0


class ManifestSource:
    """Reads manifests, follows their changes and tells a sink."""

    def __init__(self, paths: Sequence[str], sink: Sink, *, max_bytes: int = 64 << 20) -> None:
        """Name files and folders; `-` is standard input, read once."""
        self._paths = [path for path in paths if path != STANDARD_INPUT]
        self._has_input = STANDARD_INPUT in paths
        self._sink = sink
        self._max_bytes = max_bytes
        self._files: dict[str, _File] = {}
        self._sent: dict[ObjectId, Object] = {}
        self._missing: dict[str, str] = {}
        self._reads = self._failed_reads = 0
        self._incoming: dict[str, _File] = {}
        self._duplicates: set[tuple[str, str]] = set()
        self._lock = anyio.Lock()

    @property
    def name(self) -> str:
        """Say what is read, for people."""
        return ", ".join([*self._paths, *(["standard input"] if self._has_input else [])])

    async def load(self) -> None:
        """Read everything once and send it as a whole new list.

        Raises:
            SourceError: a path does not exist.
        """
        found = files.find(self._paths)
        for path in self._paths:
            if path in found.missing:
                raise SourceError(f"{path}: {found.missing[path]}; name a file or a folder")
        if self._has_input:
            self._take_input()
        small = sum(signature[2] for signature in found.files.values()) <= _INLINE_BYTES
        await self._read(found.files, in_process=small)
        self._report_missing(found.missing)
        self._sent = self._wanted()
        for kind in Kind:
            self._sink(Init(kind))
        for count, each in enumerate(self._sent.values()):
            self._sink(InitApply(each))
            if count % 100 == 99:  # noqa: PLR2004
                await anyio.lowlevel.checkpoint()
        for kind in Kind:
            self._sink(InitDone(kind))

    async def watch(self) -> None:
        """Follow the files until cancelled."""
        folders = [path for path in self._paths if os.path.isdir(path)]
        singles = {os.path.dirname(path) or "." for path in self._paths if path not in folders}
        async with anyio.create_task_group() as group:
            if folders:
                group.start_soon(self._watch, folders, True)
            if singles:
                group.start_soon(self._watch, sorted(singles), False)

    async def rescan(self) -> None:
        """Look for changes and send what they make of the objects."""
        async with self._lock:
            found = files.find(self._paths)
            changed = {
                path: signature
                for path, signature in found.files.items()
                if path not in self._files or self._files[path].signature != signature
            }
            gone = [p for p in self._files if p not in found.files and p != STANDARD_INPUT]
            if not changed and not gone and found.missing == self._missing:
                return
            if any(signature[2] == 0 for signature in changed.values()):
                await anyio.sleep(_EMPTY_GRACE_S)
                again = files.find(self._paths).files
                changed = {path: again[path] for path in changed if path in again}
            await self._read(changed, in_process=False)
            for path in gone:
                del self._files[path]
            self._report_missing(found.missing)
            self._send_changes()

    def problems(self) -> Iterator[Located]:
        """Iterate over what is wrong now."""
        for file in self._files.values():
            yield from file.problems

    def statistics(self) -> Statistics:
        """Return the counters."""
        return Statistics(
            len(self._files),
            len(self._sent),
            sum(file.ignored for file in self._files.values()),
            sum(len(file.problems) for file in self._files.values()),
            self._reads,
            self._failed_reads,
        )

    async def _watch(self, folders: list[str], recursive: bool) -> None:
        changes = watchfiles.awatch(
            *folders,
            watch_filter=None,
            step=_QUIET_MS,
            rust_timeout=_RESCAN_MS,
            yield_on_timeout=True,
            recursive=recursive,
            ignore_permission_denied=True,
        )
        async with aclosing(changes):
            async for _ in changes:
                await self.rescan()

    def _take_input(self) -> None:
        manifest = read_octets(sys.stdin.buffer.read(self._max_bytes), "standard input")
        self._files[STANDARD_INPUT] = _File((0, 0, 0))
        for piece in pieces_of(STANDARD_INPUT, manifest):
            self._take(piece, (0, 0, 0), {})

    async def _read(self, wanted: dict[str, files.Signature], *, in_process: bool) -> None:
        """Read files again; each keeps what it said before where that cannot be had."""
        before = {path: self._files[path].objects for path in wanted if path in self._files}
        if in_process:
            for path, signature in wanted.items():
                for piece in pieces_of(path, read_file(path, self._max_bytes)):
                    self._take(piece, signature, before.get(path, {}))
            return
        if not wanted:
            return
        finished: set[str] = set()
        async for piece in self._read_by_child(list(wanted)):
            self._take(piece, wanted[piece.file], before.get(piece.file, {}))
            if piece.last:
                finished.add(piece.file)
            await anyio.lowlevel.checkpoint()
        for path in wanted.keys() - finished:
            lost = Piece(path, error="reading it failed, perhaps for want of memory", last=True)
            self._take(lost, wanted[path], before.get(path, {}))

    async def _read_by_child(self, paths: list[str]) -> AsyncIterator[Piece]:
        request = json.dumps({"paths": paths, "max_bytes": self._max_bytes})
        command = [sys.executable, "-m", "mcsdns.sources.reading"]
        async with await anyio.open_process(command, stderr=None) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            await child.stdin.send(request.encode())
            await child.stdin.aclose()
            async for piece in pieces_from(child.stdout):
                yield piece

    def _take(self, piece: Piece, signature: files.Signature, before: Objects) -> None:
        """Put a piece of a file's content in place of what the file said before."""
        if piece.file not in self._incoming:
            self._incoming[piece.file] = _File(signature)
        file = self._incoming[piece.file]
        for each in (*piece.imports, *piece.slices):
            file.objects.setdefault(_id_of(each), each)
            if file.objects[_id_of(each)] is not each:
                file.problems.append(_duplicate(each, file.objects[_id_of(each)]))
        if piece.last:
            del self._incoming[piece.file]
            self._finish(piece, file, before)

    def _finish(self, piece: Piece, file: _File, before: Objects) -> None:
        self._reads += 1
        file.problems += piece.problems
        file.ignored = piece.ignored
        if piece.error:
            self._failed_reads += 1
            problem = Problem("unreadable_file", "file", "$", f"{piece.error}{_KEPT[bool(before)]}")
            file.problems.append(Located(piece.file, problem))
        if piece.error or piece.unreadable:
            file.objects = before | file.objects
        for broken in piece.broken:
            identity = (Kind(broken.kind), broken.key)
            if identity in before:
                file.objects.setdefault(identity, before[identity])
        self._files[piece.file] = file
        _log_problems(file.problems)

    def _wanted(self) -> Objects:
        """Merge what all files say; of duplicates the first counts, in the order of paths."""
        wanted: Objects = {}
        for path in sorted(self._files):
            for identity, each in self._files[path].objects.items():
                first = wanted.setdefault(identity, each)
                if first is not each and (first.origin, each.origin) not in self._duplicates:
                    self._duplicates.add((first.origin, each.origin))
                    _log_problems([_duplicate(each, first)])
        return wanted

    def _send_changes(self) -> None:
        wanted = self._wanted()
        for identity, each in wanted.items():
            if self._sent.get(identity) != each:
                self._sink(Apply(each))
        for kind, key in self._sent.keys() - wanted.keys():
            self._sink(Delete(kind, key))
        self._sent = wanted

    def _report_missing(self, missing: dict[str, str]) -> None:
        for path, why in missing.items():
            if self._missing.get(path) != why:
                logger.warning("%s: %s, it is not read", path, why, extra={"file": path})
        self._missing = missing


def _id_of(each: Object) -> ObjectId:
    kind = Kind.SERVICE_IMPORT if isinstance(each, ServiceImport) else Kind.ENDPOINT_SLICE
    return kind, each.key


def _duplicate(each: Object, first: Object) -> Located:
    kind, (namespace, name) = _id_of(each)
    text = f"the same object stands at {first.origin}; that one is served, remove one of them"
    return Located(each.origin, Problem("duplicate", f"{kind} {namespace}/{name}", "$", text))


def _log_problems(problems: list[Located]) -> None:
    for located in problems[:_REPORTED_PER_FILE]:
        problem = located.problem
        logger.warning(
            "%s: %s: %s: %s",
            located.origin,
            problem.subject,
            problem.path,
            problem.text,
            extra={"reason": problem.reason, "origin": located.origin},
        )
    if len(problems) > _REPORTED_PER_FILE:
        logger.warning("%d more problems of this file", len(problems) - _REPORTED_PER_FILE)
