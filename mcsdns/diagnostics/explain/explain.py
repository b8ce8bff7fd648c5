"""Query -> Explanation: the walk, its verdict, what is near, and how much of the reply fits.

The verdict is the answer in one sentence. Every outcome of `lookup` is one branch of `judge`.
"""

from typing import Final

from mcsdns.diagnostics.explain.model import (
    Explanation,
    QuestionText,
    ShapeKind,
    SliceEndpoint,
    Verdict,
    VerdictReason,
)
from mcsdns.diagnostics.explain.present import counted, label_text, listed, shown
from mcsdns.diagnostics.explain.suggestions import suggest
from mcsdns.diagnostics.explain.walk import (
    NOT_HEADLESS,
    Walk,
    render,
    walk,
)
from mcsdns.diagnostics.service_health import about_size
from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_name
from mcsdns.dns.types import RRType, rcode_text
from mcsdns.objects import conditions
from mcsdns.server.zone_state import ZoneState
from mcsdns.zone import lookup
from mcsdns.zone.name_shape import ServiceName, namespace_of
from mcsdns.zone.records import ServiceNode
from mcsdns.zone.tree import PerCluster

Said = tuple[VerdictReason, str]
_FIXED_TYPES: Final = {ShapeKind.APEX: "SOA and NS", ShapeKind.DNS_VERSION: "1 TXT"}
_FIXED_SOURCES: Final = {
    ShapeKind.NAME_SERVER: "for the addresses of this server (ns_address)",
    ShapeKind.DNS_VERSION: "with the version of the DNS schema",
}
_FAMILIES: Final = {int(RRType.A): "IPv4", int(RRType.AAAA): "IPv6"}


def explain(state: ZoneState, name: str, qtype: int) -> Explanation:
    """Explain what `name`, in presentation form, is answered with, and why.

    Raises:
        InvalidNameError: `name` is no domain name.
    """
    wire = names.wire_from_text(name)
    walked = walk(state, wire, qtype)
    reply, sizes = render(walked, wire)
    records, most = walked.records, state.tree.settings.max_records
    return Explanation(
        question=QuestionText(names.to_text(wire), type_name(qtype)),
        verdict=judge(walked),
        suggestions=suggest(walked),
        zone=walked.served,
        shape=walked.shape,
        service_import=walked.imported,
        clusters=walked.clusters,
        slices=walked.slices,
        problems=tuple(walked.problems),
        records=walked.records,
        long_names=walked.node.long_names if walked.node else 0,
        reply=reply,
        sizes=sizes,
        size_note=about_size(max(records.a, records.aaaa, records.srv), most) if records else "",
    )


def judge(walk: Walk) -> Verdict:
    """Return in one sentence why the answer is what it is."""
    response, outcome = walk.decision.response, walk.decision.outcome
    match outcome:
        case None:
            reason, summary = _without_lookup(walk)
        case lookup.Answer(rrset=rrset):
            number = counted(len(rrset.rdatas), type_name(rrset.rtype) + " record")
            reason, summary = VerdictReason.RECORDS, f"{number} {_source_of(walk, rrset.rtype)}"
        case lookup.NotReady(why=why):
            reason, summary = VerdictReason.NOT_READ_YET, f"nothing can be said yet: {why.text}"
        case lookup.PerClusterForm():
            reason, summary = VerdictReason.PER_CLUSTER_FORM, _per_cluster_form(walk)
        case lookup.NoData():
            reason, summary = _nodata(walk, outcome)
        case lookup.NxDomain():
            reason, summary = _nxdomain(walk, outcome)
    if walk.state.tree.stale and outcome is not None:
        summary += "; the source of objects is away, this is what was true when last seen"
    is_nodata = response.rcode == 0 and response.answer is None
    return Verdict("NODATA" if is_nodata else rcode_text(response.rcode), reason, summary)


def _without_lookup(walk: Walk) -> Said:
    if walk.zone is not None:
        ede = walk.decision.response.ede
        qtype = type_name(walk.query.qtype)
        why = ede.text if ede else "it is no type of records"
        return VerdictReason.TYPE_NOT_SERVED, f"{qtype} cannot be asked for: {why}"
    zones = [shown(zone.apex) for zone in walk.state.tree.zones]
    where = f"the zone{'s' * (len(zones) > 1)} served here, {listed(zones)}"
    return VerdictReason.OUTSIDE_ZONES, f"{shown(walk.query.name)} is outside {where}"


