import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsdns.diagnostics.explain.spelling import letters_off, nearest


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
