"""Servers whose probes, changes and end are looked at, and what they follow."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.conftest import Serve, ServeProcess
from tests.scripted import SERVICE_IMPORT, FakeApi
from tests.sources.manifests.test_documents import IMPORT
from tests.web.life import Upstream

Live = Callable[..., ServeProcess]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """One service, `web.shop`."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "web.yaml"
    path.write_text(IMPORT)
    return path


@pytest.fixture
def live(serve: Serve) -> Live:
    """Start mcsdns with probes on a free port."""

    def start(*arguments: object, **options: object) -> ServeProcess:
        return serve("--probes", "127.0.0.1:0", *arguments, **options)

    return start


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An upstream that answers 192.0.2.7."""
    made = Upstream()
    yield made
    made.close()


@pytest.fixture
def other_upstream() -> Iterator[Upstream]:
    """An upstream that answers 192.0.2.8."""
    made = Upstream("192.0.2.8")
    yield made
    made.close()


class Api:
    """A scripted API server in a thread of its own."""

    def __init__(self, portal: BlockingPortal, folder: Path) -> None:
        self.fake = portal.call(FakeApi)
        self._portal = portal
        self._folder = folder

    @property
    def kubeconfig(self) -> Path:
        """A file that leads here."""
        return self.fake.write_kubeconfig(self._folder / "kubeconfig")

    def put_service(self, name: str) -> None:
        """Write a service of the namespace `shop`."""
        thing = {
            "apiVersion": "multicluster.x-k8s.io/v1beta1",
            "kind": SERVICE_IMPORT,
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"type": "ClusterSetIP", "ips": ["10.96.0.7"], "ports": []},
        }
        self._portal.call(self.fake.put, thing)

    def go_away(self) -> None:
        """Refuse connections, and break those there are."""
        self._portal.call(self.fake.refuse)

    def come_back(self) -> None:
        """Take connections again."""
        self._portal.call(self.fake.accept)

    def revoke(self, resource: str) -> None:
        """Forbid to read objects of a kind."""
        self._portal.call(self.fake.revoke, resource)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API server without objects."""
    with start_blocking_portal() as portal:
        made = Api(portal, tmp_path)
        with portal.wrap_async_context_manager(made.fake):
            yield made
