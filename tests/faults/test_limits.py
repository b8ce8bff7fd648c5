"""Memory and file descriptors that are limited, and somebody who wants all of them."""

import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import dnslib
import pytest
import yaml

from tests.conftest import Serve, ServeProcess, addresses, ask
from tests.faults.conftest import MANY, WEB, WEB_ADDRESS, Upstream, many, scripted, web
from tests.faults.table import row
from tests.paths import ROOT
from tests.waiting import TRY_S, wait_until

FILES = 512


class Group:
    """A control group for memory, of the first version or the second."""

    def __init__(self, folder: Path, limit: str, killed: str) -> None:
        self._folder, self._limit = folder, limit
        self._killed = folder / killed
        folder.mkdir()

    def enter(self, octets: int) -> Callable[[], None]:
        """Set the limit; what is returned brings a new process in."""
        (self._folder / self._limit).write_text(str(octets))
        procs = str(self._folder / "cgroup.procs")

        def enter() -> None:
            with open(procs, "w") as file:
                file.write("0")

        return enter

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        words = self._killed.read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def close(self) -> None:
        wait_until(lambda: not (self._folder / "cgroup.procs").read_text(), "no process in it")
        self._folder.rmdir()


@pytest.fixture
def group() -> Iterator[Group]:
    name = f"mcsdns-{os.getpid()}"
    roots = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    try:
        if roots[0].is_dir():
            made = Group(roots[0] / name, "memory.limit_in_bytes", "memory.oom_control")
        else:
            (roots[1] / "cgroup.subtree_control").write_text("+memory")
            made = Group(roots[1] / name, "memory.max", "memory.events")
    except OSError as error:
        pytest.skip(f"no control group can be made (that wants root): {error}")
    yield made
    made.close()


def deployed_octets() -> int:
    """The limit of memory in deploy/."""
    text = (ROOT / "deploy" / "kustomize" / "base" / "deployment.yaml").read_text()
    (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    memory = container["resources"]["limits"]["memory"]
    return int(memory[:-2]) << {"Mi": 20, "Gi": 30}[memory[-2:]]


def framed(name: str, times: int) -> bytes:
    message = dnslib.DNSRecord.question(name).pack()
    return (len(message).to_bytes(2, "big") + message) * times


def test_a_flood_within_the_limit_of_memory(group: Group, serve: Serve, tmp_path: Path) -> None:
    assert not row("clients want more memory than there is").lines
    (tmp_path / "many.yaml").write_text(yaml.safe_dump_all([web(), *many()]))
    enter = group.enter(deployed_octets())
    server = serve("--manifests", tmp_path, preexec_fn=enter)
    requests = framed(MANY, 2000)
    with contextlib.ExitStack() as stack:
        for number in range(60):
            sock = stack.enter_context(socket.create_connection(server.address))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.send(requests)
            for each in range(20):
                ask(server.address, f"absent-{number}-{each}.shop.svc.clusterset.local")
            assert addresses(server.ask("web.shop")) == [WEB_ADDRESS]
    assert addresses(server.ask("web.shop", tcp=True)) == [WEB_ADDRESS]
    assert group.kills == 0


def test_a_manifest_that_takes_all_memory(group: Group, serve: Serve, tmp_path: Path) -> None:
    fault = row("a manifest takes more memory than there is")
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(web()))
    large = tmp_path / "large.yaml"
    server = serve("--manifests", tmp_path, preexec_fn=group.enter(128 << 20))
    part = tmp_path / "part"
    part.write_text("---\n".join(yaml.safe_dump(web(f"n-{n}")) for n in range(2000)) * 100)
    part.rename(large)
    for line in fault.lines:
        server.wait_log(line)
    assert group.kills
    assert addresses(server.ask("web.shop")) == [WEB_ADDRESS]
    large.write_text(yaml.safe_dump(web("new", "10.0.0.2")))
    server.wait_for("new.shop", ["10.0.0.2"])


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


def test_no_file_descriptors(serve: Serve, tmp_path: Path) -> None:
    fault = row("file descriptors are used up")
    upstream = Upstream("127.0.0.1")
    with contextlib.closing(upstream), scripted("127.0.0.1") as api:
        kubeconfig = api.api.write_kubeconfig(tmp_path / "kubeconfig")
        given = ("--kubeconfig", kubeconfig, "--upstream", upstream.text, "--tcp-idle", 3600)
        server = serve(*given, preexec_fn=few_files)
        with contextlib.ExitStack() as stack:
            for _ in range(2 * FILES):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(server.address)
            wait_until(lambda: open_files(server) > FILES / 4, "connections")
            api.api.reset_connections()
            api.put(web("new", "10.0.0.2"))
            server.wait_for("new.shop", ["10.0.0.2"])
            assert addresses(ask(server.address, "n1.example.test")) == ["198.18.0.1"]
            assert open_files(server) < FILES
        wait_until(lambda: answers_by_tcp(server), "an answer over TCP")
        for line in fault.lines:
            server.wait_log(line)
        assert len(server.log.splitlines()) < 50


def open_files(server: ServeProcess) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def answers_by_tcp(server: ServeProcess) -> bool:
    try:
        return addresses(ask(server.address, WEB, tcp=True, timeout_s=TRY_S)) == [WEB_ADDRESS]
    except (OSError, EOFError):
        return False
