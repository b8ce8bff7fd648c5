"""The objects: what cannot be read, does not resolve, leads nowhere, or contradicts another.

Whether a service resolves, and why not, is the verdict of `explain` on its name. A contradiction is
only what no implementation means to write: slices of one service may well repeat an endpoint, and
ports of a headless service may well differ from those of its import.
"""

from collections.abc import Iterable
from typing import Final

from mcsdns.diagnostics.check.finding import Finding, Reason, Report, Severity
from mcsdns.diagnostics.explain.explain import judge
from mcsdns.diagnostics.explain.model import VerdictReason
from mcsdns.diagnostics.explain.present import counted, listed, shown
from mcsdns.diagnostics.explain.walk import walk
from mcsdns.diagnostics.service_health import (
    FEWER_RECORDS,
    MANY_RECORDS,
    about_size,
    clusters_without_slice,
    own_addresses,
)
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.types import RRType
from mcsdns.objects import conditions
from mcsdns.objects.model import EndpointSlice, ImportType, Kind, Port, ServiceImport
from mcsdns.objects.store import Service, ServiceKey
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.manifests.documents import Located
from mcsdns.zone.records import why_not_counted
from mcsdns.zone.tree import labels_of_key

_LIGHT: Final = {"bad_hostname", "bad_port", "repeated_key"}
"""Problems that cost a name or a record, and leave the rest of the object as it is."""
_MENDS: Final = {
    "bad_object": "correct the field, or have the controller that wrote it corrected",
    "bad_address": "correct the address, or have the controller that wrote it corrected",
    "bad_hostname": "use lower-case letters, digits and hyphens, at most 63",
    "bad_port": "correct the port in the exported Service",
    "repeated_key": "keep one of the two",
    "unknown_version": "write the apiVersion that the text names",
    "duplicate": "keep one of the two",
}
_OTHERWISE: Final = "correct the document, or take it away"
_REASONS: Final = {
    VerdictReason.NO_READY_ENDPOINT: Reason.NO_READY_ENDPOINT,
    VerdictReason.SLICES_WITHOUT_IMPORT: Reason.SLICES_WITHOUT_IMPORT,
}
_SLICES: Final = "kubectl -n {} get endpointslices -l multicluster.kubernetes.io/service-name={}"
_EXPORT: Final = "kubectl -n {} get serviceexport,pods"
_DIFFER = (
    "have the controller that writes the slices put right; the newer slice is the likelier one"
)


def check_objects(report: Report, state: ZoneState, *, all_imports: bool = True) -> None:
    """Look at every object; where only some imports were read, slices may well be without one."""
    for each in state.problems:
        _check_problem(report, each)
    for key in sorted(state.store.imports):
        service = state.store.get(key)
        if service is not None:
            _check_service(report, state, key, service)
            _check_contradictions(report, service)
    if all_imports:
        _check_orphans(report, state)
    report.checked.append(counted(len(state.tree.services), "service"))


def _check_problem(report: Report, located: Located) -> None:
    problem = located.problem
    severity = Severity.WARNING if problem.reason in _LIGHT else Severity.ERROR
    where = _from(located.origin, f"{problem.path} of {problem.subject}")
    what, mend = problem.text, _MENDS.get(problem.reason, _OTHERWISE)
    if problem.reason == "malformed_slice":  # whose text ends with what to do
        what, _, mend = what.rpartition("; ")
    report.add(Finding(severity, Reason.BAD_OBJECT, f"{problem.subject}: {what}", where, mend))


