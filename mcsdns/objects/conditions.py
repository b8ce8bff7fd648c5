"""Which conditions of a ServiceImport's status are bad, and how a condition reads in a sentence.

KEP-1645 and its implementations write conditions of two kinds. `Conflict` and the types that begin
with it report a fault while they hold, so they are bad when True. `Valid`, `Ready` and `Accepted`
report that all is well, so they are bad when False or Unknown. Any other type belongs to an
implementation, and whether its True is good or bad is not known here: it is shown, never judged.
"""

from typing import Final

from mcsdns.objects.model import Condition

_FAULT: Final = "Conflict"
_GOOD_WHEN_TRUE: Final = frozenset({"Valid", "Ready", "Accepted"})


def is_bad(condition: Condition) -> bool:
    """Return whether a condition reports a fault; False for a type that is not known."""
    if condition.type.startswith(_FAULT):
        return condition.status == "True"
    return condition.type in _GOOD_WHEN_TRUE and condition.status != "True"


def to_text(condition: Condition) -> str:
    """Return `Type is Status`, with reason and message in parentheses where there are any."""
    why = ": ".join(filter(None, (condition.reason, condition.message)))
    return f"{condition.type} is {condition.status}" + (f" ({why})" if why else "")
