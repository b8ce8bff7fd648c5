"""Text to plain values: what YAML and JSON mean, where each value stands, and what is refused."""

import itertools
import math

import pytest

from mcsdns import yaml_text
from mcsdns.yaml_text import MAX_DEPTH, Document, Unreadable


def read(text: str | bytes) -> list[tuple[str, int, object]]:
    """Path, line and value of every document; what is unreadable has its reason as value."""
    octets = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return [
        (each.path, each.line, each.value if isinstance(each, Document) else each.why)
        for each in yaml_text.read(yaml_text.decode(octets))
    ]


def values(text: str | bytes) -> list[object]:
    return [value for _, _, value in read(text)]


def only_document(text: str) -> Document:
    (document,) = yaml_text.read(text)
    assert isinstance(document, Document)
    return document


SCALARS = [
    # as sigs.k8s.io/yaml reads them, which kubectl uses
    ("", None),
    ("~", None),
    ("null", None),
    ("true", True),
    ("yes", True),
    ("y", True),
    ("Off", False),
    ("no", False),
    ('"no"', "no"),
    ("'5'", "5"),
    ("5", 5),
    ("+5", 5),
    ("-5", -5),
    ("010", 8),
    ("08", 8),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b11", 3),
    ("1_000", 1000),
    ("8.0", 8),
    ("1e3", 1000),
    ("1.5", 1.5),
    (".5", 0.5),
    (".inf", math.inf),
    ("-.inf", -math.inf),
    ("9" * 30, int("9" * 30)),
    ("9" * 5000, "9" * 5000),
    ("10.0.0.1", "10.0.0.1"),
    ("1:30:45", "1:30:45"),
    ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    ("2026-01-02", "2026-01-02"),
    ("!!str 5", "5"),
    ('!!int "5"', 5),
    ("!!timestamp 2026-01-02", "2026-01-02"),
    ("!!binary aGk=", "aGk="),
    ("!!int abc", "abc"),
    ("!Ref x", "x"),
    ("=", "="),
    ("-", [None]),
    ("😀", "😀"),
    ('"\\U0001F600"', "😀"),
    ("|\n  ---\n  b", "---\nb"),
    (">\n  a\n  b", "a b"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS, ids=[text[:20] for text, _ in SCALARS])
def test_scalar_is_read_as_kubectl_reads_it(text: str, value: object) -> None:
    assert values(f"- {text}") == [[value]]


def test_not_a_number_is_a_float() -> None:
    ((number,),) = values("[.nan]")  # type: ignore[misc]
    assert math.isnan(number)


COLLECTIONS = [
    ("a: a\nb: [1, {c: d}]\n", {"a": "a", "b": [1, {"c": "d"}]}),
    ("1: a\ntrue: b\n~: c\n", {"1": "a", "true": "b", "~": "c"}),
    ("a: &x [1]\nb: *x\n", {"a": [1], "b": [1]}),
    ("&k a: 1\nb: *k\n", {"a": 1, "b": "a"}),
    ("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
    ("q: 3\n<<: [{q: 1, r: 1}, {q: 2, r: 2, s: 2}]\n", {"q": 3, "r": 1, "s": 2}),
    ('"<<": {a: 1}\n', {"<<": {"a": 1}}),
    ("!!set {a, b}\n", {"a": None, "b": None}),
    ("!!python/object/apply:os.system [echo]\n", ["echo"]),
]


@pytest.mark.parametrize(("text", "value"), COLLECTIONS)
def test_collections_are_read(text: str, value: object) -> None:
    assert values(text) == [value]


DOCUMENTS = [
    ("", []),
    ("\n \n", []),
    ("# nothing\n---\n---\n# here\n", []),
    ("a: 1\n---\nb: 2\n--- # comment\nc: 3\n--- {d: 4}\n", [1, 3, 5, 6]),
    ("a: 1\r\n---\r\nb: 2\r\n", [1, 3]),
    ("\ufeffa: 1\n---\n\ufeffb: 2\n", [1, 3]),
    ("%YAML 1.1\n---\na: 1\n", [3]),
    ("%YAML 9.9\n# comment\n\n%TAG ! tag:x,2000:\n---\n!foo a: 1\n", [6]),
    ("a: |\n  ---\n  text\n---\nb: 2\n", [1, 5]),
    ("a: 1\n...\n---\nb: 2\n", [1, 4]),
    ("\n\n  a: 1\n", [3]),
    ('{"a":\t1}\n{"b": 2} {"c":\n3}\n\n{"d": 4}', [1, 2, 2, 5]),
    ('{"a": 1}\n---\n{"b": 2}\n', [1, 3]),
]


@pytest.mark.parametrize(("text", "lines"), DOCUMENTS)
def test_documents_are_told_by_their_first_line(text: str, lines: list[int]) -> None:
    assert [(path, line) for path, line, _ in read(text)] == [("$", line) for line in lines]


def test_utf_16_is_read_where_its_mark_stands_first() -> None:
    assert values("a: ü\n".encode("utf-16")) == [{"a": "ü"}]


ITEMS = [
    "kind: List\nitems:\n- a: 1\n- 5\n-\n  b: 2\n- [c]\n",
    '{"kind": "List",\n"items": [\n{"a": 1},\n5,\n\n{"b": 2}, ["c"]]}',
]


@pytest.mark.parametrize("text", ITEMS)
def test_items_come_one_by_one_before_their_list(text: str) -> None:
    assert read(text) == [
        ("$.items[0]", 3, {"a": 1}),
        ("$.items[2]", 6, {"b": 2}),
        ("$", 1, {"kind": "List", "items": [None, 5, None, ["c"]]}),
    ]


def test_item_that_is_named_can_be_used_again() -> None:
    assert values("items:\n- &x {a: 1}\n- *x\n") == [{"a": 1}, {"items": [None, {"a": 1}]}]


UNREADABLE = [
    # text, lines that are unreadable, part of the reason
    ("a: b: c\n", [1], "mapping values are not allowed"),
    ("a: 1\n---\nb: [\n---\nc: 3\n", [4], "did not find expected node content"),
    ("a: 1\n...\nb: 2\n", [3], "did not find expected <document start>"),
    ("a:\n\tb: 1\n", [2], "a tab where only spaces may stand (column 1)"),
    ("a: 1\nb: \0\n", [2], "a character that YAML does not allow"),
    ("a: 1\n---\n# ü\nb: \x07\n", [4], "a character that YAML does not allow"),
    ("a: 1\n---\nb: 1\nc: \udce9\n---\nd: 1\n", [4], "an octet that is not UTF-8"),
    ('{"a": 1,\n "b": "\udce9"}', [2], "an octet that is not UTF-8"),
    ("{[a]: b}\n", [1], "a key that is a mapping or a list"),
    ("? {a: b}\n: c\n", [1], "a key that is a mapping or a list"),
    ("a: &x [1]\n*x : 1\n", [2], "a key that is no text"),
    ("&a [*a]\n", [1], "*a stands for nothing before it, or for what it is in"),
    ("&a {b: *a}\n", [1], "*a stands for nothing"),
    ("a: *b\n", [1], "*b stands for nothing"),
    ("a: &x 1\n---\nb: *x\n", [3], "*x stands for nothing"),
    ("<<: 5\n", [1], "<< takes a mapping"),
    ("a:\n  b: 1\n c: 2\n", [3], "while parsing a block mapping that begins on line 1"),
    ("- [" + "[" * 100_000, [1], f"deeper than {MAX_DEPTH} levels"),
    ("[" * 100_000, [1], f"deeper than {MAX_DEPTH} levels"),
    ('[["' + "[" * 100_000, [1], "Unterminated string"),
    ("{a: " * 100_000, [1], f"deeper than {MAX_DEPTH} levels"),
    ("- " * 100_000 + "x", [1], f"deeper than {MAX_DEPTH} levels"),
    ('{"a":' * 100_000, [1], "nested too deep"),
    ("".join(" " * depth + "a:\n" for depth in range(1000)), [501], "deeper than"),
    ('{"a": 1}\n{"b": \n!}', [3], "Expecting value (column 1)"),
    ('{"a": 1}\n{"b" 1}', [2], "Expecting ':'"),
    ('{"a": 1}\n{1: 1}', [2], "Expecting a key in double quotes"),
    ('{"a": 1}\n{"b": "\\ud800"}', [2], "half of a surrogate pair"),
    ('{"a": 1}\n' + "[" * 100_000, [2], "nested too deep"),
    ('{"a": 1}\n{"b": ' + "9" * 5000 + "}", [2], "limit"),
    ("{a: 1,\n b: ]}\n", [2], "did not find expected node content"),
    ('{"a": 1,\n "b": 2,\n "c": "\n}\n', [3], "Invalid control character"),
]


@pytest.mark.parametrize(
    ("text", "lines", "why"), UNREADABLE, ids=[text[:20] for text, _, _ in UNREADABLE]
)
def test_what_is_unreadable_is_told_and_costs_only_its_document(
    text: str, lines: list[int], why: str
) -> None:
    parts = list(yaml_text.read(text))
    unreadable = [document for document in parts if isinstance(document, Unreadable)]
    assert [document.line for document in unreadable] == lines
    assert why in unreadable[0].why
    assert len(unreadable[0].path) < 200
    documents = text.count("\n---\n") + 1 + text.startswith('{"a": 1}\n') + ("\n..." in text)
    assert len(parts) == documents


def bomb(row: str, rows: int = 20) -> str:
    """Each row stands for nine of the row before."""
    names = [chr(ord("a") + number) for number in range(rows)]
    return "a: &a {x: 1}\n" + "".join(
        f"{name}: &{name} {row % ', '.join([f'*{before}'] * 9)}\n"
        for before, name in itertools.pairwise(names)
    )


@pytest.mark.parametrize("row", ["[%s]", "{<<: [%s]}", "{k: [%s]}"])
def test_aliases_cannot_multiply_a_text(row: str) -> None:
    (document,) = yaml_text.read(bomb(row))
    assert isinstance(document, Unreadable)
    assert "aliases for more than 1000000 values" in document.why


def test_long_lists_cannot_be_multiplied_by_aliases() -> None:
    long = "x, " * 100_000
    (document,) = yaml_text.read(f"a: &a [{long}]\nb: [{'*a, ' * 20}]\n")
    assert isinstance(document, Unreadable)


REPEATED = [
    ("a: 1\nb:\n- x: 1\n  x: 2\na: 3\n", ["$.b[0].x", "$.a"], {"a": 3, "b": [{"x": 2}]}),
    ('{"a": 1, "b": {"c": 1,\n"c": 2}, "a": 3}', ["$..c", "$..a"], {"a": 3, "b": {"c": 2}}),
    ("a: &x {p: 1}\n<<: *x\np: 2\n", [], {"a": {"p": 1}, "p": 2}),
]


@pytest.mark.parametrize(("text", "paths", "value"), REPEATED)
def test_key_that_stands_twice_is_told_and_the_last_counts(
    text: str, paths: list[str], value: object
) -> None:
    document = only_document(text)
    assert document.repeated == paths
    assert document.value == value


LINES = [
    ("a:\n  b:\n  - c: 1\n    d: 2\n", "$.a.b[0].d", 4),
    ("a:\n  b:\n  - c: 1\n    d: 2\n", "$.a.b[0].nothing", 3),
    ("a:\n  b:\n  - c: 1\n    d: 2\n", "$.a.b[7]", 2),
    ("a:\n  b:\n  - c: 1\n    d: 2\n", "$.e", 1),
    ("a:\n  k8s.io/x: 1\n  b.c/d[0]: 2\n", "$.a.b.c/d[0]", 3),
    ("a: 1\nb: &x\n- 1\nc: *x\n", "$.c[0]", 4),
    ("a: 1\na: 2\n", "$.a", 2),
    ('{"a":\n [1,\n  2]}', "$.a[1]", 3),
    ('{"a": "\\ud83d\\ude00",\n "b": 1}', "$.b", 1),  # no YAML from there on
]


@pytest.mark.parametrize(("text", "path", "line"), LINES)
def test_path_has_a_line_or_that_of_the_closest_thing(text: str, path: str, line: int) -> None:
    assert only_document(text).lines_of([path]) == {path: line}


@pytest.mark.parametrize(
    "text",
    [
        "x: 1\n---\nitems:\n- a: 0\n-   a: 1\n    b:\n    - 2\n    -\n      c: 3\n",
        '{"x": 1}\n\n{"items": [{"a": 0},\n  {"a": 1, "b":\n\n\n   [2,\n {"c": 3}]}]}',
    ],
)
def test_paths_inside_an_item_have_lines_of_the_file(text: str) -> None:
    document = next(document for document in yaml_text.read(text) if document.path == "$.items[1]")
    assert isinstance(document, Document)
    lines = document.lines_of(["$.items[1]", "$.items[1].a", "$.items[1].b[1].c"])
    assert lines["$.items[1].a"] == lines["$.items[1]"]
    assert lines["$.items[1].b[1].c"] == lines["$.items[1]"] + 4


def test_no_path_needs_no_reading() -> None:
    assert only_document("a: 1").lines_of([]) == {}
