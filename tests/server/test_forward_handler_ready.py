"""Replies that are ready for one second after the other say what the cache would say."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcsdns import dns
from mcsdns.forward.address import Address, Protocol
from mcsdns.forward.cache import key_of
from mcsdns.forward.forwarder import Forwarder
from mcsdns.forward.reply import read_upstream_reply
from mcsdns.server.acl import Acl
from mcsdns.server.forward_handler import ForwardHandler
from tests.forward import fit, upstream_message
from tests.forward.scripted import Clock, ScriptedNetwork, forwarder_of, request


class Client:
    def address(self) -> bytes:
        return b"\x7f\0\0\1"

    def detach(self) -> None:
        raise AssertionError("nothing is asked upstream")


def handled(
    forward_handler: ForwardHandler, query: dns.Query, message: bytes, limit: int = 1232
) -> bytes | None:
    group = forward_handler.find(query)
    assert group is not None
    return forward_handler.handle(group, query, message, Client(), limit)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def forwarder(clock: Clock) -> Forwarder:
    upstream = Address(Protocol.UDP, "192.0.2.1", 53)
    return forwarder_of([upstream], network=ScriptedNetwork(clock))


ANSWERS = [
    ["www.example 60 A 10.0.0.1"],
    ["www.example 7 A 10.0.0.1", "www.example 9 A 10.0.0.2"],
    ["www.example 600 CNAME other.example", "other.example 5 A 10.0.0.3"],
    [f"www.example 30 A 10.0.0.{number}" for number in range(60)],  # cut for small clients
    ["www.example 1 TXT x"],
]


@given(
    answers=st.sampled_from(ANSWERS),
    edns=st.booleans(),
    steps=st.lists(st.floats(0.1, 9.0), min_size=1, max_size=6),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_second_the_ttls_are_those_of_the_cache(
    forwarder: Forwarder,
    clock: Clock,
    *,
    answers: list[str],
    edns: bool,
    steps: list[float],
) -> None:
    forward_handler = ForwardHandler(forwarder, Acl(None, ()), clock, tcp=False)
    message = request("www.example", edns=edns)
    query = dns.read_query(message)
    assert query is not None
    limit = query.udp_limit(dns.MAX_UDP_BYTES)
    reply = read_upstream_reply(upstream_message(answers), query.question)
    put_s = clock.now_s
    kept = forwarder.cache.put(key_of(query), reply, put_s)
    for step in steps:
        age_s = int(clock.now_s - put_s)
        if age_s >= kept.lifetime_s * 0.8:
            return  # soon it is asked upstream
        expected = fit(kept, query, limit, tcp=False, age_s=age_s)
        got = forward_handler.ready(message[2:], Client())
        if got is None:
            got = handled(forward_handler, query, message, limit)
        assert got is not None
        assert got[1:] == expected[2:]
        clock.now_s += step


def test_what_is_kept_anew_is_not_told_from_what_was_ready(
    forwarder: Forwarder, clock: Clock
) -> None:
    forward_handler = ForwardHandler(forwarder, Acl(None, ()), clock, tcp=False)
    message = request("www.example")
    query = dns.read_query(message)
    assert query is not None
    for address in ("10.0.0.1", "10.0.0.2"):
        answer = upstream_message([f"www.example 60 A {address}"])
        forwarder.cache.put(key_of(query), read_upstream_reply(answer, query.question), clock.now_s)
        handled(forward_handler, query, message)
        ready = forward_handler.ready(message[2:], Client())
        assert ready is not None
        assert bytes(map(int, address.split("."))) in ready
        clock.now_s += 1
    newer = upstream_message(["www.example 60 A 10.0.0.3"])
    forwarder.cache.put(key_of(query), read_upstream_reply(newer, query.question), clock.now_s)
    assert forward_handler.ready(message[2:], Client()) is None


def test_a_ready_reply_is_counted_once_each_time(forwarder: Forwarder, clock: Clock) -> None:
    forward_handler = ForwardHandler(forwarder, Acl(None, ()), clock, tcp=False)
    message = request("www.example")
    query = dns.read_query(message)
    assert query is not None
    answer = upstream_message(["www.example 60 A 10.0.0.1"])
    forwarder.cache.put(key_of(query), read_upstream_reply(answer, query.question), clock.now_s)
    handled(forward_handler, query, message)
    for _ in range(3):
        clock.now_s += 1
        assert forward_handler.ready(message[2:], Client()) is not None
    assert forwarder.statistics().cache.hits == 1
    assert forward_handler.statistics().ready == 3
