"""The status page: one document made here, which a small script keeps up to date.

Whatever an object or a request says is text: jinja escapes it, and what has no picture of its own
(control characters, marks that turn the direction of writing) is spelt out.
"""

import asyncio
import importlib.resources
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import jinja2
import markupsafe
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from mcsdns.diagnostics.explain.model import Explanation
from mcsdns.diagnostics.explain.text import to_text
from mcsdns.dns.rdata import printable
from mcsdns.web import params
from mcsdns.web.fairness import BusyError, page_timeslice
from mcsdns.web.html.filters import FILTERS, page_link
from mcsdns.web.html.picture import Picture, draw
from mcsdns.web.operator import Operator
from mcsdns.web.params import AskedName, BadRequestError
from mcsdns.web.rates import Rates, Sampler
from mcsdns.web.services import ServicePage, Wanted
from mcsdns.web.status import Status, Upstreams, status_of, upstreams_of

TYPES: Final = ("A", "AAAA", "SRV", "ANY", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "TXT")
_PARAMETERS: Final = ("name", "type", "q", "troubled", "after", "limit")
_KINDS: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_PACKAGE: Final = "mcsdns.web.html"


def statics() -> Iterator[tuple[str, Handler]]:
    """Iterate over the script, the style sheet and the icon, and what serves each."""
    folder = importlib.resources.files(_PACKAGE) / "static"
    for name, kind in _KINDS.items():
        yield name, _server_of((folder / name).read_bytes(), kind)


class Explained(msgspec.Struct, frozen=True):
    """The part of the page about one name; `error` where there is nothing else to show.

    Attributes:
        lines: the explanation as `mcsdns explain` writes it.
    """

    error: str = ""
    explanation: Explanation | None = None
    picture: Picture | None = None
    lines: tuple[str, ...] = ()


class _View(msgspec.Struct, frozen=True):
    """All that the template shows."""

    status: Status
    upstreams: Upstreams
    rates: Rates
    wanted: Wanted
    page: ServicePage | None
    first_page: str
    next_page: str
    error: str
    name: str
    type: str
    types: tuple[str, ...]
    explained: Explained | None


class StatusPage:
    """Makes the page of one server."""

    def __init__(
        self,
        operator: Operator,
        sampler: Sampler,
        explain: Callable[[AskedName], Awaitable[Explanation]],
        listed: Callable[[Wanted], Awaitable[ServicePage]],
    ) -> None:
        """Take who knows what is shown."""
        self._operator = operator
        self._sampler = sampler
        self._explain = explain
        self._listed = listed

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the page; what is wrong with the parameters stands on it."""
        status, error, retry_s = 200, "", 0
        parameters = dict[str, str]()
        wanted, page, explained = Wanted(), None, None
        try:
            parameters = params.parameters_of(request, _PARAMETERS)
            wanted = params.read_wanted(parameters)
            page = await self._listed(wanted)
        except BadRequestError as bad:
            status, error = 400, str(bad)
        except BusyError as busy:
            status, error, retry_s = 429, str(busy), busy.retry_s
        if "name" in parameters:
            try:
                explained = await self._about(parameters)
            except BadRequestError as bad:
                status, explained = 400, Explained(error=str(bad))
            except BusyError as busy:
                status, explained, retry_s = 429, Explained(error=str(busy)), busy.retry_s
        latest = self._sampler.latest
        view = _View(
            status=status_of(self._operator, latest),
            upstreams=upstreams_of(self._operator, latest),
            rates=self._sampler.ring.rates(),
            wanted=wanted,
            page=page,
            first_page=page_link(wanted),
            next_page=page_link(wanted, page.next) if page and page.next else "",
            error=error,
            name=parameters.get("name", ""),
            type=parameters.get("type", "A").upper() or "A",
            types=TYPES,
            explained=explained,
        )
        text = await _render(view)
        headers = {"Retry-After": str(retry_s)} if retry_s else None
        return web.Response(text=text, status=status, headers=headers, content_type="text/html")

    async def _about(self, parameters: dict[str, str]) -> Explained:
        question = params.read_question(parameters["name"], parameters.get("type", ""))
        explanation = await self._explain(question)
        await asyncio.sleep(0)  # each of these takes 15 ms with 10,000 endpoints
        lines = tuple(to_text(explanation).splitlines())
        await asyncio.sleep(0)
        return Explained("", explanation, draw(explanation), lines)


def environment() -> jinja2.Environment:
    """Make what reads the templates: everything is escaped, a missing value is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_legible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    return made


def _legible(value: object) -> object:
    """Spell out what has no picture of its own; what was escaped before is left as it is."""
    if isinstance(value, markupsafe.Markup) or not isinstance(value, str):
        return value
    return printable(value)


async def _render(view: _View) -> str:
    timeslice = page_timeslice()
    pieces: list[str] = []
    for piece in _TEMPLATE.generate({name: getattr(view, name) for name in view.__struct_fields__}):
        pieces.append(piece)
        await timeslice.checkpoint()
    return "".join(pieces)


def _compile() -> jinja2.Template:
    """Compile all templates: what imports this does so beside the event loop."""
    made = environment()
    return [made.get_template(name) for name in ("parts.html", "explain.html", "page.html")][-1]


_TEMPLATE: Final = _compile()


def _server_of(body: bytes, kind: str) -> Handler:
    async def serve(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return serve
