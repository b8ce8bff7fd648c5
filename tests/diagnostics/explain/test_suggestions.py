"""The nearest thing that exists, and that what is suggested does exist."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.diagnostics.explain.suggestions import letters_off, nearest
from tests.diagnostics.explain.shop_world import Explained

ZONE = "clusterset.local"

FIRST_SUGGESTIONS = [
    # another zone
    ("web.shop.svc.cluster.local", f"web.shop.svc.{ZONE} A"),
    ("web.shop.svc.clusterset.lcoal", f"web.shop.svc.{ZONE} A"),
    ("web.shop.clustrset.local", f"web.shop.svc.{ZONE} A"),
    ("web.shop.svc", f"web.shop.svc.{ZONE} A"),
    ("web.shop", f"web.shop.svc.{ZONE} A"),
    ("primary.cluster-b.db.shop", f"primary.cluster-b.db.shop.svc.{ZONE} A"),
    (f"web.shop.svc.{ZONE}.default.svc.cluster.local", f"web.shop.svc.{ZONE} A"),
    # the label svc
    (f"web.shop.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"web.shop.scv.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"web.shop.service.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"web.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"dns-verison.{ZONE} TXT", f"dns-version.{ZONE} TXT"),
    # another service or namespace
    (f"wbe.shop.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"web.shoop.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"web.bank.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"shop.web.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"web.shop.cluster-a.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"_http._tcp.wbe.shop.svc.{ZONE} SRV", f"_http._tcp.web.shop.svc.{ZONE} SRV"),
    (f"primary.cluster-a.db.shpo.svc.{ZONE}", f"primary.cluster-a.db.shop.svc.{ZONE} A"),
    (f"shpo.svc.{ZONE}", f"bare.shop.svc.{ZONE} A"),
    # another type
    (f"web.shop.svc.{ZONE} AAAA", f"web.shop.svc.{ZONE} A"),
    (f"ledger.bank.svc.{ZONE} A", f"ledger.bank.svc.{ZONE} AAAA"),
    (f"_http._tcp.web.shop.svc.{ZONE} A", f"_http._tcp.web.shop.svc.{ZONE} SRV"),
    (f"{ZONE} A", f"{ZONE} NS"),
    # ports
    (f"_htpt._tcp.web.shop.svc.{ZONE} SRV", f"_http._tcp.web.shop.svc.{ZONE} SRV"),
    (f"_http._udp.web.shop.svc.{ZONE} SRV", f"_http._tcp.web.shop.svc.{ZONE} SRV"),
    (f"http.tcp.web.shop.svc.{ZONE} SRV", f"_http._tcp.web.shop.svc.{ZONE} SRV"),
    (f"_udp.db.shop.svc.{ZONE} SRV", f"_admin._udp.db.shop.svc.{ZONE} SRV"),
    # endpoints
    (f"primray.cluster-a.db.shop.svc.{ZONE}", f"primary.cluster-a.db.shop.svc.{ZONE} A"),
    (f"primary.clutser-b.db.shop.svc.{ZONE}", f"primary.cluster-b.db.shop.svc.{ZONE} A"),
    (f"primary.east.db.shop.svc.{ZONE}", f"primary.cluster-a.db.shop.svc.{ZONE} A"),
    (f"10-42-0-7.cluster-a.db.shop.svc.{ZONE}", f"primary.cluster-a.db.shop.svc.{ZONE} A"),
    (f"x.primary.cluster-b.db.shop.svc.{ZONE}", f"primary.cluster-b.db.shop.svc.{ZONE} A"),
    (f"primary.db.shop.svc.{ZONE}", f"primary.cluster-a.db.shop.svc.{ZONE} A"),
    (f"clutser-b.db.shop.svc.{ZONE}", f"primary.cluster-b.db.shop.svc.{ZONE} A"),
    (f"primray.clutser-b.db.shop.svc.{ZONE}", f"primary.cluster-b.db.shop.svc.{ZONE} A"),
    (f"cluster-b.db.shop.svc.{ZONE}", f"primary.cluster-b.db.shop.svc.{ZONE} A"),
    (f"nowhere.db.shop.svc.{ZONE}", f"db.shop.svc.{ZONE} A"),
    (f"replica.cluster-a.db.shop.svc.{ZONE}", f"10-42-0-8.cluster-a.db.shop.svc.{ZONE} A"),
    (f"cluster-a.web.shop.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
    (f"web-0.cluster-a.web.shop.svc.{ZONE}", f"web.shop.svc.{ZONE} A"),
]


@pytest.mark.parametrize(
    ("question", "nearest"), FIRST_SUGGESTIONS, ids=[each[0] for each in FIRST_SUGGESTIONS]
)
def test_nearest_thing_is_suggested_first(shop: Explained, question: str, nearest: str) -> None:
    suggestions = shop.explain(question).suggestions
    assert [f"{each.name.removesuffix('.')} {each.type}" for each in suggestions][:1] == [nearest]


@pytest.mark.parametrize("question", [each[0] for each in FIRST_SUGGESTIONS])
def test_what_is_said_to_resolve_does(shop: Explained, question: str) -> None:
    for each in shop.explain(question).suggestions:
        reply = shop.explain(f"{each.name} {each.type}").reply
        assert bool(reply.answer) == each.resolves


@pytest.mark.parametrize(
    "question",
    [
        f"web.shop.svc.{ZONE}",
        "www.example.com",
        f"completely.unlike.svc.{ZONE}",
        f"pending.shop.svc.{ZONE}",
        f"cold.shop.svc.{ZONE}",
        f"svc.{ZONE}",
        f"web.shop.svc.{ZONE} AXFR",
        ".",
        "local",
    ],
)
def test_nothing_is_suggested_where_nothing_is_near(shop: Explained, question: str) -> None:
    assert shop.explain(question).suggestions == ()


def test_host_in_several_clusters_is_suggested_in_each(shop: Explained) -> None:
    suggestions = shop.explain(f"primary.db.shop.svc.{ZONE}").suggestions
    assert [each.name for each in suggestions] == [
        f"primary.cluster-a.db.shop.svc.{ZONE}.",
        f"primary.cluster-b.db.shop.svc.{ZONE}.",
        f"db.shop.svc.{ZONE}.",
    ]


def test_service_that_exists_is_named_though_it_does_not_resolve(shop: Explained) -> None:
    (only,) = shop.explain(f"colt.shop.svc.{ZONE}").suggestions
    assert (only.name, only.resolves) == (f"cold.shop.svc.{ZONE}.", False)


def test_form_in_our_zone_is_named_though_it_does_not_resolve(shop: Explained) -> None:
    (only,) = shop.explain("foo.bar.svc.cluster.local").suggestions
    assert (only.name, only.resolves) == (f"foo.bar.svc.{ZONE}.", False)


def test_every_zone_that_is_served_is_tried(make_world: Callable[..., Explained]) -> None:
    world = make_world(zone=["one.example", "two.example"])
    names = [each.name for each in world.explain("web.shop.svc.cluster.local").suggestions]
    assert sorted(names) == ["web.shop.svc.one.example.", "web.shop.svc.two.example."]


def test_candidate_over_255_octets_is_passed_over(shop: Explained) -> None:
    long = ".".join(["x" * 60] * 3 + ["y" * 50])
    assert shop.explain(f"{long}.web.shop").suggestions == ()


def test_two_clusters_with_dotted_ids_are_told_apart(make_world: Callable[..., Explained]) -> None:
    world = make_world(DOTTED)
    suggestions = world.explain(f"db-0.east.db.shop.svc.{ZONE}").suggestions
    assert suggestions[0].name == f"db-0.east.reg1.db.shop.svc.{ZONE}."
    suggestions = world.explain(f"east.reg1.db.shop.svc.{ZONE}").suggestions
    assert suggestions[0].name == f"db-0.east.reg1.db.shop.svc.{ZONE}."


DOTTED = """
{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport,
 metadata: {name: db, namespace: shop}, spec: {type: Headless}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: db-1, namespace: shop, labels: {
  multicluster.kubernetes.io/service-name: db,
  multicluster.kubernetes.io/source-cluster: east.reg1}},
 endpoints: [{addresses: [10.42.0.1], hostname: db-0}]}
