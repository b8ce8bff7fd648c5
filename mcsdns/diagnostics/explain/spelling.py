"""Which known words are spelt nearly like an unknown one; bounded, so that many words stay fast."""

from collections.abc import Iterable
from typing import Final

_MOST_COMPARED: Final = 3000
_SHORT: Final = 4
"""Words up to this length are near at one letter, longer ones at two."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[tuple[int, str]]:
    """Return the known words nearest to `word`, itself left out, with their distances."""
    letters = frozenset(word)
    found: list[tuple[int, str]] = []
    compared = 0
    for other in known:
        most = _most_letters_off(word, other)
        if other == word or abs(len(other) - len(word)) > most:
            continue
        if len(letters.symmetric_difference(other)) > 2 * most:
            continue  # one letter in place of another changes two of the set
        compared += 1
        if compared > _MOST_COMPARED:
            break
        distance = letters_off(word, other)
        if distance <= most:
            found.append((distance, other))
    return sorted(found)[:count]


def letters_off(one: str, other: str) -> int:
    """Return how many letters are missing, too many, wrong, or swapped with their neighbour.

    Optimal string alignment: Damerau-Levenshtein without edits inside a swapped pair.
    """
    one, other = _without_common_ends(one, other)
    before: list[int] = []
    above = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, against in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]


def _most_letters_off(one: str, other: str) -> int:
    shorter = min(len(one), len(other))
    return min(shorter - 1, 1 if max(len(one), len(other)) <= _SHORT else 2)


def _without_common_ends(one: str, other: str) -> tuple[str, str]:
    shorter = min(len(one), len(other))
    start = 0
    while start < shorter and one[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    return one[start : len(one) - end], other[start : len(other) - end]
