"""What becomes of the statistics of several sockets, watches and upstreams."""

import msgspec
import pytest

from mcsdns.metrics.collector import families
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.objects.model import Kind
from mcsdns.server import udp
from mcsdns.sources.kubernetes.reflector import Trouble
from tests.metrics.snapshots import api_server, bare, forwarder, full, seen, upstream, watch


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
    assert found["tcp_closed_total{reason=aborted}"] == 6


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
