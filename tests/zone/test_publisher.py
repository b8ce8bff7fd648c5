"""Any way through the events ends in the same zone as a fresh start."""

import itertools
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.config import Settings
from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object, ServiceImport
from mcsdns.objects.store import Service
from mcsdns.server.zone_state import ZoneState
from mcsdns.zone import publisher, records
from mcsdns.zone.tree import labels_of_key
from tests.profiles import examples
from tests.worlds import endpoint_slice, service_import, world_of

SERVICES = ["web", "db", "api"]
NAMESPACES = ["shop", "lab"]
CLUSTERS = ["eu", "us", "eu.lab"]


def kind_of(each: Object) -> Kind:
    return Kind.SERVICE_IMPORT if isinstance(each, ServiceImport) else Kind.ENDPOINT_SLICE


@st.composite
def objects(draw: st.DrawFn) -> Object:
    name, namespace = draw(st.sampled_from(SERVICES)), draw(st.sampled_from(NAMESPACES))
    if draw(st.booleans()):
        ips = draw(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), max_size=2))
        return service_import(name, namespace, ips=ips, ports=[("http", 80)])
    return endpoint_slice(
        name,
        draw(st.sampled_from(CLUSTERS)),
        draw(st.lists(st.sampled_from(["10.1.0.1", "10.1.0.2", "10.1.0.3"]), max_size=3)),
        namespace,
        hostnames=draw(st.booleans()),
        ready=draw(st.booleans()),
        name=draw(st.sampled_from(["s-0", "s-1", "s-2"])),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[Object]]:
    """Events of any kind in any order, and the objects that there are in the end."""
    events: list[Event] = []
    truth: dict[tuple[Kind, tuple[str, str]], Object] = {}
    for _ in range(draw(st.integers(0, 25))):
        match draw(st.sampled_from(["apply", "apply", "delete", "list", "broken list"])):
            case "apply":
                each = draw(objects())
                truth[kind_of(each), each.key] = each
                events.append(Apply(each))
            case "delete" if truth:
                kind, key = draw(st.sampled_from(sorted(truth)))
                del truth[kind, key]
                events.append(Delete(kind, key))
            case "list":
                kind = draw(st.sampled_from(Kind))
                listed = {
                    each.key: each for each in draw(st.lists(objects())) if kind_of(each) is kind
                }
                events += [Init(kind), *map(InitApply, listed.values()), InitDone(kind)]
                truth = {where: each for where, each in truth.items() if where[0] is not kind}
                truth |= {(kind, key): each for key, each in listed.items()}
            case "broken list":
                kind = draw(st.sampled_from(Kind))
                known = [each for where, each in truth.items() if where[0] is kind]
                seen = draw(st.lists(st.sampled_from(known), unique_by=id)) if known else []
                events += [Init(kind), *map(InitApply, seen)]
            case _:
                pass
    return events, list(truth.values())


def zone_of(world: ZoneState) -> dict[Any, Any]:
    keys = list(itertools.product(NAMESPACES, SERVICES))
    services: dict[Any, Any] = {key: world.tree.services.get(labels_of_key(key)) for key in keys}
    namespaces = {
        name: bytes((len(name),)) + name.encode() in world.tree.namespaces for name in NAMESPACES
    }
    return services | namespaces | {"count": len(world.tree.services)}


def names_in(each: dict[Any, Any]) -> Iterable[Any]:
    return [service for service in each.values() if service]


@examples(200)
@given(histories(), st.data())
def test_any_interleaving_ends_in_the_same_zone_as_a_fresh_start(
    history: tuple[list[Event], list[Object]], data: st.DataObject
) -> None:
    events, truth = history
    world = ZoneState(Settings().zone_settings())
    with patch.object(records, "STEP", 1):
        for event in events:
            world.publisher.apply(event)
            for _ in itertools.islice(world.publisher.publish(), data.draw(st.integers(0, 9))):
                pass
    for kind in Kind:  # a broken list is followed by a whole one
        world.publisher.apply(Init(kind))
        for each in truth:
            if kind_of(each) is kind:
                world.publisher.apply(InitApply(each))
        world.publisher.apply(InitDone(kind))
    world.publish_all(1)
    assert zone_of(world) == zone_of(world_of(truth))


