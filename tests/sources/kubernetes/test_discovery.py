"""Where ServiceImports are served: documents of discovery, and what is asked of an API server."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.errors import ObjectError
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import discovery
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble
from tests.scripted import FakeApi, Plain, faults, wire
from tests.scripted.faults import DISCOVERY, LIST, STREAM, Reply
from tests.scripted.followed import QUICK, Followed, service_import
from tests.waiting import until

GROUP = "multicluster.x-k8s.io"
ODD = [b"", b"null", b"5", b"[]", b"{", b"\xff", b"404 page not found\n", b"<html></html>"]


def resources(*names: str, verbs: list[str] | None = None) -> bytes:
    document = wire.resources(f"{GROUP}/v1beta1", list(names))
    for each in document["resources"]:
        each["verbs"] = verbs or each["verbs"]
    return json.dumps(document).encode()


# Documents.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (resources("serviceexports", "serviceimports"), True),
        (resources("serviceimports", verbs=["list", "watch"]), True),
        (resources("serviceimports", verbs=["list", "get"]), False),
        (resources("serviceimports", verbs=["watch", "get"]), False),
        (resources("serviceimports/status"), False),
        (resources("serviceexports"), False),
        (resources(), False),
        (b"{}", False),
        (b'{"resources":null}', False),
        (b'{"resources":[{"name":"serviceimports"}]}', False),
        (b'{"resources":[{"name":"serviceimports","verbs":null}]}', False),
    ],
)
def test_version_serves_imports_that_can_be_watched(body: bytes, *, expected: bool) -> None:
    assert discovery.serves_imports(body) is expected


@pytest.mark.parametrize("body", [*ODD, b'{"resources":[{}]}', b'{"resources":{}}'])
def test_list_of_resources_that_is_none(body: bytes) -> None:
    with pytest.raises(ObjectError, match="discovery"):
        discovery.serves_imports(body)


@given(st.binary())
def test_any_octets_are_read_or_an_object_error(body: bytes) -> None:
    with contextlib.suppress(ObjectError):
        discovery.serves_imports(body)


# Paths and rules.


def test_paths_of_objects() -> None:
    imports = f"{GROUP}/v1beta1"
    assert [
        discovery.path_of(Kind.SERVICE_IMPORT, imports, ""),
        discovery.path_of(Kind.SERVICE_IMPORT, imports, "shop"),
        discovery.path_of(Kind.ENDPOINT_SLICE, discovery.SLICE_API, ""),
        discovery.path_of(Kind.ENDPOINT_SLICE, discovery.SLICE_API, "shop"),
    ] == [
        f"/apis/{GROUP}/v1beta1/serviceimports",
        f"/apis/{GROUP}/v1beta1/namespaces/shop/serviceimports",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
    ]


def test_known_versions_prefer_the_newer() -> None:
    assert list(discovery.known_versions()) == [f"{GROUP}/v1beta1", f"{GROUP}/v1alpha1"]


@pytest.mark.parametrize(
    ("kind", "namespace", "expected"),
    [
        (Kind.SERVICE_IMPORT, "", ["a ClusterRole", GROUP, "[serviceimports]", "[list, watch]"]),
        (Kind.ENDPOINT_SLICE, "", ["a ClusterRole", "[discovery.k8s.io]", "[endpointslices]"]),
        (Kind.ENDPOINT_SLICE, "shop", ["a Role in namespace shop", "[list, watch]"]),
    ],
)
def test_rule_is_the_one_to_add(kind: Kind, namespace: str, expected: list[str]) -> None:
    rule = discovery.rule_for(kind, namespace)
    assert [words for words in expected if words not in rule] == []


# An API server.


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as served:
        yield served


class Discovering:
    """An API server that is asked for the version; nothing is followed."""

    def __init__(
        self,
        api: FakeApi,
        folder: Path,
        namespaces: tuple[str, ...] = (),
        *,
        answer_s: float = QUICK.answer_s,
    ) -> None:
        access = Access(kubeconfig=str(api.write_kubeconfig(folder / "config")))
        self.api = api
        self.cluster = ApiServer(access)
        namespace = namespaces[0] if namespaces else ""
        self.discovery = discovery.ImportsDiscovery(self.cluster, namespace, answer_s)

    async def version(self) -> str:
        return await self.discovery.find()

    async def failure(self) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.version()
        assert self.api.url in str(caught.value)
        return caught.value

    @property
    def asked(self) -> list[str]:
        return [request.path for request in self.api.requests]


@pytest.fixture
async def discovering(api: FakeApi, tmp_path: Path) -> AsyncIterator[Discovering]:
    made = Discovering(api, tmp_path)
    yield made
    await made.cluster.close()


@pytest.mark.parametrize(
    ("served", "listed", "expected"),
    [
        (["v1beta1"], [], "v1beta1"),
        (["v1alpha1"], [], "v1alpha1"),
        (["v1alpha1", "v1beta1"], [], "v1beta1"),
        (["v1alpha1"], ["v1beta1"], "v1alpha1"),
        (["v1alpha1"], ["v1beta2", "v1"], "v1alpha1"),
    ],
)
async def test_first_version_that_has_imports(
    discovering: Discovering, served: list[str], listed: list[str], expected: str
) -> None:
    discovering.api.serve(*served)
    discovering.api.listed_versions = tuple(listed)
    assert await discovering.version() == f"{GROUP}/{expected}"
    assert discovering.discovery.api_version == f"{GROUP}/{expected}"


async def test_version_without_watch_is_passed_over(discovering: Discovering) -> None:
    discovering.api.serve("v1alpha1", "v1beta1")
    body = json.loads(resources("serviceimports", verbs=["get", "list"]))
    discovering.api.fault(Reply(200, body), DISCOVERY)
    assert await discovering.version() == f"{GROUP}/v1alpha1"


@pytest.mark.parametrize("plain", [False, True], ids=["Status", "plain text"])
@pytest.mark.parametrize("listed", [(), ("v1beta1",), ("v1alpha1", "v1beta1"), ("v3",)])
async def test_missing_crd_says_what_to_install(
    discovering: Discovering, listed: tuple[str, ...], *, plain: bool
) -> None:
    discovering.api.serve()
    discovering.api.listed_versions = listed
    discovering.api.plain_404 = plain
    error = await discovering.failure()
    assert error.trouble is Trouble.NOT_FOUND
    assert f"no serviceimports.{GROUP}" in str(error)
    assert "install the CRDs" in str(error)
    assert discovering.discovery.api_version == ""


async def test_version_is_found_again_after_a_flip(discovering: Discovering) -> None:
    for served in ("v1alpha1", "v1beta1", "v1alpha1"):
        discovering.api.serve(served)
        assert await discovering.version() == f"{GROUP}/{served}"
    discovering.api.serve()
    await discovering.failure()
    discovering.api.serve("v1beta1")
    assert await discovering.version() == f"{GROUP}/v1beta1"


async def test_slices_need_no_discovery(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
    assert {each.path for each in followed.asked(DISCOVERY)} == {f"/apis/{GROUP}/v1beta1"}
    assert followed.asked(STREAM, resource="endpointslices")[0].version == "v1"


# Discovery that is not permitted.


@pytest.mark.parametrize("served", ["v1beta1", "v1alpha1"])
async def test_versions_are_tried_where_discovery_is_forbidden(
    discovering: Discovering, served: str
) -> None:
    discovering.api.serve(served)
    discovering.api.fault(faults.forbidden(), DISCOVERY, times=None)
    assert await discovering.version() == f"{GROUP}/{served}"
    tried = [each for each in discovering.api.requests if each.resource == "serviceimports"]
    assert [each.version for each in tried] == ["v1beta1", "v1alpha1"][: 1 + (served == "v1alpha1")]
    assert all(each.query == {"limit": "1"} for each in tried)


async def test_newer_version_is_preferred_where_discovery_is_forbidden(
    discovering: Discovering,
) -> None:
    discovering.api.serve("v1alpha1", "v1beta1")
    discovering.api.fault(faults.forbidden(), DISCOVERY, times=None)
    assert await discovering.version() == f"{GROUP}/v1beta1"


async def test_versions_are_tried_in_our_namespace(api: FakeApi, tmp_path: Path) -> None:
    api.revoke("serviceimports")
    api.grant("serviceimports", "shop")
    api.fault(faults.forbidden(), DISCOVERY, times=None)
    discovering = Discovering(api, tmp_path, ("shop",))
    assert await discovering.version() == f"{GROUP}/v1beta1"
    assert api.requests[-1].namespace == "shop"
    await discovering.cluster.close()


async def test_no_version_where_discovery_is_forbidden(discovering: Discovering) -> None:
    discovering.api.serve()
    discovering.api.fault(faults.forbidden(), DISCOVERY, times=None)
    error = await discovering.failure()
    assert error.trouble is Trouble.NOT_FOUND
    assert "no serviceimports" in str(error)
    assert len(discovering.asked) == 4


async def test_no_version_where_discovery_is_forbidden_says_what_to_install(
    discovering: Discovering,
) -> None:
    discovering.api.serve()
    discovering.api.fault(faults.forbidden(), DISCOVERY, times=None)
    assert "install the CRDs" in str(await discovering.failure())


async def test_neither_discovery_nor_objects_are_permitted(discovering: Discovering) -> None:
    discovering.api.revoke("serviceimports")
    discovering.api.fault(faults.forbidden(), DISCOVERY, times=None)
    error = await discovering.failure()
    assert error.trouble is Trouble.FORBIDDEN
    assert "serviceimports" in str(error)


# Discovery that fails.


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (faults.unauthorized(), Trouble.UNAUTHORIZED),
        (faults.too_many_requests(3), Trouble.THROTTLED),
        (faults.unavailable(), Trouble.UNAVAILABLE),
        (faults.internal_error(), Trouble.UNAVAILABLE),
        (faults.Reset(), Trouble.LOST),
        (faults.Reset(20), Trouble.LOST),
        (Reply(200, {"resources": {}}), Trouble.UNREADABLE),
        (Reply(200, "<html>sign in</html>"), Trouble.UNREADABLE),
    ],
    ids=str,
)
async def test_discovery_that_fails(
    discovering: Discovering, action: Any, expected: Trouble
) -> None:
    discovering.api.fault(action, DISCOVERY, times=2)
    error = await discovering.failure()
    assert error.trouble is expected
    assert error.retry_after_s == (3 if expected is Trouble.THROTTLED else 0)


@pytest.mark.parametrize("headers", [False, True])
async def test_discovery_that_hangs(api: FakeApi, tmp_path: Path, *, headers: bool) -> None:
    api.fault(faults.Hang(headers=headers), DISCOVERY, times=2)
    discovering = Discovering(api, tmp_path, answer_s=0.5)
    try:
        assert (await discovering.failure()).trouble is Trouble.LOST
    finally:
        await discovering.cluster.close()


async def test_failure_of_a_versions_resources_is_told(discovering: Discovering) -> None:
    discovering.api.fault(faults.unavailable(), DISCOVERY)
    error = await discovering.failure()
    assert error.trouble is Trouble.UNAVAILABLE
    assert f"/apis/{GROUP}/v1beta1" in str(error)


async def test_failure_of_a_version_that_is_not_wanted_does_not_matter(
    discovering: Discovering,
) -> None:
    body = wire.resources(f"{GROUP}/v1beta1", ["serviceimports"])
    discovering.api.fault(Reply(200, body), DISCOVERY)
    discovering.api.fault(faults.unavailable(), DISCOVERY)
    assert await discovering.version() == f"{GROUP}/v1beta1"


# While running.


def imported() -> Plain:
    return service_import("web", ips=["10.0.0.1"])


async def test_flip_while_running_deletes_nothing(api: FakeApi, tmp_path: Path) -> None:
    api.serve("v1alpha1")
    api.put(imported())
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert followed.source.api_version == f"{GROUP}/v1alpha1"
        api.serve("v1beta1")
        await followed.until(lambda: followed.source.api_version.endswith("v1beta1"), "the flip")
        await followed.equal()
        assert followed.names() == {"web"}
        assert [type(event).__name__ for event in followed.events].count("Delete") == 0


async def test_crd_that_comes_later_is_found(api: FakeApi, tmp_path: Path) -> None:
    api.serve()
    api.put(imported())
    async with Followed(api, tmp_path) as followed:
        await followed.until(lambda: followed.source.standing.reasons, "a reason")
        (reason,) = followed.source.standing.reasons
        assert "install the CRDs" in reason
        api.serve("v1beta1")
        await followed.synced()
        assert followed.source.standing.reasons == ()


async def test_list_that_is_not_there_though_discovery_has_it_is_asked_for_after_pauses(
    api: FakeApi, tmp_path: Path
) -> None:
    for nature in (STREAM, LIST):
        api.fault(faults.not_found(plain=True), nature, "serviceimports", times=None)
    async with Followed(api, tmp_path) as followed:
        await until(lambda: len(followed.asked(STREAM, resource="serviceimports")) >= 10)
        assert followed.rng.pauses >= 8


def announce_both(api: FakeApi) -> None:
    """Let the next discovery find both versions, whichever are served."""
    for version in ("v1beta1", "v1alpha1"):
        body = wire.resources(f"{GROUP}/{version}", ["serviceimports"])
        api.fault(Reply(200, body), DISCOVERY)


async def test_list_that_is_not_there_outranks_discovery(api: FakeApi, tmp_path: Path) -> None:
    api.serve("v1alpha1")
    api.put(imported())
    announce_both(api)
    announce_both(api)
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        versions = [each.version for each in followed.asked(STREAM, resource="serviceimports")]
        assert versions == ["v1beta1", "v1alpha1"]
        assert followed.names() == {"web"}
        assert followed.source.api_version == f"{GROUP}/v1alpha1"


async def test_version_that_was_refused_is_taken_again_when_the_other_one_goes(
    api: FakeApi, tmp_path: Path
) -> None:
    api.serve("v1alpha1")
    api.put(imported())
    announce_both(api)
    announce_both(api)
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        announce_both(api)
        api.serve("v1beta1")
        await followed.until(lambda: followed.source.api_version.endswith("v1beta1"), "the flip")
        await followed.synced()
        versions = [each.version for each in followed.asked(STREAM, resource="serviceimports")]
        assert versions == ["v1beta1", "v1alpha1", "v1beta1"]
