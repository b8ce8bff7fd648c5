"""What each file says, or said last: the last good state of what cannot be read now.

Files may hold a hundred thousand objects, so whatever visits them all lets others have their turn.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final, TypeVar

import anyio.lowlevel
import msgspec

from mcsdns.objects.model import Kind, Object, Problem, ServiceImport
from mcsdns.sources.manifests import worker
from mcsdns.sources.manifests.documents import ANYTHING, FileState, Identity, Located, Manifest

logger = logging.getLogger(__name__)

_REPORTED_AT_ONCE: Final = 20
_PER_TURN: Final = 200
_DUPLICATE: Final = "duplicate"

T = TypeVar("T")
Objects = dict[Identity, Object]


async def in_turns(things: Iterable[T]) -> AsyncIterator[T]:
    """Iterate, and let the rest of the program run every now and then."""
    for count, thing in enumerate(things, 1):
        yield thing
        if not count % _PER_TURN:
            await anyio.lowlevel.checkpoint()


class File(msgspec.Struct):
    """What one file said last; `wrong` counts the objects with problems, by reason."""

    signature: FileState | None
    objects: Objects
    problems: list[Located]
    ignored: int
    unread: bool
    wrong: Counter[str] = msgspec.field(default_factory=Counter[str])


class Contents:
    """The content of all files, by path.

    Attributes:
        reads, failed_reads: how often a file was read; without any result.
        ignored: objects that are not for us. problem_count: problems in force. wrong: objects
            with problems, by reason.
    """

    def __init__(self) -> None:
        self.reads = self.failed_reads = self.ignored = self.problem_count = 0
        self.wrong: Counter[str] = Counter()
        self._files: dict[str, File] = {}
        self._duplicates: dict[Identity, Located] = {}

    async def take(self, path: str, signature: FileState | None, manifest: Manifest) -> None:
        """Put what a file says in place of what it said before."""
        self.reads += 1
        file = File(signature, {}, [], manifest.ignored, manifest.unread)
        before = self._files.get(path) or File(None, {}, [], 0, unread=False)
        async for each in in_turns(manifest.objects):
            first = file.objects.setdefault(_id_of(each), each)
            if first is not each:
                file.problems.append(_duplicate(each, first))
        lost = {located.lost for located in manifest.problems if located.lost is not None}
        kept = {each: _lost_of(before.objects, each) for each in lost}
        for objects in kept.values():
            async for identity, each in in_turns(objects.items()):
                file.objects.setdefault(identity, each)
        async for located in in_turns(manifest.problems):
            is_kept = bool(located.lost and kept[located.lost])
            if located.problem.reason != worker.EMPTY or is_kept:
                self.failed_reads += located.problem.subject == "file"
                file.problems.append(with_consequence(located, kept=is_kept))
        await _count_wrong(file)
        self._files[path] = file
        self._count(before, -1)
        self._count(file, 1)
        known = {located.problem for located in before.problems}
        log_problems(located for located in file.problems if located.problem not in known)

    async def merge(self) -> Objects:
        """Merge what all files say and note what stands in several."""
        wanted: Objects = {}
        duplicates: dict[Identity, Located] = {}
        for path in sorted(self._files):
            async for identity, each in in_turns(self._files[path].objects.items()):
                first = wanted.setdefault(identity, each)
                if first is not each:
                    duplicates[identity] = _duplicate(each, first)
        log_problems(duplicates[new] for new in duplicates.keys() - self._duplicates.keys())
        more = len(duplicates) - len(self._duplicates)
        self.problem_count += more
        self.wrong[_DUPLICATE] += more
        self._duplicates = duplicates
        return wanted

    def drop(self, path: str) -> None:
        """Forget a file that is gone."""
        self._count(self._files.pop(path), -1)

    def signatures(self) -> dict[str, FileState | None]:
        """Return the files, each with its state when it was read."""
        return {path: file.signature for path, file in self._files.items()}

    def unread(self) -> list[str]:
        """Return the files for which another try may help."""
        return [path for path, file in self._files.items() if file.unread]

    def problems(self) -> Iterator[Located]:
        """Iterate over what is wrong now."""
        for file in self._files.values():
            yield from file.problems
        yield from self._duplicates.values()

    def __len__(self) -> int:
        return len(self._files)

    def _count(self, file: File, times: int) -> None:
        self.ignored += times * file.ignored
        self.problem_count += times * len(file.problems)
        for reason, number in file.wrong.items():
            self.wrong[reason] += times * number


async def _count_wrong(file: File) -> None:
    seen: set[tuple[str, str]] = set()
    async for located in in_turns(file.problems):
        subject = located.problem.subject
        which = (subject if "/" in subject else located.origin, located.problem.reason)
        if which not in seen:
            seen.add(which)
            file.wrong[located.problem.reason] += 1


def _id_of(each: Object) -> Identity:
    """Tell an object from all others; of plain texts, which the garbage collector passes over."""
    kind = Kind.SERVICE_IMPORT if isinstance(each, ServiceImport) else Kind.ENDPOINT_SLICE
    return kind.value, each.namespace, each.name


def _lost_of(objects: Objects, lost: Identity) -> Objects:
    """Return the objects that what cannot be read may have been."""
    if lost == ANYTHING:
        return objects
    return {lost: objects[lost]} if lost in objects else {}


def with_consequence(located: Located, *, kept: bool) -> Located:
    """Add to a problem what becomes of what cannot be read."""
    if located.lost is None:
        return located
    what = "what it said before is still served" if kept else "it is not served, the rest is"
    problem = msgspec.structs.replace(located.problem, text=f"{located.problem.text}; {what}")
    return msgspec.structs.replace(located, problem=problem)


def _duplicate(each: Object, first: Object) -> Located:
    kind, namespace, name = _id_of(each)
    text = f"the same object stands at {first.origin}; that one is served, remove one of them"
    return Located(each.origin, Problem(_DUPLICATE, f"{kind} {namespace}/{name}", "$", text))


def log_problems(problems: Iterable[Located]) -> None:
    """Log problems, each with its place; of very many the first ones."""
    count = 0
    for count, located in enumerate(problems, 1):
        problem = located.problem
        if count <= _REPORTED_AT_ONCE:
            logger.warning(
                "%s: %s: %s: %s",
                located.origin,
                problem.subject,
                problem.path,
                problem.text,
                extra={"reason": problem.reason, "origin": located.origin},
            )
    if count > _REPORTED_AT_ONCE:
        logger.warning("%d more problems", count - _REPORTED_AT_ONCE)
