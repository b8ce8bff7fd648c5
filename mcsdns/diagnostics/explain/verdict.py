"""A walk -> the answer in one sentence. Every outcome of `lookup` is one branch here."""

from mcsdns.diagnostics.explain.model import (
    ClusterCounts,
    ShapeKind,
    SliceEndpoint,
    Verdict,
    VerdictReason,
)
from mcsdns.diagnostics.explain.present import counted, label_text, listed, shown
from mcsdns.diagnostics.explain.walk import NOT_HEADLESS, Walk
from mcsdns.dns import Response
from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_name
from mcsdns.dns.types import RRset, RRType, rcode_text
from mcsdns.objects import conditions
from mcsdns.server.zone_state import ZoneState
from mcsdns.zone.lookup import (
    NO_ADDRESS,
    NO_IMPORT,
    NO_NAMESPACE,
    NOT_SERVED,
    Answer,
    NoData,
    NotReady,
    NxDomain,
    PerClusterForm,
)
from mcsdns.zone.name_shape import ServiceName, namespace_of
from mcsdns.zone.records import Node
from mcsdns.zone.tree import PerCluster

Said = tuple[VerdictReason, str]


def judge(state: ZoneState, walk: Walk) -> Verdict:
    """Say in one sentence why the answer is what it is."""
    reason, summary = _judge(state, walk)
    if state.tree.stale and walk.decision.outcome is not None:
        summary += "; the source of objects is away, this is what was true when last seen"
    return Verdict(result_text(walk.decision.response), reason, summary)


def result_text(response: Response) -> str:
    """Name the result: the response code, or NODATA."""
    if response.rcode == 0 and response.answer is None:
        return "NODATA"
    return rcode_text(response.rcode)


def _judge(state: ZoneState, walk: Walk) -> Said:
    outcome = walk.decision.outcome
    match outcome:
        case None:
            return _not_looked_up(state, walk)
        case Answer(rrset=rrset):
            return VerdictReason.RECORDS, _about_records(walk, rrset)
        case NotReady(why=why):
            return VerdictReason.NOT_READ_YET, f"nothing can be said yet: {why.text}"
        case PerClusterForm():
            return VerdictReason.PER_CLUSTER_FORM, _about_per_cluster_form(state, walk)
        case NoData():
            return _about_nodata(walk, outcome)
        case NxDomain():
            return _about_nxdomain(state, walk, outcome)


def _not_looked_up(state: ZoneState, walk: Walk) -> Said:
    if walk.zone is not None:
        response = walk.decision.response
        asked = type_name(walk.query.qtype)
        why = response.ede.text if response.ede else "it is no type of records"
        return VerdictReason.TYPE_NOT_SERVED, f"{asked} cannot be asked for: {why}"
    zones = [shown(zone.apex) for zone in state.tree.zones]
    where = f"the zone{'s' * (len(zones) > 1)} served here, {listed(zones)}"
    return VerdictReason.OUTSIDE_ZONES, f"{shown(walk.query.name)} is outside {where}"


def _about_records(walk: Walk, rrset: RRset) -> str:
    what = counted(len(rrset.rdatas), type_name(rrset.rtype) + " record")
    return f"{what} {_origin_of(walk, rrset.rtype)}"


def _origin_of(walk: Walk, rtype: int) -> str:
    shape = walk.shape
    if rtype == RRType.HINFO:
        return "in place of what ANY would be (RFC 8482)"
    if walk.key is None:
        return {
            ShapeKind.NAME_SERVER: "for the addresses of this server (ns_address)",
            ShapeKind.DNS_VERSION: "with the version of the DNS schema",
        }.get(shape.kind, "that every zone has")
    if not walk.from_slices or (rtype == RRType.SRV and not walk.headless):
        part = "the named ports" if rtype == RRType.SRV else "spec.ips"
        return f"from {part} of {_import_text(walk)}"
    if shape.kind is ShapeKind.ENDPOINT:
        return f"from endpoint {shape.host} in cluster {shape.cluster} of {_service_text(walk)}"
    clusters = [each.id for each in walk.clusters if each.counting]
    what = "named ports and ready endpoints" if rtype == RRType.SRV else "ready endpoints"
    why = "" if walk.headless else ", as spec.ips is empty"
    return f"from the {what} of {_service_text(walk)} in {listed(clusters)}{why}"


