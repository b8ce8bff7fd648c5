"""The built image: what is in it, what is not, and that it runs with nothing but its user.

`python -m tests.image` builds it and runs these; without it they are skipped.
"""

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.process import ApiServer
from tests.gobuild import NotBuiltError
from tests.image.build import Image, image
from tests.image.container import Container
from tests.image.dockerfile import ROOT, health_command
from tests.kube import ApiServers, apiserver_data, apiservers
from tests.real.services import db, slice_of, web
from tests.waiting import free_port, wait_until

__all__ = ["apiserver_data", "apiservers"]

EXAMPLES = ROOT / "examples" / "manifests"
NOT_IN_IT = {"as", "c++", "cc", "clang", "cpp", "g++", "gcc", "ld", "make", "tcc", "pip", "pip3"}
UNCHECKED = (1).to_bytes(4, "little")
MAGIC_BYTES = 4
FETCH = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()"
RUN = Callable[..., Container]


@pytest.fixture(scope="module")
def built() -> Image:
    try:
        return image()
    except NotBuiltError as error:
        pytest.skip(str(error))


@pytest.fixture
def run(built: Image) -> Iterator[RUN]:
    """Start containers; all are ended at the end."""
    containers: list[Container] = []

    def start(
        *arguments: str, given: Path = EXAMPLES, own_network: bool = True, **env: str
    ) -> Container:
        containers.append(Container(built, given, own_network=own_network))
        return containers[-1].start(*arguments, env=env)

    yield start
    for container in containers:
        container.close()


def files(folder: Path) -> Iterator[Path]:
    """The files below a folder, but not links."""
    for parent, _, names in os.walk(folder):
        paths = (Path(parent, name) for name in names)
        yield from (path for path in paths if stat.S_ISREG(path.lstat().st_mode))


def packages(built: Image) -> Path:
    (folder,) = (built.root / "opt/mcsdns/lib").glob("python3.*/site-packages")
    return folder


def stdlib(built: Image) -> Path:
    (folder,) = (built.root / "usr/local/lib").glob("python3.[0-9]*")
    return folder


def test_says_what_it_is(built: Image) -> None:
    config = built.config
    assert config["User"] == "65532:65532"
    assert sorted(config["ExposedPorts"]) == ["5353/tcp", "5353/udp", "8080/tcp"]
    assert config["Healthcheck"]["Test"] == ["CMD", *health_command()]
    assert config["Labels"]["org.opencontainers.image.version"] == "tested"


def test_holds_no_compiler_and_no_installer(built: Image) -> None:
    found = [path for path in files(built.root) if path.name in NOT_IN_IT]
    assert [path for path in found if os.access(path, os.X_OK)] == []
    for folder in (packages(built), stdlib(built), stdlib(built) / "site-packages"):
        assert not {"pip", "setuptools", "ensurepip"} & {each.name for each in folder.iterdir()}


def test_no_program_lends_rights(built: Image) -> None:
    lending = stat.S_ISUID | stat.S_ISGID
    assert [path for path in files(built.root) if path.stat().st_mode & lending] == []
    assert [path for path in files(built.root) if "security.capability" in os.listxattr(path)] == []


def test_nothing_belongs_to_its_user_or_is_for_all_to_write(built: Image) -> None:
    user = int(built.config["User"].partition(":")[0])
    mine = [path for path in files(built.root) if path.stat().st_uid == user]
    for_all = [path for path in files(built.root) if path.stat().st_mode & stat.S_IWOTH]
    assert (mine, for_all) == ([], [])


def test_bytecode_is_there_and_taken_without_a_look_at_the_source(built: Image) -> None:
    needed = [
        *(packages(built) / "mcsdns").rglob("*.py"),
        *(stdlib(built) / "asyncio").glob("*.py"),
    ]
    tag = f"cpython-{stdlib(built).name.removeprefix('python').replace('.', '')}"
    for source in needed:
        code = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
        assert code.exists(), source
    for code in [*packages(built).rglob("*.pyc"), *stdlib(built).rglob("*.pyc")]:
        with code.open("rb") as opened:
            assert opened.read(2 * MAGIC_BYTES)[MAGIC_BYTES:] == UNCHECKED, code


