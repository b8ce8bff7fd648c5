"""What is an answer, and whose SOA denies one: for how long a reply is believed."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.dns import name as names
from mcsdns.forward.reply import UpstreamReply, read_upstream_reply

TYPES = {
    "A": 1,
    "CNAME": 5,
    "SOA": 6,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "DNAME": 39,
    "RRSIG": 46,
    "NSEC": 47,
    "ANY": 255,
}
TTL = 60


def wire(name: str) -> bytes:
    """A name in wire form, its case kept."""
    labels = [each for each in name.encode().split(b".") if each]
    return b"".join(bytes((len(each),)) + each for each in labels) + b"\0"


def record(line: str, rclass: int = 1) -> bytes:
    """A record without compression, from `owner TYPE target`; what has no target has some RDATA."""
    owner, rtype, *rest = line.split()
    rdata = {
        "A": b"\1\2\3\4",
        "AAAA": bytes(16),
        "TXT": b"\1x",
        "RRSIG": bytes(18) + b"\0sig",
        "NSEC": b"\0\0\1\x40",
    }.get(rtype, b"")
    if rest:
        rdata = wire(rest[0])
    if rtype == "SOA":
        rdata = b"\1a\0\1h\0" + struct.pack("!5I", 1, 2, 3, 4, 30)
    if rtype == "MX":
        rdata = b"\0\1" + rdata
    return wire(owner) + struct.pack("!HHIH", TYPES[rtype], rclass, TTL, len(rdata)) + rdata


def read(
    answers: list[bytes],
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
    *,
    asked: str = "www.example A",
    rcode: int = 0,
    qclass: int = 1,
) -> UpstreamReply:
    name, qtype = asked.split()
    question = wire(name) + struct.pack("!HH", TYPES[qtype], qclass)
    counts = len(answers), len(authority), len(additional)
    octets = struct.pack("!HHHHHH", 7, 0x8180 | rcode, 1, *counts) + question
    octets += b"".join([*answers, *map(record, authority), *map(record, additional)])
    labels = tuple(itertools.accumulate((len(each) + 1 for each in name.split(".")), initial=0))
    return read_upstream_reply(octets, question, labels[:-1])


def is_kept(*answers: str, **more: object) -> bool:
    return read([record(line) for line in answers], **more).lifetime_s > 0  # type: ignore[arg-type]


CHAIN = ["www.example CNAME a.example", "a.example CNAME b.cdn.net", "b.cdn.net A"]
ANSWERS = {
    "itself": (["www.example A"], "A"),
    "a chain": (CHAIN, "A"),
    "a chain in other case": (["WWW.example CNAME a.EXAMPLE", "A.example A"], "A"),
    "signed": (
        ["www.example CNAME a.example", "www.example RRSIG", "a.example A", "a.example RRSIG"],
        "A",
    ),
    "beside what nobody asked for": (
        ["other.example TXT", "www.example TXT", "www.example A"],
        "A",
    ),
    "DNAME and CNAME": (
        ["example DNAME cdn.net", "www.example CNAME www.cdn.net", "www.cdn.net A"],
        "A",
    ),
    "DNAME alone": (["example DNAME cdn.net", "www.cdn.net A"], "A"),
    "DNAME behind a CNAME": (
        ["www.example CNAME x.y.cdn.net", "cdn.net DNAME b.test", "x.y.b.test A"],
        "A",
    ),
    "DNAME of the root": (["example DNAME .", "www A"], "A"),
    "any record for ANY": (["www.example TXT"], "ANY"),
    "CNAME for ANY": (["www.example CNAME a.example"], "ANY"),
    "CNAME": (["www.example CNAME a.example"], "CNAME"),
    "DNAME": (["www.example DNAME cdn.net"], "DNAME"),
    "RRSIG": (["www.example RRSIG"], "RRSIG"),
    "NSEC": (["www.example CNAME a.example", "www.example NSEC"], "NSEC"),
    "SOA": (["www.example SOA"], "SOA"),
    "MX": (["www.example CNAME a.example", "a.example MX mx.example"], "MX"),
}


@pytest.mark.parametrize(("answers", "qtype"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_kept_in_any_order(answers: list[str], qtype: str) -> None:
    for some_order in itertools.permutations(answers):
        reply = read([record(line) for line in some_order], asked=f"www.example {qtype}")
        assert (reply.lifetime_s, reply.negative) == (TTL, False), some_order


LOOP = ["www.example CNAME a.example", "a.example CNAME www.example"]
NO_ANSWERS = {
    "nothing": ([], "A"),
    "CNAME alone": (CHAIN[:1], "A"),
    "a chain to nothing": (CHAIN[:2], "A"),
    "a chain with a link missing": ([CHAIN[0], CHAIN[2]], "A"),
    "a circle": (LOOP, "A"),
    "a circle of one": (["www.example CNAME www.example"], "A"),
    "an answer beside a circle": ([*LOOP, "b.example A"], "A"),
    "a circle of DNAME": (["example DNAME a.test", "test DNAME example"], "A"),
    "DNAME and CNAME": (["example DNAME cdn.net", "www.example CNAME www.cdn.net"], "A"),
    "DNAME alone": (["example DNAME cdn.net"], "A"),
    "DNAME of the name itself": (["www.example DNAME cdn.net", "cdn.net A"], "A"),
    "DNAME of half a label": (["w.example DNAME cdn.net", "www.cdn.net A", "ww.cdn.net A"], "A"),
    "DNAME of another name": (["other.example DNAME cdn.net", "www.cdn.net A"], "A"),
    "a foreign owner": (["other.example A"], "A"),
    "an owner above": (["example A"], "A"),
    "an owner below": (["a.www.example A"], "A"),
    "AAAA for A": (["www.example AAAA"], "A"),
    "A for AAAA": (["www.example A"], "AAAA"),
    "TXT": (["www.example TXT"], "A"),
    "signatures alone": (["www.example RRSIG"], "A"),
    "a CNAME and its signature": (["www.example CNAME a.example", "www.example RRSIG"], "A"),
    "CNAME to another owner": (["www.example CNAME a.example", "b.example A"], "A"),
    "CNAME to another type": (["www.example CNAME a.example", "a.example AAAA"], "A"),
    "an address of a CNAME's owner": (["a.example CNAME www.example", "a.example A"], "A"),
    "ANY of another name": (["other.example A"], "ANY"),
    "ANY behind a CNAME of another": (["a.example CNAME www.example"], "ANY"),
    "RRSIG behind a CNAME": (["www.example CNAME a.example", "a.example RRSIG"], "RRSIG"),
    "NSEC behind a CNAME": (["www.example CNAME a.example", "a.example NSEC"], "NSEC"),
    "DNAME behind a CNAME": (["www.example CNAME a.example", "a.example DNAME b.test"], "DNAME"),
    "CNAME of another name": (["a.example CNAME b.example"], "CNAME"),
}


@pytest.mark.parametrize(("answers", "qtype"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_is_not_kept_without_soa(answers: list[str], qtype: str) -> None:
    for some_order in itertools.permutations(answers):
        reply = read([record(line) for line in some_order], asked=f"www.example {qtype}")
        assert (reply.lifetime_s, reply.answers) == (0, len(answers)), some_order
        assert not reply.negative
        assert len(reply.records) == sum(len(record(line)) for line in answers), "it is passed on"


def test_an_answer_stands_in_the_answer_section() -> None:
    assert not is_kept(authority=("www.example A",))
    assert not is_kept(additional=("www.example A",))
    assert not is_kept("www.example CNAME a.example", additional=("a.example A",))


@pytest.mark.parametrize(
    ("qclass", "rclass", "kept"), [(1, 3, False), (3, 3, True), (3, 1, False), (255, 1, True)]
)
def test_an_answer_is_of_the_class_asked(qclass: int, rclass: int, kept: bool) -> None:
    text = record("www.example TXT", rclass)
    assert bool(read([text], asked="www.example TXT", qclass=qclass).lifetime_s) is kept


DENIALS = {
    "NODATA": ([], "example", True),
    "NODATA, SOA of the name": ([], "www.example", True),
    "NODATA, SOA of the root": ([], ".", True),
    "NODATA, SOA in other case": ([], "EXAMPLE", True),
    "NODATA, SOA of a name beside": ([], "other.example", False),
    "NODATA, SOA of half a label": ([], "w.example", False),
    "NODATA, SOA of a name below": ([], "a.www.example", False),
    "chain, SOA of its end": (CHAIN[:2], "cdn.net", True),
    "chain, SOA of its begin": (CHAIN[:2], "example", False),
    "chain within a zone": (CHAIN[:1], "example", True),
    "chain written backwards": (CHAIN[1::-1], "cdn.net", True),
    "DNAME, SOA of its target": (["example DNAME cdn.net"], "cdn.net", True),
    "DNAME, SOA of its owner": (["example DNAME cdn.net"], "example", False),
}


@pytest.mark.parametrize(("answers", "zone", "kept"), DENIALS.values(), ids=DENIALS)
@pytest.mark.parametrize("rcode", [0, 3])
def test_a_denial_is_kept_by_the_soa_of_a_zone_that_has_the_name(
    answers: list[str], zone: str, kept: bool, rcode: int
) -> None:
    reply = read([record(each) for each in answers], (f"{zone} SOA",), rcode=rcode)
    assert (reply.lifetime_s, reply.negative) == ((30, True) if kept else (0, rcode == 3))


def test_of_several_soa_records_the_one_of_the_name_counts() -> None:
    assert is_kept(authority=("other.test SOA", "example SOA"))
    assert is_kept(authority=("example SOA", "other.test SOA"))


def test_an_answer_with_an_soa_beside_it_is_no_denial() -> None:
    reply = read([record("www.example A")], ("example SOA",))
    assert (reply.lifetime_s, reply.negative) == (TTL, False)
    assert not is_kept("www.example A", authority=("example SOA",), rcode=3), "it is both"


def test_owners_may_be_compressed_in_any_way() -> None:
    question = wire("www.example") + b"\0\1\0\1"
    begin = 12 + len(question)
    head = struct.pack("!HHHHHH", 7, 0x8180, 1, 2, 0, 0) + question
    fixed = struct.pack("!HHI", 5, 1, TTL)
    for target in (b"\1a\xc0\x10", b"\xc0\x10", b"\1a\7example\0", b"\7EXAMPLE\0"):
        cname = b"\xc0\x0c" + fixed + struct.pack("!H", len(target)) + target
        at = struct.pack("!H", 0xC000 | begin + 12)
        others = [b"\1A\xc0\x10" if target[:1] == b"\1" else b"\xc0\x10", at]
        for owner in others:
            address = owner + struct.pack("!HHIH", 1, 1, TTL, 4) + b"\1\2\3\4"
            assert read_upstream_reply(head + cname + address, question).lifetime_s == TTL
    backwards = b"\1a\7EXAMPLE\0" + struct.pack("!HHIH", 1, 1, TTL, 4) + b"\1\2\3\4"
    cname = b"\xc0\x0c" + fixed + b"\0\2" + struct.pack("!H", 0xC000 | begin)
    assert read_upstream_reply(head + backwards + cname, question).lifetime_s == TTL


def test_addresses_of_the_other_family_are_not_read_as_an_answer() -> None:
    for qtype, rtype, size in ((1, 28, 16), (28, 1, 4)):
        question = wire("www.example") + struct.pack("!HH", qtype, 1)
        head = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0) + question
        octets = b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, TTL, size) + bytes(size)
        assert read_upstream_reply(head + octets, question).lifetime_s == 0


@pytest.mark.parametrize(("links", "kept"), [(20, True), (200, False)])
def test_a_chain_is_followed_for_so_long(links: int, kept: bool) -> None:
    chain = [record(f"n{n}.example CNAME n{n + 1}.example") for n in range(links)]
    for records in (chain, chain[::-1]):
        answers = [record("www.example CNAME n0.example"), *records, record(f"n{links}.example A")]
        assert bool(read(answers).lifetime_s) is kept


def test_names_without_end_take_work_in_proportion() -> None:
    """Every owner is another name of 120 labels; what is written out is no more than a message."""
    long = "x." * 120
    names_there = [record(f"{n}.{long} CNAME {n}.{long}") for n in range(120)]
    assert read(names_there, ("example SOA",)).answers == 120


NAMES = st.sampled_from(["www.example", "WWW.example", "a.example", "b.a.example", "cdn.net", "x"])
LINES = st.one_of(
    st.builds("{} {}".format, NAMES, st.sampled_from(["A", "AAAA", "TXT", "RRSIG"])),
    st.builds("{} {} {}".format, NAMES, st.sampled_from(["CNAME", "DNAME"]), NAMES),
)


def model(lines: list[str], qtype: str) -> str | None:
    """Say the same by text: the end of the chain, None where there is an answer."""
    split = [line.lower().split() for line in lines]
    name = "www.example"
    for _ in range(100):
        if any(owner == name and rtype == qtype.lower() for owner, rtype, *_ in split):
            return None
        cname = [rest[0] for owner, rtype, *rest in split if (owner, rtype) == (name, "cname")]
        if cname:
            name = cname[0]
            continue
        above = [name.split(".", n)[n] for n in range(1, name.count(".") + 1)]
        dname = [
            name.removesuffix(zone) + rest[0]
            for zone in above
            for owner, rtype, *rest in split
            if (owner, rtype) == (zone, "dname")
        ]
        if not dname or len(dname[0]) > 253:
            return name
        name = dname[0]
    return ""


@given(st.lists(LINES, max_size=8), st.sampled_from(["A", "AAAA", "TXT"]))
def test_chains_end_as_a_model_says(lines: list[str], qtype: str) -> None:
    reply = read([record(line) for line in lines], asked=f"www.example {qtype}")
    assert bool(reply.lifetime_s) is (model(lines, qtype) is None)


@given(
    st.binary(max_size=120), st.tuples(*[st.integers(0, 4)] * 2), st.sampled_from([*TYPES.values()])
)
def test_any_records_are_judged(rest: bytes, counts: tuple[int, int], qtype: int) -> None:
    question = names.wire_from_text("www.example") + struct.pack("!HH", qtype, 1)
    octets = struct.pack("!HHHHHH", 7, 0x8380, 1, *counts, 0) + question + rest
    assert read_upstream_reply(octets, question).lifetime_s >= 0
