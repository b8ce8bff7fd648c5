"""The list of services: what is found, what is said of each, and how much is done at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mcsdns.objects.events import Delete, InitApply
from mcsdns.objects.model import Kind
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.timeslice import Timeslice
from mcsdns.web.services import ListOptions, ServicePage, list_services
from tests.diagnostics.explain.shop_world import SHOP, Explained
from tests.web.standin import StandIn, application, apply_all
from tests.worlds import endpoint_slice, service_import, world_of


@pytest.fixture(scope="module")
def shop() -> ZoneState:
    return Explained(SHOP)


@pytest.fixture(scope="module")
def many() -> ZoneState:
    """20,000 services, every third of them headless with two slices."""
    objects = []
    for number in range(20_000):
        name, namespace = f"svc-{number}", f"ns-{number % 200}"
        if number % 3:
            objects.append(service_import(name, namespace, ["10.96.0.1"], [("http", 80)]))
            continue
        objects.append(service_import(name, namespace))
        objects += [
            endpoint_slice(name, cluster, ["10.0.0.1", "10.0.0.2"], namespace)
            for cluster in ("eu", "us")
        ]
    return world_of(objects)


class Steps(Timeslice):
    """Ends a slice at every checkpoint, and counts them."""

    count = 0

    async def checkpoint(self) -> None:
        self.count += 1
        await asyncio.sleep(0)


def found(world: ZoneState, **wanted: Any) -> ServicePage:
    """Do all the work at once."""
    return rest_of(list_services(world, ListOptions(**wanted), Steps()))


def rest_of(work: Coroutine[Any, Any, ServicePage]) -> ServicePage:
    """Do what is left of the work; it waits for nothing but its turns."""
    while True:
        try:
            work.send(None)
        except StopIteration as done:
            page: ServicePage = done.value
            return page


def names(page: ServicePage) -> list[str]:
    return [f"{each.namespace}/{each.name}" for each in page.services]


def test_services_are_in_order_of_namespace_and_name(shop: ZoneState) -> None:
    page = found(shop)
    assert names(page)[:3] == ["bank/ledger", "shop/bare", "shop/cold"]
    assert names(page) == sorted(names(page))
    assert page.total == page.matched == len(page.services)
    assert page.next == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", ["shop/web"]),
        ("shop/web", ["shop/web"]),
        ("web.shop", ["shop/web"]),
        ("WEB.Shop.svc.clusterset.local.", ["shop/web"]),
        ("web.shop.svc", ["shop/web"]),
        ("bank led", ["bank/ledger"]),
        ("bank/", ["bank/ledger"]),
        ("nosuch", []),
        ("<script>", []),
        ("  ", None),
    ],
)
def test_search(shop: ZoneState, text: str, expected: list[str] | None) -> None:
    page = found(shop, text=text)
    assert names(page) == (names(found(shop)) if expected is None else expected)
    assert page.matched == len(page.services)


def test_pages_follow_each_other_without_gap(many: ZoneState) -> None:
    seen: list[str] = []
    after = None
    while True:
        page = found(many, text="ns-17/", limit=30, after=after)
        seen += names(page)
        if not page.next:
            break
        namespace, _, name = page.next.partition("/")
        after = (namespace, name)
    assert len(seen) == len(set(seen)) == page.matched == 100
    assert seen == sorted(seen)


def test_service_that_comes_between_pages_disturbs_none(shop: ZoneState) -> None:
    world = Explained(SHOP)
    first = found(world, limit=3)
    apply_all(world, [InitApply(service_import("aaa", "aaa", ["10.0.0.1"]))])
    second = found(world, limit=3, after=tuple(first.next.split("/")))
    assert names(first) + names(second) == names(found(shop))[:6]


def test_service_that_goes_while_it_is_listed_is_left_out() -> None:
    world = Explained(SHOP)
    work = list_services(world, ListOptions(), Steps())
    work.send(None)
    apply_all(world, [Delete(Kind.SERVICE_IMPORT, ("shop", "web"))])
    page = rest_of(work)
    assert "shop/web" not in names(page)
    assert "shop/db" in names(page)


def row(world: ZoneState, text: str) -> Any:
    (only,) = found(world, text=text).services
    return only


def test_clusterset_ip_service_has_its_address_and_ports(shop: ZoneState) -> None:
    web = row(shop, "shop/web")
    assert (web.type, list(web.ips), web.resolves) == ("ClusterSetIP", ["10.96.1.10"], True)
    assert [(port.name, port.number) for port in web.ports] == [
        ("http", 80),
        ("metrics", 9100),
        ("", 9200),
    ]
    assert (web.fqdn, web.asked) == ("web.shop.svc.clusterset.local.", "A")
    assert list(web.troubles) == []


def test_service_with_ipv6_addresses_only_is_asked_for_those(shop: ZoneState) -> None:
    assert row(shop, "ledger").asked == "AAAA"


def test_headless_service_counts_its_endpoints_by_cluster(shop: ZoneState) -> None:
    db = row(shop, "shop/db")
    assert [(each.id, each.slices, each.ready, each.endpoints) for each in db.clusters] == [
        ("cluster-a", 1, 2, 4),
        ("cluster-b", 1, 1, 1),
        ("cluster-z", 0, 0, 0),
    ]
    assert (db.ready, db.endpoints) == (3, 5)
    assert [port.name for port in db.ports] == ["mysql", "admin"]


@pytest.mark.parametrize(
    ("service", "trouble"),
    [
        ("shop/db", "no EndpointSlice of cluster-z, though its status names it"),
        ("shop/db", "EndpointSlice db-lost is not served: label multicluster"),
        ("shop/pending", "no address: spec.ips has none"),
        ("shop/pending", "Ready is False (Pending: no derived Service yet)"),
        ("shop/cold", "no ready endpoint, so the name does not exist"),
        ("shop/lost", "EndpointSlice lost-a is not served: addressType FQDN"),
    ],
)
def test_trouble_is_said(shop: ZoneState, service: str, trouble: str) -> None:
    assert any(each.startswith(trouble) for each in row(shop, service).troubles)


def test_only_those_in_trouble(shop: ZoneState) -> None:
    page = found(shop, troubled=True)
    assert names(page) == [
        f"shop/{name}" for name in ("bare", "cold", "db", "empty", "lost", "pending")
    ]
    assert page.matched == 6
    assert page.total > 6


def test_ports_that_clusters_disagree_on_are_a_conflict() -> None:
    world = world_of(
        [
            service_import("db"),
            endpoint_slice("db", "eu", ["10.0.0.1"], ports=[("sql", 3306)]),
            endpoint_slice("db", "us", ["10.1.0.1"], ports=[("sql", 3307)]),
        ]
    )
    assert list(row(world, "db").troubles) == ["port sql is 3306/tcp in eu and 3307/tcp in us"]


CONDITIONS = """
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {name: web, namespace: shop}
spec: {type: ClusterSetIP, ips: [10.96.1.10]}
status:
  conditions:
