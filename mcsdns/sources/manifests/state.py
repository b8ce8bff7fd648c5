"""The last good state of every file, and what is wrong in them.

What is served of a file is what it said when it could last be read, object by object. A document
or object that breaks leaves what it said before; where it cannot be known which object it was, all
that the file said before and does not say now is still served. A file that cannot be read at all,
or not be found although it or its folder is named, leaves everything. Only what is gone from a file
or folder that can be read is gone. An object that stands twice is served from its first place, by
the order of paths.

Files may hold a hundred thousand objects, so whatever visits them all is cut by time.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from mcsdns.objects.model import Object, Problem
from mcsdns.sources.manifests import files, worker
from mcsdns.sources.manifests.documents import ANYTHING, FileState, Identity, Located, Manifest
from mcsdns.sources.timeslice import Timeslice

logger = logging.getLogger(__name__)

_LOGGED_AT_ONCE: Final = 20
_DUPLICATE: Final = "duplicate"
_MISSING: Final = "missing"

Objects = dict[Identity, Object]


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot.

    Attributes:
        files: that were read. ignored: objects of kinds or for readers other than us.
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


class _File(msgspec.Struct):
    """The last good state of one file; `wrong` counts the objects with problems, by reason."""

    state: FileState | None = None
    objects: Objects = {}
    problems: list[Located] = []
    ignored: int = 0
    unread: bool = False
    wrong: Counter[str] = msgspec.field(default_factory=Counter[str])
    counted: set[tuple[str, str]] = set()

    def add(self, located: Located) -> None:
        """Note a problem; of one object, or one place, each reason counts once."""
        self.problems.append(located)
        subject, reason = located.problem.subject, located.problem.reason
        which = (subject if "/" in subject else located.origin, reason)
        self.wrong[reason] += which not in self.counted
        self.counted.add(which)


class ManifestState:
    """The last good state of all files, by path."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._missing: dict[str, Located] = {}
        self._duplicates: dict[Identity, Located] = {}
        self._objects = self._reads = self._failed_reads = 0

    @property
    def files(self) -> dict[str, FileState | None]:
        """The files, each with its state when it was read."""
        return {path: file.state for path, file in self._files.items()}

    @property
    def unread(self) -> list[str]:
        """The files for which another try may help."""
        return [path for path, file in self._files.items() if file.unread]

    async def take(self, path: str, state: FileState | None, manifest: Manifest) -> None:
        """Put what a file says in place of what it said before; empties the manifest."""
        timeslice = Timeslice()
        before = self._files.get(path) or _File()
        file = _File(state, ignored=manifest.ignored, unread=manifest.unread)
        lost = {located.lost for located in manifest.problems if located.lost}
        still_served = {each for each in lost if each in before.objects}
        if ANYTHING in lost and before.objects:
            still_served.add(ANYTHING)
        for objects in (manifest.imports, manifest.slices):
            objects.reverse()
            while objects:
                each = objects.pop()  # to free a hundred thousand at once takes 50 ms
                identity = identity_of(each)
                known = before.objects.pop(identity, None)
                if known is not None and known == each:
                    each = known  # the store has it: of equal objects one is enough
                first = file.objects.setdefault(identity, each)
                if first is not each:
                    file.add(_duplicate(each, first))
                await timeslice.checkpoint()
        while before.objects:
            identity, each = before.objects.popitem()
            if ANYTHING in lost or identity in lost:
                file.objects.setdefault(identity, each)
            await timeslice.checkpoint()
        for located in manifest.problems:
            is_served = located.lost in still_served
            if located.problem.reason != worker.EMPTY or is_served:
                self._failed_reads += located.problem.subject == "file"
                file.add(_with_consequence(located, is_served=is_served))
            await timeslice.checkpoint()
        self._reads += 1
        self._files[path] = file
        known_problems = {located.problem for located in before.problems}
        _log(located for located in file.problems if located.problem not in known_problems)

    def drop(self, path: str) -> None:
        """Forget a file that is gone."""
        del self._files[path]

    def note_missing(self, missing: Mapping[str, str]) -> None:
        """Take which files and folders could not be looked at, and why."""
        before, self._missing = self._missing, {}
        for path, why in missing.items():
            is_served = any(files.is_in(file, path) for file in self._files)
            located = Located(path, Problem(_MISSING, "file", "$", why), lost=ANYTHING)
            self._missing[path] = _with_consequence(located, is_served=is_served)
        _log(each for path, each in self._missing.items() if path not in before)
        for path in before.keys() - self._missing.keys():
            logger.info("%s: it is there again", path)

    async def merge(self) -> Objects:
        """Return the objects of all files, and note which stand in several."""
        timeslice = Timeslice()
        merged: Objects = {}
        duplicates: dict[Identity, Located] = {}
        for _, file in sorted(self._files.items()):
            for identity, each in file.objects.items():
                first = merged.setdefault(identity, each)
                if first is not each:
                    duplicates[identity] = _duplicate(each, first)
                await timeslice.checkpoint()
        _log(duplicates[new] for new in duplicates.keys() - self._duplicates.keys())
        self._duplicates = duplicates
        self._objects = len(merged)
        return merged

    def problems(self) -> Iterator[Located]:
        """Iterate over what is wrong now."""
        yield from self._missing.values()
        for file in self._files.values():
            yield from file.problems
        yield from self._duplicates.values()

    def statistics(self) -> Statistics:
        """Return the counters."""
        wrong = Counter({_DUPLICATE: len(self._duplicates), _MISSING: len(self._missing)})
        problems = wrong.total()
        for file in self._files.values():
            wrong.update(file.wrong)
            problems += len(file.problems)
        return Statistics(
            files=len(self._files),
            objects=self._objects,
            ignored=sum(file.ignored for file in self._files.values()),
            problems=problems,
            reads=self._reads,
            failed_reads=self._failed_reads,
            wrong=wrong,
        )


def identity_of(each: Object) -> Identity:
    """Return what tells an object from all others, in texts, which no collector walks."""
    return each.kind.value, each.namespace, each.name


def _with_consequence(located: Located, *, is_served: bool) -> Located:
    """Add to a problem what becomes of what cannot be read."""
    if located.lost is None:
        return located
    what = "what it said before is still served" if is_served else "it is not served, the rest is"
    problem = msgspec.structs.replace(located.problem, text=f"{located.problem.text}; {what}")
    return msgspec.structs.replace(located, problem=problem)


def _duplicate(each: Object, first: Object) -> Located:
    kind, namespace, name = identity_of(each)
    text = f"the same object stands at {first.origin}; that one is served, remove one of them"
    return Located(each.origin, Problem(_DUPLICATE, f"{kind} {namespace}/{name}", "$", text))


def _log(problems: Iterable[Located]) -> None:
    """Log problems, each with its place; of very many the first ones."""
    count = 0
    for count, located in enumerate(problems, 1):
        problem = located.problem
        if count <= _LOGGED_AT_ONCE:
            logger.warning(
                "%s: %s: %s: %s",
                located.origin,
                problem.subject,
                problem.path,
                problem.text,
                extra={"reason": problem.reason, "origin": located.origin},
            )
    if count > _LOGGED_AT_ONCE:
        logger.warning("%d more problems", count - _LOGGED_AT_ONCE)
