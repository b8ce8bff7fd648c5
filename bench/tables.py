"""Tables of text."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEFT_COLUMNS = {"scenario", "server", "notes", "what", "verdict", "load", "write"}
Row = list[str]


def table(headings: tuple[str, ...], rows: list[Row]) -> str:
    """Return rows under headings, text to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (list(headings), *rows):
        cells = [
            cell.ljust(width) if heading in LEFT_COLUMNS else cell.rjust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float | None, digits: int = 0) -> str:
    """Return a number for a table, a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def titled(title: str, headings: tuple[str, ...], rows: Iterable[Row]) -> str:
    """Return a table under a line that says what it shows."""
    return f"{title}\n{table(headings, list(rows))}"


def median_of(samples: Sequence[Any], name: str) -> float:
    """Return the median of one figure of samples."""
    return float(statistics.median(getattr(sample, name) for sample in samples))
