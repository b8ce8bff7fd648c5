"""Services as an implementation of the MCS API exports them, and what each has to be answered with.

The answers are written beside the objects, not read out of them: nobody else's reading decides.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.apiserver.process import ApiServer

GROUP = "multicluster.x-k8s.io"
BETA, ALPHA = f"{GROUP}/v1beta1", f"{GROUP}/v1alpha1"
ZONE = "clusterset.local"
CLUSTERS = ("east", "west")

Object = Mapping[str, Any]
Question = tuple[str, str]
Heard = tuple[str, frozenset[str]]
"""An rcode and the data of the answer."""


def web(
    name: str, *ips: str, namespace: str = "shop", version: str = BETA, **labels: str
) -> Object:
    """The import of a ClusterSetIP service."""
    return _imported(name, namespace, version, labels, type="ClusterSetIP", ips=list(ips))


def db(name: str, *, namespace: str = "shop", version: str = BETA) -> Object:
    """The import of a headless service; its addresses are in slices."""
    return _imported(name, namespace, version, {}, type="Headless")


def _imported(
    name: str, namespace: str, version: str, labels: Mapping[str, str], **spec: Any
) -> Object:
    return {
        "apiVersion": version,
        "kind": "ServiceImport",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {**spec, "ports": [{"name": "main", "protocol": "TCP", "port": 80}]},
    }


def slice_of(service: str, cluster: str, *addresses: str, namespace: str = "shop") -> Object:
    """The endpoints of a service in one cluster, with the host names `host-0` and so on."""
    labels = {
        "multicluster.kubernetes.io/service-name": service,
        "multicluster.kubernetes.io/source-cluster": cluster,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-{cluster}", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "hostname": f"host-{number}"}
            for number, address in enumerate(addresses)
        ],
        "ports": [{"name": "main", "protocol": "TCP", "port": 80}],
    }


@dataclass(frozen=True)
class Service:
    """Objects, and what they are answered with."""

    objects: tuple[Object, ...]
    answers: Mapping[Question, Heard]

    @property
    def imported(self) -> Object:
        return self.objects[0]

    def as_version(self, version: str) -> "Service":
        """The same service; its import is written under another API version."""
        return Service(({**self.imported, "apiVersion": version}, *self.objects[1:]), self.answers)


def question(name: str, qtype: str = "A") -> Question:
    """A question about a name below `svc` of our zone."""
    return f"{name}.svc.{ZONE}.", qtype


def fleet(count: int, namespace: str = "shop") -> list[Service]:
    """So many services, ClusterSetIP and headless in turn, each with addresses of its own."""
    kinds: tuple[Callable[[int, str], Service], ...] = (_web, _db)
    return [kinds[number % 2](number, namespace) for number in range(count)]


def _web(number: int, namespace: str) -> Service:
    name, ip = f"web-{number}", f"10.96.0.{number}"
    target = f"0 100 80 {question(f'{name}.{namespace}')[0]}"
    answers = {
        question(f"{name}.{namespace}"): heard(ip),
        question(f"{name}.{namespace}", "SRV"): heard(target),
        question(f"_main._tcp.{name}.{namespace}", "SRV"): heard(target),
    }
    return Service((web(name, ip, namespace=namespace),), answers)


def _db(number: int, namespace: str) -> Service:
    name = f"db-{number}"
    of = {cluster: f"10.{at}.0.{number}" for at, cluster in enumerate(CLUSTERS)}
    slices = [slice_of(name, cluster, ip, namespace=namespace) for cluster, ip in of.items()]
    answers = {question(f"{name}.{namespace}"): heard(*of.values())}
    answers |= {
        question(f"host-0.{cluster}.{name}.{namespace}"): heard(ip) for cluster, ip in of.items()
    }
    return Service((db(name, namespace=namespace), *slices), answers)


def heard(*data: str, rcode: str = "NOERROR") -> Heard:
    return rcode, frozenset(data)


def objects_of(services: Iterable[Service]) -> Iterator[Object]:
    for service in services:
        yield from service.objects


def answers_of(services: Iterable[Service]) -> dict[Question, Heard]:
    return {asked: said for service in services for asked, said in service.answers.items()}


def export(apiserver: ApiServer, services: list[Service]) -> list[Service]:
    """Create all objects of services; return these."""
    apiserver.create_many(objects_of(services))
    return services
