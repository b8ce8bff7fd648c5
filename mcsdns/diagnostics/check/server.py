"""An mcsdns that runs: it answers over both transports, is ready, and says what the source says."""

from collections.abc import Sequence

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, warning
from mcsdns.diagnostics.check.stub_block import Expected
from mcsdns.diagnostics.check.told import VERSION, State, Told, ask, is_alive, version_of
from mcsdns.diagnostics.explain.present import listed, shown
from mcsdns.dns.request import NameServer, Transport


def check_server(asker: NameServer, where: str, expected: Sequence[Expected]) -> Outcome:
    """Ask the server itself."""
    alive = [each for each in Transport if is_alive(asker, each)]
    findings = [_silent(where, each) for each in Transport if each not in alive]
    for zone in expected:
        for transport in alive:  # what holds for both is told once
            findings += _zone(asker, where, zone, transport)
    return Outcome(tuple(findings), (f"mcsdns at {where}",))


def _zone(
    asker: NameServer, where: str, expected: Expected, transport: Transport
) -> Sequence[Finding]:
    version = ask(asker, version_of(expected.zone), transport)
    if version.data != frozenset({VERSION}):
        return [_wrong(where, expected, version)]
    if expected.service is None:
        return []
    told = ask(asker, expected.service, transport)
    if told.state is State.NOT_READY:
        return [_wrong(where, expected, told)]
    if told.data == expected.data or (told.truncated and told.data <= expected.data):
        return []
    return [
        warning(
            Reason.ANSWERS_DIFFER,
            f"{expected.service} is {told} from mcsdns as it runs, and "
            f"{listed(sorted(expected.data))} by its source",
            where,
            "if it stays so: does it follow the same API server or folder, with the same settings, "
            "and does its watch go on (its log, /readyz)?",
        )
    ]


def _wrong(where: str, expected: Expected, told: Told) -> Finding:
    zone = shown(expected.zone)
    if told.state is State.NOT_READY:
        return error(
            Reason.SERVER_NOT_READY,
            f"mcsdns runs, but is not ready: {told}",
            where,
            "its log says the same, and what to do; /readyz has all reasons",
        )
    if told.state is State.LOOPED:
        return error(
            Reason.FORWARDING_LOOP,
            f"forwarding loop: what mcsdns sends upstream for {zone} comes back to it",
            where,
            f"serve {zone} there, or take it out of its --stub-zone and --upstream",
        )
    return error(
        Reason.SERVER_FAILS,
        f"dns-version.{zone} is {told} and not {VERSION}: no mcsdns that serves {zone} answers "
        "there",
        where,
        f"give the address of mcsdns with --server, and its zone with --zone (not {zone}?)",
    )


def _silent(where: str, transport: Transport) -> Finding:
    return error(
        Reason.SERVER_SILENT,
        f"mcsdns does not answer over {transport.upper()}",
        where,
        f"is it up, and may {transport.upper()} pass to it (Service port, NetworkPolicy, "
        "firewall)? or give its address with --server ADDR:PORT",
    )
