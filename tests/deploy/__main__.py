"""`python -m tests.deploy build` builds what renders `deploy/`, before the tests, once."""

import sys

from tests.apiserver.build import NotBuiltError, check_go
from tests.deploy.build import render_binary


def main(arguments: list[str]) -> str | None:
    """The error, if there is one. A machine without Go is none: tests skip."""
    if arguments != ["build"]:
        return "usage: python -m tests.deploy build"
    try:
        check_go()
    except NotBuiltError as error:
        sys.stderr.write(f"{error}; the tests that need it are skipped\n")
        return None
    try:
        render_binary(build=True)
    except NotBuiltError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
