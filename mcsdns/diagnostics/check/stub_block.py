"""Whether the cluster DNS sends the zone to mcsdns, over both transports, and what comes back.

`dns-version.<zone>` is in every zone of the MCS API and in no other, so it tells the way from the
data; one real service then shows what a forwarder does to answers.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, Severity, error
from mcsdns.diagnostics.check.resolvers import Resolver
from mcsdns.diagnostics.check.told import VERSION, Question, State, Told, ask, is_alive, version_of
from mcsdns.diagnostics.explain.present import listed, shown
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.request import NameServer, Transport

_STUB: Final = "mcsdns stub PLATFORM --ip <ClusterIP of the mcsdns Service>"
_NO_TIME: Final = "it did not answer in time"


class Expected(msgspec.Struct, frozen=True):
    """What one zone is to be answered with.

    Attributes:
        service: a name of a real service, None where none is known.
        data: what we answer to that ourselves.
    """

    zone: Name
    service: Question | None = None
    data: frozenset[str] = frozenset()


class _Way(msgspec.Struct, frozen=True):
    """How a zone went over one transport."""

    transport: Transport
    version: Told
    service: Told | None
    validated: bool = False


def check_stub_block(
    resolver: Resolver, asker: NameServer, expected: Sequence[Expected]
) -> Outcome:
    """Ask a resolver of the cluster for our zones, and compare."""
    alive = [each for each in Transport if is_alive(asker, each)]
    if not alive and not resolver.is_certain:
        text = "run `mcsdns check` in a pod, or give --cluster-dns ADDR:PORT"
        return Outcome(skipped=(f"stub block: {resolver} cannot be reached from here; {text}",))
    findings = [_silent(resolver, each) for each in Transport if each not in alive]
    if not alive:
        return Outcome((_silent_at_all(resolver),), (str(resolver),))
    for each in expected:
        ways = [_go(asker, each, transport) for transport in alive]
        findings += _judge(resolver, each, ways)
    zones = listed([shown(each.zone) for each in expected])
    return Outcome(tuple(findings), (f"{zones} at {resolver}, {_over(alive)}",))


def _go(asker: NameServer, expected: Expected, transport: Transport) -> _Way:
    version = ask(asker, version_of(expected.zone), transport)
    if version.state is State.ANSWERED:
        told = ask(asker, expected.service, transport) if expected.service else None
        return _Way(transport, version, told)
    validated = False
    if version.state in (State.FAILED, State.DENIED, State.SILENT):  # a validator may take long
        unchecked = ask(asker, version_of(expected.zone), transport, cd=True)
        validated = unchecked.state is State.ANSWERED
    return _Way(transport, version, None, validated)


def _judge(resolver: Resolver, expected: Expected, ways: Sequence[_Way]) -> list[Finding]:
    """Say each thing once, for all transports that it holds for."""
    said: dict[Finding, list[Transport]] = {}
    works = [way.transport for way in ways if way.version.data == frozenset({VERSION})]
    for way in ways:
        finding = _finding(resolver, expected, way, works)
        if finding is not None:
            said.setdefault(finding, []).append(way.transport)
    return [
        msgspec.structs.replace(finding, where=f"{finding.where}, {_over(transports)}")
        for finding, transports in said.items()
    ]


def _finding(
    resolver: Resolver, expected: Expected, way: _Way, works: Sequence[Transport]
) -> Finding | None:
    told, zone = way.version, expected.zone
    if way.transport in works:
        return _about_service(resolver, expected, way.service) if way.service else None
    if works:
        return _one_transport(resolver, zone, way, works[0])
    if told.state is State.BOGUS or way.validated:
        return _bogus(resolver, zone, told)
    about: Mapping[State, Callable[[Resolver, Name, Told], Finding]] = {
        State.LOOPED: _looped,
        State.NOT_READY: _not_ready,
        State.FAILED: _target_fails,
        State.SILENT: _target_fails,
        State.ANSWERED: _other_zone,
    }
    if told.state in about:
        return about[told.state](resolver, zone, told)
    is_ours = told.denied_by is not None and names.is_at_or_below(told.denied_by, zone)
    is_refused_by_us = told.state is State.REFUSED and any(
        "served here" in e.text for e in told.errors
    )
    if is_ours or is_refused_by_us or told.state is State.ODD:
        return _other_zone(resolver, zone, told)
    return _missing(resolver, zone, told)


def _one_transport(resolver: Resolver, zone: Name, way: _Way, works: Transport) -> Finding:
    over, fails = works.upper(), way.transport.upper()
    reason = Reason.STUB_BLOCK_MISSING if _is_denial(way.version) else Reason.STUB_TARGET_FAILS
    effect = (
        "answers that do not fit into a datagram fail"
        if way.transport is Transport.TCP
        else "nearly everything asks over UDP, and fails"
    )
    return error(
        reason,
        f"{shown(zone)} is answered over {over}, but over {fails} the stub block of the cluster "
        f"DNS gets no answer ({way.version}): {effect}",
        str(resolver),
        "the mcsdns Service needs port 53 for UDP and for TCP, NetworkPolicies and firewalls must "
        f"let {fails} pass from the cluster DNS to it, and the stub block must not keep to {over}: "
        f"{_stub(resolver)} prints it",
    )


def _is_denial(told: Told) -> bool:
    return told.state in (State.DENIED, State.REFUSED, State.EMPTY)


def _missing(resolver: Resolver, zone: Name, told: Told) -> Finding:
    by = f" by the zone {names.to_text(told.denied_by)}" if told.denied_by is not None else ""
    if resolver.is_node_local:
        what = (
            f"NodeLocal DNSCache has no stub block for {shown(zone)} (or a negative answer from "
            f"before in its cache): dns-version.{shown(zone)} is {told}{by}"
        )
    else:
        what = (
            f"the stub block is missing: the cluster DNS does not send {shown(zone)} to mcsdns, "
            f"dns-version.{shown(zone)} is {told}{by}"
        )
    reason = Reason.NODE_LOCAL_DNS if resolver.is_node_local else Reason.STUB_BLOCK_MISSING
    return error(reason, what, str(resolver), f"add what {_stub(resolver)} prints")


def _target_fails(resolver: Resolver, zone: Name, told: Told) -> Finding:
    said = _NO_TIME if told.state is State.SILENT else str(told)
    return error(
        Reason.STUB_TARGET_FAILS,
        f"the cluster DNS gets no answer for {shown(zone)}: {said}; what its stub block points at "
        "is not mcsdns, or cannot be reached, or there is no stub block and its upstream fails",
        str(resolver),
        "the IP of the stub block is to be the ClusterIP of the mcsdns Service, whose pods are to "
        "be ready (kubectl -n mcsdns get service,endpointslices,pods) and let the cluster DNS in "
        f"(NetworkPolicy); {_stub(resolver)} prints the block",
    )


def _not_ready(resolver: Resolver, zone: Name, told: Told) -> Finding:
    return error(
        Reason.SERVER_NOT_READY,
        f"mcsdns is asked for {shown(zone)}, but is not ready: {told}",
        f"mcsdns behind {resolver}",
        "see its log, or run `mcsdns check` as its service account",
    )


def _looped(resolver: Resolver, zone: Name, told: Told) -> Finding:
    return error(
        Reason.FORWARDING_LOOP,
        f"forwarding loop: mcsdns sends {shown(zone)} back to the cluster DNS it has it from",
        str(resolver),
        f"serve {shown(zone)} there (--zone, with a source), or take it out of its --stub-zone and "
        "--upstream, or point the stub block at the mcsdns that serves it",
    )


def _bogus(resolver: Resolver, zone: Name, told: Told) -> Finding:
    return error(
        Reason.ZONE_BOGUS,
        f"the cluster DNS validates (DNSSEC) and finds {shown(zone)} bogus: the signed root denies "
        f"that it exists; {told}, but with checking disabled (CD) there is an answer",
        str(resolver),
        f'tell the validator that the zone is not signed: Unbound domain-insecure: "{shown(zone)}" '
        "(`mcsdns stub unbound`), BIND validate-except, CoreDNS and dnsmasq without dnssec there",
    )


def _other_zone(resolver: Resolver, zone: Name, told: Told) -> Finding:
    return error(
        Reason.STUB_TARGET_WRONG,
        f"the cluster DNS has {shown(zone)} from a server that is no mcsdns serving this zone: "
        f"dns-version.{shown(zone)} is {told} and not {VERSION}",
        str(resolver),
        "point the stub block at the ClusterIP of the mcsdns Service, and serve the same zone "
        f"there (--zone {shown(zone)})",
    )


def _about_service(resolver: Resolver, expected: Expected, told: Told) -> Finding | None:
    """Compare what a service is answered with; a truncated reply may have a part of it."""
    assert expected.service is not None
    if told.data == expected.data or (told.truncated and told.data <= expected.data):
        return None
    is_dropped = told.state is State.EMPTY and told.denied_by is None and expected.data
    if is_dropped and all(map(_is_private, expected.data)):
        return _dropped(resolver, expected)
    if told.state is State.BOGUS:
        return _bogus(resolver, expected.zone, told)
    severity = Severity.WARNING if told.state is State.ANSWERED else Severity.ERROR
    cached = f" (from a cache, for {told.ttl} s more at most)" if told.data else ""
    return Finding(
        severity,
        Reason.ANSWERS_DIFFER,
        f"{expected.service} is {told} from the cluster DNS{cached}, and "
        f"{listed(sorted(expected.data)) or 'not there'} from mcsdns",
        str(resolver),
        "ask again when what is cached has ended, NodeLocal DNSCache has a cache of its own; if it "
        "stays so, the stub block points at another server or cluster",
    )


def _dropped(resolver: Resolver, expected: Expected) -> Finding:
    zone = shown(expected.zone)
    return error(
        Reason.ADDRESSES_DROPPED,
        f"the forwarder drops private addresses: {expected.service} has none from the cluster DNS, "
        f"and {listed(sorted(expected.data))} from mcsdns (protection against DNS rebinding)",
        str(resolver),
        f"except the zone: dnsmasq rebind-domain-ok=/{zone}/ (`mcsdns stub dnsmasq`), Unbound "
        f'private-domain: "{zone}" (`mcsdns stub unbound`)',
    )


def _silent(resolver: Resolver, transport: Transport) -> Finding:
    return error(
        Reason.CLUSTER_DNS_SILENT,
        f"the cluster DNS does not answer over {transport.upper()}",
        str(resolver),
        f"its Service needs port 53 for {transport.upper()}, and NetworkPolicies and firewalls "
        "must let it pass",
    )


def _silent_at_all(resolver: Resolver) -> Finding:
    return error(
        Reason.CLUSTER_DNS_SILENT,
        "the cluster DNS does not answer, neither over UDP nor over TCP",
        str(resolver),
        "see whether it is up (kubectl -n kube-system get pods -l k8s-app=kube-dns) and can be "
        "reached from here, or give the right --cluster-dns ADDR:PORT",
    )


def _stub(resolver: Resolver) -> str:
    platform = "nodelocal" if resolver.is_node_local else "PLATFORM"
    return f"`{_STUB.replace('PLATFORM', platform)}`"


def _over(transports: Sequence[Transport]) -> str:
    return "over " + listed([each.upper() for each in transports])


def _is_private(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_private
    except ValueError:
        return False
