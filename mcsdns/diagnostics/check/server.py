"""The servers over the wire: mcsdns as it runs, and the cluster DNS that is to send it the zone.

`dns-version.<zone>` is in every zone of the MCS API and in no other, so it tells the way from the
data. One real service then shows what a forwarder does to answers: of those that resolve the one
that shows most, since some forwarders drop private addresses.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.finding import Finding, Reason, Report, Severity, error
from mcsdns.diagnostics.check.probe import (
    VERSION,
    Peer,
    ProbeQuestion,
    ProbeReply,
    ProbeState,
    outside_question,
    probe,
    version_of,
)
from mcsdns.diagnostics.explain.present import listed, shown
from mcsdns.diagnostics.service_health import own_addresses
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.request import NameServer, Transport
from mcsdns.dns.types import RRType
from mcsdns.server.zone_state import ZoneState
from mcsdns.zone.tree import labels_of_key

_MOST_ADDRESSES: Final = 8
"""With more, replies over UDP may lack some."""
_DENIALS: Final = (ProbeState.DENIED, ProbeState.REFUSED, ProbeState.EMPTY)
_MAYBE_BOGUS: Final = (ProbeState.FAILED, ProbeState.DENIED, ProbeState.SILENT)
"""A validator may also take longer than a probe waits."""


class Expected(msgspec.Struct, frozen=True):
    """What one zone is to be answered with.

    Attributes:
        service: a name of a real service, None where none is known.
        data: what mcsdns answers to that.
    """

    zone: Name
    service: ProbeQuestion | None = None
    data: frozenset[str] = frozenset()

    def matches(self, reply: ProbeReply) -> bool:
        """Return whether a reply is as expected; a truncated one may have a part of it."""
        return reply.data == self.data or (reply.truncated and reply.data <= self.data)


def expected_of(state: ZoneState) -> list[Expected]:
    """Return what each zone is to be answered with."""
    services = list(_services_to_ask_for(state))
    if not services:
        return [Expected(zone.apex) for zone in state.tree.zones]
    labels, rtype, packed = next(filter(_has_private_addresses, services), services[0])
    data = frozenset(map(ip.to_text, packed))
    return [
        Expected(zone.apex, ProbeQuestion(names.service_name(labels, zone.apex), rtype), data)
        for zone in state.tree.zones
    ]


def _services_to_ask_for(state: ZoneState) -> Iterator[tuple[bytes, RRType, tuple[bytes, ...]]]:
    """Yield services with few addresses: labels, type and addresses."""
    for labels in map(labels_of_key, sorted(state.store.imports)):
        if node := own_addresses(state.tree.services.get(labels)):
            rtype, packed = (RRType.A, node.a) if node.a else (RRType.AAAA, node.aaaa)
            if len(packed) <= _MOST_ADDRESSES:
                yield labels, rtype, packed


def _has_private_addresses(service: tuple[bytes, RRType, tuple[bytes, ...]]) -> bool:
    return all(ipaddress.ip_address(packed).is_private for packed in service[2])


def check_server(report: Report, peer: Peer, expected: Sequence[Expected]) -> None:
    """Find out whether a server is up, is ready, serves the zones, and answers as expected."""
    report.checked.append(f"mcsdns at {peer.where}")
    for transport in Transport:
        if transport not in peer.alive:
            report.error(
                Reason.SERVER_SILENT,
                f"mcsdns does not answer over {transport.upper()}",
                peer.where,
                f"is it up, and may {transport.upper()} pass to it (Service port, NetworkPolicy, "
                "firewall)? or give its address with --server ADDR:PORT",
            )
    for each in expected:
        for _, is_served, reply in _wrong_replies(peer, each):  # equal findings become one
            _report_wrong(report, peer.where, each, reply, is_served=is_served)


def _wrong_replies(peer: Peer, expected: Expected) -> Iterator[tuple[Transport, bool, ProbeReply]]:
    """Yield what is not as expected over each transport.

    Where the version of the zone is right, the reply is that to the question for the service.
    """
    for transport in peer.alive:
        reply = probe(peer.client, version_of(expected.zone), transport)
        is_served = reply.data == frozenset({VERSION})
        if is_served:
            if expected.service is None:
                continue
            reply = probe(peer.client, expected.service, transport)
            if expected.matches(reply):
                continue
        yield transport, is_served, reply


def _report_wrong(
    report: Report, where: str, expected: Expected, reply: ProbeReply, *, is_served: bool
) -> None:
    zone = shown(expected.zone)
    if reply.state is ProbeState.NOT_READY:
        report.error(
            Reason.SERVER_NOT_READY,
            f"mcsdns runs, but is not ready: {reply}",
            where,
            "its log says the same, and what to do; its status page has all reasons",
        )
    elif is_served:
        report.warning(
            Reason.ANSWERS_DIFFER,
            f"{expected.service} is {reply} from mcsdns as it runs, and "
            f"{listed(sorted(expected.data))} by its source",
            where,
            "if it stays so: does it follow the same API server or folder, with the same "
            "settings, and does its watch go on (its log, /readyz)?",
        )
    elif reply.state is ProbeState.LOOPED:
        report.error(
            Reason.FORWARDING_LOOP,
            f"forwarding loop: what mcsdns sends upstream for {zone} comes back to it",
            where,
            f"serve {zone} there, or take it out of its --stub-zone and --upstream",
        )
    else:
        report.error(
            Reason.SERVER_FAILS,
            f"dns-version.{zone} is {reply} and not {VERSION}: no mcsdns that serves {zone} "
            "answers there",
            where,
            f"give the address of mcsdns with --server, and its zone with --zone (not {zone}?)",
        )


def check_loops(report: Report, peers: Sequence[Peer]) -> None:
    """Ask each server about a name outside every zone."""
    if peers:
        report.checked.append("loops")
    for peer in peers:
        if probe(peer.client, outside_question(), Transport.UDP).state is ProbeState.LOOPED:
            report.error(
                Reason.FORWARDING_LOOP,
                "forwarding loop: what mcsdns sends upstream comes back to it, so names outside "
                "the zone fail",
                peer.where,
                "take the root (.) out of the forward to mcsdns in the other server, so that it "
                "sends only the stub zone; or take that server out of mcsdns's --upstream",
            )


def check_stub_block(report: Report, peer: Peer, expected: Sequence[Expected]) -> None:
    """Ask a resolver of the cluster for the zones, over both transports, and compare."""
    if not peer.alive:
        report.checked.append(peer.where)
        report.error(
            Reason.CLUSTER_DNS_SILENT,
            "the cluster DNS does not answer, neither over UDP nor over TCP",
            peer.where,
            "see whether it is up (kubectl -n kube-system get pods -l k8s-app=kube-dns) and can be "
            "reached from here, or give the right --cluster-dns ADDR:PORT",
        )
        return
    zones = listed([shown(each.zone) for each in expected])
    report.checked.append(f"{zones} at {peer.where}, {_over(peer.alive)}")
    for transport in Transport:
        if transport not in peer.alive:
            report.error(
                Reason.CLUSTER_DNS_SILENT,
                f"the cluster DNS does not answer over {transport.upper()}",
                peer.where,
                f"its Service needs port 53 for {transport.upper()}, and NetworkPolicies and "
                "firewalls must let it pass",
            )
    for each in expected:
        _check_zone_of_resolver(report, peer, each)
    if Transport.UDP in peer.alive:
        other = probe(peer.client, outside_question(), Transport.UDP)
        if _is_refused_by_mcsdns(other):
            report.error(
                Reason.NO_UPSTREAM,
                "pods ask mcsdns itself, which has no upstream: it refuses all names outside "
                f"{zones}, and musl waits 5 s for each name of the search list",
                peer.where,
                "have pods ask the cluster DNS, with a stub block for the zone (`mcsdns stub`); or "
                "give mcsdns the cluster DNS as --upstream",
            )


def _is_refused_by_mcsdns(reply: ProbeReply) -> bool:
    return reply.state is ProbeState.REFUSED and any(
        "served here" in each.text for each in reply.errors
    )


def _check_zone_of_resolver(report: Report, peer: Peer, expected: Expected) -> None:
    """Find what is wrong with one zone: each thing once, for all transports that it holds for."""
    wrong = list(_wrong_replies(peer, expected))
    fails = [transport for transport, is_served, _ in wrong if not is_served]
    works = [each for each in peer.alive if each not in fails]
    found: dict[Finding, list[Transport]] = {}
    for transport, is_served, reply in wrong:
        if is_served:
            finding = _about_service(peer.where, expected, reply)
        else:
            finding = _about_version(peer, expected.zone, transport, reply, works)
        found.setdefault(finding, []).append(transport)
    for finding, transports in found.items():
        where = f"{finding.where}, {_over(transports)}"
        report.add(msgspec.structs.replace(finding, where=where))


def _is_bogus(client: NameServer, apex: Name, transport: Transport, version: ProbeReply) -> bool:
    """Return whether a validator withholds the version: it comes with checking disabled (CD)."""
    if version.state not in _MAYBE_BOGUS:
        return version.state is ProbeState.BOGUS
    return probe(client, version_of(apex), transport, cd=True).state is ProbeState.ANSWERED


def _about_version(
    peer: Peer, apex: Name, transport: Transport, reply: ProbeReply, works: Sequence[Transport]
) -> Finding:
    """Tell from a wrong reply to `dns-version.<zone>` what the stub block does with the zone.

    A denial with the SOA of the zone itself, or a refusal in the words of mcsdns, is from a server
    that the stub block points at; any other denial shows that there is no stub block.
    """
    zone, where = shown(apex), peer.where
    platform = "nodelocal" if peer.is_node_local else "PLATFORM"
    stub = f"`mcsdns stub {platform} --ip <ClusterIP of the mcsdns Service>`"
    if works:
        over, fails = works[0].upper(), transport.upper()
        effect = (
            "answers that do not fit into a datagram fail"
            if transport is Transport.TCP
            else "nearly everything asks over UDP, and fails"
        )
        return error(
            Reason.STUB_BLOCK_MISSING if reply.state in _DENIALS else Reason.STUB_TARGET_FAILS,
            f"{zone} is answered over {over}, but over {fails} the stub block of the cluster DNS "
            f"gets no answer ({reply}): {effect}",
            where,
            "the mcsdns Service needs port 53 for UDP and for TCP, NetworkPolicies and firewalls "
            f"must let {fails} pass from the cluster DNS to it, and the stub block must not keep "
            f"to {over}: {stub} prints it",
        )
    if _is_bogus(peer.client, apex, transport, reply):
        return _bogus(where, zone, reply)
    if reply.state is ProbeState.LOOPED:
        return error(
            Reason.FORWARDING_LOOP,
            f"forwarding loop: mcsdns sends {zone} back to the cluster DNS it has it from",
            where,
            f"serve {zone} there (--zone, with a source), or take it out of its --stub-zone and "
            "--upstream, or point the stub block at the mcsdns that serves it",
        )
    if reply.state is ProbeState.NOT_READY:
        return error(
            Reason.SERVER_NOT_READY,
            f"mcsdns is asked for {zone}, but is not ready: {reply}",
            f"mcsdns behind {where}",
            "see its log, or run `mcsdns check` as its service account",
        )
    if reply.state in (ProbeState.FAILED, ProbeState.SILENT):
        why = "it did not answer in time" if reply.state is ProbeState.SILENT else str(reply)
        return error(
            Reason.STUB_TARGET_FAILS,
            f"the cluster DNS gets no answer for {zone}: {why}; what its stub block points at is "
            "not mcsdns, or cannot be reached, or there is no stub block and its upstream fails",
            where,
            "the IP of the stub block is to be the ClusterIP of the mcsdns Service, whose pods are "
            "to be ready (kubectl -n mcsdns get service,endpointslices,pods) and let the cluster "
            f"DNS in (NetworkPolicy); {stub} prints the block",
        )
    is_of_zone = reply.denied_by is not None and names.is_at_or_below(reply.denied_by, apex)
    if is_of_zone or _is_refused_by_mcsdns(reply) or reply.state not in _DENIALS:
        return error(
            Reason.STUB_TARGET_WRONG,
            f"the cluster DNS has {zone} from a server that is no mcsdns serving this zone: "
            f"dns-version.{zone} is {reply} and not {VERSION}",
            where,
            "point the stub block at the ClusterIP of the mcsdns Service, and serve the same zone "
            f"there (--zone {zone})",
        )
    by = f" by the zone {names.to_text(reply.denied_by)}" if reply.denied_by is not None else ""
    if peer.is_node_local:
        reason = Reason.NODE_LOCAL_DNS
        what = (
            f"NodeLocal DNSCache has no stub block for {zone} (or a negative answer from before in "
            f"its cache): dns-version.{zone} is {reply}{by}"
        )
    else:
        reason = Reason.STUB_BLOCK_MISSING
        what = (
            f"the stub block is missing: the cluster DNS does not send {zone} to mcsdns, "
            f"dns-version.{zone} is {reply}{by}"
        )
    return error(reason, what, where, f"add what {stub} prints")


def _bogus(where: str, zone: str, reply: ProbeReply) -> Finding:
    return error(
        Reason.ZONE_BOGUS,
        f"the cluster DNS validates (DNSSEC) and finds {zone} bogus: the signed root denies that "
        f"it exists; {reply}, but with checking disabled (CD) there is an answer",
        where,
        f'tell the validator that the zone is not signed: Unbound domain-insecure: "{zone}" '
        "(`mcsdns stub unbound`), BIND validate-except (`mcsdns stub bind`), PowerDNS Recursor "
        "addNTA (`mcsdns stub powerdns`), CoreDNS and dnsmasq without dnssec there",
    )


def _about_service(where: str, expected: Expected, reply: ProbeReply) -> Finding:
    """Tell from a wrong reply about a service what the cluster DNS does to answers."""
    zone = shown(expected.zone)
    data = listed(sorted(expected.data))
    is_dropped = reply.state is ProbeState.EMPTY and reply.denied_by is None and expected.data
    if is_dropped and all(ipaddress.ip_address(each).is_private for each in expected.data):
        return error(
            Reason.ADDRESSES_DROPPED,
            f"the forwarder drops private addresses: {expected.service} has none from the cluster "
            f"DNS, and {data} from mcsdns (protection against DNS rebinding)",
            where,
            f"except the zone: dnsmasq rebind-domain-ok=/{zone}/ (`mcsdns stub dnsmasq`), Unbound "
            f'private-domain: "{zone}" (`mcsdns stub unbound`)',
        )
    if reply.state is ProbeState.BOGUS:
        return _bogus(where, zone, reply)
    cached = f" (from a cache, for {reply.ttl} s more at most)" if reply.data else ""
    return Finding(
        Severity.WARNING if reply.state is ProbeState.ANSWERED else Severity.ERROR,
        Reason.ANSWERS_DIFFER,
        f"{expected.service} is {reply} from the cluster DNS{cached}, and {data or 'not there'} "
        "from mcsdns",
        where,
        "ask again when what is cached has ended, NodeLocal DNSCache has a cache of its own; if it "
        "stays so, the stub block points at another server or cluster",
    )


def _over(transports: Sequence[Transport]) -> str:
    return "over " + listed([each.upper() for each in transports])
