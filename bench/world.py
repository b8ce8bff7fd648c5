"""The world that is measured: ServiceImports and their EndpointSlices, also as manifests.

Pure but for the two functions that write files. Everything follows from the number of services and
a seed, so two runs with equal arguments measure the same world.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ZONE = "clusterset.local"
CLUSTERS = ("eu", "us")
ENDPOINTS_PER_SLICE = 5
NAMESPACES = 200
HEADLESS_SHARE = 0.3
PORT_NAME = "http"
PORT = 8080
TTL = 5
CREATED = "2026-01-01T00:00:00Z"
SET_BY_SERVER = ("uid", "resourceVersion", "creationTimestamp")


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One ready endpoint of an EndpointSlice."""

    hostname: str
    address: str


class Service(msgspec.Struct, frozen=True):
    """One imported service; `endpoints` are by cluster, and `ip` is empty when it is headless."""

    number: int
    namespace: str
    name: str
    ip: str
    endpoints: dict[str, tuple[Endpoint, ...]]

    @property
    def headless(self) -> bool:
        """Whether clients get the endpoints' own addresses."""
        return not self.ip

    @property
    def owner(self) -> str:
        """The service's domain name, without a final dot."""
        return f"{self.name}.{self.namespace}.svc.{ZONE}"

    @property
    def hosts(self) -> Iterator[tuple[str, str]]:
        """Name and address of every endpoint, as a headless service publishes them."""
        for cluster, endpoints in self.endpoints.items():
            for endpoint in endpoints:
                yield f"{endpoint.hostname}.{cluster}.{self.owner}", endpoint.address


class World(msgspec.Struct, frozen=True):
    """All services of one clusterset."""

    services: tuple[Service, ...]

    @property
    def namespaces(self) -> list[str]:
        """The names of the namespaces that hold a service."""
        return sorted({service.namespace for service in self.services})

    def facts(self) -> dict[str, int]:
        """Return the counts that a report shows."""
        endpoints = sum(len(group) for one in self.services for group in one.endpoints.values())
        return {
            "namespaces": len(self.namespaces),
            "services": len(self.services),
            "headless": sum(service.headless for service in self.services),
            "endpoint_slices": len(CLUSTERS) * len(self.services),
            "endpoints": endpoints,
        }


def build_world(services: int, seed: int) -> World:
    """Return a world of so many services, three of ten headless, spread over the namespaces."""
    headless = set(random.Random(seed).sample(range(services), round(services * HEADLESS_SHARE)))
    return World(tuple(_service(number, headless=number in headless) for number in range(services)))


def write_manifests(world: World, folder: Path) -> None:
    """Write one JSON file for each namespace, a `List` of its ServiceImports and EndpointSlices."""
    folder.mkdir(parents=True, exist_ok=True)
    by_namespace: dict[str, list[dict[str, Any]]] = {}
    for service in world.services:
        by_namespace.setdefault(service.namespace, []).extend(manifests_of(service))
    for namespace, manifests in by_namespace.items():
        document = {"apiVersion": "v1", "kind": "List", "items": manifests}
        (folder / f"{namespace}.json").write_bytes(msgspec.json.encode(document))


def write_single_manifests(world: World, folder: Path, count: int) -> None:
    """Write the first `count` objects of the world as YAML, one a file, as people keep them."""
    folder.mkdir(parents=True, exist_ok=True)
    manifests = [manifest for service in world.services for manifest in manifests_of(service)]
    for manifest in manifests[:count]:
        name = f"{manifest['kind']}-{manifest['metadata']['name']}.yaml".lower()
        (folder / name).write_text("\n".join(_yaml_lines(manifest, 0)) + "\n")


def manifests_of(service: Service) -> Iterator[dict[str, Any]]:
    """Yield the ServiceImport of a service, then its EndpointSlices."""
    yield _service_import(service)
    for cluster, endpoints in service.endpoints.items():
        yield _endpoint_slice(service, cluster, endpoints)


