"""A hostile API server, or what stands before it: nothing that it sends is read without bounds."""

import asyncio
import gzip
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from mcsdns.sources.kubernetes import codec, watcher
from mcsdns.sources.kubernetes.codec import ApiError, words
from mcsdns.sources.kubernetes.reflector import Trouble
from tests.certificates import authority
from tests.scripted import FakeApi, faults
from tests.scripted.faults import WATCH
from tests.scripted.followed import QUICK, Followed, service_import
from tests.secured import Make, Secured, access, api, ask, certificate, no_proxies

__all__ = ["access", "api", "authority", "certificate", "no_proxies"]
pytestmark = pytest.mark.usefixtures("no_proxies")

TOKEN = "hush-token"


async def failure(access: Make) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await ask(access({"token": TOKEN}))
    return caught.value


async def test_an_answer_without_end_is_not_read_on(
    api: Secured, access: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MOST_BYTES", 1 << 20)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            await asyncio.sleep(0)  # to learn that the connection is closed

    api.answer = endless
    error = await failure(access)
    assert error.trouble is Trouble.UNREADABLE
    assert "longer than 1 MiB" in str(error)


@pytest.mark.parametrize("code", [200, 500])
async def test_an_answer_that_is_compressed_is_refused_unread(
    api: Secured, access: Make, code: int
) -> None:
    async def bomb(_: web.Request) -> web.StreamResponse:
        body = gzip.compress(b" " * (1 << 24))
        return web.Response(status=code, body=body, headers={"Content-Encoding": "gzip"})

    api.answer = bomb
    error = await failure(access)
    assert error.trouble is Trouble.UNREADABLE
    assert "compressed (gzip), which was not asked for" in str(error)


async def test_a_redirect_is_not_followed(api: Secured, access: Make) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"{api.url}/elsewhere"})

    api.answer = elsewhere
    assert ": 302 Found" in str(await failure(access))
    assert len(api.requests) == 1


async def test_what_it_says_is_one_short_line_without_our_token(api: Secured, access: Make) -> None:
    said = f"bad {TOKEN}\n2026-01-01 ERROR forged\x1b[2J " + "A" * 60_000

    async def says(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": said}, status=500)

    api.answer = says
    text = str(await failure(access))
    assert text.isprintable()
    assert len(text) < 600
    assert "bad [hidden] 2026-01-01 ERROR forged\\x1b[2J AAA" in text


@pytest.mark.parametrize("after", ["9" * 400, "-1", "\u0663", "1e999", "nan"])
async def test_a_wait_beyond_reason_is_cut(api: Secured, access: Make, after: str) -> None:
    async def busy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": after})

    api.answer = busy
    assert 0 <= (await failure(access)).retry_after_s <= 60


def test_words_of_a_peer_are_printable_and_bounded() -> None:
    assert words("a\x00b\x1b[31m\n\u202ec") == "a\\x00b\\x1b[31m \\u202ec"
    assert len(words("\U0010ffff" * 10_000)) < 450


async def test_a_line_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MOST_BYTES", 1 << 16)
    async with FakeApi() as served:
        served.put(service_import("web", ips=["10.0.0.1"]))
        line = served.fault(faults.Garbage(b'{"type":"ADDED","object":"' + b"a" * (1 << 18)), WATCH)
        async with Followed(served, tmp_path, timing=QUICK) as followed:
            await followed.synced()
            served.end_watches()
            await followed.until(lambda: line.used == 1, "the line")
            served.put(service_import("next", ips=["10.0.0.1"]))
            await followed.equal()


def limits(followed: Followed) -> list[str]:
    """The sizes of the pages of ServiceImports that were asked for."""
    asked = followed.asked(faults.LIST, faults.PAGE, resource="serviceimports")
    return [each.query["limit"] for each in asked]


@pytest.mark.parametrize(("objects", "octets"), [(600, 30_000), (12, 1_500_000)])
async def test_a_page_of_large_objects_is_asked_for_with_fewer_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, objects: int, octets: int
) -> None:
    """As large as etcd takes them: the world is there at the first try, and nobody is bothered."""
    async with FakeApi() as served:
        served.streaming_lists = "422"
        for number in range(objects):
            large = service_import(f"s{number}", ips=["10.0.0.1"])
            large["metadata"]["annotations"] = {"large": "x" * octets}
            served.put(large)
        async with Followed(served, tmp_path, timing=QUICK) as followed:
            await followed.until(lambda: followed.is_connected, "sync")
            assert not followed.differences()
            assert limits(followed)[:2] == ["500", "125"]
    assert not caplog.records


async def test_a_list_beside_the_watch_is_read_by_smaller_pages_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MOST_BYTES", 10_000)
    async with FakeApi() as served:
        for number in range(100):
            served.put(service_import(f"s{number}", ips=["10.0.0.1"]))
        timing = msgspec.structs.replace(QUICK, recheck_s=0.01)
        async with Followed(served, tmp_path, timing=timing) as followed:
            await followed.until(lambda: rechecked(followed), "a list beside the watch")
            assert limits(followed)[:4] == ["500", "125", "31", "31"]
            assert not followed.differences()


def rechecked(followed: Followed) -> bool:
    return all(each.rechecks.done for each in followed.source.statistics().watches)


async def test_a_page_without_end_fails_and_the_next_list_begins_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MOST_BYTES", 1 << 16)
    async with FakeApi() as served:
        served.streaming_lists = "422"
        served.put(service_import("web", ips=["10.0.0.1"]))
        endless = faults.Garbage(b" " * (1 << 20))
        fault = served.fault(endless, faults.LIST, "serviceimports", times=5)
        async with Followed(served, tmp_path, timing=QUICK) as followed:
            await followed.synced()
            assert fault.used == 5
            assert limits(followed)[:6] == ["500", "125", "31", "7", "2", "500"]


async def test_problems_of_very_many_objects_are_counted_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MOST_PROBLEMS", 5)
    async with FakeApi() as served:
        for number in range(20):
            bad = service_import(f"p{number}", ips=["10.0.0.1", "evil\n\x1b[31m" + "x" * 5000])
            served.put(bad)
        async with Followed(served, tmp_path, timing=QUICK) as followed:
            await followed.synced()
            shown = list(followed.source.problems())
            assert len(shown) == 5
            assert all(len(each.problem.text) < 1000 for each in shown)
            (imports,) = [
                each.skipped for each in followed.source.statistics().watches if each.problems
            ]
            assert sum(imports.values()) == 20
            for number in range(20):
                served.put(service_import(f"p{number}", ips=["10.0.0.1"]))
            await followed.equal()
            assert not list(followed.source.problems())
            assert not any(
                sum(each.skipped.values()) for each in followed.source.statistics().watches
            )
