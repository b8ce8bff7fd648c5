"""Every reply is counted once, as what it is, whichever way it went; histograms add up."""

import socket
from collections import Counter
from collections.abc import Iterator

import dnslib
import pytest

from mcsdns import config
from mcsdns.diagnostics.client import server_from_text
from mcsdns.dns.name import from_text
from mcsdns.stats import OTHER, UNCOUNTED, Histogram, ReplyCounters, ReplyKind
from tests import live
from tests.conftest import ask
from tests.waiting import DEADLINE_S

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
        client.settimeout(DEADLINE_S)
        client.sendto(bytes(request.pack()), address)
        client.recv(512)
    assert starter.counts() - before == Counter(
        {("udp", ".", OTHER, "NOTIMP", ReplyKind.REJECTED): 1}
    )


def test_classes_past_the_last_number_are_counted_as_other() -> None:
    counters = ReplyCounters("udp")
    zones = [from_text(f"z{number}.example") for number in range(300)]
    for zone in zones:
        counters.add(zone, 1, 0, ReplyKind.CLUSTERSET)
    counts = list(counters.counts())
    assert len(counts) == UNCOUNTED[0]
    assert sum(each.number for each in counts) == len(zones)
    assert counts[-1].zone == OTHER


def test_what_is_counted_elsewhere_is_in_no_class() -> None:
    counters = ReplyCounters("tcp")
    counters.by_class[UNCOUNTED[0]] += 5
    assert list(counters.counts()) == []
    assert counters.kind_of(UNCOUNTED[0]) == ""


def test_bounds_are_inclusive_and_the_last_bucket_has_none() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    seen = histogram.statistics()
    assert seen.counts == (2, 2, 1)
    assert seen.sum == pytest.approx(6.6)
    assert seen.count == 5


def test_a_batch_counts_as_many_values() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(0.5, 64)
    assert histogram.statistics().counts == (64, 0)
    assert histogram.statistics().sum == 32.0


def test_statistics_do_not_change_afterwards() -> None:
    histogram = Histogram((1.0,))
    before = histogram.statistics()
    histogram.observe(3.0)
    assert before.counts == (0, 0)


def test_histograms_of_the_same_bounds_add_up() -> None:
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(2.0, 3)
    both = one.statistics() + other.statistics()
    assert (both.bounds, both.counts, both.sum) == ((1.0,), (1, 3), 6.5)


def test_histograms_of_other_bounds_do_not() -> None:
    with pytest.raises(ValueError, match="same bounds"):
        _ = Histogram((1.0,)).statistics() + Histogram((2.0,)).statistics()


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0)])
def test_bounds_have_to_rise(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising"):
        Histogram(bounds)
