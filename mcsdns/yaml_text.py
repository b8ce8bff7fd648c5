"""Text of YAML or JSON -> parts: divides documents, and lets one that breaks cost only itself."""

import re
from collections.abc import Iterator

from mcsdns.json_parts import JsonReader
from mcsdns.parts import Part, Unreadable
from mcsdns.yaml_parts import YamlReader

_DOCUMENT_START = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_NO_CONTENT = re.compile(r"(?:[ \t]*(?:#.*)?\r?\n|%.*\n)*[ \t]*\Z")
"""Blank lines, comments and directives."""

_LIKE_JSON = re.compile(r"[{\[\s]*\"")


def decode(octets: bytes) -> str:
    """Decode UTF-8, or UTF-16 where its mark stands first; `read` tells of what is neither."""
    if octets[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return octets.decode("utf-16", "replace")
    text = octets.decode("utf-8-sig", "surrogateescape")
    return text.replace("\n\ufeff", "\n")  # files with marks, joined by `cat`


def read(text: str) -> Iterator[Part | Unreadable]:
    """Read a text of one or many documents, divided by `---` or, in JSON, by nothing at all.

    `---` at the beginning of a line ends a document whatever it stands in (YAML 1.2.2, 9.1.2).
    """
    start = line = 0
    for match in _DOCUMENT_START.finditer(text):
        yield from _read_document(text[start : match.start()], line)
        line += text.count("\n", start, match.end())
        start = match.end()
    yield from _read_document(text[start:], line)


def _read_document(text: str, offset: int) -> Iterator[Part | Unreadable]:
    if _NO_CONTENT.match(text):
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = offset + 1 + text.count("\n", 0, error.start)
        yield Unreadable("an octet that is not UTF-8", "$", line)
        return
    if text.lstrip()[:1] in {"{", "["}:
        yield from _read_json_or_yaml(text, offset)
    else:
        yield from YamlReader(text, offset).read()


def _read_json_or_yaml(text: str, offset: int) -> Iterator[Part | Unreadable]:
    """Read JSON; where it is none from the start, read YAML, and say what is wrong as either."""
    parts = JsonReader(text, offset).read()
    first = next(parts)
    if isinstance(first, Part):
        yield first
        yield from parts
        return
    for part in YamlReader(text, offset).read():
        broken = isinstance(part, Unreadable)
        yield first if broken and _LIKE_JSON.match(text) else part
