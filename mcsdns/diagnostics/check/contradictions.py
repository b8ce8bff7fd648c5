"""Objects that contradict each other: slices about endpoints, ports about numbers.

Only what no implementation means to write counts: slices of one service may well repeat an
endpoint, and ports of a headless service may well differ from those of its import.
"""

from collections.abc import Iterable, Iterator

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, warning
from mcsdns.diagnostics.explain.present import listed
from mcsdns.dns import ip
from mcsdns.objects.model import EndpointSlice, Port, ServiceImport
from mcsdns.objects.store import Service, Store
from mcsdns.zone.records import why_not_counted

_DIFFER = (
    "have the controller that writes the slices put right; the newer slice is the likelier one"
)


def check_contradictions(store: Store) -> Outcome:
    """Look at every imported service."""
    findings: list[Finding] = []
    for key in sorted(store.keys()):
        service = store.get(key)
        if service is not None:
            pieces = [piece for piece in service.slices if not piece.malformed]
            findings += _ports_of_import(service.imported)
            findings += _ports_of_slices(service, pieces)
            findings += _shared_addresses(pieces)
            findings += _readiness(pieces)
            findings += _shared_hosts(pieces)
    return Outcome(tuple(findings))


def _ports_of_import(imported: ServiceImport) -> Iterator[Finding]:
    for (name, protocol), numbers in _numbers(imported.ports).items():
        if len(numbers) > 1:
            yield error(
                Reason.PORTS_CONFLICT,
                f"port {name}/{protocol} is {listed(sorted(map(str, numbers)))} at once: SRV "
                "answers all of them",
                f"$.spec.ports of ServiceImport {imported.namespace}/{imported.name}",
                "give each port a name of its own in the exported Services; where clusters export "
                "it differently, the ServiceExport has a Conflict condition",
            )


def _ports_of_slices(service: Service, pieces: Iterable[EndpointSlice]) -> Iterator[Finding]:
    """Clusters that serve a named port on different numbers: who asks for addresses only fails."""
    if service.imported.ips:
        return
    found: dict[tuple[str, str], dict[str, set[int]]] = {}
    for piece in pieces:
        for port, numbers in _numbers(piece.ports).items():
            found.setdefault(port, {}).setdefault(piece.cluster, set()).update(numbers)
    for (name, protocol), by_cluster in found.items():
        if len(set[int]().union(*by_cluster.values())) > 1 and len(by_cluster) > 1:
            said = [
                f"{', '.join(map(str, sorted(numbers)))} in {cluster}"
                for cluster, numbers in sorted(by_cluster.items())
            ]
            yield warning(
                Reason.PORTS_CONFLICT,
                f"port {name}/{protocol} of {_service_of(service)} is {listed(said)}: clients that "
                "ask for addresses and not for SRV reach some clusters only",
                f"EndpointSlices of {_service_of(service)}",
                "give the port one number in all exporting clusters, or have clients ask for SRV",
            )


def _numbers(ports: Iterable[Port]) -> dict[tuple[str, str], set[int]]:
    found: dict[tuple[str, str], set[int]] = {}
    for port in ports:
        if port.name and port.number is not None:
            found.setdefault((port.name, port.protocol), set()).add(port.number)
    return found


def _shared_addresses(pieces: Iterable[EndpointSlice]) -> Iterator[Finding]:
    """One address in two clusters: pod networks that overlap reach one of the two."""
    owners: dict[bytes, dict[str, EndpointSlice]] = {}
    for piece in pieces:
        for endpoint in piece.endpoints:
            for address in endpoint.addresses:
                owners.setdefault(address, {}).setdefault(piece.cluster, piece)
    shared: dict[tuple[str, ...], list[bytes]] = {}
    for address, by_cluster in owners.items():
        if len(by_cluster) > 1:
            shared.setdefault(tuple(sorted(by_cluster)), []).append(address)
    for clusters, found in shared.items():
        texts = sorted(map(ip.to_text, found))
        yield warning(
            Reason.SLICES_DISAGREE,
            f"{listed(clusters)} have the same endpoint, {listed(texts)}: only one of them can be "
            "reached there",
            _where(list(owners[found[0]].values())),
            "see which cluster it is of; where pod networks overlap, give the clusters networks of "
            "their own or what translates them (Globalnet)",
        )


def _readiness(pieces: Iterable[EndpointSlice]) -> Iterator[Finding]:
    """One endpoint that is ready by one slice and not by another of the same cluster."""
    said: dict[tuple[str, bytes], dict[bool, EndpointSlice]] = {}
    for piece in pieces:
        for endpoint in piece.endpoints:
            for address in endpoint.addresses:
                said.setdefault((piece.cluster, address), {})[endpoint.ready] = piece
    for (cluster, address), by_ready in said.items():
        if len(by_ready) > 1 and by_ready[True] is not by_ready[False]:
            yield warning(
                Reason.SLICES_DISAGREE,
                f"endpoint {ip.to_text(address)} of {cluster} is ready in one slice and not "
                "ready in another: it is answered",
                _where([by_ready[True], by_ready[False]]),
                _DIFFER,
            )


def _shared_hosts(pieces: Iterable[EndpointSlice]) -> Iterator[Finding]:
    """One host name of a cluster that stands for different addresses in two slices."""
    hosts: dict[tuple[str, str, str], dict[str, set[bytes]]] = {}
    by_name = {piece.name: piece for piece in pieces}
    for piece in by_name.values():
        for endpoint in piece.endpoints:
            if endpoint.hostname and not why_not_counted(endpoint):
                key = piece.cluster, endpoint.hostname, piece.address_type
                hosts.setdefault(key, {}).setdefault(piece.name, set()).update(endpoint.addresses)
    for (cluster, host, _), by_slice in hosts.items():
        if len(set(map(frozenset, by_slice.values()))) > 1:
            found = sorted(map(ip.to_text, set[bytes]().union(*by_slice.values())))
            yield warning(
                Reason.SLICES_DISAGREE,
                f"host {host} of {cluster} is {listed(found)}: its name answers all of them",
                _where([by_name[name] for name in by_slice]),
                _DIFFER,
            )


def _service_of(service: Service) -> str:
    return f"{service.imported.namespace}/{service.imported.name}"


def _where(pieces: Iterable[EndpointSlice]) -> str:
    said = [
        f"{each.origin}: EndpointSlice {each.namespace}/{each.name}"
        if each.origin
        else f"EndpointSlice {each.namespace}/{each.name}"
        for each in pieces
    ]
    return listed(said)
