"""One round over the wire: mcsdns itself, the cluster DNS before it, and how this host asks."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mcsdns.config.environment import in_pod
from mcsdns.diagnostics.check import resolvers
from mcsdns.diagnostics.check.finding import Outcome, Reason
from mcsdns.diagnostics.check.loops import check_loops
from mcsdns.diagnostics.check.nsswitch import check_nsswitch
from mcsdns.diagnostics.check.plan import Address, Plan
from mcsdns.diagnostics.check.resolvers import Resolver
from mcsdns.diagnostics.check.sample import expected_of
from mcsdns.diagnostics.check.server import check_server
from mcsdns.diagnostics.check.source_side import Seen
from mcsdns.diagnostics.check.stub_block import Expected, check_stub_block
from mcsdns.diagnostics.check.told import State, ask
from mcsdns.diagnostics.client import RemoteServer
from mcsdns.dns.request import Transport

RESOLV_CONF: str = "/etc/resolv.conf"
NSSWITCH: str = "/etc/nsswitch.conf"
_TRIES: Final = 2
_MAX_FILE_BYTES: Final = 1 << 16


def look_at_dns(plan: Plan, seen: Seen) -> Iterator[Outcome]:
    """Ask whoever can be asked, and compare; nobody is waited for longer than a few seconds."""
    expected = [Expected(zone) for zone in plan.zones]
    if seen.world is not None:
        expected = expected_of(seen.world.store, seen.world.tree)
    answering: dict[str, RemoteServer] = {}
    if plan.server:
        outcome, expected = _look_at_server(plan, plan.server, expected, answering)
        yield outcome
    asked = [_look_at(plan, each, expected, answering) for each in _resolvers(plan, seen)]
    yield from asked
    if not asked:
        yield Outcome(skipped=(f"stub block of the cluster DNS: {_why_unknown()}",))
    if all(each.skipped for each in asked):
        yield seen.configured
    yield check_loops(answering)
    if plan.server or plan.cluster_dns or in_pod():
        yield _look_at_host(plan)


def _look_at_server(
    plan: Plan, address: Address, expected: list[Expected], answering: dict[str, RemoteServer]
) -> tuple[Outcome, list[Expected]]:
    """Look at an mcsdns that runs; what it answers counts for ours from here on."""
    where, server = f"{_text(address)} (--server)", _asker(plan, address)
    outcome = check_server(server, where, expected)
    if outcome.has(Reason.SERVER_SILENT):
        return outcome, expected
    answering[where] = server
    return outcome, [_as_served(server, each) for each in expected]


def _look_at(
    plan: Plan, resolver: Resolver, expected: list[Expected], answering: dict[str, RemoteServer]
) -> Outcome:
    server = _asker(plan, (resolver.host, resolver.port))
    outcome = check_stub_block(resolver, server, expected)
    if not outcome.skipped and not outcome.has(Reason.CLUSTER_DNS_SILENT):
        answering[str(resolver)] = server
    return outcome


def _resolvers(plan: Plan, seen: Seen) -> Sequence[Resolver]:
    if plan.cluster_dns:
        return [Resolver(*plan.cluster_dns, "--cluster-dns")]
    of_pod = resolvers.of_resolv_conf(_text_of(RESOLV_CONF), RESOLV_CONF) if in_pod() else []
    return of_pod or seen.resolvers


def _why_unknown() -> str:
    why = "it is not known; give --cluster-dns ADDR:PORT"
    return f"{RESOLV_CONF} is that of the node (dnsPolicy: Default), so {why}" if in_pod() else why


def _asker(plan: Plan, address: Address) -> RemoteServer:
    return RemoteServer(*address, timeout_s=plan.timeout_s, tries=_TRIES)


def _as_served(server: RemoteServer, expected: Expected) -> Expected:
    """Take what the server says for ours, as far as it says something."""
    if expected.service is None:
        return expected
    told = ask(server, expected.service, Transport.TCP)
    if told.state is not State.ANSWERED:
        return expected
    return msgspec.structs.replace(expected, data=told.data)


def _look_at_host(plan: Plan) -> Outcome:
    text = _text_of(NSSWITCH)
    return check_nsswitch(text, plan.zones, NSSWITCH) if text else Outcome()


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError:
        return ""


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
