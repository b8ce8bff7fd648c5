"""What is said in the first line: the result, the reason for programs, the sentence for people."""

from collections.abc import Callable

import pytest

from mcsdns.zone.tree import PerCluster, Readiness
from tests.diagnostics.explain.shop_world import SHOP, Explained

ZONE = "clusterset.local"

VERDICTS = [
    # names that resolve
    (
        f"web.shop.svc.{ZONE}",
        "NOERROR records",
        "1 A record from spec.ips of ServiceImport shop/web",
    ),
    (
        f"web.shop.svc.{ZONE} SRV",
        "NOERROR records",
        "2 SRV records from the named ports of ServiceImport shop/web",
    ),
    (
        f"db.shop.svc.{ZONE}",
        "NOERROR records",
        (
            "3 A records from the ready endpoints of headless service shop/db in cluster-a and "
            "cluster-b"
        ),
    ),
    (
        f"db.shop.svc.{ZONE} SRV",
        "NOERROR records",
        (
            "4 SRV records from the named ports and ready endpoints of headless service shop/db "
            "in cluster-a and cluster-b"
        ),
    ),
    (
        f"primary.cluster-a.db.shop.svc.{ZONE}",
        "NOERROR records",
        "1 A record from endpoint primary in cluster cluster-a of headless service shop/db",
    ),
    (
        f"{ZONE} SOA",
        "NOERROR records",
        "1 SOA record that every zone has",
    ),
    (
        f"dns-version.{ZONE} TXT",
        "NOERROR records",
        "1 TXT record with the version of the DNS schema",
    ),
    (
        f"pending.shop.svc.{ZONE} ANY",
        "NOERROR records",
        "1 HINFO record in place of what ANY would be (RFC 8482)",
    ),
    # the name is right, the type has nothing
    (
        f"web.shop.svc.{ZONE} AAAA",
        "NODATA no_record_of_type",
        (
            f"web.shop.svc.{ZONE} has no AAAA record, but 1 A and 2 SRV; spec.ips has no IPv6 "
            "address"
        ),
    ),
    (
        f"db.shop.svc.{ZONE} AAAA",
        "NODATA no_record_of_type",
        (
            f"db.shop.svc.{ZONE} has no AAAA record, but 3 A and 4 SRV; its ready endpoints have "
            "no IPv6 address"
        ),
    ),
    (
        f"_http._tcp.web.shop.svc.{ZONE} A",
        "NODATA no_record_of_type",
        f"_http._tcp.web.shop.svc.{ZONE} has no A record, but 1 SRV",
    ),
    (
        f"pending.shop.svc.{ZONE}",
        "NODATA no_address",
        (
            "ServiceImport shop/pending has no address yet: spec.ips has none and Ready is False "
            "(Pending: no derived Service yet)"
        ),
    ),
    (
        f"shop.svc.{ZONE}",
        "NODATA empty_non_terminal",
        f"shop.svc.{ZONE} has no records of its own, only names below it have",
    ),
    (
        f"ns.dns.{ZONE}",
        "NODATA no_address",
        "no address of this server is known; set ns_address",
    ),
    (
        f"{ZONE} A",
        "NODATA no_record_of_type",
        f"{ZONE} has no A record, but SOA and NS",
    ),
    # no service
    (
        f"webb.shop.svc.{ZONE}",
        "NXDOMAIN no_import",
        "there is no ServiceImport webb in namespace shop",
    ),
    (
        f"web.market.svc.{ZONE}",
        "NXDOMAIN no_import",
        "there is no ServiceImport web in namespace market, nor any other there",
    ),
    (
        f"orphan.bank.svc.{ZONE}",
        "NXDOMAIN slices_without_import",
        (
            "there is no ServiceImport orphan in namespace bank, though 1 EndpointSlice of "
            "cluster-a is labelled for it"
        ),
    ),
    (
        f"market.svc.{ZONE}",
        "NXDOMAIN no_namespace",
        "there is no ServiceImport in namespace market",
    ),
    # a headless service, none of whose endpoints counts
    (
        f"cold.shop.svc.{ZONE}",
        "NXDOMAIN no_ready_endpoint",
        "headless service shop/cold has 2 endpoints, but none is ready: cluster-a (2)",
    ),
    (
        f"bare.shop.svc.{ZONE}",
        "NXDOMAIN no_ready_endpoint",
        "headless service shop/bare has no EndpointSlice, though its status names cluster-a",
    ),
    (
        f"lost.shop.svc.{ZONE}",
        "NXDOMAIN no_ready_endpoint",
        (
            "headless service shop/lost has malformed EndpointSlices only: addressType FQDN is "
            "neither IPv4 nor IPv6"
        ),
    ),
    (
        f"empty.shop.svc.{ZONE}",
        "NXDOMAIN no_ready_endpoint",
        "headless service shop/empty has EndpointSlices without any endpoint",
    ),
    # below a service
    (
        f"replica.cluster-a.db.shop.svc.{ZONE}",
        "NXDOMAIN endpoint_not_served",
        ("endpoint replica in cluster cluster-a is there, but not ready (terminating and serving)"),
    ),
    (
        f"nosuch.cluster-b.db.shop.svc.{ZONE}",
        "NXDOMAIN no_such_endpoint",
        (
            "no endpoint of headless service shop/db in cluster cluster-b has host name nosuch "
            "(1 endpoint there, 1 ready)"
        ),
    ),
    (
        f"primary.cluster-z.db.shop.svc.{ZONE}",
        "NXDOMAIN no_such_endpoint",
        (
            "headless service shop/db has no EndpointSlice of cluster cluster-z, but of "
            "cluster-a and cluster-b"
        ),
    ),
    (
        f"web-0.cluster-a.web.shop.svc.{ZONE}",
        "NXDOMAIN no_such_name",
        (
            "ClusterSetIP service shop/web has no names of endpoints: a ClusterSetIP service is "
            "answered from spec.ips"
        ),
    ),
    (
        f"_https._tcp.web.shop.svc.{ZONE} SRV",
        "NXDOMAIN no_such_port",
        ("ClusterSetIP service shop/web has no named port https/tcp, but http/tcp and metrics/tcp"),
    ),
    (
        f"a.b.c.d.db.shop.svc.{ZONE}",
        "NXDOMAIN no_such_name",
        "headless service shop/db has no such name; endpoints are <host>.<cluster>.<service>",
    ),
    (
        f"cluster-a.db.shop.svc.{ZONE}",
        "REFUSED per_cluster_form",
        (
            "<cluster>.<service> is the per-cluster form, which KEP-1645 reserves: no name "
            "stands for the backends of one cluster"
        ),
    ),
    (
        f"primary.db.shop.svc.{ZONE}",
        "REFUSED per_cluster_form",
        (
            "primary is a host in cluster-a and cluster-b, and its name lacks the cluster; "
            "<label>.<service> is the per-cluster form, which KEP-1645 reserves"
        ),
    ),
    (
        f"nosuch.web.shop.svc.{ZONE}",
        "REFUSED per_cluster_form",
        (
            "<cluster>.<service> is the per-cluster form, which KEP-1645 reserves: no name "
            "stands for the backends of one cluster; nosuch is none of its clusters, cluster-a"
        ),
    ),
    # not a name or type of ours
    (
        f"web.shop.{ZONE}",
        "NXDOMAIN no_such_name",
        f"no name of this form is in the zone; services are <service>.<namespace>.svc.{ZONE}",
    ),
    (
        "web.shop.svc.cluster.local",
        "REFUSED outside_zones",
        f"web.shop.svc.cluster.local is outside the zone served here, {ZONE}",
    ),
    (
        f"web.shop.svc.{ZONE} AXFR",
        "REFUSED type_not_served",
        "AXFR cannot be asked for: zone transfer is not offered",
    ),
]


