"""Which upstreams serve a name."""

import pytest

from mcsdns.dns.name import Name, from_text
from mcsdns.forward.router import Router

ZONES = {
    "corp.example": "corp",
    "eu.corp.example": "eu",
    "x.y.z.deep.example": "deep",
    "test": "test",
}


def find(stubs: Router[str], text: str) -> str | None:
    name = from_text(text)
    labels: list[int] = []
    at = 0
    while name[at]:
        labels.append(at)
        at += 1 + name[at]
    return stubs.find(name, tuple(labels))


def stubs_of(zones: dict[str, str], default: str | None = None) -> Router[str]:
    return Router({from_text(zone): served for zone, served in zones.items()}, default)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("corp.example", "corp"),
        ("www.corp.example", "corp"),
        ("eu.corp.example", "eu"),
        ("a.b.eu.corp.example", "eu"),
        ("WWW.EU.Corp.Example", "eu"),
        ("xeu.corp.example", "corp"),
        ("mycorp.example", "rest"),
        ("example", "rest"),
        ("deep.example", "rest"),
        ("w.x.y.z.deep.example", "deep"),
        ("test", "test"),
        ("corp.example.test", "test"),
        ("corp.example.org", "rest"),
        (".", "rest"),
    ],
)
def test_the_longest_suffix_wins(name: str, expected: str) -> None:
    assert find(stubs_of(ZONES, "rest"), name) == expected


def test_a_label_that_holds_the_octets_of_a_zone_is_not_the_zone() -> None:
    assert find(stubs_of({"test": "zone"}), r"a\004test") is None


def test_without_a_default_other_names_have_no_upstream() -> None:
    assert find(stubs_of(ZONES), "example.org") is None


def test_the_root_zone_serves_the_rest() -> None:
    stubs = stubs_of({".": "root", "test": "zone"}, "default")
    assert find(stubs, "example.org") == "root"
    assert find(stubs, ".") == "root"
    assert find(stubs, "www.test") == "zone"


def test_no_zones_are_just_the_default() -> None:
    assert Router[str]({}, "rest").find(Name(b"\x01a\0"), (0,)) == "rest"