def _about_per_cluster_form(state: ZoneState, walk: Walk) -> str:
    shape = walk.shape
    hosts_in = _clusters_of_host(walk, shape.cluster or "")
    text = (
        "<cluster>.<service> is the per-cluster form, which KEP-1645 reserves: no name stands for "
        "the backends of one cluster"
    )
    if hosts_in:
        text = (
            f"{shape.cluster} is a host in {listed(hosts_in)}, and its name lacks the cluster; "
            "<label>.<service> is the per-cluster form, which KEP-1645 reserves"
        )
    elif shape.cluster not in {each.id for each in walk.clusters}:
        ids = [each.id for each in walk.clusters]
        text += f"; {shape.cluster} is none of its clusters" + (f", {listed(ids)}" if ids else "")
    policy = state.tree.settings.per_cluster
    return text if policy is PerCluster.REFUSED else f"{text} (per_cluster is set to {policy})"


def _clusters_of_host(walk: Walk, host: str) -> list[str]:
    if not walk.headless:
        return []
    found = {
        piece.cluster
        for piece in walk.slices
        for each in piece.endpoints
        if any(name.startswith(f"{host}.") for name in each.names)
    }
    return sorted(found)


def _about_nodata(walk: Walk, outcome: NoData) -> Said:
    if outcome == NO_ADDRESS:
        return VerdictReason.NO_ADDRESS, _about_no_address(walk)
    name = shown(walk.query.name)
    has = types_of(walk.records) if walk.records else _FIXED_TYPES.get(walk.shape.kind, "")
    if not has and walk.shape.kind is ShapeKind.NAME_SERVER:
        return VerdictReason.NO_ADDRESS, "no address of this server is known; set ns_address"
    if not has:
        return (
            VerdictReason.EMPTY_NON_TERMINAL,
            f"{name} has no records of its own, only names below it have",
        )
    asked = type_name(walk.query.qtype)
    return (
        VerdictReason.NO_RECORD_OF_TYPE,
        f"{name} has no {asked} record, but {has}{_why_none(walk)}",
    )


_FIXED_TYPES = {ShapeKind.APEX: "SOA and NS", ShapeKind.DNS_VERSION: "1 TXT"}


def types_of(node: Node) -> str:
    """Write how many records of which types a name has; empty where it has none."""
    counts = (("A", len(node.a)), ("AAAA", len(node.aaaa)), ("SRV", len(node.srv)))
    return listed([f"{number} {rtype}" for rtype, number in counts if number])


_FAMILIES = {int(RRType.A): "IPv4", int(RRType.AAAA): "IPv6"}


def _why_none(walk: Walk) -> str:
    """Say why a service's own name lacks a type that others have."""
    qtype = walk.query.qtype
    if walk.shape.kind not in (ShapeKind.SERVICE, ShapeKind.ENDPOINT):
        return ""
    if qtype == RRType.SRV and walk.shape.kind is ShapeKind.SERVICE:
        return "; none of its ports has both a name and a number"
    whose = "its ready endpoints have" if walk.from_slices else "spec.ips has"
    return f"; {whose} no {_FAMILIES[qtype]} address" if qtype in _FAMILIES else ""


def _about_no_address(walk: Walk) -> str:
    text = f"{_import_text(walk)} has no address yet: spec.ips is empty"
    if walk.from_slices:
        text += ", its slices have no ready endpoint" if walk.slices else ", it has no slice"
    found = walk.imported.conditions if walk.imported else ()
    bad = [conditions.to_text(each) for each in found if each.is_bad]
    return f"{text} and {listed(bad, len(bad))}" if bad else text


def _about_nxdomain(state: ZoneState, walk: Walk, outcome: NxDomain) -> Said:
    shape = walk.shape
    if outcome == NOT_SERVED:
        only = sorted(label_text(label[1:]) for label in state.tree.settings.namespaces)
        return (
            VerdictReason.NAMESPACE_NOT_SERVED,
            f"namespace {shape.namespace} is not served here, only {listed(only)}",
        )
    if outcome == NO_NAMESPACE:
        return (
            VerdictReason.NO_NAMESPACE,
            f"there is no ServiceImport in namespace {shape.namespace}",
        )
    if outcome == NO_IMPORT:
        return _about_no_import(state, walk)
    if walk.node is None:
        return (
            VerdictReason.NO_SUCH_NAME,
            "no name of this form is in the zone; services are <service>.<namespace>.svc."
            + shown(walk.apex),
        )
    if not walk.node.names:
        return VerdictReason.NO_READY_ENDPOINT, _about_no_ready_endpoint(walk)
    return _about_missing_below(walk)


def _about_no_import(state: ZoneState, walk: Walk) -> Said:
    shape = walk.shape
    text = f"there is no ServiceImport {shape.service} in namespace {shape.namespace}"
    if walk.slices:
        where = listed([each.id for each in walk.clusters]) or "no valid cluster"
        pieces = counted(len(walk.slices), "EndpointSlice")
        are = "is" if len(walk.slices) == 1 else "are"
        text += f", though {pieces} of {where} {are} labelled for it"
        return VerdictReason.SLICES_WITHOUT_IMPORT, text
    name = walk.name
    if isinstance(name, ServiceName) and not state.tree.has_namespace(namespace_of(name.service)):
        text += ", nor any other there"
    return VerdictReason.NO_IMPORT, text


