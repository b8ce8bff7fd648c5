"""Every reply is counted once, as what it is, whichever way it went."""

import socket
from collections import Counter
from collections.abc import Iterator

import dnslib
import pytest

from mcsdns import config
from mcsdns.diagnostics.client import server_from_text
from mcsdns.dns.name import from_text
from mcsdns.stats import OTHER, UNCOUNTED, ReplyCounters, ReplyKind
from tests import live
from tests.conftest import ask

Running = tuple[live.Starter, tuple[str, int]]
ZONE = "clusterset.local."


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with live.serving() as starter:
        server = starter.start(config.Settings(manifests=["examples/manifests"]))
        yield starter, server_from_text(str(server))


ROWS = [
    ("rebel-base.default.svc.clusterset.local", "A", (ZONE, "A", "NOERROR", ReplyKind.CLUSTERSET)),
    (
        "rebel-base.default.svc.clusterset.local",
        "TXT",
        (ZONE, "TXT", "NOERROR", ReplyKind.NEGATIVE),
    ),
    ("no.default.svc.clusterset.local", "AAAA", (ZONE, "AAAA", "NXDOMAIN", ReplyKind.NEGATIVE)),
    ("example.com", "A", (".", "A", "REFUSED", ReplyKind.OUTSIDE)),
    ("example.com", "LOC", (".", OTHER, "REFUSED", ReplyKind.OUTSIDE)),
    ("clusterset.local", "AXFR", (".", OTHER, "REFUSED", ReplyKind.REJECTED)),
]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("name", "qtype", "wanted"), ROWS)
def test_each_reply_is_counted_once(
    running: Running,
    name: str,
    qtype: str,
    wanted: tuple[str, str, str, ReplyKind],
    *,
    tcp: bool,
) -> None:
    """The third time it is one that was kept."""
    starter, address = running
    before = starter.counts()
    for asked in (name, name, name, name.upper()):
        ask(address, asked, qtype, tcp=tcp)
    assert starter.counts() - before == Counter({("tcp" if tcp else "udp", *wanted): 4})


def test_what_cannot_be_read_is_counted_as_rejected(
    running: Running,
) -> None:
    starter, address = running
    before = starter.counts()
    request = dnslib.DNSRecord.question("example.com")
    request.header.opcode = 5
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(bytes(request.pack()), address)
        client.recv(512)
    assert starter.counts() - before == Counter(
        {("udp", ".", OTHER, "NOTIMP", ReplyKind.REJECTED): 1}
    )


def test_classes_past_the_last_number_are_counted_as_other() -> None:
    tally = ReplyCounters("udp")
    zones = [from_text(f"z{number}.example") for number in range(300)]
    for zone in zones:
        tally.add(zone, 1, 0, ReplyKind.CLUSTERSET)
    counts = list(tally.counts())
    assert len(counts) == UNCOUNTED
    assert sum(each.number for each in counts) == len(zones)
    assert counts[-1].zone == OTHER


def test_what_is_counted_elsewhere_is_in_no_class() -> None:
    tally = ReplyCounters("tcp")
    tally.numbers[UNCOUNTED] += 5
    assert list(tally.counts()) == []
    assert tally.kind_of(UNCOUNTED) == ""
