import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.dns.types import Rcode
from mcsdns.errors import ReplyError
from mcsdns.forward.reply import MAX_ERRORS_BYTES, UpstreamReply, read_upstream_reply
from tests.forward import question, upstream_message

WWW = names.wire_from_text("www.example")
QUESTION = WWW + b"\0\1\0\1"
SOA = "example 300 SOA ns.example h.example 1 2 3 4 60"
BEHIND_QUESTION = 12 + len(QUESTION)
OPT = dns.write_opt(1232)


def message(
    *records: bytes,
    counts: tuple[int, int, int] | None = None,
    flags: int = 0x8180,
    asked: bytes = QUESTION,
) -> bytes:
    header = struct.pack("!HHHHHH", 7, flags, 1, *(counts or (len(records), 0, 0)))
    return header + asked + b"".join(records)


def record(
    rdata: bytes, rtype: int = 1, *, owner: bytes = b"\xc0\x0c", ttl: int = 60, rclass: int = 1
) -> bytes:
    return owner + struct.pack("!HHIH", rtype, rclass, ttl, len(rdata)) + rdata


def pointer(at: int) -> bytes:
    return struct.pack("!H", 0xC000 | at)


def wire_of(name: bytes) -> bytes:
    """A name in wire form, its case kept."""
    return b"".join(bytes((len(label),)) + label for label in name.split(b".")) + b"\0"


A = record(b"\1\2\3\4")


def read(octets: bytes, asked: bytes = QUESTION) -> UpstreamReply:
    return read_upstream_reply(octets, asked)


LIFETIMES = {
    "the least TTL of an answer": (["www.example 60 A 1.2.3.4", "www.example 20 A 1.2.3.5"], [], 0),
    "NODATA: MINIMUM where it is less": ([], [SOA], 0),
    "NXDOMAIN: the SOA's TTL where it is less": (
        [],
        ["example 30 SOA ns.example h.example 1 2 3 4 60"],
        3,
    ),
    "CNAME to NODATA: the SOA counts too": (
        ["www.example 900 CNAME a.example"],
        [SOA],
        0,
    ),
    "CNAME to NODATA: the CNAME counts too": (["www.example 9 CNAME a.example"], [SOA], 0),
    "NODATA without SOA": ([], [], 0),
    "a referral": ([], ["example 300 NS ns.example"], 0),
    "NXDOMAIN without SOA": ([], [], 3),
    "SERVFAIL": ([], [], 2),
    "REFUSED with records": (["www.example 60 A 1.2.3.4"], [], 5),
    "BADVERS": ([], [SOA], 16),
}
SECONDS = [20, 60, 30, 60, 9, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("case", "lifetime_s"), [*zip(LIFETIMES.values(), SECONDS, strict=True)], ids=LIFETIMES
)
def test_lifetime_is_what_rfc_2308_says(
    case: tuple[list[str], list[str], int], lifetime_s: int
) -> None:
    answers, authority, rcode = case
    reply = read(upstream_message(answers, authority, rcode=rcode))
    assert reply.lifetime_s == lifetime_s
    assert reply.rcode == rcode


@pytest.mark.parametrize(
    ("answers", "authority", "rcode", "negative"),
    [
        (["www.example 60 A 1.2.3.4"], [], 0, False),
        (["www.example 60 A 1.2.3.4"], ["example 60 NS ns.example"], 0, False),
        ([], [SOA], 0, True),
        (["www.example 60 CNAME a.example"], [SOA], 0, True),
        ([], [], 3, True),
        ([], [], 2, False),
    ],
)
def test_negative_is_what_denies(
    answers: list[str], authority: list[str], rcode: int, negative: bool
) -> None:
    assert read(upstream_message(answers, authority, rcode=rcode)).negative is negative


