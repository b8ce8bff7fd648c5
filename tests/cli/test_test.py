"""`mcsdns test` as a user calls it."""

from pathlib import Path

import pytest

from mcsdns.diagnostics.client import RemoteServer
from tests.cli.conftest import EXAMPLES, SERVICE, Run


def test_examples_pass_with_a_source(run: Run) -> None:
    result = run("test", "examples/cases.yaml", *EXAMPLES)
    assert result == (0, "18 passed, 0 failed\n", "")


def test_examples_pass_with_a_server(run: Run, server: RemoteServer) -> None:
    result = run("test", "examples/cases.yaml", "--server", str(server))
    assert result == (0, "18 passed, 0 failed\n", "")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Two files that bring their own manifests and settings; one of three cases is wrong."""
    (tmp_path / "manifests").mkdir()
    manifest = Path("examples/manifests/rebel-base/imported.yaml").read_text()
    (tmp_path / "manifests" / "imported.yaml").write_text(manifest)
    (tmp_path / "a.yaml").write_text(
        "manifests: [manifests/imported.yaml]\nsettings: {ttl: 30}\ncases:\n"
        f"- ask: {SERVICE}. A\n  answer: [{SERVICE}. 30 IN A 10.96.120.7]\n"
        f"- ask: {SERVICE}. A\n  why: another address\n  transport: udp\n"
        f"  answer: [{SERVICE}. 30 IN A 10.96.120.8]\n"
    )
    (tmp_path / "b.yaml").write_text(
        "manifests: [manifests]\ncases:\n"
        f"- ask: {SERVICE}. A\n  answer: [{SERVICE}. 5 IN A 10.96.120.7]\n"
    )
    return tmp_path


def test_folder_of_cases_with_manifests_of_their_own(run: Run, cases: Path) -> None:
    status, out, err = run("test", str(cases))
    assert (status, err) == (1, "")
    assert out == (
        f"FAILED {cases}/a.yaml:6: another address\n"
        f"  {SERVICE}. A over UDP\n"
        "    answer\n"
        f"      - {SERVICE}. 30 IN A 10.96.120.8\n"
        f"      + {SERVICE}. 30 IN A 10.96.120.7\n"
        "\n"
        "2 passed, 1 failed\n"
    )


def test_source_of_the_command_line_is_for_all_files(run: Run, cases: Path) -> None:
    _, out, _ = run("test", str(cases), "--manifests", "examples/manifests/holocron")
    assert out.endswith("0 passed, 3 failed\n")


def test_junit_is_written(run: Run, cases: Path) -> None:
    path = cases / "junit.xml"
    run("test", str(cases / "a.yaml"), str(cases / "b.yaml"), "--junit", str(path))
    assert path.read_text().count("<testcase ") == 3
    assert path.read_text().count("<failure ") == 1


def test_server_that_is_not_there_is_status_1(run: Run, closed: str) -> None:
    status, out, _ = run("test", "examples/cases.yaml", "--server", closed)
    assert status == 1
    assert out.endswith("0 passed, 3 failed, 15 not asked\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cases: [{ask: x. A}]", "it names no manifests, so there is nobody to ask"),
        ("manifests: [no.yaml]\ncases: [{ask: x. A}]", "no.yaml: No such file or directory"),
        (
            "manifests: [.]\n\nsettings: {tll: 3}\ncases: [{ask: x. A}]",
            "x.yaml:3: $.settings: tll: no such setting; did you mean ttl?",
        ),
        ("cases: [{aks: x. A}]", "x.yaml:1: $.cases[0].aks: no such key; did you mean `ask`?"),
    ],
)
def test_case_file_that_cannot_be_run_is_status_2(
    run: Run, tmp_path: Path, text: str, why: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    status, out, err = run("test", str(tmp_path / "x.yaml"))
    assert (status, out) == (2, "")
    assert why in err


def test_junit_file_that_cannot_be_written_is_status_2(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none" / "junit.xml"
    status, _, err = run("test", "examples/cases.yaml", *EXAMPLES, "--junit", str(path))
    assert status == 2
    assert err == f"mcsdns: --junit {path}: No such file or directory; name a file to write\n"
