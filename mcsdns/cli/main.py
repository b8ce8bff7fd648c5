"""The command line: its parser, and `serve`; each other command has a file of its own."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mcsdns import __version__, config
from mcsdns.cli import check, explain, query, stub, test
from mcsdns.errors import McsdnsError

USAGE_STATUS = 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes no flag that is cut short."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of argparse
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_STATUS, f"mcsdns: {message}; `{self.prog} --help` explains\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 it found failures, 2 it could not be done as asked."""
    parser = build_parser()
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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their flags."""
    parser = _Parser(prog="mcsdns", description="DNS server for Kubernetes multi-cluster services")
    parser.add_argument("--version", action="version", version=f"mcsdns {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    serve = commands.add_parser("serve", help="answer DNS queries", description="Answer queries.")
    config.add_flags(serve)
    serve.set_defaults(run=_serve)
    query.add_query(commands.add_parser("query", help="ask a question, show the answer"))
    test.add_test(commands.add_parser("test", help="compare answers with case files"))
    explain.add_explain(commands.add_parser("explain", help="say why a name is answered as it is"))
    check.add_check(commands.add_parser("check", help="find what is wrong with an installation"))
    stub.add_stub(commands.add_parser("stub", help="print what points a platform's DNS at mcsdns"))
    return parser


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
    log.configure(settings.log_format, settings.log_level, is_limited=True)
    anyio.run(app.serve, settings, partial(_settings, flags), config.file_of(flags, os.environ))
    return 0
