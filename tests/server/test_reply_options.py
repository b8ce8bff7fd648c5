"""What replies say of this server: NSID (RFC 5001), and texts of class CH (RFC 4892)."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from mcsdns.server.authority import identity
from mcsdns.server.handler import Handler
from mcsdns.server.reply_options import ReplyOptions
from tests.forward.scripted import Server, forwarder_of
from tests.server.test_forward_handler import Client
from tests.server.test_forward_handler import handler_of as forwarding_handler_of
from tests.waiting import until
from tests.worlds import endpoint_slice, handler_of, service_import, world_of

WEB = "web.shop.svc.clusterset.local."
POD = "mcsdns-7c9d-x2x7k"
WORLD = [
    service_import("web", ips=["10.0.0.1"]),
    service_import("db"),
    endpoint_slice("db", "eu", [f"10.1.{number // 250}.{number % 250}" for number in range(500)]),
]


def telling(name: str, version: str = "", *, tcp: bool = False) -> Handler:
    world = world_of(WORLD)
    world.authority.identity = identity(name, version)
    handler = handler_of(world, tcp=tcp)
    handler.reply_options = ReplyOptions(name) if name else None
    return handler


def ask(handler: Handler, query: dns.message.Message) -> dns.message.Message:
    wire = handler.reply_to(query.to_wire())
    assert wire is not None
    assert handler.statistics().failures == 0
    return dns.message.from_wire(wire)


def nsid_query(name: str, rdtype: str = "A", times: int = 1) -> dns.message.Message:
    options = [dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")] * times
    return dns.message.make_query(name, rdtype, use_edns=0, payload=1232, options=options)


def nsids(reply: dns.message.Message) -> list[bytes]:
    return [
        each.to_wire() or b"" for each in reply.options if each.otype == dns.edns.OptionType.NSID
    ]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        (WEB, dns.rcode.NOERROR),
        ("svc.clusterset.local.", dns.rcode.NOERROR),
        ("no.shop.svc.clusterset.local.", dns.rcode.NXDOMAIN),
        ("eu.db.shop.svc.clusterset.local.", dns.rcode.REFUSED),
        ("www.example.", dns.rcode.REFUSED),
    ],
)
def test_who_asks_for_the_name_gets_it_and_nobody_else(
    name: str, rcode: dns.rcode.Rcode, tcp: bool
) -> None:
    handler = telling(POD, tcp=tcp)
    for _ in range(4):  # rendered, cached, found by its octets, and whichever came before
        reply = ask(handler, nsid_query(name, times=3))
        assert nsids(reply) == [POD.encode()]
        assert reply.rcode() == rcode
        plain = ask(handler, dns.message.make_query(name, "A", use_edns=0, payload=1232))
        assert not nsids(plain)
        assert plain.rcode() == rcode
        assert [each.to_text() for each in plain.answer] == [
            each.to_text() for each in reply.answer
        ]


@pytest.mark.parametrize("payload", [512, 600, 1232, 4096])
def test_what_carries_the_name_is_no_longer_than_the_client_takes(payload: int) -> None:
    handler = telling(POD)
    query = nsid_query("db.shop.svc.clusterset.local.")
    query.use_edns(0, payload=payload, options=query.options)
    wire = handler.reply_to(query.to_wire())
    assert wire is not None
    assert len(wire) <= min(payload, 1232) < len(wire) + 16
    reply = dns.message.from_wire(wire)
    assert nsids(reply) == [POD.encode()]
    assert reply.flags & dns.flags.TC


def test_by_default_nothing_is_told() -> None:
    handler = telling("")
    assert not nsids(ask(handler, nsid_query(WEB)))
    for name in ("id.server.", "hostname.bind.", "version.server.", "version.bind."):
        reply = ask(handler, dns.message.make_query(name, "TXT", "CH"))
        assert reply.rcode() == dns.rcode.REFUSED


def test_other_options_bring_nothing() -> None:
    handler = telling(POD)
    options = [dns.edns.GenericOption(65001, b"abc")]
    for _ in range(3):
        query = dns.message.make_query(WEB, "A", use_edns=0, payload=1232, options=options)
        assert not ask(handler, query).options
    assert handler.statistics().rendered == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("id.server.", POD),
        ("Hostname.BIND.", POD),
        ("version.server.", "mcsdns 1"),
        ("version.bind.", "mcsdns 1"),
    ],
)
@pytest.mark.parametrize("rdtype", ["TXT", "ANY"])
def test_texts_of_class_ch(name: str, text: str, rdtype: str) -> None:
    reply = ask(telling(POD, "mcsdns 1"), dns.message.make_query(name, rdtype, "CH"))
    (rrset,) = reply.answer
    assert rrset.to_text() == f'{name} 0 CH TXT "{text}"'


@pytest.mark.parametrize(
    ("name", "rdtype", "rdclass"),
    [
        ("version.bind.", "TXT", "CH"),
        ("authors.bind.", "TXT", "CH"),
        ("id.server.", "A", "CH"),
        ("id.server.", "TXT", "HS"),
        ("id.server.", "TXT", "IN"),
    ],
)
def test_what_is_not_to_be_told_is_refused(name: str, rdtype: str, rdclass: str) -> None:
    reply = ask(telling(POD), dns.message.make_query(name, rdtype, rdclass))
    assert reply.rcode() == dns.rcode.REFUSED
    assert not reply.answer


async def test_forwarded_replies_carry_the_name_too() -> None:
    upstream = Server()
    await upstream.start()
    forwarder = forwarder_of([upstream.address])
    handler, _ = forwarding_handler_of(forwarder)
    handler.reply_options = ReplyOptions(POD)
    client, other = Client("127.0.0.1"), Client("127.0.0.2")
    assert handler.reply_to(nsid_query("www.example.").to_wire(), client) is None
    plain = dns.message.make_query("www.example.", "A", use_edns=0, payload=1232).to_wire()
    assert handler.reply_to(plain, other) is None
    await until(lambda: bool(client.replies and other.replies))
    assert nsids(dns.message.from_wire(client.replies[0])) == [POD.encode()]
    assert not nsids(dns.message.from_wire(other.replies[0]))
    cached = handler.reply_to(nsid_query("www.example.").to_wire(), client)
    assert cached is not None
    assert nsids(dns.message.from_wire(cached)) == [POD.encode()]
    forwarder.close()
    upstream.stop()
