"""What is told of the objects: the import, the slices by cluster, what counts and why not."""

from collections.abc import Callable

import msgspec

from mcsdns.diagnostics.explain.model import Explanation
from tests.diagnostics.explain.shop_world import SHOP, Explained, at

ZONE = "clusterset.local"


def test_import_is_told_with_its_version_and_origin(shop: Explained) -> None:
    found = shop.explain(f"db.shop.svc.{ZONE}").service_import
    assert found is not None
    assert (found.namespace, found.name, found.type) == ("shop", "db", "Headless")
    assert found.api_version == "multicluster.x-k8s.io/v1alpha1"
    assert found.resource_version == "41"
    assert found.origin == at("multicluster.x-k8s.io/v1alpha1")
    assert [(port.name, port.number) for port in found.ports] == [("mysql", 3306)]
    assert found.clusters == ("cluster-a", "cluster-b", "cluster-z")


def test_slices_are_told_by_cluster_and_name(shop: Explained) -> None:
    slices = shop.explain(f"db.shop.svc.{ZONE}").slices
    assert [(each.cluster, each.name) for each in slices] == [
        ("", "db-lost"),
        ("cluster-a", "db-a"),
        ("cluster-b", "db-b"),
    ]
    assert slices[0].malformed == "label multicluster.kubernetes.io/source-cluster is missing"
    assert slices[1].malformed == ""


def test_clusters_are_counted_and_those_without_a_slice_named(shop: Explained) -> None:
    clusters = shop.explain(f"db.shop.svc.{ZONE}").clusters
    assert [msgspec.structs.astuple(each) for each in clusters] == [
        ("cluster-a", True, 1, 4, 2),
        ("cluster-b", True, 1, 1, 1),
        ("cluster-z", True, 0, 0, 0),
    ]


def test_endpoint_that_does_not_count_says_why(shop: Explained) -> None:
    endpoints = shop.explain(f"db.shop.svc.{ZONE}").slices[1].endpoints
    assert [(each.hostname, each.why_not) for each in endpoints] == [
        ("primary", ""),
        ("", ""),
        ("replica", "not ready"),
        ("broken", "no usable address"),
    ]
    assert (endpoints[2].serving, endpoints[2].terminating) == (True, True)


def test_endpoint_is_told_with_its_own_names(shop: Explained) -> None:
    endpoints = shop.explain(f"db.shop.svc.{ZONE}").slices[1].endpoints
    assert endpoints[0].names == (f"primary.cluster-a.db.shop.svc.{ZONE}.",)
    assert endpoints[1].names == (f"10-42-0-8.cluster-a.db.shop.svc.{ZONE}.",)


def test_slices_of_a_clusterset_ip_service_do_not_count(shop: Explained) -> None:
    explanation = shop.explain(f"web.shop.svc.{ZONE}")
    (endpoint,) = explanation.slices[0].endpoints
    assert not endpoint.counts
    assert endpoint.why_not == "a ClusterSetIP service is answered from spec.ips"
    assert explanation.clusters[0].counting == 0


def test_slices_without_import_are_told(shop: Explained) -> None:
    explanation = shop.explain(f"orphan.bank.svc.{ZONE}")
    assert explanation.service_import is None
    assert [each.name for each in explanation.slices] == ["orphan-a"]
    assert explanation.slices[0].endpoints[0].why_not == "there is no ServiceImport"


def test_problems_of_the_objects_met_are_told_and_no_others(shop: Explained) -> None:
    assert paths(shop.explain(f"db.shop.svc.{ZONE}")) == [
        ("EndpointSlice shop/db-a", "$.endpoints[3].addresses[0]"),
        ("EndpointSlice shop/db-lost", "$.metadata.labels"),
    ]
    assert shop.explain(f"web.shop.svc.{ZONE}").problems == ()
    assert shop.explain(f"{ZONE} SOA").problems == ()


def test_import_that_was_not_served_is_told_as_a_problem(shop: Explained) -> None:
    explanation = shop.explain(f"typo.bank.svc.{ZONE}")
    assert explanation.verdict.reason == "no_import"
    (problem,) = explanation.problems
    assert problem.subject == "ServiceImport bank/typo"
    assert problem.origin == at("spec: {type: ClusterIP}")


def test_document_that_could_not_be_read_may_be_the_missing_import(
    make_world: Callable[..., Explained],
) -> None:
    world = make_world(SHOP + "---\nkind: [\n")
    assert [each.subject for each in world.explain(f"nosuch.shop.svc.{ZONE}").problems] == [
        "document"
    ]
    assert world.explain(f"web.shop.svc.{ZONE}").problems == ()


def test_names_over_255_octets_are_counted(make_world: Callable[..., Explained]) -> None:
    long = "x" * 63
    world = make_world(
        f"""
        {{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport,
         metadata: {{name: {long}, namespace: {long}}}, spec: {{type: Headless}}}}
        ---
        {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
         metadata: {{name: a, namespace: {long}, labels: {{
          multicluster.kubernetes.io/service-name: {long},
          multicluster.kubernetes.io/source-cluster: {long}}}}},
         endpoints: [{{addresses: [10.42.0.1], hostname: {"h" * 60}}},
                     {{addresses: [10.42.0.2], hostname: h}}]}}
        """.replace("\n        ", "\n")
    )
    explanation = world.explain(f"{long}.{long}.svc.{ZONE}")
    assert explanation.long_names == 1
    assert len(explanation.reply.answer) == 2


def test_records_of_the_name_are_counted_by_type(shop: Explained) -> None:
    records = shop.explain(f"db.shop.svc.{ZONE}").records
    assert records is not None
    assert (records.a, records.aaaa, records.srv) == (3, 0, 4)
    assert shop.explain(f"nosuch.shop.svc.{ZONE}").records is None


def test_answer_that_does_not_fit_is_told_by_transport(
    make_world: Callable[..., Explained],
) -> None:
    ips = ", ".join(f"10.42.{number // 250}.{number % 250}" for number in range(5000))
    world = make_world(
        f"""
        {{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport,
         metadata: {{name: big, namespace: shop}}, spec: {{type: ClusterSetIP, ips: [{ips}]}}}}
        """
    )
    explanation = world.explain(f"big.shop.svc.{ZONE}")
    assert len(explanation.reply.answer) == 5000
    without_edns, with_edns, over_tcp = explanation.sizes
    assert (without_edns.answers, without_edns.limit, without_edns.truncated) == (29, 512, True)
    assert (with_edns.answers, with_edns.limit, with_edns.truncated) == (73, 1232, True)
    assert over_tcp.answers < 5000
    assert not over_tcp.truncated


def test_question_with_the_widest_reply_fits_every_transport(shop: Explained) -> None:
    explanation = shop.explain(f"web.shop.svc.{ZONE} SRV")
    assert [(each.answers, each.additionals) for each in explanation.sizes] == [(2, 1)] * 3
    assert explanation.reply.flags == ("qr", "aa", "rd")


def paths(explanation: Explanation) -> list[tuple[str, str]]:
    return [(each.subject, each.path) for each in explanation.problems]
