"""What a request asks for: its parameters read strictly, and what is wrong with them said."""

from collections.abc import Iterable
from typing import Final

import msgspec
from aiohttp import web

from mcsdns.dns import name as names
from mcsdns.dns.rdata import type_number
from mcsdns.errors import InvalidNameError
from mcsdns.web.services import MOST_ROWS, Wanted

_MOST_TEXT: Final = 255
_MOST_NAME: Final = 1100
"""Octets of a name in presentation form: 253, each written `\\DDD`, and then some."""


class BadRequestError(Exception):
    """A parameter is wrong; says which, why and what to write."""


class AskedName(msgspec.Struct, frozen=True):
    """A name in presentation form and a type that there is, both as they were written."""

    name: str
    type: str
    qtype: int


def question_of(request: web.Request) -> AskedName:
    """Read `name` and `type`, which is A where it is left out.

    Raises:
        BadRequestError: one of them is wrong, or there is no name.
    """
    parameters = _parameters(request, ("name", "type"))
    return read_question(parameters.get("name", ""), parameters.get("type", ""))


def read_question(name: str, rtype: str) -> AskedName:
    """Read a name and a type.

    Raises:
        BadRequestError: one of them is wrong, or there is no name.
    """
    name, rtype = name.strip(), rtype.strip() or "A"
    if not name:
        raise BadRequestError(
            "name: it is empty; give a name such as web.shop.svc.clusterset.local"
        )
    try:
        if len(name) > _MOST_NAME:
            raise InvalidNameError(f"{len(name)} characters are too many")
        names.wire_from_text(name)
    except (InvalidNameError, UnicodeEncodeError) as error:
        raise BadRequestError(
            f"name: {error}; give a name such as web.shop.svc.clusterset.local"
        ) from None
    try:
        return AskedName(name, rtype.upper(), type_number(rtype[:_MOST_TEXT]))
    except ValueError as error:
        raise BadRequestError(f"type: {error}; give a type such as A, AAAA or SRV") from None


def wanted_of(request: web.Request) -> Wanted:
    """Read `q`, `troubled`, `after` and `limit`.

    Raises:
        BadRequestError: one of them is wrong.
    """
    return read_wanted(_parameters(request, ("q", "troubled", "after", "limit")))


def read_wanted(parameters: dict[str, str]) -> Wanted:
    """Read which services to list.

    Raises:
        BadRequestError: a parameter is wrong.
    """
    text = parameters.get("q", "")
    if len(text) > _MOST_TEXT:
        raise BadRequestError(f"q: {len(text)} characters; give at most {_MOST_TEXT}")
    troubled = parameters.get("troubled", "")
    if troubled not in {"", "0", "1"}:
        raise BadRequestError(f"troubled: {troubled!r}; give 1 for services with a problem only")
    after = parameters.get("after", "")
    namespace, slash, name = after.partition("/")
    if (after and not (namespace and slash and name)) or len(after) > 2 * _MOST_TEXT:
        raise BadRequestError("after: give NAMESPACE/NAME, the `next` of the page before")
    return Wanted(
        text=text,
        troubled=troubled == "1",
        after=(namespace, name) if after else None,
        limit=_limit(parameters.get("limit", "50")),
    )


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST_ROWS))):
        raise BadRequestError(f"limit: {text[:20]!r} is not a number from 1 to {MOST_ROWS}")
    limit = int(text)
    if not 1 <= limit <= MOST_ROWS:
        raise BadRequestError(f"limit: {limit} is not between 1 and {MOST_ROWS}")
    return limit


def parameters_of(request: web.Request, known: Iterable[str]) -> dict[str, str]:
    """Return the parameters of a request, each once.

    Raises:
        BadRequestError: one is unknown, or stands there twice.
    """
    return _parameters(request, tuple(known))


def _parameters(request: web.Request, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise BadRequestError(f"{name[:40]!r} is no parameter here; {request.path} {takes}")
        if name in found:
            raise BadRequestError(f"{name}: it stands there twice; keep one")
        found[name] = value
    return found
