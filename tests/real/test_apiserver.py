"""The real API server for tests does what tests rely on; what it does on the wire stands here."""

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.build import APISERVER
from tests.apiserver.client import RequestFailedError
from tests.apiserver.process import (
    ALL_RULES,
    IMPORTS,
    IMPORTS_V1ALPHA1,
    MCS,
    SLICES,
    ApiServer,
)
from tests.conftest import addresses, ask
from tests.gobuild import NotBuiltError
from tests.kube import ApiServers
from tests.waiting import DEADLINE_S, free_port, wait_until

READ_IMPORTS = {
    "apiGroups": ["multicluster.x-k8s.io"],
    "resources": ["serviceimports"],
    "verbs": ["list", "watch"],
}
STREAMING_LIST: dict[str, Any] = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
GONE = "404 page not found\n"


def service_import(name: str = "web", version: str = "v1beta1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"multicluster.x-k8s.io/{version}",
        "kind": "ServiceImport",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"type": "ClusterSetIP", "ips": ["10.0.0.1"], "ports": [{"port": 80}], **spec},
    }


def endpoint_slice(name: str = "db-1", **fields: Any) -> dict[str, Any]:
    labels = {
        "multicluster.kubernetes.io/service-name": "db",
        "multicluster.kubernetes.io/source-cluster": "east",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": name, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "sql", "port": 5432}],
        **fields,
    }


