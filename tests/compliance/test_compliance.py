"""What must come back for which octets: a row for each demand of the RFCs, for docs/compliance.md.

Rows are asked over real sockets. The page has the same rows, and what other servers say to them:
`python -m tests.compliance` asks those that are installed, and writes it.
"""

import itertools
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from mcsdns import config
from mcsdns.dns import name as names
from mcsdns.dns import write_opt
from mcsdns.dns.message_reader import read_reply
from mcsdns.dns.rdata import type_name, type_number
from mcsdns.dns.types import AD, CD, EDE_OPTION, RCODE, RD, rcode_text
from mcsdns.errors import ReplyError
from tests.live import serving
from tests.paths import CASES, DOCS
from tests.waiting import DEADLINE_S

PAGE: Final = DOCS / "compliance.md"
ZONE: Final = "clusterset.local"
WEB, DB, BIG = f"web.shop.svc.{ZONE}", f"db.shop.svc.{ZONE}", f"b.n.svc.{ZONE}"
MANIFESTS: Final = [str(CASES / "manifests" / name) for name in ("shop.yaml", "many.yaml")]
Z: Final = 0x40
OPT: Final = write_opt()
NOERROR_SOA: Final = "NOERROR aa; answer SOA"
BADVERS: Final = "BADVERS; OPT"
FORMERR: Final = "FORMERR"
NODATA: Final = "NOERROR aa; authority SOA; OPT"
NXDOMAIN: Final = "NXDOMAIN aa; authority SOA; OPT"


def request(
    name: str | bytes = ZONE,
    qtype: str = "SOA",
    *,
    opt: bytes = b"",
    flags: int = 0,
    counts: tuple[int, int, int, int] | None = None,
    records: bytes = b"",
    qclass: int = 1,
) -> bytes:
    """A question, then records and an OPT record, in Additional unless counts say otherwise."""
    wire = names.wire_from_text(name) if isinstance(name, str) else name
    counts = counts or (1, 0, 0, bool(opt) + bool(records))
    question = wire + struct.pack("!HH", type_number(qtype), qclass)
    return struct.pack("!6H", 0, flags, *counts) + question + records + opt


def opt(*options: tuple[int, bytes], version: int = 0, flags: int = 0, size: int = 1232) -> bytes:
    octets = b"".join(struct.pack("!HH", code, len(each)) + each for code, each in options)
    return b"\0" + struct.pack("!HHBBHH", 41, size, 0, version, flags, len(octets)) + octets


def record(owner: bytes, rdata: bytes = b"\x0a\0\0\1", size: int | None = None) -> bytes:
    return owner + struct.pack("!HHIH", 1, 1, 5, len(rdata) if size is None else size) + rdata


class Row(NamedTuple):
    """What is sent and what must come back.

    Attributes:
        section: RFC and section. messages: their ids are those of their places, from 1.
        expected: of each message; see `summary`. piece_bytes: over TCP, in such pieces; 0 is UDP.
        why: where the RFC leaves a choice, ours.
    """

    section: str
    what: str
    messages: tuple[bytes, ...]
    expected: str
    piece_bytes: int = 0
    why: str = ""


def udp(section: str, what: str, message: bytes, expected: str, why: str = "") -> Row:
    return Row(section, what, (message,), expected, 0, why)


def tcp(
    section: str, what: str, message: bytes, expected: str, *more: bytes, piece: int = 512
) -> Row:
    return Row(section, what, (message, *more), expected, piece)


