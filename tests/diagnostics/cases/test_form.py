import os
from pathlib import Path

import pytest

from mcsdns.diagnostics.cases.form import Pattern, Question, Row, find_files, load, parse
from mcsdns.dns.message_reader import QuestionEntry
from mcsdns.dns.name import wire_from_text
from mcsdns.dns.request import Transport
from mcsdns.dns.types import Rcode
from mcsdns.errors import CasesError

ASK = "web.shop.svc.clusterset.local. A"


def one(text: str) -> Row:
    (row,) = parse(f"cases:\n- ask: {ASK}\n" + text, "x.yaml").rows
    return row


def test_what_is_left_out_has_the_documented_meaning() -> None:
    row = one("")
    assert (row.file, row.line, row.ask.text) == ("x.yaml", 2, ASK)
    assert row.rcode == Rcode.NOERROR
    assert row.answer == ()
    assert (row.flags, row.authority, row.additional, row.edns, row.ede) == (None,) * 5
    assert row.transports == (Transport.UDP, Transport.TCP)
    request = row.request
    assert (request.edns, request.size, request.rd, request.cd, request.do) == (
        *(True, 1232, True),
        *(False, False),
    )


def test_how_it_is_asked_is_read() -> None:
    row = one(
        "  transport: udp\n"
        "  with: {edns: true, size: 512, do: true, version: 1, rd: false, cd: true, ad: true,"
        " options: [{code: 10, hex: '0011'}, {code: 3}]}\n"
    )
    assert row.transports == (Transport.UDP,)
    assert row.request.encode(0x0102).hex(" ", 2).startswith("0102 0030 0001")
    assert row.request.options == b"\0\x0a\0\2\0\x11\0\3\0\0"
    assert row.request.version == 1


def test_empty_sections_are_compared_and_missing_ones_are_not() -> None:
    assert one("  authority: []\n").authority == ()
    assert one("  authority:\n").authority is None


def test_lines_and_folded_texts() -> None:
    rows = parse(
        f"cases:\n\n- why: >-\n    one\n    two\n  ask: {ASK}\n- ask: {ASK}\n", "x.yaml"
    ).rows
    assert [(row.line, row.why) for row in rows] == [(3, "one two"), (7, "")]


def test_question_may_have_a_class() -> None:
    name = wire_from_text("a.b.")
    assert Question("a.b. CH TXT").entry == QuestionEntry(name, 16, 3)
    assert Question("a.b CLASS255 ANY").entry == QuestionEntry(name, 255, 255)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x. 5 IN A 10.0.0.1", (5, 1, 1, ("10.0.0.1",))),
        ("x. IN A 10.0.0.1", (None, 1, 1, ("10.0.0.1",))),
        ("x. A 10.0.0.1", (None, None, 1, ("10.0.0.1",))),
        ("x. 5 A *", (5, None, 1, (None,))),
        ("x. * IN A 10.0.0.1", (None, 1, 1, ("10.0.0.1",))),
        ("x. * A 10.0.0.1", (None, None, 1, ("10.0.0.1",))),
        ("x. 5 * A 10.0.0.1", (5, None, 1, ("10.0.0.1",))),
        ("x. 5 IN * 10.0.0.1", (5, 1, None, ("10.0.0.1",))),
        ("x. 5 CH TXT one 'two'", (5, 3, 16, ('"one"', "\"'two'\""))),
        ('x. TXT "one two"', (None, None, 16, ('"one two"',))),
        ("x. 5 IN AAAA FD00:0::1", (5, 1, 28, ("fd00::1",))),
        ("x. 5 IN SRV 0 100 * web", (5, 1, 33, ("0", "100", None, "web."))),
        ("x. 5 IN TYPE65280 \\# 1 AB", (5, 1, 65280, ("\\#", "1", "AB"))),
    ],
)
def test_record_is_read(text: str, expected: tuple[object, ...]) -> None:
    pattern = Pattern(text)
    assert (pattern.ttl, pattern.rclass, pattern.rtype, pattern.data) == expected
    assert pattern.owner == b"\x01x\0"


