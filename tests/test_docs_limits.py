"""docs/limits.md names metrics, labels and settings that are there, with their defaults."""

import re

import msgspec
import pytest

from mcsdns.config import Settings
from mcsdns.metrics.catalog import METRICS
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = [  # of the tables of bounds
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## What they come to")[0].splitlines()
    if line.startswith("| ") and not line.startswith(("| bound", "| ---"))
]
NAMED = re.compile(r"`mcsdns_(\w+)`(?: \(([^)]*)\))?")
UNITS = {"": 1, "s": 1, "octets": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Settings)}

SUMS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("| | stub target")[2].splitlines()[2:]
]
LIMITS = [
    ("base/deployment.yaml", 1),
    ("node-local/daemonset.yaml", 2),
    ("components/sidecar/sidecar.yaml", 3),
]


@pytest.mark.parametrize(("path", "column"), LIMITS)
def test_the_limit_of_memory_is_above_what_all_bounds_come_to(path: str, column: int) -> None:
    *parts, in_all, limit = (int(row[column]) for row in SUMS)
    assert sum(parts) == in_all < limit
    text = (ROOT / "deploy" / "kustomize" / path).read_text(encoding="utf-8")
    written = re.findall(r"limits:\n +memory: (\d+)(Mi|Gi)", text)[-1]
    assert int(written[0]) * {"Mi": 1, "Gi": 1024}[written[1]] == limit


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
