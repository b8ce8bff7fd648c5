"""Numbers, lists, names and records as people read them; records as a zone file has them."""

from collections.abc import Sequence
from typing import Final

from mcsdns.dns import name as names

_MOST_LISTED: Final = 4


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 record`, `2 records`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return `a`, `a and b`, `a, b and c`, or `a, b and 7 more`."""
    shown_words = list(words[:most])
    if len(words) > most:
        shown_words.append(f"{len(words) - most} more")
    if len(shown_words) < 2:  # noqa: PLR2004
        return "".join(shown_words)
    return f"{', '.join(shown_words[:-1])} and {shown_words[-1]}"


def label_text(label: bytes) -> str:
    """Return one label, given without its length octet, in presentation form."""
    return names.to_text(bytes((len(label),)) + label)[:-1]


def shown(name: bytes) -> str:
    """Return an absolute name for a sentence, without the trailing dot."""
    text = names.to_text(name)
    return text if text == "." else text[:-1]