@pytest.mark.parametrize(
    ("question", "result_and_reason", "summary"), VERDICTS, ids=[each[0] for each in VERDICTS]
)
def test_verdict_says_why(
    shop: Explained, question: str, result_and_reason: str, summary: str
) -> None:
    verdict = shop.explain(question).verdict
    assert f"{verdict.result} {verdict.reason.value}" == result_and_reason
    assert verdict.summary == summary


def test_case_is_no_part_of_the_reason(shop: Explained) -> None:
    explanation = shop.explain(f"REPLICA.Cluster-A.DB.Shop.SVC.{ZONE.upper()}")
    assert explanation.verdict.reason == "endpoint_not_served"
    assert explanation.question.name == f"REPLICA.Cluster-A.DB.Shop.SVC.{ZONE.upper()}."


def test_namespace_filter_is_the_reason(make_world: Callable[..., Explained]) -> None:
    explanation = make_world(namespace=["shop"]).explain(f"ledger.bank.svc.{ZONE}")
    assert explanation.verdict.reason == "namespace_not_served"
    assert explanation.verdict.summary == "namespace bank is not served here, only shop"
    assert explanation.zone.namespaces == ("shop",)


@pytest.mark.parametrize(
    ("policy", "result"),
    [
        (PerCluster.REFUSED, "REFUSED"),
        (PerCluster.AUTO, "NODATA"),
        (PerCluster.NODATA, "NODATA"),
        (PerCluster.NXDOMAIN, "NXDOMAIN"),
    ],
)
def test_per_cluster_setting_is_said_where_it_decides(
    make_world: Callable[..., Explained], policy: PerCluster, result: str
) -> None:
    verdict = make_world(per_cluster=policy).explain(f"cluster-a.db.shop.svc.{ZONE}").verdict
    assert (verdict.result, verdict.reason) == (result, "per_cluster_form")
    assert (f"(per_cluster is set to {policy})" in verdict.summary) == (result != "REFUSED")


