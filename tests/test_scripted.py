"""The scripted API server does what its docstring says, seen by a plain HTTP client."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scripted import ENDPOINT_SLICE, SERVICE_IMPORT, FakeApi, Plain, faults
from tests.waiting import until

IMPORTS = "/apis/multicluster.x-k8s.io/v1beta1/serviceimports"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
LABEL = "multicluster.kubernetes.io/service-name"
STREAM = {
    "watch": "true",
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}


def imported(name: str, namespace: str = "shop", **spec: Any) -> Plain:
    return {
        "kind": SERVICE_IMPORT,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": "ClusterSetIP", **spec},
    }


def sliced(name: str, service: str = "") -> Plain:
    labels = {LABEL: service} if service else {}
    metadata = {"namespace": "shop", "name": name, "labels": labels}
    return {"kind": ENDPOINT_SLICE, "metadata": metadata, "endpoints": []}


class Client:
    """What the tests ask with."""

    def __init__(self, api: FakeApi, session: aiohttp.ClientSession) -> None:
        self.api = api
        self.session = session

    async def get(self, path: str, **query: str) -> tuple[int, Plain]:
        """Status and document."""
        async with self.session.get(self.api.url + path, params=query) as response:
            return response.status, json.loads(await response.read())

    async def names(self, path: str, **query: str) -> list[str]:
        return [item["metadata"]["name"] for item in (await self.get(path, **query))[1]["items"]]

    def watch(self, path: str, **query: str) -> Any:
        query = {"watch": "true", **query}
        return self.session.get(self.api.url + path, params=query)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as served:
        yield served


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(api, session)


async def read_event(response: aiohttp.ClientResponse) -> tuple[str, Plain]:
    """The next line of a watch: its type and its object."""
    event = json.loads(await response.content.readline())
    return event["type"], event["object"]


async def read_name(response: aiohttp.ClientResponse) -> tuple[str, str]:
    event_type, thing = await read_event(response)
    return event_type, thing["metadata"].get("name", thing["metadata"].get("resourceVersion"))


# Discovery, permissions


async def test_discovery_lists_group_and_resources(client: Client) -> None:
    client.api.serve("v1beta1", "v1alpha1")
    code, group = await client.get("/apis/multicluster.x-k8s.io")
    assert (code, group["kind"]) == (200, "APIGroup")
    assert [each["version"] for each in group["versions"]] == ["v1beta1", "v1alpha1"]
    _, served = await client.get("/apis/multicluster.x-k8s.io/v1alpha1")
    assert served["kind"] == "APIResourceList"
    verbs = {each["name"]: each["verbs"] for each in served["resources"]}
    assert {"list", "watch"} <= set(verbs["serviceimports"])
    assert (await client.get("/apis/discovery.k8s.io/v1"))[0] == 200


async def test_a_version_is_listed_for_other_crds_of_the_group(client: Client) -> None:
    client.api.serve("v1alpha1")
    client.api.listed_versions = ("v1beta1",)
    _, group = await client.get("/apis/multicluster.x-k8s.io")
    assert [each["version"] for each in group["versions"]] == ["v1beta1", "v1alpha1"]
    _, served = await client.get("/apis/multicluster.x-k8s.io/v1beta1")
    assert [each["name"] for each in served["resources"]] == ["serviceexports"]
    assert (await client.get(IMPORTS))[0] == 404


async def test_without_the_crd_its_paths_are_404_as_status_or_as_text(client: Client) -> None:
    client.api.serve()
    for path in (IMPORTS, "/apis/multicluster.x-k8s.io", "/apis/multicluster.x-k8s.io/v1beta1"):
        code, status = await client.get(path)
        assert (code, status["reason"], status["code"]) == (404, "NotFound", 404)
    client.api.plain_404 = True
    async with client.session.get(client.api.url + IMPORTS) as response:
        assert (response.status, await response.text()) == (404, "404 page not found\n")


async def test_a_namespaced_grant_allows_the_namespace_only(client: Client) -> None:
    client.api.revoke("serviceimports")
    client.api.grant("serviceimports", "shop", "list")
    code, status = await client.get(IMPORTS)
    assert (code, status["reason"]) == (403, "Forbidden")
    assert "at the cluster scope" in status["message"]
    namespaced = IMPORTS.replace("serviceimports", "namespaces/shop/serviceimports")
    assert (await client.get(namespaced))[0] == 200
    code, status = await client.get(namespaced, watch="true", resourceVersion="1000")
    assert code == 403
    assert 'cannot watch resource "serviceimports"' in status["message"]


async def test_only_its_token_is_taken(client: Client, tmp_path: Path) -> None:
    client.api.token = "right"
    assert (await client.get(IMPORTS))[0] == 401
    config = json.loads(client.api.write_kubeconfig(tmp_path / "config", "right").read_text())
    assert config["clusters"][0]["cluster"]["server"] == client.api.url
    headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
    async with client.session.get(client.api.url + IMPORTS, headers=headers) as response:
        assert response.status == 200


# Lists


async def test_pages_show_the_objects_of_the_first_page(client: Client) -> None:
    for number in range(5):
        client.api.put(imported(f"svc-{number}"))
    _, first = await client.get(IMPORTS, limit="2")
    assert first["metadata"]["remainingItemCount"] == 3
    client.api.delete(SERVICE_IMPORT, "shop", "svc-3")
    client.api.put(imported("svc-9"))
    names, page = [item["metadata"]["name"] for item in first["items"]], first
    while token := page["metadata"].get("continue"):
        _, page = await client.get(IMPORTS, **{"limit": "2", "continue": token})
        names += [item["metadata"]["name"] for item in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert names == [f"svc-{number}" for number in range(5)]
    assert page["items"][0]["apiVersion"] == "multicluster.x-k8s.io/v1beta1"


async def test_an_expired_page_offers_an_inconsistent_rest(client: Client) -> None:
    for number in range(3):
        client.api.put(imported(f"svc-{number}"))
    _, first = await client.get(IMPORTS, limit="2")
    client.api.put(imported("svc-9"))
    client.api.compact()
    token = first["metadata"]["continue"]
    code, status = await client.get(IMPORTS, **{"limit": "2", "continue": token})
    assert (code, status["reason"]) == (410, "Expired")
    rest = await client.names(IMPORTS, **{"continue": status["metadata"]["continue"]})
    assert rest == ["svc-2", "svc-9"]


async def test_lists_obey_namespace_and_selector(client: Client) -> None:
    client.api.put(sliced("web-1", "web"))
    client.api.put(sliced("db-1", "db"))
    client.api.put(sliced("ordinary"))
    assert await client.names(SLICES, labelSelector=LABEL) == ["db-1", "web-1"]
    assert await client.names(SLICES, labelSelector=f"{LABEL}=web") == ["web-1"]
    assert await client.names(SLICES, labelSelector=f"!{LABEL}") == ["ordinary"]
    elsewhere = SLICES.replace("endpointslices", "namespaces/other/endpointslices")
    assert await client.names(elsewhere) == []


async def test_faults_of_lists(client: Client) -> None:
    client.api.put(imported("web"))
    client.api.fault(faults.EmptyList(), faults.LIST, "serviceimports")
    assert await client.names(IMPORTS) == []
    client.api.fault(faults.HalfPage(), faults.LIST)
    with pytest.raises(json.JSONDecodeError):
        await client.get(IMPORTS)
    client.api.fault(faults.Garbage(b"<html>"), faults.LIST)
    with pytest.raises(json.JSONDecodeError):
        await client.get(IMPORTS)
    client.api.fault(faults.Dribble(), faults.LIST)
    assert await client.names(IMPORTS) == ["web"]
    assert await client.names(IMPORTS) == ["web"]


@pytest.mark.parametrize("after_bytes", [-1, 0, 1, 40])
async def test_a_connection_is_reset_anywhere(client: Client, after_bytes: int) -> None:
    client.api.put(imported("web"))
    client.api.fault(faults.Reset(after_bytes), faults.LIST, times=1 if after_bytes >= 0 else 2)
    with pytest.raises(aiohttp.ClientError):
        await client.get(IMPORTS)
    assert await client.names(IMPORTS) == ["web"]


@pytest.mark.parametrize(
    ("action", "code", "reason"),
    [
        (faults.unauthorized(), 401, "Unauthorized"),
        (faults.forbidden(), 403, "Forbidden"),
        (faults.not_found(), 404, "NotFound"),
        (faults.expired("Gone"), 410, "Gone"),
        (faults.no_watch_list(), 422, "Invalid"),
        (faults.internal_error(), 500, "InternalError"),
        (faults.unavailable(), 503, "ServiceUnavailable"),
        (faults.too_large(), 504, "Timeout"),
    ],
)
async def test_canned_replies(client: Client, action: faults.Reply, code: int, reason: str) -> None:
    fault = client.api.fault(action, times=2)
    for _ in range(2):
        got, status = await client.get(IMPORTS)
        assert (got, status["code"], status["reason"]) == (code, code, reason)
    assert (await client.get(IMPORTS))[0] == 200
    assert fault.used == 2


async def test_429_says_when_to_come_back(client: Client) -> None:
    client.api.fault(faults.too_many_requests(3))
    async with client.session.get(client.api.url + IMPORTS) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "3")
        assert (await response.json())["details"] == {"retryAfterSeconds": 3}


@pytest.mark.parametrize("headers", [False, True])
async def test_a_request_hangs(client: Client, headers: bool) -> None:
    client.api.fault(faults.Hang(headers))
    request = asyncio.create_task(client.get(IMPORTS))
    await until(lambda: client.api.requests)
    assert await client.names(SLICES) == []
    assert not request.done()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


async def test_connections_are_refused_and_taken_again_on_the_same_port(client: Client) -> None:
    url = client.api.url
    await client.get(IMPORTS)
    await client.api.refuse()
    with pytest.raises(aiohttp.ClientError):
        await client.get(IMPORTS)
    await client.api.accept()
    assert client.api.url == url
    assert (await client.get(IMPORTS))[0] == 200


# Watches


async def test_a_watch_goes_on_from_its_version(client: Client) -> None:
    client.api.put(imported("old"))
    version = str(client.api.version)
    client.api.put(imported("web"))
    async with client.watch(IMPORTS, resourceVersion=version) as watch:
        assert await read_name(watch) == ("ADDED", "web")
        client.api.put(imported("web", ips=["10.0.0.1"]))
        client.api.put(sliced("other-kind"))
        assert await read_name(watch) == ("MODIFIED", "web")
        client.api.delete(SERVICE_IMPORT, "shop", "web")
        event_type, thing = await read_event(watch)
        assert (event_type, thing["spec"]["ips"]) == ("DELETED", ["10.0.0.1"])
        assert thing["metadata"]["resourceVersion"] == str(client.api.version)


async def test_what_leaves_the_selector_is_deleted_and_what_enters_is_added(
    client: Client,
) -> None:
    client.api.put(sliced("a", "web"))
    version = str(client.api.version)
    async with client.watch(SLICES, resourceVersion=version, labelSelector=LABEL) as watch:
        client.api.put(sliced("a"))
        event_type, thing = await read_event(watch)
        assert (event_type, thing["metadata"]["labels"]) == ("DELETED", {LABEL: "web"})
        client.api.put(sliced("a"))
        client.api.put(sliced("a", "db"))
        assert await read_name(watch) == ("ADDED", "a")
        client.api.put(sliced("a", "web"))
        assert await read_name(watch) == ("MODIFIED", "a")


async def test_initial_events_end_with_a_bookmark(client: Client) -> None:
    client.api.put(imported("web"))
    async with client.watch(IMPORTS, **STREAM) as watch:
        assert await read_name(watch) == ("ADDED", "web")
        event_type, thing = await read_event(watch)
        assert event_type == "BOOKMARK"
        assert thing["kind"] == SERVICE_IMPORT
        assert thing["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert thing["metadata"]["resourceVersion"] == str(client.api.version)
        client.api.put(imported("db"))
        assert await read_name(watch) == ("ADDED", "db")
    assert [each.nature for each in client.api.requests] == [faults.STREAM]


async def test_a_stream_never_says_where_its_initial_events_end(client: Client) -> None:
    client.api.put(imported("web"))
    client.api.fault(faults.NoEndBookmark(), faults.STREAM)
    async with client.watch(IMPORTS, **STREAM) as watch:
        assert await read_name(watch) == ("ADDED", "web")
        client.api.end_watches()
        assert await watch.content.read() == b""


@pytest.mark.parametrize(("form", "code", "answer"), [("422", 422, "Status"), ("error", 200, "")])
async def test_streaming_lists_are_off(client: Client, form: Any, code: int, answer: str) -> None:
    client.api.streaming_lists = form
    async with client.watch(IMPORTS, **STREAM) as watch:
        assert watch.status == code
        document = json.loads(await watch.content.readline())
        assert document.get("kind", "") == answer
        assert answer or (document["type"], document["object"]["code"]) == ("ERROR", 500)


async def test_initial_events_need_the_match_of_versions(client: Client) -> None:
    async with client.watch(IMPORTS, sendInitialEvents="true") as watch:
        assert watch.status == 422


async def test_bookmarks_come_at_an_interval_and_on_demand(client: Client) -> None:
    query = {"resourceVersion": "1000", "allowWatchBookmarks": "true"}
    async with client.watch(IMPORTS, **query) as watch:
        client.api.put(sliced("elsewhere"))
        client.api.bookmark()
        assert await read_name(watch) == ("BOOKMARK", "1001")
        client.api.bookmark(990)
        assert await read_name(watch) == ("BOOKMARK", "990")
    client.api.bookmark_interval_s = 0.01
    async with client.watch(IMPORTS, **query) as watch:
        for _ in range(3):
            assert await read_name(watch) == ("BOOKMARK", "1001")


@pytest.mark.parametrize("reason", ["Expired", "Gone"])
async def test_a_compacted_version_is_410_by_status_or_by_event(
    client: Client, reason: str
) -> None:
    client.api.put(imported("web"))
    client.api.compact()
    client.api.expired_reason = reason
    async with client.watch(IMPORTS, resourceVersion="1000") as watch:
        assert watch.status == 200
        event_type, status = await read_event(watch)
        assert (event_type, status["code"], status["reason"]) == ("ERROR", 410, reason)
        assert await watch.content.read() == b""
    client.api.expired_as = "status"
    assert (await client.get(IMPORTS, watch="1", resourceVersion="1000"))[0] == 410
    async with client.watch(IMPORTS, resourceVersion="1001") as watch:
        assert watch.status == 200


async def test_lines_follow_a_410_in_one_piece(client: Client) -> None:
    async with client.watch(IMPORTS, resourceVersion="1000") as watch:
        client.api.expire_watches(SERVICE_IMPORT, then=b'{"type":"ADDED"}\n')
        assert (await read_event(watch))[0] == "ERROR"
        assert await watch.content.read() == b'{"type":"ADDED"}\n'


async def test_a_restore_puts_objects_and_versions_back(client: Client) -> None:
    client.api.put(imported("web", ips=["10.0.0.1"]))
    version = client.api.version
    client.api.put(imported("web", ips=["10.0.0.2"]))
    client.api.put(imported("db"))
    later = str(client.api.version)
    async with client.watch(IMPORTS, resourceVersion=later) as watch:
        client.api.restore(version)
        assert await watch.content.read() == b""
    assert [each["spec"]["ips"] for each in client.api.objects(SERVICE_IMPORT)] == [["10.0.0.1"]]
    code, status = await client.get(IMPORTS, watch="1", resourceVersion=later)
    assert (code, status["reason"]) == (504, "Timeout")
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert (await client.get(IMPORTS, resourceVersion=later))[0] == 504
    client.api.future_versions = "event"
    async with client.watch(IMPORTS, resourceVersion=later) as watch:
        event_type, status = await read_event(watch)
        assert (event_type, status["code"]) == ("ERROR", 504)


async def test_a_version_still_to_come_is_held_open_with_bookmarks_below(client: Client) -> None:
    client.api.future_versions = "hold"
    query = {"resourceVersion": "1002", "allowWatchBookmarks": "true"}
    async with client.watch(IMPORTS, **query) as watch:
        client.api.bookmark()
        assert await read_name(watch) == ("BOOKMARK", "1000")
        for name in ("a", "b", "c"):
            client.api.put(imported(name))
        assert await read_name(watch) == ("ADDED", "c")


async def test_a_silent_watch_sends_later_what_was_held_back(client: Client) -> None:
    client.api.bookmark_interval_s = 0.001
    query = {"resourceVersion": "1000", "allowWatchBookmarks": "true"}
    async with client.watch(IMPORTS, **query) as watch:
        assert await read_name(watch) == ("BOOKMARK", "1000")
        client.api.watches[0].silence()
        sent = client.api.watches[0].sent
        client.api.put(imported("web"))
        await client.names(IMPORTS)
        assert client.api.watches[0].sent == sent
        client.api.watches[0].speak()
        names = [await read_name(watch)]
        while names[-1] == ("BOOKMARK", "1000"):
            names.append(await read_name(watch))
        assert names[-1] == ("ADDED", "web")


async def test_watches_end_by_time_and_on_demand(client: Client) -> None:
    client.api.watch_timeout_s = 0.01
    async with client.watch(IMPORTS, resourceVersion="1000", timeoutSeconds="300") as watch:
        assert await watch.content.read() == b""
    client.api.watch_timeout_s = None
    async with client.watch(IMPORTS, resourceVersion="1000", timeoutSeconds="300") as watch:
        client.api.end_watches(ENDPOINT_SLICE)
        client.api.put(imported("web"))
        client.api.serve("v1alpha1")
        assert await read_name(watch) == ("ADDED", "web")
        assert await watch.content.read() == b""
    assert client.api.watches == []


async def test_a_watch_is_reset_in_the_middle_of_a_line(client: Client) -> None:
    client.api.put(imported("web"))
    client.api.fault(faults.Reset(30), faults.WATCH)
    async with client.watch(IMPORTS, resourceVersion="1000") as watch:
        with pytest.raises(aiohttp.ClientError):
            await watch.content.read()


async def test_a_watch_brings_garbage_and_wrong_types(client: Client) -> None:
    client.api.fault(faults.Garbage(b"?\n"), faults.WATCH)
    async with client.watch(IMPORTS, resourceVersion="1000") as watch:
        assert await watch.content.readline() == b"?\n"
        client.api.put({**imported("web"), "spec": 5})
        assert (await read_event(watch))[1]["spec"] == 5
        client.api.watches[0].send(b"!\n")
        assert await watch.content.readline() == b"!\n"


async def test_faults_fit_only_what_they_are_for(client: Client) -> None:
    fault = client.api.fault(
        faults.internal_error(), faults.WATCHES, "endpointslices", namespace="a"
    )
    assert (await client.get(IMPORTS))[0] == 200
    assert (await client.get(SLICES))[0] == 200
    async with client.watch(SLICES, resourceVersion="1000") as watch:
        assert watch.status == 200
    namespaced = SLICES.replace("endpointslices", "namespaces/a/endpointslices")
    assert (await client.get(namespaced, watch="true"))[0] == 500
    assert fault.used == 1
    client.api.fault(faults.internal_error(), times=None)
    client.api.clear_faults()
    assert (await client.get(IMPORTS))[0] == 200


async def test_requests_are_recorded(client: Client) -> None:
    await client.get(SLICES, limit="500", labelSelector=LABEL)
    (request,) = client.api.requests
    assert (request.method, request.path) == ("GET", SLICES)
    assert request.query == {"limit": "500", "labelSelector": LABEL}
    assert (request.nature, request.resource, request.namespace) == ("list", "endpointslices", "")


async def test_what_is_forgotten_cannot_be_restored(api: FakeApi) -> None:
    for number in range(4):
        api.put(imported(f"svc-{number}"))
    api.history.compact(1002)
    api.history.forget()
    api.restore(1003)
    assert [each["metadata"]["name"] for each in api.objects(SERVICE_IMPORT)] == [
        "svc-0",
        "svc-1",
        "svc-2",
    ]
    with pytest.raises(ValueError, match="1002"):
        api.restore(1001)
