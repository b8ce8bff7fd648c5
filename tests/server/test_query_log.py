"""The query log: which requests are noted, and what a line says of whatever was asked."""

import logging
import random
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns import dns
from mcsdns.dns import Response, read_query, write_response
from mcsdns.dns import name as names
from mcsdns.dns.types import Rcode, RRset, RRType
from mcsdns.server.query_log import Entry, QueryLog, entry

CLIENT = socket.inet_pton(socket.AF_INET, "192.0.2.7")


def request(name: str = "web.shop.svc.clusterset.local", *, edns: bool = True) -> bytes:
    opt = dns.write_opt(1232, do=True) if edns else b""
    return dns.write_query(7, names.wire_from_text(name), RRType.A, opt=opt)


def reply(message: bytes, response: Response) -> bytes:
    query = read_query(message)
    assert query is not None
    return write_response(query, response, 1232).wire


FOUND = Response(aa=True, answer=RRset(RRType.A, 5, (b"\x0a\0\0\1",)))


@pytest.mark.parametrize(
    ("response", "rcode"), [(FOUND, "NOERROR"), (Response(rcode=Rcode.BADVERS), "BADVERS")]
)
def test_an_entry_has_the_question_its_client_and_the_reply(response: Response, rcode: str) -> None:
    message = request()
    octets = reply(message, response)
    assert entry(message, octets, CLIENT, "udp", "stale") == Entry(
        qname="web.shop.svc.clusterset.local.",
        qtype="A",
        transport="udp",
        client="192.0.2.7",
        edns="1232 DO",
        rcode=rcode,
        size=len(octets),
        kind="stale",
    )


def test_what_comes_later_has_no_reply_yet() -> None:
    found = entry(request("www.example", edns=False), b"", CLIENT, "udp", "")
    assert (found.edns, found.rcode, found.size, found.kind) == ("-", "-", 0, "forwarded")
    assert entry(b"", b"", CLIENT, "udp", "").kind == "rejected"


def test_name_is_as_it_was_asked_and_cannot_write_lines() -> None:
    name = b"\x05We\nB\x1b\0"
    message = dns.write_query(7, name, RRType.A)
    assert entry(message, b"", CLIENT, "udp", "").qname == r"We\010B\027."


def test_line_for_people_and_fields_for_machines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    message = request()
    QueryLog(1).log(message, reply(message, FOUND), b"\0" * 15 + b"\1", "udp", "clusterset")
    (record,) = caplog.records
    assert record.getMessage() == (
        "query web.shop.svc.clusterset.local. A by udp from ::1, EDNS 1232 DO: NOERROR, "
        "74 octets, clusterset"
    )
    assert (record.qname, record.size) == ("web.shop.svc.clusterset.local.", 74)  # type: ignore[attr-defined]


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=20))
def test_any_octets_make_a_line(message: bytes, answer: bytes, client: bytes) -> None:
    entry(message, answer, client, "udp", "")


def test_each_one_where_it_is_one() -> None:
    log = QueryLog(1)
    assert [log.due(n) for n in (3, 0, 1)] == [[0, 1, 2], [], [0]]


@pytest.mark.parametrize("one_of", [2, 10, 100])
def test_one_of_so_many_in_the_mean_and_at_every_place(one_of: int) -> None:
    log = QueryLog(one_of, random.Random(7))
    places = [at for _ in range(20_000) for at in log.due(32)]
    assert 20_000 * 32 / one_of * 0.95 < len(places) < 20_000 * 32 / one_of * 1.05
    assert set(places) == set(range(32))
    odd = sum(at % 2 for at in places)
    assert 0.45 < odd / len(places) < 0.55
