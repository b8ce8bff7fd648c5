"""Real DNS servers behind and before `mcsdns serve`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve, ServeProcess
from tests.forwarding.servers import Daemon, Servers, Silent, running

SERVICE = """\
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata:
  name: web
  namespace: shop
spec:
  type: ClusterSetIP
  ips: [10.0.0.1]
  ports:
  - port: 80
"""
OURS, OUR_ADDRESS = "web.shop.svc.clusterset.local", "10.0.0.1"

Forward = Callable[..., ServeProcess]
LastingForward = Callable[[Daemon], ServeProcess]


@pytest.fixture(scope="package")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that several tests ask and none changes."""
    with running(tmp_path_factory.mktemp) as servers:
        yield servers


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers of one test."""
    with running(tmp_path_factory.mktemp) as started:
        yield started


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """One service, `web.shop`."""
    path = tmp_path / "web.yaml"
    path.write_text(SERVICE)
    return path


@pytest.fixture
def forward(serve: Serve, manifest: Path) -> Forward:
    """Start mcsdns with `web.shop` and upstreams: servers, or texts as settings have them."""

    def start(*upstreams: Daemon | Silent | str, flags: tuple[object, ...] = ()) -> ServeProcess:
        texts = [each if isinstance(each, str) else each.text for each in upstreams]
        given = [flag for text in texts for flag in ("--upstream", text)]
        return serve("--manifests", manifest, *given, *flags)

    return start


@pytest.fixture(scope="package")
def lasting_forward(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LastingForward]:
    """As `forward`, for several tests: one mcsdns for each upstream."""
    folder = tmp_path_factory.mktemp("lasting")
    (folder / "web.yaml").write_text(SERVICE)
    started: dict[str, ServeProcess] = {}

    def start(upstream: Daemon) -> ServeProcess:
        if upstream.text not in started:
            given = ["--manifests", str(folder / "web.yaml"), "--upstream", upstream.text]
            given += ["--listen", "127.0.0.1:0"]
            started[upstream.text] = ServeProcess(tmp_path_factory.mktemp("serve"), given)
        return started[upstream.text].wait_ready()

    yield start
    for process in started.values():
        process.end()
        assert "Traceback" not in process.log, process.log


@pytest.fixture
def silent() -> Iterator[Silent]:
    """An upstream that never answers."""
    made = Silent()
    yield made
    made.close()
