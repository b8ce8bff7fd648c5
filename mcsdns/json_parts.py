"""JSON text -> parts: any number of documents one behind the other."""

import json
import re
from collections.abc import Generator, Iterator

from mcsdns.parts import Mapping, Part, RefusedError, Sequence, Unreadable, is_mapping

_GAP = re.compile(r"[ \t\r\n]*")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


class JsonReader:
    """Reads the values of one text; steps into `items` only, for the place of each."""

    def __init__(self, text: str, offset: int) -> None:
        """Take a text and the number of lines before it in its file."""
        self._text = text
        self._at = 0
        self._counted = 0, offset + 1
        self._repeated: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._mapping)

    def read(self) -> Iterator[Part | Unreadable]:
        """Iterate over the parts; what cannot be read ends them."""
        try:
            while self._skip_gap():
                yield from self._document()
        except json.JSONDecodeError as error:
            why = f"{error.msg} (column {error.colno})"
            yield Unreadable(why, "$", self._line_at(error.pos))
        except (ValueError, RecursionError, RefusedError) as error:
            why = "nested too deep" if isinstance(error, RecursionError) else str(error)
            yield Unreadable(why, "$", self._line_at(self._at))

    def _document(self) -> Iterator[Part]:
        begin, line = self._at, self._line_at(self._at)
        if self._text[begin] != "{":
            yield self._part("$", begin, line, self._value())
            return
        head: Mapping = {}
        self._at += 1
        while self._next_is_member("}", first=not head):
            key = self._key()
            if key in head:
                self._repeated.append(key)
            if key == "items" and self._skip_gap() == "[":
                head[key] = yield from self._items()
            else:
                head[key] = self._value()
        yield self._part("$", begin, line, head)

    def _items(self) -> Generator[Part, None, Sequence]:
        items: Sequence = []
        self._at += 1
        while self._next_is_member("]", first=not items):
            self._skip_gap()
            begin, line = self._at, self._line_at(self._at)
            value = self._value()
            if is_mapping(value):
                yield self._part(f"$.items[{len(items)}]", begin, line, value)
                value = None
            items.append(value)
        return items

    def _skip_gap(self) -> str:
        """Go to the next character that counts and return it; empty at the end."""
        gap = _GAP.match(self._text, self._at)
        assert gap is not None
        self._at = gap.end()
        return self._text[self._at : self._at + 1]

    def _next_is_member(self, end: str, *, first: bool) -> bool:
        if self._skip_gap() == end:
            self._at += 1
            return False
        if not first:
            self._expect(",")
        return True

    def _expect(self, character: str) -> None:
        if self._skip_gap() != character:
            raise json.JSONDecodeError(f"Expecting '{character}'", self._text, self._at)
        self._at += 1

    def _key(self) -> str:
        if self._skip_gap() != '"':
            why = "Expecting a key in double quotes"
            raise json.JSONDecodeError(why, self._text, self._at)
        key = str(self._value())
        self._expect(":")
        return key

    def _value(self) -> object:
        self._skip_gap()
        value: object
        value, end = self._decoder.raw_decode(self._text, self._at)
        if _HALF_PAIR.search(self._text, self._at, end):
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise RefusedError("half of a surrogate pair in a text") from None
        self._at = end
        return value

    def _line_at(self, at: int) -> int:
        """Return the line of the file; cheap where `at` grows."""
        counted, line = self._counted
        line += self._text.count("\n", counted, at)
        self._counted = max(at, counted), line
        return line

    def _part(self, path: str, begin: int, line: int, value: object) -> Part:
        repeated, self._repeated = [f"{path}..{key}" for key in self._repeated], []
        return Part(value, path, self._text[begin : self._at], 0, line, repeated)

    def _mapping(self, pairs: list[tuple[str, object]]) -> Mapping:
        mapping = dict(pairs)
        if len(mapping) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self._repeated.append(key)
                seen.add(key)
        return mapping
