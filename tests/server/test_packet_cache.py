"""Cached replies: equal to fresh ones, dropped exactly with what changed, bounded."""

import itertools
from collections import Counter
from typing import Any

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.dns.types import RRType
from mcsdns.objects.events import Apply, Delete
from mcsdns.objects.model import Kind
from mcsdns.server.handler import Handler
from mcsdns.server.packet_cache import PacketCache, Statistics
from mcsdns.server.zone_state import ZoneState
from mcsdns.zone.name_shape import APEX_OWNER
from tests.profiles import examples
from tests.worlds import endpoint_slice, handler_of, service_import, world_of

ZONE = "clusterset.local"
NAMES = [
    "web.shop.svc",
    "_http._tcp.web.shop.svc",
    "_tcp.web.shop.svc",
    "eu.web.shop.svc",
    "db.shop.svc",
    "_http._tcp.db.shop.svc",
    "db-0.eu.db.shop.svc",
    "db-9.us.db.shop.svc",
    "db-0.xx.db.shop.svc",
    "eu.db.shop.svc",
    "big.shop.svc",
    "_http._tcp.big.shop.svc",
    "six.shop.svc",
    "none.shop.svc",
    "x.none.shop.svc",
    "shop.svc",
    "other.svc",
    "svc",
    "dns",
    "ns.dns",
    "dns-version",
    "else",
    r"we\000b.shop.svc",
    r"web.shop\000.svc",
    "",
]
TYPES = [RRType.A, RRType.AAAA, RRType.SRV, RRType.ANY, RRType.TXT, RRType.SOA, RRType.NS]
TYPES += [RRType.HTTPS, RRType.CAA]
COOKIE = b"\0\x0a\0\x08" + bytes(8)
SIZES = [None, 0, 511, 512, 513, 600, 700, 900, 1100, 1220, 1231, 1232, 1233, 4096, 65535]


def a_world() -> ZoneState:
    return world_of(
        [
            service_import("web", ips=["10.0.0.1", "10.0.0.2"], ports=[("http", 80)]),
            service_import("db"),
            endpoint_slice("db", "eu", [f"10.1.0.{n}" for n in range(10)]),
            endpoint_slice("db", "us", [f"10.2.0.{n}" for n in range(10)]),
            service_import("big"),
            endpoint_slice("big", "eu", [f"10.3.{n // 250}.{n % 250}" for n in range(700)]),
            service_import("six"),
            endpoint_slice("six", "eu", ["fd00::1", "fd00::2", "fd00::3"], hostnames=False),
            service_import("none"),
            endpoint_slice("none", "eu", ["10.4.0.1"], ready=False),
        ],
        ns_address=["10.9.9.9"],
    )


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    text = draw(st.sampled_from(NAMES))
    name = bytearray(names.wire_from_text(f"{text}.{ZONE}" if text else ZONE))
    for at in draw(st.lists(st.integers(0, len(name) - 1), max_size=6)):
        if chr(name[at]).isalpha() and name[at] > 63:
            name[at] ^= 0x20
    size = draw(st.sampled_from(SIZES))
    opt = b""
    if size is not None:
        cookie = draw(st.one_of(st.just(b""), st.binary(min_size=8, max_size=8)))
        options = b"\0\x0a\0\x08" + cookie if cookie else b""
        version = draw(st.sampled_from([0, 0, 0, 0, 0, 1, 255]))
        opt = dns.write_opt(size, version=version, do=draw(st.booleans()), options=options)
    return dns.write_query(
        draw(st.integers(0, 0xFFFF)),
        bytes(name),
        draw(st.sampled_from(TYPES)),
        qclass=draw(st.sampled_from([1, 1, 1, 1, 1, 3, 255])),
        rd=draw(st.booleans()),
        cd=draw(st.booleans()),
        ad=draw(st.booleans()),
        opt=opt,
    )