def test_of_several_zones_the_closest_is_named(make_world: Callable[..., Explained]) -> None:
    zones = ["example.org", "mcs.example.org"]
    explanation = make_world(zone=zones).explain("web.shop.svc.mcs.example.org")
    assert explanation.zone.name == "mcs.example.org."
    assert explanation.zone.served == ("mcs.example.org.", "example.org.")
    assert explanation.verdict.result == "NOERROR"


def test_nothing_is_denied_before_everything_is_read(shop: Explained) -> None:
    shop.tree.readiness = Readiness.NOT_SYNCED
    shop.tree.reason = "the CRD is missing"
    explanation = shop.explain(f"nosuch.shop.svc.{ZONE}")
    assert explanation.verdict.result == "SERVFAIL"
    assert explanation.verdict.reason == "not_read_yet"
    assert explanation.verdict.summary == "nothing can be said yet: the CRD is missing"
    assert explanation.zone.waiting_for == "the CRD is missing"
    assert explanation.suggestions == ()


def test_headless_service_waits_for_slices_alone(shop: Explained) -> None:
    shop.tree.readiness = Readiness.IMPORTS_ONLY
    shop.tree.reason = "EndpointSlices are forbidden"
    assert shop.explain(f"db.shop.svc.{ZONE}").verdict.reason == "not_read_yet"
    assert shop.explain(f"web.shop.svc.{ZONE}").verdict.reason == "records"


@pytest.mark.parametrize("name", [f"web.shop.svc.{ZONE}", f"nosuch.shop.svc.{ZONE}"])
def test_stale_answer_is_said_to_be_stale(shop: Explained, name: str) -> None:
    shop.tree.stale = True
    explanation = shop.explain(name)
    assert "the source of objects is away" in explanation.verdict.summary
    assert explanation.zone.stale


def test_odd_octets_are_a_name_like_any_other(shop: Explained) -> None:
    assert shop.explain(rf"\000\255.sh\.op.svc.{ZONE}").verdict.reason == "no_import"


def test_endpoint_without_a_usable_address_is_not_called_not_ready(
    make_world: Callable[..., Explained],
) -> None:
    text = SHOP.replace("[10.42.6.1], conditions: {ready: false}", "[x], conditions: {}")
    assert make_world(text).explain(f"cold.shop.svc.{ZONE}").verdict.summary == (
        "headless service shop/cold has 2 endpoints, but none is ready and has a usable address: "
        "cluster-a (2)"
    )


def test_endpoint_whose_name_is_too_long_for_another_zone_is_told(
    make_world: Callable[..., Explained],
) -> None:
    long = ".".join(["z" * 60] * 2)
    host = "h" * 63
    world = make_world(
        SHOP.replace("hostname: primary", f"hostname: {host}").replace("cluster-a", "a" * 63),
        zone=["short.example", long],
    )
    verdict = world.explain(f"{host}.{'a' * 63}.db.shop.svc.short.example").verdict
    assert verdict.reason == "endpoint_not_served"
    assert verdict.summary.endswith("its name would be over 255 octets in one of the zones")