def _source_of(walk: Walk, rtype: int) -> str:
    """Name what records are made from."""
    shape = walk.shape
    if rtype == RRType.HINFO:
        return "in place of what ANY would be (RFC 8482)"
    if walk.key is None:
        return _FIXED_SOURCES.get(shape.kind, "that every zone has")
    if not walk.from_slices or (rtype == RRType.SRV and not walk.headless):
        part = "the named ports" if rtype == RRType.SRV else "spec.ips"
        return f"from {part} of ServiceImport {shape.namespace}/{shape.service}"
    if shape.kind is ShapeKind.ENDPOINT:
        return f"from endpoint {shape.host} in cluster {shape.cluster} of {_service(walk)}"
    clusters = [each.id for each in walk.clusters if each.counting]
    what = "named ports and ready endpoints" if rtype == RRType.SRV else "ready endpoints"
    why = "" if walk.headless else ", as spec.ips is empty"
    return f"from the {what} of {_service(walk)} in {listed(clusters)}{why}"


def _per_cluster_form(walk: Walk) -> str:
    label = walk.shape.cluster
    hosts_in = {
        piece.cluster
        for piece in walk.slices
        for each in piece.endpoints
        if walk.headless and any(name.startswith(f"{label}.") for name in each.names)
    }
    ids = [each.id for each in walk.clusters]
    text = (
        "<cluster>.<service> is the per-cluster form, which KEP-1645 reserves: no name stands for "
        "the backends of one cluster"
    )
    if hosts_in:
        text = (
            f"{label} is a host in {listed(sorted(hosts_in))}, and its name lacks the cluster; "
            "<label>.<service> is the per-cluster form, which KEP-1645 reserves"
        )
    elif label not in ids:
        text += f"; {label} is none of its clusters" + (f", {listed(ids)}" if ids else "")
    policy = walk.state.tree.settings.per_cluster
    return text if policy is PerCluster.REFUSED else f"{text} (per_cluster is set to {policy})"


def _nodata(walk: Walk, outcome: lookup.NoData) -> Said:
    kind, qtype, name = walk.shape.kind, walk.query.qtype, shown(walk.query.name)
    if outcome == lookup.NO_ADDRESS:
        return VerdictReason.NO_ADDRESS, _no_address(walk)
    has = listed(walk.records.by_type) if walk.records else _FIXED_TYPES.get(kind, "")
    if not has and kind is ShapeKind.NAME_SERVER:
        return VerdictReason.NO_ADDRESS, "no address of this server is known; set ns_address"
    if not has:
        text = f"{name} has no records of its own, only names below it have"
        return VerdictReason.EMPTY_NON_TERMINAL, text
    text = f"{name} has no {type_name(qtype)} record, but {has}"
    if kind is ShapeKind.SERVICE and qtype == RRType.SRV:
        text += "; none of its ports has both a name and a number"
    elif kind in (ShapeKind.SERVICE, ShapeKind.ENDPOINT) and qtype in _FAMILIES:
        what = "its ready endpoints have" if walk.from_slices else "spec.ips has"
        text += f"; {what} no {_FAMILIES[qtype]} address"
    return VerdictReason.NO_RECORD_OF_TYPE, text


def _no_address(walk: Walk) -> str:
    shape = walk.shape
    text = f"ServiceImport {shape.namespace}/{shape.service} has no address yet: spec.ips has none"
    if walk.from_slices:
        text += ", its slices have no ready endpoint" if walk.slices else ", it has no slice"
    found = walk.imported.conditions if walk.imported else ()
    bad = [conditions.to_text(each) for each in found if each.is_bad]
    return f"{text} and {listed(bad, len(bad))}" if bad else text


