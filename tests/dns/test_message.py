import itertools
import struct
from collections.abc import Iterator
from typing import Any

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.types import Ede, Rcode, RRset, RRType
from mcsdns.errors import MessageError
from mcsdns.zone.zone import Zone

WWW = names.wire_from_text("www.example")
QUESTION = WWW + b"\0\1\0\1"
OPT = dns.write_opt(1232)
TSIG = b"\3Key\0\0\xfa\0\xff\0\0\0\0\0\x23\4hmac\0timing\1\x2c\0\x0dMAC of nobody\1\2\0\0\0\0"


def message(
    rest: bytes, *, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)
) -> bytes:
    return b"ID" + struct.pack("!HHHHH", flags, *counts) + rest


def long_name(octets: int) -> bytes:
    name = b"\x3f" + b"a" * 63
    name *= 3
    return name + bytes((octets - len(name) - 2,)) + b"a" * (octets - len(name) - 2) + b"\0"


NO_REPLY = {
    "empty": b"",
    "one octet": b"I",
    "header cut": message(QUESTION)[:11],
    "a response": message(QUESTION, flags=0x8100),
}
ERRORS = {
    "opcode IQUERY": (message(QUESTION, flags=0x0900), Rcode.NOTIMP),
    "opcode NOTIFY": (message(QUESTION, flags=0x2100), Rcode.NOTIMP),
    "opcode UPDATE": (message(QUESTION, flags=0x2800), Rcode.NOTIMP),
    "opcode 15 with nothing behind it": (message(b"", flags=0x7800), Rcode.NOTIMP),
    "no question": (message(b"", counts=(0, 0, 0, 0)), Rcode.FORMERR),
    "two questions": (message(QUESTION * 2, counts=(2, 0, 0, 0)), Rcode.FORMERR),
    "count of 65535": (message(QUESTION, counts=(0xFFFF, 0, 0, 0)), Rcode.FORMERR),
    "an answer": (message(QUESTION, counts=(1, 1, 0, 0)), Rcode.FORMERR),
    "header alone": (message(b""), Rcode.FORMERR),
    "name cut": (message(WWW[:-1]), Rcode.FORMERR),
    "type cut": (message(WWW + b"\0\1\0"), Rcode.FORMERR),
    "label of 64": (message(b"\x40" + b"a" * 64 + b"\0\0\1\0\1"), Rcode.FORMERR),
    "name of 256": (message(long_name(256) + b"\0\1\0\1"), Rcode.FORMERR),
    "pointer in the question": (message(b"\xc0\x0c\0\1\0\1"), Rcode.FORMERR),
    "octets behind the question": (message(QUESTION + b"\0"), Rcode.FORMERR),
    "octets behind the OPT": (message(QUESTION + OPT + b"x", counts=(1, 0, 0, 1)), Rcode.FORMERR),
    "OPT announced, none there": (message(QUESTION, counts=(1, 0, 0, 1)), Rcode.FORMERR),
    "OPT there, none announced": (message(QUESTION + OPT), Rcode.FORMERR),
    "two OPTs": (message(QUESTION + OPT * 2, counts=(1, 0, 0, 2)), Rcode.FORMERR),
    "OPT in Authority": (message(QUESTION + OPT, counts=(1, 0, 1, 0)), Rcode.FORMERR),
    "OPT with an owner": (message(QUESTION + b"\1a" + OPT, counts=(1, 0, 0, 1)), Rcode.FORMERR),
    "OPT cut": (message(QUESTION + OPT[:-1], counts=(1, 0, 0, 1)), Rcode.FORMERR),
    "OPT length lies": (message(QUESTION + OPT[:-2] + b"\0\4", counts=(1, 0, 0, 1)), Rcode.FORMERR),
    "option length lies": (
        message(QUESTION + dns.write_opt(512, options=b"\0\x0a\0\x09x"), counts=(1, 0, 0, 1)),
        Rcode.FORMERR,
    ),
    "option header cut": (
        message(QUESTION + dns.write_opt(512, options=b"\0\x0a\0"), counts=(1, 0, 0, 1)),
        Rcode.FORMERR,
    ),
    "pointer to itself": (
        message(QUESTION + b"\xc0\x1d\0\1\0\1\0\0\0\0\0\0", counts=(1, 0, 0, 1)),
        Rcode.FORMERR,
    ),
    "pointer forwards": (
        message(QUESTION + b"\xc0\xff\0\1\0\1\0\0\0\0\0\0", counts=(1, 0, 0, 1)),
        Rcode.FORMERR,
    ),
    "TSIG cut": (message(QUESTION + TSIG[:-1], counts=(1, 0, 0, 1)), Rcode.FORMERR),
    "TSIG with more": (
        message(QUESTION + TSIG.replace(b"\x23", b"\x24") + b"x", counts=(1, 0, 0, 1)),
        Rcode.FORMERR,
    ),
    "TSIG in front of OPT": (message(QUESTION + TSIG + OPT, counts=(1, 0, 0, 2)), Rcode.FORMERR),
    "two TSIGs": (message(QUESTION + TSIG * 2, counts=(1, 0, 0, 2)), Rcode.FORMERR),
    "TSIG in Authority": (message(QUESTION + TSIG, counts=(1, 0, 1, 0)), Rcode.FORMERR),
    "record's label of 64": (
        message(QUESTION + b"\x40" + b"a" * 64, counts=(1, 0, 0, 1)),
        Rcode.FORMERR,
    ),
}
ACCEPTED = {
    "plain": message(QUESTION),
    "name of 255": message(long_name(255) + b"\0\1\0\1"),
    "root": message(b"\0\0\2\0\1"),
    "OPT": message(QUESTION + OPT, counts=(1, 0, 0, 1)),
    "IXFR with its SOA": message(
        WWW + b"\0\xfb\0\1" + b"\xc0\x0c\0\6\0\1\0\0\0\0\0\0", counts=(1, 0, 1, 0)
    ),
    "a record with chained pointers behind": message(
        QUESTION + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\2\xc0\x0c" + b"\xc0\x1d\0\1\0\1\0\0\0\0\0\0",
        counts=(1, 0, 0, 2),
    ),
    "TSIG": message(QUESTION + TSIG, counts=(1, 0, 0, 1)),
    "OPT and TSIG": message(QUESTION + OPT + TSIG, counts=(1, 0, 0, 2)),
}