KEEPALIVE: Final = 11
LONG_NAME: Final = (b"\x3f" + b"a" * 63) * 4 + b"\0"
IN_ZONE: Final = names.wire_from_text(ZONE)
ROWS: Final = (
    udp("8906, 8.1.1", "SOA without EDNS", request(), NOERROR_SOA),
    udp("8906, 8.1.2", "an unknown type", request(qtype="TYPE1000"), "NOERROR aa; authority SOA"),
    udp("8906, 8.1.3.1", "CD", request(flags=CD), "NOERROR aa cd; answer SOA"),
    udp("8906, 8.1.3.2", "AD", request(flags=AD), NOERROR_SOA),
    udp("8906, 8.1.3.3", "the reserved bit", request(flags=Z), NOERROR_SOA),
    udp("8906, 8.1.3.4", "RD", request(flags=RD), "NOERROR aa rd; answer SOA"),
    udp(
        "8906, 8.1.4",
        "opcode 15, a header alone",
        struct.pack("!6H", 0, 15 << 11, *[0] * 4),
        "NOTIMP",
    ),
    udp(
        "8906, 3.2.2",
        "opcode 15, EDNS",
        request(flags=15 << 11, opt=OPT),
        "NOTIMP; OPT",
    ),
    tcp("8906, 8.1.5", "SOA", request(), NOERROR_SOA),
    udp("8906, 8.2.1", "EDNS", request(opt=OPT), NOERROR_SOA + "; OPT"),
    udp("8906, 8.2.2", "version 1", request(opt=opt(version=1)), BADVERS),
    udp("8906, 8.2.3", "an unknown option", request(opt=opt((100, b""))), NOERROR_SOA + "; OPT"),
    udp("8906, 8.2.4", "an unknown flag", request(opt=opt(flags=0x40)), NOERROR_SOA + "; OPT"),
    udp(
        "8906, 8.2.5",
        "version 1, an unknown flag",
        request(opt=opt(version=1, flags=0x40)),
        BADVERS,
    ),
    udp(
        "8906, 8.2.6",
        "version 1, an unknown option",
        request(opt=opt((100, b""), version=1)),
        BADVERS,
    ),
    udp(
        "8906, 8.2.7",
        "an answer that does not fit 512 octets",
        request(BIG, "A", opt=opt(size=512)),
        "NOERROR aa tc; answer 28 A; OPT",
    ),
    udp("8906, 8.2.8", "DO", request(opt=opt(flags=0x8000)), NOERROR_SOA + "; OPT do"),
    udp("8906, 8.2.9", "version 1, DO", request(opt=opt(version=1, flags=0x8000)), BADVERS + " do"),
    udp(
        "8906, 8.2.10",
        "options COOKIE, NSID, EXPIRE and ECS",
        request(opt=opt((10, bytes(8)), (3, b""), (9, b""), (8, b"\0\1\0\0"))),
        NOERROR_SOA + "; OPT",
    ),
    udp(
        "6891, 6.1.1",
        "two OPT records",
        request(opt=OPT + OPT, counts=(1, 0, 0, 2)),
        FORMERR + "; OPT",
    ),
    udp(
        "6891, 6.1.1",
        "OPT before another record",
        request(opt=OPT + record(b"\0"), counts=(1, 0, 0, 2)),
        NOERROR_SOA + "; OPT",
    ),
    udp("6891, 6.1.2", "OPT not at the root", request(records=b"\1a" + OPT), FORMERR + "; OPT"),
    udp(
        "6891, 6.1.2",
        "an option that ends behind its record",
        request(records=opt()[:-2] + b"\0\4\0\x64\0\1"),
        FORMERR,
    ),
    udp("6891, 6.1.3", "version 255", request(opt=opt(version=255)), BADVERS),
    udp(
        "6891, 6.2.3",
        "a size of 0 counts as 512",
        request(BIG, "A", opt=opt(size=0)),
        "NOERROR aa tc; answer 28 A; OPT",
    ),
    udp(
        "6891, 6.2.4",
        "a size of 65,535",
        request(BIG, "A", opt=opt(size=65535)),
        "NOERROR aa tc; answer 73 A; OPT",
        "1,232 octets are the most by UDP (DNS flag day 2020)",
    ),
    udp("6891, 7", "no OPT to who sent none", request(BIG, "A"), "NOERROR aa tc; answer 29 A"),
    tcp("7766, 5", "what UDP truncates", request(BIG, "A"), "NOERROR aa; answer 90 A"),
    tcp(
        "7766, 6.2.1.1",
        "two questions at once",
        request(),
        f"{NOERROR_SOA} + {NOERROR_SOA}",
        request(),
    ),
    tcp("7766, 8", "the length apart from the message", request(), NOERROR_SOA, piece=2),
    tcp("7766, 8", "octet by octet", request(), NOERROR_SOA, piece=1),
    udp(
        "7828, 3.3.1",
        "keepalive over UDP",
        request(opt=opt((KEEPALIVE, b""))),
        NOERROR_SOA + "; OPT",
    ),
    Row(
        "7828, 3.3.2",
        "keepalive over TCP",
        (request(opt=opt((KEEPALIVE, b""))),),
        NOERROR_SOA + "; OPT",
        512,
        "not offered",
    ),
    udp(
        "8020, 2",
        "a name below one that does not exist",
        request(f"a.b.nosuch.svc.{ZONE}", "A", opt=OPT),
        NXDOMAIN,
    ),
    udp(
        "8020, 2", "a name above one that exists", request(f"shop.svc.{ZONE}", "A", opt=OPT), NODATA
    ),
    udp("8482, 4.1", "ANY", request(WEB, "ANY", opt=OPT), "NOERROR aa; answer A; OPT"),
    udp(
        "8482, 4.2",
        "ANY over UDP of 90 addresses",
        request(BIG, "ANY", opt=OPT),
        "NOERROR aa; answer HINFO; OPT",
    ),
    udp(
        "8914, 2",
        "a name of another zone",
        request("example.com", "A", opt=OPT),
        "REFUSED; OPT EDE 20",
    ),
    udp("8914, 2", "the same without OPT", request("example.com", "A"), "REFUSED"),
    udp(
        "8914, 2", "class CH", request("example.com", "A", qclass=3, opt=OPT), "REFUSED; OPT EDE 21"
    ),
    udp("9156, 3", "one label after the other: svc", request(f"svc.{ZONE}", "A", opt=OPT), NODATA),
    udp("9156, 3", "shop.svc", request(f"shop.svc.{ZONE}", "A", opt=OPT), NODATA),
    udp("9156, 3", "_tcp.web.shop.svc", request(f"_tcp.{WEB}", "A", opt=OPT), NODATA),
    udp(
        "9156, 3",
        "cluster-a.db.shop.svc",
        request(f"cluster-a.{DB}", "A", opt=OPT),
        "REFUSED; OPT",
        "[decision 1](decisions/0001-per-cluster-form-is-refused.md)",
    ),
    udp(
        "9156, 3",
        "db-0.cluster-a.db.shop.svc",
        request(f"db-0.cluster-a.{DB}", "A", opt=OPT),
        "NOERROR aa; answer A; OPT",
    ),
    udp("9267, 2", "a question that points to itself", request(b"\xc0\x0c"), FORMERR),
    udp(
        "9267, 2", "a question that points ahead", request(b"\xc0\x20", records=b"\0" * 20), FORMERR
    ),
    udp(
        "9267, 2",
        "an owner that points to itself",
        request(records=record(b"\xc0" + bytes([12 + len(IN_ZONE) + 4]))),
        FORMERR,
    ),
    udp("9267, 2", "an owner that points ahead", request(records=record(b"\xc0\xff")), FORMERR),
    udp("9267, 3", "a label of type 01", request(b"\x41" + b"a" * 65 + b"\0"), FORMERR),
    udp("9267, 3", "a name over 255 octets", request(LONG_NAME), FORMERR),
    udp(
        "9267, 4", "a name without an end", struct.pack("!6H", 0, 0, 1, 0, 0, 0) + b"\3abc", FORMERR
    ),
    udp("9267, 4", "NUL in a label", request(b"\1\0" + IN_ZONE, "A"), "NXDOMAIN aa; authority SOA"),
    udp(
        "9267, 5", "RDATA longer than the message", request(records=record(b"\0", size=9)), FORMERR
    ),
    udp(
        "9267, 6",
        "more records than there are",
        request(opt=OPT, counts=(1, 0, 0, 65535)),
        FORMERR + "; OPT",
    ),
    udp("9619, 4", "two questions", request(counts=(2, 0, 0, 0), records=request()[12:]), FORMERR),
    udp(
        "9619, 4",
        "two questions, EDNS",
        request(counts=(2, 0, 0, 1), records=request()[12:], opt=OPT),
        FORMERR + "; OPT",
    ),
    udp("9619, 4", "no question", struct.pack("!6H", 0, 0, 0, 0, 0, 0), FORMERR),
    udp("1035, 4.1.1", "a reply", request(flags=0x8000), "no reply"),
)


