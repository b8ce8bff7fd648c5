"""What a text of YAML or JSON consists of: plain values, each with its place.

Nothing of Kubernetes is known here.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeGuard

import msgspec
import yaml

Mapping = dict[str, object]
Sequence = list[object]


class Mark(Protocol):
    """A place in a text, all numbers from 0; what libyaml gives."""

    @property
    def index(self) -> int:
        """Characters before it."""
        ...

    @property
    def line(self) -> int:
        """Lines before its own."""
        ...

    @property
    def column(self) -> int:
        """Characters before it in its line."""
        ...


class RefusedError(Exception):
    """A value that could be parsed, but that we do not read.

    Attributes:
        mark: where it stands; None where only the reader knows.
    """

    def __init__(self, why: str, mark: Mark | None = None) -> None:
        super().__init__(why)
        self.mark = mark


class Part(msgspec.Struct, gc=False):
    """One document, or one of its `items`.

    Attributes:
        value: mappings have texts as keys; among `items`, those that are parts are None.
        path: `$`, or `$.items[0]` and so on.
        text, column: from its first character on, and where that stands in its line.
        line: of the file, from 1.
        repeated: paths of keys that stand twice in their mapping; the last counts.
    """

    value: object
    path: str
    text: str
    column: int
    line: int
    repeated: list[str]

    def lines_of(self, paths: Iterable[str]) -> dict[str, int]:
        """Return the lines of the file on which paths stand, all of them below `self.path`.

        What does not exist is told by the closest thing around it.
        """
        below = {path: "$" + path.removeprefix(self.path) for path in paths}
        if not below:
            return {}
        found = _find_lines(" " * self.column + self.text, below.values())
        return {path: self.line + found[step] for path, step in below.items()}


class Unreadable(msgspec.Struct, gc=False):
    """What is neither YAML nor JSON, or refused: a document, or what follows its last part."""

    why: str
    path: str
    line: int


def is_mapping(value: object) -> TypeGuard[Mapping]:
    """Say whether a value is a mapping; its keys are texts then."""
    return isinstance(value, dict)


def is_sequence(value: object) -> TypeGuard[Sequence]:
    """Say whether a value is a list."""
    return isinstance(value, list)


def line_of(mark: Mark | None) -> int:
    """Return the line of a mark, from 0."""
    return 0 if mark is None else mark.line


class _Place(msgspec.Struct):
    """A mapping or list that is being passed; `count` is None in a mapping."""

    path: str
    count: int | None
    key: str | None = None
    line: int = 0


def _find_lines(text: str, paths: Iterable[str]) -> dict[str, int]:
    """Return the lines, from 0, on which paths stand, or the closest things around them."""
    around = {path: list(_around(path)) for path in paths}
    wanted = {step for steps in around.values() for step in steps}
    found = {"$": 0}
    with contextlib.suppress(yaml.YAMLError):  # not all JSON is YAML; what was found counts
        found.update((path, line) for path, line in _walk(text) if path in wanted)
    return {
        path: next(found[step] for step in steps if step in found) for path, steps in around.items()
    }


def _around(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]


def _walk(text: str) -> Iterator[tuple[str, int]]:
    """Iterate over the paths of a document and their lines; a mapping's are those of its keys."""
    places: list[_Place] = []
    for event in iter(yaml.CBaseLoader(text).get_event, None):
        if isinstance(event, yaml.CollectionEndEvent):
            places.pop()
        elif isinstance(event, yaml.NodeEvent):
            path, line = "$", line_of(event.start_mark)
            place = places[-1] if places else None
            if place is not None and place.count is not None:
                path = f"{place.path}[{place.count}]"
                place.count += 1
            elif place is not None and place.key is None:
                place.key = event.value if isinstance(event, yaml.ScalarEvent) else "*"
                place.line = line
                continue
            elif place is not None:
                path, line = f"{place.path}.{place.key}", place.line
                place.key = None
            yield path, line
            if isinstance(event, yaml.CollectionStartEvent):
                is_list = isinstance(event, yaml.SequenceStartEvent)
                places.append(_Place(path, 0 if is_list else None))