def sections(reply: bytes) -> dict[str, Any]:
    """A reply but for the order of its records."""
    parsed = dnslib.DNSRecord.parse(reply)
    return {
        "header": reply[:12],
        "question": reply[12 : 12 + len(parsed.q.qname.label) + 4] and parsed.q.qname.label,
        "qtype": parsed.q.qtype,
        "answer": Counter(map(str, parsed.rr)),
        "authority": Counter(map(str, parsed.auth)),
        "additional": Counter(str(each) for each in parsed.ar if each.rtype != RRType.OPT),
        "opt": [(r.rclass, r.ttl, str(r.rdata)) for r in parsed.ar if r.rtype == RRType.OPT],
    }


def assert_equal_but_for_order(cached: bytes, fresh: bytes, all_records: Counter[str]) -> None:
    """Where records are left out, which ones are is a matter of order too.

    So is how many, where they are of different sizes.
    """
    one, other = sections(cached), sections(fresh)
    if one["answer"] != other["answer"] or one["additional"] != other["additional"]:
        is_cut = bool(cached[2] & 2)
        if not is_cut or one["qtype"] in (RRType.A, RRType.AAAA):
            assert one["answer"].total() == other["answer"].total()
        assert not (one["answer"] | other["answer"]) - all_records
        assert cached[2:6] == fresh[2:6]
        one = {key: one[key] for key in ("question", "qtype", "authority", "opt")}
        other = {key: other[key] for key in one}
    assert one == other


@examples(75)
@given(st.data(), st.booleans())
def test_a_cached_reply_equals_a_newly_rendered_one(data: st.DataObject, tcp: bool) -> None:
    world = a_world()
    handler = handler_of(world, tcp=tcp)
    changes = itertools.cycle([["10.0.0.1"], ["10.0.0.3", "fd00::7"], ["10.0.0.1", "10.0.0.2"]])
    for request in data.draw(st.lists(requests(), min_size=1, max_size=12)):
        for _ in range(data.draw(st.integers(1, 4))):
            cached = handler.reply_to(request)
            fresh = handler_of(world, tcp=tcp).reply_to(request)
            assert cached is not None
            assert fresh is not None
            full = handler_of(world, tcp=True).reply_to(request)
            assert full is not None
            parsed = dnslib.DNSRecord.parse(full)
            assert_equal_but_for_order(cached, fresh, Counter(map(str, parsed.rr)))
        if data.draw(st.booleans()):
            world.publisher.apply(Apply(service_import("web", ips=next(changes))))
            handler.cache.evict([*world.publish_all(1_700_000_001), APEX_OWNER])
    assert handler.statistics().failures == 0


def ask(handler: Handler, text: str, qtype: int = RRType.A, **options: Any) -> bytes:
    name = names.wire_from_text(text)
    reply = handler.reply_to(dns.write_query(1, name, qtype, **options))
    assert reply is not None
    return reply


@pytest.mark.parametrize(
    ("name", "rotations"), [("ns.dns", 1), ("web.shop.svc", 2), ("db.shop.svc", 5)]
)
def test_a_reply_is_cached_from_the_second_question_on_each_rotation_as_it_is_sent(
    name: str, rotations: int
) -> None:
    handler = handler_of(a_world())
    replies = [ask(handler, f"{name}.{ZONE}") for _ in range(1 + rotations)]
    assert handler.statistics().rendered == 1 + rotations
    for turn in range(2 * rotations):
        assert ask(handler, f"{name}.{ZONE}") == replies[1 + turn % rotations]
    for _ in range(10):
        ask(handler, f"{name.upper()}.{ZONE}")
    assert handler.statistics().rendered == 1 + rotations


def test_names_asked_once_leave_nothing() -> None:
    handler = handler_of(a_world())
    for number in range(1000):
        ask(handler, f"web{number}.shop.svc.{ZONE}")
        ask(handler, f"db-{number % 10}.eu.db.shop.svc.{ZONE}", RRType(1 + number % 2))
    assert handler.cache.statistics().unknown == 0


