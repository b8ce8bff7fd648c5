import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.dns.types import Rcode
from mcsdns.errors import ReplyError
from mcsdns.forward.render import bound_ttls, write_error_option
from mcsdns.forward.reply import UpstreamReply, read_upstream_reply
from tests.forward import (
    client_query,
    errors_of,
    fit,
    opt_of,
    parsed,
    question,
    upstream_message,
)

ONE = ["www.example 60 A 1.2.3.4"]
SOA = "example 300 SOA ns.example h.example 1 2 3 4 60"
BLOCKED = write_error_option(15, "blocked")
AD, TC = 0x0020, 0x0200


def reply_of(
    answers: list[str] = ONE,
    authority: list[str] | None = None,
    additional: list[str] | None = None,
    *,
    qtype: str = "A",
    rcode: int = 0,
    bits: int = 0,
    errors: list[bytes] | None = None,
) -> UpstreamReply:
    octets = upstream_message(
        answers,
        authority or [],
        additional or [],
        qtype=qtype,
        rcode=rcode,
        bits=bits,
        errors=errors or [],
    )
    return read_upstream_reply(octets, question(qtype=qtype))


def addresses(count: int, name: str = "www.example") -> list[str]:
    return [f"{name} 60 A 10.0.{n >> 8}.{n & 255}" for n in range(count)]


def ttls(message: bytes) -> list[int]:
    seen = parsed(message)
    return [each.ttl for each in [*seen.rr, *seen.auth, *seen.ar] if each.rtype != 41]


def test_reply_has_the_clients_id_and_its_question_as_it_was_asked() -> None:
    query = client_query("wWw.eXample", message_id=0xBEEF)
    message = fit(reply_of(), query, 1232, tcp=False)
    assert message[:2] == b"\xbe\xef"
    assert message[12 : 12 + len(query.question)] == query.question


@pytest.mark.parametrize("rd", [False, True])
@pytest.mark.parametrize("cd", [False, True])
def test_flags_are_qr_and_ra_and_the_clients_rd_and_cd(rd: bool, cd: bool) -> None:
    reply = reply_of(bits=0x0440)  # AA and Z of the upstream
    message = fit(reply, client_query(rd=rd, cd=cd), 1232, tcp=False)
    assert struct.unpack_from("!H", message, 2)[0] == 0x8080 | rd << 8 | cd << 4


@pytest.mark.parametrize(
    ("do", "asked_ad", "told"),
    [(None, False, 0), (False, False, 0), (True, False, AD), (False, True, AD), (None, True, AD)],
)
def test_ad_is_told_to_who_understands_it(do: bool | None, asked_ad: bool, told: int) -> None:
    query = client_query(do=do)
    for bits in (0, AD):
        message = fit(reply_of(bits=bits), query, 1232, tcp=False, ad=asked_ad)
        assert message[3] & AD == told & bits


@pytest.mark.parametrize("do", [None, False, True])
def test_opt_is_ours_and_only_for_who_sent_one(do: bool | None) -> None:
    opt = opt_of(fit(reply_of(), client_query(do=do, size=4096), 1232, tcp=False))
    if do is None:
        assert opt is None
    else:
        assert opt is not None
        assert (opt.rclass, opt.ttl) == (1232, 0x8000 if do else 0)


@pytest.mark.parametrize("rcode", [0, 2, 3, 5])
def test_rcode_is_the_upstreams(rcode: int) -> None:
    assert fit(reply_of([], rcode=rcode), client_query(), 1232, tcp=False)[3] & 0xF == rcode


def test_long_rcode_stands_in_our_opt_and_is_servfail_without() -> None:
    reply = reply_of(rcode=23)
    message = fit(reply, client_query(), 1232, tcp=False)
    opt = opt_of(message)
    assert opt is not None
    assert opt.ttl >> 24 << 4 | message[3] & 0xF == 23
    bare = fit(reply, client_query(do=None), 1232, tcp=False)
    assert parsed(bare).header.rcode == Rcode.SERVFAIL
    assert not parsed(bare).rr


def test_errors_of_the_upstream_and_ours_are_told() -> None:
    reply = reply_of(errors=[b"\0\x06bogus"])
    assert errors_of(fit(reply, client_query(), 1232, tcp=False, errors=BLOCKED)) == [
        (6, b"bogus"),
        (15, b"blocked"),
    ]
    assert not errors_of(fit(reply, client_query(do=None), 1232, tcp=False, errors=BLOCKED))


@pytest.mark.parametrize(
    ("age_s", "ttl", "left"),
    [
        (0, None, [300, 20]),
        (7, None, [293, 13]),
        (20, None, [280, 0]),
        (10**6, None, [0, 0]),
        (0, 30, [30, 20]),
        (500, 30, [30, 20]),
        (0, 0, [0, 0]),
    ],
)
def test_ttls_are_counted_down_or_bound_ttls(age_s: int, ttl: int | None, left: list[int]) -> None:
    reply = reply_of(["www.example 300 CNAME a.example", "a.example 20 A 1.2.3.4"])
    message = fit(reply, client_query(), 1232, tcp=False, age_s=age_s, ttl=ttl)
    assert ttls(message) == left
    assert ttls(fit(reply, client_query(), 1232, tcp=False)) == [300, 20]


