"""An OPT record before other records: it is taken off, and the names behind it stay whole."""

import io
import struct
from collections.abc import Sequence

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.errors import ReplyError
from mcsdns.forward.reply import UpstreamReply, read_upstream_reply
from tests.forward import client_query, fit

NAME = dns.name.from_text("www.example")
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0a\0\x03\0\6\7example"[:-2]
"""With an option (NSID) of which the end could be read as a label that goes on behind it."""
NAMES = ("www.example.", "example.", "a.www.example.", "cdn.net.", "x.y.cdn.net.", ".")


def written(
    sections: Sequence[Sequence[str]], before: int, *, flags: int = 0x8180, opt: bytes = OPT
) -> bytes:
    """A reply with the OPT record behind so many Additional ones, names compressed all over."""
    file, compress = io.BytesIO(), dict[dns.name.Name, int]()
    counts = [len(each) for each in sections]
    counts[2] += 1
    file.write(struct.pack("!HHHHHH", 7, flags, 1, *counts))
    NAME.to_wire(file, compress)
    file.write(b"\0\1\0\1")
    for number, lines in enumerate(sections):
        for at, line in enumerate(lines):
            if number == 2 and at == before:
                file.write(opt)
            owner, ttl, rtype, rdata = line.split(None, 3)
            dns.name.from_text(owner).to_wire(file, compress)
            kind = dns.rdatatype.from_text(rtype)
            file.write(struct.pack("!HHIH", kind, 1, int(ttl), 0))
            begin = file.tell()
            dns.rdata.from_text("IN", kind, rdata).to_wire(file, compress)
            size = file.tell() - begin
            file.seek(begin - 2)
            file.write(struct.pack("!H", size))
            file.seek(0, io.SEEK_END)
    if before >= len(sections[2]):
        file.write(opt)
    return file.getvalue()


def read(octets: bytes) -> UpstreamReply:
    return read_upstream_reply(octets, NAME.to_wire() + b"\0\1\0\1")


def seen(octets: bytes) -> list[list[tuple[object, ...]]]:
    """What dnspython reads: the records of each section in order, TTLs counted down by one."""
    message = dns.message.from_wire(octets, one_rr_per_rrset=True, raise_on_truncation=False)
    return [
        [(each.name, each.rdtype, each.ttl, each[0]) for each in section]
        for section in (message.answer, message.authority, message.additional)
    ]


ADDITIONAL = [
    "ns.cdn.net. 60 A 192.0.2.1",
    "ns.cdn.net. 61 AAAA 2001:db8::1",
    "x.y.cdn.net. 62 MX 5 ns.cdn.net.",
    "a.b.test. 63 SRV 1 2 3 ns.cdn.net.",
    "c.a.b.test. 64 NS d.a.b.test.",
    "d.a.b.test. 65 A 192.0.2.2",
    'd.a.b.test. 66 NAPTR 1 2 "u" "E2U+sip" "" c.a.b.test.',
    'b.test. 67 TXT "a text"',
    "b.test. 68 SOA ns.b.test. h.b.test. 1 2 3 4 5",
]


@pytest.mark.parametrize("before", range(len(ADDITIONAL) + 1))
def test_records_behind_an_opt_record_are_passed_on(before: int) -> None:
    octets = written((["www.example. 60 A 192.0.2.9"], [], ADDITIONAL), before)
    reply = read(octets)
    assert (reply.answers, reply.additionals, reply.lifetime_s) == (1, len(ADDITIONAL), 60)
    assert seen(fit(reply, client_query(), 65535, tcp=True)) == seen(octets)
    aged = seen(fit(reply, client_query(do=None), 65535, tcp=True, age_s=7))
    assert [each[2] for each in aged[2]] == [53 + number for number in range(len(ADDITIONAL))]


def test_nothing_grows_where_nothing_points_behind_the_opt_record() -> None:
    more = ["www.example. 60 A 192.0.2.1", "www.example. 60 A 192.0.2.2"]
    octets = written((["www.example. 60 A 192.0.2.9"], [], more), 0)
    assert len(read(octets).records) == len(octets) - 12 - 17 - len(OPT)


def pointer(at: int) -> bytes:
    return struct.pack("!H", 0xC000 | at)


def address(owner: bytes) -> bytes:
    return owner + struct.pack("!HHIH", 1, 1, 60, 4) + b"\1\2\3\4"


QUESTION = NAME.to_wire() + b"\0\1\0\1"
BEGIN = 12 + len(QUESTION)


@pytest.mark.parametrize(
    ("at", "name"),
    [(BEGIN, "."), (BEGIN + 11 + 6, "example."), (12, "www.example."), (16, "example.")],
)
def test_a_pointer_into_the_opt_record_is_written_out(at: int, name: str) -> None:
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0f\0\x03\0\x0b\0\0\7example\0"
    octets = struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 3) + QUESTION
    octets += opt + address(b"\1a" + pointer(at)) + address(pointer(at))
    expected = [dns.name.from_text("a." + name.lstrip(".")), dns.name.from_text(name)]
    assert [each[0] for each in seen(octets)[2]] == expected, "dnspython reads the same"
    got = seen(fit(read(octets), client_query(), 65535, tcp=True))
    assert [each[0] for each in got[2]] == expected


