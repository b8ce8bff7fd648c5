"""An mcsdns that runs: it answers over both transports, is ready, and answers as its source says.

What it is expected to answer is taken from one real service, of those that resolve the one that
shows most about a forwarder: some forwarders drop private addresses.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, warning
from mcsdns.diagnostics.check.probe import (
    VERSION,
    ProbeQuestion,
    ProbeReply,
    ProbeState,
    is_alive,
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
from mcsdns.zone.records import Node
from mcsdns.zone.tree import labels_of_key

_MOST_ADDRESSES: Final = 8
"""With more, replies over UDP may lack some."""


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
    labels, node = next(_services_to_ask_for(state), (b"", Node()))
    if not labels:
        return [Expected(zone.apex) for zone in state.tree.zones]
    rtype, packed = (RRType.A, node.a) if node.a else (RRType.AAAA, node.aaaa)
    data = frozenset(map(ip.to_text, packed))
    return [
        Expected(zone.apex, ProbeQuestion(names.service_name(labels, zone.apex), rtype), data)
        for zone in state.tree.zones
    ]


def _services_to_ask_for(state: ZoneState) -> Iterator[tuple[bytes, Node]]:
    """Yield services with few addresses, those with private ones alone first."""
    found: list[tuple[bytes, Node]] = []
    for key in sorted(state.store.keys()):
        labels = labels_of_key(key)
        node = own_addresses(state.tree.service(labels))
        if node is None or len(node.a or node.aaaa) > _MOST_ADDRESSES:
            continue
        if all(ipaddress.ip_address(packed).is_private for packed in node.a or node.aaaa):
            yield labels, node
        found.append((labels, node))
    yield from found


def check_server(client: NameServer, where: str, expected: Sequence[Expected]) -> Outcome:
    """Find out whether a server is up, is ready, serves the zones, and answers as expected."""
    alive = [each for each in Transport if is_alive(client, each)]
    findings = [
        error(
            Reason.SERVER_SILENT,
            f"mcsdns does not answer over {each.upper()}",
            where,
            f"is it up, and may {each.upper()} pass to it (Service port, NetworkPolicy, firewall)? "
            "or give its address with --server ADDR:PORT",
        )
        for each in Transport
        if each not in alive
    ]
    for zone in expected:
        for transport in alive:  # equal findings of both become one
            finding = _check_zone(client, where, zone, transport)
            findings += [finding] if finding else []
    return Outcome(tuple(findings), (f"mcsdns at {where}",))


def _check_zone(
    client: NameServer, where: str, expected: Expected, transport: Transport
) -> Finding | None:
    zone = shown(expected.zone)
    reply = probe(client, version_of(expected.zone), transport)
    is_served = reply.data == frozenset({VERSION})
    if is_served:
        if expected.service is None:
            return None
        reply = probe(client, expected.service, transport)
    if reply.state is ProbeState.NOT_READY:
        return error(
            Reason.SERVER_NOT_READY,
            f"mcsdns runs, but is not ready: {reply}",
            where,
            "its log says the same, and what to do; /readyz has all reasons",
        )
    if is_served:
        if expected.matches(reply):
            return None
        return warning(
            Reason.ANSWERS_DIFFER,
            f"{expected.service} is {reply} from mcsdns as it runs, and "
            f"{listed(sorted(expected.data))} by its source",
            where,
            "if it stays so: does it follow the same API server or folder, with the same settings, "
            "and does its watch go on (its log, /readyz)?",
        )
    if reply.state is ProbeState.LOOPED:
        return error(
            Reason.FORWARDING_LOOP,
            f"forwarding loop: what mcsdns sends upstream for {zone} comes back to it",
            where,
            f"serve {zone} there, or take it out of its --stub-zone and --upstream",
        )
    return error(
        Reason.SERVER_FAILS,
        f"dns-version.{zone} is {reply} and not {VERSION}: no mcsdns that serves {zone} answers "
        "there",
        where,
        f"give the address of mcsdns with --server, and its zone with --zone (not {zone}?)",
    )


def check_loops(clients: Mapping[str, NameServer]) -> Outcome:
    """Ask each server, by its name in findings, about a name outside every zone."""
    findings = tuple(
        error(
            Reason.FORWARDING_LOOP,
            "forwarding loop: what mcsdns sends upstream comes back to it, so names outside the "
            "zone fail",
            where,
            "take the root (.) out of the forward to mcsdns in the other server, so that it sends "
            "only the stub zone; or take that server out of mcsdns's --upstream",
        )
        for where, client in clients.items()
        if probe(client, outside_question(), Transport.UDP).state is ProbeState.LOOPED
    )
    return Outcome(findings, ("loops",) if clients else ())
