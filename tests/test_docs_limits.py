"""docs/limits.md names metrics, labels and settings that are there, with their defaults."""

import re

import msgspec
import pytest

from mcsdns.config import Settings
from mcsdns.metrics.catalog import METRICS
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| bound", "| ---"))
]
NAMED = re.compile(r"`mcsdns_(\w+)`(?: \(([^)]*)\))?")
UNITS = {"": 1, "s": 1, "octets": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Settings)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_is_whole(row: list[str]) -> None:
    assert len(row) == 5
    assert row[0]
    assert row[1]


def test_every_metric_and_label_is_there() -> None:
    for name, labels in NAMED.findall(PAGE):
        known = {value for label in METRICS[name].labels for value in label.values}
        assert set(re.findall(r"`(\w+)`", labels)) <= known, name


@pytest.mark.parametrize("row", [row for row in ROWS if row[2]], ids=lambda row: row[2])
def test_every_setting_is_there_with_its_default(row: list[str]) -> None:
    default = DEFAULTS[row[2].strip("`")]
    number = re.match(r"([\d,]+) ?(\w*)", row[1])
    if number:
        assert int(number[1].replace(",", "")) * UNITS[number[2]] == default
    else:
        assert (row[1], default) == ("half of them", 0.5)
