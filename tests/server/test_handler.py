"""Whatever a peer sends ends in a right reply or in none."""

import random
from collections.abc import Callable

import dnslib
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.dns.types import Rcode, RRType
from mcsdns.objects.model import EndpointSlice
from mcsdns.server.handler import Handler
from mcsdns.server.zone_state import ZoneState
from tests.dns.test_message import ACCEPTED, ERRORS, NO_REPLY
from tests.profiles import examples
from tests.worlds import endpoint_slice, handler_of, service_import, world_of

WORLD = world_of([service_import("web", ips=["10.0.0.1"], ports=[("http", 80)])])
HANDLERS = {False: handler_of(WORLD), True: handler_of(WORLD, tcp=True)}
VALID = dns.write_query(
    7, names.wire_from_text("web.shop.svc.clusterset.local"), 1, opt=dns.write_opt(1232)
)


def assert_right_or_none(handler: Handler, octets: bytes) -> None:
    reply = handler.reply_to(octets)
    assert handler.statistics().failures == 0
    if len(octets) < 12 or octets[2] & 0x80:
        assert reply is None
        return
    assert reply is not None
    assert reply[:2] == octets[:2]
    assert reply[2] & 0x80
    assert reply[2] & 0x78 == octets[2] & 0x78
    questions = int.from_bytes(reply[4:6], "big")
    assert questions <= 1
    end = 12
    if questions:
        while length := reply[end]:
            end += length + 1
        end += 5
    assert reply[12:end] == octets[12:end]
    assert len(reply) >= end


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    "octets",
    [*NO_REPLY.values(), *(octets for octets, _ in ERRORS.values()), *ACCEPTED.values()],
)
def test_the_corpus_ends_in_a_reply_or_none(octets: bytes, tcp: bool) -> None:
    for _ in range(3):
        assert_right_or_none(HANDLERS[tcp], octets)


@examples(500)
@given(st.binary(max_size=600), st.booleans())
@example(b"\0" * 12, False)
def test_any_octets_end_in_a_reply_or_none(octets: bytes, tcp: bool) -> None:
    assert_right_or_none(HANDLERS[tcp], octets)


@examples(500)
@given(st.binary(max_size=600), st.integers(0, 0x7FFF), st.booleans())
def test_any_octets_behind_a_header_end_in_a_reply(octets: bytes, flags: int, tcp: bool) -> None:
    header = b"ID" + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0\0\1"
    assert_right_or_none(HANDLERS[tcp], header + octets)


@examples(500)
@given(st.data())
def test_a_damaged_request_ends_in_a_reply_or_none(data: st.DataObject) -> None:
    octets = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    for request in (bytes(octets), bytes(octets[:cut]), bytes(octets) + bytes(octets[cut:])):
        assert_right_or_none(HANDLERS[False], request)


def test_a_flood_of_random_octets_changes_nothing() -> None:
    noise = random.Random(20_260_101)
    handler = handler_of(WORLD)
    for _ in range(20_000):
        assert_right_or_none(handler, noise.randbytes(noise.randrange(80)))
    assert handler.cache.statistics().known == 0
    assert_right_or_none(handler, VALID)


def test_a_fault_of_ours_is_answered_servfail_and_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of([])
    handler = handler_of(world)

    def fail(_: dns.Query) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.authority, "route", fail)
    for _ in range(50):
        reply = handler.reply_to(VALID)
        assert reply is not None
        assert reply[3] & 15 == 2
    assert handler.statistics().failures == 50
    assert len(caplog.records) == 10


def dual_stack_world(endpoints: int) -> ZoneState:
    return world_of(
        [
            service_import("db"),
            *(
                endpoint_slice(
                    "db",
                    "eu",
                    [
                        f"10.{n >> 8}.{n & 255}.1" if family == 4 else f"fd00::{n:x}"
                        for n in range(start, min(start + 1000, endpoints))
                    ],
                    hostnames=False,
                    name=f"db-{family}-{start:06}",
                )
                for family in (4, 6)
                for start in range(0, endpoints, 1000)
            ),
        ]
    )


