"""Each row of docs/faults.md is tested."""

from pathlib import Path

import pytest

from tests.faults.table import ROWS, Row

TESTED = "".join(each.read_text() for each in Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_a_row_is_whole_and_tested(row: Row) -> None:
    assert all(row)
    assert f'"{row.fault}"' in TESTED
