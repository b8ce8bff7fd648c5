"""Whether the cluster DNS sends the zone to mcsdns, over both transports, and what comes back.

`dns-version.<zone>` is in every zone of the MCS API and in no other, so it tells the way from the
data; one real service then shows what a forwarder does to answers.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.cluster_dns import Resolver
from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, Severity, error
from mcsdns.diagnostics.check.probe import (
    VERSION,
    ProbeReply,
    ProbeState,
    is_alive,
    probe,
    version_of,
)
from mcsdns.diagnostics.check.server import Expected
from mcsdns.diagnostics.explain.present import listed, shown
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.request import NameServer, Transport

_DENIALS: Final = (ProbeState.DENIED, ProbeState.REFUSED, ProbeState.EMPTY)
_MAYBE_BOGUS: Final = (ProbeState.FAILED, ProbeState.DENIED, ProbeState.SILENT)
"""A validator may also take longer than a probe waits."""


def check_stub_block(
    resolver: Resolver, client: NameServer, expected: Sequence[Expected]
) -> Outcome:
    """Ask a resolver of the cluster for the zones, and compare."""
    alive = [each for each in Transport if is_alive(client, each)]
    if not alive and not resolver.is_certain:
        text = "run `mcsdns check` in a pod, or give --cluster-dns ADDR:PORT"
        return Outcome(skipped=(f"stub block: {resolver} cannot be reached from here; {text}",))
    if not alive:
        silent = error(
            Reason.CLUSTER_DNS_SILENT,
            "the cluster DNS does not answer, neither over UDP nor over TCP",
            str(resolver),
            "see whether it is up (kubectl -n kube-system get pods -l k8s-app=kube-dns) and can be "
            "reached from here, or give the right --cluster-dns ADDR:PORT",
        )
        return Outcome((silent,), (str(resolver),))
    findings = [
        error(
            Reason.CLUSTER_DNS_SILENT,
            f"the cluster DNS does not answer over {each.upper()}",
            str(resolver),
            f"its Service needs port 53 for {each.upper()}, and NetworkPolicies and firewalls must "
            "let it pass",
        )
        for each in Transport
        if each not in alive
    ]
    for each in expected:
        findings += _check_zone(resolver, client, each, alive)
    zones = listed([shown(each.zone) for each in expected])
    return Outcome(tuple(findings), (f"{zones} at {resolver}, {_over(alive)}",))


def _check_zone(
    resolver: Resolver, client: NameServer, expected: Expected, alive: Sequence[Transport]
) -> list[Finding]:
    """Find what is wrong with one zone: each thing once, for all transports that it holds for."""
    versions = {each: probe(client, version_of(expected.zone), each) for each in alive}
    works = [each for each, reply in versions.items() if reply.data == frozenset({VERSION})]
    found: dict[Finding, list[Transport]] = {}
    for transport, version in versions.items():
        if transport not in works:
            finding = _about_version(resolver, client, expected.zone, transport, version, works)
        elif expected.service is None:
            continue
        else:
            reply = probe(client, expected.service, transport)
            if expected.matches(reply):
                continue
            finding = _about_service(resolver, expected, reply)
        found.setdefault(finding, []).append(transport)
    return [
        msgspec.structs.replace(finding, where=f"{finding.where}, {_over(transports)}")
        for finding, transports in found.items()
    ]


def _is_bogus(client: NameServer, apex: Name, transport: Transport, version: ProbeReply) -> bool:
    """Return whether a validator withholds the version: it comes with checking disabled (CD)."""
    if version.state not in _MAYBE_BOGUS:
        return version.state is ProbeState.BOGUS
    return probe(client, version_of(apex), transport, cd=True).state is ProbeState.ANSWERED


def _about_version(
    resolver: Resolver,
    client: NameServer,
    apex: Name,
    transport: Transport,
    reply: ProbeReply,
    works: Sequence[Transport],
) -> Finding:
    """Tell from a wrong reply to `dns-version.<zone>` what the stub block does with the zone.

    A denial with the SOA of the zone itself, or a refusal in the words of mcsdns, is from a server
    that the stub block points at; any other denial shows that there is no stub block.
    """
    zone, where, stub = shown(apex), str(resolver), _stub(resolver)
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
    if _is_bogus(client, apex, transport, reply):
        return _bogus(resolver, zone, reply)
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
    is_refused_by_mcsdns = reply.state is ProbeState.REFUSED and any(
        "served here" in each.text for each in reply.errors
    )
    if is_of_zone or is_refused_by_mcsdns or reply.state not in _DENIALS:
        return error(
            Reason.STUB_TARGET_WRONG,
            f"the cluster DNS has {zone} from a server that is no mcsdns serving this zone: "
            f"dns-version.{zone} is {reply} and not {VERSION}",
            where,
            "point the stub block at the ClusterIP of the mcsdns Service, and serve the same zone "
            f"there (--zone {zone})",
        )
    by = f" by the zone {names.to_text(reply.denied_by)}" if reply.denied_by is not None else ""
    if resolver.is_node_local:
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


def _bogus(resolver: Resolver, zone: str, reply: ProbeReply) -> Finding:
    return error(
        Reason.ZONE_BOGUS,
        f"the cluster DNS validates (DNSSEC) and finds {zone} bogus: the signed root denies that "
        f"it exists; {reply}, but with checking disabled (CD) there is an answer",
        str(resolver),
        f'tell the validator that the zone is not signed: Unbound domain-insecure: "{zone}" '
        "(`mcsdns stub unbound`), BIND validate-except, CoreDNS and dnsmasq without dnssec there",
    )


def _about_service(resolver: Resolver, expected: Expected, reply: ProbeReply) -> Finding:
    """Tell from a wrong reply about a service what the cluster DNS does to answers."""
    zone, where = shown(expected.zone), str(resolver)
    data = listed(sorted(expected.data))
    is_dropped = reply.state is ProbeState.EMPTY and reply.denied_by is None and expected.data
    if is_dropped and all(map(_is_private, expected.data)):
        return error(
            Reason.ADDRESSES_DROPPED,
            f"the forwarder drops private addresses: {expected.service} has none from the cluster "
            f"DNS, and {data} from mcsdns (protection against DNS rebinding)",
            where,
            f"except the zone: dnsmasq rebind-domain-ok=/{zone}/ (`mcsdns stub dnsmasq`), Unbound "
            f'private-domain: "{zone}" (`mcsdns stub unbound`)',
        )
    if reply.state is ProbeState.BOGUS:
        return _bogus(resolver, zone, reply)
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


def _stub(resolver: Resolver) -> str:
    platform = "nodelocal" if resolver.is_node_local else "PLATFORM"
    return f"`mcsdns stub {platform} --ip <ClusterIP of the mcsdns Service>`"


def _over(transports: Sequence[Transport]) -> str:
    return "over " + listed([each.upper() for each in transports])


def _is_private(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_private
    except ValueError:
        return False
