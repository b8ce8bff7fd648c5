"""The command `query`: shows one answer, of a server or of mcsdns with a source."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from mcsdns import config
from mcsdns.cli import dig_format
from mcsdns.diagnostics.client import TIMEOUT_S, InProcessServer, RemoteServer, server_from_text
from mcsdns.dns import MAX_UDP_BYTES
from mcsdns.dns import name as names
from mcsdns.dns.message_reader import read_reply
from mcsdns.dns.rdata import type_number
from mcsdns.dns.request import NameServer, Request, Transport, ask_whole
from mcsdns.errors import ConfigError, InvalidNameError, NoReplyError, NoSourceError, ReplyError

if TYPE_CHECKING:
    from mcsdns.server.zone_state import ZoneState

NO_SERVER: Final = "nobody to ask: give --manifests PATH, --kubeconfig FILE or --server ADDR:PORT"
FAILED_STATUS: Final = 1
_MAX_TIMEOUT_S: Final = 3600


def add_query(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of `query`."""
    parser.description = (
        "Show an answer as dig does: of a server, or what mcsdns would answer from a source."
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("type", metavar="TYPE", nargs="?", default="A", help="default A")
    add_server_flags(parser)
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


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what is asked: a server, or mcsdns with a source."""
    parser.add_argument("--server", metavar="ADDR:PORT", help="ask this server (default port 53)")
    parser.add_argument(
        "--timeout", metavar="S", type=float, help="seconds to wait, each of 3 times (default 2)"
    )
    config.add_flags(parser, "query")


def _query(flags: dict[str, Any]) -> int:
    request = _request(flags)
    server = remote_server(flags) if flags["server"] else in_process_server(_settings(flags))
    transport = Transport.TCP if flags["tcp"] else Transport.UDP
    try:
        received, was_truncated = ask_whole(server, request, transport)
        reply = read_reply(received.wire)
    except (NoReplyError, ReplyError) as error:
        sys.stderr.write(f"mcsdns: {error}\n")
        return FAILED_STATUS
    if flags["short"]:
        sys.stdout.write(dig_format.short_text(reply))
    elif flags["json"]:
        sys.stdout.write(dig_format.json_text(reply, received))
    else:
        if was_truncated:
            sys.stdout.write(";; Truncated, retrying in TCP mode.\n")
        sys.stdout.write(dig_format.long_text(reply, received, time.time()))
    return 0


def _settings(flags: dict[str, Any]) -> config.Settings:
    settings = config.load(flags, os.environ)
    try:
        settings.access()
    except NoSourceError:
        raise ConfigError(NO_SERVER) from None
    return settings


def refuse_source(flag: str, flags: dict[str, Any]) -> None:
    """Refuse settings of a source where a server is asked.

    Raises:
        ConfigError: there are some.
    """
    names = ["config", *(field.name for field in config.fields_of("query"))]
    given = sorted(name for name in names if flags.get(name) is not None)
    if given:
        text = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"{flag} asks a server as it runs; leave out {text}")


def remote_server(flags: dict[str, Any]) -> NameServer:
    """Return the server of `--server`.

    Raises:
        ConfigError: a flag is wrong, or is one of a source.
    """
    refuse_source("--server", flags)
    timeout_s = flags["timeout"] if flags["timeout"] is not None else TIMEOUT_S
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise ConfigError(f"--timeout: {timeout_s:g} is not more than 0 and at most 3600 seconds")
    host, port = server_from_text(flags["server"])
    return RemoteServer(host, port, timeout_s=timeout_s)


def read_source(settings: config.Settings) -> "ZoneState":
    """Read the source once."""
    import anyio  # noqa: PLC0415 - not needed to ask a server

    from mcsdns.app import log  # noqa: PLC0415
    from mcsdns.diagnostics.offline import read_once  # noqa: PLC0415

    log.configure(settings.log_format, settings.log_level)
    return anyio.run(read_once, settings)


def in_process_server(settings: config.Settings) -> NameServer:
    """Read the source once, and return what answers from it in this process."""
    source = ", ".join(settings.manifests) or "the API server"
    return InProcessServer(read_source(settings).authority, f"in process, from {source}")


def question_of(flags: dict[str, Any], hint: str = "") -> tuple[bytes, int]:
    """Return the name, in wire form, and the type that are asked for.

    Raises:
        ConfigError: one of them is none; `hint` stands behind what is wrong.
    """
    try:
        return names.wire_from_text(flags["name"]), type_number(flags["type"])
    except (InvalidNameError, ValueError) as error:
        raise ConfigError(f"{error}{hint}") from None


def _request(flags: dict[str, Any]) -> Request:
    size = MAX_UDP_BYTES if flags["bufsize"] is None else flags["bufsize"]
    if flags["no_edns"] and (flags["do"] or flags["bufsize"] is not None):
        raise ConfigError("--no-edns: --do and --bufsize are of EDNS, leave them out")
    if not 0 <= size <= 0xFFFF:  # noqa: PLR2004 - the field has 16 bits
        raise ConfigError(f"--bufsize: {size} is not between 0 and 65535")
    name, qtype = question_of(flags)
    return Request(name=name, qtype=qtype, edns=not flags["no_edns"], size=size, do=flags["do"])
