"""Small worlds for tests: objects as Kubernetes has them, and a handler over them."""

from collections.abc import Iterable
from typing import Any

from mcsdns.config import Settings
from mcsdns.objects.decode import decode
from mcsdns.objects.events import Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object
from mcsdns.server.handler import Handler
from mcsdns.server.packet_cache import PacketCache
from mcsdns.server.zone_state import ZoneState

ZONE = "clusterset.local"


def service_import(
    name: str,
    namespace: str = "shop",
    ips: Iterable[str] = (),
    ports: Iterable[tuple[str, int]] = (),
    **metadata: Any,
) -> Object:
    """A ClusterSetIP import where it has `ips`, else a headless one."""
    addresses = list(ips)
    plain = {
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {
            "type": "ClusterSetIP" if addresses else "Headless",
            "ips": addresses,
            "ports": [{"name": port, "port": number} for port, number in ports],
        },
    }
    return _decoded(Kind.SERVICE_IMPORT, plain)


def endpoint_slice(
    service: str,
    cluster: str,
    addresses: Iterable[str],
    namespace: str = "shop",
    hostnames: bool = True,
    ready: bool = True,
    ports: Iterable[tuple[str, int]] = (("http", 80),),
    name: str = "",
) -> Object:
    """A slice with one endpoint for each address, hosts numbered from 0."""
    texts = list(addresses)
    plain = {
        "metadata": {
            "name": name or f"{service}-{cluster}",
            "namespace": namespace,
            "labels": {
                "multicluster.kubernetes.io/service-name": service,
                "multicluster.kubernetes.io/source-cluster": cluster,
            },
        },
        "addressType": "IPv6" if texts and ":" in texts[0] else "IPv4",
        "endpoints": [
            {
                "addresses": [text],
                "conditions": {"ready": ready},
                **({"hostname": f"{service}-{number}"} if hostnames else {}),
            }
            for number, text in enumerate(texts)
        ],
        "ports": [{"name": port, "port": number} for port, number in ports],
    }
    return _decoded(Kind.ENDPOINT_SLICE, plain)


def world_of(objects: Iterable[Object], **settings: Any) -> ZoneState:
    """A synced world that holds these objects."""
    made = Settings(**settings)
    world = ZoneState(made.zone_settings(), made.namespace)
    for kind in Kind:
        world.publisher.apply(Init(kind))
    for each in objects:
        world.publisher.apply(InitApply(each))
    for kind in Kind:
        world.publisher.apply(InitDone(kind))
    world.publish_all(1_700_000_000)
    return world


def handler_of(world: ZoneState, *, tcp: bool = False, max_bytes: int = 1 << 24) -> Handler:
    """A handler with nothing in its cache."""
    return Handler(world.authority, PacketCache(max_bytes), tcp=tcp, clock=lambda: 0.0)


def _decoded(kind: Kind, plain: dict[str, Any]) -> Object:
    decoded = decode(kind, plain)
    assert decoded.object is not None
    assert not decoded.problems
    return decoded.object
