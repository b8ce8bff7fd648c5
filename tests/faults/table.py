"""The table of docs/faults.md: what it says is logged is what the tests wait for."""

import re
from typing import NamedTuple

from tests.paths import ROOT


class Row(NamedTuple):
    """One fault: what the page says of it."""

    fault: str
    answered: str
    lost: str
    logged: str
    recovers: str

    @property
    def lines(self) -> list[str]:
        """What is logged, word for word: each part between backticks."""
        return re.findall(r"`([^`]+)`", self.logged)


ROWS = [
    Row(*(cell.strip() for cell in line.strip("|").split("|")))
    for line in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| fault", "| ---"))
]


def row(fault: str) -> Row:
    """The row of a fault, by its first cell."""
    (found,) = (each for each in ROWS if each.fault == fault)
    return found
