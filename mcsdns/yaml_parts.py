"""YAML text -> parts.

libyaml is asked for events alone: composing nodes recurses in C, and 100,000 brackets end the
interpreter. Building values from events takes half the time of PyYAML's constructors, for a dump
of a whole cluster a tenth, and of their memory a tenth. Depth and aliases are bounded.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec
import yaml

from mcsdns.parts import (
    Mapping,
    Mark,
    Part,
    RefusedError,
    Sequence,
    Unreadable,
    is_mapping,
    is_sequence,
    line_of,
)

MAX_DEPTH: Final = 500
MAX_REPEATED: Final = 1_000_000
"""How many values the aliases and merge keys of one document may stand for, all together."""
_MAX_NUMBER: Final = 40
"""Characters; what is longer stays a text."""

_REPEATED_TOLD: Final = 20

_INTEGER = re.compile(
    r"([-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>[0-9]+))"
)
_BASES: Final = {"x": 16, "b": 2, "o": 8, "d": 10}
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, object]] = {
    word: value
    for words, value in (
        ("|~|null|Null|NULL", None),
        ("true|True|TRUE|yes|Yes|YES|on|On|ON|y|Y", True),
        ("false|False|FALSE|no|No|NO|off|Off|OFF|n|N", False),
        (".nan|.NaN|.NAN", float("nan")),
        (".inf|.Inf|.INF|+.inf|+.Inf|+.INF", float("inf")),
        ("-.inf|-.Inf|-.INF", float("-inf")),
    )
    for word in words.split("|")
}
_TAG: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = frozenset(_TAG + name for name in ("bool", "float", "int", "null"))
_PATH_TOLD: Final = 100


class _Level(msgspec.Struct):
    """A mapping or list that is being built.

    Attributes:
        key: the one whose value comes next. merged: what `<<` brings.
        count: of all values, at its beginning.
    """

    value: Mapping | Sequence
    anchor: str | None
    mark: Mark | None
    count: int
    key: str | None = None
    is_merge: bool = False
    merged: list[Mapping] = []

    @property
    def wants_key(self) -> bool:
        """Whether it is a mapping whose next key is due."""
        return self.key is None and isinstance(self.value, dict)


class YamlReader:
    """Builds the values of one text from its events."""

    def __init__(self, text: str, offset: int) -> None:
        """Take a text and the number of lines before it in its file."""
        self._text = text
        self._offset = offset
        self._levels: list[_Level] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._count = 0
        self._repeats = 0
        self._repeated: list[str] = []

    def read(self) -> Iterator[Part | Unreadable]:
        """Iterate over the parts; what cannot be read ends them."""
        try:
            for event in iter(yaml.CBaseLoader(self._text).get_event, None):
                part = self._take(event)
                if part is not None:
                    yield part
        except RefusedError as error:
            yield self._unreadable(str(error), error.mark)
        except yaml.YAMLError as error:
            yield self._not_yaml(error)

    def _take(self, event: yaml.Event) -> Part | None:
        if isinstance(event, yaml.ScalarEvent):
            return self._take_scalar(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            return self._close(event)
        elif isinstance(event, yaml.AliasEvent):
            return self._put(self._named(event), event.start_mark)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._anchors, self._repeats = {}, 0
        return None

    def _take_scalar(self, event: yaml.ScalarEvent) -> Part | None:
        self._count += 1
        level = self._levels[-1] if self._levels else None
        if level is not None and level.wants_key:
            self._take_key(level, event.value)
            level.is_merge = event.value == "<<" and event.implicit[0]
            self._name(event.anchor, event.value, 1)
            return None
        value = _resolve(event)
        self._name(event.anchor, value, 1)
        return self._put(value, event.start_mark)

    def _take_key(self, level: _Level, key: str) -> None:
        level.key = key
        if key in level.value and len(self._repeated) < _REPEATED_TOLD:
            self._repeated.append(self._path())

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if self._levels and self._levels[-1].wants_key:
            raise RefusedError("a key that is a mapping or a list", event.start_mark)
        if len(self._levels) == MAX_DEPTH:
            raise RefusedError(f"deeper than {MAX_DEPTH} levels", event.start_mark)
        value: Mapping | Sequence = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._levels.append(_Level(value, event.anchor, event.start_mark, self._count))
        self._count += 1

    def _close(self, event: yaml.CollectionEndEvent) -> Part | None:
        level = self._levels.pop()
        value = level.value
        if isinstance(value, dict):
            for merged in level.merged:
                for key, each in merged.items():
                    value.setdefault(key, each)
        self._name(level.anchor, value, self._count - level.count)
        if isinstance(value, dict) and self._holds_items():
            items = self._levels[-1].value
            part = self._part(value, f"$.items[{len(items)}]", level.mark, event.start_mark)
            self._put(None, level.mark)
            return part
        return self._put(value, level.mark)

    def _put(self, value: object, mark: Mark | None) -> Part | None:
        """Put a finished value where it belongs; return a part where it is the document."""
        if not self._levels:
            return self._part(value, "$", mark)
        level = self._levels[-1]
        if isinstance(level.value, list):
            level.value.append(value)
        elif level.key is None:
            if not isinstance(value, str):
                raise RefusedError("a key that is no text", mark)
            self._take_key(level, value)
        else:
            if level.is_merge:
                self._merge(level, value, mark)
            else:
                level.value[level.key] = value
            level.key, level.is_merge = None, False
        return None

    def _holds_items(self) -> bool:
        return len(self._levels) == 2 and self._levels[0].key == "items"  # noqa: PLR2004

    def _merge(self, level: _Level, value: object, mark: Mark | None) -> None:
        """Take the value of `<<`, a mapping or a list of them; the keys of `level` win."""
        values = value if is_sequence(value) else [value]
        merged = [each for each in values if is_mapping(each)]
        if len(merged) != len(values):
            raise RefusedError("<< takes a mapping or a list of mappings", mark)
        self._count_repeats(sum(map(len, merged)), mark)
        level.merged += merged

    def _name(self, anchor: str | None, value: object, count: int) -> None:
        if anchor:
            self._anchors[anchor] = value, count

    def _named(self, event: yaml.AliasEvent) -> object:
        """Return what an alias stands for; not copied, but counted as if it were."""
        if event.anchor not in self._anchors:
            why = f"*{event.anchor} stands for nothing before it, or for what it is in"
            raise RefusedError(why, event.start_mark)
        value, count = self._anchors[event.anchor]
        self._count_repeats(count, event.start_mark)
        self._count += count
        return value

    def _count_repeats(self, count: int, mark: Mark | None) -> None:
        self._repeats += count
        if self._repeats > MAX_REPEATED:
            raise RefusedError(f"aliases for more than {MAX_REPEATED} values", mark)

    def _part(self, value: object, path: str, begin: Mark | None, end: Mark | None = None) -> Part:
        text = self._text[begin.index if begin else 0 : end.index if end else None]
        column = begin.column if begin else 0
        repeated, self._repeated = self._repeated, []
        return Part(value, path, text, column, self._line_at(begin), repeated)

    def _path(self) -> str:
        """Return the path of what is being read."""
        steps = ["$"]
        for level in self._levels:
            if isinstance(level.value, list):
                steps.append(f"[{len(level.value)}]")
            elif level.key is not None:
                steps.append("." + level.key)
        return "".join(steps)

    def _line_at(self, mark: Mark | None) -> int:
        return self._offset + line_of(mark) + 1

    def _unreadable(self, why: str, mark: Mark | None) -> Unreadable:
        column = f" (column {mark.column + 1})" if mark else ""
        path = self._path()
        if len(path) > _PATH_TOLD:
            path = path[:_PATH_TOLD] + "..."
        return Unreadable(why + column, path, self._line_at(mark))

    def _not_yaml(self, error: yaml.YAMLError) -> Unreadable:
        if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
            at = getattr(error, "position", 0)  # a ReaderError's, in octets
            line = self._offset + self._text.encode().count(b"\n", 0, at) + 1
            return Unreadable("a character that YAML does not allow", "$", line)
        mark = error.problem_mark
        if self._text[mark.index : mark.index + 1] == "\t":
            return self._unreadable("a tab where only spaces may stand", mark)
        why = error.problem or str(error)
        if error.context and error.context_mark:
            why += f" {error.context} that begins on line {self._line_at(error.context_mark)}"
        return self._unreadable(why, mark)


def _resolve(event: yaml.ScalarEvent) -> object:
    """Return the value of a scalar as kubectl reads it (sigs.k8s.io/yaml).

    Dates are texts, and so is what carries a tag of its own.
    """
    text = event.value
    if event.tag not in _PLAIN_TAGS if event.tag else not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "+-.0123456789" and len(text) <= _MAX_NUMBER:
        return _number(text)
    return text


def _number(text: str) -> object:
    digits = text.replace("_", "")
    integer = _INTEGER.fullmatch(digits)
    if integer is not None:
        base = str(integer.lastgroup)
        return int(integer[1] + integer[base], _BASES[base])
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        return int(number) if number.is_integer() else number
    return text