@pytest.mark.parametrize("octets", NO_REPLY.values(), ids=NO_REPLY.keys())
def test_what_gets_no_reply(octets: bytes) -> None:
    assert dns.read_query(octets) is None


@pytest.mark.parametrize(("octets", "rcode"), ERRORS.values(), ids=ERRORS.keys())
def test_malformed_requests_get_an_error(octets: bytes, rcode: Rcode) -> None:
    with pytest.raises(MessageError) as caught:
        dns.read_query(octets)
    assert caught.value.rcode == rcode
    reply = dns.write_error(octets, caught.value)
    parsed = dnslib.DNSRecord.parse(reply)
    assert reply[:2] == b"ID"
    assert parsed.header.qr == 1
    assert parsed.header.rcode == rcode
    assert parsed.header.opcode == octets[2] >> 3 & 15
    assert len(parsed.questions) in (0, 1)
    assert not parsed.rr


@pytest.mark.parametrize("octets", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_well_formed_requests_are_read(octets: bytes) -> None:
    assert dns.read_query(octets) is not None


def test_two_opts_are_answered_with_an_opt() -> None:
    octets = ERRORS["two OPTs"][0]
    with pytest.raises(MessageError) as caught:
        dns.read_query(octets)
    parsed = dnslib.DNSRecord.parse(dns.write_error(octets, caught.value))
    assert [record.rtype for record in parsed.ar] == [RRType.OPT]
    assert str(parsed.q.qname) == "www.example."


UPDATE = message(QUESTION + OPT, flags=0x2800, counts=(1, 0, 0, 1))
WITH_READABLE_OPT = {
    "UPDATE": UPDATE,
    "NOTIFY with an SOA": message(
        QUESTION + b"\xc0\x0c\0\6\0\1\0\0\0\0\0\0" + OPT, flags=0x2000, counts=(1, 1, 0, 1)
    ),
    "opcode 15 without a question": message(OPT, flags=0x7800, counts=(0, 0, 0, 1)),
    "no question": message(OPT, counts=(0, 0, 0, 1)),
    "two questions": message(QUESTION * 2 + OPT, counts=(2, 0, 0, 1)),
}
WITHOUT_READABLE_OPT = {
    "none": message(QUESTION, flags=0x2800),
    "one less than announced": message(QUESTION + OPT, flags=0x2800, counts=(1, 0, 0, 2)),
    "octets behind it": UPDATE + b"x",
    "cut": UPDATE[:-1],
    "a question less than announced": message(QUESTION + OPT, counts=(2, 0, 0, 1)),
    "13,000 questions": message(b"\0\0\1\0\1" * 13000 + OPT, counts=(13000, 0, 0, 1)),
}


@pytest.mark.parametrize(
    ("octets", "is_readable"),
    [(each, True) for each in WITH_READABLE_OPT.values()]
    + [(each, False) for each in WITHOUT_READABLE_OPT.values()],
    ids=[*WITH_READABLE_OPT, *WITHOUT_READABLE_OPT],
)
def test_what_is_no_request_is_answered_with_an_opt_where_it_has_one(
    octets: bytes, is_readable: bool
) -> None:
    with pytest.raises(MessageError) as caught:
        dns.read_query(octets)
    parsed = dnslib.DNSRecord.parse(dns.write_error(octets, caught.value))
    assert [record.rtype for record in parsed.ar] == [RRType.OPT] * is_readable


def test_every_cut_of_a_request_is_malformed_or_dropped() -> None:
    opt = dns.write_opt(1232, options=b"\0\x0a\0\x08cookieee")
    whole = message(QUESTION + opt, counts=(1, 0, 0, 1))
    for length in range(len(whole)):
        try:
            query = dns.read_query(whole[:length])
        except MessageError:
            continue
        assert query is None


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=6),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.one_of(st.none(), st.integers(0, 0xFFFF)),
    st.booleans(),
)
def test_what_is_written_is_read_again(
    labels: list[bytes], qtype: int, message_id: int, size: int | None, flag: bool
) -> None:
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    options = b"\0\x0a\0\2ab"
    opt = b"" if size is None else dns.write_opt(size, do=flag, options=options)
    query = dns.read_query(dns.write_query(message_id, name, qtype, rd=flag, cd=not flag, opt=opt))
    assert query is not None
    assert query.id == message_id.to_bytes(2, "big")
    assert query.name == name.lower()
    assert query.question == name + qtype.to_bytes(2, "big") + b"\0\1"
    assert (query.rd, query.cd) == (flag, not flag)
    assert [query.name[at + 1 : at + 1 + query.name[at]] for at in query.labels] == [
        label.lower() for label in labels
    ]
    if size is None:
        assert query.edns is None
        assert query.udp_limit(dns.MAX_UDP_BYTES) == 512
    else:
        assert query.edns == dns.Edns(size, 0, flag, True, options)
        assert query.udp_limit(dns.MAX_UDP_BYTES) == max(512, min(size, 1232))