@examples(100)
@given(histories())
def test_a_history_without_a_last_list_ends_the_same(
    history: tuple[list[Event], list[Object]],
) -> None:
    events, truth = history
    world = ZoneState(Settings().zone_settings())
    for event in events:
        world.publisher.apply(event)
    world.publish_all(1)
    assert zone_of(world) == zone_of(world_of(truth))


def test_a_large_service_is_rebuilt_in_many_steps_and_answers_as_before_until_the_last() -> None:
    def large(last: int) -> Object:
        return endpoint_slice(
            "db", "eu", [f"10.1.{each >> 8}.{each & 255}" for each in range(last)]
        )

    def own(world: ZoneState) -> int:
        return len(world.tree.services[b"\x02db\x04shop"].names[b""].a)

    world = world_of([service_import("db"), large(1000)])
    world.publisher.apply(Apply(large(990)))
    steps = world.publisher.publish()
    for _ in range(60):  # 990 endpoints, and as many names twice
        assert next(steps) == ()
    assert own(world) == 1000
    world.publisher.apply(Apply(large(980)))
    assert world.publisher.pending == 2
    assert next(filter(None, world.publisher.publish())) == (b"\x02db\x04shop",)
    assert own(world) == 990
    assert world.publish_all(2) == [b"\x02db\x04shop"]
    assert own(world) == 980
    assert not world.publisher.pending


def test_services_that_come_out_equal_are_steps_too() -> None:
    names = [f"s{number}" for number in range(10)]
    world = world_of([service_import(name, ips=["10.0.0.1"]) for name in names])
    for name in names:
        again = service_import(name, ips=["10.0.0.1"], resourceVersion="2")
        world.publisher.apply(Apply(again))
    assert list(world.publisher.publish()) == [()] * 10


def test_only_owners_whose_answers_changed_are_told() -> None:
    world = world_of([service_import("web", ips=["10.0.0.1"]), service_import("db")])
    world.publisher.apply(Apply(service_import("web", ips=["10.0.0.1"], resourceVersion="2")))
    assert world.publish_all(2) == []
    world.publisher.apply(Apply(service_import("web", ips=["10.0.0.2"])))
    assert world.publish_all(2) == [b"\x03web\x04shop"]


def test_the_last_service_takes_its_namespace_along() -> None:
    world = world_of([service_import("web", ips=["10.0.0.1"])])
    world.publisher.apply(Delete(Kind.SERVICE_IMPORT, ("shop", "web")))
    assert world.publish_all(2) == [b"\x03web\x04shop", b"\0\x04shop"]
    assert b"\x04shop" not in world.tree.namespaces


def test_serial_is_the_time_but_never_goes_back_and_steps_once_a_second() -> None:
    world = ZoneState(Settings().zone_settings())
    publisher = world.publisher
    assert publisher.step_serial(1000) is False
    assert publisher.serial == 1000
    steps = [
        (1000, True, 1000),
        (1001, False, 1001),
        (900, False, 1002),
        (900, True, 1002),
        (901, False, 1003),
        (5000, False, 5000),
    ]
    for number, (now, waits, serial) in enumerate(steps):
        if number != 4:
            publisher.apply(Apply(service_import("web", ips=[f"10.0.0.{number}"])))
            list(publisher.publish())
        assert publisher.step_serial(now) is waits
        assert publisher.serial == serial


def test_serial_stays_while_nothing_changes() -> None:
    world = world_of([])
    serial = world.publisher.serial
    assert world.publisher.step_serial(1_900_000_000) is False
    assert world.publisher.serial == serial


def test_a_fault_in_one_service_keeps_no_other_from_being_published(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = world_of([service_import("web", ips=["10.0.0.1"]), service_import("db")])
    before = world.tree.services[labels_of_key(("shop", "web"))]
    build = publisher.node_of

    def fail(service: Service, *given: Any, **named: Any) -> Any:
        if service.imported.name == "web":
            raise UnicodeError("odd")
        return build(service, *given, **named)

    monkeypatch.setattr(publisher, "node_of", fail)
    for name in ("web", "api"):
        world.apply(Apply(service_import(name, ips=["10.0.0.2"])))
    world.publish_all(1)
    assert world.tree.services[labels_of_key(("shop", "web"))] is before
    assert labels_of_key(("shop", "api")) in world.tree.services
    assert "ServiceImport shop/web: $: a fault of mcsdns, UnicodeError('odd')" in caplog.text
