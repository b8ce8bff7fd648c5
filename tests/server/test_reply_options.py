"""What replies carry: NSID (RFC 5001), texts of class CH (RFC 4892), DNS cookies (RFC 7873)."""

import ipaddress
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from mcsdns import dns as wire
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import read_reply
from mcsdns.errors import ConfigError, MessageError
from mcsdns.server.authority import identity
from mcsdns.server.handler import Handler
from mcsdns.server.reply_options import Cookies, ReplyOptions, read_secrets
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


def contents(reply: dns.message.Message, code: dns.edns.OptionType) -> list[bytes]:
    return [each.to_wire() or b"" for each in reply.options if each.otype == code]


def nsids(reply: dns.message.Message) -> list[bytes]:
    return contents(reply, dns.edns.OptionType.NSID)


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


# Cookies

SECRET, OLD_SECRET, NEW_SECRET = (
    "e5e973e5a6b2a43f48e7dc849e37bfcf",
    "dd3bdf9344b678b185a6f5cb60fca715",
    "445536bcd2513298075a5d379663c962",
)
FROM_V4, FROM_OTHER, FROM_V6 = (
    ipaddress.ip_address(text).packed
    for text in ("198.51.100.100", "203.0.113.203", "2001:db8:220:1:59de:d0f4:8769:82b8")
)
VECTORS = {  # RFC 9018, appendix A: secrets, client, when, what it sends, what it gets
    "A.1 learning": (
        [SECRET], FROM_V4, 1559731985,
        "2464c4abcf10c957", "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
    ),
    "A.2 renewing": (
        [SECRET], FROM_V4, 1559734385,
        "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
        "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
    ),
    "A.3 another client": (
        [SECRET], FROM_OTHER, 1559734700,
        "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
        "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
    ),
    "A.4 a secret that is replaced": (
        [NEW_SECRET, OLD_SECRET], FROM_V6, 1559741961,
        "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
        "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
    ),
}  # fmt: skip


def cookies_of(folder: Path, *secrets: str, now_s: float = 0.0) -> Cookies:
    path = folder / "secrets"
    path.write_text("".join(f"{secret}\n" for secret in secrets))
    return Cookies(str(path), lambda: now_s)


@pytest.mark.parametrize(
    ("secrets", "client", "now_s", "sent", "expected"), VECTORS.values(), ids=VECTORS.keys()
)
def test_cookies_are_those_of_rfc_9018(
    tmp_path: Path, secrets: list[str], client: bytes, now_s: int, sent: str, expected: str
) -> None:
    cookies = cookies_of(tmp_path, *secrets, now_s=now_s)
    option = cookies.option(bytes.fromhex(sent), client)
    assert option == b"\0\x0a\0\x18" + bytes.fromhex(expected)
    assert cookies.is_valid(option[4:], client)


@pytest.mark.parametrize(
    ("secrets", "client", "after_s", "valid"),
    [
        ([SECRET], FROM_OTHER, 0, True),
        ([NEW_SECRET, SECRET], FROM_OTHER, 3600, True),
        ([SECRET], FROM_OTHER, 3601, False),
        ([SECRET], FROM_OTHER, -300, True),
        ([SECRET], FROM_OTHER, -301, False),
        ([SECRET], FROM_V4, 0, False),
        ([NEW_SECRET], FROM_OTHER, 0, False),
    ],
)
def test_a_cookie_is_good_for_an_hour_its_address_and_its_secret(
    tmp_path: Path, secrets: list[str], client: bytes, after_s: int, valid: bool
) -> None:
    """Reserved octets of zero or not are hashed as they came (RFC 9018, A.3)."""
    cookie = bytes.fromhex("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5")
    cookies = cookies_of(tmp_path, *secrets, now_s=1559727985 + after_s)
    assert cookies.is_valid(cookie, client) is valid


@pytest.mark.parametrize("changed", range(24))
def test_no_octet_of_a_cookie_may_change(tmp_path: Path, changed: int) -> None:
    cookies = cookies_of(tmp_path, SECRET, now_s=1559731985)
    cookie = bytearray(cookies.option(b"clientis", FROM_V4)[4:])
    cookie[changed] ^= 1
    assert not cookies.is_valid(bytes(cookie), FROM_V4)
    assert not cookies.is_valid(bytes(cookie[:changed]), FROM_V4)


def test_time_goes_round_with_its_32_bits(tmp_path: Path) -> None:
    cookie = cookies_of(tmp_path, SECRET, now_s=(1 << 32) - 1).option(b"clientis", FROM_V4)[4:]
    assert cookies_of(tmp_path, SECRET, now_s=(1 << 32) + 10).is_valid(cookie, FROM_V4)


def test_a_secret_of_our_own_lasts_a_day_and_is_accepted_for_another() -> None:
    begin_s = now_s = 1559731985.0
    cookies, others = Cookies("", lambda: now_s), Cookies("", lambda: now_s)
    cookie = cookies.option(b"clientis", FROM_V4)[4:]
    assert cookies.is_valid(cookie, FROM_V4)
    assert not others.is_valid(cookie, FROM_V4)
    secrets_that_accept = []
    now_s = made_s = begin_s + 86400 - 60
    cookie = cookies.option(b"clientis", FROM_V4)[4:]
    for days in (1, 2, 3):
        now_s = begin_s + days * 86400
        assert cookies.option(b"clientis", FROM_V4)
        now_s = made_s
        secrets_that_accept.append(cookies.is_valid(cookie, FROM_V4))
    assert secrets_that_accept == [True, False, False]


