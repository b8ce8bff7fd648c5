"""RBAC as it is: with the account of what is installed mcsdns can do what it must, and no more."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.client import Object
from tests.conftest import Serve, addresses
from tests.deploy.installing import Installer
from tests.deploy.rendering import of_kind, only
from tests.kubernetes.cluster import Cluster
from tests.real.services import db, slice_of, web

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
MCS, SLICES = "multicluster.x-k8s.io", "discovery.k8s.io"
NEEDED = [(group, verb) for group in (MCS, SLICES) for verb in ("list", "watch")]


@pytest.fixture
def services(cluster: Cluster, namespace: Any) -> Iterator[None]:
    """A service of each kind."""
    namespace("shop")
    objects = [web("web", "10.96.7.1"), db("db"), slice_of("db", "east", "10.1.0.1")]
    for each in objects:
        cluster.apply(each)
    yield
    for each in objects:
        cluster.delete(each)


@pytest.fixture
def installed(installer: Installer, services: None) -> list[Object]:
    objects = installer.render.kustomize("overlays/stub-target")
    installer.prepare(objects)
    installer.apply(("apply",), objects)
    return list(objects)


def check(kubeconfig: Path, *arguments: str) -> Any:
    """What `mcsdns check --json` finds."""
    command = [sys.executable, "-m", "mcsdns", "check", "--json", f"--kubeconfig={kubeconfig}"]
    environment = {**os.environ, "KUBECONFIG": ""}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def reasons(found: Any) -> set[str]:
    return {each["reason"] for each in found["findings"]}


def test_account_of_the_install_is_enough(
    installed: list[Object], cluster: Cluster, serve: Serve
) -> None:
    server = serve("--kubeconfig", cluster.of_account("mcsdns", "mcsdns"))
    assert addresses(server.ask("web.shop")) == ["10.96.7.1"]
    assert addresses(server.ask("db.shop")) == ["10.1.0.1"]
    assert ": 403 " not in server.log


def test_account_tells_its_own_permissions(installed: list[Object], cluster: Cluster) -> None:
    own = cluster.of_account("mcsdns", "mcsdns")
    found = check(own)
    assert not reasons(found) & {"no_permission", "permission_unknown"}
    assert "permissions of system:serviceaccount:mcsdns:mcsdns" in found["checked"]
    cluster.delete(only("ClusterRoleBinding", installed, "mcsdns:mcsdns"))
    found = check(own)
    assert "no_permission" in reasons(found)
    assert reasons(check(cluster.admin)) & {"no_permission"}


@pytest.mark.parametrize(("group", "verb"), NEEDED)
def test_each_rule_is_needed(
    group: str, verb: str, installed: list[Object], cluster: Cluster, serve: Serve
) -> None:
    """Without it mcsdns is refused, says which rule it wants, and goes on when it is there."""
    role = only("ClusterRole", installed, "mcsdns:mcsdns")
    lacking = [
        {**rule, "verbs": [each for each in rule["verbs"] if each != verb]}
        if rule["apiGroups"] == [group]
        else rule
        for rule in role["rules"]
    ]
    cluster.apply({**role, "rules": lacking})
    own = cluster.of_account("mcsdns", "mcsdns")
    (finding,) = [each for each in check(own)["findings"] if each["reason"] == "no_permission"]
    assert f"may not {verb} " in finding["what"]
    server = serve("--kubeconfig", own, ready=False)
    if (
        verb == "list"
    ):  # a streaming list is a watch; see `test_each_rule_is_needed` in tests/deploy
        server.wait_ready()
        return
    server.wait_log("give the account a ClusterRole with the rule {apiGroups: [" + group)
    assert "ready" not in server.out
    cluster.apply(role)
    server.wait_ready()


def test_account_may_do_nothing_else(installed: list[Object], cluster: Cluster) -> None:
    own = cluster.token_of("mcsdns", "mcsdns")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "mcsdns"},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    rules = cluster.request("POST", path, review, token=own).json["status"]["resourceRules"]
    everyone = {"authorization.k8s.io", "authentication.k8s.io"}
    found = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if group not in everyone
    }
    assert found == {
        (MCS, "serviceimports", "list"),
        (MCS, "serviceimports", "watch"),
        (SLICES, "endpointslices", "list"),
        (SLICES, "endpointslices", "watch"),
    }


def test_autoscaler_may_scale_mcsdns_and_nothing_else(
    installer: Installer, cluster: Cluster, tmp_path: Path
) -> None:
    objects = installer.render.kustomize_with(tmp_path, "stub-target", ["autoscaling"])
    installer.prepare(objects)
    installer.apply(("apply",), objects)
    token = cluster.token_of("mcsdns", "mcsdns-autoscaler")
    scale = "/apis/apps/v1/namespaces/mcsdns/deployments/{}/scale"
    ours = cluster.get(scale.format("mcsdns"), token)
    assert ours.status == 200
    changed = {**ours.json, "spec": {"replicas": 3}}
    assert cluster.request("PUT", scale.format("mcsdns"), changed, token=token).status == 200
    assert cluster.get(scale.format("mcsdns-autoscaler"), token).status == 403
    assert cluster.get("/api/v1/nodes", token).status == 200
    config_maps = "/api/v1/namespaces/mcsdns/configmaps"
    assert cluster.get(f"{config_maps}/mcsdns-autoscaler", token).status == 200
    assert cluster.get(config_maps, token).status == 403
    assert cluster.get("/api/v1/pods", token).status == 403


def test_namespaced_sees_its_namespaces_alone(
    installer: Installer, services: None, cluster: Cluster, serve: Serve
) -> None:
    objects = installer.render.kustomize("overlays/namespaced")
    installer.prepare(objects)
    installer.apply(("apply",), objects)
    assert not of_kind("ClusterRole", objects)
    token = cluster.token_of("mcsdns", "mcsdns")
    path = f"/apis/{MCS}/v1beta1/serviceimports"
    assert cluster.get(path, token).status == 403
    own = cluster.of_account("mcsdns", "mcsdns")
    server = serve("--kubeconfig", own, "--namespace=shop", "--namespace=billing")
    assert addresses(server.ask("web.shop")) == ["10.96.7.1"]
    assert ": 403 " not in server.log
