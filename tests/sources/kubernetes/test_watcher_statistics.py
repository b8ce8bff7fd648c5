"""What a follower of an API server counts, for metrics."""

from pathlib import Path

import pytest

from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes.reflector import Trouble
from mcsdns.sources.kubernetes.watcher import Statistics
from tests.scripted.api import FakeApi
from tests.scripted.followed import Clock, Followed, endpoint_slice, service_import
from tests.scripted.history import ENDPOINT_SLICE, SERVICE_IMPORT
from tests.sources.kubernetes.test_source import api, hear_again, timing

__all__ = ["api"]


def of(followed: Followed, kind: Kind = Kind.ENDPOINT_SLICE) -> Statistics:
    (found,) = (each for each in followed.source.statistics().watches if each.kind is kind)
    return found


async def test_ages_are_none_while_watches_are_open(api: FakeApi, tmp_path: Path) -> None:
    clock = Clock()
    async with Followed(api, tmp_path, timing=timing(clock=clock)) as followed:
        await followed.synced()
        clock.moved_s += 1000
        assert of(followed).heard_age_s >= 1000
        assert of(followed).known_age_s == 0
        await hear_again(followed)
        assert of(followed).heard_age_s < 1000


async def test_what_was_known_grows_old_without_a_connection(api: FakeApi, tmp_path: Path) -> None:
    clock = Clock()
    async with Followed(api, tmp_path, timing=timing(clock=clock)) as followed:
        await followed.synced()
        await api.refuse()
        await followed.until(lambda: Trouble.LOST in of(followed).troubles)
        assert not of(followed).connected
        clock.moved_s += 1000
        assert of(followed).known_age_s >= 1000
        assert of(followed).heard_age_s >= 1000


async def test_watches_that_end_in_order_are_counted_apart(api: FakeApi, tmp_path: Path) -> None:
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert of(followed).ended == 0
        api.end_watches()
        await followed.until(lambda: of(followed).ended == 1)
        await hear_again(followed)
        assert of(followed).troubles == {}


async def test_objects_with_something_wrong_are_counted_by_reason(
    api: FakeApi, tmp_path: Path
) -> None:
    ports = [{"name": "UPPER", "port": 1}, {"name": "TWICE", "port": 2}]
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        api.put(endpoint_slice("ill", "web", "10.0.0.1", ports=ports))
        api.put(endpoint_slice("also", "web", "10.0.0.300", ports=ports))
        await followed.until(lambda: len(of(followed).skipped) == 2)
        assert of(followed).skipped == {"bad_port": 2, "bad_address": 1}
        api.put(endpoint_slice("ill", "web", "10.0.0.1"))
        api.delete(ENDPOINT_SLICE, "shop", "also")
        await followed.until(lambda: not of(followed).problems)
        assert of(followed).skipped == {"bad_port": 0, "bad_address": 0}


@pytest.mark.parametrize("kind", [SERVICE_IMPORT, ENDPOINT_SLICE])
async def test_an_object_that_went_between_two_lists_is_wrong_no_more(
    api: FakeApi, tmp_path: Path, kind: str
) -> None:
    wrong = {
        SERVICE_IMPORT: service_import("ill", type="None"),
        ENDPOINT_SLICE: endpoint_slice("ill", "web", "10.0.0.300"),
    }
    stays = {
        SERVICE_IMPORT: service_import("stays", type="None"),
        ENDPOINT_SLICE: endpoint_slice("stays", "web", "10.0.0.300"),
    }
    api.put(wrong[kind])
    api.put(stays[kind])
    async with Followed(api, tmp_path) as followed:
        await followed.synced()
        assert of(followed, Kind(kind)).problems == 2
        for watch in api.watches:
            watch.silence()
        api.delete(kind, "shop", "ill")
        api.compact()
        api.reset_connections()
        await followed.until(lambda: of(followed, Kind(kind)).problems == 1)
        assert of(followed, Kind(kind)).lists == 2
        assert sum(of(followed, Kind(kind)).skipped.values()) == 1
