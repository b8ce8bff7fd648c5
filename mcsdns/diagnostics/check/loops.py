"""Whether names outside the zone turn round between mcsdns and a forwarder."""

from collections.abc import Mapping

from mcsdns.diagnostics.check.finding import Outcome, Reason, error
from mcsdns.diagnostics.check.told import State, ask, outside_question
from mcsdns.dns.request import NameServer, Transport


def check_loops(askers: Mapping[str, NameServer]) -> Outcome:
    """Ask each server, by what it is called, for a name that nobody has."""
    findings = tuple(
        error(
            Reason.FORWARDING_LOOP,
            "forwarding loop: what mcsdns sends upstream comes back to it, so names outside the "
            "zone fail",
            where,
            "take the root (.) out of the forward to mcsdns in the other server, so that it sends "
            "only the stub zone; or take that server out of mcsdns's --upstream",
        )
        for where, asker in askers.items()
        if ask(asker, outside_question(), Transport.UDP).state is State.LOOPED
    )
    return Outcome(findings, ("loops",) if askers else ())