def summary(reply: bytes | None, *, with_ede: bool = True) -> str:
    """What a reply says: rcode, flags, types by section, and the OPT record."""
    if reply is None:
        return "no reply"
    try:
        seen = read_reply(reply)
    except ReplyError:
        return f"{rcode_text(reply[3] & RCODE)}; the rest cannot be read"
    flags = [flag for flag in seen.flag_names if flag not in ("qr", "ra")]
    parts = [" ".join([seen.status, *flags])]
    for title in ("answer", "authority", "additional"):
        types = [type_name(each.rtype) for each in getattr(seen, title)]
        runs = [(len(list(run)), rtype) for rtype, run in itertools.groupby(types)]
        if runs:
            parts.append(" ".join([title, *(f"{n} {t}" if n > 1 else t for n, t in runs)]))
    if seen.opt:
        words = [f"version {seen.opt.version}"] * bool(seen.opt.version)
        words += ["do"] * seen.opt.do + ["MBZ"] * bool(seen.opt.flags & 0x7FFF)
        words += [f"option {code}" for code, _ in seen.opt.options if code != EDE_OPTION]
        words += [f"EDE {each.code}" for each in seen.errors if with_ede]
        parts.append(" ".join(["OPT", *words]))
    return "; ".join(parts)


def cells(row: Row) -> list[str]:
    """The cells of a row that do not depend on other servers."""
    transport = "TCP" if row.piece_bytes else "UDP"
    expected = f"{row.expected} ({row.why})" if row.why else row.expected
    return [row.section, f"{row.what}, {transport}", expected]


