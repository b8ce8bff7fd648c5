"""The commands that ask: `query` shows one answer, `test` compares many with what is expected."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from mcsdns import config
from mcsdns.cli import dig_format
from mcsdns.diagnostics.cases import form, report, run
from mcsdns.diagnostics.client import TIMEOUT_S, InProcessServer, RemoteServer, server_from_text
from mcsdns.dns import MAX_UDP_BYTES
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import read_reply
from mcsdns.dns.rdata import type_number
from mcsdns.dns.request import NameServer, Request, Transport, ask_whole
from mcsdns.errors import ConfigError, InvalidNameError, NoReplyError, NoSourceError, ReplyError

SOURCE_SETTINGS: Final = {
    *("manifests", "kubeconfig", "context", "in_cluster", "import_selector", "slices"),
    *("zone", "ttl", "per_cluster", "clusterset_ips", "namespace", "ns_address"),
    *("manifest_max_bytes", "log_format", "log_level"),
}
_SOURCES: Final = {"manifests", "kubeconfig", "context", "in_cluster"}
_NOBODY: Final = "nobody to ask: give --manifests PATH, --kubeconfig FILE or --server ADDR:PORT"
_FAILED_STATUS: Final = 1
_MAX_TIMEOUT_S: Final = 3600


def add_query(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of `query`."""
    parser.description = (
        "Show an answer as dig does: of a server, or what mcsdns would answer from a source."
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("type", metavar="TYPE", nargs="?", default="A", help="default A")
    _add_whom(parser)
    parser.add_argument("--tcp", action="store_true", help="ask over TCP")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="show the data of the answer only")
    form.add_argument("--json", action="store_true", help="show one JSON document")
    parser.add_argument("--no-edns", action="store_true", help="ask without an OPT record")
    parser.add_argument(
        "--bufsize", metavar="N", type=int, help="UDP payload size to announce (default 1232)"
    )
    parser.add_argument("--do", action="store_true", help="set DNSSEC OK")
    parser.set_defaults(run=_query)


def add_test(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of `test`."""
    parser.description = (
        "Ask the questions of case files and compare the answers: of a server, or of mcsdns with "
        "a source; by default with the manifests that each file names."
    )
    parser.add_argument("cases", metavar="CASES", nargs="+", help="YAML files, or folders of them")
    _add_whom(parser)
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML")
    parser.set_defaults(run=_test)


def _add_whom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", metavar="ADDR:PORT", help="ask this server (default port 53)")
    parser.add_argument(
        "--timeout", metavar="S", type=float, help="seconds to wait, each of 3 times (default 2)"
    )
    config.add_flags(parser, SOURCE_SETTINGS)


def _query(flags: dict[str, Any]) -> int:
    request = _request(flags)
    server = _server(flags) if flags["server"] else _in_process(_settings(flags))
    transport = Transport.TCP if flags["tcp"] else Transport.UDP
    try:
        received, was_truncated = ask_whole(server, request, transport)
        reply = read_reply(received.wire)
    except (NoReplyError, ReplyError) as error:
        sys.stderr.write(f"mcsdns: {error}\n")
        return _FAILED_STATUS
    if flags["short"]:
        sys.stdout.write(dig_format.short_text(reply))
    elif flags["json"]:
        sys.stdout.write(dig_format.json_text(reply, received))
    else:
        if was_truncated:
            sys.stdout.write(";; Truncated, retrying in TCP mode.\n")
        sys.stdout.write(dig_format.long_text(reply, received, time.time()))
    return 0


def _test(flags: dict[str, Any]) -> int:
    files = [form.load(path) for path in form.find_files(flags["cases"])]
    results: list[run.Result] = []
    for result in run.run(_questions(_askers(flags, files))):
        results.append(result)
        if not result.passed:
            sys.stdout.write(report.failure_text(result) + "\n\n")
    if flags["junit"]:
        _write_junit(results, flags["junit"])
    rows = sum(len(file.rows) for file in files)
    sys.stdout.write(report.summary_text(results, rows) + "\n")
    return _FAILED_STATUS if rows > sum(result.passed for result in results) else 0


def _questions(
    files: Iterable[tuple[form.Rows, Callable[[], NameServer]]],
) -> Iterator[tuple[form.Row, NameServer]]:
    for file, make_server in files:
        server = make_server()
        for row in file.rows:
            yield row, server


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
        raise ConfigError(f"{file.file}: it names no manifests, so there is {_NOBODY}")
    return settings


def _askers(
    flags: dict[str, Any], files: Sequence[form.Rows]
) -> list[tuple[form.Rows, Callable[[], NameServer]]]:
    """Pair each case file with what makes the one to ask; the settings of all are checked."""
    if flags["server"]:
        server = _server(flags)
        return [(file, lambda: server) for file in files]
    base = config.load(flags, os.environ)
    source_given = not flags.keys().isdisjoint(_SOURCES)
    settings = [settings_for(file, base, source_given=source_given) for file in files]
    return [(file, partial(_in_process, each)) for file, each in zip(files, settings, strict=True)]


def _settings(flags: dict[str, Any]) -> config.Settings:
    settings = config.load(flags, os.environ)
    try:
        settings.access()
    except NoSourceError:
        raise ConfigError(_NOBODY) from None
    return settings


def leave_out(flag: str, flags: dict[str, Any]) -> None:
    """Refuse settings of a source where a server is asked.

    Raises:
        ConfigError: there are some.
    """
    given = sorted(name for name in {"config", *SOURCE_SETTINGS} if flags.get(name) is not None)
    if given:
        text = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"{flag} asks a server as it runs; leave out {text}")


def _server(flags: dict[str, Any]) -> NameServer:
    leave_out("--server", flags)
    timeout_s = flags["timeout"] if flags["timeout"] is not None else TIMEOUT_S
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise ConfigError(f"--timeout: {timeout_s:g} is not more than 0 and at most 3600 seconds")
    host, port = server_from_text(flags["server"])
    return RemoteServer(host, port, timeout_s=timeout_s)


def _in_process(settings: config.Settings) -> NameServer:
    import anyio  # noqa: PLC0415 - not needed to ask a server

    from mcsdns.app import log  # noqa: PLC0415
    from mcsdns.diagnostics.offline import read_once  # noqa: PLC0415

    log.configure(settings.log_format, settings.log_level)
    world = anyio.run(read_once, settings)
    source = ", ".join(settings.manifests) or "the API server"
    name = f"in process, from {source}"
    return InProcessServer(world.answerer, world.tree, name)


def _request(flags: dict[str, Any]) -> Request:
    size = MAX_UDP_BYTES if flags["bufsize"] is None else flags["bufsize"]
    if flags["no_edns"] and (flags["do"] or flags["bufsize"] is not None):
        raise ConfigError("--no-edns: --do and --bufsize are of EDNS, leave them out")
    if not 0 <= size <= 0xFFFF:  # noqa: PLR2004 - the field has 16 bits
        raise ConfigError(f"--bufsize: {size} is not between 0 and 65535")
    try:
        name, qtype = names.wire_from_text(flags["name"]), type_number(flags["type"])
    except (InvalidNameError, ValueError) as error:
        raise ConfigError(str(error)) from None
    return Request(name=name, qtype=qtype, edns=not flags["no_edns"], size=size, do=flags["do"])


def _write_junit(results: Sequence[run.Result], path: str) -> None:
    try:
        report.write_junit(results, path)
    except OSError as error:
        raise ConfigError(f"--junit {path}: {error.strerror}; name a file to write") from None
