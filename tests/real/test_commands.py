"""`mcsdns query` and `mcsdns explain` ask the API server themselves."""

import json
from pathlib import Path

import pytest

from mcsdns.cli import main
from tests.apiserver.process import ApiServer
from tests.kube import ApiServers
from tests.real.asking import dig
from tests.real.conftest import Follow
from tests.real.services import BETA, export, fleet, question
from tests.waiting import DEADLINE_S

WEB = question("web-0.shop")[0]
COMMANDS = pytest.mark.parametrize("command", ["query", "explain"])


class Run:
    """A command that was run, with the kubeconfig of an API server or another one."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(
        self, command: str, where: ApiServer | Path, *arguments: str, status: int = 0
    ) -> tuple[str, str]:
        """Run it; return what it wrote to standard output and standard error."""
        kubeconfig = where.kubeconfig if isinstance(where, ApiServer) else where
        with pytest.raises(SystemExit) as stopped:
            main.main([command, "--kubeconfig", str(kubeconfig), *arguments])
        out, err = self._capsys.readouterr()
        assert stopped.value.code == status, err
        return out, err

    def fails(self, said: str, command: str, where: ApiServer | Path, *arguments: str) -> None:
        """Run what has to end with status 2 and one line that says this."""
        out, err = self(command, where, *arguments, status=2)
        assert out == ""
        assert said in err.splitlines()[-1]
        assert [line for line in err.splitlines() if line.startswith("mcsdns: ")] == [
            err.splitlines()[-1]
        ]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_query_answers_as_the_server_does(apiserver: ApiServer, follow: Follow, run: Run) -> None:
    export(apiserver, fleet(4))
    server = follow(apiserver)
    for name, qtype in (("web-0.shop", "A"), ("db-1.shop", "A"), ("web-2.shop", "SRV")):
        out, err = run("query", apiserver, "--short", *question(name, qtype))
        assert (sorted(out.splitlines()), err) == (dig(server, name, qtype).data, "")
    out, _ = run("query", apiserver, *question("nothing.shop"))
    assert "status: NXDOMAIN" in out
    assert "the API server" in out


def test_explain_says_where_objects_come_from(apiserver: ApiServer, run: Run) -> None:
    export(apiserver, fleet(4))
    out, err = run("explain", apiserver, WEB)
    assert err == ""
    for part in ("10.96.0.0", "shop/web-0", BETA):
        assert part in out
    out, _ = run("explain", apiserver, "--json", question("db-1.shop")[0])
    assert "db-1-east" in json.dumps(json.loads(out))


@COMMANDS
def test_what_cannot_be_reached_is_one_line(
    apiserver: ApiServer, run: Run, tmp_path: Path, command: str
) -> None:
    run.fails(f"{tmp_path / 'nothing'}", command, tmp_path / "nothing", WEB)
    run.fails("no context 'other', it has test", command, apiserver, "--context", "other", WEB)
    lines = apiserver.kubeconfig.read_text().splitlines()
    untrusting = tmp_path / "kubeconfig"
    untrusting.write_text("\n".join(line for line in lines if "certificate-auth" not in line))
    run.fails("its certificate is not accepted: ", command, untrusting, WEB)
    apiserver.kill()
    run.fails(f"{apiserver.url}: no connection: ", command, apiserver, WEB)


def test_refusals_are_one_line(apiservers: ApiServers, run: Run, tmp_path: Path) -> None:
    apiserver = apiservers(auth=True)
    apiserver.set_permissions()
    run.fails("give the account a ClusterRole with the rule", "query", apiserver, WEB)
    wrong = apiserver.write_kubeconfig(tmp_path / "kubeconfig", "wrong")
    run.fails("the token or certificate that we show", "query", wrong, WEB)


def test_serve_does_not_start_with_a_wrong_kubeconfig(follow: Follow, tmp_path: Path) -> None:
    server = follow(tmp_path / "nothing", ready=False)
    assert server.process.wait(DEADLINE_S) == 2
    lines = [line for line in server.log.splitlines() if " DEBUG " not in line]
    assert len(lines) == 1, server.log
    assert str(tmp_path / "nothing") in lines[0]
