"""Names, records and replies in presentation form (RFC 1035, 5), as dig writes them."""

from collections.abc import Iterator
from typing import Final

from mcsdns.diagnostics.client import InProcess
from mcsdns.diagnostics.explain.facts import ExtendedError, Reply, Size
from mcsdns.diagnostics.explain.walk import Asked
from mcsdns.dns import MAX_TCP_BYTES, MAX_UDP_BYTES, MIN_UDP_BYTES
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import EDE_NAMES, FLAGS, read_reply
from mcsdns.dns.rdata import fields_of, type_name
from mcsdns.dns.request import Request, Transport
from mcsdns.dns.types import RRset, rcode_text
from mcsdns.server.authority import Authority
from mcsdns.zone.tree import Tree


def records_of(owner: bytes, rrset: RRset) -> Iterator[str]:
    """Write each record of an RRset as a line of a zone file."""
    fixed = f"{names.to_text(owner)} {rrset.ttl} IN {type_name(rrset.rtype)} "
    for rdata in rrset.rdatas:
        yield fixed + " ".join(fields_of(rrset.rtype, rdata, 0, len(rdata)))


def reply_of(asked: Asked, flags: tuple[str, ...]) -> Reply:
    """Write a response's sections; `flags` are those of the rendered reply."""
    response, zone = asked.decision.response, asked.zone
    owner = asked.query.question[:-4]
    ede = response.ede
    return Reply(
        rcode=rcode_text(response.rcode),
        flags=flags,
        ede=ExtendedError(ede.code, EDE_NAMES[ede.code], ede.text) if ede else None,
        answer=tuple(records_of(owner, response.answer)) if response.answer else (),
        authority=tuple(records_of(zone.apex, zone.soa)) if response.negative and zone else (),
        additional=tuple(
            line for target, rrset in response.additional for line in records_of(target, rrset)
        ),
    )


def rendered(
    answerer: Authority, tree: Tree, name: bytes, qtype: int
) -> tuple[tuple[str, ...], tuple[Size, ...]]:
    """Have the server's own responder render the reply for each usual client.

    Returns the reply's flags, TC left out, and what reaches the clients.
    """
    asker = InProcess(answerer, tree, "this zone", clock=_beginning_of_time)
    flags: tuple[str, ...] = ()
    sizes: list[Size] = []
    for transport, edns, limit in _CLIENTS:
        reply = read_reply(asker.ask(Request(name=name, qtype=qtype, edns=edns), transport).wire)
        flags = tuple(flag for flag in reply.flag_names if flag != "tc")
        answers, additionals = len(reply.answer), len(reply.additional)
        truncated = bool(reply.flags & FLAGS["tc"])
        sizes.append(
            Size(transport.value, edns, limit, reply.size, answers, additionals, truncated)
        )
    return flags, tuple(sizes)


_CLIENTS: Final = (
    (Transport.UDP, False, MIN_UDP_BYTES),
    (Transport.UDP, True, MAX_UDP_BYTES),
    (Transport.TCP, True, MAX_TCP_BYTES),
)


def _beginning_of_time() -> float:
    """A clock for what is explained, not sent: which subset it is does not matter."""
    return 0.0
