"""The one rule for the conditions of a ServiceImport."""

import pytest

from mcsdns.objects.conditions import is_bad, to_text
from mcsdns.objects.model import Condition


@pytest.mark.parametrize(
    ("type_", "status", "expected"),
    [
        ("Conflict", "True", True),
        ("Conflict", "False", False),
        ("Conflict", "Unknown", False),
        ("Conflicted", "True", True),
        ("ConflictingPorts", "True", True),
        *((type_, "True", False) for type_ in ("Valid", "Ready", "Accepted")),
        *((type_, "False", True) for type_ in ("Valid", "Ready", "Accepted")),
        *((type_, "Unknown", True) for type_ in ("Valid", "Ready", "Accepted")),
        ("Foo", "True", False),
        ("Foo", "False", False),
    ],
)
def test_conflicts_are_bad_when_true_and_readiness_when_not(
    type_: str, status: str, expected: bool
) -> None:
    assert is_bad(Condition(type_, status)) is expected


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Condition("Ready", "True"), "Ready is True"),
        (Condition("Ready", "False", "Pending"), "Ready is False (Pending)"),
        (Condition("Ready", "False", "", "later"), "Ready is False (later)"),
        (Condition("Ready", "False", "Pending", "later"), "Ready is False (Pending: later)"),
    ],
)
def test_condition_reads_with_its_reason_and_message(condition: Condition, text: str) -> None:
    assert to_text(condition) == text