def _about_no_ready_endpoint(walk: Walk) -> str:
    who = _service_text(walk)
    malformed = [piece for piece in walk.slices if piece.malformed]
    if not walk.slices:
        exporting = listed([each.id for each in walk.clusters])
        return f"{who} has no EndpointSlice" + (
            f", though its status names {exporting}" if exporting else ""
        )
    if len(malformed) == len(walk.slices):
        return f"{who} has malformed EndpointSlices only: {malformed[0].malformed}"
    if not any(each.endpoints for each in walk.clusters):
        return f"{who} has EndpointSlices without any endpoint"
    where = listed([f"{each.id} ({each.endpoints})" for each in walk.clusters if each.endpoints])
    total = counted(sum(each.endpoints for each in walk.clusters), "endpoint")
    any_ready = any(each.ready for piece in walk.slices for each in piece.endpoints)
    none = "none is ready and has a usable address" if any_ready else "none is ready"
    return f"{who} has {total}, but {none}: {where}"


_ONLY_ADDRESSES = "it only has their addresses, as its spec.ips is empty"


def _about_missing_below(walk: Walk) -> Said:
    shape = walk.shape
    if shape.kind in (ShapeKind.PORT, ShapeKind.PROTOCOL):
        return VerdictReason.NO_SUCH_PORT, _about_missing_port(walk)
    if not walk.headless:
        return (
            VerdictReason.NO_SUCH_NAME,
            f"{_service_text(walk)} has no names of endpoints: "
            + (_ONLY_ADDRESSES if walk.from_slices else NOT_HEADLESS),
        )
    if shape.kind is not ShapeKind.ENDPOINT:
        return (
            VerdictReason.NO_SUCH_NAME,
            f"{_service_text(walk)} has no such name; endpoints are <host>.<cluster>.<service>",
        )
    if walk.endpoint:
        return VerdictReason.ENDPOINT_NOT_SERVED, _about_uncounted(walk, walk.endpoint)
    return VerdictReason.NO_SUCH_ENDPOINT, _about_missing_endpoint(walk)


def _about_uncounted(walk: Walk, endpoint: SliceEndpoint) -> str:
    text = f"endpoint {walk.shape.host} in cluster {walk.shape.cluster} is there, but "
    if endpoint.counts:
        return text + "its name would be over 255 octets in one of the zones"
    facts = [
        word
        for word, is_so in (("terminating", endpoint.terminating), ("serving", endpoint.serving))
        if is_so
    ]
    return text + endpoint.why_not + (f" ({listed(facts)})" if facts else "")


def _about_missing_endpoint(walk: Walk) -> str:
    ids: list[str] = [each.id for each in walk.clusters if each.slices]
    cluster = next((each for each in walk.clusters if each.id == walk.shape.cluster), None)
    if cluster is None or not cluster.slices:
        return (
            f"{_service_text(walk)} has no EndpointSlice of cluster {walk.shape.cluster}, "
            f"but of {listed(ids)}"
        )
    return (
        f"no endpoint of {_service_text(walk)} in cluster {cluster.id} has host name "
        f"{walk.shape.host} ({_endpoints_text(cluster)})"
    )


def _endpoints_text(cluster: ClusterCounts) -> str:
    return f"{counted(cluster.endpoints, 'endpoint')} there, {cluster.counting} ready"


def _about_missing_port(walk: Walk) -> str:
    shape = walk.shape
    wanted = f"{shape.port}/{shape.protocol}" if shape.port else f"of protocol {shape.protocol}"
    ports = port_names(walk)
    text = f"{_service_text(walk)} has no named port {wanted}"
    return text + (f", but {listed(ports)}" if ports else "; a port without a name has no SRV")


def port_names(walk: Walk) -> list[str]:
    """Return the named ports of the service that have records, as `http/tcp`."""
    owners = walk.node.names if walk.node else {}
    labels = [names.labels_of(owner) for owner, node in owners.items() if node.srv and owner]
    return sorted("/".join(label_text(label[1:]) for label in each) for each in labels)


def _service_text(walk: Walk) -> str:
    kind = "headless service" if walk.headless else "ClusterSetIP service"
    return f"{kind} {walk.shape.namespace}/{walk.shape.service}"


def _import_text(walk: Walk) -> str:
    return f"ServiceImport {walk.shape.namespace}/{walk.shape.service}"