def names(items: list[Any]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def is_bookmark(event: Any) -> bool:
    return bool(event["type"] == "BOOKMARK")


# Lists and watches.


def test_a_list_comes_in_pages_of_one_moment(apiserver: ApiServer) -> None:
    apiserver.create_many([service_import(f"web-{number}") for number in range(5)])
    first = apiserver.get(IMPORTS, limit=3).json
    apiserver.create(service_import("web-9"))
    token = first["metadata"]["continue"]
    second = apiserver.get(IMPORTS, limit=3, **{"continue": token}).json
    assert names(first["items"]) == ["web-0", "web-1", "web-2"]
    assert names(second["items"]) == ["web-3", "web-4"]
    assert second["metadata"].get("continue", "") == ""
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


@pytest.mark.parametrize("watch_cache", [True, False])
def test_a_streaming_list_ends_with_a_marked_bookmark(
    apiservers: ApiServers, watch_cache: bool
) -> None:
    server = apiservers(watch_cache=watch_cache)
    server.create_many([service_import("web"), service_import("db")])
    with server.watch(IMPORTS, **STREAMING_LIST) as watch:
        *added, bookmark = watch.until(is_bookmark)
        assert [event["type"] for event in added] == ["ADDED", "ADDED"]
        assert sorted(names([event["object"] for event in added])) == ["db", "web"]
        metadata = bookmark["object"]["metadata"]
        assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert metadata["resourceVersion"] == server.resource_version(IMPORTS)
        server.delete(service_import("db"))
        assert watch.next()["type"] == "DELETED"


def test_a_streaming_list_is_invalid_where_the_feature_is_off(apiservers: ApiServers) -> None:
    server = apiservers(watch_list=False)
    with server.watch(IMPORTS, **STREAMING_LIST) as watch:
        assert watch.status == 422
        assert json.loads(watch.body())["reason"] == "Invalid"


def test_a_watch_ends_in_order_with_a_bookmark_before_if_anything_happened(
    apiserver: ApiServer,
) -> None:
    """The bookmark comes some seconds before the end; an object that comes later has none."""

    def seen(number: int, timeout_s: int) -> list[str]:
        query: dict[str, Any] = {
            "resourceVersion": apiserver.resource_version(IMPORTS),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": timeout_s,
        }
        with apiserver.watch(IMPORTS, **query) as watch:
            apiserver.create(service_import(f"web-{number}"))
            return [event["type"] for event in watch]

    for timeout_s in (4, 16, 64):
        first, *others = seen(timeout_s, timeout_s)
        if (first, {*others}) == ("ADDED", {"BOOKMARK"}):
            return
    pytest.fail("no bookmark")


def test_watches_end_when_a_test_asks_for_it(apiserver: ApiServer) -> None:
    version = apiserver.resource_version(IMPORTS)
    with apiserver.watch(IMPORTS, resourceVersion=version) as watch:
        assert apiserver.end_watches() == 1
        assert watch.next() is None
    with apiserver.watch(IMPORTS, resourceVersion=version) as watch:
        apiserver.create(service_import())
        assert watch.next()["type"] == "ADDED"


def test_both_versions_show_the_same_objects(apiserver: ApiServer) -> None:
    with apiserver.watch(IMPORTS, resourceVersion="0") as watch:
        old = apiserver.create(service_import(version="v1alpha1"))
        new = watch.until(lambda event: event["type"] == "ADDED")[-1]["object"]
    assert (old["apiVersion"], new["apiVersion"]) == (
        "multicluster.x-k8s.io/v1alpha1",
        "multicluster.x-k8s.io/v1beta1",
    )
    assert old["metadata"]["uid"] == new["metadata"]["uid"]


def test_an_object_has_its_status_and_defaults(apiserver: ApiServer) -> None:
    given = {**service_import(), "status": {"clusters": [{"cluster": "east"}]}}
    assert apiserver.apply(given)["status"] == given["status"]
    assert apiserver.apply({**given, "status": {}})["status"] == given["status"]
    assert apiserver.apply(given)["spec"]["ports"] == [{"port": 80, "protocol": "TCP"}]
    assert apiserver.apply(endpoint_slice())["ports"][0]["protocol"] == "TCP"


# The ways to 410.


def test_a_watch_from_before_a_kill_is_expired(apiserver: ApiServer) -> None:
    version = apiserver.resource_version(IMPORTS)
    apiserver.create(service_import())
    apiserver.restart()
    with apiserver.watch(IMPORTS, resourceVersion=version) as watch:
        assert watch.status == 200
        error = watch.next()
        assert (error["type"], error["object"]["code"]) == ("ERROR", 410)
        assert error["object"]["reason"] == "Expired"
        assert watch.next() is None
    assert names(apiserver.get(IMPORTS).json["items"]) == ["web"]


def test_the_port_and_the_certificate_outlive_a_kill(apiserver: ApiServer) -> None:
    before = apiserver.url, apiserver.ca.read_text(), apiserver.kubeconfig.read_text()
    apiserver.restart()
    assert (apiserver.url, apiserver.ca.read_text(), apiserver.kubeconfig.read_text()) == before


def test_compaction_ends_nothing_while_the_watch_cache_is_on(apiserver: ApiServer) -> None:
    version = apiserver.resource_version(IMPORTS)
    apiserver.create(service_import())
    apiserver.compact()
    with apiserver.watch(IMPORTS, resourceVersion=version) as watch:
        assert watch.next()["type"] == "ADDED"


def test_compaction_expires_watches_and_pages_without_a_watch_cache(
    apiservers: ApiServers,
) -> None:
    server = apiservers(watch_cache=False)
    server.create_many([service_import(f"web-{number}") for number in range(5)])
    metadata = server.get(IMPORTS, limit=3).json["metadata"]
    server.delete(service_import("web-4"))
    server.delete(service_import("web-3"))
    server.compact()
    page = server.get(IMPORTS, limit=3, **{"continue": metadata["continue"]})
    assert (page.status, page.json["reason"]) == (410, "Expired")
    assert page.json["metadata"]["continue"], "the token of an inconsistent rest"
    with server.watch(IMPORTS, resourceVersion=metadata["resourceVersion"]) as watch:
        assert watch.status == 200
        assert watch.next()["object"]["code"] == 410


@pytest.mark.parametrize("watch_cache", [True, False])
def test_a_resource_version_of_the_future_is_too_large_for_lists_and_silent_for_watches(
    apiservers: ApiServers, tmp_path: Path, watch_cache: bool
) -> None:
    server = apiservers(watch_cache=watch_cache)
    server.stop()
    server.save_data(tmp_path / "saved")
    server.start().create_many([service_import(f"web-{number}") for number in range(5)])
    version = server.resource_version(IMPORTS)
    server.stop()
    server.restore_data(tmp_path / "saved")
    server.start()
    future = {"resourceVersion": version, "resourceVersionMatch": "NotOlderThan"}
    reply = server.get(IMPORTS, **future)
    assert reply.status == 504
    assert reply.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    silent: dict[str, Any] = {
        "resourceVersion": version,
        "allowWatchBookmarks": "true",
        "timeoutSeconds": 1,
    }
    with server.watch(IMPORTS, **silent) as watch:
        server.create(service_import())
        assert (watch.status, watch.next()) == (200, None)


# Identity and rights.


def test_unknown_tokens_are_unauthorized_and_none_at_all_is_forbidden(
    apiservers: ApiServers,
) -> None:
    server = apiservers(auth=True)
    unknown, anonymous = server.get(IMPORTS, "nonsense"), server.get(IMPORTS, "")
    assert (unknown.status, unknown.json["reason"]) == (401, "Unauthorized")
    assert (anonymous.status, anonymous.json["reason"]) == (403, "Forbidden")
    assert server.get("/readyz", "").status == 200
    server.set_permissions(ALL_RULES, token="another")
    assert server.get(IMPORTS, server.READER).status == 401


def test_rights_are_taken_and_given_back_while_it_runs(apiservers: ApiServers) -> None:
    server = apiservers(auth=True)
    assert server.get(IMPORTS, server.READER).status == 200
    server.set_permissions()
    reply = server.get(IMPORTS, server.READER)
    assert reply.status == 403
    assert 'User "mcsdns" cannot list resource "serviceimports"' in reply.json["message"]
    assert server.get(MCS, server.READER).status == 200, "discovery is for everybody with a token"
    server.set_permissions([{**READ_IMPORTS, "verbs": ["list"]}])
    assert server.get(IMPORTS, server.READER).status == 200
    with server.watch(IMPORTS, server.READER) as watch:
        assert watch.status == 403
    server.set_permissions([READ_IMPORTS])
    with server.watch(IMPORTS, server.READER) as watch:
        assert watch.status == 200
        server.set_permissions()
        server.create(service_import())
        assert watch.until(lambda event: event["type"] == "ADDED"), "what runs goes on"


def test_a_role_counts_in_its_namespace(apiservers: ApiServers) -> None:
    server = apiservers(auth=True)
    role = {"kind": "Role", "metadata": {"namespace": "shop"}, "rules": [READ_IMPORTS]}
    server.set_permissions(roles=[role])
    paths = [f"{MCS}/v1beta1/namespaces/{name}/serviceimports" for name in ("shop", "other")]
    statuses = [server.get(path, server.READER).status for path in [*paths, IMPORTS]]
    assert statuses == [200, 403, 403]


def test_access_reviews_say_what_is_allowed(apiservers: ApiServers) -> None:
    server = apiservers(auth=True)
    server.set_permissions([READ_IMPORTS])

    def allowed(verb: str) -> bool:
        asked = {"group": "multicluster.x-k8s.io", "resource": "serviceimports", "verb": verb}
        review = {"spec": {"resourceAttributes": asked}}
        reply = server.request("POST", REVIEWS, review, server.READER)
        assert reply.status == 201
        return bool(reply.json["status"]["allowed"])

    assert (allowed("watch"), allowed("delete")) == (True, False)


# CRDs.


def test_without_crds_there_is_nothing(apiservers: ApiServers) -> None:
    server = apiservers(crds=False)
    for path in (MCS, f"{MCS}/v1beta1", IMPORTS, SLICES):
        reply = server.get(path)
        assert (reply.status, reply.body) == (404, GONE)
    server.install_crds("v1alpha1", slices=False)
    assert server.get(IMPORTS_V1ALPHA1).status == 200
    assert server.get(IMPORTS).status == 404
    assert server.get(SLICES).status == 404


def test_a_removed_crd_deletes_its_objects_then_ends_the_watches(apiserver: ApiServer) -> None:
    apiserver.create_many([service_import("web"), service_import("db")])
    version = apiserver.resource_version(IMPORTS)
    with apiserver.watch(IMPORTS, resourceVersion=version) as watch:
        apiserver.remove_crd()
        assert [event["type"] for event in watch] == ["DELETED", "DELETED"]
    assert apiserver.get(IMPORTS).body == GONE
    with apiserver.watch(IMPORTS, resourceVersion=version) as watch:
        assert (watch.status, watch.body()) == (404, GONE)
    apiserver.install_crds("both")
    assert apiserver.get(IMPORTS).json["items"] == []


def test_a_flipped_version_ends_the_watches_and_keeps_the_objects(apiservers: ApiServers) -> None:
    server = apiservers(crds=False)
    server.install_crds("v1alpha1")
    uid = server.create(service_import(version="v1alpha1"))["metadata"]["uid"]
    version = server.resource_version(IMPORTS_V1ALPHA1)
    with server.watch(IMPORTS_V1ALPHA1, resourceVersion=version) as watch:
        server.install_crds("v1beta1")
        assert watch.next() is None
    assert server.get(IMPORTS_V1ALPHA1).body == GONE
    item = server.get(IMPORTS).json["items"][0]
    assert (item["apiVersion"], item["metadata"]["uid"]) == ("multicluster.x-k8s.io/v1beta1", uid)


def test_the_group_lists_a_version_that_only_another_crd_serves(apiserver: ApiServer) -> None:
    apiserver.install_crds("v1alpha1", exports="both")
    versions = [version["version"] for version in apiserver.get(MCS).json["versions"]]
    assert versions == ["v1beta1", "v1alpha1"]
    resources = apiserver.get(f"{MCS}/v1beta1").json["resources"]
    assert {"serviceexports"} == {resource["name"].partition("/")[0] for resource in resources}


def test_loose_crds_take_wrong_types(apiserver: ApiServer) -> None:
    wrong = service_import(ips="10.0.0.1")
    with pytest.raises(RequestFailedError, match=": 422 "):
        apiserver.create(wrong)
    apiserver.install_crds("both", loose=True)
    assert apiserver.create(wrong)["spec"]["ips"] == "10.0.0.1"


# Start and end.


def test_a_starting_server_never_says_that_a_crd_is_missing(apiserver: ApiServer) -> None:
    apiserver.create_many([service_import(f"web-{number}") for number in range(100)])
    apiserver.kill()
    seen: set[int] = set()
    ready = threading.Event()

    def poll() -> None:
        while not ready.is_set():
            try:
                seen.add(apiserver.get(IMPORTS, limit=1).status)
                with apiserver.watch(IMPORTS, resourceVersion="0", timeoutSeconds=1) as watch:
                    seen.add(watch.status)
            except (OSError, http.client.HTTPException):
                continue

    poller = threading.Thread(target=poll)
    poller.start()
    try:
        apiserver.start()
    finally:
        ready.set()
        poller.join()
    assert seen <= {503, 429, 200}
    assert apiserver.get("/readyz").body == "ok"


def test_it_ends_when_its_test_run_ends(apiserver: ApiServer) -> None:
    assert apiserver.process.stdin is not None
    apiserver.process.stdin.close()
    assert apiserver.process.wait(DEADLINE_S) == 0


def test_a_program_that_is_not_built_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = replace(APISERVER, cache=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotBuiltError, match="no go on the PATH"):
        elsewhere.binary()
    assert elsewhere.main(["build"]) is None


# Other clients.


def test_slices_can_be_built_in_with_protobuf(apiservers: ApiServers) -> None:
    server = apiservers(crds=False, builtin_slices=True)
    server.install_crds("both")
    assert server.create(endpoint_slice())["ports"][0]["protocol"] == "TCP"
    groups = server.get("/apis").json["groups"]
    assert "discovery.k8s.io" in {group["name"] for group in groups}
    with server.watch(SLICES, **STREAMING_LIST) as watch:
        assert names([event["object"] for event in watch.until(is_bookmark)[:-1]]) == ["db-1"]


@pytest.fixture
def coredns(tmp_path: Path) -> Iterator[Callable[[ApiServer], tuple[str, int]]]:
    """Start CoreDNS on an API server; the address it answers on."""
    program = shutil.which("coredns")
    if program is None:
        pytest.skip("coredns is not on the PATH")
    started: list[subprocess.Popen[bytes]] = []

    def start(server: ApiServer) -> tuple[str, int]:
        port = free_port()
        corefile = tmp_path / "Corefile"
        corefile.write_text(
            f".:{port} {{\n bind 127.0.0.1\n kubernetes clusterset.local {{\n"
            f"  kubeconfig {server.kubeconfig} test\n  multicluster clusterset.local\n }}\n}}\n"
        )
        with (tmp_path / "log").open("wb") as log:
            command = [program, "-conf", str(corefile)]
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return "127.0.0.1", port

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("builtin_slices", [False, True])
def test_coredns_answers_from_the_same_objects(
    apiservers: ApiServers,
    coredns: Callable[[ApiServer], tuple[str, int]],
    builtin_slices: bool,
) -> None:
    server = apiservers(crds=not builtin_slices, builtin_slices=builtin_slices)
    if builtin_slices:
        server.install_crds("both")
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    server.create(service_import("web"))
    server.create(service_import("db", type="Headless", ips=[]))
    server.create(endpoint_slice())
    address = coredns(server)

    def answer(name: str) -> list[str]:
        try:
            return addresses(ask(address, f"{name}.shop.svc.clusterset.local"))
        except OSError:
            return []

    wait_until(lambda: answer("web") == ["10.0.0.1"], "web")
    wait_until(lambda: answer("db") == ["10.1.0.1"], "db")
    server.apply(service_import("web", ips=["10.0.0.2"]))
    wait_until(lambda: answer("web") == ["10.0.0.2"], "the change")
