"""How long changes take from their cluster to our answers, measured by the feed."""

import asyncio
import logging

import msgspec

from mcsdns.config import Settings
from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object
from mcsdns.server.zone_state import Statistics, UpdateQueue, ZoneState
from mcsdns.sources.deletion_guard import DeletionGuard, DeletionGuardSettings
from tests.waiting import until
from tests.worlds import endpoint_slice, service_import

NOW_S = 1_700_000_000.0
DB = service_import("db")


def slice_of(triggered_s: float, *addresses: str, name: str = "db-eu", **fields: str) -> Object:
    piece = endpoint_slice("db", "eu", addresses or ["10.1.0.1"], name=name)
    return msgspec.structs.replace(piece, triggered_s=triggered_s, **fields)


class Fed:
    """A feed whose Unix time a test sets."""

    def __init__(self) -> None:
        self.now_s = NOW_S
        self.world = ZoneState(Settings().zone_settings())
        self.feed = UpdateQueue(self.world, (), clock=lambda: self.now_s)

    async def sync(self, *objects: Object) -> "Fed":
        """Show a first list."""
        for kind in Kind:
            self.feed.apply(Init(kind))
        for each in objects:
            self.feed.apply(InitApply(each))
        for kind in Kind:
            self.feed.apply(InitDone(kind))
        await self.feed.synced.wait()
        return self

    async def take(self, *events: Event) -> Statistics:
        """Take events, wait until all is published, and return what was measured."""
        for event in events:
            self.feed.apply(event)
        await until(lambda: not self.world.publisher.pending)
        await asyncio.sleep(0)
        return self.feed.statistics()


async def test_a_change_is_measured_when_its_answer_is_published() -> None:
    fed = await Fed().sync(DB, slice_of(NOW_S - 50))
    seen = await fed.take(Apply(slice_of(NOW_S - 2, "10.1.0.2")))
    assert (seen.programming.count, seen.programming.sum) == (1, 2.0)
    assert (seen.undated, seen.negative) == (0, 0)


async def test_a_new_slice_is_measured() -> None:
    fed = await Fed().sync(DB)
    seen = await fed.take(Apply(slice_of(NOW_S - 3)))
    assert (seen.programming.count, seen.programming.sum) == (1, 3.0)


async def test_nothing_is_measured_before_it_is_published() -> None:
    fed = await Fed().sync(DB)
    fed.feed.apply(Apply(slice_of(NOW_S - 1)))
    assert fed.feed.statistics().programming.count == 0
    assert fed.feed.statistics().waiting == 1
    fed.now_s += 4
    seen = await fed.take()
    assert (seen.waiting, seen.programming.count, seen.programming.sum) == (0, 1, 5.0)


async def test_the_first_list_and_re_lists_are_not_measured() -> None:
    fed = await Fed().sync(DB, slice_of(NOW_S - 50))
    again = slice_of(NOW_S - 1, "10.1.0.2")
    kind = Kind.ENDPOINT_SLICE
    seen = await fed.take(Init(kind), InitApply(again), InitDone(kind))
    assert (seen.programming.count, seen.undated) == (0, 0)
    assert fed.world.store.object(kind, again.key) == again


async def test_what_a_watch_shows_before_the_sync_is_not_measured() -> None:
    fed = Fed()
    fed.feed.apply(Apply(slice_of(NOW_S - 1)))
    await fed.sync(DB)
    seen = await fed.take()
    assert (seen.programming.count, seen.undated) == (0, 0)


async def test_an_unchanged_trigger_time_is_not_measured_again() -> None:
    fed = await Fed().sync(DB, slice_of(NOW_S - 50))
    seen = await fed.take(Apply(slice_of(NOW_S - 50, "10.1.0.2", resource_version="9")))
    assert (seen.programming.count, seen.undated) == (0, 0)


async def test_a_change_that_alters_no_answer_is_measured_all_the_same() -> None:
    fed = await Fed().sync(DB, slice_of(NOW_S - 50))
    seen = await fed.take(Apply(slice_of(NOW_S - 1)))
    assert seen.programming.count == 1


async def test_every_change_of_a_service_is_measured() -> None:
    fed = await Fed().sync(DB)
    seen = await fed.take(
        Apply(slice_of(NOW_S - 1)), Apply(slice_of(NOW_S - 2, "10.1.0.9", name="db-us"))
    )
    assert (seen.programming.count, seen.programming.sum) == (2, 3.0)


async def test_a_slice_that_does_not_say_when_is_counted() -> None:
    fed = await Fed().sync(DB)
    seen = await fed.take(Apply(slice_of(0.0)), Apply(slice_of(0.0, "10.1.0.2")))
    assert (seen.programming.count, seen.undated) == (0, 2)


async def test_a_time_ahead_of_our_clock_counts_as_none_and_apart() -> None:
    fed = await Fed().sync(DB)
    seen = await fed.take(Apply(slice_of(NOW_S + 30)))
    assert (seen.programming.count, seen.programming.sum, seen.negative) == (1, 0.0, 1)


async def test_slices_that_no_answer_is_made_of_are_not_measured() -> None:
    """Without an import, malformed, or out of a file, which says when somebody wrote it."""
    fed = await Fed().sync(DB)
    other = endpoint_slice("web", "eu", ["10.2.0.1"])
    seen = await fed.take(
        Apply(msgspec.structs.replace(other, triggered_s=NOW_S - 1)),
        Apply(slice_of(NOW_S - 1, malformed="no cluster")),
        Apply(slice_of(NOW_S - 1, name="filed", origin="a.yaml:1")),
        Apply(slice_of(0.0, name="undated", origin="a.yaml:9")),
        Delete(Kind.ENDPOINT_SLICE, ("shop", "db-eu")),
    )
    assert (seen.programming.count, seen.undated) == (0, 0)


async def test_what_the_guard_puts_back_is_no_news() -> None:
    fed = await Fed().sync()
    settings = DeletionGuardSettings(least=2, linger_s=1.0)
    guard = DeletionGuard(fed.world.store, settings, logging.getLogger("guard").warning)
    pieces = [
        msgspec.structs.replace(endpoint_slice(name, "eu", ["10.1.0.1"]), triggered_s=NOW_S - 500)
        for name in ("one", "two", "three")
    ]
    await fed.take(*(Apply(service_import(name)) for name in ("one", "two", "three")))
    await fed.take(*map(InitApply, pieces))
    for number, piece in enumerate(pieces):
        removal = Delete(Kind.ENDPOINT_SLICE, piece.key)
        await fed.take(*guard.take(removal, 0.0 + 2.0 * number))
        await fed.take(*guard.due(1.5 + 2.0 * number))
    assert guard.statistics().held >= 2
    assert fed.world.store.statistics().endpoint_slices >= 2
    assert fed.feed.statistics().programming.count == 0
