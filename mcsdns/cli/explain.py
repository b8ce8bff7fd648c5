"""The command `explain`: why a name is answered as it is, here or in a server that runs.

A running server is asked over the API of its status page, blocking, one question at a time.
"""

import argparse
import http.client
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from mcsdns import config
from mcsdns.cli.query import question_of, read_source, refuse_source
from mcsdns.dns.rdata import printable
from mcsdns.errors import ConfigError, NoReplyError

if TYPE_CHECKING:
    from mcsdns.diagnostics.explain.model import Explanation

TIMEOUT_S: Final = 10.0
_TRIES: Final = 3
_MAX_BYTES: Final = 64 << 20
_MAX_WAIT_S: Final = 10
_SHOWN_BYTES: Final = 300


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of `explain`."""
    parser.description = "Say why a name is answered as it is, object by object."
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("type", metavar="TYPE", nargs="?", default="A", help="default A")
    parser.add_argument("--json", action="store_true", help="show one JSON document")
    parser.add_argument(
        "--admin", dest="admin_url", metavar="URL", help="ask the server whose status page is there"
    )
    config.add_flags(parser, "explain")
    parser.set_defaults(run=_explain)


def _explain(flags: dict[str, Any]) -> int:
    from mcsdns.diagnostics.explain.text import to_json, to_text  # noqa: PLC0415

    url = flags.pop("admin_url")
    if url is None:
        explanation = _explain_source(flags)
    else:
        refuse_source("--admin", flags)
        explanation = ask(url, flags["name"], flags["type"])
    sys.stdout.write(to_json(explanation) if flags["json"] else to_text(explanation))
    return 0


def _explain_source(flags: dict[str, Any]) -> "Explanation":
    """Read the source once and explain by that."""
    from mcsdns.diagnostics.explain.explain import explain  # noqa: PLC0415

    settings = config.load(flags, os.environ)
    settings.access()
    _, qtype = question_of(flags, "; write NAME TYPE")
    return explain(read_source(settings), flags["name"], qtype)


class _Error(msgspec.Struct):
    """The document of the API where it refuses a request."""

    error: str


def ask(
    url: str,
    name: str,
    rtype: str,
    *,
    timeout_s: float = TIMEOUT_S,
    wait: Callable[[float], None] = time.sleep,
) -> "Explanation":
    """Have the server whose status page is at `url` explain a name.

    A server that has too much to do (status 429) is asked again when it says.

    Raises:
        ConfigError: the URL is none, or the server does not accept the question.
        NoReplyError: there is no reply, or none of a status page.
    """
    address = _parse(url)
    path = address.path.rstrip("/") + "/api/explain?" + urlencode({"name": name, "type": rtype})
    status, retry_s, body = _get(address, path, timeout_s)
    for _ in range(_TRIES - 1):
        if status == http.client.TOO_MANY_REQUESTS:
            wait(min(max(retry_s, 1), _MAX_WAIT_S))
            status, retry_s, body = _get(address, path, timeout_s)
    return _read(address, status, body)


def _parse(url: str) -> SplitResult:
    why = ""
    try:
        address = urlsplit(url if "://" in url else f"http://{url}")
        address.port  # noqa: B018 - reading it raises where it is none
        if address.scheme in {"http", "https"} and address.hostname and not address.query:
            return address
    except ValueError as error:
        why = f"{error}; "
    raise ConfigError(f"--admin {url}: {why}give a URL such as http://127.0.0.1:8053")


def _get(address: SplitResult, path: str, timeout_s: float) -> tuple[int, int, bytes]:
    """Return the status, the seconds after which to ask again, and the body."""
    secure = address.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        retry = response.headers.get("Retry-After", "")
        retry_s = int(retry) if retry.isdecimal() else 1
        return response.status, retry_s, response.read(_MAX_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        why = printable(str(error)) or type(error).__name__
        raise NoReplyError(
            f"--admin {address.geturl()}: {why}; is `mcsdns serve` running, and its --admin "
            "address forwarded (kubectl port-forward)?"
        ) from error
    finally:
        connection.close()


def _read(address: SplitResult, status: int, body: bytes) -> "Explanation":
    from mcsdns.diagnostics.explain.model import Explanation  # noqa: PLC0415

    where = f"--admin {address.geturl()}"
    try:
        if status == http.client.OK:
            return msgspec.json.decode(body, type=Explanation)
        why = printable(msgspec.json.decode(body, type=_Error).error)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        head = printable(body[:_SHOWN_BYTES].decode("utf-8", "replace").strip())
        raise NoReplyError(
            f"{where}: status {status}, and no explanation as this version knows it "
            f"({error}): {head}; give the address of --admin, of the same version"
        ) from None
    if status == http.client.BAD_REQUEST:
        raise ConfigError(f"{where}: {why}")
    raise NoReplyError(f"{where}: {why}")