def test_addresses_rotate_from_answer_to_answer() -> None:
    handler = handler_of(a_world())
    firsts = [
        str(dnslib.DNSRecord.parse(ask(handler, f"six.shop.svc.{ZONE}", RRType.AAAA)).rr[0])
        for _ in range(12)
    ]
    assert len(set(firsts)) == 3
    assert all(one != other for one, other in itertools.pairwise(firsts[3:]))


def test_truncated_rotations_show_every_record() -> None:
    handler = handler_of(a_world())
    opt = dns.write_opt(1232)
    seen: set[str] = set()
    for _ in range(200):
        reply = ask(handler, f"big.shop.svc.{ZONE}", opt=opt)
        seen.update(str(record.rdata) for record in dnslib.DNSRecord.parse(reply).rr)
    assert len(seen) == 700


def test_a_change_drops_the_replies_of_that_service_and_no_others() -> None:
    world = a_world()
    handler = handler_of(world)
    asked = ["web.shop.svc", "db.shop.svc", "db-0.eu.db.shop.svc", "nope.shop.svc", "other.svc"]
    for text in asked * 6:
        ask(handler, f"{text}.{ZONE}")
    before = set(handler.cache.known), set(handler.cache.unknown)
    world.publisher.apply(Apply(endpoint_slice("db", "eu", ["10.1.0.99"])))
    handler.cache.evict(world.publish_all(1_700_000_001))
    dropped = (before[0] - set(handler.cache.known)) | (before[1] - set(handler.cache.unknown))
    assert len(dropped) == 2
    assert all(b"\x02db\x04shop" in key for key in dropped)
    assert "10.1.0.99" in str(dnslib.DNSRecord.parse(ask(handler, f"db-0.eu.db.shop.svc.{ZONE}")))


def test_a_new_service_drops_its_denial_and_that_of_its_namespace() -> None:
    world = a_world()
    handler = handler_of(world)
    for text in ["app.new.svc", "new.svc", "x.app.new.svc", "else"] * 3:
        reply = dnslib.DNSRecord.parse(ask(handler, f"{text}.{ZONE}"))
        assert reply.header.rcode == 3
    world.publisher.apply(Apply(service_import("app", "new", ips=["10.0.0.9"])))
    handler.cache.evict(world.publish_all(1_700_000_001))
    codes = [
        dnslib.DNSRecord.parse(ask(handler, f"{text}.{ZONE}")).header.rcode
        for text in ["app.new.svc", "new.svc", "x.app.new.svc", "else"]
    ]
    assert codes == [0, 0, 5, 3]
    world.publisher.apply(Delete(Kind.SERVICE_IMPORT, ("new", "app")))
    handler.cache.evict(world.publish_all(1_700_000_002))
    assert dnslib.DNSRecord.parse(ask(handler, f"new.svc.{ZONE}")).header.rcode == 3


def test_cached_denials_carry_the_new_serial() -> None:
    world = a_world()
    handler = handler_of(world)
    for _ in range(3):
        ask(handler, f"web.shop.svc.{ZONE}", RRType.TXT)
        ask(handler, f"nope.shop.svc.{ZONE}")
    world.publisher.apply(Apply(service_import("app", ips=["10.0.0.9"])))
    handler.cache.evict(world.publish_all(1_700_000_500))
    rendered = handler.statistics().rendered
    for text, qtype in [("web.shop.svc", RRType.TXT), ("nope.shop.svc", RRType.A)]:
        reply = ask(handler, f"{text}.{ZONE}", qtype)
        assert (1_700_000_500).to_bytes(4, "big") in reply
    assert handler.statistics().rendered == rendered


