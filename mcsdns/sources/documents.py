"""Text of manifests -> our objects, each with its file and line, and what is wrong with the rest.

One document that is not YAML or JSON, or one object of the wrong shape, costs only itself. No
file is opened here.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml

from mcsdns.errors import ObjectError
from mcsdns.index.objects import Decoded, Object, Problem, decode, kind_of

_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_MAX_LIST_DEPTH: Final = 3
_OUR_KINDS: Final = ("ServiceImport", "EndpointSlice")


class Located(msgspec.Struct, frozen=True, gc=False):
    """A problem and where in which file it is."""

    origin: str
    problem: Problem


class Broken(msgspec.Struct, frozen=True, gc=False):
    """An object that could not be decoded, told by kind, namespace and name as far as known."""

    kind: str
    key: tuple[str, str]


class Manifest(msgspec.Struct, gc=False):
    """What one text holds.

    Attributes:
        objects: in order. broken: objects and `unreadable` documents that could not be read.
        ignored: objects of other kinds, or not for us.
    """

    objects: list[Object]
    problems: list[Located]
    broken: list[Broken]
    ignored: int = 0
    unreadable: int = 0


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: no dates and no base-60 integers."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int"}
    ]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o[0-7]+)\Z"),
    list("-+0123456789"),
)


class _Document(msgspec.Struct, gc=False):
    """One parsed document.

    Attributes:
        text: where it stands, from its first line on. offset: lines of the file before `text`.
        node: its YAML nodes; JSON gets them only when a line is asked for.
    """

    value: Any
    text: str
    offset: int
    node: yaml.Node | None

    def line_of(self, path: str) -> int:
        """Return the line of the file on which a path stands."""
        if self.node is None:
            try:
                self.node = yaml.compose(self.text, _Loader)  # JSON is YAML, but for tabs
            except (yaml.YAMLError, RecursionError):
                return self.offset + 1
        return self.offset + line_of(self.node, path)


def read(text: str, file: str) -> Manifest:
    """Read a text of one or many YAML or JSON documents; `file` is the name to report."""
    manifest = Manifest([], [], [])
    for document in _documents(text, file, manifest):
        _read_object(document.value, "$", document, file, manifest, 0)
    return manifest


def line_of(node: yaml.Node | None, path: str) -> int:
    """Return the line, from 1, on which a path such as `$.spec.ips[0]` stands in a document.

    What does not exist is told by the closest thing around it.
    """
    if node is None:
        return 1
    line = node.start_mark.line
    for step in _STEP.finditer(path):
        key, number = step.groups()
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode) and key is not None:
            for name, value in node.value:
                if name.value == key:
                    line, found = name.start_mark.line, value
        elif isinstance(node, yaml.SequenceNode) and number and number.isdigit():
            if int(number) < len(node.value):
                found = node.value[int(number)]
                line = found.start_mark.line
        if found is None:
            break
        node = found
    return int(line) + 1


def _documents(text: str, file: str, manifest: Manifest) -> Iterator[_Document]:
    if text.lstrip()[:1] in {"{", "["}:
        documents = list(_json_documents(text))
        if documents:
            yield from documents
            return
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    line, counted = 0, 0
    for start, end in zip(starts, ends, strict=True):
        line += text.count("\n", counted, start)
        counted = start
        try:
            yield from _yaml_documents(text[start:end], line)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            manifest.unreadable += 1
            manifest.problems.append(_unreadable(error, file, line))


def _json_documents(text: str) -> Iterator[_Document]:
    """Read concatenated JSON documents; nothing where any is malformed, YAML may fare better."""
    decoder = json.JSONDecoder()
    documents: list[_Document] = []
    at = counted = line = 0
    try:
        while at < len(text) and (gap := re.compile(r"\s*").match(text, at)):
            at = gap.end()
            if at == len(text):
                break
            value, end = decoder.raw_decode(text, at)
            line += text.count("\n", counted, at)
            counted = at
            documents.append(_Document(value, text[at:end], line, None))
            at = end
    except (ValueError, RecursionError):
        return
    yield from documents


def _yaml_documents(text: str, line: int) -> Iterator[_Document]:
    if not text.strip():
        return
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            yield _Document(loader.construct_document(node), "", line, node)
    finally:
        loader.dispose()


def _unreadable(error: Exception, file: str, line: int) -> Located:
    mark = getattr(error, "problem_mark", None)
    at = line + 1 + (mark.line if mark is not None else 0)
    column = f", column {mark.column + 1}" if mark is not None else ""
    why = getattr(error, "problem", None) or str(error) or type(error).__name__
    text = f"not YAML: {why}{column}; this document is not served, the others are"
    return Located(f"{file}:{at}", Problem("unreadable", "document", "$", text))


def _read_object(
    value: Any, path: str, document: _Document, file: str, manifest: Manifest, depth: int
) -> None:
    if value is None:
        return
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        text = "a manifest is a mapping with apiVersion and kind; this one is not served"
        manifest.unreadable += 1
        manifest.problems.append(
            _located(Problem("not_an_object", "document", path, text), path, document, file)
        )
        return
    kind, api_version = value["kind"], value.get("apiVersion")
    if kind.endswith("List") and isinstance(value.get("items"), list) and depth < _MAX_LIST_DEPTH:
        _read_list(value["items"], kind, api_version, path, document, file, manifest, depth)
        return
    ours = kind_of(api_version, kind) if isinstance(api_version, str) else None
    if ours is None:
        manifest.ignored += 1
        if kind in _OUR_KINDS:
            manifest.problems.append(_wrong_version(kind, api_version, path, document, file))
        return
    origin = f"{file}:{document.line_of(path)}"
    try:
        decoded = decode(ours, value, origin=origin, api_version=api_version)
    except ObjectError as error:
        key = _key_of(value)
        manifest.broken.append(Broken(kind, key))
        where = path + error.path[1:]
        text = f"{error}; this object is not served, the others are"
        problem = Problem("bad_object", f"{kind} {'/'.join(key)}", where, text)
        manifest.problems.append(_located(problem, where, document, file))
        return
    _take(decoded, path, document, file, manifest)


def _read_list(
    items: list[Any],
    kind: str,
    api_version: Any,
    path: str,
    document: _Document,
    file: str,
    manifest: Manifest,
    depth: int,
) -> None:
    """Read the items of a List; those of a typed list may lack kind and apiVersion."""
    implied = {"kind": kind.removesuffix("List"), "apiVersion": api_version}
    for number, item in enumerate(items):
        if kind != "List" and isinstance(item, dict) and "kind" not in item:
            item = implied | item  # noqa: PLW2901 - completed, not replaced
        _read_object(item, f"{path}.items[{number}]", document, file, manifest, depth + 1)


def _take(decoded: Decoded, path: str, document: _Document, file: str, manifest: Manifest) -> None:
    if decoded.object is None:
        manifest.ignored += 1
    else:
        manifest.objects.append(decoded.object)
    for problem in decoded.problems:
        where = path + problem.path[1:]
        manifest.problems.append(
            _located(msgspec.structs.replace(problem, path=where), where, document, file)
        )


def _located(problem: Problem, path: str, document: _Document, file: str) -> Located:
    return Located(f"{file}:{document.line_of(path)}", problem)


def _wrong_version(
    kind: str, api_version: Any, path: str, document: _Document, file: str
) -> Located:
    known = ["multicluster.x-k8s.io/v1beta1", "multicluster.x-k8s.io/v1alpha1"]
    if kind == "EndpointSlice":
        known = ["discovery.k8s.io/v1"]
    close = difflib.get_close_matches(str(api_version), known, 1)
    text = f"{api_version!r} is not read, only {' and '.join(known)}"
    if close:
        text += f"; did you mean {close[0]}?"
    where = path + ".apiVersion"
    return _located(Problem("unknown_version", kind, where, text), where, document, file)


def _key_of(value: dict[Any, Any]) -> tuple[str, str]:
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return "?", "?"
    return str(metadata.get("namespace") or "default"), str(metadata.get("name") or "?")
