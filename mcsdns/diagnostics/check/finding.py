"""What checks come to, as plain values, as text and as JSON, which has these structs' fields.

Field names and the words of the enums are a contract with programs (docs/check.md): add, do not
rename.
"""

import enum
from collections import Counter
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.present import counted, listed
from mcsdns.dns.rdata import printable

_MARGIN: Final = 9
_MOST_OF_ONE_KIND: Final = 10


class Severity(enum.StrEnum):
    """How bad it is; the worst stands first."""

    ERROR = "error"
    """Names do not resolve, or soon will not."""
    WARNING = "warning"
    """Some names, some clients, or not always; or something important cannot be told."""
    NOTE = "note"
    """Worth knowing."""


class Reason(enum.StrEnum):
    """What was found. The order is that of causes: what stands first explains what follows."""

    API_AWAY = "api_away"
    NOT_AUTHENTICATED = "not_authenticated"
    CRD_MISSING = "crd_missing"
    NO_PERMISSION = "no_permission"
    NOT_READ = "not_read"
    SERVER_SILENT = "server_silent"
    SERVER_NOT_READY = "server_not_ready"
    SERVER_FAILS = "server_fails"
    FORWARDING_LOOP = "forwarding_loop"
    CLUSTER_DNS_SILENT = "cluster_dns_silent"
    NODE_LOCAL_DNS = "node_local_dns"
    STUB_BLOCK_MISSING = "stub_block_missing"
    STUB_TARGET_FAILS = "stub_target_fails"
    STUB_TARGET_WRONG = "stub_target_wrong"
    NO_UPSTREAM = "no_upstream"
    ZONE_BOGUS = "zone_bogus"
    ADDRESSES_DROPPED = "addresses_dropped"
    ANSWERS_DIFFER = "answers_differ"
    BAD_OBJECT = "bad_object"
    SLICES_WITHOUT_IMPORT = "slices_without_import"
    NO_ADDRESS = "no_address"
    NO_READY_ENDPOINT = "no_ready_endpoint"
    SLICES_DISAGREE = "slices_disagree"
    PORTS_CONFLICT = "ports_conflict"
    CLUSTER_WITHOUT_SLICE = "cluster_without_slice"
    CONDITION = "condition"
    PERMISSION_UNKNOWN = "permission_unknown"
    MDNS_FIRST = "mdns_first"
    MANY_RECORDS = "many_records"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found.

    Attributes:
        what: is wrong, and what follows from it. where: object, file, server or setting.
        mend: what to do, with the command or the text to add.
    """

    severity: Severity
    reason: Reason
    what: str
    where: str
    mend: str


def error(reason: Reason, what: str, where: str, mend: str) -> Finding:
    """Make an error."""
    return Finding(Severity.ERROR, reason, what, where, mend)


class Report:
    """What checks came to; each puts down what it finds, what it looked at, and what it did not.

    Attributes:
        checked: what was looked at. skipped: what was not, and why, so that silence about
            something never means that it is well.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._findings: dict[Finding, None] = {}
        self.checked: list[str] = []
        self.skipped: list[str] = []

    def add(self, finding: Finding) -> None:
        """Put down what was found; the same found twice counts once."""
        self._findings[finding] = None

    def error(self, reason: Reason, what: str, where: str, mend: str) -> None:
        """Put down an error."""
        self.add(error(reason, what, where, mend))

    def warning(self, reason: Reason, what: str, where: str, mend: str) -> None:
        """Put down a warning."""
        self.add(Finding(Severity.WARNING, reason, what, where, mend))

    def has(self, *reasons: Reason) -> bool:
        """Return whether something was found for one of these reasons."""
        return any(each.reason in reasons for each in self._findings)

    @property
    def findings(self) -> list[Finding]:
        """What was found: the worst first, and causes before what they cause."""
        severities, reasons = list(Severity), list(Reason)
        return sorted(
            self._findings,
            key=lambda each: (severities.index(each.severity), reasons.index(each.reason)),
        )

    @property
    def counts(self) -> Counter[Severity]:
        """How many findings there are of each severity."""
        return Counter(each.severity for each in self._findings)


def to_text(report: Report) -> str:
    """Write a report: three lines for each finding, then what was looked at and what was not.

    Of one severity and reason ten are written, the others counted.
    """
    lines: list[str] = []
    kinds = Counter[tuple[Severity, Reason]]()
    for each in report.findings:
        kinds[each.severity, each.reason] += 1
        if kinds[each.severity, each.reason] <= _MOST_OF_ONE_KIND:
            lines.append(f"{each.severity:{_MARGIN}}{each.what}")
            lines.append(f"{'  where':{_MARGIN}}{each.where}")
            lines.append(f"{'  mend':{_MARGIN}}{each.mend}")
    for (severity, reason), number in kinds.items():
        if number > _MOST_OF_ONE_KIND:
            more = f"{number - _MOST_OF_ONE_KIND} more of {reason}"
            lines.append(f"{severity:{_MARGIN}}{more}; --json has them all")
    if lines:
        lines.append("")
    counts = report.counts
    found = [counted(counts[each], each) for each in Severity if counts[each]]
    lines.append(f"{'found':{_MARGIN}}{listed(found) or 'nothing wrong'}")
    for title, texts in (("checked", report.checked), ("skipped", report.skipped)):
        for number, text in enumerate(texts):
            lines.append(f"{'' if number else title:{_MARGIN}}{text}")
    return "".join(printable(line) + "\n" for line in lines)


def to_json(report: Report) -> str:
    """Write a report as one JSON document; docs/check.md says what its parts are."""
    document = {f"{each}s": report.counts[each] for each in Severity} | {
        "findings": report.findings,
        "checked": report.checked,
        "skipped": report.skipped,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
