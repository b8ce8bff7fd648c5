"""Objects that cannot be read, or only in part: what the source reported, as findings."""

from collections.abc import Iterable
from typing import Final

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, Severity
from mcsdns.sources.manifests.documents import Located

_LIGHT: Final = {"bad_hostname", "bad_port", "repeated_key"}
"""Problems that cost a name or a record, and leave the rest of the object as it is."""
_MENDS: Final = {
    "bad_object": "correct the field, or have the controller that wrote it corrected",
    "bad_address": "correct the address, or have the controller that wrote it corrected",
    "bad_hostname": "use lower-case letters, digits and hyphens, at most 63",
    "bad_port": "correct the port in the exported Service",
    "repeated_key": "keep one of the two",
    "unknown_version": "write the apiVersion that the text names",
    "duplicate": "keep one of the two",
}
_OTHERWISE: Final = "correct the document, or take it away"


def check_objects(problems: Iterable[Located]) -> Outcome:
    """Say which objects are not served as they stand, and why."""
    return Outcome(tuple(map(_finding, problems)))


def _finding(located: Located) -> Finding:
    problem = located.problem
    severity = Severity.WARNING if problem.reason in _LIGHT else Severity.ERROR
    where = f"{problem.path} of {problem.subject}"
    what, mend = problem.text, _MENDS.get(problem.reason, _OTHERWISE)
    if problem.reason == "malformed_slice":  # whose text ends with what to do
        what, _, mend = what.rpartition("; ")
    return Finding(
        severity,
        Reason.BAD_OBJECT,
        f"{problem.subject}: {what}",
        f"{located.origin}: {where}" if located.origin else where,
        mend,
    )