def addresses_over_tcp(handler: Handler, qtype: int) -> tuple[bytes, set[int]]:
    name = names.wire_from_text("db.shop.svc.clusterset.local")
    reply = handler.reply_to(dns.write_query(1, name, qtype))
    assert reply is not None
    records = dnslib.DNSRecord.parse(reply).rr
    if qtype == RRType.A:
        return reply, {record.rdata.data[1] << 8 | record.rdata.data[2] for record in records}
    return reply, {record.rdata.data[14] << 8 | record.rdata.data[15] for record in records}


def test_more_than_64_kib_is_a_subset_over_tcp_with_the_same_endpoints_for_both_families() -> None:
    handler = handler_of(dual_stack_world(5000), tcp=True)
    reply, four = addresses_over_tcp(handler, RRType.A)
    assert reply[2] & 2 == 0
    reply, six = addresses_over_tcp(handler, RRType.AAAA)
    assert reply[2] & 2 == 0
    assert 60_000 < len(reply) <= 65_535
    assert four == six
    assert 2000 < len(four) < 5000
    assert handler.statistics().oversized == 2


def test_the_subset_turns_with_time_and_shows_every_endpoint() -> None:
    world = dual_stack_world(5000)
    now = [0.0]
    handler = Handler(
        world.authority,
        handler_of(world).cache,
        tcp=True,
        clock=lambda: now[0],
    )
    seen: set[int] = set()
    for _ in range(3):
        seen |= addresses_over_tcp(handler, RRType.AAAA)[1]
        assert seen >= addresses_over_tcp(handler, RRType.A)[1]
        now[0] += 5
    assert len(seen) == 5000


def test_an_answer_that_just_fits_is_whole() -> None:
    handler = handler_of(dual_stack_world(2000), tcp=True)
    reply, six = addresses_over_tcp(handler, RRType.AAAA)
    assert len(six) == 2000
    assert len(reply) > 56_000
    assert handler.statistics().oversized == 0


def shown(world: ZoneState, now_s: float = 0.0, *, tcp: bool = True) -> list[dnslib.DNSRecord]:
    """Replies to A, AAAA, SRV, and SRV of the two ports."""
    handler = Handler(world.authority, handler_of(world).cache, tcp=tcp, clock=lambda: now_s)
    replies = []
    for qtype, prefix in ((1, ""), (28, ""), (33, ""), (33, "_http._tcp."), (33, "_api._tcp.")):
        name = names.wire_from_text(f"{prefix}db.shop.svc.clusterset.local")
        octets = handler.reply_to(dns.write_query(1, name, qtype, opt=dns.write_opt(4096)))
        assert octets is not None
        replies.append(dnslib.DNSRecord.parse(octets))
    return replies


def numbers_of(world: ZoneState, reply: dnslib.DNSRecord) -> set[int]:
    """The endpoints that a reply shows: the last parts of their addresses, 1 to ffff."""
    numbers = set[int]()
    for record in reply.rr:
        if record.rtype == 33:
            service = world.tree.services[b"\2db\4shop"]
            target = b"".join(bytes((len(x),)) + x for x in record.rdata.target.label[:2])
            node = service.names[target]
            numbers |= {int.from_bytes(packed[-2:], "big") for packed in (*node.a, *node.aaaa)}
        else:
            packed = bytes(record.rdata.data)
            numbers.add(packed[-2] << 8 | packed[-1])
    return numbers


def large_world(hostnames: bool, max_records: int) -> ZoneState:
    """150 endpoints of both families in two clusters, of which one has a port more."""
    slices = [
        endpoint_slice(
            "db",
            cluster,
            [f"10.0.{n >> 8}.{n & 255}" if family == 4 else f"fd00::{n:x}" for n in of],
            hostnames=hostnames,
            name=f"db-{cluster}-{family}",
            ports=ports,
        )
        for cluster, of, ports in (
            ("eu", range(1, 101), [("http", 80), ("api", 90)]),
            ("us", range(101, 151), [("http", 80)]),
        )
        for family in (4, 6)
    ]
    return world_of([service_import("db"), *slices], max_records=max_records)