"""


@pytest.mark.parametrize(
    ("condition", "is_bad"),
    [
        ('{type: Ready, status: "True"}', False),
        ('{type: Ready, status: "False"}', True),
        ("{type: Ready, status: Unknown}", True),
        ('{type: Conflict, status: "True"}', True),
        ('{type: Conflicted, status: "True"}', True),
        ('{type: Conflict, status: "False"}', False),
        ('{type: SomebodysOwn, status: "False"}', False),
    ],
)
def test_condition_is_trouble_where_its_type_is_known(condition: str, is_bad: bool) -> None:
    web = row(Explained(f"{CONDITIONS}  - {condition}\n"), "web")
    assert [each.is_bad for each in web.conditions] == [is_bad]
    assert bool(web.troubles) is is_bad


def test_conditions_are_judged_by_the_one_rule() -> None:
    conditions = """
  - {type: Conflict, status: "True"}
  - {type: ConflictingPorts, status: "True"}
  - {type: Foo, status: "False"}
  - {type: Ready, status: Unknown}
"""
    web = row(Explained(CONDITIONS.rstrip() + conditions), "web")
    assert [(each.type, each.is_bad) for each in web.conditions] == [
        ("Conflict", True),
        ("ConflictingPorts", True),
        ("Ready", True),
        ("Foo", False),
    ]
    assert list(web.troubles) == [
        "Conflict is True",
        "ConflictingPorts is True",
        "Ready is Unknown",
    ]


def test_long_texts_and_lists_are_cut() -> None:
    ips = ", ".join(f"10.0.{n >> 8}.{n & 255}" for n in range(300))
    text = CONDITIONS.replace("10.96.1.10", ips)
    message = "x" * 30_000
    web = row(Explained(f'{text}  - {{type: Ready, status: "False", message: {message}}}\n'), "web")
    assert len(web.ips) == 24
    assert web.more == 276
    assert all(len(each) <= 300 for each in web.troubles)
    assert all(len(each.message) <= 300 for each in web.conditions)


def test_no_step_of_the_work_is_long(many: ZoneState) -> None:
    """What grows with the number of services is cut into steps; each handles a bounded number."""
    steps = Steps()
    rest_of(list_services(many, ListOptions(), steps))
    assert steps.count >= 20_000 / 200
    rest_of(list_services(many, ListOptions(troubled=True), steps))
    assert steps.count >= 20_000


async def test_loop_is_not_held_while_20000_services_are_searched(many: ZoneState) -> None:
    """Another task has hundreds of turns meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with TestClient(TestServer(application(StandIn(many)))) as client:
        counting = asyncio.create_task(count())
        async with client.get("/api/services", params={"troubled": "1"}) as response:
            page = await response.json()
        counting.cancel()
    assert page["total"] == 20_000
    assert page["matched"] == 0
    assert turns > 100


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"limit": "0"}, "limit: 0 is not between 1 and 200"),
        ({"limit": "201"}, "limit: 201 is not between 1 and 200"),
        ({"limit": "-1"}, "limit: '-1' is not a number from 1 to 200"),
        ({"limit": "9" * 99}, "is not a number from 1 to 200"),
        ({"limit": "٣"}, "is not a number from 1 to 200"),
        ({"troubled": "yes"}, "troubled: 'yes'; give 1 for"),
        ({"after": "web"}, "after: give NAMESPACE/NAME"),
        ({"q": "x" * 256}, "q: 256 characters; give at most 255"),
        (
            {"page": "2"},
            "'page' is no parameter here; /api/services takes q, troubled, after, limit",
        ),
    ],
)
async def test_wrong_parameter_is_told_what_is_wrong(
    shop: ZoneState, parameters: dict[str, str], error: str
) -> None:
    async with (
        TestClient(TestServer(application(StandIn(shop)))) as client,
        client.get("/api/services", params=parameters) as response,
    ):
        assert response.status == 400
        assert error in (await response.json())["error"]


async def test_list_over_http_is_what_was_found(shop: ZoneState) -> None:
    async with (
        TestClient(TestServer(application(StandIn(shop)))) as client,
        client.get("/api/services", params={"q": "shop", "limit": "2"}) as response,
    ):
        page = msgspec.json.decode(await response.read(), type=ServicePage)
    assert page == msgspec.convert(
        msgspec.to_builtins(found(shop, text="shop", limit=2)), type=ServicePage
    )
