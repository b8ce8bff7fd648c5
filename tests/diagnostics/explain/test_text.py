"""The explanation as people read it."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.diagnostics.explain.explain import explain
from mcsdns.diagnostics.explain.present import listed
from mcsdns.diagnostics.explain.text import to_json, to_text
from mcsdns.dns import read_query, write_query
from mcsdns.dns.name import wire_from_text
from mcsdns.dns.rdata import type_number
from mcsdns.dns.types import RRType, rcode_text
from mcsdns.errors import InvalidNameError
from mcsdns.zone.tree import Readiness
from tests.diagnostics.explain.shop_world import SHOP, Explained, at, at_object

ZONE = "clusterset.local"
SOA = f"{ZONE}. 5 IN SOA ns.dns.{ZONE}. hostmaster.{ZONE}. 2026 7200 1800 86400 5"


def test_name_that_resolves_is_walked_from_zone_to_reply(shop: Explained) -> None:
    assert to_text(shop.explain(f"web.shop.svc.{ZONE}")) == (
        f"""\
NOERROR: 1 A record from spec.ips of ServiceImport shop/web

zone       {ZONE}
name       <service>.<namespace>.svc.<zone>
           service web, namespace shop
import     ServiceImport shop/web, ClusterSetIP, multicluster.x-k8s.io/v1beta1
           world.yaml:2
           ips 10.96.1.10
           ports http 80/tcp, metrics 9100/tcp, (no name) 9200/tcp
slices     cluster-a  web-a  IPv4  {at_object("web-a")}  1 of 1 endpoints ready
           they do not count: a ClusterSetIP service is answered from spec.ips
records    1 A, 2 SRV
reply      ;; status: NOERROR, flags: qr aa rd
           ;; ANSWER SECTION:
           web.shop.svc.{ZONE}. 5 IN A 10.96.1.10
"""
    )


def test_endpoints_of_a_headless_service_are_listed_those_asked_for_first(shop: Explained) -> None:
    text = to_text(shop.explain(f"replica.cluster-a.db.shop.svc.{ZONE}"))
    assert section(text, "slices") == [
        (
            f"(no cluster)  db-lost  IPv4  {at_object('db-lost')}  "
            "malformed, not served: label multicluster.kubernetes.io/source-cluster is missing"
        ),
        f"cluster-a     db-a     IPv4  {at_object('db-a')}  2 of 4 endpoints count",
        f"cluster-b     db-b     IPv4  {at_object('db-b')}  1 of 1 endpoints count",
        "none of cluster-z, though the import's status names it",
    ]
    assert section(text, "endpoints") == [
        "3 of 5 count",
        "cluster-a  replica         10.42.0.9     not counted: not ready, terminating, serving",
        "cluster-a  primary         10.42.0.7",
        "cluster-a  (no host name)  10.42.0.8",
        "cluster-b  primary         10.43.0.7",
        "cluster-a  broken          (no address)  not counted: no usable address",
    ]


def test_one_suggestion_stands_in_the_first_line(shop: Explained) -> None:
    lines = to_text(shop.explain(f"wbe.shop.svc.{ZONE}")).splitlines()
    assert lines[:2] == [
        (
            "NXDOMAIN: there is no ServiceImport wbe in namespace shop; "
            f"did you mean web.shop.svc.{ZONE}?"
        ),
        "",
    ]
    assert lines[-1].strip() == SOA


def test_several_suggestions_are_a_table_below_the_first_line(shop: Explained) -> None:
    lines = to_text(shop.explain(f"primary.db.shop.svc.{ZONE}")).splitlines()
    assert lines[1:5] == [
        f"try        primary.cluster-a.db.shop.svc.{ZONE}  host primary of cluster cluster-a",
        f"           primary.cluster-b.db.shop.svc.{ZONE}  host primary of cluster cluster-b",
        f"           db.shop.svc.{ZONE}                    the endpoints of every cluster",
        "",
    ]


def test_suggestion_of_another_type_names_the_type(shop: Explained) -> None:
    first = to_text(shop.explain(f"_htpt._tcp.db.shop.svc.{ZONE}")).splitlines()[0]
    assert "but admin/udp and mysql/tcp" in first
    first, second, *_ = to_text(shop.explain(f"_http._tcp.lgeder.bank.svc.{ZONE}")).splitlines()
    assert first.endswith(f"; did you mean ledger.bank.svc.{ZONE} AAAA?")
    assert second == ""


def test_suggestion_that_does_not_resolve_says_so(shop: Explained) -> None:
    first = to_text(shop.explain("foo.bar.svc.cluster.local")).splitlines()[0]
    assert first.endswith(f"; did you mean foo.bar.svc.{ZONE}? (it does not resolve now)")


def test_type_that_exists_is_not_suggested_twice(shop: Explained) -> None:
    first, second, *_ = to_text(shop.explain(f"web.shop.svc.{ZONE} AAAA")).splitlines()
    assert "did you mean" not in first
    assert second == ""


def test_condition_that_is_not_true_is_told_with_its_reason(shop: Explained) -> None:
    text = to_text(shop.explain(f"pending.shop.svc.{ZONE}"))
    assert section(text, "import")[2:] == [
        "ips none yet",
        "ports none",
        "Ready is False (Pending: no derived Service yet)",
    ]
    assert section(text, "slices") == ["none, and none needed"]


FOUR_CONDITIONS = """
{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport,
 metadata: {name: web, namespace: shop}, spec: {type: ClusterSetIP, ips: [10.96.1.10]},
 status: {conditions: [
  {type: Conflict, status: "True", reason: PortConflict, message: two numbers},
  {type: ConflictingPorts, status: "True"}, {type: Ready, status: Unknown},
  {type: Foo, status: "False"}]}}