def _check_service(report: Report, state: ZoneState, key: ServiceKey, service: Service) -> None:
    node, imported = state.tree.services.get(labels_of_key(key)), service.imported
    name, where = f"{key[0]}/{key[1]}", _where(imported)
    own = own_addresses(node)
    if node is None or own is None:
        _report_unresolved(report, state, key, service)
        return
    records, most = max(map(len, (own.a, own.aaaa, own.srv))), state.tree.settings.max_records
    if records >= MANY_RECORDS and not 0 < most <= MANY_RECORDS:
        what = f"{key[1]}.{key[0]} has {about_size(records, most)}"
        report.add(Finding(Severity.NOTE, Reason.MANY_RECORDS, what, where, FEWER_RECORDS))
    if node.headless or node.addresses_from_slices:
        if missing := set(clusters_without_slice(service)):
            report.warning(
                Reason.CLUSTER_WITHOUT_SLICE,
                f"{listed(sorted(missing))} exports {name}, as the import's status says, but has "
                "no EndpointSlice here: its endpoints are not answered",
                where,
                f"see why they do not come here: {_SLICES.format(*key)}",
            )
    else:  # it resolves whatever its slices are; without slices nothing is known
        endpoints = [each for piece in service.slices for each in piece.endpoints]
        if endpoints and all(why_not_counted(each) for each in endpoints):
            report.warning(
                Reason.NO_READY_ENDPOINT,
                f"{key[1]}.{key[0]} resolves to its clusterset IP, but of its "
                f"{counted(len(endpoints), 'endpoint')} none is ready: connections will fail",
                where,
                _mend_endpoints(key, service),
            )
    if node.long_names:
        report.warning(
            Reason.BAD_OBJECT,
            f"{counted(node.long_names, 'name')} of {name} would be over 255 octets, and are not "
            "served",
            where,
            "shorten the names of hosts, cluster, service or namespace",
        )
    for condition in filter(conditions.is_bad, imported.conditions):
        report.warning(
            Reason.CONDITION,
            f"ServiceImport {name} resolves, but its status says {conditions.to_text(condition)}",
            where,
            f"see the ServiceExport in the exporting clusters: kubectl -n {key[0]} get "
            f"serviceexport {key[1]} -o yaml",
        )


def _report_unresolved(report: Report, state: ZoneState, key: ServiceKey, service: Service) -> None:
    name = names.service_name(labels_of_key(key), state.tree.zones[0].apex)
    verdict = judge(walk(state, name, RRType.A))
    reason = _REASONS.get(verdict.reason, Reason.NO_ADDRESS)
    bad = list(map(conditions.to_text, filter(conditions.is_bad, service.imported.conditions)))
    status = f"; its status says {listed(bad)}" if bad else ""
    if verdict.reason is VerdictReason.NO_ADDRESS:  # whose summary has the conditions
        status = ""
    report.error(
        reason,
        f"{shown(name)} does not resolve ({verdict.result}): {verdict.summary}{status}",
        _where(service.imported),
        _mend_address(service) if reason is Reason.NO_ADDRESS else _mend_endpoints(key, service),
    )


def _mend_address(service: Service) -> str:
    text = (
        "spec.ips is set by your implementation of the MCS API: see its controller's log, and the "
        "conditions of the ServiceImport"
    )
    if any(not why_not_counted(each) for piece in service.slices for each in piece.endpoints):
        return (
            "its EndpointSlices have addresses: if your implementation (Lighthouse) leaves "
            f"spec.ips empty, give --clusterset-ips slices; else {text}"
        )
    return text


def _mend_endpoints(key: ServiceKey, service: Service) -> str:
    exporting = _EXPORT.format(key[0])
    if not service.slices:
        return (
            f"see in an exporting cluster whether the export is there and pods are ready: "
            f"{exporting}; then why no EndpointSlice comes here: {_SLICES.format(*key)}"
        )
    if all(piece.malformed for piece in service.slices):
        return f"put its EndpointSlices right: {_SLICES.format(*key)} -o yaml"
    clusters = listed(sorted({each.cluster for each in service.slices if each.cluster}))
    return f"see why no pod is ready in {clusters or 'the exporting cluster'}: {exporting}"


def _check_orphans(report: Report, state: ZoneState) -> None:
    """Slices that are labelled for a service without a ServiceImport."""
    orphans: dict[ServiceKey, list[EndpointSlice]] = {}
    for piece in state.store.objects(Kind.ENDPOINT_SLICE):
        assert isinstance(piece, EndpointSlice)
        key = piece.namespace, piece.service
        if key not in state.store.imports:
            orphans.setdefault(key, []).append(piece)
    for (namespace, name), pieces in sorted(orphans.items()):
        clusters = listed(sorted({each.cluster for each in pieces if each.cluster}))
        report.error(
            Reason.SLICES_WITHOUT_IMPORT,
            f"{name}.{namespace} does not resolve: {counted(len(pieces), 'EndpointSlice')} of "
            f"{clusters or 'no valid cluster'} labelled for it, but no ServiceImport",
            listed([f"EndpointSlice {each.namespace}/{each.name}" for each in pieces]),
            "see why your implementation of the MCS API makes no import: kubectl -n "
            f"{namespace} get serviceimport,serviceexport {name}; or take the label "
            "multicluster.kubernetes.io/service-name off the slices",
        )


