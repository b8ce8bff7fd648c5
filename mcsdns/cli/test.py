"""The command `test`: compares the answers to the questions of case files with what is expected."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from mcsdns import config
from mcsdns.cli.query import (
    FAILED_STATUS,
    NO_SERVER,
    add_server_flags,
    in_process_server,
    remote_server,
)
from mcsdns.diagnostics.cases import form, run
from mcsdns.dns.request import NameServer
from mcsdns.errors import ConfigError

_SOURCES: Final = {"manifests", "kubeconfig", "context", "in_cluster"}


def add_test(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of `test`."""
    parser.description = (
        "Ask the questions of case files and compare the answers: of a server, or of mcsdns with "
        "a source; by default with the manifests that each file names."
    )
    parser.add_argument("cases", metavar="CASES", nargs="+", help="YAML files, or folders of them")
    add_server_flags(parser)
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML")
    parser.set_defaults(run=_test)


def _test(flags: dict[str, Any]) -> int:
    files = [form.load(path) for path in form.find_files(flags["cases"])]
    results: list[run.Result] = []
    for result in run.run(_questions(flags, files)):
        results.append(result)
        if not result.passed:
            sys.stdout.write(run.failure_text(result) + "\n\n")
    if path := flags["junit"]:
        try:
            run.write_junit(results, path)
        except OSError as error:
            raise ConfigError(f"--junit {path}: {error.strerror}; name a file to write") from None
    rows = sum(len(file.rows) for file in files)
    sys.stdout.write(run.summary_text(results, rows) + "\n")
    return FAILED_STATUS if rows > sum(result.passed for result in results) else 0


def _questions(
    flags: dict[str, Any], files: Sequence[form.Rows]
) -> Iterator[tuple[form.Row, NameServer]]:
    """Pair each row with the server to ask; the settings of all files are checked first."""
    if flags["server"]:
        server = remote_server(flags)
        yield from ((row, server) for file in files for row in file.rows)
        return
    base = config.load(flags, os.environ)
    source_given = not flags.keys().isdisjoint(_SOURCES)
    settings = [settings_for(file, base, source_given=source_given) for file in files]
    for file, each in zip(files, settings, strict=True):
        server = in_process_server(each)
        yield from ((row, server) for row in file.rows)


def settings_for(
    file: form.Rows, base: config.Settings, *, source_given: bool = False
) -> config.Settings:
    """Return the settings that a case file wants: its own in place of those of `base`.

    Its manifests are the source unless one was given for all files.

    Raises:
        ConfigError: a setting of the file is wrong, or nothing is a source.
    """
    plain = dict(file.settings)
    if file.manifests and not source_given:
        plain["manifests"] = file.manifests
    theirs = config.from_mapping(plain, file.settings_at)
    keys = [key.replace("-", "_") for key in plain]
    settings = msgspec.structs.replace(base, **{key: getattr(theirs, key) for key in keys})
    if not settings.manifests and not source_given:
        raise ConfigError(f"{file.file}: it names no manifests, so there is {NO_SERVER}")
    return settings