def query_for(text: str, qtype: int = RRType.A, opt: bytes = b"") -> dns.Query:
    query = dns.read_query(dns.write_query(1, names.wire_from_text(text), qtype, opt=opt))
    assert query is not None
    return query


@pytest.mark.parametrize("records", [0, 1, 2, 10, 27, 28, 29, 73, 200])
@pytest.mark.parametrize("limit", [512, 1232, 65535])
def test_addresses_are_cut_to_whole_records(records: int, limit: int) -> None:
    rdatas = tuple(number.to_bytes(4, "big") for number in range(records))
    response = (
        dns.Response(aa=True, answer=RRset(RRType.A, 5, rdatas))
        if records
        else (dns.Response(aa=True))
    )
    query = query_for("Www.Example", opt=OPT)
    reply = dns.write_response(query, response, limit, start=records // 2)
    parsed = dnslib.DNSRecord.parse(reply.wire)
    assert len(reply.wire) <= limit
    assert len(parsed.rr) + reply.left_out == records
    assert bool(parsed.header.tc) is bool(reply.left_out)
    if reply.left_out:
        assert len(reply.wire) + 16 > limit
    assert str(parsed.q.qname) == "Www.Example."
    if records:
        assert parsed.rr[0].rdata.data == tuple(rdatas[records // 2])


def having(rrset: RRset, suffix: bytes = b"") -> dns.AddressesOf:
    """Every SRV target has the same addresses."""
    return lambda rdatas: [(Name(rdata[6:] + suffix), rrset) for rdata in rdatas]


def test_srv_targets_are_not_compressed_and_additional_names_are() -> None:
    query = query_for("_http._tcp.db.example", RRType.SRV)
    target = names.from_text("db-0.eu.db.example")
    srv = RRset(RRType.SRV, 5, (b"\0\0\0\x64\0\x50" + target,))
    address = RRset(RRType.A, 5, (b"\x0a\0\0\1",))
    reply = dns.write_response(query, dns.Response(answer=srv, addresses_of=having(address)), 512)
    assert reply.wire.count(target) == 1
    assert len(reply.wire) == 12 + len(query.question) + 12 + 6 + len(target) + 2 + 10 + 4
    parsed = dnslib.DNSRecord.parse(reply.wire)
    assert str(parsed.rr[0].rdata) == "0 100 80 db-0.eu.db.example."
    assert [str(record.rname) for record in parsed.ar] == ["db-0.eu.db.example."]
    assert reply.whole


def test_additional_goes_by_whole_rrsets_and_without_tc() -> None:
    query = query_for("db.example", RRType.SRV)
    targets = [names.from_text(f"host-{number}.eu.db.example") for number in range(4)]
    srv = RRset(RRType.SRV, 5, tuple(b"\0\0\0\x64\0\x50" + target for target in targets))
    pair = RRset(RRType.AAAA, 5, (bytes(16), bytes(15) + b"\1"))
    response = dns.Response(answer=srv, addresses_of=having(pair))
    reply = dns.write_response(query, response, 400)
    parsed = dnslib.DNSRecord.parse(reply.wire)
    assert len(parsed.rr) == 4
    assert not parsed.header.tc
    assert not reply.whole
    assert len(parsed.ar) % 2 == 0
    assert 0 < len(parsed.ar) < 8


@pytest.mark.parametrize("records", [1, 40, 120, 230, 600])
def test_additional_ends_before_8_kib(records: int) -> None:
    query = query_for("db.example", RRType.SRV)
    targets = [names.from_text(f"h{number}.eu.db.example") for number in range(records)]
    srv = RRset(RRType.SRV, 5, tuple(b"\0\0\0\x64\0\x50" + target for target in targets))
    address = RRset(RRType.A, 5, (b"\x0a\0\0\1",))
    response = dns.Response(answer=srv, addresses_of=having(address))
    reply = dns.write_response(query, response, 65535)
    parsed = dnslib.DNSRecord.parse(reply.wire)
    assert len(parsed.rr) == records
    assert not parsed.header.tc
    shown = [str(record.rname) for record in parsed.ar]
    assert shown == [names.to_text(target) for target in targets[: len(shown)]]
    assert reply.whole == (len(shown) == records)
    if not reply.whole:
        assert not shown or 8192 - 16 < len(reply.wire) <= 8192
        assert len(reply.wire) > 8192 - 16


def test_records_share_the_end_of_their_targets_and_begin_anywhere() -> None:
    query = query_for("db.example", RRType.SRV)
    whole = [b"\0\0\0\x64\0\x50" + names.from_text(f"h{n}.db.example") for n in range(9)]
    suffix = names.from_text("db.example")
    cut = tuple(rdata.removesuffix(suffix) for rdata in whole)
    address = RRset(RRType.A, 5, (b"\x0a\0\0\1",))
    for limit, start in itertools.product((60, 100, 200, 300, 500, 65535), range(9)):
        one = dns.Response(answer=RRset(RRType.SRV, 5, tuple(whole)), addresses_of=having(address))
        other = dns.Response(
            answer=RRset(RRType.SRV, 5, cut, suffix), addresses_of=having(address, suffix)
        )
        assert dns.write_response(query, one, limit, start=start) == dns.write_response(
            query, other, limit, start=start
        )
        turned = RRset(RRType.SRV, 5, (*whole[start:], *whole[:start]))
        assert dns.write_response(query, one, limit, start=start) == dns.write_response(
            query, dns.Response(answer=turned, addresses_of=having(address)), limit
        )


class Counted(tuple[bytes, ...]):
    """Records that note how many of them were looked at."""

    looked_at = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        self.looked_at += len(found) if isinstance(at, slice) else 1
        return found

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("all of them")


@pytest.mark.parametrize(("rtype", "size"), [(RRType.A, 4), (RRType.AAAA, 16), (RRType.SRV, 20)])
@pytest.mark.parametrize("start", [0, 1, 50_000, 99_999])
def test_no_more_records_are_looked_at_than_fit(rtype: RRType, size: int, start: int) -> None:
    query = query_for("db.example", rtype)
    rdatas = Counted(n.to_bytes(size, "big") for n in range(100_000))

    def addresses_of(rdatas: tuple[bytes, ...]) -> list[tuple[Name, RRset]]:
        raise AssertionError("there is no room for any")

    response = dns.Response(answer=RRset(rtype, 5, rdatas), addresses_of=addresses_of)
    reply = dns.write_response(query, response, 1232, start=start)
    assert reply.left_out > 99_900
    assert rdatas.looked_at < 1232 // 12


def test_a_target_of_many_addresses_costs_as_much_as_its_answer() -> None:
    query = query_for("db.example", RRType.SRV)
    srv = RRset(RRType.SRV, 5, (b"\0\0\0\x64\0\x50" + names.from_text("h.db.example"),))
    addresses = Counted(n.to_bytes(4, "big") for n in range(100_000))
    response = dns.Response(answer=srv, addresses_of=having(RRset(RRType.A, 5, addresses)))
    reply = dns.write_response(query, response, 65535)
    assert not reply.whole
    assert addresses.looked_at == 1


def test_negative_reply_has_the_soa_of_its_zone() -> None:
    zone = Zone(names.from_text("example"), 30)
    zone.replace_serial(77)
    reply = dns.write_response(
        query_for("no.such.Example"),
        dns.Response(rcode=3, aa=True, negative=zone.negative_soa),
        512,
    )
    parsed = dnslib.DNSRecord.parse(reply.wire)
    assert [str(record) for record in parsed.auth] == [
        str(record)
        for record in dnslib.RR.fromZone(
            "Example. 30 IN SOA ns.dns.Example. hostmaster.Example. 77 7200 1800 86400 30"
        )
    ]


def test_extended_error_gives_way_where_there_is_no_room() -> None:
    zone = Zone(Name(b"\x07example\0"), 5)
    response = dns.Response(rcode=3, negative=zone.negative_soa, ede=Ede(0, "x" * 200))
    label = "a" * 60
    query = query_for(f"{label}.{label}.{label}.{label[:50]}.example", opt=OPT)
    reply = dns.write_response(query, response, 512)
    assert len(reply.wire) <= 512
    assert not reply.whole
    assert b"xxx" not in reply.wire


def test_extended_rcode_is_split() -> None:
    reply = dns.write_response(query_for("a", opt=OPT), dns.Response(rcode=Rcode.BADVERS), 512)
    assert reply.wire[3] & 15 == 0
    assert reply.wire[-6] == 1


def test_soa_and_ns_answers_are_compressed() -> None:
    zone = Zone(names.from_text("example"), 5)
    for rtype, rdata in [
        (RRType.SOA, zone.soa.rdatas[0]),
        (RRType.NS, zone.name_server),
    ]:
        response = dns.Response(aa=True, answer=RRset(rtype, 5, (rdata,)))
        reply = dns.write_response(query_for("example", rtype), response, 512).wire
        assert reply.count(b"\x07example") == 1
        record = dnslib.DNSRecord.parse(reply).rr[0]
        assert str(record.rdata).startswith("ns.dns.example.")