@pytest.mark.parametrize("hostnames", [True, False])
def test_of_a_large_service_so_many_records_are_shown_and_the_same_endpoints(
    hostnames: bool,
) -> None:
    world = large_world(hostnames, 40)
    seen = set[int]()
    for turn in range(30):
        a, aaaa, srv, http, api = shown(world, turn * 5.0)
        for reply in (a, aaaa, srv, http, api):
            assert 1 <= len(reply.rr) <= 40
            assert reply.header.tc == 0
        now = numbers_of(world, a)
        assert len(now) >= (40 // 2 if hostnames else 40 // 4)
        for reply in (aaaa, srv, http):
            assert numbers_of(world, reply) == now
        with_api = {number for number in now if number <= 100}
        assert not with_api or numbers_of(world, api) == with_api
        seen |= now
    assert seen == set(range(1, 151))


def test_what_is_shown_over_udp_is_of_the_same_endpoints_and_truncated() -> None:
    world = large_world(False, 100)
    over_udp, over_tcp = shown(world, 35.0, tcp=False), shown(world, 35.0)
    for some, all_shown in zip(over_udp, over_tcp, strict=True):
        assert numbers_of(world, some) <= numbers_of(world, all_shown)


@pytest.mark.parametrize("max_records", [0, 250, 65535])
def test_a_service_with_no_more_records_is_shown_whole(max_records: int) -> None:
    world = large_world(True, max_records)
    assert [len(reply.rr) for reply in shown(world)] == [150, 150, 250, 150, 100]


def test_many_addresses_of_one_host_and_of_a_clusterset_ip_are_cut_too() -> None:
    one_host = endpoint_slice("db", "eu", ["10.0.0.1"])
    assert isinstance(one_host, EndpointSlice)
    many = tuple(bytes((10, 0, 1, n)) for n in range(120))
    endpoint = msgspec.structs.replace(one_host.endpoints[0], addresses=many)
    ips = [f"10.1.0.{n}" for n in range(120)]
    world = world_of(
        [
            service_import("db"),
            msgspec.structs.replace(one_host, endpoints=(endpoint,)),
            service_import("web", ips=ips, ports=[("http", 80)]),
        ],
        max_records=50,
    )
    handler = handler_of(world, tcp=True)
    for name in ("db", "db-0.eu.db", "web"):
        wire = names.wire_from_text(f"{name}.shop.svc.clusterset.local")
        for qtype, least in ((1, 50), (33, 0)):
            octets = handler.reply_to(dns.write_query(1, wire, qtype))
            assert octets is not None
            reply = dnslib.DNSRecord.parse(octets)
            assert least <= len(reply.rr) <= 50
            assert len(reply.ar) <= 50


def test_any_of_many_records_is_hinfo() -> None:
    name = names.wire_from_text("db.shop.svc.clusterset.local")
    for endpoints, rtype, records in ((64, 1, 64), (65, 13, 1)):
        addresses = [f"10.0.0.{n}" for n in range(endpoints)]
        world = world_of([service_import("db"), endpoint_slice("db", "eu", addresses)])
        octets = handler_of(world, tcp=True).reply_to(dns.write_query(1, name, 255))
        assert octets is not None
        reply = dnslib.DNSRecord.parse(octets)
        assert [record.rtype for record in reply.rr] == [rtype] * records


def test_a_pod_that_asks_for_all_names_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Pod:
        def address(self) -> bytes:
            return bytes((10, 42, 0, 7))

        def detach(self) -> Callable[[bytes], None]:
            raise AssertionError("nothing is forwarded")

    world = world_of([])
    for tcp in (False, True):
        handler = handler_of(world, tcp=tcp)
        for name in (
            "www.example",
            "a.root-servers.net",
            "db.shop.svc.cluster.local",
            "x.svc.test",
        ):
            message = dns.write_query(1, names.wire_from_text(name), 1)
            for client in (None, Pod()):
                octets = handler.handle(message, client)
                assert octets is not None
                assert octets[2] & 15 == Rcode.REFUSED
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("10.42.0.7 asks for db.shop.svc.cluster.local.")
    assert "--upstream" in line
