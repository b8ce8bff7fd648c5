"""Slices without labels of the MCS API, which count for one setting only."""

from collections.abc import Callable

import pytest

from mcsdns.objects.decode import SliceProfile
from tests.diagnostics.explain.shop_world import Explained

NAME = "serve.shop.svc.clusterset.local"
TEXT = """
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {{name: serve, namespace: shop}}
spec: {{type: Headless}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  namespace: shop
  labels:
    endpointslice.kubernetes.io/managed-by: {controller}
    kubernetes.io/service-name: {service}
    {label}
addressType: IPv4
endpoints: [{{addresses: [10.77.0.1]}}]
"""


def text(
    name: str = "imported-member1-serve-x7f2k",
    controller: str = "endpointslice-controller.karmada.io",
    service: str = "derived-serve",
    label: str = "",
) -> str:
    return TEXT.format(name=name, controller=controller, service=service, label=label)


@pytest.fixture
def karmada(make_world: Callable[..., Explained]) -> Callable[[str], Explained]:
    return lambda text: make_world(text, slices=SliceProfile.KARMADA)


@pytest.mark.parametrize(
    ("name", "cluster"),
    [
        ("imported-member1-serve-x7f2k", "member1"),
        ("imported-eu-west-1-serve-x7f2k", "eu-west-1"),
        ("imported-eu-serve-serve-x7f2k", "eu-serve"),
        ("imported-serve-serve-x7f2k", "serve"),
        ("imported-eu-serve-by-hand", "eu"),
        ("imported-eu.lab-serve-x7f2k", "eu.lab"),
    ],
)
def test_cluster_stands_before_the_service(
    karmada: Callable[[str], Explained], name: str, cluster: str
) -> None:
    (piece,) = karmada(text(name)).explain(NAME).slices
    assert (piece.cluster, piece.malformed) == (cluster, "")
    assert piece.endpoints[0].counts


@pytest.mark.parametrize(
    "name",
    [
        "member1-serve-x7f2k",
        "imported-serve-x7f2k",
        "imported-member1-serve",
        "imported-member1-other-x7f2k",
        "imported-eu-serve-serve-by-hand",
        "imported-a.b.c-serve-x7f2k",
    ],
)
def test_name_that_does_not_tell_the_cluster_is_a_problem(
    karmada: Callable[[str], Explained], name: str
) -> None:
    explanation = karmada(text(name)).explain(NAME)
    assert explanation.verdict.result == "NXDOMAIN"
    (problem,) = explanation.problems
    assert (problem.path, problem.origin) == ("$.metadata.name", "world.yaml:10")
    assert problem.text == (
        "the name does not tell one cluster, as imported-<cluster>-<service>-<suffix> does, "
        "its 1 endpoints are not served; "
        "name the member's slice <service>-<suffix>, without a hyphen in the suffix"
    )


@pytest.mark.parametrize(
    "other",
    [
        text(controller="endpointslice-dispatch-controller.karmada.io"),
        text(controller="endpointslice-controller.k8s.io"),
        text(service="serve"),
        text(label="lighthouse.submariner.io/sourceNamespace: other"),
        text(label="multicluster.kubernetes.io/source-cluster: member1"),
    ],
)
def test_other_slices_do_not_count(karmada: Callable[[str], Explained], other: str) -> None:
    assert karmada(other).explain(NAME).slices == ()


def test_label_of_the_api_comes_first(karmada: Callable[[str], Explained]) -> None:
    labels = "multicluster.kubernetes.io/service-name: other"
    world = karmada(text(label=labels))
    assert world.explain(NAME).slices == ()
    assert [each.cluster for each in world.explain(NAME.replace("serve", "other")).slices] == [""]


def test_service_that_is_no_dns_label_is_a_problem(karmada: Callable[[str], Explained]) -> None:
    (problem,) = karmada(text(service="derived-a.b")).problems
    assert "kubernetes.io/service-name 'a.b' is not a DNS label" in problem.problem.text


def test_without_the_setting_they_do_not_count(make_world: Callable[..., Explained]) -> None:
    assert make_world(text()).explain(NAME).slices == ()