def test_sections_flags_and_errors_are_read() -> None:
    errors = [b"\0\x06DNSSEC bogus", b"\0\x17"]
    octets = upstream_message(
        ["www.example 60 CNAME a.example", "a.example 60 A 1.2.3.4"],
        ["example 60 NS ns.example"],
        ["ns.example 60 A 1.2.3.5", "ns.example 60 AAAA ::1"],
        bits=0x0020,
        errors=errors,
    )
    reply = read(octets)
    assert (reply.answers, reply.authorities, reply.additionals) == (2, 1, 2)
    assert reply.authentic
    assert not reply.truncated
    assert reply.errors == b"".join(struct.pack("!HH", 15, len(e)) + e for e in errors)
    assert octets[BEHIND_QUESTION:].startswith(reply.records)
    assert reply.end_of(0) == 0
    assert reply.end_of(5) == len(reply.records)
    assert [struct.unpack_from("!I", reply.records, at)[0] for at in reply.ttls] == [60] * 5


def test_upper_bits_of_the_rcode_come_from_the_opt_record() -> None:
    assert read(upstream_message(rcode=23)).rcode == 23


@pytest.mark.parametrize("high", [0x80000000, 0xFFFFFFFF])
def test_ttl_with_its_highest_bit_set_is_zero(high: int) -> None:
    reply = read(message(A, record(b"\1\2\3\5", ttl=high), record(b"\1\2\3\6", ttl=0x7FFFFFFF)))
    ttls = [struct.unpack_from("!I", reply.records, at)[0] for at in reply.ttls]
    assert ttls == [60, 0, 0x7FFFFFFF]
    assert reply.lifetime_s == 0


def test_unknown_types_and_classes_are_opaque() -> None:
    records = (
        record(b"\xc0\xff\xff", 65280),
        record(b"", 10),
        record(b"\1", 1, rclass=3),  # CH has another A
        record(b"\0\1\0", 65),
    )
    assert read(message(*records)).records == b"".join(records)


def test_octets_behind_the_last_record_are_not_taken() -> None:
    assert read(message(A) + b"trailing").records == A


def test_64_kilobytes_of_records_are_read() -> None:
    octets = message(*[A] * 4093)
    assert 65400 < len(octets) <= 65535
    reply = read(octets)
    assert reply.answers == 4093
    assert reply.end_of(4093) == len(reply.records)


OTHERS = {
    "empty": b"",
    "no whole header": message(A)[:11],
    "a query": message(flags=0x0100),
    "another opcode": message(A, flags=0xA180),
    "another name": message(A, asked=names.wire_from_text("www.examplf") + b"\0\1\0\1"),
    "another type": message(A, asked=WWW + b"\0\x1c\0\1"),
    "another class": message(A, asked=WWW + b"\0\1\0\3"),
    "other case, another name": message(A, asked=wire_of(b"wWw.examplf") + b"\0\1\0\1"),
    "a dot for a label": message(A, asked=b"\x0bwww.example\0\0\1\0\1"),
    "two questions": b"\0\7\x81\x80\0\2\0\1\0\0\0\0" + QUESTION * 2 + A,
    "no question": b"\0\7\x81\x80" + bytes(8),
    "no question, REFUSED": b"\0\7\x81\x85" + bytes(8),
    "question cut": message()[:-1],
}


@pytest.mark.parametrize("octets", OTHERS.values(), ids=OTHERS)
def test_what_is_no_reply_to_the_question_is_refused(octets: bytes) -> None:
    with pytest.raises(ReplyError, match="it is"):
        read(octets)


@pytest.mark.parametrize("asked", [b"www.example", b"WWW.EXAMPLE", b"wWw.eXample"])
@pytest.mark.parametrize("repeated", [b"www.example", b"WWW.example", b"WwW.ExAmPle"])
@pytest.mark.parametrize("records", [[A], [A, record(b"\1x", 16)], []])
def test_names_compare_without_case(asked: bytes, repeated: bytes, records: list[bytes]) -> None:
    question = b"\0\1\0\1"
    octets = message(*records, asked=wire_of(repeated) + question)
    assert read(octets, wire_of(asked) + question) == read(message(*records))
    failed = message(asked=wire_of(repeated) + question, flags=0x8181)
    assert read(failed, wire_of(asked) + question).rcode == Rcode.FORMERR