"""


def test_every_condition_is_shown_and_bad_ones_are_problems(
    make_world: Callable[..., Explained],
) -> None:
    explanation = make_world(FOUR_CONDITIONS).explain(f"web.shop.svc.{ZONE}")
    text = to_text(explanation)
    assert section(text, "import")[4:] == [
        "Conflict is True (PortConflict: two numbers)",
        "ConflictingPorts is True",
        "Ready is Unknown",
        "Foo is False",
    ]
    assert section(text, "problems") == [
        "bad conditions of the import: Conflict, ConflictingPorts and Ready"
    ]
    found = json.loads(to_json(explanation))["service_import"]["conditions"]
    assert [(each["type"], each["is_bad"]) for each in found] == [
        ("Conflict", True),
        ("ConflictingPorts", True),
        ("Ready", True),
        ("Foo", False),
    ]


def test_problems_are_told_with_file_and_line(shop: Explained) -> None:
    (problem,) = section(to_text(shop.explain(f"typo.bank.svc.{ZONE}")), "problems")
    where = at("spec: {type: ClusterIP}")
    assert problem.startswith(f"{where}: $.spec.type: 'ClusterIP' is neither ClusterSetIP nor ")


def test_long_lists_are_shortened_with_some_of_both_sides(
    make_world: Callable[..., Explained],
) -> None:
    endpoints = [f"{{addresses: [10.42.1.{number}]}}" for number in range(30)]
    endpoints += [
        f"{{addresses: [10.42.2.{number}], conditions: {{ready: false}}}}" for number in range(30)
    ]
    text = to_text(make_world(headless(endpoints)).explain(f"db.shop.svc.{ZONE}"))
    count, *rows, more = section(text, "endpoints")
    assert count == "30 of 60 count"
    assert [row.endswith("not ready") for row in rows] == [False] * 5 + [True] * 5
    assert more == "... and 50 more endpoints; --json has them all"
    assert "... and 20 more records; --json has them all" in section(text, "reply")


def test_answer_too_large_for_udp_says_what_fits(make_world: Callable[..., Explained]) -> None:
    endpoints = [f"{{addresses: [10.42.1.{number}]}}" for number in range(90)]
    text = to_text(make_world(headless(endpoints)).explain(f"db.shop.svc.{ZONE}"))
    assert section(text, "size") == [
        "UDP without EDNS, 512       29 of 90 records fit, TC is set",
        "UDP with EDNS, 1232         73 of 90 records fit, TC is set",
        "TCP                         all 90 records",
    ]


@pytest.mark.parametrize(
    ("max_records", "said"),
    [(0, "behind BIND more than 100 are SERVFAIL"), (60, "60 of them are shown, others every TTL")],
)
def test_of_100_records_and_more_is_said_what_becomes_of_them(
    make_world: Callable[..., Explained], max_records: int, said: str
) -> None:
    endpoints = [f"{{addresses: [10.42.1.{number}]}}" for number in range(100)]
    world = make_world(headless(endpoints), max_records=max_records)
    note, *_, tcp = section(to_text(world.explain(f"db.shop.svc.{ZONE}")), "size")
    assert note.startswith("100 records of one type")
    assert said in note
    assert tcp.startswith("TCP")
    assert ("60 of 100 records fit, a subset" in tcp) == bool(max_records)


def test_addresses_that_find_no_room_in_additional_are_told(
    make_world: Callable[..., Explained],
) -> None:
    ports = "ports: [{name: http, port: 80}],"
    endpoints = [
        f"{{addresses: [10.42.1.{number}], hostname: host-{number:02d}}}" for number in range(17)
    ]
    text = to_text(make_world(headless(endpoints, ports)).explain(f"db.shop.svc.{ZONE} SRV"))
    assert section(text, "size")[1] == (
        "UDP with EDNS, 1232         all 17 records, 3 of 17 additional ones"
    )


def test_what_an_object_says_cannot_command_the_terminal(
    make_world: Callable[..., Explained],
) -> None:
    world = make_world(
        """
        {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
         "metadata": {"name": "web", "namespace": "shop"}, "spec": {"type": "ClusterSetIP"},
         "status": {"conditions": [
          {"type": "Ready", "status": "False", "message": "\\u001b[2J\\nforged: line"}]}}
        """
    )
    text = to_text(world.explain(f"web.shop.svc.{ZONE}"))
    assert "\x1b" not in text
    assert "\\u001b[2J\\u000aforged: line" in text


def test_stale_and_filtered_zone_is_told(make_world: Callable[..., Explained]) -> None:
    world = make_world(namespace=["shop"])
    world.tree.stale = True
    assert section(to_text(world.explain(f"web.shop.svc.{ZONE}")), "zone") == [
        ZONE,
        "only of namespace shop",
        "stale: the source of objects is away",
    ]


def test_what_has_not_been_read_is_told(shop: Explained) -> None:
    shop.tree.readiness = Readiness.NOT_SYNCED
    shop.tree.reason = "the CRD is missing"
    text = to_text(shop.explain(f"web.shop.svc.{ZONE}"))
    assert text.startswith("SERVFAIL: nothing can be said yet: the CRD is missing\n")
    assert section(text, "zone") == [ZONE, "not synced: the CRD is missing"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcdef"), "a, b, c, d and 2 more"),
    ],
)
def test_list_in_a_sentence_is_short(words: list[str], text: str) -> None:
    assert listed(words) == text


def headless(endpoints: list[str], ports: str = "") -> str:
    return f"""
{{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport,
 metadata: {{name: db, namespace: shop}}, spec: {{type: Headless}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, {ports}
 metadata: {{name: db-1, namespace: shop, labels: {{
  multicluster.kubernetes.io/service-name: db,
  multicluster.kubernetes.io/source-cluster: cluster-a}}}},
 endpoints: [{", ".join(endpoints)}]}}
"""


def section(text: str, title: str) -> list[str]:
    """Return the lines of one section, without the margin."""
    found: list[str] = []
    current = ""
    for line in text.splitlines()[1:]:
        current = line[:11].strip() or current
        if current == title:
            found.append(line[11:])
    return found


LABELS = st.sampled_from(
    [
        *("web", "db", "cold", "shop", "bank", "svc", "clusterset", "local", "cluster", "dns"),
        *("primary", "replica", "10-42-0-8", "10", "cluster-a", "cluster-b", "_mysql", "_tcp"),
        *("dns-version", "ns", "x" * 63, r"\000", r"a\.b", "*", "ß", "Web", "_", "-"),
    ]
)
TYPES = st.sampled_from([*RRType, 0, 99, 65280, 65535])


@given(st.lists(LABELS, max_size=7), st.booleans(), TYPES)
def test_any_question_is_explained_as_it_is_answered(
    labels: list[str], in_zone: bool, qtype: int
) -> None:
    name = ".".join([*labels, *([ZONE] if in_zone else [])]) or "."
    try:
        asked = wire_from_text(name)
    except InvalidNameError:
        return
    world = EVERYTHING
    found = explain(world, name, qtype)
    query = read_query(write_query(0, asked, qtype))
    assert query is not None
    decision = world.authority.answer(world.authority.route(query), query.qtype)
    assert found.reply.rcode == rcode_text(decision.response.rcode)
    assert to_text(found).startswith(f"{found.verdict.result}: ")
    for each in found.suggestions:
        again = explain(world, each.name, type_number(each.type))
        assert bool(again.reply.answer) == each.resolves


EVERYTHING = Explained(SHOP)