def test_every_file_of_the_package_is_in_it(built: Image) -> None:
    def names(folder: Path) -> set[str]:
        return {str(each.relative_to(folder)) for each in files(folder) if each.suffix != ".pyc"}

    assert names(packages(built) / "mcsdns") == names(ROOT / "mcsdns")


def test_serves_without_rights_and_without_a_place_to_write(run: RUN) -> None:
    container = run("serve", "--manifests", "/mnt/given").wait_ready()
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    for place in ("/", "/tmp", "/opt/mcsdns", "/var/tmp"):
        assert "Read-only" in container.run("touch", f"{place}/x").stderr
    query = ["dig", "+short", "-p", "5353", "dns-version.clusterset.local", "TXT"]
    for way in (["@127.0.0.1"], ["@127.0.0.1", "+tcp"], ["@::1"], ["@::1", "+tcp"]):
        assert container.ask(*query, *way).stdout == '"1.0.0"\n'
    assert container.end() == 0, container.log
    assert "Traceback" not in container.log


def test_gets_healthy(run: RUN) -> None:
    container = run("serve", "--manifests", "/mnt/given").wait_ready()
    wait_until(lambda: container.run(*health_command()).returncode == 0, "healthy")


def test_is_unhealthy_where_nothing_is_read(run: RUN, tmp_path: Path) -> None:
    config = '{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], '
    config += '"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], '
    config += '"users": [{"name": "u", "user": {}}], "current-context": "c"}'
    (tmp_path / "kubeconfig").write_text(config)
    tmp_path.chmod(0o755)
    container = run("serve", "--kubeconfig", "/mnt/given/kubeconfig", given=tmp_path)
    wait_until(lambda: "status page on" in container.log, "status page")
    assert container.run(*health_command()).returncode == 1


def test_shows_its_pages_and_its_commands(run: RUN) -> None:
    container = run("serve", "--manifests", "/mnt/given", MCSDNS_PROBES=":8080").wait_ready()
    wait_until(lambda: "status page on" in container.log, "status page")
    for page in (":8053/", ":8053/static/page.js", ":8080/metrics", ":8080/readyz"):
        fetched = container.ask(sys.executable, "-Ic", FETCH, f"http://127.0.0.1{page}")
        assert fetched.returncode == 0, fetched.stderr
    assert container.run("mcsdns", "--version").stdout.startswith("mcsdns ")
    query = ["mcsdns", "query", "--server", "127.0.0.1:5353", "--short"]
    assert container.run(*query, "dns-version.clusterset.local", "TXT").stdout == '"1.0.0"\n'
    stub = container.run("mcsdns", "stub", "kubeadm", "--ip", "10.96.0.53")
    assert "10.96.0.53" in stub.stdout, stub.stderr


@pytest.fixture
def cluster(apiservers: ApiServers, tmp_path: Path) -> tuple[ApiServer, Path]:
    """An API server, and a folder with what leads there from within a container."""
    server = apiservers(auth=True)
    server.create_many([web("web", "10.96.0.1"), db("db"), slice_of("db", "east", "10.1.0.1")])
    text = server.kubeconfig.read_text().replace(str(server.ca.parent), "/mnt/given")
    (tmp_path / "kubeconfig").write_text(text)
    shutil.copy(server.ca, tmp_path)
    tmp_path.chmod(0o755)
    return server, tmp_path


def test_follows_an_api_server_and_keeps_a_snapshot(
    run: RUN, cluster: tuple[ApiServer, Path]
) -> None:
    """On a tmpfs of its own, as with an emptyDir."""
    _, given = cluster
    settings = ["--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}"]
    settings += ["--kubeconfig", "/mnt/given/kubeconfig", "--snapshot", "/mnt/scratch/snapshot"]
    container = run("serve", *settings, given=given, own_network=False).wait_ready()
    wait_until(
        lambda: container.run("test", "-s", "/mnt/scratch/snapshot").returncode == 0, "snapshot"
    )
    assert container.end() == 0, container.log
    assert "2 services" in container.log