def _nxdomain(walk: Walk, outcome: lookup.NxDomain) -> Said:
    namespace = walk.shape.namespace
    if outcome == lookup.NOT_SERVED:
        text = f"namespace {namespace} is not served here, only {listed(walk.served.namespaces)}"
        return VerdictReason.NAMESPACE_NOT_SERVED, text
    if outcome == lookup.NO_NAMESPACE:
        return VerdictReason.NO_NAMESPACE, f"there is no ServiceImport in namespace {namespace}"
    if outcome == lookup.NO_IMPORT:
        return _no_import(walk)
    if walk.node is None:
        text = "no name of this form is in the zone; services are <service>.<namespace>.svc."
        return VerdictReason.NO_SUCH_NAME, text + shown(walk.apex)
    if not walk.node.names:
        return VerdictReason.NO_READY_ENDPOINT, _no_ready_endpoint(walk)
    if walk.shape.kind in (ShapeKind.PORT, ShapeKind.PROTOCOL):
        return VerdictReason.NO_SUCH_PORT, _no_such_port(walk, walk.node)
    if not walk.headless:
        why = NOT_HEADLESS
        if walk.from_slices:
            why = "it only has their addresses, as its spec.ips is empty"
        return VerdictReason.NO_SUCH_NAME, f"{_service(walk)} has no names of endpoints: {why}"
    if walk.shape.kind is not ShapeKind.ENDPOINT:
        text = f"{_service(walk)} has no such name; endpoints are <host>.<cluster>.<service>"
        return VerdictReason.NO_SUCH_NAME, text
    if walk.endpoint:
        return VerdictReason.ENDPOINT_NOT_SERVED, _endpoint_not_served(walk, walk.endpoint)
    return VerdictReason.NO_SUCH_ENDPOINT, _no_such_endpoint(walk)


def _no_import(walk: Walk) -> Said:
    text = f"there is no ServiceImport {walk.shape.service} in namespace {walk.shape.namespace}"
    if walk.slices:
        where = listed([each.id for each in walk.clusters]) or "no valid cluster"
        pieces = counted(len(walk.slices), "EndpointSlice")
        are = "is" if len(walk.slices) == 1 else "are"
        text += f", though {pieces} of {where} {are} labelled for it"
        return VerdictReason.SLICES_WITHOUT_IMPORT, text
    name, tree = walk.name, walk.state.tree
    if isinstance(name, ServiceName) and namespace_of(name.service) not in tree.namespaces:
        text += ", nor any other there"
    return VerdictReason.NO_IMPORT, text


def _no_ready_endpoint(walk: Walk) -> str:
    if not walk.slices:
        exporting = listed([each.id for each in walk.clusters])
        text = f"{_service(walk)} has no EndpointSlice"
        return f"{text}, though its status names {exporting}" if exporting else text
    if all(piece.malformed for piece in walk.slices):
        why = walk.slices[0].malformed
        return f"{_service(walk)} has malformed EndpointSlices only: {why}"
    total = sum(each.endpoints for each in walk.clusters)
    if not total:
        return f"{_service(walk)} has EndpointSlices without any endpoint"
    where = listed([f"{each.id} ({each.endpoints})" for each in walk.clusters if each.endpoints])
    any_ready = any(each.ready for piece in walk.slices for each in piece.endpoints)
    none = "none is ready and has a usable address" if any_ready else "none is ready"
    return f"{_service(walk)} has {counted(total, 'endpoint')}, but {none}: {where}"


def _endpoint_not_served(walk: Walk, endpoint: SliceEndpoint) -> str:
    text = f"endpoint {walk.shape.host} in cluster {walk.shape.cluster} is there, but "
    if endpoint.counts:
        return text + "its name would be over 255 octets in one of the zones"
    states = {"terminating": endpoint.terminating, "serving": endpoint.serving}
    known = listed([state for state, is_so in states.items() if is_so])
    return text + endpoint.why_not + (f" ({known})" if known else "")


def _no_such_endpoint(walk: Walk) -> str:
    host, cluster = walk.shape.host, walk.shape.cluster
    present = {each.id: each for each in walk.clusters if each.slices}
    if cluster not in present:
        ids = listed(list(present))
        return f"{_service(walk)} has no EndpointSlice of cluster {cluster}, but of {ids}"
    counts = present[cluster]
    number = f"{counted(counts.endpoints, 'endpoint')} there, {counts.counting} ready"
    where = f"{_service(walk)} in cluster {cluster}"
    return f"no endpoint of {where} has host name {host} ({number})"


def _no_such_port(walk: Walk, node: ServiceNode) -> str:
    shape = walk.shape
    wanted = f"{shape.port}/{shape.protocol}" if shape.port else f"of protocol {shape.protocol}"
    owners = [names.labels_of(owner) for owner, each in node.names.items() if each.srv and owner]
    ports = sorted("/".join(label_text(label[1:]) for label in labels) for labels in owners)
    text = f"{_service(walk)} has no named port {wanted}"
    return text + (f", but {listed(ports)}" if ports else "; a port without a name has no SRV")


def _service(walk: Walk) -> str:
    kind = "headless service" if walk.headless else "ClusterSetIP service"
    return f"{kind} {walk.shape.namespace}/{walk.shape.service}"
