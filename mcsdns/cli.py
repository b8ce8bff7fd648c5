"""The command line: one function for each command; flags come from `config`."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mcsdns import __version__, config
from mcsdns.errors import ConfigError, McsdnsError

USAGE_STATUS = 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

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


def _complain(error: BaseException) -> int:
    """Print the one line that says what, where and what to do."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, McsdnsError):
        raise error
    print(f"mcsdns: {error}", file=sys.stderr)  # noqa: T201
    return USAGE_STATUS


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mcsdns", description="DNS server for Kubernetes multi-cluster services")
    parser.add_argument("--version", action="version", version=f"mcsdns {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    serve = commands.add_parser("serve", help="answer DNS queries", description="Answer queries.")
    config.add_flags(serve)
    serve.set_defaults(run=_serve)
    return parser


def _serve(flags: dict[str, Any]) -> int:
    from functools import partial  # noqa: PLC0415

    import anyio  # noqa: PLC0415 - each command imports what it needs

    from mcsdns import app, log  # noqa: PLC0415

    settings = config.load(flags, os.environ)
    if not settings.manifests:
        raise ConfigError("no source of objects: give --manifests PATH")
    log.configure(settings.log_format, settings.log_level)
    anyio.run(partial(app.serve, settings))
    return 0
