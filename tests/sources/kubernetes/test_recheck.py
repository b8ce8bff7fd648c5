"""What a watch missed is found again: by the theory of `recheck`, and from an API server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcsdns.objects.events import Apply, Delete
from mcsdns.objects.model import Kind
from mcsdns.sources.deletion_guard import DeletionGuardSettings
from mcsdns.sources.kubernetes.recheck import Recheck
from mcsdns.sources.kubernetes.reflector import Gone, Shown
from tests import worlds
from tests.scripted import FakeApi, faults, wire
from tests.scripted.faults import LIST, PAGE
from tests.scripted.followed import QUICK, Followed, endpoint_slice, service_import

IMPORT = Kind.SERVICE_IMPORT


def shown(name: str, version: str, address: str = "10.0.0.1") -> Shown:
    thing = worlds.service_import(name, ips=[address], resourceVersion=version)
    return Shown(("shop", name), thing, version)


def names(events: list[Apply | Delete]) -> list[tuple[str, str]]:
    told = [
        (type(each).__name__, (each.key if isinstance(each, Delete) else each.object.key)[1])
        for each in events
    ]
    return sorted(told)


def run(*seen: Shown, **known: str) -> Recheck:
    made = Recheck(IMPORT, {("shop", name): version for name, version in known.items()}, "10")
    for each in seen:
        made.see(each)
    return made


def test_equal_versions_cost_nothing() -> None:
    assert run(shown("a", "3"), shown("b", "4"), a="3", b="4").settle("12") == []


def test_what_was_missed_is_told() -> None:
    found = run(shown("new", "11"), shown("changed", "12"), changed="4", gone="5").settle("12")
    assert names(found) == [("Apply", "changed"), ("Apply", "new"), ("Delete", "gone")]


def test_what_the_watch_tells_meanwhile_outranks_the_list() -> None:
    made = run(shown("a", "11"), shown("b", "4"), a="3", b="4", c="5")
    assert not made.tell(shown("a", "14"))
    assert not made.tell(Gone(("shop", "b"), "15"))
    assert not made.tell(shown("c", "16"))
    assert made.settle("12") == []


def test_lines_that_the_list_has_overtaken_are_old() -> None:
    made = run(shown("a", "12"), a="3", b="4")
    assert names(made.settle("14")) == [("Apply", "a"), ("Delete", "b")]
    assert made.tell(shown("a", "11"))
    assert made.tell(shown("b", "13"))
    assert made.tell(Gone(("shop", "b"), "14"))
    assert not made.tell(shown("b", "15"))
    assert made.is_told(("shop", "b"))
    assert not made.tell(Gone(("shop", "b"), "16"))


def test_a_key_that_was_told_before_is_told_on() -> None:
    made = run(a="3")
    assert not made.tell(shown("a", "11"))
    assert made.settle("14") == []
    assert not made.tell(Gone(("shop", "a"), "13"))


def test_a_list_from_before_what_is_known_proves_nothing() -> None:
    made = run(shown("a", "2"), a="3", b="4")
    assert made.settle("9") == []
    assert not made.tell(shown("a", "5"))


def test_a_rejected_object_is_gone_from_what_is_served() -> None:
    bad = Shown(("shop", "a"), None, "11")
    assert names(run(bad, a="3").settle("12")) == [("Delete", "a")]
    assert run(bad).settle("12") == []


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with FakeApi() as served:
        served.put(service_import("web", ips=["10.0.0.1"]))
        served.put(service_import("db"))
        served.put(endpoint_slice("db-eu", "db", "10.1.0.1"))
        yield served


def timing(**waits: Any) -> Any:
    return msgspec.structs.replace(QUICK, **({"recheck_s": 0.05, "doubt_s": 0.01} | waits))


async def test_an_event_that_was_left_out_is_found_by_a_list(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path, timing=timing()) as followed:
        await followed.until(lambda: followed.store.get(("shop", "db")) is not None, "db")
        api.history.put(service_import("lost", ips=["10.0.0.2"]))
        api.history.put(endpoint_slice("db-us", "db", "10.1.0.2"))
        await followed.until(
            lambda: (
                ("shop", "lost") in followed.store.imports
                and len(followed.store.orphans(("shop", "db"))) == 2
            ),
            "what was left out",
        )
        api.history.delete(("ServiceImport", "shop", "lost"))
        await followed.until(
            lambda: ("shop", "lost") not in followed.store.imports, "what was deleted unseen"
        )


async def test_an_odd_number_of_objects_starts_a_list(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path, timing=timing(recheck_s=3600.0)) as followed:
        await followed.synced()
        api.history.put(service_import("lost", ips=["10.0.0.2"]))
        api.put(service_import("next", ips=["10.0.0.3"]))
        api.end_watches()
        await followed.until(lambda: "lost" in followed.names(), "what was left out")


async def test_a_storage_restored_and_grown_past_our_version_is_found(
    api: FakeApi, tmp_path: Path
) -> None:
    async with Followed(api, tmp_path, timing=timing(recheck_s=3600.0)) as followed:
        await followed.synced()
        version = api.version
        for number in range(3):
            api.put(service_import("gone", ips=[f"10.0.1.{number}"]))
        await followed.equal()
        await api.refuse()
        api.restore(version)
        for number in range(6):
            api.put(service_import(f"fresh-{number}", ips=["10.0.2.9"]))
        await api.accept()
        await followed.equal()


async def test_an_api_server_that_is_busy_is_left_alone(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path, timing=timing()) as followed:
        await followed.synced()
        busy = api.fault(faults.Reply(429, wire.too_many_requests(0.01)), LIST, times=3)
        api.history.put(service_import("lost", ips=["10.0.0.2"]))
        await followed.until(lambda: busy.used == 3, "three refusals")
        await followed.equal()


async def test_what_a_list_takes_away_goes_through_the_guard(api: FakeApi, tmp_path: Path) -> None:
    for number in range(20):
        api.put(service_import(f"s{number}", ips=["10.0.0.1"]))
    guard = DeletionGuardSettings()
    async with Followed(api, tmp_path, timing=timing(), guard=guard) as followed:
        await followed.synced()
        for number in range(20):
            api.history.delete(("ServiceImport", "shop", f"s{number}"))
        await followed.until(lambda: followed.source.statistics().guard.held >= 20, "a hold")
        assert {f"s{number}" for number in range(20)} <= followed.names()


async def test_without_an_interval_nothing_is_listed_twice(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.history.put(service_import("lost", ips=["10.0.0.2"]))
        api.end_watches()
        await followed.until(lambda: followed.is_connected, "watches")
        assert not followed.asked(LIST, PAGE)
