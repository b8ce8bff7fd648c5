"""Text of YAML or JSON -> plain values, each with its place. Nothing of Kubernetes is known here.

A text holds documents, and one that breaks costs only itself: `---` at the beginning of a line
ends a document whatever it stands in (YAML 1.2.2, 9.1.2), so the text is divided there before
anything is parsed. What begins with a bracket is read as JSON, by Python's decoder, and as YAML
where it is no JSON from its start: libyaml's events take six times as long.

The `items` of a mapping come one by one, each as a document with a path of its own, and leave None
in their place. So a dump of a whole cluster, one document of 60 MB, never is in memory as values.
For the same reason libyaml is asked for events and never for nodes, which take a kilobyte for each
scalar; also, composing them recurses in C, and 30,000 brackets end the interpreter. What is built
of events is bounded in depth and in what its aliases stand for.

No lines are stored while reading: `Document.lines_of` reads its text once more, since hardly any
document has anything wrong in it.
"""

import json
import re
import typing
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from typing import Final, TypeGuard

import msgspec
import yaml

Mapping = dict[str, object]
Sequence = list[object]

MAX_DEPTH: Final = 500
MAX_REPEATED: Final = 1_000_000
"""How many values the aliases and merge keys of one document may stand for, all together."""
_MAX_NUMBER: Final = 40
"""Characters; what is longer stays a string."""
_MOST_REPEATED_KEYS: Final = 20
_MAX_PATH: Final = 100

_DOCUMENT_START = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_NO_CONTENT = re.compile(r"(?:[ \t]*(?:#.*)?\r?\n|%.*\n)*[ \t]*\Z")
"""Blank lines, comments and directives."""
_LIKE_JSON = re.compile(r"[{\[\s]*\"")
_GAP = re.compile(r"[ \t\r\n]*")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
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


