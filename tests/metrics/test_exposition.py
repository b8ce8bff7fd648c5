"""What is scraped: by whom it can be read, and that it is written in short turns."""

import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from mcsdns import __version__
from mcsdns.metrics.collector import SAMPLES_AT_ONCE, encoder_for, exposition, families
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.stats import ReplyCount, ReplyKind
from tests.metrics.snapshots import ZONE, bare, full, render

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,*/*;q=0.2"
)
"""What a Prometheus of version 3 sends."""


def many() -> Snapshot:
    """More replies of one metric than are written at once."""
    replies = [
        ReplyCount("udp", ZONE, f"TYPE{n}", "NOERROR", ReplyKind.CLUSTERSET, n)
        for n in range(3 * SAMPLES_AT_ONCE)
    ]
    return full(replies=replies)


def expected(snapshot: Snapshot) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())), float(sample.value))
        for family in families(snapshot)
        for sample in family.samples
    }


@pytest.mark.parametrize("snapshot", [bare(), full(), many()], ids=["bare", "full", "many"])
@pytest.mark.parametrize(
    ("accept", "kind", "read"),
    [
        ("", "text/plain", read_text),
        ("*/*", "text/plain", read_text),
        ("text/plain;version=1.0.0", "text/plain", read_text),
        ("application/openmetrics-text", "application/openmetrics-text", read_openmetrics),
        (PROMETHEUS, "application/openmetrics-text", read_openmetrics),
    ],
)
def test_all_samples_are_read_again(
    snapshot: Snapshot, accept: str, kind: str, read: object
) -> None:
    body, content_type = render(snapshot, accept)
    assert content_type.startswith(kind)
    found = [
        (sample.name, tuple(sorted(sample.labels.items())), float(sample.value))
        for family in read(body.decode())  # type: ignore[operator]
        for sample in family.samples
    ]
    ours = [each for each in found if each[0].startswith("mcsdns_")]
    assert len(ours) == len(set(ours))
    assert set(ours) == expected(snapshot)
    assert any(name == "process_cpu_seconds_total" for name, _, _ in found)


def test_every_metric_says_once_what_it_is() -> None:
    body, _ = render(many(), "")
    types = [line.split()[2] for line in body.splitlines() if line.startswith(b"# TYPE")]
    assert len(types) == len(set(types))
    assert b"# TYPE mcsdns_requests_total counter" in body


def test_openmetrics_ends_once() -> None:
    body, _ = render(many(), PROMETHEUS)
    assert body.endswith(b"\n# EOF\n")
    assert body.count(b"# EOF") == 1


def test_the_version_is_told() -> None:
    body, _ = render(bare(), "")
    assert f'version="{__version__}"' in body.decode()


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain;version=",
        "text/plain;version=one.two",
        "application/openmetrics-text;version=1.x;q=1",
        "application/openmetrics-text;version=1.0.0;escaping=<script>",
        ";;;,,,=",
        "\x00\xff" * 1000,
    ],
)
def test_whatever_a_client_accepts_it_gets_something_readable(accept: str) -> None:
    body, content_type = render(bare(), accept)
    assert b"mcsdns_ready 0.0\n" in body
    assert content_type.startswith(("text/plain;", "application/openmetrics-text;"))
    assert "<" not in content_type


def test_nothing_is_put_into_the_global_registry() -> None:
    before = list(prometheus_client.REGISTRY.collect())
    render(full(), "")
    after = list(prometheus_client.REGISTRY.collect())
    assert [each.name for each in after] == [each.name for each in before]
    assert not [each.name for each in after if each.name.startswith("mcsdns")]


def test_large_metrics_are_written_in_several_turns() -> None:
    count = sum(len(family.samples) for family in families(many()))
    turns = sum(1 for _ in exposition(many(), encoder_for("")[0]))
    assert turns > len(list(families(many())))
    assert turns >= count / SAMPLES_AT_ONCE


def test_label_values_are_escaped() -> None:
    hostile = 'a"b\\c\nd'
    replies = [ReplyCount("udp", hostile, "A", "NOERROR", ReplyKind.CLUSTERSET, 1)]
    body, _ = render(bare(replies=replies), "")
    (family,) = (each for each in read_text(body.decode()) if each.name == "mcsdns_requests")
    assert family.samples[0].labels["zone"] == hostile
