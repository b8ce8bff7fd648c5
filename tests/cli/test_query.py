"""`mcsdns query` and `mcsdns test` as a user calls them."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcsdns import config
from mcsdns.cli.main import main
from mcsdns.diagnostics.client import RemoteServer
from tests.live import serving

EXAMPLES = ["--manifests", "examples/manifests"]
SERVICE = "rebel-base.default.svc.clusterset.local"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert isinstance(caught.value.code, int)
        return (caught.value.code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in config.fields():
        monkeypatch.delenv(field.variable, raising=False)
    monkeypatch.delenv("MCSDNS_CONFIG", raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteServer]:
    with serving() as starter:
        yield starter.start(config.Settings(manifests=["examples/manifests"]))


@pytest.fixture(scope="module")
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_query_of_a_source_shows_what_the_server_would_say(run: Run) -> None:
    status, out, err = run("query", SERVICE, *EXAMPLES)
    assert (status, err) == (0, "")
    assert "status: NOERROR" in out
    assert [f"{SERVICE}.", "5", "IN", "A", "10.96.120.7"] in map(str.split, out.splitlines())
    assert ";; SERVER: in process, from examples/manifests (UDP)" in out


def test_query_of_a_server(run: Run, server: RemoteServer) -> None:
    status, out, _ = run("query", SERVICE, "AAAA", "--server", str(server))
    assert status == 0
    assert "AUTHORITY: 1" in out
    assert f"127.0.0.1#{str(server).split(':')[1]}(127.0.0.1) (UDP)" in out


def test_query_over_tcp(run: Run, server: RemoteServer) -> None:
    _, out, _ = run("query", SERVICE, "--server", str(server), "--tcp", "--json")
    assert json.loads(out)["transport"] == "tcp"


def test_short_query_shows_data_alone(run: Run) -> None:
    assert run("query", SERVICE, "SRV", "--short", *EXAMPLES) == (0, f"0 100 80 {SERVICE}.\n", "")


def test_rcode_does_not_count_for_the_exit_status(run: Run) -> None:
    status, out, _ = run("query", f"cluster2.{SERVICE}", *EXAMPLES)
    assert status == 0
    assert "status: REFUSED" in out
    assert "; EDE: 18 (Prohibited): (" in out


@pytest.mark.parametrize(
    ("flags", "edns"),
    [
        ([], {"version": 0, "do": False, "size": 1232, "options": []}),
        (["--do"], {"version": 0, "do": True, "size": 1232, "options": []}),
        (["--no-edns"], None),
    ],
)
def test_edns_flags(run: Run, flags: list[str], edns: dict[str, object] | None) -> None:
    _, out, _ = run("query", SERVICE, "--json", *flags, *EXAMPLES)
    assert json.loads(out)["edns"] == edns


def test_truncated_answer_is_asked_for_over_tcp(run: Run) -> None:
    many = ("b.n.svc.clusterset.local", "--manifests", "tests/cases/manifests/many.yaml")
    _, out, _ = run("query", *many, "--bufsize", "512")
    assert out.startswith(";; Truncated, retrying in TCP mode.\n;; Got answer:\n")
    assert "ANSWER: 90," in out


def test_settings_are_those_of_serve(run: Run) -> None:
    name = "rebel-base.default.svc.mesh.internal"
    flags = ["--zone", "mesh.internal", "--ttl", "30"]
    _, out, _ = run("query", name, "--json", *flags, *EXAMPLES)
    assert json.loads(out)["answer"][0]["ttl"] == 30


def test_no_reply_is_status_1_and_says_what_to_do(run: Run, closed: str) -> None:
    status, out, err = run("query", SERVICE, "--server", closed)
    assert (status, out) == (1, "")
    assert err == (
        f"mcsdns: no reply from {closed}: nothing listens there on UDP; start the server, "
        "or give --server its address and port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["x"], "nobody to ask: give --manifests PATH, --kubeconfig FILE or --server ADDR:PORT"),
        (["x", "FOO", *EXAMPLES], "'FOO' is no record type"),
        (["x..y", *EXAMPLES], "'x..y': a label has 0 octets"),
        (["x", "--server", "::1", *EXAMPLES], "--server asks a server as it runs; leave out --man"),
        (["x", "--server", "::1", "--ttl", "3"], "leave out --ttl"),
        (["x", "--server", "127.0.0.1:x"], "is not ADDR or ADDR:PORT"),
        (["x", "--server", "::1", "--timeout", "0"], "--timeout: 0 is not more than 0"),
        (["x", "--server", "::1", "--timeout", "nan"], "--timeout: nan is not more than 0"),
        (["x", "--bufsize", "65536", *EXAMPLES], "--bufsize: 65536 is not between 0 and 65535"),
        (["x", "--no-edns", "--do", *EXAMPLES], "--no-edns: --do and --bufsize are of EDNS"),
        (["x", "--short", "--json", *EXAMPLES], "not allowed with argument"),
        (["x", "--manifests", "none.yaml"], "none.yaml: No such file or directory"),
        (["x", "--ttl", "many", *EXAMPLES], "--ttl"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_what_cannot_be_asked_is_status_2(run: Run, arguments: list[str], why: str) -> None:
    status, out, err = run("query", *arguments)
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1


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
