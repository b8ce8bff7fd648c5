"""Services whose names do not resolve, or lead nowhere: as `explain` judges each of them."""

from collections.abc import Iterator
from typing import Final

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, warning
from mcsdns.diagnostics.explain.model import VerdictReason
from mcsdns.diagnostics.explain.present import counted, listed, shown
from mcsdns.diagnostics.explain.verdict import judge
from mcsdns.diagnostics.explain.walk import walk
from mcsdns.diagnostics.service_health import own_addresses
from mcsdns.dns.types import RRType
from mcsdns.objects import conditions
from mcsdns.objects.model import Condition, EndpointSlice, ImportType, Kind, ServiceImport
from mcsdns.objects.store import Service, ServiceKey
from mcsdns.server.zone_state import ZoneState
from mcsdns.zone.records import why_not_counted
from mcsdns.zone.tree import labels_of_key

_REASONS: Final = {
    VerdictReason.NO_READY_ENDPOINT: Reason.NO_READY_ENDPOINT,
    VerdictReason.SLICES_WITHOUT_IMPORT: Reason.SLICES_WITHOUT_IMPORT,
}
_SLICES: Final = "kubectl -n {} get endpointslices -l multicluster.kubernetes.io/service-name={}"
_EXPORT: Final = "kubectl -n {} get serviceexport,pods"


def check_services(state: ZoneState, *, all_imports: bool = True) -> Outcome:
    """Look at every service; where only some imports were read, slices may well be without one."""
    findings = [
        finding
        for key in sorted(state.store.keys())
        if (service := state.store.get(key)) is not None
        for finding in _findings(state, key, service)
    ]
    if all_imports:
        findings += _without_import(state)
    return Outcome(tuple(findings), (counted(state.tree.service_count(), "service"),))


def _findings(state: ZoneState, key: ServiceKey, service: Service) -> Iterator[Finding]:
    node = state.tree.service(labels_of_key(key))
    if node is None or own_addresses(node) is None:
        yield _not_resolved(state, key, service)
        return
    if not node.headless and not node.addresses_from_slices:
        yield from _nobody_there(key, service)
    else:
        yield from _clusters_without_slice(key, service)
    if node.long_names:
        yield _long_names(service.imported, node.long_names)
    for condition in service.imported.conditions:
        if conditions.is_bad(condition):
            yield _condition(service.imported, condition)


def _not_resolved(state: ZoneState, key: ServiceKey, service: Service) -> Finding:
    name = labels_of_key(key) + b"\x03svc" + state.tree.zones[0].apex
    walked = walk(state, name, RRType.A)
    verdict = judge(state, walked)
    reason = _REASONS.get(verdict.reason, Reason.NO_ADDRESS)
    is_said = verdict.reason is VerdictReason.NO_ADDRESS  # whose summary has the conditions
    status = "" if is_said else _status_text(service.imported)
    return error(
        reason,
        f"{shown(name)} does not resolve ({verdict.result}): {verdict.summary}{status}",
        _where(service.imported),
        _mend_address(service) if reason is Reason.NO_ADDRESS else _mend_endpoints(key, service),
    )


def _status_text(imported: ServiceImport) -> str:
    said = [conditions.to_text(each) for each in imported.conditions if conditions.is_bad(each)]
    return f"; its status says {listed(said)}" if said else ""


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


def _nobody_there(key: ServiceKey, service: Service) -> Iterator[Finding]:
    """A ClusterSetIP resolves whatever its slices say; without slices nothing is known."""
    endpoints = [each for piece in service.slices for each in piece.endpoints]
    if endpoints and all(why_not_counted(each) for each in endpoints):
        yield warning(
            Reason.NO_READY_ENDPOINT,
            f"{key[1]}.{key[0]} resolves to its clusterset IP, but of its "
            f"{counted(len(endpoints), 'endpoint')} none is ready: connections will fail",
            _where(service.imported),
            _mend_endpoints(key, service),
        )


def _clusters_without_slice(key: ServiceKey, service: Service) -> Iterator[Finding]:
    present = {piece.cluster for piece in service.slices}
    missing = sorted(set(service.imported.clusters) - present)
    if missing:
        yield warning(
            Reason.CLUSTER_WITHOUT_SLICE,
            f"{listed(missing)} exports {key[0]}/{key[1]}, as the import's status says, but has no "
            "EndpointSlice here: its endpoints are not answered",
            _where(service.imported),
            f"see why they do not come here: {_SLICES.format(*key)}",
        )


def _long_names(imported: ServiceImport, number: int) -> Finding:
    return warning(
        Reason.BAD_OBJECT,
        f"{counted(number, 'name')} of {imported.namespace}/{imported.name} would be over 255 "
        "octets, and are not served",
        _where(imported),
        "shorten the names of hosts, cluster, service or namespace",
    )


def _condition(imported: ServiceImport, condition: Condition) -> Finding:
    return warning(
        Reason.CONDITION,
        f"ServiceImport {imported.namespace}/{imported.name} resolves, but its status says "
        f"{conditions.to_text(condition)}",
        _where(imported),
        "see the ServiceExport in the exporting clusters: kubectl -n "
        f"{imported.namespace} get serviceexport {imported.name} -o yaml",
    )


def _without_import(state: ZoneState) -> Iterator[Finding]:
    """Slices that are labelled for a service which nobody imports."""
    orphans: dict[ServiceKey, list[EndpointSlice]] = {}
    for piece in state.store.objects(Kind.ENDPOINT_SLICE):
        assert isinstance(piece, EndpointSlice)
        key = piece.namespace, piece.service
        if key not in state.store.imports:
            orphans.setdefault(key, []).append(piece)
    for (namespace, name), pieces in sorted(orphans.items()):
        clusters = listed(sorted({each.cluster for each in pieces if each.cluster}))
        yield error(
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
    where = f"ServiceImport {imported.namespace}/{imported.name} ({kind})"
    return f"{imported.origin}: {where}" if imported.origin else where
