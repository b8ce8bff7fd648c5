"""Names near to one that is missing below a service that exists: ports, hosts, clusters."""

import heapq
import itertools
from collections.abc import Iterator
from typing import Final

from mcsdns.diagnostics.explain.near_names import Candidate, letters_text, name_below
from mcsdns.diagnostics.explain.spelling import letters_off, nearest
from mcsdns.diagnostics.explain.walk import Asked, Served, key_of
from mcsdns.diagnostics.explain.words import label_text
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.objects.model import EndpointSlice
from mcsdns.zone.name_shape import ServiceName
from mcsdns.zone.records import ServiceNode, host_label, why_not_counted

_MOST_NAMES_READ: Final = 20_000
_MOST_HOSTS: Final = 3
_ADDRESS_LABELS: Final = 4

Hosts = dict[str, set[str]]
"""Host labels by cluster ID, of the endpoints that count."""

Near = Iterator[tuple[tuple[str, ...], str]]
"""Labels below the service, and how they differ from those asked for."""


def near_endpoints(served: Served, asked: Asked) -> Iterator[Candidate]:
    """Iterate over names of the service that are near to one it does not have."""
    shape, zone = asked.shape, asked.zone
    if not isinstance(shape, ServiceName) or not shape.below or zone is None:
        return
    node = served.tree.service(shape.service)
    service = served.store.get(key_of(shape))
    if node is None or service is None or not node.names:
        return
    labels = [label_text(label) for label in names.labels_of(shape.below)]
    above = (*names.labels_of(shape.service), b"svc")
    for below, why in itertools.chain(
        _ports(node, labels), _hosts(node, service.slices, labels), _service(node, labels)
    ):
        name = name_below(zone.apex, *(label.encode("ascii") for label in below), *above)
        if name is not None:
            yield Candidate((name,), why)


def _ports(node: ServiceNode, labels: list[str]) -> Near:
    """Named ports of the service, if the name looks like one: those spelt most alike first."""
    owners = (owner for owner, records in node.names.items() if owner and records.srv)
    ports = [tuple(map(label_text, names.labels_of(owner))) for owner in owners]
    underscored = tuple("_" + label.removeprefix("_") for label in labels)
    if underscored in ports:
        yield underscored, "port and protocol begin with `_`"
    if labels[0].startswith("_"):
        asked = ".".join(labels)
        for port in sorted(ports, key=lambda port: (letters_off(asked, ".".join(port)), port)):
            yield port, "a named port of the service"


def _service(node: ServiceNode, labels: list[str]) -> Near:
    if not labels[0].startswith("_"):
        yield (), "the endpoints of every cluster" if node.headless else "the service itself"


def _hosts(node: ServiceNode, slices: tuple[EndpointSlice, ...], labels: list[str]) -> Near:
    """Endpoints of a headless service."""
    if not node.headless or labels[0].startswith("_"):
        return
    hosts: Hosts = {}
    for owner in itertools.islice(node.names, _MOST_NAMES_READ):
        if owner and (node.names[owner].a or node.names[owner].aaaa):
            host, *cluster = map(label_text, names.labels_of(owner))
            hosts.setdefault(".".join(cluster), set()).add(host)
    whole = ".".join(labels)
    if whole in hosts or len(labels) == 1:
        yield from _hosts_of(hosts, whole)
        yield from _host_or_cluster(hosts, whole)
        return
    if not _is_there(slices, labels):
        yield from _by_address(slices, {labels[0], "-".join(labels[:_ADDRESS_LABELS])})
        yield from _host_in_cluster(hosts, labels)
    yield from _hosts_of(hosts, ".".join(labels[1:]))


def _is_there(slices: tuple[EndpointSlice, ...], labels: list[str]) -> bool:
    """Say whether there is an endpoint of that very name, which does not count."""
    host, cluster = labels[0], ".".join(labels[1:])
    return any(
        host_label(endpoint, packed) == host
        for piece in slices
        if piece.cluster == cluster
        for endpoint in piece.endpoints
        for packed in endpoint.addresses
    )


def _host_or_cluster(hosts: Hosts, label: str) -> Near:
    """One label: a host without its cluster, or a cluster without a host."""
    for cluster in sorted(hosts):
        if label in hosts[cluster]:
            yield (label, *cluster.split(".")), f"host {label} of cluster {cluster}"
    if label in hosts or any(label in each for each in hosts.values()):
        return
    for off, cluster in nearest(label, hosts):
        for host in heapq.nsmallest(_MOST_HOSTS, hosts[cluster]):
            why = f"a ready endpoint of cluster {cluster}, {letters_text(off)}"
            yield (host, *cluster.split(".")), why
    for cluster in sorted(hosts):
        for off, host in nearest(label, hosts[cluster], 1):
            why = f"a host of cluster {cluster}, {letters_text(off)}"
            yield (host, *cluster.split(".")), why


def _host_in_cluster(hosts: Hosts, labels: list[str]) -> Near:
    host, cluster = labels[0], ".".join(labels[1:])
    if labels[-1] in hosts.get(".".join(labels[:-1]), ()):
        yield (labels[-1], *labels[:-1]), "host and cluster have changed places"
    for off, known in nearest(cluster, (each for each in hosts if host in hosts[each])):
        yield (host, *known.split(".")), f"the cluster is {letters_text(off)}"
    for off, known in nearest(host, hosts.get(cluster, ())):
        yield (known, *labels[1:]), f"the host name is {letters_text(off)}"
    for known in sorted(each for each in hosts if host in hosts[each]):
        yield (host, *known.split(".")), f"host {host} is in cluster {known}"
    for _, known in nearest(cluster, hosts if cluster not in hosts else ()):
        for _, near_host in nearest(host, hosts[known], 1) if host not in hosts[known] else ():
            yield (near_host, *known.split(".")), "host name and cluster are spelt nearly so"
    for cut in range(1, len(labels) - 1):
        if labels[cut] in hosts.get(".".join(labels[cut + 1 :]), ()):
            yield tuple(labels[cut:]), "what stands before <host>.<cluster> is too much"
    dashed, rest = "-".join(labels[:_ADDRESS_LABELS]), labels[_ADDRESS_LABELS:]
    if dashed in hosts.get(".".join(rest), ()):
        yield (dashed, *rest), "the address is one label, with hyphens for dots"


def _by_address(slices: tuple[EndpointSlice, ...], labels: set[str]) -> Near:
    """An endpoint that has a host name is asked for by its address."""
    for piece in slices:
        for endpoint in piece.endpoints:
            for packed in endpoint.addresses if not why_not_counted(endpoint) else ():
                if endpoint.hostname and ip.to_label(packed) in labels:
                    why = "an endpoint with a host name is not named by its address"
                    yield (host_label(endpoint, packed), *piece.cluster.split(".")), why


def _hosts_of(hosts: Hosts, cluster: str) -> Near:
    for host in heapq.nsmallest(_MOST_HOSTS, hosts.get(cluster, ())):
        yield (host, *cluster.split(".")), f"a ready endpoint of cluster {cluster}"