def test_secrets_of_a_file_are_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now_s = 1559731985.0
    path = tmp_path / "secrets"
    path.write_text(SECRET)
    cookies = Cookies(str(path), lambda: now_s)
    cookie = cookies.option(b"clientis", FROM_V4)[4:]
    path.write_text(f"{NEW_SECRET}\n{SECRET}\n")
    now_s += 61
    assert cookies.is_valid(cookie, FROM_V4)
    renewed = cookies.option(b"clientis", FROM_V4)[4:]
    path.write_text(NEW_SECRET)
    now_s += 61
    assert cookies.is_valid(renewed, FROM_V4)
    assert not cookies.is_valid(cookie, FROM_V4)
    path.unlink()
    now_s += 61
    assert cookies.is_valid(renewed, FROM_V4)
    assert ["No such file" in line for line in caplog.messages] == [True]


@pytest.mark.parametrize("text", ["", "\n", SECRET[:-1], SECRET[:-2], "x" * 32, SECRET * 2, "\xe9"])
def test_a_file_of_no_secrets_is_an_error_that_tells_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_secrets(str(path))
    assert str(caught.value) == f"{path}: write a secret of 32 hexadecimal digits on each line"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Cookies(str(tmp_path / "nowhere"), lambda: 0.0)


@pytest.mark.parametrize("size", [*range(8), *range(9, 16), 41, 300])
def test_what_is_no_cookie_is_formerr(tmp_path: Path, size: int) -> None:
    cookies = cookies_of(tmp_path, SECRET)
    with pytest.raises(MessageError):
        cookies.option(bytes(size), FROM_V4)
    handler = telling("")
    handler.reply_options = ReplyOptions("", cookies)
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(size))
    query = dns.message.make_query(WEB, "A", use_edns=0, payload=1232, options=[option])
    wire = handler.reply_to(query.to_wire(), Client("198.51.100.100"))
    assert wire is not None
    reply = dns.message.from_wire(wire)
    assert (reply.rcode(), reply.edns) == (dns.rcode.FORMERR, 0)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("name", [WEB, "no.shop.svc.clusterset.local.", "www.example."])
def test_every_client_gets_a_cookie_of_its_own(tmp_path: Path, name: str, tcp: bool) -> None:
    handler = telling("", tcp=tcp)
    handler.reply_options = ReplyOptions("", cookies_of(tmp_path, SECRET, now_s=1559731985))
    sent = [bytes.fromhex("2464c4abcf10c957"), bytes(8)]
    options = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, each) for each in sent]
    query = dns.message.make_query(name, "A", use_edns=0, payload=1232, options=options)
    expected = bytes.fromhex("2464c4abcf10c957010000005cf79f111f8130c3eee29480")
    for _ in range(3):
        for host, is_expected in (("198.51.100.100", True), ("198.51.100.101", False)):
            wire = handler.reply_to(query.to_wire(), Client(host))
            assert wire is not None
            (cookie,) = contents(dns.message.from_wire(wire), dns.edns.OptionType.COOKIE)
            assert (cookie == expected) is is_expected


BAD_COOKIE = wire.write_opt(options=b"\0\x0a\0\1x")


@pytest.mark.parametrize(("flags", "rcode"), [(0x8000, None), (0x7800, 4), (0, 1)])
def test_a_malformed_cookie_counts_in_what_is_a_query_alone(flags: int, rcode: int | None) -> None:
    handler = telling(POD)
    handler.reply_options = ReplyOptions("", Cookies("", lambda: 0.0))
    request = bytearray(wire.write_query(1, names.wire_from_text(WEB), 1, opt=BAD_COOKIE))
    request[2] |= flags >> 8
    reply = handler.reply_to(bytes(request), Client("127.0.0.1"))
    assert (reply[3] & 15 if reply else None) == rcode


def test_octets_that_look_like_options_bring_none_where_there_is_no_opt_record() -> None:
    """A label of `local` and two octets more has what seems to be the end of the name in it."""
    options = b"\0\3\0\0" + b"\0\x0a\0\x08clientco"
    request = wire.write_query(1, names.wire_from_text(WEB), 1, opt=wire.write_opt(options=options))
    odd = request.replace(b"\5local", b"\7local")
    query = wire.read_query(odd)
    assert query is not None
    assert query.edns is None
    reply = telling(POD).reply_to(odd)
    assert reply is not None
    assert read_reply(reply).opt is None


def test_a_malformed_cookie_is_one_whatever_the_name_is_like() -> None:
    handler = telling(POD)
    handler.reply_options = ReplyOptions("", Cookies("", lambda: 0.0))
    request = wire.write_query(1, b"\3w\0b" + names.wire_from_text(WEB)[4:], 1, opt=BAD_COOKIE)
    reply = handler.reply_to(request, Client("127.0.0.1"))
    assert reply is not None
    assert reply[3] & 15 == 1