class Document(msgspec.Struct, gc=False):
    """One document, or one of its `items`.

    Attributes:
        value: mappings have strings as keys; among `items`, those that came before are None.
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
        """Return the lines of the file on which paths stand, all of them at or below `self.path`.

        A path that does not exist has the line of the closest thing around it.
        """
        around = {path: list(_around("$" + path.removeprefix(self.path))) for path in paths}
        if not around:
            return {}
        reader = _YamlReader(" " * self.column + self.text, self.line - 1)
        reader.wanted = {step for steps in around.values() for step in steps}
        for each in reader.read():
            if each.path == "$":
                break  # others may follow; not all JSON is YAML, what was found so far counts
        found = {"$": self.line} | reader.lines
        return {
            path: next(found[step] for step in steps if step in found)
            for path, steps in around.items()
        }


class Unreadable(msgspec.Struct, gc=False):
    """What is neither YAML nor JSON, or refused: a document, or what follows its last item."""

    why: str
    path: str
    line: int


class _RefusedError(Exception):
    """A value that could be parsed, but that is not read; `event` is where, if known."""

    def __init__(self, why: str, event: yaml.Event | None = None) -> None:
        super().__init__(why)
        self.event = event


def is_mapping(value: object) -> TypeGuard[Mapping]:
    """Return whether a value is a mapping; its keys are strings then."""
    return isinstance(value, dict)


def is_sequence(value: object) -> TypeGuard[Sequence]:
    """Return whether a value is a list."""
    return isinstance(value, list)


def decode(octets: bytes) -> str:
    """Decode UTF-8, or UTF-16 where its byte order mark stands first; `read` refuses the rest."""
    if octets[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return octets.decode("utf-16", "replace")
    text = octets.decode("utf-8-sig", "surrogateescape")
    return text.replace("\n\ufeff", "\n")  # files with byte order marks, joined by `cat`


def read(text: str) -> Iterator[Document | Unreadable]:
    """Read a text of one or many documents, divided by `---` or, in JSON, by nothing at all."""
    start = line = 0
    for match in _DOCUMENT_START.finditer(text):
        yield from _read_section(text[start : match.start()], line)
        line += text.count("\n", start, match.end())
        start = match.end()
    yield from _read_section(text[start:], line)


def _read_section(text: str, offset: int) -> Iterator[Document | Unreadable]:
    """Read what stands between two `---`, with `offset` lines before it."""
    if _NO_CONTENT.match(text):
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = offset + 1 + text.count("\n", 0, error.start)
        yield Unreadable("an octet that is not UTF-8", "$", line)
        return
    as_json = None
    if text.lstrip()[:1] in {"{", "["}:
        documents = _JsonReader(text, offset).read()
        as_json = next(documents)
        if isinstance(as_json, Document):
            yield as_json
            yield from documents
            return
    for document in _YamlReader(text, offset).read():
        is_broken_json = isinstance(document, Unreadable) and _LIKE_JSON.match(text)
        yield as_json if as_json and is_broken_json else document


class _YamlReader:
    """Builds the values of one text from the events of libyaml.

    Attributes:
        wanted: paths whose lines of the file are to be found while reading.
        lines: those that were found; a key's line is that of its value.
    """

    def __init__(self, text: str, offset: int) -> None:
        """Take a text and the number of lines before it in its file."""
        self.wanted: set[str] = set()
        self.lines: dict[str, int] = {}
        self._text = text
        self._offset = offset
        self._parser = yaml.CBaseLoader(text)
        self._path: list[str | int] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._count = self._aliased = 0
        self._repeated: list[str] = []
        self._end: yaml.Event | None = None  # of the mapping that was read last

    def read(self) -> Iterator[Document | Unreadable]:
        """Iterate over the documents; what cannot be read ends them."""
        try:
            while event := self._next():
                if isinstance(event, yaml.DocumentStartEvent):
                    self._anchors, self._aliased = {}, 0
                elif isinstance(event, yaml.NodeEvent):
                    value = yield from self._value(event)
                    yield self._document(value, "$", event)
        except _RefusedError as error:
            yield self._unreadable(str(error), _mark(error.event) if error.event else None)
        except yaml.YAMLError as error:
            yield self._not_yaml(error)

    def _next(self) -> yaml.Event | None:
        return self._parser.get_event()

    def _value(self, event: yaml.Event | None) -> Generator[Document, None, object]:
        """Return the value that begins with an event; yield the mappings of `items` on the way.

        `_path` leads to the value that is being read, so its length is the depth. An anchor is
        known once its value is complete: a value cannot stand for what it is in. Values are not
        copied for aliases, but counted as if they were: ten rows of nine aliases each for the row
        before would be three thousand million values, to whoever walks them.
        """
        assert isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.AliasEvent):
            return self._value_of_alias(event)
        before = self._count
        self._count += 1
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = _resolve(event)
        elif len(self._path) == MAX_DEPTH:
            raise _RefusedError(f"deeper than {MAX_DEPTH} levels", event)
        elif isinstance(event, yaml.SequenceStartEvent):
            items: Sequence = []
            value = items
            is_of_documents = self._path == ["items"]
            self._path.append(0)
            while not isinstance(inner := self._next(), yaml.SequenceEndEvent):
                self._found(inner)
                each = yield from self._value(inner)
                if is_of_documents and isinstance(inner, yaml.MappingStartEvent):
                    path = f"$.items[{len(items)}]"
                    yield self._document(each, path, inner, self._end)
                    each = None
                items.append(each)
                self._path[-1] = len(items)
            self._path.pop()
        else:
            mapping: Mapping = {}
            value = mapping
            merged: list[Mapping] = []
            while not isinstance(inner := self._next(), yaml.MappingEndEvent):
                key, is_merge = self._key(inner)
                self._path.append(key)
                self._found(inner)
                if key in mapping and len(self._repeated) < _MOST_REPEATED_KEYS:
                    self._repeated.append(self._path_text())
                inner = self._next()
                each = yield from self._value(inner)
                if is_merge:
                    merged += self._to_merge(each, inner)
                else:
                    mapping[key] = each
                self._path.pop()
            self._end = inner
            for other in merged:
                for key, each in other.items():
                    mapping.setdefault(key, each)
        if event.anchor:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _key(self, event: yaml.Event | None) -> tuple[str, bool]:
        """Return a key as a string, and whether it is the one that merges mappings."""
        if isinstance(event, yaml.CollectionStartEvent):
            raise _RefusedError("a key that is a mapping or a list", event)
        if isinstance(event, yaml.AliasEvent):
            key = self._value_of_alias(event)
            if not isinstance(key, str):
                raise _RefusedError("a key that is no text", event)
            return key, False
        assert isinstance(event, yaml.ScalarEvent)
        self._count += 1
        if event.anchor:
            self._anchors[event.anchor] = event.value, 1
        return event.value, event.value == "<<" and event.implicit[0]

    def _value_of_alias(self, event: yaml.AliasEvent) -> object:
        if self.wanted:
            return {}  # the anchor may stand before the text that is searched for lines
        if event.anchor not in self._anchors:
            why = f"*{event.anchor} stands for nothing before it, or for what it is in"
            raise _RefusedError(why, event)
        value, count = self._anchors[event.anchor]
        self._count_aliased(count, event)
        self._count += count
        return value

    def _to_merge(self, value: object, event: yaml.Event | None) -> list[Mapping]:
        """Return what `<<` brings, a mapping or a list of them; the keys beside it win."""
        values = value if is_sequence(value) else [value]
        mappings = [each for each in values if is_mapping(each)]
        if len(mappings) != len(values):
            raise _RefusedError("<< takes a mapping or a list of mappings", event)
        self._count_aliased(sum(map(len, mappings)), event)
        return mappings

    def _count_aliased(self, count: int, event: yaml.Event | None) -> None:
        self._aliased += count
        if self._aliased > MAX_REPEATED:
            raise _RefusedError(f"aliases for more than {MAX_REPEATED} values", event)

    def _document(
        self, value: object, path: str, begin: yaml.Event, end: yaml.Event | None = None
    ) -> Document:
        mark = _mark(begin)
        text = self._text[mark.index : _mark(end).index if end else None]
        repeated, self._repeated = self._repeated, []
        return Document(value, path, text, mark.column, self._line(mark), repeated)

    def _found(self, event: yaml.Event | None) -> None:
        """Note the line of what `_path` leads to, if it is wanted."""
        if self.wanted and event and (path := self._path_text()) in self.wanted:
            self.lines[path] = self._line(_mark(event))

    def _line(self, mark: yaml.Mark) -> int:
        return self._offset + mark.line + 1

    def _path_text(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self._path)
        return "$" + "".join(steps)

    def _unreadable(self, why: str, mark: yaml.Mark | None) -> Unreadable:
        line, column = (self._line(mark), f" (column {mark.column + 1})") if mark else (1, "")
        path = self._path_text()
        if len(path) > _MAX_PATH:
            path = path[:_MAX_PATH] + "..."
        return Unreadable(why + column, path, line)

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
            why += f" {error.context} that begins on line {self._line(error.context_mark)}"
        return self._unreadable(why, mark)


def _around(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]


def _mark(event: yaml.Event) -> yaml.Mark:
    """Return where an event begins: libyaml always says it."""
    return typing.cast("yaml.Mark", event.start_mark)


def _resolve(event: yaml.ScalarEvent) -> object:
    """Return the value of a scalar as kubectl reads it (sigs.k8s.io/yaml).

    Dates are strings, and so is what carries a tag of its own.
    """
    text = event.value
    if event.tag not in _PLAIN_TAGS if event.tag else not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789" or len(text) > _MAX_NUMBER:
        return text
    digits = text.replace("_", "")
    integer = _INTEGER.fullmatch(digits)
    if integer is not None:
        base = str(integer.lastgroup)
        return int(integer[1] + integer[base], _BASES[base])
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        return int(number) if number.is_integer() else number
    return text


class _JsonReader:
    """Reads the values of one text, any number of documents one behind the other.

    Python's own decoder reads whole values and tells no places. So the members of a document and
    of its `items` are stepped through here, and it is given one value at a time.
    """

    def __init__(self, text: str, offset: int) -> None:
        """Take a text and the number of lines before it in its file."""
        self._text = text
        self._at = 0
        self._counted = 0, offset + 1
        self._repeated: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._mapping)

    def read(self) -> Iterator[Document | Unreadable]:
        """Iterate over the documents; what cannot be read ends them."""
        try:
            while self._character():
                yield from self._document()
        except json.JSONDecodeError as error:
            why = f"{error.msg} (column {error.colno})"
            yield Unreadable(why, "$", self._line_at(error.pos))
        except (ValueError, RecursionError, _RefusedError) as error:
            why = "nested too deep" if isinstance(error, RecursionError) else str(error)
            yield Unreadable(why, "$", self._line_at(self._at))

    def _document(self) -> Iterator[Document]:
        begin, line = self._at, self._line_at(self._at)
        if self._character() != "{":
            yield self._located("$", begin, line, self._value())
            return
        pairs: list[tuple[str, object]] = []
        for _ in self._members("}"):
            self._expect('"', "a key in double quotes")
            key = str(self._value())
            self._expect(":")
            self._at += 1
            if key != "items" or self._character() != "[":
                pairs.append((key, self._value()))
                continue
            items: Sequence = []
            pairs.append((key, items))
            for _ in self._members("]"):
                self._character()
                item_begin, item_line = self._at, self._line_at(self._at)
                item = self._value()
                if is_mapping(item):
                    yield self._located(f"$.items[{len(items)}]", item_begin, item_line, item)
                    item = None
                items.append(item)
        yield self._located("$", begin, line, self._mapping(pairs))

    def _members(self, end: str) -> Iterator[None]:
        """Step to each member of the mapping or list that begins here, and at last behind it."""
        self._at += 1
        is_first = True
        while self._character() != end:
            if not is_first:
                self._expect(",")
                self._at += 1
            is_first = False
            yield
        self._at += 1

    def _character(self) -> str:
        """Go to the next character that is no white space and return it; empty at the end."""
        gap = _GAP.match(self._text, self._at)
        assert gap is not None
        self._at = gap.end()
        return self._text[self._at : self._at + 1]

    def _expect(self, character: str, what: str = "") -> None:
        if self._character() != character:
            why = f"Expecting {what or repr(character)}"
            raise json.JSONDecodeError(why, self._text, self._at)

    def _value(self) -> object:
        self._character()
        value: object
        value, end = self._decoder.raw_decode(self._text, self._at)
        if _HALF_PAIR.search(self._text, self._at, end):
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise _RefusedError("half of a surrogate pair in a text") from None
        self._at = end
        return value

    def _mapping(self, pairs: list[tuple[str, object]]) -> Mapping:
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            self._repeated += (
                Counter(key for key, _ in pairs) - Counter(mapping.keys())
            ).elements()
        return mapping

    def _line_at(self, at: int) -> int:
        """Return the line of the file; cheap where `at` grows."""
        counted, line = self._counted
        line += self._text.count("\n", counted, at)
        self._counted = max(at, counted), line
        return line

    def _located(self, path: str, begin: int, line: int, value: object) -> Document:
        repeated, self._repeated = [f"{path}..{key}" for key in self._repeated], []
        return Document(value, path, self._text[begin : self._at], 0, line, repeated)
