"""The API: what it answers, what it refuses, and whom."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from mcsdns.config import Settings
from mcsdns.diagnostics.explain.model import Explanation
from mcsdns.diagnostics.explain.text import to_json
from mcsdns.objects.store import Statistics
from mcsdns.stats import ReplyKind
from mcsdns.web import security
from mcsdns.web.fairness import BusyError, Gate
from tests.diagnostics.explain.shop_world import SHOP, Explained
from tests.web.standin import StandIn, application, forwarding, until

Client = TestClient[Any, Any]
Get = Callable[..., Awaitable[Any]]


@pytest.fixture
def world() -> Explained:
    return Explained(SHOP)


@pytest.fixture
def operator(world: Explained) -> StandIn:
    return StandIn(world)


@pytest.fixture
async def client(operator: StandIn) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(operator))) as started:
        yield started


@pytest.fixture
def get(client: Client) -> Get:
    async def ask(path: str, status: int = 200, **parameters: str) -> Any:
        async with client.get(path, params=parameters) as response:
            assert response.status == status, await response.text()
            assert response.content_type == "application/json"
            return await response.json()

    return ask


# explain


@pytest.mark.parametrize(
    ("name", "rtype"),
    [
        ("web.shop.svc.clusterset.local", "A"),
        ("primary.cluster-a.db.shop.svc.clusterset.local", "A"),
        ("replica.cluster-a.db.shop.svc.clusterset.local", "AAAA"),
        ("_http._tcp.web.shop.svc.clusterset.local.", "SRV"),
        ("wbe.shop.svc.clusterset.local", "A"),
        ("clusterset.local", "SOA"),
        ("example.com", "TYPE65280"),
    ],
)
async def test_explain_is_what_the_command_prints(
    client: Client, world: Explained, name: str, rtype: str
) -> None:
    parameters = {"name": name, "type": rtype}
    async with client.get("/api/explain", params=parameters) as response:
        body = await response.read()
    explanation: Explanation = world.explain(f"{name} {rtype}")
    assert to_json(msgspec.json.decode(body, type=Explanation)) == to_json(explanation)


async def test_type_is_a_where_it_is_left_out(get: Get) -> None:
    found = await get("/api/explain", name="web.shop.svc.clusterset.local")
    assert found["question"]["type"] == "A"


async def test_type_may_be_written_small(get: Get) -> None:
    found = await get("/api/explain", name="web.shop.svc.clusterset.local", type="srv")
    assert found["verdict"]["result"] == "NOERROR"
    assert found["question"]["type"] == "SRV"


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({}, "name: it is empty; give a name"),
        ({"name": ""}, "name: it is empty; give a name"),
        ({"name": "a..b"}, "name: 'a..b': a label has 0 octets; 1 to 63 are allowed; give a name"),
        ({"name": "a" * 64}, "a label has 64 octets"),
        ({"name": "a." * 3000}, "characters are too many"),
        ({"name": "web", "type": "NOPE"}, "type: 'NOPE' is no record type"),
        (
            {"name": "web", "tpye": "A"},
            "'tpye' is no parameter here; /api/explain takes name, type",
        ),
    ],
)
async def test_wrong_question_is_told_what_is_wrong(
    get: Get, parameters: dict[str, str], error: str
) -> None:
    assert error in (await get("/api/explain", 400, **parameters))["error"]


async def test_parameter_that_stands_there_twice_is_wrong(client: Client) -> None:
    async with client.get("/api/explain?name=a&name=b") as response:
        assert response.status == 400
        assert (await response.json())["error"] == "name: it stands there twice; keep one"


async def test_too_many_explanations_are_told_when_to_come_again(
    get: Get, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Gate) -> None:
        raise BusyError(3)

    monkeypatch.setattr(Gate, "passed", refuse)
    async with client.get("/api/explain?name=web") as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "3"
        assert "ask again in 3 s" in (await response.json())["error"]


# sources, upstreams, rates


async def test_sources_say_how_fresh_they_are(get: Get, operator: StandIn) -> None:
    found = await get("/api/sources")
    (source,) = found["sources"]
    assert source["name"] == "https://10.0.0.1:6443"
    assert (source["connected"], source["synced"], source["fresh_s"]) == (True, True, 0.4)
    assert found["zones"] == ["clusterset.local."]
    assert (found["ready"], found["readiness"], found["stale"]) == (True, "synced", False)
    assert found["alerts"] == []
    assert found["now_s"] > found["started_s"] == operator.started_s


async def test_counts_are_those_of_the_index(get: Get, world: Explained) -> None:
    counts: Statistics = world.store.statistics()
    found = await get("/api/sources")
    assert found["services"] == counts.service_imports
    assert (found["slices"], found["endpoints"]) == (counts.endpoint_slices, counts.endpoints)


async def test_source_that_is_away_is_an_alert(get: Get, operator: StandIn) -> None:
    operator.lose_source("no connection: refused; is it up?")
    operator.said = ["https://10.0.0.1:6443: no connection"]
    found = await get("/api/sources")
    assert found["sources"][0]["connected"] is False
    assert found["alerts"] == [
        "https://10.0.0.1:6443 cannot be heard; answers are from what it said before",
        "Answers say that they are stale (Extended DNS Error 3 or 19)",
        "https://10.0.0.1:6443: no connection",
    ]


async def test_not_ready_is_an_alert(get: Get, operator: StandIn) -> None:
    operator.is_up = False
    assert (await get("/api/sources"))["alerts"][0].startswith("Not ready: ")


async def test_without_upstream_nothing_is_forwarded(get: Get) -> None:
    found = await get("/api/upstreams")
    assert found["forwarding"] is False
    assert (found["cache"], found["upstreams"]) == (None, [])


async def test_upstreams_say_how_they_do(get: Get, operator: StandIn) -> None:
    operator.forwarder = forwarding(("10.0.0.53:53", 0.002, False), ("10.0.0.54:53", None, True))

    async def is_seen() -> bool:
        return bool((await get("/api/upstreams"))["upstreams"])

    await until(is_seen)
    found = await get("/api/upstreams")
    assert [each["upstream"] for each in found["upstreams"]] == ["10.0.0.53:53", "10.0.0.54:53"]
    assert [each["is_down"] for each in found["upstreams"]] == [False, True]
    assert found["upstreams"][0]["rtt_s"] == 0.002
    assert found["cache"]["replies"] == 1834


async def test_upstream_of_a_stub_zone_names_it(world: Explained) -> None:
    settings = Settings(upstream=["10.0.0.53"], stub_zone=["corp.example=10.0.0.54"])
    operator = StandIn(world, settings)
    texts = [each.text for theirs in settings.upstreams().values() for each in theirs]
    operator.forwarder = forwarding(*((text, None, False) for text in texts))
    async with (
        TestClient(TestServer(application(operator))) as client,
        client.get("/api/upstreams") as response,
    ):
        found = await response.json()
    assert [each["zones"] for each in found["upstreams"]] == [["."], ["corp.example."]]


async def test_rates_are_sampled_while_it_runs(get: Get, operator: StandIn) -> None:
    first = await get("/api/rates")
    assert (first["every_s"], first["most"]) == (1.0, 300)
    operator.numbers[ReplyKind.CLUSTERSET] = 500

    async def is_seen() -> bool:
        return max((await get("/api/rates"))["answers"], default=0) > 0

    await until(is_seen)
    assert (await get("/api/rates"))["kinds"]["clusterset"] > 0


@pytest.mark.parametrize("name", ["sources", "upstreams", "rates"])
async def test_parameters_where_there_are_none_are_wrong(get: Get, name: str) -> None:
    found = await get(f"/api/{name}", 400, q="x")
    assert found["error"] == f"'q' is no parameter here; /api/{name} takes none"


# Who may ask, and how.


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8053", "10.1.2.3:80", "localhost", "localhost:8053"),
        *("LOCALHOST:1", "[::1]", "[::1]:8053", "[fd00::7]:8053"),
    ],
)
def test_address_and_localhost_are_our_own_names(host: str) -> None:
    assert security.is_own_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "evil.example",
            "evil.example:8053",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
        ),
        *("127.1", "2130706433", "0x7f000001", "[::1].evil.example", "[::1", "[localhost]"),
        *("::1", "[fe80::1%eth0]", "user@127.0.0.1", " localhost"),
    ],
)
def test_names_that_others_decide_are_not_ours(host: str) -> None:
    assert not security.is_own_host(host)


PATHS = ["/", "/api/sources", "/api/services", "/api/rates", "/static/page.js", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
async def test_host_that_was_rebound_gets_nothing(client: Client, path: str) -> None:
    async with client.get(path, headers={"Host": "evil.example:8053"}) as response:
        assert response.status == 403
        text = await response.text()
    assert text.startswith("Host 'evil.example:8053' is not this server; ask by IP address")


@pytest.mark.parametrize("path", PATHS)
async def test_every_reply_has_the_strict_headers(client: Client, path: str) -> None:
    async with client.get(path) as response:
        for name, value in security.HEADERS.items():
            assert response.headers[name] == value
    assert "default-src 'none'" in security.HEADERS["Content-Security-Policy"]
    assert "unsafe" not in security.HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("site", "dest", "status"),
    [
        ("none", "document", 200),
        ("same-origin", "empty", 200),
        ("cross-site", "document", 200),
        ("cross-site", "empty", 403),
        ("cross-site", "image", 403),
        ("cross-site", "iframe", 403),
        ("same-site", "empty", 403),
    ],
)
async def test_other_pages_cannot_make_a_browser_ask(
    client: Client, site: str, dest: str, status: int
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": dest}
    async with client.get("/api/explain?name=web", headers=headers) as response:
        assert response.status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/explain", "/api/services", "/api/sources"])
async def test_nothing_can_be_written(client: Client, method: str, path: str) -> None:
    async with client.request(method, path) as response:
        assert response.status == 405


@pytest.mark.parametrize(
    "path", ["/static/", "/static/../admin.py", "/static/%2e%2e/admin.py", "/static//etc/passwd"]
)
async def test_no_other_file_is_served(client: Client, path: str) -> None:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert reply.startswith(b"HTTP/1.1 404 ")


async def test_request_without_a_host_gets_nothing(client: Client) -> None:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"GET /api/sources HTTP/1.0\r\n\r\n")
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert reply.startswith(b"HTTP/1.0 403 ")


def test_admin_answers_what_the_design_names(operator: StandIn) -> None:
    paths = {each.canonical for each in application(operator).router.resources()}
    names = {path.removeprefix("/api/") for path in paths if path.startswith("/api/")}
    assert names == {"explain", "services", "sources", "upstreams", "rates"}
