"""The page as it comes, before any script has run."""

import html.parser
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

import mcsdns.web.html.page
from mcsdns.web.fairness import BusyError, Gate
from mcsdns.web.html import filters
from tests.web.browser.shop import HOSTILE, shop
from tests.web.standin import StandIn, application, forwarding, until

Client = TestClient[Any, Any]
Show = Callable[..., Awaitable["Read"]]
FILES = Path(mcsdns.web.html.page.__file__).parent


class Read(html.parser.HTMLParser):
    """A page as a browser without scripts reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, tag: str, attribute: str) -> list[str]:
        found = (attributes.get(attribute) for name, attributes in self.tags if name == tag)
        return [value for value in found if value is not None]

    def by_id(self, wanted: str) -> dict[str, str | None]:
        (only,) = [attributes for _, attributes in self.tags if attributes.get("id") == wanted]
        return only


@pytest.fixture
def operator() -> StandIn:
    return StandIn(shop(HOSTILE))


@pytest.fixture
async def client(operator: StandIn) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(operator))) as started:
        yield started


@pytest.fixture
def show(client: Client) -> Show:
    async def ask(status: int = 200, **parameters: str) -> Read:
        async with client.get("/", params=parameters) as response:
            assert response.status == status, await response.text()
            assert response.content_type == "text/html"
            return Read(await response.text())

    return ask


async def test_page_has_services_sources_and_counts(show: Show) -> None:
    page = await show()
    assert "https://10.0.0.1:6443 connected kubernetes, heard 0 s ago" in page.text
    assert "18 services" in page.text
    assert "web shop ClusterSetIP 10.96.1.10 cluster-a 1/1" in page.text
    assert "Ready is False (Pending: no derived Service yet)" in page.text
    assert "No upstream: names outside the zones are refused." in page.text
    assert page.values("title", "x") == []
    assert "mcsdns clusterset.local" in page.text


async def test_page_shows_upstreams(show: Show, operator: StandIn) -> None:
    operator.forwarder = forwarding(("10.0.0.53:53", 0.0021, False), ("10.0.0.54:53", None, True))

    async def is_shown() -> bool:
        return "10.0.0.54:53 down" in (await show()).text

    await until(is_shown)
    text = (await show()).text
    assert "10.0.0.53:53 up all other names, 2.1 ms, 2,560 asked" in text
    assert "cached 1,834 memory 402.3 KiB hits 91,230 misses 5,120" in text


async def test_search_works_without_a_script(show: Show) -> None:
    page = await show(q="bank")
    assert "1 of 18 services" in page.text
    assert "ledger" in page.text
    assert "checkout" not in page.text
    assert page.by_id("q")["value"] == "bank"


async def test_pages_follow_without_a_script(show: Show) -> None:
    page = await show(limit="10")
    assert "hidden" not in page.by_id("next")
    link = page.by_id("next")["href"]
    assert link == "?after=shop%2Fweb#services"
    page = await show(limit="10", after="shop/web")
    assert "cart" in page.text
    assert "hidden" in page.by_id("next")
    assert "hidden" not in page.by_id("first")


async def test_wrong_parameter_stands_on_the_page(show: Show) -> None:
    page = await show(400, limit="0")
    assert "limit: 0 is not between 1 and 200" in page.text


async def test_explanation_without_a_script(show: Show) -> None:
    page = await show(name="replica.cluster-a.db.shop.svc.clusterset.local", type="A")
    assert "NXDOMAIN endpoint replica in cluster cluster-a is there, but not ready" in page.text
    assert "replica. host cluster-a. cluster db. service shop. namespace svc." in page.text
    assert "Slices and endpoints decided here 3 of 5 endpoints count" in page.text
    assert "10.42.0.9 replica not ready, terminating the one asked for" in page.text
    assert "?name=primary.cluster-a.db.shop.svc.clusterset.local.&type=A" in page.values(
        "a", "href"
    )


async def test_every_cluster_has_a_card(show: Show) -> None:
    text = (await show(name="db.shop.svc.clusterset.local")).text
    assert "in 3 EndpointSlices cluster-a 2 of 4 count db-a world.yaml:46 10.42.0.7" in text
    assert "cluster-z no slice, though status.clusters names it (no cluster) no endpoints" in text
    assert "status.clusters cluster-a, cluster-b and cluster-z problem world.yaml:63" in text


async def test_records_are_in_the_answer(show: Show) -> None:
    page = await show(name="web.shop.svc.clusterset.local")
    assert "Answer NOERROR web.shop.svc.clusterset.local. 5 IN A 10.96.1.10" in page.text
    assert "decided here" not in page.text


async def test_wrong_name_stands_on_the_page(show: Show) -> None:
    page = await show(400, name="a..b")
    assert "name: 'a..b': a label has 0 octets" in page.text
    assert page.by_id("name")["value"] == "a..b"
    assert "18 services" in page.text


async def test_type_that_is_not_offered_is_kept(show: Show) -> None:
    page = await show(name="web.shop.svc.clusterset.local", type="type65280")
    selected = [each for tag, each in page.tags if tag == "option" and "selected" in each]
    assert len(selected) == 1
    assert "TYPE65280" in page.text


async def test_busy_page_says_when_to_come_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Gate) -> None:
        raise BusyError(7)

    monkeypatch.setattr(Gate, "passed", refuse)
    async with client.get("/?name=web") as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "7"
        assert "ask again in 7 s" in await response.text()


async def test_alerts_stand_first(show: Show, operator: StandIn) -> None:
    assert "hidden" in (await show()).by_id("alerts")
    operator.lose_source("no connection: refused")
    page = await show()
    assert "hidden" not in page.by_id("alerts")
    text = page.text
    assert "away kubernetes, heard 75 s ago no connection: refused" in text
    assert text.index("cannot be heard") < text.index("Why does a name resolve")


# Text of others.

PAYLOADS = (
    "<script>alert(1)</script>",
    "\"'><svg onload=alert(1)>",
    "{{ 7*7 }}{% include 'page.html' %}",
    "</title></textarea></select><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "\u202egnp.exe\u2066",
)
ALLOWED = {
    *("html", "head", "meta", "title", "link", "script", "body", "a", "header", "h1", "p", "span"),
    *("time", "div", "ul", "li", "main", "section", "h2", "form", "label", "input", "select"),
    *("option", "button", "b", "noscript", "dl", "dt", "dd", "table", "thead", "tbody", "tr"),
    *(
        "th",
        "td",
        "small",
        "footer",
        "article",
        "h3",
        "h4",
        "h5",
        "ol",
        "details",
        "summary",
        "pre",
    ),
}
"""The tags of our templates."""


def assert_tame(page: Read) -> None:
    """Nothing but what the templates hold is markup."""
    assert {tag for tag, _ in page.tags} <= ALLOWED
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
    assert page.values("script", "src") == ["static/page.js"]
    for link in page.values("a", "href"):
        assert link.startswith(("?", "#", "api/")), link


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("parameter", ["name", "type", "q", "after", "limit", "troubled", "zzz"])
async def test_what_is_asked_for_is_text(client: Client, parameter: str, payload: str) -> None:
    parameters = {"name": "web", parameter: payload}
    async with client.get("/", params=parameters) as response:
        page = Read(await response.text())
    assert_tame(page)
    assert "49" not in "".join(page.values("input", "value"))
    assert "\u202e" not in page.text


@pytest.mark.parametrize("name", ["", "hostile.shop.svc.clusterset.local"])
async def test_what_objects_say_is_text(show: Show, name: str) -> None:
    page = await show(**({"name": name} if name else {}), q="hostile")
    assert_tame(page)
    assert "<script>alert(document.domain)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "\\u202e\\u0000 end" in page.text


async def test_what_sources_say_is_text(show: Show, operator: StandIn) -> None:
    operator.lose_source(PAYLOADS[0])
    operator.said = list(PAYLOADS)
    operator.forwarder = forwarding((PAYLOADS[1], None, False))
    page = await show()
    assert_tame(page)
    assert PAYLOADS[0] in page.text


def test_script_never_parses_markup() -> None:
    script = (FILES / "static" / "page.js").read_text()
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser"):
        assert sink not in script
    for sink in ("eval(", "new Function", "createContextualFragment", "setHTML", ".style"):
        assert sink not in script


def test_page_needs_nothing_of_the_internet() -> None:
    for path in [*FILES.glob("static/*"), *FILES.glob("templates/*")]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text
        assert "url(" not in text


def test_templates_switch_no_escaping_off() -> None:
    for path in FILES.glob("templates/*"):
        assert "safe" not in path.read_text()
        assert "autoescape" not in path.read_text()


# Words.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.9, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_age(seconds: float, text: str) -> None:
    assert filters.ago(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (0.25, "0.2"), (9.96, "10.0"), (10.5, "11"), (1234.4, "1,234")]
)
def test_rate(rate: float, text: str) -> None:
    assert filters.rate(rate) == text