SHAPES = {
    "CNAME chain": (
        [
            "www.example 60 CNAME a.cdn.net",
            "a.cdn.net 60 CNAME b.cdn.net",
            "b.cdn.net 5 A 1.2.3.4",
        ],
        [],
        [],
        "A",
    ),
    "NODATA": ([], [SOA], [], "AAAA"),
    "MX with addresses": (
        ["www.example 60 MX 10 mx.example"],
        ["example 60 NS ns.example"],
        ["mx.example 60 A 1.2.3.4", "mx.example 60 AAAA ::1"],
        "MX",
    ),
    "SRV": (["www.example 60 SRV 0 100 80 a.www.example"], [], [], "SRV"),
    "HTTPS": (["www.example 60 HTTPS 1 . alpn=h2 ipv4hint=1.2.3.4"], [], [], "HTTPS"),
    "TXT": ([f'www.example 60 TXT "{"x" * 200}" "{"y" * 200}"'], [], [], "TXT"),
    "unknown type": ([r"www.example 60 TYPE65280 \# 3 c0ffee"], [], [], "TYPE65280"),
    "no records": ([], [], [], "A"),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("opt", [False, True])
def test_records_come_through_as_the_upstream_had_them(
    shape: tuple[list[str], list[str], list[str], str], opt: bool
) -> None:
    answers, authority, additional, qtype = shape
    octets = upstream_message(answers, authority, additional, qtype=qtype, opt=opt)
    reply = read_upstream_reply(octets, question(qtype=qtype))
    message = fit(reply, client_query(qtype=qtype, do=None), 1232, tcp=False)
    direct, ours = parsed(octets), parsed(message)
    assert [*map(str, ours.rr)] == [*map(str, direct.rr)]
    assert [*map(str, ours.auth)] == [*map(str, direct.auth)]
    assert [*map(str, ours.ar)] == [str(each) for each in direct.ar if each.rtype != 41]


def test_additional_goes_first_and_without_tc() -> None:
    reply = reply_of(addresses(20), ["example 60 NS ns.example"], addresses(20, "ns.example"))
    seen = parsed(fit(reply, client_query(), 512, tcp=False))
    assert (len(seen.rr), len(seen.auth), len(seen.ar), seen.header.tc) == (20, 1, 1, 0)
    assert seen.ar[0].rtype == dnslib.QTYPE.OPT


def test_errors_go_before_authority_and_the_upstreams_before_ours() -> None:
    reply = reply_of(addresses(25), errors=[b"\0\x06" + b"x" * 60])
    whole = len(fit(reply, client_query(), 1232, tcp=False, errors=BLOCKED))
    seen = [
        (len(errors_of(message)), len(parsed(message).rr), parsed(message).header.tc)
        for message in (
            fit(reply, client_query(), limit, tcp=False, errors=BLOCKED)
            for limit in (whole, whole - 1, whole - 66, whole - 67, whole - 79, whole - 80)
        )
    ]
    assert seen == [(2, 25, 0), (1, 25, 0), (1, 25, 0), (0, 25, 0), (0, 25, 0), (0, 24, 1)]


def test_answer_is_cut_between_records_with_tc() -> None:
    reply = reply_of(addresses(100), ["example 60 NS ns.example"], ["ns.example 60 A 1.1.1.1"])
    message = fit(reply, client_query(), 512, tcp=False)
    seen = parsed(message)
    assert seen.header.tc
    assert 512 - 16 < len(message) <= 512
    assert [str(each.rdata) for each in seen.rr] == [
        str(each.rdata) for each in parsed(upstream_message(addresses(100))).rr[: len(seen.rr)]
    ]
    assert (seen.auth, len(seen.ar)) == ([], 1)


def test_negative_reply_that_does_not_fit_is_empty_with_tc() -> None:
    soa = f"example 300 SOA {'a' * 60}.{'b' * 60}.{'c' * 60} {'d' * 60}.{'e' * 60} 1 2 3 4 60"
    proof = [rf"{n}.example 300 TYPE50 \# 60 {'00' * 60}" for n in range(5)]
    reply = reply_of([], [soa, *proof], rcode=3)
    seen = parsed(fit(reply, client_query(), 512, tcp=False))
    assert (seen.header.tc, seen.header.rcode, seen.rr, seen.auth) == (1, 3, [], [])


def test_over_tcp_64_kilobytes_come_whole() -> None:
    reply = reply_of(addresses(4080))
    message = fit(reply, client_query(do=True), 65535, tcp=True, errors=BLOCKED)
    assert struct.unpack_from("!HHHHH", message, 2) == (0x8180, 1, 4080, 0, 1)
    assert reply.records in message


def test_over_tcp_tc_is_never_set() -> None:
    message = fit(reply_of(addresses(100)), client_query(), 1000, tcp=True)
    assert not parsed(message).header.tc


def test_what_the_upstream_truncated_stays_truncated() -> None:
    reply = reply_of(bits=TC)
    seen = parsed(fit(reply, client_query(), 1232, tcp=False))
    assert (seen.header.tc, len(seen.rr)) == (1, 1)
    seen = parsed(fit(reply, client_query(), 65535, tcp=True))
    assert (seen.header.tc, seen.header.rcode, seen.rr) == (0, Rcode.SERVFAIL, [])


def test_bounded_reply_is_itself_where_nothing_changes() -> None:
    reply = reply_of()
    assert bound_ttls(reply, 0, 60) is reply
    assert bound_ttls(reply, 60, 86400) is reply


@pytest.mark.parametrize(
    ("least", "most", "left", "lifetime_s"),
    [(0, 100, [100, 20], 20), (30, 300, [300, 30], 30), (0, 10, [10, 10], 10), (0, 0, [0, 0], 0)],
)
def test_bounds_hold_for_ttls_and_lifetime(
    least: int, most: int, left: list[int], lifetime_s: int
) -> None:
    reply = reply_of(["www.example 300 CNAME a.example", "a.example 20 A 1.2.3.4"])
    within = bound_ttls(reply, least, most)
    assert ttls(fit(within, client_query(), 1232, tcp=False)) == left
    assert within.lifetime_s == lifetime_s


NAMES = st.sampled_from(["www.example", "a.example", "b.a.example", "x.net", "Www.eXample"])
LINES = st.one_of(
    st.builds("{} {} A 10.0.0.{}".format, NAMES, st.integers(0, 2**31 - 1), st.integers(0, 255)),
    st.builds("{} {} CNAME {}".format, NAMES, st.integers(0, 999), NAMES),
    st.builds("{} {} MX 5 {}".format, NAMES, st.integers(0, 999), NAMES),
    st.builds('{} {} TXT "{}"'.format, NAMES, st.integers(0, 999), st.text("abc", max_size=150)),
    st.builds("{} {} SOA {} h.example 1 2 3 4 5".format, NAMES, st.integers(0, 999), NAMES),
    st.builds("{} {} SRV 1 2 3 {}".format, NAMES, st.integers(0, 999), NAMES),
)
SECTION = st.lists(LINES, max_size=12)


@given(
    st.tuples(SECTION, SECTION, SECTION),
    st.sampled_from([0, 2, 3, 5, 16, 23]),
    st.sampled_from([None, False, True]),
    st.integers(512, 1400),
    st.booleans(),
    st.integers(0, 1200),
    st.sampled_from([0, 1, 4, 40]),
)
def test_fitted_message_is_whole_within_its_limit_and_begins_as_the_reply(
    sections: tuple[list[str], list[str], list[str]],
    rcode: int,
    do: bool | None,
    limit: int,
    tcp: bool,
    age_s: int,
    errors: int,
) -> None:
    octets = upstream_message(*sections, rcode=rcode, errors=[b"\0\6" + b"x" * 20] * errors)
    reply = read_upstream_reply(octets, question())
    query = client_query(do=do)
    message = fit(reply, query, limit, tcp=tcp, age_s=age_s, errors=BLOCKED)
    assert len(message) <= limit
    direct, ours = parsed(octets), parsed(message)
    told = [each for each in ours.ar if each.rtype != 41]
    extra = [each for each in direct.ar if each.rtype != 41]
    if rcode > 15 and do is None:
        assert (ours.header.rcode, ours.rr, ours.auth, told) == (2, [], [], [])
        return
    for part, source in ((ours.rr, direct.rr), (ours.auth, direct.auth), (told, extra)):
        assert [each.rdata for each in part] == [each.rdata for each in source[: len(part)]]
        left = [max(0, each.ttl - age_s) for each in source[: len(part)]]
        assert [each.ttl for each in part] == left
    assert len(told) in (0, len(extra))
    assert len(ours.auth) in (0, len(direct.auth))
    cut = (len(ours.rr), len(ours.auth)) != (len(direct.rr), len(direct.auth))
    assert bool(ours.header.tc) is (cut and not tcp)
    assert (opt_of(message) is not None) is (do is not None)
    assert parsed(message).header.ra


@given(st.binary(max_size=120), st.tuples(*[st.integers(0, 3)] * 3), st.integers(0, 15))
def test_any_readable_reply_can_be_fitted(
    rest: bytes, counts: tuple[int, int, int], rcode: int
) -> None:
    asked = question()
    octets = struct.pack("!HHHHHH", 7, 0x8180 | rcode, 1, *counts) + asked + rest
    try:
        reply = read_upstream_reply(octets, asked)
    except ReplyError:
        return
    message = fit(reply, client_query(), 512, tcp=False)
    again = read_upstream_reply(message, asked)
    assert (again.records, again.rcode) == (reply.records, reply.rcode)