"""


def test_one_of_thousands_of_services_is_found(make_world: Callable[..., Explained]) -> None:
    world = make_world(
        "\n---\n".join(
            "{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, "
            f"metadata: {{name: svc-{number:05d}, namespace: shop}}, "
            "spec: {type: ClusterSetIP, ips: [10.96.0.1]}}"
            for number in range(3000)
        )
    )
    suggestions = world.explain(f"svc-0123x.shop.svc.{ZONE}").suggestions
    assert suggestions[0].name == f"svc-01230.shop.svc.{ZONE}."


def test_no_more_than_some_thousand_words_are_compared() -> None:
    endless = (f"svc-{number:05d}" for number in itertools.count())
    assert nearest("svc-0123x", endless, 1) == [(1, "svc-01230")]


@pytest.mark.parametrize(
    ("one", "other", "off"),
    [
        ("base", "base", 0),
        ("bsae", "base", 1),
        ("bas", "base", 1),
        ("bases", "base", 1),
        ("bake", "base", 1),
        ("ab", "ba", 1),
        ("abc", "cab", 2),
        ("kitten", "sitting", 3),
        ("", "abc", 3),
    ],
)
def test_letters_off_counts_missing_extra_wrong_and_swapped(one: str, other: str, off: int) -> None:
    assert letters_off(one, other) == letters_off(other, one) == off


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("rebel-bsae", ["rebel-base", "x-wing"], ["rebel-base"]),
        ("web", ["wbe", "db", "we", "webs", "api"], ["wbe", "we", "webs"]),
        ("shop", ["stop", "ship", "chop", "shoe"], ["chop", "ship", "shoe"]),
        ("db", ["ab", "db", "dbx", "xyz"], ["ab", "dbx"]),
        ("a", ["b", "c"], []),
        ("frontend", ["frontned", "backend", "fronten"], ["fronten", "frontned"]),
    ],
)
def test_nearest_words_are_few_letters_off(word: str, known: list[str], found: list[str]) -> None:
    assert [each for _, each in nearest(word, known)] == found


LETTERS = st.text("abc-1", max_size=8)


@given(LETTERS, LETTERS)
def test_distance_is_at_most_the_longer_word(one: str, other: str) -> None:
    off = letters_off(one, other)
    assert abs(len(one) - len(other)) <= off <= max(len(one), len(other))
    assert (off == 0) == (one == other)


@given(LETTERS, st.lists(LETTERS, max_size=20))
def test_no_near_word_is_passed_over(word: str, known: list[str]) -> None:
    found = {each for _, each in nearest(word, known, len(known))}
    for other in known:
        most = min(2 if max(len(word), len(other)) > 4 else 1, min(len(word), len(other)) - 1)
        assert (other in found) == (0 < letters_off(word, other) <= most)
