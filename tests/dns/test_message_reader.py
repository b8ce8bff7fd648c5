import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.dns.message_reader import Opt, QuestionEntry, Record, read_reply
from mcsdns.dns.name import to_text, wire_from_text
from mcsdns.dns.rdata import (
    LAYOUTS,
    class_name,
    class_number,
    fields_of,
    normal_field,
    printable,
    split_fields,
    type_name,
    type_number,
)
from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import Ede, RRType
from mcsdns.errors import ReplyError

NAME = wire_from_text("web.shop.svc.clusterset.local.")


def message(
    *records: bytes,
    flags: int = 0x8500,
    question: bytes = NAME + b"\0\1\0\1",
    counts: tuple[int, int, int, int] | None = None,
) -> bytes:
    counts = counts or (1 if question else 0, len(records), 0, 0)
    return struct.pack("!HHHHHH", 0xABCD, flags, *counts) + question + b"".join(records)


def record(rtype: int, rdata: bytes, *, owner: bytes = b"\xc0\x0c", ttl: int = 5) -> bytes:
    return owner + struct.pack("!HHIH", rtype, 1, ttl, len(rdata)) + rdata


def opt(options: bytes = b"", *, size: int = 1232, ttl: int = 0) -> bytes:
    return b"\0" + struct.pack("!HHIH", 41, size, ttl, len(options)) + options


def option(code: int, content: bytes) -> bytes:
    return struct.pack("!HH", code, len(content)) + content


def test_header_and_question_are_read() -> None:
    reply = read_reply(message(flags=0x8583))
    assert (reply.id, reply.opcode, reply.status) == (0xABCD, 0, "NXDOMAIN")
    assert reply.flag_names == ("qr", "aa", "rd", "ra")
    assert reply.question == QuestionEntry(NAME, RRType.A, 1)
    assert reply.size == 12 + len(NAME) + 4


def test_reply_without_question_is_read() -> None:
    assert read_reply(message(question=b"", flags=0x8001)).question is None


def test_owner_follows_a_pointer_and_keeps_its_case() -> None:
    upper = b"\x03WEB" + NAME[4:]
    reply = read_reply(message(record(1, b"\x0a\0\0\1"), question=upper + b"\0\1\0\1"))
    assert reply.answer == (Record(upper, 5, 1, 1, ("10.0.0.1",)),)


def test_opt_is_apart_and_gives_the_upper_bits_of_the_rcode() -> None:
    wire = message(opt(option(10, b"12345678"), ttl=0x01008000), counts=(1, 0, 0, 1))
    reply = read_reply(wire)
    assert reply.status == "BADVERS"
    assert reply.additional == ()
    assert reply.opt == Opt(1232, 0, 0x8000, 1, ((10, b"12345678"),))
    assert reply.opt.do


def test_empty_option_at_the_end_is_read() -> None:
    reply = read_reply(message(opt(option(3, b"")), counts=(1, 0, 0, 1)))
    assert reply.opt is not None
    assert reply.opt.options == ((3, b""),)


def test_extended_errors_are_read_and_harmless() -> None:
    options = option(15, b"\0\x12no \x1b[31mred\0") + option(15, b"\x01\x00") + option(15, b"\0")
    reply = read_reply(message(opt(options), counts=(1, 0, 0, 1)))
    assert reply.errors == (Ede(18, "no \\u001b[31mred"), Ede(256, ""))
    assert [error.name for error in reply.errors] == ["Prohibited", ""]


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"", "octet 0"),
        (message()[:-1], "malformed"),
        (message(counts=(2, 0, 0, 0)), "malformed"),
        (message(counts=(1, 1, 0, 0)), "malformed"),
        (message() + b"\0", "1 octets follow the last record"),
        (message(record(1, b"\x0a\0\0\1")[:-1]), "a record is cut short"),
        (message(record(1, b"\x0a\0\0")), "RDATA is cut short"),
        (message(record(1, b"\x0a\0\0\1\0")), "has not the length that it says"),
        (message(record(16, b"\x05ab")), "RDATA is cut short"),
        (message(record(1, b"\x0a\0\0\1", owner=b"\xc0\xff")), "does not point backwards"),
        (message(record(1, b"", owner=b"\x40" + b"a" * 64 + b"\0")), "over 63 octets"),
        (message(record(1, b"", owner=(b"\x3f" + b"a" * 63) * 4 + b"\0")), "over 255 octets"),
        (message(opt(b"\0\x0f\0\x09\0"), counts=(1, 0, 0, 1)), "an option ends behind"),
    ],
)
def test_malformed_reply_is_an_error_that_says_where(wire: bytes, why: str) -> None:
    with pytest.raises(ReplyError, match=why):
        read_reply(wire)