def ask(row: Row, address: tuple[str, int], patience_s: float = 0) -> str:
    """Send the messages of a row, and say what came back for each.

    Behind them goes a question of our own: what has no reply by the time that this has one, or so
    many seconds later, is without one.
    """
    messages = [struct.pack("!H", at) + each[2:] for at, each in enumerate(row.messages, 1)]
    last = len(messages) + 1
    messages.append(struct.pack("!H", last) + request()[2:])
    replies: dict[int, bytes] = {}
    kind = socket.SOCK_STREAM if row.piece_bytes else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(address)
        if row.piece_bytes:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = b"".join(struct.pack("!H", len(each)) + each for each in messages)
            for at in range(0, len(stream), row.piece_bytes):
                sock.sendall(stream[at : at + row.piece_bytes])
            with sock.makefile("rb") as file:
                while len(replies) < last and len(size := file.read(2)) == 2:
                    reply = file.read(int.from_bytes(size, "big"))
                    replies[int.from_bytes(reply[:2], "big")] = reply
        else:
            for each in messages:
                sock.send(each)
            while len(replies) < last:
                try:
                    reply = sock.recv(65535)
                except TimeoutError:
                    if last not in replies:
                        raise
                    break
                replies[int.from_bytes(reply[:2], "big")] = reply
                if last in replies:
                    if not patience_s:
                        break
                    sock.settimeout(patience_s)
    with_ede = "8914" in row.section
    return " + ".join(summary(replies.get(at), with_ede=with_ede) for at in range(1, last))


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with serving() as starter:
        server = starter.start(config.Settings(manifests=MANIFESTS))
        yield server.host, server.port


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section}: {row.what}")
def test_what_comes_back(row: Row, address: tuple[str, int]) -> None:
    assert ask(row, address) == row.expected


def test_page_has_these_rows() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    begins = ["| " + " | ".join(cells(row)) + " |" for row in ROWS]
    assert [line[: len(begin)] for line, begin in zip(lines, begins, strict=True)] == begins
