"""An mcsdns on loopback, of both families, for the forwarders that the texts configure."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServeProcess
from tests.diagnostics.stub_config.texts import DEAD, IPV4, IPV6, PORT, corefile_of
from tests.forwarding.servers import Daemon, Servers, running
from tests.waiting import free_port

OURS, OUR_ADDRESS, OUR_ADDRESS_6 = "web.shop.svc.clusterset.local", "10.0.0.1", "fd00:1::1"
LONG, LONG_COUNT = "db.shop.svc.clusterset.local", 90
"""A name whose answer does not fit into a UDP reply."""
HUGE, HUGE_COUNT = "huge.shop.svc.clusterset.local", 300
"""A name with more records than BIND and PowerDNS Recursor take."""
MISSING = "no.shop.svc.clusterset.local"

_MANIFEST = f"""\
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {{name: web, namespace: shop}}
spec:
  type: ClusterSetIP
  ips: [{OUR_ADDRESS}, "{OUR_ADDRESS_6}"]
  ports:
  - {{name: http, port: 80}}
"""


def _headless(name: str, endpoints: int) -> str:
    many = "".join(f"- addresses: [10.42.{n >> 8}.{n & 255}]\n" for n in range(endpoints))
    return f"""\
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {{name: {name}, namespace: shop}}
spec:
  type: Headless
  ports:
  - {{name: sql, port: 5432}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-eu
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: {name}
    multicluster.kubernetes.io/source-cluster: eu
addressType: IPv4
ports:
- {{name: sql, port: 5432}}
endpoints:
{many}"""


_MANIFEST += _headless("db", LONG_COUNT) + _headless("huge", HUGE_COUNT)

CoreDns = Callable[..., Daemon]
There = dict[str, str]
"""For addresses as they stand in Corefiles: where a test has them."""


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests of `OURS`, `LONG` and `HUGE`."""
    path = tmp_path_factory.mktemp("world") / "world.yaml"
    path.write_text(_MANIFEST)
    return path


@pytest.fixture(scope="package")
def mcsdns(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One mcsdns with two zones: its port, at 127.0.0.1 and at ::1."""
    port = free_port()
    given = ["--manifests", str(world), "--zone", "clusterset.local", "--zone", "other.test"]
    given += ["--listen", f"127.0.0.1:{port}", "--listen", f"[::1]:{port}"]
    process = ServeProcess(tmp_path_factory.mktemp("serve"), given)
    try:
        process.wait_ready()
        yield port
    finally:
        process.end()
    assert "Traceback" not in process.log, process.log


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Forwarders of one test."""
    with running(tmp_path_factory.mktemp) as started:
        yield started


@pytest.fixture
def there(mcsdns: int) -> There:
    """The mcsdns, and behind a third address nobody."""
    return {
        f"{IPV4}:{PORT}": f"127.0.0.1:{mcsdns}",
        f"[{IPV6}]:{PORT}": f"[::1]:{mcsdns}",
        f"{DEAD}:{PORT}": f"127.0.0.1:{free_port()}",
    }


@pytest.fixture
def coredns(servers: Servers, there: There, tmp_path: Path) -> CoreDns:
    """Start CoreDNS as a platform has it after a text was applied."""

    def start(platform: str, **given: Any) -> Daemon:
        port = free_port()
        corefile = corefile_of(platform, there, port, tmp_path, **given)
        return servers.coredns(corefile, port=port)

    return start
