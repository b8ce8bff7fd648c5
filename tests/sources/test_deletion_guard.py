"""The guard: scripts with a clock that the test moves, then any interleaving of events."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import ImportType, Kind, Object, ServiceImport
from mcsdns.objects.store import ServiceKey, Store
from mcsdns.sources.deletion_guard import DeletionGuard, DeletionGuardSettings
from tests.profiles import examples
from tests.worlds import endpoint_slice, service_import

IMPORT, SLICE = Kind.SERVICE_IMPORT, Kind.ENDPOINT_SLICE
NAMES = [f"s{number}" for number in range(20)]


def key(name: str) -> ServiceKey:
    return ("shop", name)


def web(name: str) -> Object:
    """A ClusterSetIP import, which answers by itself."""
    return service_import(name, ips=["10.0.0.1"])


class World:
    """A store behind a guard, and the store that the same events make without one."""

    def __init__(self, objects: Iterable[Object] = (), **options: Any) -> None:
        self.now_s = 100.0
        self.store, self.plain = Store(), Store()
        self.log: list[str] = []
        self.guard = DeletionGuard(
            self.store,
            DeletionGuardSettings(**({"linger_s": 1.0, "window_s": 10.0} | options)),
            self._report,
        )
        for each in objects:
            self.feed(Apply(each))

    def _report(self, text: str, /, *fields: object) -> None:
        self.log.append(text % fields)

    def give(self, events: Iterable[Event]) -> None:
        for event in list(events):
            self.store.apply(event)

    def feed(self, *events: Event) -> None:
        for event in events:
            self.plain.apply(event)
            if isinstance(event, InitDone):
                for events in self.guard.end_list(event, lambda: self.now_s):
                    self.give(events)
            else:
                self.give(self.guard.take(event, self.now_s))

    def delete(self, *names: str, kind: Kind = IMPORT) -> None:
        self.feed(*[Delete(kind, key(name)) for name in names])

    def replace(self, kind: Kind, objects: Iterable[Object] = ()) -> None:
        """A whole new list."""
        self.feed(Init(kind), *map(InitApply, objects), InitDone(kind))

    def wait(self, seconds: float) -> None:
        """Move the clock, calling `due` as often as it asks for."""
        end_s = self.now_s + seconds
        while (due_s := self.guard.next_due_s) is not None and due_s <= end_s:
            self.now_s = max(self.now_s, due_s)
            self.give(self.guard.due(self.now_s))
        self.now_s = end_s

    def answering(self) -> set[str]:
        return {name for _, name in self.store.imports if answers(self.store, key(name))}

    @property
    def held(self) -> int:
        return self.guard.statistics().held


def answers(store: Store, service: ServiceKey) -> bool:
    found = store.get(service)
    if found is None:
        return False
    return found.imported.type is ImportType.CLUSTER_SET_IP or bool(found.slices)


def contents(store: Store) -> list[dict[Any, Object]]:
    return [{each.key: each for each in store.objects(kind)} for kind in Kind]


def test_a_loss_lingers_and_is_then_followed() -> None:
    world = World(map(web, NAMES))
    world.delete("s0")
    assert len(world.answering()) == 20
    assert world.guard.statistics().lingering == 1
    world.wait(0.9)
    assert len(world.answering()) == 20
    world.wait(0.1)
    assert len(world.answering()) == 19
    assert world.log == []


def test_an_object_that_is_created_anew_in_time_leaves_no_gap_and_no_trace() -> None:
    world = World(map(web, NAMES))
    world.delete("s0")
    world.feed(Apply(web("s0")))
    world.wait(100)
    assert len(world.answering()) == 20
    assert world.guard.next_due_s is None


def test_half_of_the_services_are_followed_and_one_more_is_held() -> None:
    world = World(map(web, NAMES))
    world.delete(*NAMES[:10])
    assert world.held == 0
    world.delete(NAMES[10])
    assert world.held == 11
    assert len(world.answering()) == 20
    world.wait(59.9)
    assert len(world.answering()) == 20
    world.wait(0.1)
    assert world.answering() == set(NAMES[11:])
    assert world.held == 0
    assert len(world.log) == 2
    assert world.log[0].startswith(
        "mass deletion held: 11 of 20 services lost their last answer; the last known answers of "
        "11 services, and of all that are lost meanwhile, stay for 60 s"
    )
    assert "11 services did not come back" in world.log[1]


def test_a_hold_is_readable_while_it_lasts() -> None:
    world = World(map(web, NAMES))
    world.delete(*NAMES[:15])
    found = world.guard.statistics()
    assert (found.held, found.lingering, found.trips) == (15, 0, 1)
    assert found.deadline_s == world.now_s + 60
    assert found.why == "11 of 20 services lost their last answer"
    world.wait(61)
    found = world.guard.statistics()
    assert (found.held, found.deadline_s, found.trips, found.why) == (0, None, 1, "")


def test_fewer_than_the_least_are_never_held() -> None:
    world = World(map(web, NAMES[:9]))
    world.delete(*NAMES[:9])
    world.wait(1)
    assert world.answering() == set()
    assert world.guard.statistics().trips == 0


def test_what_was_followed_within_the_window_is_put_back() -> None:
    world = World(map(web, NAMES))
    for name in NAMES[:10]:
        world.delete(name)
        world.wait(0.95)
    assert len(world.answering()) == 11
    world.delete(NAMES[10])
    assert world.held == 11
    assert len(world.answering()) == 20


def test_what_was_followed_before_the_window_stays_gone() -> None:
    world = World(map(web, NAMES))
    world.delete(*NAMES[:5])
    world.wait(10)
    world.delete(*NAMES[5:15])
    assert world.held == 10
    assert world.answering() == set(NAMES[5:])


def test_an_empty_list_is_held_and_a_further_one_does_not_restart_the_clock() -> None:
    world = World(map(web, NAMES))
    world.replace(IMPORT)
    assert world.held == 20
    world.wait(40)
    world.replace(IMPORT)
    assert len(world.answering()) == 20
    world.wait(20)
    assert world.answering() == set()
    assert len(world.log) == 2


def test_a_list_is_told_with_all_that_it_takes_and_a_watch_with_what_was_too_much() -> None:
    by_list, by_watch = World(map(web, NAMES)), World(map(web, NAMES))
    by_list.replace(IMPORT, map(web, NAMES[15:]))
    by_watch.delete(*NAMES[:15])
    for world, lost in ((by_list, 15), (by_watch, 11)):
        (told,) = world.log
        assert f"held: {lost} of 20 services" in told
        assert f"answers of {lost} services" in told
        found = world.guard.statistics()
        assert (found.held, found.why) == (15, f"{lost} of 20 services lost their last answer")


def test_losses_during_a_hold_join_it_with_its_deadline() -> None:
    world = World(map(web, NAMES))
    world.replace(IMPORT, map(web, NAMES[15:]))
    world.wait(50)
    world.delete(*NAMES[15:])
    assert world.held == 20
    world.wait(9)
    assert len(world.answering()) == 20
    world.wait(1)
    assert world.answering() == set()


def test_a_list_with_a_small_loss_lingers_too() -> None:
    world = World(map(web, NAMES))
    world.replace(IMPORT, map(web, NAMES[3:]))
    assert len(world.answering()) == 20
    world.wait(1)
    assert world.answering() == set(NAMES[3:])


def test_a_list_of_hundreds_is_held() -> None:
    names = [f"n{number}" for number in range(350)]
    slices = [endpoint_slice(name, cluster, ["10.1.0.1"]) for name in names for cluster in "ab"]
    world = World([*map(service_import, names), *slices])
    world.replace(SLICE)
    assert world.held == 350
    assert contents(world.store)[1] == {each.key: each for each in slices}
    world.wait(60)
    assert contents(world.store) == contents(world.plain)


def test_lists_of_single_namespaces_count_together() -> None:
    objects = [
        service_import(f"s{number}", namespace, ips=["10.0.0.1"])
        for number in range(8)
        for namespace in ("a", "b")
    ]
    world = World(objects)
    for namespace in ("a", "b"):
        world.feed(Init(IMPORT, namespace), InitDone(IMPORT, namespace))
    assert world.held == 16


def test_coming_back_cancels_one_by_one_and_the_last_one_ends_the_hold() -> None:
    world = World(map(web, NAMES))
    world.replace(IMPORT)
    world.feed(*[Apply(web(name)) for name in NAMES[1:]])
    assert world.held == 1
    world.feed(Apply(web("s0")))
    assert world.guard.next_due_s is None
    assert world.log[-1] == "mass deletion no longer held: all that was lost is back"
    world.wait(100)
    assert len(world.answering()) == 20


def test_slices_that_go_before_the_last_one_are_put_back_with_it() -> None:
    slices = [endpoint_slice(name, cluster, ["10.1.0.1"]) for name in NAMES for cluster in "ab"]
    world = World([*map(service_import, NAMES), *slices])
    for cluster in "ab":
        world.delete(*[f"{name}-{cluster}" for name in NAMES], kind=SLICE)
        world.wait(0.5)
    assert world.held == 20
    assert contents(world.store)[1] == {each.key: each for each in slices}


def test_a_service_comes_back_with_what_the_source_has_of_it() -> None:
    slices = [endpoint_slice(name, cluster, ["10.1.0.1"]) for name in NAMES for cluster in "ab"]
    world = World([*map(service_import, NAMES), *slices])
    world.replace(SLICE)
    assert world.held == 20
    world.feed(Apply(slices[0]))
    assert world.store.orphans(key("s0")) == (slices[0],)
    assert world.held == 19


def test_a_list_that_brings_a_service_back_takes_nothing_away_before_its_end() -> None:
    slices = [endpoint_slice(name, cluster, ["10.1.0.1"]) for name in NAMES for cluster in "ab"]
    world = World([*map(service_import, NAMES), *slices])
    world.replace(SLICE)
    world.feed(Init(SLICE), InitApply(slices[0]))
    assert len(world.store.orphans(key("s0"))) == 2
    world.feed(InitApply(slices[2]), InitApply(slices[3]), InitDone(SLICE))
    assert world.store.orphans(key("s0")) == (slices[0],)
    assert len(world.store.orphans(key("s1"))) == 2
    assert world.held == 18


def test_endpoints_that_become_unready_are_no_loss() -> None:
    ready = [endpoint_slice(name, "a", ["10.1.0.1"]) for name in NAMES]
    world = World([*map(service_import, NAMES), *ready])
    world.feed(*[Apply(endpoint_slice(name, "a", ["10.1.0.1"], ready=False)) for name in NAMES])
    assert contents(world.store) == contents(world.plain)
    assert world.guard.next_due_s is None


@pytest.mark.parametrize(("slices_matter", "held"), [(False, 0), (True, 20)])
def test_slices_of_clusterset_ips_count_where_addresses_come_from_them(
    slices_matter: bool, held: int
) -> None:
    imports = [
        ServiceImport(
            namespace="shop",
            name=name,
            type=ImportType.CLUSTER_SET_IP,
            ips=(),
            ports=(),
            clusters=(),
            conditions=(),
            uid="",
            resource_version="",
            api_version="",
            creation="",
            origin="",
        )
        for name in NAMES
    ]
    slices = [endpoint_slice(name, "a", ["10.1.0.1"]) for name in NAMES]
    world = World([*imports, *slices], slices_matter=slices_matter)
    world.replace(SLICE)
    assert world.held == held


def test_a_slice_that_comes_back_for_another_service_leaves_the_hold() -> None:
    slices = [endpoint_slice(name, "a", ["10.1.0.1"]) for name in NAMES]
    world = World([*map(service_import, NAMES), *slices])
    world.replace(SLICE)
    world.feed(Apply(endpoint_slice("s1", "a", ["10.1.0.9"], name="s0-a")))
    assert world.held == 18
    assert not answers(world.store, key("s0"))
    world.wait(100)
    assert contents(world.store) == contents(world.plain)


@pytest.mark.parametrize("off", [{"share": 0.0}, {"grace_s": 0.0}])
def test_off_means_that_everything_passes_at_once(off: dict[str, float]) -> None:
    world = World(map(web, NAMES), **off)
    world.replace(IMPORT)
    world.give(world.guard.suspect(world.now_s, "the CRD is gone"))
    assert world.answering() == set()
    assert world.guard.next_due_s is None
    assert world.log == []


def test_a_suspicion_holds_whatever_was_and_is_lost() -> None:
    world = World(map(web, NAMES))
    world.delete("s0")
    world.wait(5)
    assert len(world.answering()) == 19
    world.give(world.guard.suspect(world.now_s, "the CRD serviceimports is gone"))
    assert len(world.answering()) == 20
    assert world.guard.statistics().why == "the CRD serviceimports is gone"
    world.delete("s1")
    world.wait(59)
    assert (world.held, len(world.answering())) == (2, 20)
    world.wait(1)
    assert (world.held, len(world.answering())) == (0, 18)


def test_a_suspicion_gives_a_hold_the_full_grace_time_once() -> None:
    world = World(map(web, NAMES))
    world.replace(IMPORT)
    world.wait(50)
    world.give(world.guard.suspect(world.now_s, "the CRD is gone"))
    world.wait(50)
    world.give(world.guard.suspect(world.now_s, "the CRD is gone"))
    assert len(world.answering()) == 20
    world.wait(10)
    assert world.answering() == set()


def test_a_suspicion_without_any_loss_ends_quietly() -> None:
    world = World(map(web, NAMES))
    world.give(world.guard.suspect(world.now_s, "the CRD is gone"))
    world.wait(60)
    assert world.guard.next_due_s is None
    assert len(world.answering()) == 20


def test_what_counts_as_an_empty_list_is_followed_and_not_held_again() -> None:
    world = World(map(web, NAMES))
    world.delete(*NAMES[:3])
    world.give(world.guard.suspect(world.now_s, "the CRD is gone"))
    world.feed(Init(IMPORT))
    world.plain.apply(InitDone(IMPORT))
    world.give(world.guard.follow(InitDone(IMPORT)))
    assert world.answering() == set()
    assert world.guard.statistics().deadline_s is None
    world.give(world.guard.suspect(world.now_s, "the CRD is gone"))
    assert world.answering() == set()
    world.wait(100)
    assert world.guard.next_due_s is None


def test_due_takes_short_turns() -> None:
    names = [f"n{number}" for number in range(1000)]
    world = World(map(web, names))
    world.replace(IMPORT)
    turns = 0
    world.now_s += 60
    while world.held:
        events = world.guard.due(world.now_s)
        assert 0 < len(events) <= 100
        world.give(events)
        turns += 1
    assert turns == 10
    assert world.answering() == set()


MANY = [f"m{number}" for number in range(10_000)]


class Paced(World):
    """10,000 services behind a guard as it is by default, and what takes or brings them, at a pace.

    Attributes:
        longest: events of the longest turn.
    """

    longest = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(map(web, MANY), window_s=1200.0, linger_s=2.0, **options)

    def give(self, events: Iterable[Event]) -> None:
        events = list(events)
        self.longest = max(self.longest, len(events))
        super().give(events)

    def take_away(self, names: Iterable[str], per_second: float) -> None:
        for name in names:
            self.delete(name)
            self.wait(1 / per_second)

    def bring_back(self, names: Iterable[str], per_second: float) -> int:
        """Returns how few services answered in the meantime."""
        fewest = len(self.store.imports)
        for name in names:
            self.feed(Apply(web(name)))
            self.wait(1 / per_second)
            fewest = min(fewest, len(self.store.imports))
        return fewest


@pytest.mark.parametrize("per_second", [5, 20, 100])
def test_a_deletion_at_any_pace_is_held_and_then_followed(per_second: float) -> None:
    world = Paced()
    world.take_away(MANY, per_second)
    assert world.held == len(MANY)
    assert len(world.answering()) == len(MANY)
    assert world.longest <= 102
    assert len(world.log) == 1
    world.wait(1200)
    assert not world.answering()
    assert world.guard.next_due_s is None
    assert len(world.log) == 2


@pytest.mark.parametrize("per_second", [5, 20, 100])
def test_half_at_any_pace_is_followed_one_by_one_after_lingering(per_second: float) -> None:
    world = Paced()
    world.take_away(MANY[:5000], per_second)
    assert len(world.answering()) <= 5000 + 2 * per_second + 1
    world.wait(2)
    assert len(world.answering()) == 5000
    assert world.log == []


@pytest.mark.parametrize("per_second", [5, 20, 100])
@pytest.mark.parametrize("number", [5100, 10_000])
def test_a_controller_that_comes_back_after_a_minute_finds_everything_there(
    per_second: float, number: int
) -> None:
    world = Paced()
    world.take_away(MANY[:number], per_second)
    assert len(world.answering()) == len(MANY)
    world.wait(60)
    assert world.bring_back(MANY[:number], per_second) == len(MANY)
    world.wait(2000)
    assert len(world.answering()) == len(MANY)
    assert world.log[-1] == "mass deletion no longer held: all that was lost is back"
    assert len(world.log) == 2


def test_a_deleter_that_pauses_for_a_minute_is_counted_on() -> None:
    world = Paced()
    world.take_away(MANY[:4000], 20)
    world.wait(60)
    assert len(world.answering()) == 6000
    world.take_away(MANY[4000:5001], 20)
    assert len(world.answering()) == len(MANY)


def test_a_deletion_without_end_is_followed_in_the_end() -> None:
    world = World(map(web, NAMES), window_s=100.0, least=2)
    world.replace(IMPORT, map(web, NAMES[15:]))
    assert world.held == 15
    for _ in range(29):
        world.feed(Apply(web("s19")))
        world.delete("s19")
        world.wait(10)
    assert world.held == 16
    world.wait(10)
    assert world.answering() == set(NAMES[15:19])


def test_services_that_come_and_go_do_not_count_as_lost() -> None:
    world = World(map(web, NAMES), window_s=1200.0)
    world.delete("s0")
    for number in range(500):
        world.feed(Apply(web(f"job-{number}")))
        world.wait(5)
        world.delete(f"job-{number}")
        world.wait(5)
        assert len(world.answering()) <= 21
    assert world.log == []
    world.delete(*NAMES[1:12])
    assert world.held >= 11
    assert set(NAMES[1:]) <= world.answering()


def test_services_that_are_new_do_not_hide_that_the_old_ones_are_gone() -> None:
    world = Paced()
    for old, new in zip(MANY[:6000], range(6000), strict=True):
        world.feed(Apply(web(f"new-{new}")))
        world.take_away([old], 20)
    assert set(MANY) <= world.answering()


def test_one_that_is_deleted_and_made_anew_all_the_time_is_one_loss() -> None:
    world = World(map(web, NAMES), window_s=1200.0)
    for _ in range(100):
        world.delete("s0")
        world.wait(3)
        assert len(world.answering()) == 19
        world.feed(Apply(web("s0")))
        world.wait(3)
    assert world.log == []


def test_what_is_remembered_of_lost_objects_is_bounded_and_they_count_all_the_same() -> None:
    world = Paced(most_bytes=1 << 20)
    world.take_away(MANY[:5001], 20)
    found = world.guard.statistics()
    assert found.shed > 0
    assert found.held + found.shed == 5001
    assert found.held * 1000 < 1 << 20
    assert len(world.answering()) == 10_000 - found.shed
    assert "more was deleted within 1200 s" in world.log[0]
    assert "(1 MiB)" in world.log[0]
    assert len(world.log) == 2
    world.wait(500)
    assert len(world.answering()) == 4999


def test_slices_that_were_replaced_long_ago_are_not_put_back() -> None:
    old = [endpoint_slice(name, "a", ["10.1.0.1"], name=f"{name}-old") for name in NAMES]
    new = [endpoint_slice(name, "a", ["10.1.0.2"], name=f"{name}-new") for name in NAMES]
    world = World([*map(service_import, NAMES), *old, *new], window_s=1200.0)
    world.delete(*[each.name for each in old], kind=SLICE)
    world.wait(60)
    for each in new:
        world.delete(each.name, kind=SLICE)
        world.wait(3)
    assert len(world.answering()) == 20
    assert {each.key for each in world.store.objects(SLICE)} == {each.key for each in new}


SERVICES = [f"s{number}" for number in range(6)]
_imports = st.builds(
    lambda name, headless, version: service_import(
        name, ips=[] if headless else ["10.0.0.1"], resourceVersion=version
    ),
    st.sampled_from(SERVICES),
    st.booleans(),
    st.sampled_from("12"),
)
_imports_of_one_type = st.builds(
    lambda name, version: service_import(
        name, ips=["10.0.0.1"] if name in SERVICES[:3] else [], resourceVersion=version
    ),
    st.sampled_from(SERVICES),
    st.sampled_from("12"),
)
_slices = st.builds(
    lambda name, cluster, address: endpoint_slice(name, cluster, [f"10.1.0.{address}"]),
    st.sampled_from(SERVICES),
    st.sampled_from("ab"),
    st.integers(1, 2),
)
_moving = st.builds(
    lambda name, owner: endpoint_slice(owner, "a", ["10.1.0.1"], name=f"{name}-a"),
    st.sampled_from(SERVICES),
    st.sampled_from(SERVICES),
)
_world = [
    *[service_import(name, ips=["10.0.0.1"]) for name in SERVICES[:3]],
    *map(service_import, SERVICES[3:]),
    *[endpoint_slice(name, cluster, ["10.1.0.1"]) for name in SERVICES for cluster in "ab"],
]


def _steps(thing: st.SearchStrategy[Object]) -> st.SearchStrategy[list[Any]]:
    deletion = st.builds(lambda each: Delete(_kind(each), each.key), thing)
    listing = st.tuples(st.sampled_from(Kind), st.lists(thing, max_size=12))
    wait = st.sampled_from([0.0, 0.2, 0.5, 1.0, 3.0, 9.0, 30.0])
    suspicion = st.just("suspect")
    return st.lists(
        st.builds(Apply, thing) | deletion | deletion | listing | wait | suspicion, max_size=40
    )


def _kind(each: Object) -> Kind:
    return IMPORT if isinstance(each, ServiceImport) else SLICE


def _play(world: World, step: Any) -> None:
    match step:
        case float():
            world.wait(step)
        case "suspect":
            world.give(world.guard.suspect(world.now_s, "tested"))
        case (kind, objects):
            shown = [each for each in objects if _kind(each) is kind]
            world.replace(kind, shown)
        case _:
            world.feed(step)


@examples(200)
@given(_steps(_imports | _slices | _moving), st.sampled_from([0.0, 1.0, 5.0]))
def test_after_a_quiet_time_the_store_is_what_it_were_without_a_guard(
    steps: list[Any], linger_s: float
) -> None:
    world = World(_world, least=2, linger_s=linger_s)
    for step in steps:
        _play(world, step)
    world.wait(60.0 + 10.0)
    assert contents(world.store) == contents(world.plain)
    assert world.guard.next_due_s is None
    found = world.guard.statistics()
    assert (found.held, found.lingering, found.deadline_s) == (0, 0, None)


@examples(200)
@given(_steps(_imports_of_one_type | _slices))
def test_the_store_never_holds_less_than_the_source_and_no_held_service_lacks_an_answer(
    steps: list[Any],
) -> None:
    world = World(_world, least=2)
    for step in steps:
        before = {each for each in map(key, SERVICES) if answers(world.store, each)}
        _play(world, step)
        for now, plain in zip(contents(world.store), contents(world.plain), strict=True):
            assert plain.items() <= now.items()
        answering = sum(answers(world.store, each) for each in map(key, SERVICES))
        by_source = sum(answers(world.plain, each) for each in map(key, SERVICES))
        assert answering >= by_source + world.held
        if not isinstance(step, float) and isinstance(step, Delete | tuple):
            assert before <= {each for each in map(key, SERVICES) if answers(world.store, each)}


@examples(100)
@given(_steps(_imports | _slices | _moving))
def test_what_is_too_little_is_followed_after_lingering(steps: list[Any]) -> None:
    world = World(_world, least=len(SERVICES) + 1)
    for step in steps:
        if step != "suspect":
            _play(world, step)
    assert world.log == []
    world.wait(1.0)
    assert contents(world.store) == contents(world.plain)
