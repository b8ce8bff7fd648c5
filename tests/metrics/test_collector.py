"""What is scraped: whose statistics are added, who can read it, and that it is written in parts."""

import msgspec
import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from mcsdns import __version__
from mcsdns.metrics.collector import SAMPLES_AT_ONCE, encoder_for, exposition, families
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.objects.model import Kind
from mcsdns.server import udp
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.stats import ReplyCount, ReplyKind
from tests.metrics.snapshots import (
    ZONE,
    api_server,
    bare,
    forwarder,
    full,
    render,
    seen,
    upstream,
    watch,
)

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


def samples(snapshot: Snapshot) -> dict[str, float]:
    """All samples, written as in Prometheus."""
    found: dict[str, float] = {}
    for family in families(snapshot):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            key = sample.name.removeprefix("mcsdns_") + (f"{{{labels}}}" if labels else "")
            assert key not in found, "Prometheus refuses a scrape with the same series twice"
            found[key] = sample.value
    return found


def test_a_room_that_is_not_there_has_no_metrics() -> None:
    found = samples(bare())
    assert found["ready"] == 0
    assert found["services"] == 0
    for absent in ("watch", "guard", "snapshot", "upstream", "forward", "cache", "manifest"):
        assert not [name for name in found if name.startswith(absent)]


def test_sockets_of_one_transport_are_added() -> None:
    found = samples(full())
    assert found["requests_received_total{transport=udp}"] == 11
    assert found["kernel_drops_total"] == 44
    assert found["udp_errors_total{direction=send}"] == 22
    assert found["tcp_closed_total{reason=aborted}"] == 9


def test_buckets_of_a_histogram_hold_all_below_them() -> None:
    found = samples(bare(udp=[udp.Statistics(4, 0, 0, 0, seen(0.001, 0.05, 0.06, 7))]))
    name = "request_duration_seconds_bucket{transport=udp,path=direct,le="
    assert [found[f"{name}{bound}}}"] for bound in ("0.001", "0.01", "0.1", "1.0", "+Inf")] == [
        *(1, 1, 3, 3, 4)
    ]
    assert found["request_duration_seconds_count{transport=udp,path=direct}"] == 4
    assert found["request_duration_seconds_sum{transport=udp,path=direct}"] == pytest.approx(7.111)


def test_durations_of_the_same_way_are_added() -> None:
    both = [udp.Statistics(1, 0, 0, 0, seen(0.5)), udp.Statistics(2, 0, 0, 0, seen(0.5, 2))]
    found = samples(bare(udp=both))
    assert found["request_duration_seconds_count{transport=udp,path=direct}"] == 3


def test_not_ready_endpoints_are_the_rest() -> None:
    found = samples(full())
    assert found["endpoints{ready=true}"] == 45
    assert found["endpoints{ready=false}"] == 5


def test_objects_are_counted_by_kind_and_source_cluster() -> None:
    found = samples(full())
    assert found["objects{kind=ServiceImport,cluster=}"] == 3
    assert found["objects{kind=EndpointSlice,cluster=eu}"] == 2
    assert found["objects{kind=EndpointSlice,cluster=}"] == 1


def test_of_the_watches_of_several_namespaces_the_worst_counts() -> None:
    kind = Kind.ENDPOINT_SLICE
    well = watch(kind, namespace="shop")
    ill = watch(kind, namespace="db", connected=False, heard_age_s=99.0, known_age_s=80.0)
    found = samples(bare(kubernetes=api_server(well, ill, watch(Kind.SERVICE_IMPORT))))
    assert found["watch_connected{resource=endpointslices}"] == 0
    assert found["watch_connected{resource=serviceimports}"] == 1
    assert found["watch_synced{resource=endpointslices}"] == 1
    assert found["watch_last_event_age_seconds{resource=endpointslices}"] == 99
    assert found["watch_stale_seconds{resource=endpointslices}"] == 80
    assert found["watch_lists_total{resource=endpointslices}"] == 4
    assert found["watch_restarts_total{resource=endpointslices,reason=expired}"] == 2
    assert found["watch_restarts_total{resource=endpointslices,reason=ended}"] == 4
    assert found["skipped_objects{reason=bad_port}"] == 3


def test_every_reason_of_a_restart_is_there_from_the_start() -> None:
    found = samples(bare(kubernetes=api_server(watch(Kind.SERVICE_IMPORT, troubles={}, ended=0))))
    reasons = [name for name in found if name.startswith("watch_restarts_total")]
    assert len(reasons) == len(Trouble) + 1
    assert not any(found[name] for name in reasons)


def test_an_upstream_that_serves_two_zones_is_there_once() -> None:
    name = "10.0.0.10:53"
    well, ill = upstream(name, rtt_s=0.5), upstream(name, rtt_s=None, is_down=True)
    found = samples(bare(forwarder=forwarder(well, ill)))
    assert found[f"upstream_requests_total{{upstream={name}}}"] == 14
    assert found[f"upstream_up{{upstream={name}}}"] == 0
    assert found[f"upstream_rtt_seconds{{upstream={name}}}"] == 0.5
    assert found[f"upstream_dropped_replies_total{{upstream={name},reason=late}}"] == 8


def test_where_everybody_may_read_upstreams_have_numbers() -> None:
    first, second = upstream("10.0.0.10:53", rtt_s=0.5), upstream("10.0.0.11:53", rtt_s=0.7)
    snapshot = bare(forwarder=forwarder(first, second, first))
    encode, _ = encoder_for("")
    text = b"".join(exposition(snapshot, encode, is_public=True)).decode()
    assert "10.0.0" not in text
    assert 'mcsdns_upstream_requests_total{upstream="1"} 14.0' in text
    assert 'mcsdns_upstream_rtt_seconds{upstream="2"} 0.7' in text
    assert 'mcsdns_upstream_dropped_replies_total{reason="late",upstream="2"} 4.0' in text


def test_an_upstream_that_never_answered_has_no_round_trip() -> None:
    found = samples(bare(forwarder=forwarder(upstream("10.0.0.10:53", rtt_s=None))))
    assert not [name for name in found if name.startswith("upstream_rtt_seconds")]


def test_the_age_of_a_snapshot_is_that_of_what_it_holds() -> None:
    assert samples(full())["snapshot_age_seconds"] == 10
    assert samples(full(time_s=980.0))["snapshot_age_seconds"] == 0
    source = api_server()
    assert source.snapshot is not None
    unwritten = msgspec.structs.replace(source.snapshot, as_of_s=None)
    never = msgspec.structs.replace(source, snapshot=unwritten)
    assert "snapshot_age_seconds" not in samples(full(kubernetes=never))
