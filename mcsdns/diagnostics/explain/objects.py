"""The store's objects as facts: what counts for the answer, and why the rest does not."""

from collections.abc import Iterable

from mcsdns.diagnostics.explain import facts
from mcsdns.dns import ip
from mcsdns.objects import conditions
from mcsdns.objects.model import Endpoint, EndpointSlice, ImportType, Port, ServiceImport
from mcsdns.zone.records import ServiceNode, host_label, why_not_counted

WITHOUT_IMPORT = "there is no ServiceImport"
NOT_HEADLESS = "a ClusterSetIP service is answered from spec.ips"


FROM_SPEC = "spec.ips"
FROM_SLICES = "slices"


def addresses_from(imported: ServiceImport, node: ServiceNode | None) -> str:
    """Say what the addresses of a service are taken from; `node` is the service in the zone."""
    if imported.type is ImportType.HEADLESS or (node and node.addresses_from_slices):
        return FROM_SLICES
    return FROM_SPEC


def describe_import(imported: ServiceImport, origin_of_addresses: str) -> facts.Import:
    """Tell a ServiceImport."""
    return facts.Import(
        namespace=imported.namespace,
        name=imported.name,
        api_version=imported.api_version,
        type=imported.type.value,
        ips=tuple(map(ip.to_text, imported.ips)),
        ports=_ports(imported.ports),
        clusters=imported.clusters,
        conditions=tuple(
            facts.JudgedCondition(
                each.type, each.status, each.reason, each.message, conditions.is_bad(each)
            )
            for each in imported.conditions
        ),
        resource_version=imported.resource_version,
        uid=imported.uid,
        creation=imported.creation,
        origin=imported.origin,
        addresses_from=origin_of_addresses,
    )


def describe_slice(
    piece: EndpointSlice, imported: facts.Import | None, service: str
) -> facts.Slice:
    """Tell a slice; `service` is the absolute name of its service."""
    why_none = ""
    if imported is None:
        why_none = WITHOUT_IMPORT
    elif imported.addresses_from != FROM_SLICES:
        why_none = NOT_HEADLESS
    return facts.Slice(
        namespace=piece.namespace,
        name=piece.name,
        cluster=piece.cluster,
        address_type=piece.address_type,
        ports=_ports(piece.ports),
        resource_version=piece.resource_version,
        origin=piece.origin,
        malformed=piece.malformed,
        endpoints=tuple(
            _describe_endpoint(each, piece.cluster, why_none, service) for each in piece.endpoints
        ),
    )


def count_clusters(
    imported: facts.Import | None, pieces: Iterable[EndpointSlice]
) -> tuple[facts.Cluster, ...]:
    """Count what there is of each cluster, those of the import's status included."""
    in_status = set(imported.clusters if imported else ())
    is_counted = imported is not None and imported.addresses_from == FROM_SLICES
    counts = {cluster: [0, 0, 0] for cluster in in_status}
    for piece in pieces:
        if piece.malformed:
            continue
        count = counts.setdefault(piece.cluster, [0, 0, 0])
        count[0] += 1
        count[1] += len(piece.endpoints)
        count[2] += sum(is_counted and not why_not_counted(each) for each in piece.endpoints)
    return tuple(
        facts.Cluster(cluster, cluster in in_status, *counts[cluster]) for cluster in sorted(counts)
    )


def _describe_endpoint(
    endpoint: Endpoint, cluster: str, why_none: str, service: str
) -> facts.Endpoint:
    why_not = why_none or why_not_counted(endpoint)
    hosts = dict.fromkeys(host_label(endpoint, each) for each in endpoint.addresses)
    return facts.Endpoint(
        addresses=tuple(map(ip.to_text, endpoint.addresses)),
        hostname=endpoint.hostname,
        names=tuple(f"{host}.{cluster}.{service}" for host in hosts),
        counts=not why_not,
        why_not=why_not,
        ready=endpoint.ready,
        serving=endpoint.serving,
        terminating=endpoint.terminating,
        zone=endpoint.zone,
        node=endpoint.node,
    )


def _ports(ports: Iterable[Port]) -> tuple[facts.Port, ...]:
    return tuple(facts.Port(port.name, port.protocol, port.number) for port in ports)
