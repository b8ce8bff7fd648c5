import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.dns import name as names
from mcsdns.errors import InvalidNameError

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=5).filter(
    lambda labels: sum(map(len, labels)) + len(labels) < 255
)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (".", ()),
        ("", ()),
        ("a", (b"a",)),
        ("a.b.", (b"a", b"b")),
        (r"a\.b.c", (b"a.b", b"c")),
        (r"a\046b", (b"a.b",)),
        (r"\000\255", (b"\0\xff",)),
        (r"a\\.b", (b"a\\", b"b")),
        (r"a\.", (b"a.",)),
        (r"a\\.", (b"a\\",)),
        ("a b", (b"a b",)),
    ],
)
def test_presentation_form_is_read(text: str, labels: tuple[bytes, ...]) -> None:
    assert names.labels_of(names.wire_from_text(text)) == labels


@pytest.mark.parametrize(
    "text", ["..", "a..b", ".a", "a" * 64, ".".join(["a" * 60] * 5), r"a\256", "a\\", r"a\1"]
)
def test_bad_presentation_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        names.wire_from_text(text)


@given(LABELS)
def test_text_and_back_is_the_same_name(labels: list[bytes]) -> None:
    name = names.from_labels(labels)
    assert names.from_text(names.to_text(name)) == name
    assert names.labels_of(name) == tuple(label.lower() for label in labels)


def test_case_is_folded_for_ascii_only() -> None:
    assert names.from_labels([b"A\xc4"]) == b"\x02a\xc4\x00"


@pytest.mark.parametrize("labels", [[b""], [b"a" * 64], [b"a" * 63] * 4 + [b"b"]])
def test_labels_and_names_have_limits(labels: list[bytes]) -> None:
    with pytest.raises(InvalidNameError):
        names.from_labels(labels)


def test_the_longest_name_has_255_octets() -> None:
    assert len(names.from_labels([b"a" * 63] * 3 + [b"b" * 61])) == 255


@pytest.mark.parametrize(
    ("name", "zone", "below"),
    [
        ("a.b", "b", True),
        ("b", "b", True),
        ("ab", "b", False),
        (r"a\001b", "b", False),
        ("b", "a.b", False),
        ("a.b", ".", True),
    ],
)
def test_below_means_whole_labels(name: str, zone: str, below: bool) -> None:
    assert names.is_at_or_below(names.from_text(name), names.from_text(zone)) is below


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        *(("a", True), ("a-1", True), ("1", True), ("a" * 63, True)),
        *(("-a", False), ("a-", False), ("A", False), ("a.b", False), ("a_b", False)),
        *(("", False), ("a" * 64, False), ("a\n", False), ("\u00e4", False)),
    ],
)
def test_dns_label(text: str, valid: bool) -> None:
    assert names.is_dns_label(text) is valid


def test_name_of_a_service() -> None:
    zone = names.from_text("clusterset.local")
    service = names.service_name(b"\x03web\x04shop", zone)
    assert names.to_text(service) == "web.shop.svc.clusterset.local."