def test_owner_has_no_case_and_may_be_anything() -> None:
    assert Pattern(r"W\069B. A 10.0.0.1").owner == b"\x03web\0"
    assert Pattern("* A 10.0.0.1").owner is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "cases:\n- anwser: []\n  ask: x. A\n",
            "x.yaml:2: $.cases[0].anwser: no such key; did you mean `answer`?",
        ),
        ("case: []\n", "x.yaml:1: $.case: no such key; did you mean `cases`?"),
        ("manifests: []\n", "x.yaml:1: $: Object missing required field `cases`"),
        ("cases:\n- why: x\n", "x.yaml:2: $.cases[0]: Object missing required field `ask`"),
        ("- x\n", "x.yaml:1: $: Expected `object`, got `array`"),
        ("", "x.yaml:1: $: Expected `object`, got `null`"),
        (
            "cases:\n- ask: x. A\n  with: {sise: 3}\n",
            "x.yaml:3: $.cases[0].with.sise: no such key; did you mean `size`?",
        ),
        (
            "cases:\n- ask: x. A\n  with:\n    options:\n    - code: 1\n    - {code: 1, hex: z}\n",
            "x.yaml:6: $.cases[0].with.options[1].hex: non-hexadecimal",
        ),
        (
            "cases:\n- ask: x. A\n  with: {options: [{cod: 3}]}\n",
            "x.yaml:3: $.cases[0].with.options[0].cod: no such key; did you mean `code`?",
        ),
        (
            "cases:\n- ask: x. A\n  edns: {option: []}\n",
            "$.cases[0].edns.option: no such key; did you mean `options`?",
        ),
        ("cases:\n- ask: x. A\n  ede: {kode: 18}\n", "did you mean `code`?"),
        ("cases:\n- ask: x. A\n  edns: nothing\n", "x.yaml:3: $.cases[0].edns: Invalid enum value"),
        (
            "cases:\n- ask: x. A\n  rcode: NXDOMIAN\n",
            "x.yaml:3: $.cases[0].rcode: 'NXDOMIAN' is no rcode; write one of NOERROR,",
        ),
        ("cases:\n- ask: x. A\n  flags: [qr, xx]\n", "x.yaml:3: $.cases[0].flags[1]: Invalid enum"),
        (
            "cases:\n- ask: x. A\n  answer:\n  - x. A 10.0.0.1\n  - x. 5 IN A 10.0.0\n",
            "x.yaml:5: $.cases[0].answer[1]: ",
        ),
        ("cases:\n- ask: x. A\n  answer: [x. A]\n", "is not OWNER [TTL] [CLASS] TYPE RDATA"),
        ("cases:\n- ask: x. A\n  answer: ['']\n", "is not OWNER [TTL] [CLASS] TYPE RDATA"),
        (
            "cases:\n- ask: x. A\n  answer: [x. 5 IN SRV 0 100 80]\n",
            "$.cases[0].answer[0]: SRV has 4 fields of data, not 3: 0 100 80",
        ),
        ("cases:\n- ask: x. A\n  answer: [x..y. A 10.0.0.1]\n", "a label has 0 octets"),
        ("cases:\n- ask: x. FOO\n", "x.yaml:2: $.cases[0].ask: 'FOO' is no record type"),
        ("cases:\n- ask: x. XX A\n", "$.cases[0].ask: 'XX' is no class"),
        ("cases:\n- ask: x.\n", "$.cases[0].ask: 'x.' is not NAME TYPE or NAME CLASS TYPE"),
        ("cases:\n- ask: x. A\n  transport: dot\n", "x.yaml:3: $.cases[0].transport: Invalid enum"),
        (
            "cases:\n- ask: x. A\n  answer: []\n  answer: []\n",
            "x.yaml:4: $.cases[0].answer: the key stands there twice",
        ),
        ("cases:\n- ask: [\n", "x.yaml:3: not YAML: "),
        ("a: &a [*a]\n", "x.yaml:1"),
        ("cases: []\n---\ncases: []\n", "x.yaml:3: a case file is one document"),
        ("[" * 100_000 + "]" * 100_000, "x.yaml:1: not YAML: deeper than 500 levels"),
    ],
)
def test_mistake_is_told_with_its_place(text: str, error: str) -> None:
    with pytest.raises(CasesError) as caught:
        parse(text, "x.yaml")
    assert error in str(caught.value)
    assert str(caught.value).startswith("x.yaml:")


def test_manifests_are_seen_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("manifests: [m/a.yaml]\n\nsettings: {ttl: 30}\ncases: []\n")
    rows = load(str(file))
    assert rows.manifests == [str(tmp_path / "m" / "a.yaml")]
    assert rows.settings == {"ttl": 30}
    assert rows.settings_at == f"{file}:3: $.settings"


def test_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match=r"none\.yaml: No such file or directory; name a YAML"):
        load(str(tmp_path / "none.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"cases: \xff")
    with pytest.raises(CasesError, match="not UTF-8 text"):
        load(str(tmp_path / "latin.yaml"))


def test_folder_gives_the_files_right_inside(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "README.md", "manifests/m.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    single = str(tmp_path / "README.md")
    found = find_files([str(tmp_path), single])
    assert [os.path.basename(path) for path in found] == ["a.yml", "b.yaml", "README.md"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CasesError, match=r"no \.yaml file in this folder; name a file of cases"):
        find_files([str(tmp_path / "empty")])
