"""The command line: one function for each command; flags come from `config`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mcsdns import __version__, config
from mcsdns.cli import check, query, stub
from mcsdns.errors import ConfigError, InvalidNameError, McsdnsError

if TYPE_CHECKING:
    from mcsdns.diagnostics.explain.model import Explanation

USAGE_STATUS = 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes no flag that is cut short."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of argparse
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_STATUS, f"mcsdns: {message}; `{self.prog} --help` explains\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 it found failures, 2 it could not be done as asked."""
    parser = _build_parser()
    flags = vars(parser.parse_args(arguments))
    run = flags.pop("run")
    try:
        status: int = run(flags)
    except (McsdnsError, ExceptionGroup) as error:
        sys.exit(_complain(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status)


def _complain(error: McsdnsError | ExceptionGroup[Exception]) -> int:
    """Print the one line that says what, where and what to do."""
    inner = _innermost(error)
    if not isinstance(inner, McsdnsError):
        raise error
    print(f"mcsdns: {inner}", file=sys.stderr)  # noqa: T201
    return USAGE_STATUS


def _innermost(error: Exception) -> Exception:
    """Return the one error within groups; a group where there are several."""
    inner: tuple[Exception, ...] = getattr(error, "exceptions", ())
    return _innermost(inner[0]) if len(inner) == 1 else error


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mcsdns", description="DNS server for Kubernetes multi-cluster services")
    parser.add_argument("--version", action="version", version=f"mcsdns {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    serve = commands.add_parser("serve", help="answer DNS queries", description="Answer queries.")
    config.add_flags(serve)
    serve.set_defaults(run=_serve)
    query.add_query(commands.add_parser("query", help="ask a question, show the answer"))
    query.add_test(commands.add_parser("test", help="compare answers with case files"))
    _add_explain(commands.add_parser("explain", help="say why a name is answered as it is"))
    check.add_check(commands.add_parser("check", help="find what is wrong with an installation"))
    stub.add_stub(commands.add_parser("stub", help="print what points a platform's DNS at mcsdns"))
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = "Say why a name is answered as it is, object by object."
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("type", metavar="TYPE", nargs="?", default="A", help="default A")
    parser.add_argument("--json", action="store_true", help="show one JSON document")
    parser.add_argument(
        "--admin", dest="admin_url", metavar="URL", help="ask the server whose status page is there"
    )
    config.add_flags(parser, query.SOURCE_SETTINGS)
    parser.set_defaults(run=_explain)


def _settings(flags: dict[str, Any]) -> config.Settings:
    """Load the settings of a command that needs a source.

    Raises:
        ConfigError: a setting is wrong, or there is no source.
    """
    settings = config.load(flags, os.environ)
    settings.access()
    return settings


def _serve(flags: dict[str, Any]) -> int:
    from functools import partial  # noqa: PLC0415

    import anyio  # noqa: PLC0415 - each command imports what it needs

    from mcsdns.app import log  # noqa: PLC0415
    from mcsdns.app import serve as app  # noqa: PLC0415

    settings = _settings(flags)
    log.configure(settings.log_format, settings.log_level)
    anyio.run(app.serve, settings, partial(_settings, flags), config.file_of(flags, os.environ))
    return 0


def _explain(flags: dict[str, Any]) -> int:
    from mcsdns.diagnostics.explain.text import to_json, to_text  # noqa: PLC0415

    url = flags.pop("admin_url")
    explanation = _explain_here(flags) if url is None else _explain_there(flags, url)
    sys.stdout.write(to_json(explanation) if flags["json"] else to_text(explanation))
    return 0


def _explain_here(flags: dict[str, Any]) -> "Explanation":
    """Read the source once and explain by that."""
    import anyio  # noqa: PLC0415

    from mcsdns.app import log  # noqa: PLC0415
    from mcsdns.diagnostics.explain.explain import explain  # noqa: PLC0415
    from mcsdns.diagnostics.offline import read_once  # noqa: PLC0415
    from mcsdns.dns import name as names  # noqa: PLC0415
    from mcsdns.dns import rdata  # noqa: PLC0415

    settings = _settings(flags)
    try:
        names.wire_from_text(flags["name"])
        qtype = rdata.type_number(flags["type"])
    except (InvalidNameError, ValueError) as error:
        raise ConfigError(f"{error}; write NAME TYPE") from None
    log.configure(settings.log_format, settings.log_level)
    world = anyio.run(read_once, settings)
    return explain(world, flags["name"], qtype)


def _explain_there(flags: dict[str, Any], url: str) -> "Explanation":
    """Have a running server explain.

    Raises:
        ConfigError: a setting of a source is given too, or the server says what is wrong.
        NoReplyError: there is no such server.
    """
    from mcsdns.cli import remote  # noqa: PLC0415

    query.leave_out("--admin", flags)
    return remote.ask(url, flags["name"], flags["type"])
