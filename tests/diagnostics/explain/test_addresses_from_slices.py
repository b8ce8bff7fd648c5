"""A ClusterSetIP service that has its addresses from slices: what counts, what is said."""

from collections.abc import Callable

import pytest

from mcsdns.diagnostics.explain.text import to_text
from mcsdns.zone.tree import ClustersetIps, Readiness
from tests.diagnostics.explain.shop_world import Explained

ZONE = "clusterset.local"
IMPORT = """
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {{name: {name}, namespace: shop}}
spec: {{type: ClusterSetIP, ips: {ips}, ports: [{{name: http, port: 80}}]}}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-{cluster}
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: {name}
    multicluster.kubernetes.io/source-cluster: {cluster}
addressType: IPv4
endpoints: [{{addresses: ["{address}"], conditions: {{ready: {ready}}}}}]
"""


def slice_of(name: str, cluster: str, address: str, ready: str = "true") -> str:
    return SLICE.format(name=name, cluster=cluster, address=address, ready=ready)


@pytest.fixture
def world(make_world: Callable[..., Explained]) -> Explained:
    texts = [
        IMPORT.format(name="nginx", ips="[]"),
        slice_of("nginx", "east", "100.1.1.1"),
        slice_of("nginx", "west", "100.1.2.1"),
        slice_of("nginx", "north", "100.1.3.1", ready="false"),
        IMPORT.format(name="set", ips="[243.0.0.1]"),
        slice_of("set", "east", "100.1.1.2"),
        IMPORT.format(name="down", ips="[]"),
        slice_of("down", "east", "100.1.1.3", ready="false"),
        IMPORT.format(name="bare", ips="[]"),
    ]
    return make_world("---".join(texts), clusterset_ips=ClustersetIps.SLICES)


def summary(world: Explained, question: str) -> str:
    verdict = world.explain(question).verdict
    return f"{verdict.result}: {verdict.summary}"


def test_addresses_are_said_to_come_from_slices(world: Explained) -> None:
    assert summary(world, f"nginx.shop.svc.{ZONE}") == (
        "NOERROR: 2 A records from the ready endpoints of ClusterSetIP service shop/nginx in "
        "east and west, as spec.ips is empty"
    )
    assert summary(world, f"nginx.shop.svc.{ZONE} AAAA") == (
        f"NODATA: nginx.shop.svc.{ZONE} has no AAAA record, but 2 A and 1 SRV; "
        "its ready endpoints have no IPv6 address"
    )


def test_ports_are_still_those_of_the_import(world: Explained) -> None:
    assert summary(world, f"nginx.shop.svc.{ZONE} SRV") == (
        "NOERROR: 1 SRV record from the named ports of ServiceImport shop/nginx"
    )


def test_endpoints_that_give_addresses_count_and_the_others_say_why_not(world: Explained) -> None:
    explanation = world.explain(f"nginx.shop.svc.{ZONE}")
    assert explanation.service_import is not None
    assert explanation.service_import.addresses_from == "slices"
    assert [(each.id, each.counting) for each in explanation.clusters] == [
        ("east", 1),
        ("north", 0),
        ("west", 1),
    ]
    text = to_text(explanation)
    assert "ips none yet, the slices have them (clusterset_ips)\n" in text
    assert "north  (no host name)  100.1.3.1  not counted: not ready\n" in text
    assert "they do not count" not in text


def test_spec_ips_win_and_slices_are_said_not_to_count(world: Explained) -> None:
    explanation = world.explain(f"set.shop.svc.{ZONE}")
    assert explanation.verdict.summary == "1 A record from spec.ips of ServiceImport shop/set"
    assert not explanation.slices[0].endpoints[0].counts
    assert "they do not count: a ClusterSetIP service is answered from spec.ips\n" in to_text(
        explanation
    )


def test_service_without_a_ready_endpoint_or_a_slice_says_so(world: Explained) -> None:
    assert summary(world, f"down.shop.svc.{ZONE}") == (
        "NODATA: ServiceImport shop/down has no address yet: spec.ips has none, "
        "its slices have no ready endpoint"
    )
    assert summary(world, f"bare.shop.svc.{ZONE}") == (
        "NODATA: ServiceImport shop/bare has no address yet: spec.ips has none, it has no slice"
    )


def test_endpoints_that_give_addresses_have_no_names(world: Explained) -> None:
    assert summary(world, f"100-1-1-1.east.nginx.shop.svc.{ZONE}") == (
        "NXDOMAIN: ClusterSetIP service shop/nginx has no names of endpoints: "
        "it only has their addresses, as its spec.ips is empty"
    )


def test_nothing_is_denied_while_slices_cannot_be_read(world: Explained) -> None:
    world.tree.readiness = Readiness.IMPORTS_ONLY
    assert world.explain(f"down.shop.svc.{ZONE}").verdict.reason == "not_read_yet"
    assert world.explain(f"set.shop.svc.{ZONE}").verdict.reason == "records"
