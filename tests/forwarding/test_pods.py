"""The pods of the examples, as processes with the arguments that stand there."""

from pathlib import Path

import pytest
import yaml

from tests.conftest import Serve, ServeProcess
from tests.forwarding import examples
from tests.forwarding.conftest import OUR_ADDRESS, OURS
from tests.forwarding.digging import dig
from tests.forwarding.servers import Daemon, Servers
from tests.forwarding.zones import OTHER
from tests.waiting import free_port, wait_until


@pytest.fixture
def cluster_dns(servers: Servers) -> Daemon:
    return servers.knot({"other.test": OTHER})


@pytest.fixture
def service(serve: Serve, manifest: Path) -> ServeProcess:
    """The mcsdns that has the zone."""
    return serve("--manifests", manifest, "--ttl", "1")


@pytest.fixture
def sidecar(serve: Serve, service: ServeProcess, cluster_dns: Daemon) -> ServeProcess:
    here = {
        "127.0.0.1:53": f"127.0.0.1:{free_port()}",
        examples.MCSDNS_SERVICE: f"127.0.0.1:{service.address[1]}",
        examples.CLUSTER_DNS: cluster_dns.text,
    }
    return serve(*examples.serve_arguments("sidecar-pod.yaml", here))


def test_sidecar_has_the_zone_from_the_service_and_the_rest_from_the_cluster(
    sidecar: ServeProcess,
) -> None:
    for way in ((), ("+tcp",), ("+noedns",)):
        ours, theirs = (dig(sidecar.address, name, "A", *way) for name in (OURS, "www.other.test"))
        assert (ours.status, ours.data) == ("NOERROR", [OUR_ADDRESS])
        assert (theirs.status, theirs.data) == ("NOERROR", ["198.18.0.80"])
        assert "aa" not in ours.flags | theirs.flags
        assert "ra" in ours.flags & theirs.flags
    for name in ("no.shop.svc.clusterset.local", "no.other.test"):
        assert dig(sidecar.address, name).status == "NXDOMAIN"
    assert "no source" in sidecar.out


def test_sidecar_follows_the_zone_and_serves_on_without_it(
    sidecar: ServeProcess, service: ServeProcess, manifest: Path
) -> None:
    assert dig(sidecar.address, OURS).data == [OUR_ADDRESS]
    manifest.write_text(manifest.read_text().replace(OUR_ADDRESS, "10.0.0.2"))
    wait_until(lambda: dig(sidecar.address, OURS).data == ["10.0.0.2"])
    assert service.end() == 0
    wait_until(lambda: 3 in dig(sidecar.address, OURS).errors, "stale answers")
    stale = dig(sidecar.address, OURS)
    assert (stale.status, stale.data) == ("NOERROR", ["10.0.0.2"])
    never = dig(sidecar.address, "never.shop.svc.clusterset.local")
    assert never.status == "SERVFAIL"
    assert never.errors.keys() & {22, 23}
    assert dig(sidecar.address, "www.other.test").data == ["198.18.0.80"]


def test_node_local_server_has_the_zone_itself(
    serve: Serve, manifest: Path, cluster_dns: Daemon
) -> None:
    here = {
        "--in-cluster": f"--manifests={manifest}",
        "169.254.20.53:53": "127.0.0.1:0",
        examples.CLUSTER_DNS: cluster_dns.text,
    }
    server = serve(*examples.serve_arguments("node-local.yaml", here))
    ours, theirs = (dig(server.address, name) for name in (OURS, "www.other.test"))
    assert ("aa" in ours.flags, ours.data) == (True, [OUR_ADDRESS])
    assert ("aa" in theirs.flags, theirs.data) == (False, ["198.18.0.80"])
    assert dig(server.address, "ns.dns.clusterset.local").data == ["169.254.20.53"]


def test_pod_asks_its_sidecar_and_nobody_else() -> None:
    pod = yaml.safe_load((examples.FOLDER / "sidecar-pod.yaml").read_text())["spec"]
    assert pod["dnsPolicy"] == "None"
    (port,) = [each["value"] for each in pod["securityContext"]["sysctls"]]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    (listen,) = [each for each in sidecar["args"] if each.startswith("--listen=")]
    assert listen == f"--listen={pod['dnsConfig']['nameservers'][0]}:{port}"