@given(st.binary(max_size=300))
def test_any_octets_are_a_reply_or_an_error(octets: bytes) -> None:
    for wire in (octets, message(octets), message(record(64, octets), record(46, octets))):
        try:
            read_reply(wire)
        except ReplyError:
            continue


def test_chained_pointers_end() -> None:
    targets = (max(12, at - 2) for at in range(13, 2013, 2))
    message = bytes(13) + b"".join(struct.pack("!H", 0xC000 | target) for target in targets)
    cursor = Cursor(message, len(message) - 2)
    assert (cursor.name(), cursor.at) == (b"\0", len(message))
    with pytest.raises(ValueError, match="255"):
        Cursor((b"\x3f" + b"a" * 63) * 5 + b"\0").name()


@pytest.mark.parametrize(
    ("rtype", "text"),
    [
        ("A", "10.0.0.1"),
        ("AAAA", "fd00::1"),
        ("NS", "ns.example."),
        ("CNAME", "other.example."),
        ("PTR", "other.example."),
        ("MX", "10 mail.example."),
        ("SRV", "0 100 443 web.example."),
        ("SOA", "ns.example. root.example. 1 7200 1800 86400 5"),
        ("TXT", '"one" "two words"'),
        ("DS", "12345 13 2 AABBCC"),
        ("CAA", '0 issue "ca.example"'),
        ("DNSKEY", "257 3 13 AABBCCDD"),
    ],
)
def test_rdata_is_what_dnslib_was_given(rtype: str, text: str) -> None:
    pack = dnslib.DNSRecord(
        dnslib.DNSHeader(), rr=dnslib.RR.fromZone(f"x.example. 5 IN {rtype} {text}")
    )
    reply = read_reply(bytes(pack.pack()))
    assert str(reply.answer[0]).upper() == f"x.example. 5 IN {rtype} {text}".upper()


def test_host_information_is_two_strings() -> None:
    rdata = b"\x07RFC8482\x00"
    assert fields_of(13, Cursor(rdata)) == ('"RFC8482"', '""')


def test_unknown_type_is_shown_in_hexadecimal_digits() -> None:
    reply = read_reply(message(record(65280, b"\x01\xab"), record(65281, b"")))
    assert [str(each).partition(" IN ")[2] for each in reply.answer] == [
        "TYPE65280 \\# 2 01AB",
        "TYPE65281 \\# 0",
    ]


def test_what_dnslib_cannot_read_is_shown_in_hexadecimal_digits() -> None:
    reply = read_reply(message(record(46, b"\x01")))
    assert str(reply.answer[0]).endswith("IN RRSIG \\# 1 01")


def test_strings_are_quoted_and_escaped() -> None:
    rdata = b'\x06a"\\\x07\xffz'
    assert fields_of(16, Cursor(rdata)) == (r'"a\"\\\007\255z"',)
    assert split_fields(r'x "a \" b" y') == ["x", r'"a \" b"', "y"]


def test_types_and_classes_are_read_and_written() -> None:
    assert [type_number(text) for text in ("a", "SRV", "DNSKEY", "TYPE65280")] == [1, 33, 48, 65280]
    assert [type_name(number) for number in (1, 48, 65280)] == ["A", "DNSKEY", "TYPE65280"]
    with pytest.raises(ValueError, match="'FOO' is no record type"):
        type_number("FOO")
    assert [class_number(text) for text in ("in", "CH", "CLASS32769")] == [1, 3, 32769]
    assert [class_number(text) for text in ("A", "CLASS65536", "CLASS")] == [None] * 3
    assert [class_name(number) for number in (1, 255, 32769)] == ["IN", "ANY", "CLASS32769"]


@pytest.mark.parametrize(
    ("rtype", "given", "normal"),
    [
        (RRType.AAAA, "FD00:0::1", "fd00::1"),
        (RRType.NS, r"\119eb.example", "web.example."),
        (RRType.TXT, "1.0.0", '"1.0.0"'),
        (RRType.MX, "010", "10"),
    ],
)
def test_fields_have_one_spelling(rtype: RRType, given: str, normal: str) -> None:
    assert normal_field(LAYOUTS[rtype][0], given) == normal


def test_address_of_the_other_family_is_refused() -> None:
    with pytest.raises(ValueError, match="other family"):
        normal_field(LAYOUTS[RRType.A], "fd00::1")


def test_control_characters_are_shown_not_sent() -> None:
    assert printable("é\x1b]0;x\x07\n") == "é\\u001b]0;x\\u0007\\u000a"


def test_names_with_odd_octets_are_read() -> None:
    name = b"\x03\xff.\0\x00"
    reply = read_reply(message(question=name + b"\0\1\0\1"))
    assert reply.question is not None
    assert to_text(reply.question.name) == r"\255\.\000."
