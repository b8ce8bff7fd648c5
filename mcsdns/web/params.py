"""The parameters of a request, read strictly; whatever is wrong with them is a RequestError."""

from typing import Final

from aiohttp import web

from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_number
from mcsdns.errors import InvalidNameError
from mcsdns.web.services import MOST_ROWS, ListOptions

_MOST_TEXT: Final = 255
_MOST_NAME: Final = 1100
"""Characters of a name in presentation form: 253 octets, each written `\\DDD`, and some more."""


class RequestError(Exception):
    """A request is refused; says why and what to do, such as which parameter is wrong.

    Attributes:
        status: of HTTP. headers: those that belong to it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.status = 400
        self.headers: dict[str, str] = {}


def of(request: web.Request, *known: str) -> dict[str, str]:
    """Return the parameters of a request.

    Raises:
        RequestError: one is not known, or is there twice.
    """
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise RequestError(f"{name[:40]!r} is no parameter here; {request.path} {takes}")
        if name in found:
            raise RequestError(f"{name}: it stands there twice; keep one")
        found[name] = value
    return found


def read_question(parameters: dict[str, str]) -> tuple[str, int]:
    """Read `name`, as it was written, and `type`, which is A by default.

    Raises:
        RequestError: one of them is wrong, or there is no name.
    """
    name, rtype = parameters.get("name", "").strip(), parameters.get("type", "").strip() or "A"
    if not name:
        raise RequestError("name: it is empty; give a name such as web.shop.svc.clusterset.local")
    try:
        if len(name) > _MOST_NAME:
            raise InvalidNameError(f"{len(name)} characters are too many")
        names.wire_from_text(name)
    except (InvalidNameError, UnicodeEncodeError) as error:
        raise RequestError(
            f"name: {error}; give a name such as web.shop.svc.clusterset.local"
        ) from None
    try:
        return name, type_number(rtype[:_MOST_TEXT])
    except ValueError as error:
        raise RequestError(f"type: {error}; give a type such as A, AAAA or SRV") from None


def read_options(parameters: dict[str, str]) -> ListOptions:
    """Read `q`, `troubled`, `after` and `limit`: which services to list.

    Raises:
        RequestError: one of them is wrong.
    """
    text = parameters.get("q", "")
    if len(text) > _MOST_TEXT:
        raise RequestError(f"q: {len(text)} characters; give at most {_MOST_TEXT}")
    troubled = parameters.get("troubled", "")
    if troubled not in {"", "0", "1"}:
        raise RequestError(f"troubled: {troubled!r}; give 1 for services with a problem only")
    after = parameters.get("after", "")
    namespace, slash, name = after.partition("/")
    if (after and not (namespace and slash and name)) or len(after) > 2 * _MOST_TEXT:
        raise RequestError("after: give NAMESPACE/NAME, the `next` of the page before")
    limit = parameters.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(MOST_ROWS))):
        raise RequestError(f"limit: {limit[:20]!r} is not a number from 1 to {MOST_ROWS}")
    if not 1 <= int(limit) <= MOST_ROWS:
        raise RequestError(f"limit: {int(limit)} is not between 1 and {MOST_ROWS}")
    return ListOptions(text, troubled == "1", (namespace, name) if after else None, int(limit))
