"""`mcsdns explain` as it is called, and the page about it."""

import json
import os
import re

import pytest

from mcsdns.app import log
from mcsdns.cli import main
from tests.paths import ROOT

PAGE = os.path.join(ROOT, "docs", "explain.md")
SOURCE = ["--manifests", "examples/manifests"]
NAME = "rebel-base.default.svc.clusterset.local"


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(log, "configure", lambda *_: None)


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["explain", *arguments])
    return stopped.value.code


def test_type_is_a_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(NAME, *SOURCE) == 0
    assert capsys.readouterr().out.startswith("NOERROR: 1 A record from spec.ips")


def test_name_that_fails_is_explained_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nosuch.default.svc.clusterset.local", "AAAA", *SOURCE) == 0
    assert capsys.readouterr().out.startswith("NXDOMAIN: ")


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(NAME, "SRV", "--json", *SOURCE) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == [
        *("question", "verdict", "suggestions", "zone", "shape", "service_import", "clusters"),
        *("slices", "problems", "records", "long_names", "reply", "sizes", "size_note"),
    ]
    assert document["question"] == {"name": NAME + ".", "type": "SRV"}
    assert document["verdict"]["reason"] == "records"


def test_settings_of_the_zone_count(capsys: pytest.CaptureFixture[str]) -> None:
    name = "cluster2.rebel-base.default.svc.mcs.example"
    assert run(name, "--zone", "mcs.example", "--per-cluster", "nodata", *SOURCE) == 0
    assert capsys.readouterr().out.startswith("NODATA: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["a..b", *SOURCE],
            "mcsdns: 'a..b': a label has 0 octets; 1 to 63 are allowed; write NAME TYPE\n",
        ),
        ([NAME, "NOPE", *SOURCE], "mcsdns: 'NOPE' is no record type"),
        ([NAME], "mcsdns: no source of objects: give --manifests PATH, or --kubeconfig FILE\n"),
        ([NAME, "--manifests", "nowhere"], "mcsdns: nowhere: "),
        ([], "mcsdns: the following arguments are required: NAME"),
        ([NAME, "A", "B", *SOURCE], "mcsdns: unrecognized arguments: B"),
    ],
)
def test_usage_error_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


def examples() -> list[tuple[str, str]]:
    """Return the commands of the page with the output that stands below each."""
    with open(PAGE, encoding="utf-8") as file:
        blocks = re.findall(
            r"^```console\n\$ mcsdns explain (.*)\n((?:.*\n)*?)```$", file.read(), re.M
        )
    return [(command, output) for command, output in blocks]


def test_page_has_examples() -> None:
    assert len(examples()) >= 5


@pytest.mark.parametrize(("command", "output"), examples())
def test_example_of_the_page_is_what_is_printed(
    capsys: pytest.CaptureFixture[str], command: str, output: str
) -> None:
    assert run(*command.split()) == 0
    printed = re.sub(r"(hostmaster\S+) \d+", r"\1 1780304400", capsys.readouterr().out)
    wanted, *rest = output.split("...\n")
    assert printed == wanted if not rest else printed.startswith(wanted)