@pytest.mark.parametrize("max_bytes", [0, 2000, 20_000])
def test_memory_for_replies_is_bounded(max_bytes: int) -> None:
    handler = handler_of(a_world(), max_bytes=max_bytes)
    for _ in range(3):
        for number in range(10):
            for qtype in TYPES:
                ask(handler, f"db-{number}.eu.db.shop.svc.{ZONE}", qtype)
                ask(handler, f"web.shop.svc.{ZONE}", qtype)
    assert handler.cache.statistics().size_bytes <= max_bytes


def test_unknown_names_do_not_push_out_known_ones() -> None:
    handler = handler_of(a_world())
    for _ in range(3):
        ask(handler, f"web.shop.svc.{ZONE}")
    for number in range(20_000):
        for _ in range(2):
            ask(handler, f"{number}.x.svc.{ZONE}")
    assert len(handler.cache.unknown) <= 16_384
    rendered = handler.statistics().rendered
    ask(handler, f"web.shop.svc.{ZONE}")
    assert handler.statistics().rendered == rendered


@pytest.mark.parametrize("opt", [b"", dns.write_opt(600), dns.write_opt(1232)])
@pytest.mark.parametrize("below", ["x.web.shop.svc", "svc", "x.svc", "web.shop.svc", "else"])
def test_unknown_names_are_bounded_wherever_they_stand(below: str, opt: bytes) -> None:
    world = a_world()
    handler = Handler(
        world.authority,
        PacketCache(1 << 24, max_unknown=100),
        tcp=False,
        clock=lambda: 0.0,
    )
    for number in range(1000):
        for _ in range(3):
            ask(handler, f"n{number}.{below}.{ZONE}", opt=opt)
    statistics = handler.cache.statistics()
    assert 100 - 64 <= statistics.unknown <= 100
    assert statistics.known == 0
    handler.cache.evict(handler.cache.owners())
    assert handler.cache.statistics().unknown == 0


def test_size_is_what_the_cached_replies_add_up_to() -> None:
    handler = handler_of(a_world())
    sizes = [512, 1232, 4096, 700]
    for _ in range(4):
        for size, name in itertools.product(sizes, ["web.shop.svc", "db.shop.svc"]):
            ask(handler, f"{name}.{ZONE}", opt=dns.write_opt(size, options=COOKIE))
    assert handler.cache.statistics().size_bytes > 0
    handler.cache.evict([b"\x03web\x04shop", b"\x02db\x04shop"])
    assert handler.cache.statistics() == Statistics(0, 0, 0)


def test_odd_shapes_of_a_name_are_bounded() -> None:
    handler = handler_of(a_world())
    for qtype in range(1, 300):
        for size in range(512, 1300, 13):
            for _ in range(2):
                opt = dns.write_opt(size, options=b"\0\x0a\0\x08" + bytes(8))
                ask(handler, f"web.shop.svc.{ZONE}", qtype, opt=opt)
    names_of_web = 3
    assert handler.cache.statistics().known <= 48 * names_of_web + 2


def test_a_message_that_looks_like_the_key_of_odd_requests_gets_no_reply() -> None:
    handler = handler_of(a_world())
    for _ in range(3):
        ask(handler, f"ns.dns.{ZONE}", opt=dns.write_opt(700))
    (key,) = handler.cache.odd
    assert key[0] & 0x80
    assert handler.reply_to(b"ID" + key) is None


def test_what_fits_every_client_is_rendered_once_for_all_odd_sizes() -> None:
    handler = handler_of(a_world())
    for size in range(513, 1220):
        reply = ask(handler, f"ns.dns.{ZONE}", opt=dns.write_opt(size))
        assert len(dnslib.DNSRecord.parse(reply).rr) == 1
    assert handler.statistics().rendered == 2


def test_everything_can_be_evicted() -> None:
    handler = handler_of(a_world())
    for text in ["web.shop.svc", "nope.shop.svc", "else"] * 3:
        ask(handler, f"{text}.{ZONE}")
    handler.cache.evict(handler.cache.owners())
    statistics = handler.cache.statistics()
    assert (statistics.known, statistics.unknown, statistics.size_bytes) == (0, 0, 0)
