"""The picture of a decision: the parts of a name, and where the way ends."""

import re

import pytest

from mcsdns.diagnostics.explain.explain import explain
from mcsdns.diagnostics.explain.model import Explanation, VerdictReason
from mcsdns.dns.types import RRType
from mcsdns.web.html.page import environment
from mcsdns.web.html.picture import DECIDED_AT, Picture, PictureStep, draw
from tests.diagnostics.explain.shop_world import SHOP, Explained
from tests.worlds import endpoint_slice, service_import, world_of

ZONE = "svc.clusterset.local"


@pytest.fixture(scope="module")
def shop() -> Explained:
    return Explained(SHOP)


def picture(world: Explained, question: str) -> Picture:
    return draw(world.explain(question))


def steps(explanation: Explanation) -> list[tuple[str, str, str]]:
    """The steps as they stand on the page: state, title and text."""
    template = environment().get_template("steps.html")
    text = template.render(it=explanation, picture=draw(explanation), steps=PictureStep)
    shown = r'<li class="step (\w+)">\s*<h4>([^<]*).*</h4>\s*<p>([^<]*)</p>'
    return [(state, title.strip(), text) for state, title, text in re.findall(shown, text)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (f"web.shop.{ZONE}", "web service|shop namespace|svc svc|clusterset.local zone"),
        (
            f"Pod.cluster-a.db.shop.{ZONE}.",
            "Pod host|cluster-a cluster|db service|shop namespace|svc svc|clusterset.local zone",
        ),
        (
            f"h.a.eu.db.shop.{ZONE}",
            "h host|a.eu cluster|db service|shop namespace|svc svc|clusterset.local zone",
        ),
        (
            f"_http._tcp.web.shop.{ZONE}",
            "_http port|_tcp protocol|web service|shop namespace|svc svc|clusterset.local zone",
        ),
        (
            f"_tcp.web.shop.{ZONE}",
            "_tcp protocol|web service|shop namespace|svc svc|clusterset.local zone",
        ),
        (
            f"eu.web.shop.{ZONE}",
            "eu cluster|web service|shop namespace|svc svc|clusterset.local zone",
        ),
        (f"shop.{ZONE}", "shop namespace|svc svc|clusterset.local zone"),
        ("ns.dns.clusterset.local", "ns.dns of the zone itself|clusterset.local zone"),
        ("web.shop.clusterset.local", "web.shop unknown|clusterset.local zone"),
        ("clusterset.local", "clusterset.local zone"),
        ("example.com", "example.com in no zone served here"),
        (".", ". in no zone served here"),
        (
            rf"a\.b.shop.{ZONE}",
            r"a\.b service|shop namespace|svc svc|clusterset.local zone",
        ),
        (
            f"a.b.c.d.e.web.shop.{ZONE}",
            "a.b.c.d.e unknown|web service|shop namespace|svc svc|clusterset.local zone",
        ),
    ],
)
def test_name_is_cut_into_its_parts(shop: Explained, name: str, parts: str) -> None:
    drawn = picture(shop, name)
    assert "|".join(f"{text} {what}" for text, what in drawn.parts) == parts


@pytest.mark.parametrize(
    ("question", "stop"),
    [
        (f"web.shop.{ZONE}", None),
        (f"web.shop.{ZONE} SRV", None),
        ("clusterset.local SOA", None),
        ("example.com", "Zone"),
        (f"eu.web.shop.{ZONE}", "Form of the name"),
        ("web.shop.clusterset.local", "Form of the name"),
        (f"wbe.shop.{ZONE}", "ServiceImport"),
        (f"web.nowhere.{ZONE}", "ServiceImport"),
        (f"orphan.bank.{ZONE}", "ServiceImport"),
        (f"pending.shop.{ZONE}", "ServiceImport"),
        (f"cold.shop.{ZONE}", "Slices and endpoints"),
        (f"replica.cluster-a.db.shop.{ZONE}", "Slices and endpoints"),
        (f"nobody.cluster-a.db.shop.{ZONE}", "Slices and endpoints"),
        (f"web.shop.{ZONE} AAAA", "Records of the name"),
        (f"_tcp.web.shop.{ZONE} A", "Records of the name"),
        (f"_https._tcp.web.shop.{ZONE} SRV", "Records of the name"),
        ("clusterset.local TXT", "Records of the name"),
    ],
)
def test_way_stops_where_the_answer_was_decided(
    shop: Explained, question: str, stop: str | None
) -> None:
    found = steps(shop.explain(question))
    states = [state for state, _, _ in found]
    assert [title for state, title, _ in found if state == "stopped"] == ([stop] if stop else [])
    if stop:
        assert set(states[states.index("stopped") + 1 :]) <= {"skipped"}


def test_every_reason_has_its_place() -> None:
    elsewhere = {VerdictReason.RECORDS, VerdictReason.NO_ADDRESS, VerdictReason.NO_SUCH_NAME}
    assert set(DECIDED_AT) | elsewhere == set(VerdictReason)


def test_slices_of_a_clusterset_ip_service_have_no_part(shop: Explained) -> None:
    explained = shop.explain(f"web.shop.{ZONE}")
    assert (
        *("skipped", "Slices and endpoints"),
        "1 EndpointSlice, not asked: the address is that of spec.ips",
    ) in steps(explained)
    assert [dot.why_not for card in draw(explained).cards for dot in card.dots] == [""]


def test_every_cluster_has_a_card(shop: Explained) -> None:
    cards = picture(shop, f"db.shop.{ZONE}").cards
    assert [(card.cluster, len(card.slices), card.good, card.total) for card in cards] == [
        ("cluster-a", 1, 2, 4),
        ("cluster-b", 1, 1, 1),
        ("cluster-z", 0, 0, 0),
        ("", 1, 0, 0),
    ]


def test_endpoint_asked_for_comes_first(shop: Explained) -> None:
    dots = picture(shop, f"replica.cluster-a.db.shop.{ZONE}").cards[0].dots
    assert [dot.is_asked for dot in dots] == [True, False, False, False]
    assert dots[0].why_not == "not ready, terminating"


def test_picture_of_a_large_service_is_small() -> None:
    addresses = [f"10.{n >> 8}.{n & 255}.1" for n in range(3000)]
    objects = [service_import("big")]
    objects += [endpoint_slice("big", f"c{number}", addresses[:100]) for number in range(40)]
    objects.append(endpoint_slice("big", "c0", addresses, ready=False, name="big-down"))
    world = world_of(objects)
    drawn = draw(explain(world, f"big.shop.{ZONE}", RRType.A))
    assert (len(drawn.cards), drawn.more_cards) == (12, 28)
    first = drawn.cards[0]
    assert (len(first.dots), first.total) == (12, 3100)
    assert [bool(dot.why_not) for dot in first.dots] == [False] * 6 + [True] * 6