def test_only_letters_of_ascii_have_case() -> None:
    question = wire_of("ä.example".encode("latin-1")) + b"\0\1\0\1"
    with pytest.raises(ReplyError, match="it is for another question"):
        read(message(A, asked=wire_of("Ä.example".encode("latin-1")) + b"\0\1\0\1"), question)


def test_a_type_is_compared_as_it_is() -> None:
    """65 and 97 are letters that differ in case, and types that differ."""
    with pytest.raises(ReplyError, match="it is for another question"):
        read(message(asked=WWW + b"\0\x61\0\1"), WWW + b"\0\x41\0\1")


def test_formerr_may_repeat_no_question() -> None:
    reply = read(b"\0\7\x81\x81" + bytes(8))
    assert reply.rcode == Rcode.FORMERR
    assert reply.records == b""


LONG = b"\x3f" + b"a" * 63
MALFORMED = {
    "record missing": message(A, counts=(2, 0, 0)),
    "count of 65535": message(A, counts=(65535, 0, 0)),
    "name that its pointer stands in": message(
        record(b"\1\2\3\4", owner=pointer(BEHIND_QUESTION - 3)) + b"\0" * 64
    ),
    "name in a TTL": message(A, record(b"\1\2\3\4", owner=pointer(BEHIND_QUESTION + 6))),
    "name that ends in a TTL": message(
        record(b"\3", 16, ttl=0), record(b"\1\2\3\4", owner=pointer(BEHIND_QUESTION + 5))
    ),
    "name in the TTL of its own record": message(record(pointer(BEHIND_QUESTION + 6), 5)),
    "RDATA cut": message(A[:-1], counts=(1, 0, 0)),
    "owner cut": message(b"\3ab", counts=(1, 0, 0)),
    "label of 64": message(record(b"\1\2\3\4", owner=b"\x40" + b"a" * 64 + b"\0")),
    "name of 256": message(record(b"\1\2\3\4", owner=LONG * 3 + b"\x3e" + b"a" * 62 + b"\0")),
    "name of 256 by a pointer": message(
        record(b"\1\2\3\4", owner=LONG * 3 + b"\x32" + b"a" * 50 + b"\xc0\x0c")
    ),
    "pointer to itself": message(record(b"\1\2\3\4", owner=pointer(BEHIND_QUESTION))),
    "pointer forwards": message(record(b"\1\2\3\4", owner=pointer(BEHIND_QUESTION + 9)), A),
    "pointer into the header": message(record(b"\1\2\3\4", owner=pointer(4))),
    "circle by way of RDATA": message(
        record(pointer(BEHIND_QUESTION + 12 + 12), 65280),
        record(b"\1\2\3\4", owner=b"\1a" + pointer(BEHIND_QUESTION + 12)),
    ),
    "circle through itself": message(
        record(b"\1\2\3\4", owner=b"\1a\1b" + pointer(BEHIND_QUESTION + 2))
    ),
    "A of 5 octets": message(record(b"\1\2\3\4\5")),
    "A without octets": message(record(b"")),
    "AAAA of 4 octets": message(record(b"\1\2\3\4", 28)),
    "CNAME with more behind it": message(record(b"\0\0", 5)),
    "CNAME over its end": message(record(b"\1", 5), b"a\0"),
    "CNAME without octets": message(record(b"", 5)),
    "CNAME in a circle": message(record(pointer(BEHIND_QUESTION + 12), 5)),
    "MX without name": message(record(b"\0\1", 15)),
    "NAPTR whose name points to itself": message(
        record(b"\0\1\0\1\0\0\0" + pointer(BEHIND_QUESTION + 12 + 7), 35)
    ),
    "NAPTR cut": message(record(b"\0\1\0\1\5ab", 35)),
    "SRV cut": message(record(b"\0\1\0\1\0", 33)),
    "SOA without numbers": message(record(b"\0\0", 6), counts=(0, 1, 0)),
    "OPT in the answer": message(OPT, counts=(1, 0, 0)),
    "OPT in Authority": message(OPT, counts=(0, 1, 0)),
    "OPT with an owner": message(b"\1a" + OPT, counts=(0, 0, 1)),
    "OPT cut": message(OPT[:-1], counts=(0, 0, 1)),
    "option cut": message(OPT[:-2] + b"\0\3\0\x0f\0", counts=(0, 0, 1)),
    "option over its end": message(OPT[:-2] + b"\0\4\0\x0f\0\2" + A, counts=(0, 0, 1)),
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_malformed_reply_is_an_error_that_says_where(octets: bytes) -> None:
    with pytest.raises(ReplyError, match=r"record \d+ is malformed"):
        read(octets)


def test_pointers_into_names_of_owners_and_rdata_are_followed() -> None:
    cname = record(b"\3cdn" + pointer(16), 5)
    target = BEHIND_QUESTION + 12
    octets = message(
        cname,
        record(b"\1\2\3\4", owner=pointer(target)),
        record(b"\1\2\3\5", owner=b"\1x" + pointer(target)),
        record(b"\1\2\3\6", owner=pointer(target + 4)),
    )
    assert read(octets).answers == 4


def test_a_message_made_of_pointers_takes_work_in_proportion() -> None:
    # each owner points at another label of one long name: the walk must not start over each time
    long = b"".join(record(b"\1a" * 120 + b"\0", 5) for _ in range(60))
    begin = BEHIND_QUESTION + 12
    owners = [begin + 253 * (n % 60) + 2 * (n % 120) for n in range(3000)]
    records = [record(b"\1\2\3\4", owner=pointer(at)) for at in owners if at < 0x4000]
    octets = message(long, *records, counts=(60 + len(records), 0, 0))
    assert read(octets).answers == 60 + len(records)


def test_a_truncated_reply_may_end_anywhere() -> None:
    whole = message(A, A, flags=0x8380)
    for end in range(BEHIND_QUESTION, len(whole)):
        reply = read(whole[:end])
        assert reply.truncated
        assert reply.records == A * ((end - BEHIND_QUESTION) // len(A))
        assert reply.answers == len(reply.ttls) == (end - BEHIND_QUESTION) // len(A)


def test_errors_are_taken_up_to_a_bound() -> None:
    reply = read(upstream_message(errors=[b"\0\6" + b"x" * 500] * 5))
    assert len(reply.errors) == 2 * 506 <= MAX_ERRORS_BYTES


def test_an_error_without_code_is_not_passed_on() -> None:
    assert read(upstream_message(errors=[b"\0"])).errors == b""


@given(st.binary(max_size=200), st.tuples(*[st.integers(0, 5)] * 3), st.sampled_from([0, 0x200]))
def test_any_octets_give_a_reply_or_an_error(
    rest: bytes, counts: tuple[int, int, int], bits: int
) -> None:
    try:
        reply = read(message(rest, counts=counts, flags=0x8180 | bits))
    except ReplyError:
        return
    assert reply.answers + reply.authorities + reply.additionals == len(reply.ttls)
    assert reply.end_of(len(reply.ttls)) == len(reply.records)


@given(st.data())
def test_any_octet_changed_gives_a_reply_or_an_error(data: st.DataObject) -> None:
    octets = bytearray(
        upstream_message(
            ["www.example 60 CNAME a.example", "a.example 60 MX 1 www.example"],
            [SOA],
            ["ns.example 60 SRV 1 2 3 www.example"],
            errors=[b"\0\x06why"],
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        reply = read(bytes(octets), question())
    except ReplyError:
        return
    assert reply.end_of(len(reply.ttls)) == len(reply.records)


@given(st.binary(max_size=64))
def test_octets_without_form_are_no_reply(octets: bytes) -> None:
    try:
        read(octets)
    except ReplyError:
        return
    assert octets[2] & 0x80


ADDRESSES = st.lists(st.tuples(st.integers(0, 1 << 32 - 1), st.binary(min_size=4, max_size=4)))


@given(ADDRESSES, st.booleans(), st.booleans())
def test_addresses_are_read_as_any_other_records(
    addresses: list[tuple[int, bytes]], with_opt: bool, authentic: bool
) -> None:
    """What most replies are is read by a way of its own; a record of another type makes it not."""
    records = [record(rdata, ttl=ttl) for ttl, rdata in addresses]
    counts = (len(records), 0, int(with_opt))
    flags = 0x81A0 if authentic else 0x8180
    got = read(message(*records, *([OPT] if with_opt else []), counts=counts, flags=flags))
    text = record(b"\1x", 16, ttl=0x7FFFFFFF)
    more = (len(records) + 1, 0, int(with_opt))
    whole = message(*records, text, *([OPT] if with_opt else []), counts=more, flags=flags)
    other = read(whole)
    assert (got.answers, got.ttls) == (len(records), other.ttls[:-1])
    assert got.records == other.records[: -len(text)]
    assert (got.rcode, got.authentic, got.negative) == (0, authentic, False)
    assert got.lifetime_s == (other.lifetime_s if records else 0)


PLACES = st.integers(12, BEHIND_QUESTION + 80)
OWNERS = st.one_of(PLACES.map(pointer), st.sampled_from([b"\0", WWW, b"\1a" + pointer(16)]))
RESTS = st.lists(
    st.one_of(
        st.builds(record, OWNERS, st.just(2), owner=OWNERS, ttl=st.integers(0, 1 << 32 - 1)),
        st.builds(
            lambda owner, names: record(names[0] + names[1] + bytes(20), 6, owner=owner),
            OWNERS,
            st.tuples(OWNERS, OWNERS),
        ),
        st.builds(record, st.binary(min_size=4, max_size=4), owner=OWNERS),
        st.just(OPT),
        st.binary(max_size=3),
    ),
    max_size=4,
)


@given(
    st.lists(ADDRESSES, min_size=2, max_size=2), RESTS, st.integers(0, 4), st.sampled_from([0, 3])
)
def test_what_stands_behind_addresses_is_read_as_if_it_were_new(
    answers: list[list[tuple[int, bytes]]], rest: list[bytes], authorities: int, rcode: int
) -> None:
    """A truncated reply is always read whole, and may lack records."""
    count = min(map(len, answers))
    authorities = min(authorities, len(rest))
    counts = (count, authorities, len(rest) - authorities)
    for addresses in answers:
        records = [record(rdata, ttl=ttl) for ttl, rdata in addresses[:count]]
        octets = bytearray(message(*records, *rest, counts=counts, flags=0x8180 | rcode))
        try:
            got = read_upstream_reply(bytes(octets), QUESTION, (0, 4))
        except ReplyError:
            got = None
        octets[2] |= 2
        new = msgspec.structs.replace(
            read_upstream_reply(bytes(octets), QUESTION, (0, 4)), truncated=False
        )
        if got is None:
            assert (new.answers, new.authorities, new.additionals) != counts
        else:
            assert got == new


@pytest.mark.parametrize("counts", [(3, 0, 0), (2, 1, 0), (2, 0, 1)])
def test_counts_above_the_addresses_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ReplyError):
        read(message(A, A, counts=counts))


def test_addresses_behind_the_counts_are_not_read() -> None:
    assert read(message(A, A, counts=(1, 0, 0))) == read(message(A))


def test_pointers_to_labels_of_the_question_need_no_look() -> None:
    octets = message(A, record(b"\2ns" + pointer(16), 2, owner=pointer(16)), counts=(1, 1, 0))
    assert read_upstream_reply(octets, QUESTION, (0, 4)) == read(octets)
