"""Text of manifests -> our objects, each with its file and line, and what is wrong with the rest.

One document that is not YAML or JSON, or one object of the wrong shape, costs only itself. No
file is opened here.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from mcsdns import yaml_text
from mcsdns.errors import ObjectError
from mcsdns.objects.decode import (
    IMPORT_GROUP,
    IMPORT_VERSIONS,
    SLICE_GROUP,
    SLICE_VERSIONS,
    SliceProfile,
    decode,
)
from mcsdns.objects.model import EndpointSlice, Kind, Problem, ServiceImport
from mcsdns.yaml_text import Document, Mapping, Unreadable, is_mapping, is_sequence

_KNOWN_VERSIONS: Final = {
    Kind.SERVICE_IMPORT.value: [f"{IMPORT_GROUP}/{each}" for each in IMPORT_VERSIONS],
    Kind.ENDPOINT_SLICE.value: [f"{SLICE_GROUP}/{each}" for each in SLICE_VERSIONS],
}
_UNQUOTED = re.compile(r"Expected `str( \| null)?`, got `(int|float|bool)`")

Identity = tuple[str, str, str]
"""Kind, namespace and name."""
ANYTHING: Final[Identity] = ("", "", "")


class FileState(msgspec.Struct, frozen=True, gc=False):
    """What the system says of a file; whatever changes, one of these does. Times in ns."""

    device: int
    inode: int
    content_time: int
    status_time: int
    size_bytes: int

    def is_written_since(self, before: "FileState") -> bool:
        """Return whether the same file was written to; one that took its place was not."""
        same_file = (self.device, self.inode) == (before.device, before.inode)
        return same_file and (self.content_time, self.size_bytes) != (
            before.content_time,
            before.size_bytes,
        )


class Located(msgspec.Struct, frozen=True, gc=False):
    """A problem and where in which file it is.

    Attributes:
        lost: the object that cannot be read because of it; ANYTHING where that is not known.
    """

    origin: str
    problem: Problem
    lost: Identity | None = None


class Manifest(msgspec.Struct, gc=False):
    """What one text holds, or a piece of it.

    Attributes:
        imports, slices: in order. ignored: how many objects of other kinds, or not for us.
        unread: whether the text was not to blame, so that another try may help.
        state: of the file, when it had been read; None where it was not.
        is_last: whether it is the last piece.
    """

    imports: list[ServiceImport] = []
    slices: list[EndpointSlice] = []
    problems: list[Located] = []
    ignored: int = 0
    unread: bool = False
    state: FileState | None = None
    is_last: bool = False


def read(text: str, file: str, profile: SliceProfile = SliceProfile.MCS) -> Manifest:
    """Read a text of one or many YAML or JSON documents; `file` is the name to report."""
    reader = _Reader(file, profile)
    for document in yaml_text.read(text):
        reader.take(document)
    return reader.manifest


class _Reader:
    """Makes objects of the documents of one text.

    The items of a list come before the list itself, which alone says what they are: those of a
    ServiceImportList need neither `kind` nor `apiVersion`. So items without a kind wait until the
    list is complete; where it breaks off they are lost with it.
    """

    def __init__(self, file: str, profile: SliceProfile) -> None:
        self.manifest = Manifest()
        self._file = file
        self._profile = profile
        self._waiting: list[tuple[Document, Mapping]] = []

    def take(self, document: Document | Unreadable) -> None:
        """Take the next document."""
        if isinstance(document, Unreadable):
            self._waiting.clear()
            text = f"not YAML: {document.why}"
            problem = Problem("unreadable", "document", document.path, text)
            self.manifest.problems.append(
                Located(f"{self._file}:{document.line}", problem, lost=ANYTHING)
            )
        elif document.path == "$":
            self._take_document(document)
        elif is_mapping(document.value) and "kind" not in document.value:
            self._waiting.append((document, document.value))
        else:
            self._take_object(document)

    def _take_document(self, document: Document) -> None:
        waiting, self._waiting = self._waiting, []
        value = document.value
        if value is None:
            return
        kind = value.get("kind") if is_mapping(value) else None
        if not is_mapping(value) or not isinstance(kind, str) or not kind.endswith("List"):
            self._take_object(document)
            return
        implied = {"kind": kind.removesuffix("List") or None, "apiVersion": value.get("apiVersion")}
        for item, fields in waiting:
            item.value = implied | fields
            self._take_object(item)
        items = value.get("items")
        for number, other in enumerate(items if is_sequence(items) else []):
            if other is not None:
                self._refuse(document, f"$.items[{number}]")

    def _take_object(self, document: Document) -> None:
        value = document.value
        kind = value.get("kind") if is_mapping(value) else None
        if not is_mapping(value) or not isinstance(kind, str):
            self._refuse(document, document.path)
            return
        version = value.get("apiVersion")
        known = _KNOWN_VERSIONS.get(kind, [])
        if version in known:
            self._decode(document, value, Kind(kind), str(version))
            return
        self.manifest.ignored += 1
        if known:
            text = f"{version!r} is not read, only {' and '.join(known)}"
            for close in difflib.get_close_matches(str(version), known, 1):
                text += f"; did you mean {close}?"
            problem = Problem("unknown_version", _subject(kind, value), "$.apiVersion", text)
            self._report(document, [problem], lost=_identity(kind, value))

    def _decode(self, document: Document, value: Mapping, kind: Kind, version: str) -> None:
        origin = f"{self._file}:{document.line}"
        try:
            decoded = decode(kind, value, origin=origin, api_version=version, profile=self._profile)
        except ObjectError as error:
            path, text = _exact(error.path, value), str(error)
            if _UNQUOTED.match(text):
                text += "; put it in quotes"
            problem = Problem("bad_object", _subject(kind, value), path, text)
            self._report(document, [problem], lost=_identity(kind, value))
            return
        if decoded.object is None:
            self.manifest.ignored += 1
            return
        if isinstance(decoded.object, ServiceImport):
            self.manifest.imports.append(decoded.object)
        else:
            self.manifest.slices.append(decoded.object)
        text = "the key stands twice, the last one counts"
        repeated = [
            Problem("repeated_key", _subject(kind, value), "$" + path[len(document.path) :], text)
            for path in document.repeated
        ]
        self._report(document, (*decoded.problems, *repeated))

    def _refuse(self, document: Document, path: str) -> None:
        text = "a manifest is a mapping with apiVersion and kind"
        problem = Problem("not_an_object", "document", "$" + path[len(document.path) :], text)
        self._report(document, [problem], lost=ANYTHING)

    def _report(
        self, document: Document, problems: Iterable[Problem], lost: Identity | None = None
    ) -> None:
        """Note problems of one object, whose paths begin at the object."""
        placed = [
            msgspec.structs.replace(problem, path=document.path + problem.path[1:])
            for problem in problems
        ]
        lines = document.lines_of(problem.path for problem in placed)
        self.manifest.problems.extend(
            Located(f"{self._file}:{lines[problem.path]}", problem, lost) for problem in placed
        )


def _identity(kind: str, value: Mapping) -> Identity:
    metadata = value.get("metadata")
    if not is_mapping(metadata):
        return ANYTHING
    namespace, name = metadata.get("namespace") or "default", metadata.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str):
        return ANYTHING
    return str(kind), namespace, name  # not a member of an enum, as in `state`


def _subject(kind: str, value: Mapping) -> str:
    _, namespace, name = _identity(kind, value)
    return f"{kind} {namespace}/{name}" if name else kind


def _exact(path: str, value: Mapping) -> str:
    """Name the key where msgspec says `[...]`: a value of a mapping of strings is no string."""
    head, found, _ = path.partition("[...]")
    inside: object = value
    for step in head.split(".")[1:]:
        inside = inside.get(step) if is_mapping(inside) else None
    if not found or not is_mapping(inside):
        return path
    return next(
        (f"{head}.{key}" for key, each in inside.items() if not isinstance(each, str)), head
    )
