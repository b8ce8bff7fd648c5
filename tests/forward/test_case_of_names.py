"""Clients that spell a name in several ways share one question; each is told its own."""

import pytest

from mcsdns.forward.address import Address, Protocol
from tests.forward.scripted import (
    Clock,
    ScriptedNetwork,
    answer,
    ask,
    forwarder_of,
    question_end,
    rcode,
    request,
)

SPELLINGS = ["www.example", "WWW.example", "wWw.eXample"]


def spelt(name: str) -> bytes:
    """A request with the name as it is written here."""
    octets = request(name)
    labels = b"".join(bytes((len(each),)) + each.encode() for each in name.split("."))
    return octets[:12] + labels + octets[12 + len(labels) :]


def lowered(message: bytes) -> bytes:
    end = question_end(message) - 4
    return message[:12] + message[12:end].lower() + message[end:]


@pytest.mark.parametrize("protocol", [Protocol.UDP, Protocol.TCP])
@pytest.mark.parametrize("code", [0, 1, 3])
def test_joined_clients_get_their_own_spelling(protocol: Protocol, code: int) -> None:
    clock, upstream = Clock(), Address(protocol, "192.0.2.1", 53)
    network = ScriptedNetwork(clock)
    forwarder = forwarder_of([upstream], network=network)
    askers = [ask(forwarder, spelt(name), now_s=clock.now_s) for name in reversed(SPELLINGS)]
    way = network.udp[upstream] if protocol is Protocol.UDP else network.streams[upstream]
    (sent,) = way.requests
    assert sent[12 : question_end(sent) - 4] == spelt(SPELLINGS[-1])[12:25]
    while not askers[0].replies:  # after FORMERR it asks once more without EDNS
        assert way.say(answer(lowered(way.requests[-1]), [] if code else [b"\1\2\3\4"], rcode=code))
    for asker, name in zip(askers, reversed(SPELLINGS), strict=True):
        assert rcode(asker) == {0: "NOERROR", 1: "FORMERR", 3: "NXDOMAIN"}[code]
        assert str(asker.reply.q.qname) == f"{name}."
        assert [str(each.rname) for each in asker.reply.rr] == ([] if code else [f"{name}."])
    assert not forwarder.statistics().upstreams[0].health.failed
