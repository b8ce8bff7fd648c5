"""Signed requests (RFC 8945), asked as dnspython signs them."""

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.tsig
import pytest

from mcsdns.server.handler import Handler
from tests.forward.scripted import Server, forwarder_of
from tests.server.test_forward_handler import Client
from tests.server.test_forward_handler import handler_of as forwarding_handler_of
from tests.waiting import until
from tests.worlds import handler_of, service_import, world_of

KEY = dns.tsig.Key("Key.Example.", "c2VjcmV0IG9mIG5vYm9keQ==")
WEB = "web.shop.svc.clusterset.local."


def signed(name: str, rdtype: str = "A", **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, **options)  # type: ignore[arg-type]
    query.use_tsig(KEY)
    return query


@pytest.fixture(params=[False, True], ids=["udp", "tcp"])
def handler(request: pytest.FixtureRequest) -> Handler:
    return handler_of(world_of([service_import("web", ips=["10.0.0.1"])]), tcp=request.param)


@pytest.mark.parametrize("rdtype", ["A", "AXFR"])
@pytest.mark.parametrize("edns", [-1, 0])
def test_for_our_zones_nobody_has_a_key(handler: Handler, rdtype: str, edns: int) -> None:
    for _ in range(3):
        query = signed(WEB, rdtype, use_edns=edns)
        request = query.to_wire()
        reply = handler.reply_to(request)
        assert reply is not None
        assert len(reply) <= len(request)
        with pytest.raises(dns.tsig.PeerBadKey):
            dns.message.from_wire(reply, keyring=KEY, request_mac=query.mac)
        parsed = dns.message.from_wire(reply, keyring=False)
        assert parsed.rcode() == dns.rcode.NOTAUTH
        assert not parsed.flags & dns.flags.AA
        assert parsed.question == query.question
        assert parsed.edns == edns
        (record,) = parsed.tsig or ()
        assert (record.error, record.mac, record.original_id) == (17, b"", query.id)
        assert handler.statistics().malformed == 0


def test_a_signed_request_leaves_nothing_for_others(handler: Handler) -> None:
    for _ in range(3):
        handler.reply_to(signed(WEB).to_wire())
        reply = handler.reply_to(dns.message.make_query(WEB, "A").to_wire())
        assert reply is not None
        assert dns.message.from_wire(reply).rcode() == dns.rcode.NOERROR


async def test_for_forwarded_names_a_signature_is_ignored() -> None:
    upstream = Server()
    await upstream.start()
    forwarder = forwarder_of([upstream.address])
    handler, _ = forwarding_handler_of(forwarder)
    client = Client("127.0.0.1")
    assert handler.reply_to(signed("www.example.").to_wire(), client) is None
    await until(lambda: bool(client.replies))
    reply = dns.message.from_wire(client.replies[0])
    assert (reply.rcode(), reply.had_tsig) == (dns.rcode.NOERROR, False)
    assert b"hmac" not in upstream.requests[0]
    forwarder.close()
    upstream.stop()
