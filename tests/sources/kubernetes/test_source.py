"""Single faults of an API server, and what the Kubernetes source makes of each."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcsdns.objects.events import Apply, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import watcher
from tests.scripted import SERVICE_IMPORT, FakeApi, faults, wire
from tests.scripted.faults import COMPARE, DISCOVERY, LIST, LISTS, PAGE, STREAM, WATCH, WATCHES
from tests.scripted.followed import (
    IMPATIENT,
    LABEL,
    QUICK,
    Clock,
    Followed,
    endpoint_slice,
    service_import,
)

IMPORTS, SLICES = "serviceimports", "endpointslices"


def timing(**waits: Any) -> watcher.Timing:
    return msgspec.structs.replace(QUICK, **waits)


def label(value: Any) -> str:
    """What a row is called."""
    match value:
        case faults.Reply(code, body):
            return f"{code}{'' if isinstance(body, dict) else ' text'}"
        case faults.InStream(status):
            return f"event {status['code']}"
        case _:
            return str(value) or "any"


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as served:
        served.retry_after_s = 0.01
        served.put(service_import("web", ips=["10.0.0.1"]))
        served.put(service_import("db"))
        served.put(endpoint_slice("db-eu", "db", "10.1.0.1"))
        yield served


def lists(followed: Followed, resource: str = IMPORTS) -> int:
    """How many lists were begun."""
    return len(followed.asked(LIST, STREAM, resource=resource))


async def watching(followed: Followed, count: int = 2) -> None:
    """Wait for watches that are not those of lists."""
    await followed.until(lambda: len(followed.asked(WATCH)) >= count, "a watch")


async def hear_again(followed: Followed) -> None:
    """Change something and wait until it is known."""
    number = followed.api.version
    followed.api.put(service_import(f"svc-{number}", ips=["10.0.0.2"]))
    followed.api.put(endpoint_slice(f"slice-{number}", "db", "10.1.0.2"))
    await followed.equal()


# The usual course


async def test_a_stream_lists_and_goes_on_with_changes(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.put(service_import("new", ips=["10.0.0.3"]))
        api.delete(SERVICE_IMPORT, "shop", "web")
        api.put(endpoint_slice("db-eu", "new", "10.1.0.1"))
        await followed.equal()
        assert followed.names() == {"db", "new"}
        assert len(followed.asked(STREAM)) == 2
        assert not followed.asked(LIST, PAGE, WATCH)


async def test_what_is_asked(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        for _ in range(20):
            api.end_watches()
            count = len(api.requests)
            await followed.until(lambda count=count: len(api.requests) > count + 1)  # type: ignore[misc]
        stream, *_ = followed.asked(STREAM)
        assert stream.query["resourceVersionMatch"] == "NotOlderThan"
        assert "resourceVersion" not in stream.query
        timeouts = {int(each.query["timeoutSeconds"]) for each in followed.asked(WATCH, STREAM)}
        assert len(timeouts) > 5
        assert all(300 <= timeout <= 600 for timeout in timeouts)
        for each in followed.asked(WATCH, STREAM):
            assert each.query["allowWatchBookmarks"] == "true"
            assert each.query.get("resourceVersion") != "0"
            assert each.query.get("labelSelector") == (LABEL if each.resource == SLICES else None)


async def test_a_slice_that_loses_its_label_is_gone(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.put(endpoint_slice("db-eu", "", "10.1.0.1"))
        await followed.equal()
        assert followed.names(Kind.ENDPOINT_SLICE) == set()


async def test_namespaces_have_watches_of_their_own(api: FakeApi, tmp_path: Path) -> None:
    api.put(service_import("other", "bank", ips=["10.0.0.9"]))
    api.put(service_import("third", "mine", ips=["10.0.0.9"]))
    for resource in (IMPORTS, SLICES):
        api.revoke(resource)
        for namespace in ("shop", "bank"):
            api.grant(resource, namespace)
    async with Followed(api, tmp_path, namespaces=("shop", "bank")) as followed:
        await followed.synced()
        assert followed.names() == {"web", "db", "other"}
        assert {each.namespace for each in followed.asked(STREAM)} == {"shop", "bank"}
        await followed.until(lambda: len(api.watches) == 4)


async def test_after_a_clean_end_the_watch_goes_on_from_its_version(
    api: FakeApi, tmp_path: Path
) -> None:
    api.bookmark_interval_s = 0.01
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.put(endpoint_slice("other", "db"))
        await followed.until(lambda: all(watch.sent > 3 for watch in api.watches))
        api.end_watches()
        await watching(followed)
        assert {each.query["resourceVersion"] for each in followed.asked(WATCH)} == {
            str(api.version)
        }
        await hear_again(followed)
        assert lists(followed) == lists(followed, SLICES) == 1


# Pages


async def test_where_streaming_is_off_lists_come_in_pages_of_500(
    api: FakeApi, tmp_path: Path
) -> None:
    api.streaming_lists = "422"
    for number in range(1200):
        api.put(service_import(f"svc-{number}"))
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert len(followed.asked(STREAM)) == 2
        assert len(followed.asked(PAGE, resource=IMPORTS)) == 2
        for each in followed.asked(LIST, PAGE):
            assert each.query["limit"] == "500"
            assert "resourceVersion" not in each.query
        await hear_again(followed)
        api.expire_watches(SERVICE_IMPORT)
        await followed.until(lambda: len(followed.asked(LIST, resource=IMPORTS)) == 2)
        await hear_again(followed)
        assert len(followed.asked(STREAM)) == 2


async def test_an_expired_page_begins_the_list_anew_without_the_token_of_the_410(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "PAGE_OBJECTS", 2)
    api.streaming_lists = "422"
    for number in range(6):
        api.put(service_import(f"svc-{number}"))
    api.fault(faults.ExpirePage(), PAGE, IMPORTS)
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert len(followed.asked(LIST, resource=IMPORTS)) == 2
        for each in followed.asked(PAGE):
            assert wire.decode_token(each.query["continue"])[0] > 0


async def test_a_page_that_fails_is_asked_for_again(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "PAGE_OBJECTS", 2)
    api.streaming_lists = "422"
    for number in range(6):
        api.put(service_import(f"svc-{number}"))
    for action in (faults.Reset(50), faults.unavailable(), faults.too_many_requests(0)):
        api.fault(action, PAGE, IMPORTS)
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert len(followed.asked(LIST, resource=IMPORTS)) == 1
        tokens = [each.query["continue"] for each in followed.asked(PAGE, resource=IMPORTS)]
        assert tokens[0] == tokens[1] == tokens[2] == tokens[3] != tokens[4]


@pytest.mark.parametrize("interval_s", [None, 0.01])
async def test_a_stream_without_an_end_is_given_up_for_pages(
    api: FakeApi, tmp_path: Path, interval_s: float | None
) -> None:
    api.bookmark_interval_s = interval_s
    api.fault(faults.NoEndBookmark(), STREAM, times=None)
    async with Followed(api, tmp_path, timing=timing(quiet_list_s=0.1)) as followed:
        await followed.synced()
        assert followed.asked(LIST, resource=IMPORTS)


async def test_a_stream_that_ends_before_its_list_does_is_given_up_for_pages(
    api: FakeApi, tmp_path: Path
) -> None:
    """Through a proxy that ends streams early, no stream would ever be complete."""
    api.fault(faults.NoEndBookmark(), STREAM, times=None)
    api.watch_timeout_s = 0.02
    async with Followed(api, tmp_path) as followed:
        await followed.until(lambda: followed.source.synced)
        await followed.equal()


async def test_a_stream_that_is_not_possible_is_given_up_for_pages(
    api: FakeApi, tmp_path: Path
) -> None:
    """An old etcd cannot tell progress: an ERROR event with 500 for each streaming list."""
    api.streaming_lists = "error"
    async with Followed(api, tmp_path) as followed:
        await followed.synced()


@pytest.mark.parametrize(
    "action",
    [
        faults.HalfPage(),
        faults.Garbage(b"<html>login</html>"),
        faults.Garbage(b'{"kind":"Status","metadata":{},"status":"Success"}'),
        faults.Garbage(b'{"metadata":{},"items":[]}'),
        faults.Garbage(b"null"),
        faults.Reset(-1),
        faults.Reset(0),
        faults.Reset(60),
        faults.Hang(),
        faults.Hang(headers=True),
        faults.internal_error(),
        faults.unavailable(),
        faults.expired(),
        faults.expired("Gone"),
        faults.too_large(0.01),
        faults.unauthorized(),
        faults.forbidden(),
        faults.not_found(),
        faults.not_found(plain=True),
        faults.Reply(302, "", {"Location": "/login"}),
        faults.Reply(200, "Sign in"),
    ],
    ids=label,
)
@pytest.mark.parametrize("form", ["on", "422"])
async def test_a_list_that_fails_is_never_an_empty_one(
    api: FakeApi, tmp_path: Path, action: Any, form: Any
) -> None:
    api.streaming_lists = form
    async with Followed(api, tmp_path, timing=IMPATIENT) as followed:
        await followed.synced()
        known = followed.names()
        api.put(service_import("new", ips=["10.0.0.3"]))
        api.fault(action, LIST, IMPORTS, times=2)
        api.fault(action, STREAM, IMPORTS, times=2)
        api.compact()
        api.put(service_import("newer", ips=["10.0.0.3"]))
        followed.smallest = len(known)
        api.expire_watches()
        await followed.until(lambda: lists(followed) > 1)
        await hear_again(followed)
        assert followed.smallest >= len(known)
        assert known <= followed.names()


async def test_a_list_byte_by_byte_is_a_list(api: FakeApi, tmp_path: Path) -> None:
    api.fault(faults.Dribble(), times=None)
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        await hear_again(followed)


# 410


@pytest.mark.parametrize("reason", ["Expired", "Gone"])
@pytest.mark.parametrize("form", ["open watch", "status", "event"])
@pytest.mark.parametrize("lists_by", ["on", "422"])
async def test_410_makes_a_new_list_that_replaces(
    api: FakeApi, tmp_path: Path, form: Any, reason: str, lists_by: Any
) -> None:
    api.streaming_lists = lists_by
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        if form == "open watch":
            api.expire_watches(SERVICE_IMPORT, reason)
            api.delete(SERVICE_IMPORT, "shop", "web")
        else:
            api.expired_as, api.expired_reason = form, reason
            for watch in api.watches:
                watch.silence()
            api.delete(SERVICE_IMPORT, "shop", "web")
            api.compact()
            api.reset_connections()
        await followed.until(lambda: lists(followed) > 1, "a new list")
        await followed.equal()
        assert followed.names() == {"db"}
        await hear_again(followed)


async def test_a_new_list_never_leaves_a_moment_with_less_than_the_truth(
    api: FakeApi, tmp_path: Path
) -> None:
    for number in range(50):
        api.put(service_import(f"svc-{number}", ips=["10.0.0.1"]))
    sizes: list[int] = []

    def note(event: Event) -> None:
        sizes.append(len(followed.names()))

    followed = Followed(api, tmp_path, watch=note)
    async with followed:
        await followed.synced()
        sizes.clear()
        api.expire_watches()
        await followed.until(lambda: lists(followed) > 1)
        await hear_again(followed)
        assert min(sizes) >= 52


# What else ends a watch


@pytest.mark.parametrize("form", ["status", "event", "hold"])
@pytest.mark.parametrize("end_watches", [True, False])
async def test_versions_that_go_back_make_a_new_list(
    api: FakeApi, tmp_path: Path, form: Any, end_watches: bool
) -> None:
    api.future_versions = form
    api.bookmark_interval_s = 0.01
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        version = api.version
        for number in range(9):
            api.put(service_import(f"svc-{number}"))
            api.put(endpoint_slice(f"slice-{number}", "db", "10.1.0.1"))
        await followed.equal()
        api.restore(version, end_watches=end_watches)
        await followed.equal()
        assert followed.names() == {"web", "db"}
        assert lists(followed) == lists(followed, SLICES) == 2


async def test_a_bookmark_below_ours_makes_a_new_list(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.bookmark(api.version - 1)
        await followed.until(lambda: lists(followed) == lists(followed, SLICES) == 2)
        await hear_again(followed)


async def test_504_with_its_cause_makes_a_new_list(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.fault(faults.too_large(0.01), WATCH, IMPORTS)
        api.end_watches(SERVICE_IMPORT)
        await followed.until(lambda: lists(followed) == 2)
        await hear_again(followed)
        assert lists(followed, SLICES) == 1


@pytest.mark.parametrize(
    "action",
    [
        faults.Reset(-1),
        faults.Hang(),
        faults.too_many_requests(0),
        faults.internal_error(),
        faults.unavailable(),
        faults.unauthorized(),
        faults.forbidden("watch"),
        faults.Reply(504, "gateway timeout"),
        faults.InStream(wire.status(500, "InternalError", "etcd is ill")),
        faults.InStream(wire.status(429, "TooManyRequests", "wait")),
    ],
    ids=label,
)
async def test_a_watch_that_fails_goes_on_from_its_version(
    api: FakeApi, tmp_path: Path, action: Any
) -> None:
    async with Followed(api, tmp_path, timing=timing(answer_s=0.5)) as followed:
        await followed.synced()
        before = lists(followed)
        fault = api.fault(action, WATCH, IMPORTS, times=2)
        api.end_watches()
        await followed.until(lambda: fault.used == 2)
        await hear_again(followed)
        assert lists(followed) == before


@pytest.mark.parametrize("after_bytes", [1, 30, 200, 500])
async def test_a_watch_that_breaks_within_a_line_goes_on(
    api: FakeApi, tmp_path: Path, after_bytes: int
) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        fault = api.fault(faults.Reset(after_bytes), WATCH, IMPORTS, times=3)
        api.end_watches()
        while fault.used < 3:
            await hear_again(followed)
        await hear_again(followed)
        assert lists(followed) == 1


async def test_retry_after_is_honoured(api: FakeApi, tmp_path: Path) -> None:
    """One second is the least that the header can say."""
    api.fault(faults.too_many_requests(1), STREAM, IMPORTS)
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        stream, again = followed.asked(STREAM, resource=IMPORTS)
        assert again.at_s - stream.at_s >= 1


async def test_a_refused_connection_is_tried_again(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        await api.refuse()
        await followed.until(lambda: followed.source.standing.reasons)
        assert "is it up?" in followed.source.standing.reasons[0]
        api.delete(SERVICE_IMPORT, "shop", "web")
        assert followed.names() == {"web", "db"}
        await api.accept()
        await followed.equal()
        assert lists(followed) == 1
        await followed.until(lambda: not followed.source.standing.reasons)


# Dead watches, abandoned watches


async def test_a_watch_that_is_silent_for_too_long_is_dead(api: FakeApi, tmp_path: Path) -> None:
    waits = timing(watch_least_s=0, watch_most_s=0, overdue_s=0.1)
    async with Followed(api, tmp_path, timing=waits) as followed:
        await followed.synced()
        for watch in api.watches:
            watch.silence()
        api.delete(SERVICE_IMPORT, "shop", "web")
        await followed.equal()
        assert lists(followed) == 1


async def test_a_watch_that_misses_three_bookmarks_is_dead(api: FakeApi, tmp_path: Path) -> None:
    api.bookmark_interval_s = 0.01
    async with Followed(api, tmp_path, timing=timing(bookmark_s=0.02)) as followed:
        await followed.synced()
        await followed.until(lambda: all(watch.sent > 5 for watch in api.watches))
        dead = list(api.watches)
        for watch in dead:
            watch.silence()
        api.delete(SERVICE_IMPORT, "shop", "web")
        await followed.equal()
        assert lists(followed) == 1
        await followed.until(lambda: not set(dead) & set(api.watches), "the end of the dead")


async def test_a_watch_without_bookmarks_is_not_dead(api: FakeApi, tmp_path: Path) -> None:
    """A server that sends none so far is silent where nothing happens."""
    clock = Clock()
    async with Followed(api, tmp_path, timing=timing(clock=clock)) as followed:
        await followed.synced()
        api.bookmark()
        await followed.until(
            lambda: sum(each.bookmarks for each in followed.source.statistics().watches)
        )
        for _ in range(3):
            clock.moved_s += 100
            await hear_again(followed)
        assert not followed.asked(WATCH)


@pytest.mark.parametrize("reason", ["Expired", "Gone"])
async def test_lines_of_an_abandoned_watch_never_count(
    api: FakeApi, tmp_path: Path, reason: str
) -> None:
    ghost = service_import("ghost", ips=["6.6.6.6"])
    ghost["metadata"]["resourceVersion"] = "99999"
    seen: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Apply | InitApply):
            seen.append(event.object.name)

    async with Followed(api, tmp_path, watch=note) as followed:
        await followed.synced()
        api.expire_watches(SERVICE_IMPORT, reason, wire.event("ADDED", ghost))
        await followed.until(lambda: lists(followed) == 2)
        await hear_again(followed)
        assert "ghost" not in seen


async def test_lines_after_a_silence_do_not_count(api: FakeApi, tmp_path: Path) -> None:
    api.bookmark_interval_s = 0.01
    async with Followed(api, tmp_path, timing=timing(bookmark_s=0.02)) as followed:
        await followed.synced()
        await followed.until(lambda: all(watch.sent > 5 for watch in api.watches))
        silent = list(api.watches)
        for watch in silent:
            watch.silence()
        api.put(service_import("short", ips=["10.0.0.3"]))
        await followed.equal()
        api.delete(SERVICE_IMPORT, "shop", "short")
        await followed.equal()
        for watch in silent:
            watch.speak()
        await hear_again(followed)


# Objects


@pytest.mark.parametrize("form", ["on", "422"])
async def test_an_object_of_a_wrong_type_costs_only_itself(
    api: FakeApi, tmp_path: Path, form: Any
) -> None:
    api.streaming_lists = form
    api.put({**service_import("wrong"), "spec": 5})
    api.put({**endpoint_slice("wrong", "db"), "endpoints": "none"})
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert followed.names() == {"web", "db"}
        assert {each.problem.subject for each in followed.source.problems()} == {
            "ServiceImport shop/wrong",
            "EndpointSlice shop/wrong",
        }
        api.put({**service_import("web"), "spec": {"ips": 7}})
        await followed.equal()
        assert followed.names() == {"db"}
        api.put(service_import("web", ips=["10.0.0.1"]))
        api.put(service_import("wrong", ips=["10.0.0.1"]))
        await followed.equal()
        assert followed.names() == {"web", "db", "wrong"}
        assert [each.problem.subject for each in followed.source.problems()] == [
            "EndpointSlice shop/wrong"
        ]
        assert lists(followed) == 1 + (form == "422")


BAD_TEXTS = {
    "not UTF-8": b"\xff\xfe",
    "half a surrogate": b"\\ud800",
    "a control character": b"\x01",
    "a huge number": b'", "x": 1e999, "y": "',
}


@pytest.mark.parametrize("octets", BAD_TEXTS.values(), ids=BAD_TEXTS)
@pytest.mark.parametrize("where", ["page", "watch"])
async def test_octets_that_are_no_text_are_survived(
    api: FakeApi, tmp_path: Path, octets: bytes, where: str
) -> None:
    thing = service_import("web", ips=["@"])
    thing["metadata"]["resourceVersion"] = "1002"
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        if where == "page":
            page = wire.list_of(
                SERVICE_IMPORT, "multicluster.x-k8s.io/v1beta1", [thing], {"resourceVersion": "1"}
            )
            api.streaming_lists = "422"
            api.fault(faults.Garbage(wire.line(page).replace(b"@", octets)), LIST, IMPORTS)
            api.expire_watches()
            await followed.until(lambda: followed.asked(LIST))
        else:
            thing["metadata"]["resourceVersion"] = str(api.version + 1)
            for watch in api.watches_of(SERVICE_IMPORT):
                watch.send(wire.event("MODIFIED", thing).replace(b"@", octets))
        api.put(service_import("web", ips=["10.0.0.1"]))
        await hear_again(followed)


@pytest.mark.parametrize(
    "line",
    [b"?\n", b"{}\n", b"[]\n", b'{"type":"ADDED"}\n', b'{"type":"NEW","object":{}}\n', b"\xff\n"],
)
async def test_a_line_that_is_not_understood_makes_a_new_list(
    api: FakeApi, tmp_path: Path, line: bytes
) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        for watch in api.watches_of(SERVICE_IMPORT):
            watch.send(line)
        await followed.until(lambda: lists(followed) == 2)
        await hear_again(followed)


async def test_what_goes_wrong_with_an_object_within_a_stream_takes_it_away(
    api: FakeApi, tmp_path: Path
) -> None:
    """The list of a stream may show an object, and its change before the list ends."""
    api.fault(faults.NoEndBookmark(), STREAM, IMPORTS)
    async with Followed(api, tmp_path) as followed:
        await followed.until(lambda: followed.names() == {"web", "db"})
        api.put({**service_import("web"), "spec": 5})
        (watch,) = api.watches_of(SERVICE_IMPORT)
        watch.send(watch.view.bookmark(api.version, initial_end=True))
        await followed.synced()
        assert followed.names() == {"db"}


# Versions, permissions


async def test_after_404_another_version_is_found(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        sizes: list[int] = []
        followed.watch = lambda event: sizes.append(len(followed.names()))
        api.plain_404 = True
        api.serve("v1alpha1")
        await followed.until(lambda: followed.source.api_version.endswith("v1alpha1"))
        await hear_again(followed)
        assert min(sizes) >= 2
        deletes = [each for each in followed.events if not isinstance(each, Apply | InitApply)]
        assert all(isinstance(each, Init | InitDone) for each in deletes)


async def test_the_preferred_version_that_serves_imports_is_taken(
    api: FakeApi, tmp_path: Path
) -> None:
    api.serve("v1alpha1")
    api.listed_versions = ("v1beta1",)
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert followed.source.api_version == "multicluster.x-k8s.io/v1alpha1"


@pytest.mark.parametrize("end_watches", [True, False])
async def test_a_newer_version_is_taken_though_the_older_one_is_served(
    end_watches: bool, api: FakeApi, tmp_path: Path
) -> None:
    """A CRD that is made anew announces its versions one after the other."""
    api.serve("v1alpha1")
    if not end_watches:
        api.watch_timeout_s = 0.02
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert followed.source.api_version == "multicluster.x-k8s.io/v1alpha1"
        api.serve("v1alpha1", "v1beta1", end_watches=end_watches)
        await followed.until(lambda: followed.asked(WATCH, STREAM)[-1].path.find("/v1beta1/") > 0)
        assert followed.source.api_version == "multicluster.x-k8s.io/v1beta1"
        await hear_again(followed)


async def test_a_version_that_was_refused_is_taken_when_it_is_served_again(
    api: FakeApi, tmp_path: Path
) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.plain_404 = True
        api.serve("v1alpha1")
        await followed.until(lambda: followed.source.api_version.endswith("v1alpha1"))
        api.serve("v1alpha1", "v1beta1")
        await followed.until(lambda: followed.source.api_version.endswith("v1beta1"))
        await hear_again(followed)


async def test_the_first_watch_of_an_older_version_is_short(api: FakeApi, tmp_path: Path) -> None:
    api.serve("v1alpha1")
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.end_watches(SERVICE_IMPORT)
        await followed.until(lambda: len(imports_watched(followed)) > 1)
        first, second = imports_watched(followed)[:2]
        assert 10 <= first <= 20
        assert 300 <= second <= 600


def imports_watched(followed: Followed) -> list[int]:
    """The `timeoutSeconds` of all watches of ServiceImports."""
    asked = [each for each in followed.asked(WATCH, STREAM) if "serviceimports" in each.path]
    return [int(each.query["timeoutSeconds"]) for each in asked]


async def test_the_crd_appears_while_it_runs(api: FakeApi, tmp_path: Path) -> None:
    api.serve()
    async with Followed(api, tmp_path) as followed:
        await followed.until(lambda: len(followed.asked(DISCOVERY)) > 3)
        assert not followed.source.synced
        assert "install the CRDs" in followed.source.standing.reasons[0]
        api.serve("v1beta1")
        await followed.synced()
        await followed.until(lambda: not followed.source.standing.reasons)


async def test_a_crd_that_goes_leaves_the_answers_until_it_is_gone_for_long(
    api: FakeApi, tmp_path: Path
) -> None:
    clock = Clock()
    async with Followed(api, tmp_path, timing=timing(clock=clock)) as followed:
        await followed.synced()
        api.serve()
        await followed.until(lambda: followed.source.standing.crd_gone)
        count = len(api.requests)
        await followed.until(lambda: len(api.requests) > count + 3)
        assert followed.names() == {"web", "db"}
        clock.moved_s += 61
        await followed.until(lambda: followed.names() == set())
        api.serve("v1beta1")
        await followed.equal()
        assert not followed.source.standing.crd_gone


async def test_a_missing_crd_before_and_after_an_outage_is_not_gone_for_long(
    api: FakeApi, tmp_path: Path
) -> None:
    """An API server that starts answers 404 for a moment, as it may have done when it went."""
    clock = Clock()
    async with Followed(api, tmp_path, timing=timing(clock=clock)) as followed:
        await followed.synced()
        api.serve()
        await followed.until(lambda: followed.source.standing.crd_gone)
        await api.refuse()
        count = followed.rng.pauses
        await followed.until(lambda: followed.rng.pauses > count + 4)
        clock.moved_s += 61
        await followed.until(lambda: followed.rng.pauses > count + 8)
        api.requests.clear()
        followed.smallest = 2
        await api.accept()
        await followed.until(lambda: len(followed.asked(DISCOVERY)) > 2)
        api.serve("v1beta1")
        await followed.equal()
        assert followed.smallest == 2


async def test_forbidden_says_the_rule_and_recovers(api: FakeApi, tmp_path: Path) -> None:
    api.revoke(IMPORTS)
    async with Followed(api, tmp_path) as followed:
        await followed.until(lambda: followed.source.standing.reasons)
        (reason,) = followed.source.standing.reasons
        assert "resources: [serviceimports], verbs: [list, watch]" in reason
        api.grant(IMPORTS)
        await followed.synced()
        api.revoke(IMPORTS)
        api.end_watches()
        await followed.until(lambda: followed.source.standing.reasons)
        assert followed.names() == {"web", "db"}
        api.delete(SERVICE_IMPORT, "shop", "web")
        api.grant(IMPORTS)
        await followed.equal()


async def test_forbidden_slices_leave_the_imports(api: FakeApi, tmp_path: Path) -> None:
    api.revoke(SLICES)
    async with Followed(api, tmp_path) as followed:
        await followed.until(lambda: followed.source.standing.imports_only)
        assert followed.names() == {"web", "db"}


async def test_a_storage_that_is_older_is_listed_anew_though_the_watch_stays_silent(
    api: FakeApi, tmp_path: Path
) -> None:
    """As the real API server does with a resource version from a lost future."""
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        version = api.version
        for number in range(5):
            api.put(service_import(f"lost-{number}", ips=["10.0.0.9"]))
        await followed.equal()
        api.restore(version)
        await followed.equal()
        assert len(followed.asked(COMPARE)) >= 2


# Restraint: a server that answers at once is not asked without pauses


@pytest.mark.parametrize(
    ("action", "nature", "form"),
    [
        (faults.not_found(), f"{LISTS} {WATCHES}", "on"),
        (faults.not_found(), f"{LISTS} {WATCHES}", "422"),
        (faults.not_found(plain=True), "", "on"),
        (faults.expired(), "", "on"),
        (faults.expired(), WATCHES, "422"),
        (faults.expired(), WATCH, "422"),
        (faults.expired_in_stream(), WATCH, "422"),
        (faults.no_watch_list(), "", "422"),
        (faults.too_large(0), WATCH, "422"),
        (faults.Garbage(), LISTS, "422"),
        (faults.Garbage(), f"{LISTS} {STREAM}", "on"),
        (faults.Garbage(), WATCH, "422"),
        (faults.internal_error(), "", "on"),
        (faults.Reset(-1), "", "on"),
        (faults.Reset(10), f"{LISTS} {STREAM}", "422"),
        (faults.InStream(wire.status(500, "InternalError", "ill")), WATCHES, "on"),
        (faults.unauthorized(), "", "on"),
    ],
    ids=label,
)
@pytest.mark.parametrize("resource", [IMPORTS, SLICES])
async def test_a_failure_that_stays_is_not_met_without_pauses(
    api: FakeApi, tmp_path: Path, action: Any, nature: str, form: Any, resource: str
) -> None:
    api.streaming_lists = form
    waits = timing(first_pause_s=0.01, longest_pause_s=0.01)
    async with Followed(api, tmp_path, timing=waits) as followed:
        await followed.synced()
        api.requests.clear()
        followed.rng.pauses = 0
        api.fault(action, nature, resource, times=None)
        api.expire_watches()
        await followed.until(lambda: followed.rng.pauses >= 12 or len(api.requests) > 200)
        pauses, asked = followed.rng.pauses, len(api.requests)
        assert asked <= 8 * (pauses + 1)


async def test_a_watch_that_always_ends_at_once_is_not_asked_without_pauses(
    api: FakeApi, tmp_path: Path
) -> None:
    api.watch_timeout_s = 0.001
    waits = timing(first_pause_s=0.01, longest_pause_s=0.01)
    async with Followed(api, tmp_path, timing=waits) as followed:
        await followed.until(lambda: followed.rng.pauses >= 12 or len(api.requests) > 200)
        pauses, asked = followed.rng.pauses, len(api.requests)
        assert asked <= 8 * (pauses + 1)


async def test_a_failure_that_stays_is_logged_once(
    api: FakeApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.fault(
            faults.InStream(wire.status(500, "InternalError", "etcd is ill")),
            WATCHES,
            IMPORTS,
            times=None,
        )
        api.end_watches()
        count = len(api.requests)
        await followed.until(lambda: len(api.requests) > count + 8)
        texts = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
        assert len(texts) == 1
        assert "etcd is ill" in texts[0]