def test_a_name_that_runs_on_into_the_opt_record_is_written_out() -> None:
    text = b"\0" + struct.pack("!HHIH", 65280, 1, 60, 2) + b"\7x"
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\5\0\x03\0\1\0"
    octets = struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 3) + QUESTION + text + opt
    octets += address(pointer(BEGIN + 11))
    (_, got) = seen(fit(read(octets), client_query(), 65535, tcp=True))[2]
    assert got[0] == seen(octets)[2][1][0] != NAME


def test_what_is_for_one_hop_is_not_passed_on() -> None:
    tsig = b"\0" + struct.pack("!HHIH", 250, 255, 0, 4) + b"\0\0\0\0"
    sig = b"\0" + struct.pack("!HHIH", 24, 255, 0, 19) + bytes(19)
    octets = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 5) + QUESTION + address(pointer(12))
    reply = read(octets + OPT + address(pointer(12)) + sig + OPT + tsig)
    assert (reply.answers, reply.additionals, reply.lifetime_s) == (1, 1, 60)


def test_past_a_bound_what_follows_is_left_out() -> None:
    for count, kept in ((128, 128), (129, 0), (4000, 0)):
        octets = struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, count + 1) + QUESTION + OPT
        assert read(octets + address(pointer(12)) * count).additionals == kept


MALFORMED = {
    "an address of 5 octets": b"\xc0\x0c\0\1\0\1\0\0\0\0\0\5\1\2\3\4\5",
    "a name that does not end": b"\xc0\x0c\0\5\0\1\0\0\0\0\0\1\1",
    "RDATA behind a name": b"\xc0\x0c\0\5\0\1\0\0\0\0\0\3\xc0\x0c\0",
    "NAPTR without a name": b"\xc0\x0c\0\x23\0\1\0\0\0\0\0\7\0\1\0\1\0\0\0",
    "cut": b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3",
    "a pointer forwards": b"\xc0\xff\0\1\0\1\0\0\0\0\0\4\1\2\3\4",
    "nothing": b"",
}


@pytest.mark.parametrize("record", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_behind_an_opt_record_is_told(record: bytes) -> None:
    octets = struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 2) + QUESTION + OPT + record
    with pytest.raises(ReplyError, match=r"record \d+ is malformed"):
        read(octets)


def test_a_truncated_reply_may_end_behind_an_opt_record() -> None:
    octets = written((["www.example. 60 A 192.0.2.9"], [], ADDITIONAL), 0, flags=0x8380)
    counts = [read(octets[:end]).additionals for end in range(BEGIN, len(octets) + 1)]
    assert counts == sorted(counts)
    assert counts[-1] == len(ADDITIONAL)


A_NAME = st.sampled_from(NAMES)
LINES = st.one_of(
    st.builds("{} {} A 10.0.0.{}".format, A_NAME, st.integers(0, 2**31 - 1), st.integers(0, 255)),
    st.builds("{} 9 {} {}".format, A_NAME, st.sampled_from(["CNAME", "NS", "PTR"]), A_NAME),
    st.builds("{} 9 DNAME {}".format, A_NAME, A_NAME),
    st.builds("{} 9 MX 5 {}".format, A_NAME, A_NAME),
    st.builds("{} 9 SRV 1 2 3 {}".format, A_NAME, A_NAME),
    st.builds("{} 9 RP {} {}".format, A_NAME, A_NAME, A_NAME),
    st.builds("{} 9 SOA {} {} 1 2 3 4 5".format, A_NAME, A_NAME, A_NAME),
    st.builds('{} 9 NAPTR 1 2 "" "{}" "" {}'.format, A_NAME, st.text("ab", max_size=9), A_NAME),
    st.builds('{} 9 TXT "{}"'.format, A_NAME, st.text("abc", max_size=20)),
    st.builds(r"{} 9 TYPE65280 \# 3 c0000c".format, A_NAME),
)
SECTION = st.lists(LINES, max_size=6)


@given(st.tuples(SECTION, SECTION, st.lists(LINES, max_size=10)), st.integers(0, 10))
def test_dnspython_reads_the_same_records_before_and_after(
    sections: tuple[list[str], list[str], list[str]], before: int
) -> None:
    octets = written(sections, before)
    assert seen(fit(read(octets), client_query(), 65535, tcp=True)) == seen(octets)


@given(st.binary(max_size=150), st.integers(0, 5), st.sampled_from([0x8180, 0x8380]))
def test_any_octets_behind_an_opt_record_are_read_or_refused(
    rest: bytes, count: int, flags: int
) -> None:
    head = struct.pack("!HHHHHH", 7, flags, 1, 0, 0, count + 1)
    try:
        reply = read(head + QUESTION + OPT + rest)
    except ReplyError:
        return
    again = read(fit(reply, client_query(), 65535, tcp=flags == 0x8180))
    assert (again.records, again.additionals) == (reply.records, reply.additionals)
