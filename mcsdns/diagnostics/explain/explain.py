"""Query -> Explanation: the walk, its verdict, what is near, and how much of the reply fits."""

from collections.abc import Iterator
from typing import Final

from mcsdns.diagnostics.client import InProcessServer
from mcsdns.diagnostics.explain.model import (
    EdeText,
    Explanation,
    ObjectProblem,
    QuestionText,
    ReplyText,
    ServedZone,
    Size,
)
from mcsdns.diagnostics.explain.present import label_text, records_of
from mcsdns.diagnostics.explain.suggestions import suggest
from mcsdns.diagnostics.explain.verdict import judge
from mcsdns.diagnostics.explain.walk import Walk, walk
from mcsdns.dns import MAX_TCP_BYTES, MAX_UDP_BYTES, MIN_UDP_BYTES
from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_name
from mcsdns.dns.request import Request, Transport
from mcsdns.dns.types import FLAGS, TC, rcode_text
from mcsdns.objects.model import Kind
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.manifests.documents import ANYTHING
from mcsdns.zone.tree import Readiness

_CLIENTS: Final = (
    (Transport.UDP, False, MIN_UDP_BYTES),
    (Transport.UDP, True, MAX_UDP_BYTES),
    (Transport.TCP, True, MAX_TCP_BYTES),
)


def explain(state: ZoneState, name: str, qtype: int) -> Explanation:
    """Explain what `name`, in presentation form, is answered with, and why.

    Raises:
        InvalidNameError: `name` is no domain name.
    """
    wire = names.wire_from_text(name)
    walked = walk(state, wire, qtype)
    flags, sizes = _render(state, wire, qtype)
    return Explanation(
        question=QuestionText(names.to_text(wire), type_name(qtype)),
        verdict=judge(state, walked),
        suggestions=suggest(state, walked),
        zone=_zone(state, walked),
        shape=walked.shape,
        service_import=walked.imported,
        clusters=walked.clusters,
        slices=walked.slices,
        problems=tuple(_problems(state, walked)),
        records=walked.records,
        long_names=walked.node.long_names if walked.node else 0,
        reply=_reply(walked, flags),
        sizes=sizes,
    )


def _zone(state: ZoneState, walked: Walk) -> ServedZone:
    tree = state.tree
    return ServedZone(
        name=names.to_text(walked.zone.apex) if walked.zone else None,
        served=tuple(names.to_text(zone.apex) for zone in tree.zones),
        readiness=tree.readiness.value,
        waiting_for="" if tree.readiness is Readiness.SYNCED else tree.reason,
        stale=tree.stale,
        namespaces=tuple(sorted(label_text(label[1:]) for label in tree.settings.namespaces)),
    )


def _problems(state: ZoneState, walked: Walk) -> Iterator[ObjectProblem]:
    """Yield what the source finds wrong with the service's import, served or not, and its slices.

    Where the import is missing, whatever could not be read may have been it.
    """
    if walked.key is None:
        return
    namespace, service = walked.key
    subjects = {f"{Kind.SERVICE_IMPORT} {namespace}/{service}"}
    subjects |= {f"{Kind.ENDPOINT_SLICE} {each.namespace}/{each.name}" for each in walked.slices}
    for each in state.problems:
        problem = each.problem
        if problem.subject in subjects or (walked.imported is None and each.lost == ANYTHING):
            yield ObjectProblem(each.origin, problem.subject, problem.path, problem.text)


def _reply(walked: Walk, flags: tuple[str, ...]) -> ReplyText:
    response, zone = walked.decision.response, walked.zone
    ede = response.ede
    owner = walked.query.question[:-4]
    return ReplyText(
        rcode=rcode_text(response.rcode),
        flags=flags,
        ede=EdeText(ede.code, ede.name, ede.text) if ede else None,
        answer=tuple(records_of(owner, response.answer)) if response.answer else (),
        authority=tuple(records_of(zone.apex, zone.soa)) if response.negative and zone else (),
        additional=tuple(
            line for target, rrset in response.additional for line in records_of(target, rrset)
        ),
    )


def _render(state: ZoneState, name: bytes, qtype: int) -> tuple[tuple[str, ...], tuple[Size, ...]]:
    """Have the code that serves render the reply for each usual client.

    Returns the reply's flags, TC left out, and what reaches the clients. The clock stands still:
    which records of a subset are sent now does not matter.
    """
    server = InProcessServer(state.authority, "this zone", clock=lambda: 0.0)
    flags = 0
    sizes: list[Size] = []
    for transport, edns, limit in _CLIENTS:
        reply = server.ask(Request(name=name, qtype=qtype, edns=edns), transport).wire
        flags, _, answers, _, additionals = (
            int.from_bytes(reply[at : at + 2], "big") for at in range(2, 12, 2)
        )
        truncated = bool(flags & TC)
        additionals -= edns  # the OPT record
        sizes.append(
            Size(transport.value, edns, limit, len(reply), answers, additionals, truncated)
        )
    return tuple(flag for flag, bit in FLAGS.items() if flags & bit and flag != "tc"), tuple(sizes)