def _where(imported: ServiceImport) -> str:
    kind = "headless" if imported.type is ImportType.HEADLESS else "ClusterSetIP"
    return _from(imported.origin, f"ServiceImport {imported.namespace}/{imported.name} ({kind})")


def _from(origin: str, what: str) -> str:
    return f"{origin}: {what}" if origin else what


def _check_contradictions(report: Report, service: Service) -> None:
    pieces = [piece for piece in service.slices if not piece.malformed]
    _check_ports_of_import(report, service.imported)
    if not service.imported.ips:
        service_name = f"{service.imported.namespace}/{service.imported.name}"
        _check_ports_of_slices(report, service_name, pieces)
    _check_shared_addresses(report, pieces)
    _check_readiness(report, pieces)
    _check_shared_hosts(report, pieces)


def _check_ports_of_import(report: Report, imported: ServiceImport) -> None:
    for (name, protocol), numbers in _numbers(imported.ports).items():
        if len(numbers) > 1:
            report.error(
                Reason.PORTS_CONFLICT,
                f"port {name}/{protocol} is {listed(sorted(map(str, numbers)))} at once: SRV "
                "answers all of them",
                f"$.spec.ports of ServiceImport {imported.namespace}/{imported.name}",
                "give each port a name of its own in the exported Services; where clusters export "
                "it differently, the ServiceExport has a Conflict condition",
            )


def _check_ports_of_slices(report: Report, service: str, pieces: Iterable[EndpointSlice]) -> None:
    """One named port with a number for each cluster: clients that ask for A alone fail."""
    found: dict[tuple[str, str], dict[str, set[int]]] = {}
    for piece in pieces:
        for port, numbers in _numbers(piece.ports).items():
            found.setdefault(port, {}).setdefault(piece.cluster, set()).update(numbers)
    for (name, protocol), by_cluster in found.items():
        if len(set[int]().union(*by_cluster.values())) > 1 and len(by_cluster) > 1:
            texts = [
                f"{', '.join(map(str, sorted(numbers)))} in {cluster}"
                for cluster, numbers in sorted(by_cluster.items())
            ]
            report.warning(
                Reason.PORTS_CONFLICT,
                f"port {name}/{protocol} of {service} is {listed(texts)}: clients "
                "that ask for addresses and not for SRV reach some clusters only",
                f"EndpointSlices of {service}",
                "give the port one number in all exporting clusters, or have clients ask for SRV",
            )


def _numbers(ports: Iterable[Port]) -> dict[tuple[str, str], set[int]]:
    found: dict[tuple[str, str], set[int]] = {}
    for port in ports:
        if port.name and port.number is not None:
            found.setdefault((port.name, port.protocol), set()).add(port.number)
    return found


def _check_shared_addresses(report: Report, pieces: Iterable[EndpointSlice]) -> None:
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
        report.warning(
            Reason.SLICES_DISAGREE,
            f"{listed(clusters)} have the same endpoint, {listed(texts)}: only one of them can be "
            "reached there",
            _names_of(list(owners[found[0]].values())),
            "see which cluster it is of; where pod networks overlap, give the clusters networks of "
            "their own or what translates them (Globalnet)",
        )


def _check_readiness(report: Report, pieces: Iterable[EndpointSlice]) -> None:
    """One endpoint that is ready by one slice and not by another of the same cluster."""
    seen: dict[tuple[str, bytes], dict[bool, EndpointSlice]] = {}
    for piece in pieces:
        for endpoint in piece.endpoints:
            for address in endpoint.addresses:
                seen.setdefault((piece.cluster, address), {})[endpoint.ready] = piece
    for (cluster, address), by_ready in seen.items():
        if len(by_ready) > 1 and by_ready[True] is not by_ready[False]:
            report.warning(
                Reason.SLICES_DISAGREE,
                f"endpoint {ip.to_text(address)} of {cluster} is ready in one slice and not "
                "ready in another: it is answered",
                _names_of([by_ready[True], by_ready[False]]),
                _DIFFER,
            )


def _check_shared_hosts(report: Report, pieces: Iterable[EndpointSlice]) -> None:
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
            report.warning(
                Reason.SLICES_DISAGREE,
                f"host {host} of {cluster} is {listed(found)}: its name answers all of them",
                _names_of([by_name[name] for name in by_slice]),
                _DIFFER,
            )


def _names_of(pieces: Iterable[EndpointSlice]) -> str:
    return listed(
        [_from(each.origin, f"EndpointSlice {each.namespace}/{each.name}") for each in pieces]
    )
