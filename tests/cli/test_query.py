"""`mcsdns query` as a user calls it."""

import json

import pytest

from mcsdns.diagnostics.client import RemoteServer
from tests.cli.conftest import EXAMPLES, SERVICE, Run


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
    assert "; EDE: 21 (Not Supported): (" in out


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
