"""The health of one service, from its objects and its names in the zone.

`check`, `explain` and the status page take from here whether a service has an address, what each
cluster has of it, and what is wrong with it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.present import counted, listed
from mcsdns.objects import conditions
from mcsdns.objects.model import EndpointSlice
from mcsdns.objects.store import Service
from mcsdns.zone.records import NameRecords, ServiceNode, why_not_counted

MANY_RECORDS: Final = 100
"""From here on a word about them is due: BIND, as it comes, takes no more of one name and type."""
FEWER_RECORDS: Final = (
    "--max-records 100 shows some of the endpoints, others every TTL; or raise their limits "
    "(`mcsdns stub bind`, `mcsdns stub powerdns`)"
)
_MOST_TEXT: Final = 300
_MOST_SLICES: Final = 3


class ClusterEndpoints(msgspec.Struct, frozen=True):
    """What one cluster has of a service, malformed slices left out.

    Attributes:
        in_status: whether the ServiceImport's status names the cluster.
        ready: endpoints that are ready and have an address, whether or not they are served.
    """

    id: str
    in_status: bool
    slices: int
    endpoints: int
    ready: int


class EndpointCounter:
    """Counts the endpoints of a service by cluster, one slice after the other.

    A service may have many slices; the status page shares the event loop between two of them.
    """

    def __init__(self, status_clusters: Iterable[str]) -> None:
        """Begin with the clusters that the ServiceImport's status names."""
        self._in_status = frozenset(status_clusters)
        self._counts = {cluster: [0, 0, 0] for cluster in self._in_status}

    def add(self, piece: EndpointSlice) -> None:
        """Count a slice; a malformed one does not count."""
        if piece.malformed:
            return
        count = self._counts.setdefault(piece.cluster, [0, 0, 0])
        count[0] += 1
        count[1] += len(piece.endpoints)
        count[2] += sum(not why_not_counted(each) for each in piece.endpoints)

    def clusters(self) -> list[ClusterEndpoints]:
        """Return what was counted, by cluster ID."""
        return [
            ClusterEndpoints(each, each in self._in_status, *self._counts[each])
            for each in sorted(self._counts)
        ]


def own_addresses(node: ServiceNode | None) -> NameRecords | None:
    """Return the records of the service's own name, None where it has no address.

    `node` is the service in the zone.
    """
    own = node.names.get(b"") if node else None
    return own if own and (own.a or own.aaaa) else None


def about_size(records: int, max_records: int) -> str:
    """Return what becomes of so many records of one type on their way; empty where nothing does."""
    if records < MANY_RECORDS:
        return ""
    text = f"{records} records of one type"
    if 0 < max_records <= MANY_RECORDS:
        return f"{text}: {min(max_records, records)} of them are shown, others every TTL"
    return (
        f"{text}: behind BIND more than 100 are SERVFAIL (max-records-per-type), behind PowerDNS "
        "Recursor more than 256 (max-rrset-size)"
    )


def clusters_without_slice(service: Service) -> list[str]:
    """Return which clusters export the service by its status, but have no slice here."""
    there = {piece.cluster for piece in service.slices}
    return [cluster for cluster in service.imported.clusters if cluster not in there]


def troubles_of(service: Service, node: ServiceNode | None) -> Iterator[str]:
    """Yield what keeps a service, or a part of it, from being answered as its objects mean it.

    Each is a sentence for people. `node` is the service in the zone. No endpoint is looked at, so
    that the question is cheap enough for all services.
    """
    if own_addresses(node) is None:
        yield _about_unresolved(node)
    for condition in service.imported.conditions:
        if conditions.is_bad(condition):
            yield cut(conditions.to_text(condition))
    yield from _about_malformed(service.slices)
    if node and node.headless:
        if missing := clusters_without_slice(service):
            yield cut(f"no EndpointSlice of {listed(missing)}, though its status names it")
        yield from _about_ports(service.slices)
    if node and node.long_names:
        yield f"{counted(node.long_names, 'name')} over 255 octets, not served"


def cut(text: str, most: int = _MOST_TEXT) -> str:
    """Shorten other people's text: it may be as long as an object."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _about_unresolved(node: ServiceNode | None) -> str:
    if node is None:
        return "not published yet"
    if node.headless:
        return "no ready endpoint, so the name does not exist"
    if node.addresses_from_slices:
        return "no address: spec.ips has none, and no endpoint of its slices is ready"
    return "no address: spec.ips has none"


def _about_malformed(slices: tuple[EndpointSlice, ...]) -> Iterator[str]:
    malformed = [piece for piece in slices if piece.malformed]
    for piece in malformed[:_MOST_SLICES]:
        yield cut(f"EndpointSlice {piece.name} is not served: {piece.malformed}")
    if len(malformed) > _MOST_SLICES:
        yield f"{counted(len(malformed) - _MOST_SLICES, 'more slice')} not served"


def _about_ports(slices: Iterable[EndpointSlice]) -> Iterator[str]:
    """Ports that clusters disagree on: a client of SRV has to take each as it comes."""
    found: dict[str, dict[str, str]] = {}
    for piece in slices:
        for port in piece.ports:
            text = f"{port.number}/{port.protocol}"
            found.setdefault(port.name, {}).setdefault(text, piece.cluster)
    for name, texts in found.items():
        if name and len(texts) > 1:
            where = [f"{text} in {cluster}" for text, cluster in texts.items()]
            yield cut(f"port {name} is {listed(where)}")
