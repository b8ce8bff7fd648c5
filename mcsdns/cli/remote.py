"""Asks a running server for an explanation, over the API of its status page.

Blocking, one question at a time: for the command. What comes back is what `explain` made
there, of what that server holds.
"""

import http.client
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec

from mcsdns.diagnostics.explain.model import Explanation
from mcsdns.dns.rdata import printable
from mcsdns.errors import ConfigError, NoReplyError

TIMEOUT_S: Final = 10.0
_TRIES: Final = 3
_MOST_BYTES: Final = 64 << 20
_MOST_WAIT_S: Final = 10
_MOST_SAID: Final = 300
_BAD_REQUEST, _TOO_MANY = 400, 429


class _Error(msgspec.Struct):
    """What the API says when it has nothing else to say."""

    error: str


class _Answered(msgspec.Struct, frozen=True):
    status: int
    retry_s: int
    body: bytes


def ask(
    url: str,
    name: str,
    rtype: str,
    *,
    timeout_s: float = TIMEOUT_S,
    wait: Callable[[float], None] = time.sleep,
) -> Explanation:
    """Have the server whose status page is at `url` explain a name.

    Where it has too much to do it is asked again when it says, `_TRIES` times in all.

    Raises:
        ConfigError: the URL is none, or the server does not accept the question.
        NoReplyError: nobody answers there, or not as a status page does.
    """
    place = _place(url)
    path = place.path.rstrip("/") + "/api/explain?" + urlencode({"name": name, "type": rtype})
    for tries_left in reversed(range(_TRIES)):
        answered = _get(place, path, timeout_s)
        if answered.status != _TOO_MANY or not tries_left:
            return _read(place, answered)
        wait(min(max(answered.retry_s, 1), _MOST_WAIT_S))
    raise AssertionError("the last try returns or raises")


def _place(url: str) -> SplitResult:
    try:
        place = urlsplit(url if "://" in url else f"http://{url}")
        place.port  # noqa: B018 - reading it raises where it is none
    except ValueError as error:
        raise ConfigError(
            f"--admin {url}: {error}; give a URL such as http://127.0.0.1:8053"
        ) from None
    if place.scheme not in {"http", "https"} or not place.hostname or place.query:
        raise ConfigError(f"--admin {url}: give a URL such as http://127.0.0.1:8053")
    return place


def _get(place: SplitResult, path: str, timeout_s: float) -> _Answered:
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.hostname or "", place.port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(_MOST_BYTES + 1)
        retry = response.headers.get("Retry-After", "")
        return _Answered(response.status, int(retry) if retry.isdecimal() else 1, body)
    except (OSError, http.client.HTTPException) as error:
        why = printable(str(error)) or type(error).__name__
        raise NoReplyError(
            f"--admin {place.geturl()}: {why}; is `mcsdns serve` running, and its --admin address "
            "forwarded (kubectl port-forward)?"
        ) from error
    finally:
        connection.close()


def _read(place: SplitResult, answered: _Answered) -> Explanation:
    where = f"--admin {place.geturl()}"
    try:
        if answered.status == http.client.OK:
            return msgspec.json.decode(answered.body, type=Explanation)
        said = printable(msgspec.json.decode(answered.body, type=_Error).error)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        head = printable(answered.body[:_MOST_SAID].decode("utf-8", "replace").strip())
        raise NoReplyError(
            f"{where}: status {answered.status}, and no explanation as this version knows it "
            f"({error}): {head}; give the address of --admin, of the same version"
        ) from None
    if answered.status == _BAD_REQUEST:
        raise ConfigError(f"{where}: {said}")
    raise NoReplyError(f"{where}: {said}")
