"""A real Kubernetes API server as a process: run it, kill it, restart it, and change its CRDs.

Nothing in here needs pytest, so that the benchmark runs it too; the fixtures are in `tests.kube`.
"""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.build import APISERVER
from tests.apiserver.client import REQUEST_S, Object
from tests.apiserver.crds import WithCrds
from tests.waiting import DEADLINE_S, free_port, wait_until

MCS = "/apis/multicluster.x-k8s.io"
IMPORTS = f"{MCS}/v1beta1/serviceimports"
IMPORTS_V1ALPHA1 = f"{MCS}/v1alpha1/serviceimports"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
ALL_RULES = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]


class ApiServer(WithCrds):
    """One API server process with its data, as a client too.

    Options are the flags of the program: `watch_cache=False`, `watch_list=False`,
    `self_review=False`, `builtin_slices=True` and `service_ranges="10.96.0.0/16,fd00::/112"`.
    `auth=True` gives it users: an administrator, and `mcsdns` with the rights that
    `set_permissions` says. Port and data stay the same over kills.
    """

    ADMIN, READER = "admin-token", "mcsdns-token"

    def __init__(self, folder: Path, *, auth: bool = False, **options: bool | str) -> None:
        super().__init__(self.ADMIN if auth else None)
        self.folder = folder
        self.data = folder / "data"
        self.etcd = ""
        self._options = options
        self.has_slices = bool(options.get("builtin_slices"))
        self._auth = folder / "auth.json" if auth else None
        self._auth_times = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True, exist_ok=True)
        if auth:
            self.set_permissions(ALL_RULES)

    # Life.

    def start(self) -> "ApiServer":
        """Start, and wait until every resource can be listed and watched."""
        self.launch()
        return self.wait_ready()

    def launch(self) -> None:
        """Start without waiting, to see what clients meet while a server starts."""
        assert self._process is None, "it runs"
        self.port = self.port or free_port()
        arguments = [f"--data={self.data}", f"--port={self.port}", "--until-stdin-is-closed"]
        if self._auth:
            arguments.append(f"--auth={self._auth}")
        for name, value in self._options.items():
            text = value if isinstance(value, str) else str(value).lower()
            arguments.append(f"--{name.replace('_', '-')}={text}")
        with self._out.open("wb") as out, (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [APISERVER.binary(), *arguments], stdin=subprocess.PIPE, stdout=out, stderr=log
            )

    def wait_ready(self) -> "ApiServer":
        """Wait for the line that says it is ready."""
        assert self._process is not None, "it does not run"
        wait_until(lambda: self._out.read_text().endswith("\n") or self._ended(), "ready")
        assert not self._ended(), f"the API server ended: {self.log[-2000:]}"
        facts = json.loads(self._out.read_text())
        self.etcd = facts["etcd"]
        self._tls = ssl.create_default_context(cafile=facts["ca"])
        self.write_kubeconfig(self.kubeconfig, self.READER)
        return self

    def kill(self) -> None:
        """End it at once, as a crash does; the data stays."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order; the data stays."""
        self._end(signal.SIGTERM)

    def restart(self) -> "ApiServer":
        """Kill it and start it again, on the same port with the same data."""
        self.kill()
        return self.start()

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.send_signal(number)
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "it does not run"
        return self._process

    @property
    def _out(self) -> Path:
        return self.folder / "stdout"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    # Clients.

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.data / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of the user `mcsdns`, there since the first start."""
        return self.folder / "kubeconfig"

    def write_kubeconfig(self, path: Path, token: str) -> Path:
        """Write a kubeconfig with any token, a wrong one for example. Its context is `test`."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token} if self._auth else {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def set_permissions(
        self, rules: Iterable[Object] = (), *, roles: Iterable[Object] = (), token: str = READER
    ) -> None:
        """Say what the user `mcsdns` may do, from its next request on.

        `rules` hold in every namespace, `roles` are Role and ClusterRole objects. Without any it is
        forbidden everything (403); with another token, its own is unknown (401). A watch that runs
        goes on, as with any API server: see `end_watches`.
        """
        assert self._auth is not None, "started without auth=True"
        granted = [*roles, {"kind": "ClusterRole", "rules": list(rules)}]
        admin = {"name": "admin", "token": self.ADMIN, "roles": [{"rules": ALL_RULES}]}
        users = [admin, {"name": "mcsdns", "token": token, "roles": granted}]
        part = self._auth.with_suffix(".part")
        part.write_text(json.dumps({"users": users}))
        stamp = next(self._auth_times) * 1_000_000_000  # the server looks at the time of the file
        os.utime(part, ns=(stamp, stamp))
        part.rename(self._auth)

    def end_watches(self) -> int:
        """End every watch as the server does when its time is up; return how many there were."""
        return int(self.request("POST", "/end-watches").body)

    # etcd.

    def compact(self) -> int:
        """Compact etcd to its present revision, and return that."""
        revision = int(self._etcd("range", {"key": "AA=="})["header"]["revision"])
        self._etcd("compaction", {"revision": revision, "physical": True})
        return revision

    def _etcd(self, call: str, body: object) -> Any:
        address = urllib.parse.urlsplit(self.etcd).netloc
        connection = http.client.HTTPConnection(address, timeout=REQUEST_S)
        with contextlib.closing(connection):
            connection.request("POST", f"/v3/kv/{call}", json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == 200, text
            return json.loads(text)

    def save_data(self, to: Path) -> None:
        """Keep a copy of all it stores, to go back to; it must not run."""
        assert self._process is None, "it runs"
        shutil.copytree(self.data, to)

    def restore_data(self, saved: Path) -> None:
        """Go back to a copy: resource versions go back too. It must not run."""
        assert self._process is None, "it runs"
        shutil.rmtree(self.data)
        shutil.copytree(saved, self.data)
