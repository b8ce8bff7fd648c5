"""Pods of what is installed are made and admitted: Pod Security, quotas, priority, accounts.

No node runs them, so they stay pending. Where one is refused, its controller says so in an event.
"""

from collections.abc import Sequence

import pytest

from tests.apiserver.client import Object
from tests.deploy.installing import Installer
from tests.deploy.rendering import of_kind, only, pods
from tests.kubernetes.cluster import Cluster
from tests.waiting import wait_until

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux"}},
}


def pods_of(cluster: Cluster, workload: Object) -> list[Object]:
    """The pods that a workload's selector matches."""
    labels = workload["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{name}={text}" for name, text in labels.items())
    path = f"/api/v1/namespaces/{workload['metadata']['namespace']}/pods"
    return list(cluster.must("GET", path, labelSelector=selector)["items"])


def refusals(cluster: Cluster, namespace: str) -> list[str]:
    """Why pods of a namespace were not made."""
    events = cluster.must("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return [each["message"] for each in events if each["reason"] == "FailedCreate"]


@pytest.mark.parametrize(
    ("overlay", "components"),
    [("stub-target", ["autoscaling"]), ("dual-stack", []), ("ipv6-only", []), ("sidecar", [])],
)
def test_pods_are_admitted(
    overlay: str,
    components: Sequence[str],
    installer: Installer,
    cluster: Cluster,
    tmp_path: object,
) -> None:
    objects = installer.render.kustomize_with(tmp_path, overlay, components)
    installer.prepare(objects)
    installer.apply(("apply",), objects)
    for workload, _ in pods(objects):
        wanted = workload["spec"].get("replicas", 1)
        wait_until(
            lambda workload=workload, wanted=wanted: len(pods_of(cluster, workload)) == wanted,
            f"pods of {workload['metadata']['name']}",
        )


def test_node_local_pods_are_admitted_in_their_namespace_alone(
    installer: Installer, cluster: Cluster
) -> None:
    """Pod Security enforces what the labels of the two namespaces say."""
    cluster.apply(NODE)
    objects = installer.render.kustomize("overlays/node-local")
    installer.prepare(objects)
    installer.apply(("apply",), objects)
    daemons = only("DaemonSet", objects, "mcsdns-node")
    wait_until(lambda: len(pods_of(cluster, daemons)) == 1, "a pod on the node")
    (pod,) = pods_of(cluster, daemons)
    assert pod["spec"]["priorityClassName"] == "system-node-critical"
    stub_target = installer.render.kustomize("overlays/stub-target")
    installer.apply(("apply",), stub_target)
    misplaced = [
        {**each, "metadata": {**each["metadata"], "namespace": "mcsdns"}}
        for each in objects
        if each["kind"] in ("DaemonSet", "ServiceAccount")
    ]
    installer.apply(("apply",), misplaced)
    wait_until(
        lambda: any("violates PodSecurity" in why for why in refusals(cluster, "mcsdns")),
        "a refusal",
    )
    (daemons,) = of_kind("DaemonSet", misplaced)
    assert pods_of(cluster, daemons) == []
    cluster.delete(NODE)


def test_quota_is_counted_for_pods_of_the_class(installer: Installer, cluster: Cluster) -> None:
    objects = installer.render.kustomize("overlays/stub-target")
    installer.prepare(objects)
    installer.apply(("apply",), objects)
    quota = "/api/v1/namespaces/mcsdns/resourcequotas/mcsdns-critical-pods"

    def used() -> object:
        return cluster.must("GET", quota)["status"].get("used")

    wait_until(lambda: used() == {"pods": "2"}, "two pods counted")
    assert cluster.must("GET", quota)["spec"]["hard"] == {"pods": "1k"}