def namespace_objects(names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the Namespaces of these names, which every real cluster has."""
    for name in names:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def api_objects(world: World) -> Iterator[dict[str, Any]]:
    """Yield the objects of the manifests as they are given to an API server."""
    for service in world.services:
        for manifest in manifests_of(service):
            yield as_created(manifest)


def as_created(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return an object without the metadata that an API server sets by itself."""
    metadata = {
        key: value for key, value in manifest["metadata"].items() if key not in SET_BY_SERVER
    }
    return {**manifest, "metadata": metadata}


def ordinary_slices(count: int, endpoints: int) -> Iterator[dict[str, Any]]:
    """Yield EndpointSlices as a cluster has them for its own Services, without labels of MCS."""
    for number in range(count):
        name = f"own-{number:05d}"
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": f"ns-{number % NAMESPACES:03d}",
                "name": f"{name}-x7f2q",
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
            },
            "addressType": "IPv4",
            "ports": [{"name": PORT_NAME, "protocol": "TCP", "port": PORT}],
            "endpoints": [
                {
                    "addresses": [_address(10, 0, number * endpoints + place)],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "nodeName": f"node-{place}",
                    "targetRef": {"kind": "Pod", "name": f"{name}-{place}"},
                }
                for place in range(endpoints)
            ],
        }


def _service(number: int, *, headless: bool) -> Service:
    name = f"svc-{number:05d}"
    return Service(
        number=number,
        namespace=f"ns-{number % NAMESPACES:03d}",
        name=name,
        ip="" if headless else _address(172, 16, number),
        endpoints={
            cluster: tuple(
                _endpoint(name, host, (number * len(CLUSTERS) + place) * ENDPOINTS_PER_SLICE + host)
                for host in range(ENDPOINTS_PER_SLICE)
            )
            for place, cluster in enumerate(CLUSTERS)
        },
    )


def _endpoint(service: str, host: int, number: int) -> Endpoint:
    return Endpoint(f"{service}-{host}", _address(10, 0, number))


def _address(first: int, second: int, number: int) -> str:
    """Return the address `number` places after the start of a private network."""
    offset = number + 1
    return f"{first}.{second + (offset >> 16)}.{offset >> 8 & 255}.{offset & 255}"


def _service_import(service: Service) -> dict[str, Any]:
    return {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceImport",
        "metadata": _metadata(service, service.name, 0),
        "spec": {
            "type": "Headless" if service.headless else "ClusterSetIP",
            **({} if service.headless else {"ips": [service.ip]}),
            "ports": [{"name": PORT_NAME, "protocol": "TCP", "port": PORT}],
        },
        "status": {"clusters": [{"cluster": cluster} for cluster in service.endpoints]},
    }


def _endpoint_slice(
    service: Service, cluster: str, endpoints: tuple[Endpoint, ...]
) -> dict[str, Any]:
    labels = {
        "multicluster.kubernetes.io/service-name": service.name,
        "multicluster.kubernetes.io/source-cluster": cluster,
    }
    number = 1 + CLUSTERS.index(cluster)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**_metadata(service, f"{service.name}-{cluster}", number), "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": PORT_NAME, "protocol": "TCP", "port": PORT}],
        "endpoints": [
            {
                "addresses": [endpoint.address],
                "hostname": endpoint.hostname,
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "zone": f"{cluster}-a",
                "nodeName": f"{cluster}-node-{place}",
            }
            for place, endpoint in enumerate(endpoints)
        ],
    }


def _metadata(service: Service, name: str, part: int) -> dict[str, Any]:
    number = service.number * (1 + len(CLUSTERS)) + part
    return {
        "namespace": service.namespace,
        "name": name,
        "uid": f"00000000-0000-4000-8000-{number:012x}",
        "resourceVersion": str(number + 1),
        "creationTimestamp": CREATED,
    }


def _yaml_lines(value: dict[str, Any] | list[Any], indent: int) -> Iterator[str]:
    """Yield a manifest in block style; scalars are written as JSON, which YAML reads alike."""
    pad = " " * indent
    pairs = value.items() if isinstance(value, dict) else ((None, inner) for inner in value)
    for key, inner in pairs:
        head = f"{pad}-" if key is None else f"{pad}{key}:"
        if isinstance(inner, dict | list):
            yield head
            yield from _yaml_lines(inner, indent + 2)
        else:
            yield f"{head} {msgspec.json.encode(inner).decode()}"
