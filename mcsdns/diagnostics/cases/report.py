"""Results as text for people and as JUnit XML for CI."""

import os
from collections.abc import Iterator, Sequence

from mcsdns.diagnostics.cases.run import Check, Difference, Result
from mcsdns.dns.rdata import printable


def failure_text(result: Result) -> str:
    """Write what is different in a failed case: `-` what was expected, `+` what came.

    Transports that differ alike are told once.
    """
    row = result.row
    spec = f" ({row.spec})" if row.spec else ""
    lines = [f"FAILED {row.file}:{row.line}: {row.why or row.asked}{spec}"]
    told: dict[tuple[str, ...], list[str]] = {}
    for check in result.checks:
        if not check.passed:
            told.setdefault(tuple(_check_lines(check)), []).append(check.transport.upper())
    for body, transports in told.items():
        lines.append(f"  {row.asked} over {' and '.join(transports)}")
        lines += body
    return "\n".join(map(printable, lines))


def summary_text(results: Sequence[Result], rows: int) -> str:
    """Write how many cases passed and failed, and how many of all `rows` were not asked."""
    failed = sum(not result.passed for result in results)
    left = f", {rows - len(results)} not asked" if rows > len(results) else ""
    return f"{len(results) - failed} passed, {failed} failed{left}"


def write_junit(results: Sequence[Result], path: str) -> None:
    """Write JUnit XML: a suite for each case file, a test case for each case.

    Raises:
        OSError: the file cannot be written.
    """
    from junitparser import Failure, JUnitXml, TestCase, TestSuite  # noqa: PLC0415 - 20 ms

    document = JUnitXml("mcsdns test")
    suites: dict[str, TestSuite] = {}
    for result in results:
        row = result.row
        suite = suites.setdefault(row.file, TestSuite(row.file))
        class_name = os.path.splitext(row.file)[0].replace(os.sep, ".").strip(".")
        case = TestCase(printable(row.why or row.asked), class_name, round(result.elapsed_s, 6))
        if not result.passed:
            failure = Failure(f"{row.file}:{row.line}: {printable(row.asked)}")
            failure.text = failure_text(result)
            case.result = [failure]
        suite.add_testcase(case)
    for suite in suites.values():
        document.add_testsuite(suite)
    document.write(path, pretty=True)  # pyright: ignore[reportUnknownMemberType]


def _check_lines(check: Check) -> Iterator[str]:
    if check.fault:
        yield f"    {check.fault}"
        return
    for difference in check.differences:
        yield from _difference_lines(difference)
    said = {difference.part for difference in check.differences}
    for error in check.reply.errors if check.reply and "ede" not in said else ():
        yield f"    the server says: EDE {error.code} {error.text!r}"


def _difference_lines(difference: Difference) -> Iterator[str]:
    alike = f" ({difference.alike} more as expected)" if difference.alike else ""
    yield f"    {difference.part}{alike}"
    yield from (f"      - {line}" for line in difference.expected)
    yield from (f"      + {line}" for line in difference.got)
