"""`mcsdns check` as it is called, with servers and API servers for it to look at."""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcsdns.app import log
from mcsdns.cli import main
from mcsdns.diagnostics.check import run as check_run
from tests.apiserver.process import ALL_RULES, ApiServer
from tests.forwarding.servers import Servers, running
from tests.kube import ApiServers, apiserver, apiserver_data, apiservers
from tests.paths import DOCS

__all__ = ["apiserver", "apiserver_data", "apiservers"]

ACCOUNT = "system:serviceaccount:mcsdns:mcsdns"
READ_IMPORTS = {
    "apiGroups": ["multicluster.x-k8s.io"],
    "resources": ["serviceimports"],
    "verbs": ["list", "watch"],
}
READ_SLICES = {
    "apiGroups": ["discovery.k8s.io"],
    "resources": ["endpointslices"],
    "verbs": ["list", "watch"],
}
READ = [READ_IMPORTS, READ_SLICES]


class Report:
    """What a run wrote: its lines, and whatever `--json` says of the same."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def cause(self) -> str:
        """The first three lines."""
        return "\n".join(self.out.splitlines()[:3])

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def reasons(self, severity: str = "") -> list[str]:
        """The reasons of all findings, or of those of one severity, in their order."""
        return [
            each["reason"] for each in self.json["findings"] if severity in ("", each["severity"])
        ]

    def finding(self, reason: str) -> dict[str, str]:
        """The one finding of a reason."""
        (found,) = [each for each in self.json["findings"] if each["reason"] == reason]
        return dict(found)


Check = Callable[..., Report]
PAGE = DOCS / "check.md"


def assert_documented(found: Report, here: dict[str, str]) -> None:
    """Find the first three lines in the docs, where other addresses stand than here."""
    cause = found.cause
    for ours, theirs in here.items():
        cause = cause.replace(ours, theirs)
    assert cause in PAGE.read_text(), f"docs/check.md lacks:\n{cause}"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the host's /etc; it has no file yet."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(check_run, "NSSWITCH", str(folder / "nsswitch.conf"))
    monkeypatch.setattr(check_run, "RESOLV_CONF", str(folder / "resolv.conf"))
    return folder


@pytest.fixture
def check(host: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run the command; what it writes is the report."""
    monkeypatch.setattr(log, "configure", lambda *_: None)

    def run(*arguments: object) -> Report:
        with pytest.raises(SystemExit) as stopped:
            main.main(["check", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Report(stopped.value.code, out, err)

    return run


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """DNS servers of one test."""
    with running(tmp_path_factory.mktemp) as started:
        yield started


@pytest.fixture
def manifests(tmp_path: Path) -> Callable[[str], Path]:
    """Write a file of manifests."""

    def write(text: str) -> Path:
        path = tmp_path / "objects.yaml"
        path.write_text(text)
        return path

    return write


class Guarded:
    """An API server with users: an administrator, whoever reads, and the account of mcsdns."""

    _times = itertools.count(1_000_000)

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self.permit()

    def permit(self, account: Iterable[object] = READ, reader: Iterable[object] = READ) -> None:
        """Say what the service account and the user of the kubeconfig may do."""
        roles = {
            "admin": (ApiServer.ADMIN, ALL_RULES),
            ACCOUNT: ("account-token", list(account)),
            "reader": (ApiServer.READER, list(reader)),
        }
        users = [
            {"name": name, "token": token, "roles": [{"kind": "ClusterRole", "rules": rules}]}
            for name, (token, rules) in roles.items()
        ]
        part = self._folder / "auth.part"
        part.write_text(json.dumps({"users": users}))
        stamp = next(self._times) * 1_000_000_000  # the server looks at the time of the file
        os.utime(part, ns=(stamp, stamp))
        part.rename(self.server.folder / "auth.json")

    def kubeconfig(self, token: str) -> Path:
        return self.server.write_kubeconfig(self._folder / f"{token}.kubeconfig", token)

    @property
    def admin(self) -> Path:
        return self.kubeconfig(ApiServer.ADMIN)

    @property
    def reader(self) -> Path:
        return self.kubeconfig(ApiServer.READER)


@pytest.fixture
def guarded(apiservers: ApiServers, tmp_path: Path) -> Guarded:
    return Guarded(apiservers(auth=True), tmp_path)
