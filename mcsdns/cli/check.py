"""The command `check`: looks at all that can be reached, and says the worst first."""

import argparse
import os
import sys
from typing import Any

from mcsdns import config


def add_check(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of `check`."""
    parser.description = (
        "Look at the whole installation: API versions, permissions, objects, and the way from the "
        "cluster DNS to mcsdns. Exit status: 0 no error, 1 errors, 2 not done as asked."
    )
    parser.add_argument("--server", metavar="ADDR:PORT", help="an mcsdns that runs")
    parser.add_argument(
        "--cluster-dns",
        metavar="ADDR:PORT",
        help="the cluster DNS (default in a pod /etc/resolv.conf, else the kube-dns Service)",
    )
    parser.add_argument(
        "--service-account",
        metavar="NS:NAME",
        help="that of mcsdns, asked about from outside its pod (default mcsdns:mcsdns)",
    )
    parser.add_argument(
        "--timeout", metavar="S", type=float, help="seconds to wait for a DNS reply (default 2)"
    )
    parser.add_argument("--json", action="store_true", help="show one JSON document")
    config.add_flags(parser, "check")
    parser.set_defaults(run=_check)


def _check(flags: dict[str, Any]) -> int:
    from mcsdns.app import log  # noqa: PLC0415 - what is imported here takes 0.5 s
    from mcsdns.diagnostics.check import finding, run  # noqa: PLC0415

    plan = run.plan_of(flags, os.environ)
    log.configure(plan.settings.log_format, "error")  # findings say the rest
    report = run.run(plan)
    sys.stdout.write(finding.to_json(report) if flags["json"] else finding.to_text(report))
    return 1 if report.counts[finding.Severity.ERROR] else 0
