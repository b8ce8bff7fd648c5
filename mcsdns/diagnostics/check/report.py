"""An outcome as text, the worst first, or as one JSON document."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, Severity
from mcsdns.diagnostics.explain.present import counted, listed
from mcsdns.dns.rdata import printable

_MARGIN: Final = 9
_MOST_OF_ONE_KIND: Final = 10


def to_text(outcome: Outcome) -> str:
    """Write an outcome: three lines for each finding, then what was looked at and what was not."""
    lines = [*_findings(outcome), *_coverage(outcome)]
    return "".join(printable(line) + "\n" for line in lines)


def to_json(outcome: Outcome) -> str:
    """Write an outcome as one JSON document; finding.py says what its parts are."""
    document = {**_counts(outcome), **msgspec.structs.asdict(outcome)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _counts(outcome: Outcome) -> dict[str, int]:
    counts = Counter(each.severity for each in outcome.findings)
    return {f"{severity}s": counts[severity] for severity in Severity}


def _findings(outcome: Outcome) -> Iterator[str]:
    seen = Counter[tuple[Severity, Reason]]()
    for each in outcome.findings:
        kind = each.severity, each.reason
        seen[kind] += 1
        if seen[kind] <= _MOST_OF_ONE_KIND:
            yield from _three_lines(each)
    for (severity, reason), number in seen.items():
        if number > _MOST_OF_ONE_KIND:
            more = number - _MOST_OF_ONE_KIND
            yield f"{severity:{_MARGIN}}{more} more of {reason}; --json has them all"


def _three_lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity:{_MARGIN}}{finding.what}"
    yield f"{'  where':{_MARGIN}}{finding.where}"
    yield f"{'  mend':{_MARGIN}}{finding.mend}"


def _coverage(outcome: Outcome) -> Iterator[str]:
    counts = Counter(each.severity for each in outcome.findings)
    said = [counted(counts[severity], severity) for severity in Severity if counts[severity]]
    if outcome.findings:
        yield ""
    yield f"{'found':{_MARGIN}}{listed(said) or 'nothing wrong'}"
    for title, texts in (("checked", outcome.checked), ("skipped", outcome.skipped)):
        for number, text in enumerate(texts):
            yield f"{'' if number else title:{_MARGIN}}{text}"
