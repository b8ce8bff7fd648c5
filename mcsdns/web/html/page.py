"""The status page: one document made here, which a small script keeps up to date.

Whatever an object or a request contains is text: jinja escapes it, and characters that cannot be
seen (control characters, those that change the direction of writing) are spelt out.
"""

import importlib.resources
from functools import partial
from typing import Final

import jinja2
import markupsafe
from aiohttp import web

from mcsdns.dns.rdata import printable
from mcsdns.web import params, security
from mcsdns.web.api import AdminApi
from mcsdns.web.fairness import page_timeslice
from mcsdns.web.html.filters import FILTERS, page_link
from mcsdns.web.html.picture import PictureStep
from mcsdns.web.params import RequestError
from mcsdns.web.services import ListOptions
from mcsdns.web.status import Operator

TYPES: Final = ("A", "AAAA", "SRV", "ANY", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "TXT")
_PARAMETERS: Final = ("name", "type", "q", "troubled", "after", "limit")
_STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_PACKAGE: Final = "mcsdns.web.html"


def add_routes(app: web.Application, operator: Operator) -> AdminApi:
    """Serve the status page and its API from an application, and guard all that it serves."""
    security.protect(app)
    api = AdminApi(operator)
    api.add_routes(app)
    app.router.add_get("/", StatusPage(api).show)
    folder = importlib.resources.files(_PACKAGE) / "static"
    for name, content_type in _STATIC.items():
        body = (folder / name).read_bytes()
        app.router.add_get(f"/static/{name}", partial(_serve, body, content_type))
    return api


async def _serve(body: bytes, content_type: str, _: web.Request) -> web.StreamResponse:
    return web.Response(body=body, content_type=content_type, charset="utf-8")


class StatusPage:
    """Makes the page of one server from what its API returns."""

    def __init__(self, api: AdminApi) -> None:
        self._api = api

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the page; what is wrong with the parameters stands on it."""
        status, headers, parameters = 200, dict[str, str](), dict[str, str]()
        options, page, explanation = ListOptions(), None, None
        list_error = explain_error = ""
        try:
            parameters = params.of(request, *_PARAMETERS)
            options = params.read_options(parameters)
            page = await self._api.list_services(options)
        except RequestError as error:
            status, headers, list_error = error.status, error.headers, str(error)
        if "name" in parameters:
            try:
                explanation = await self._api.explain(*params.read_question(parameters))
            except RequestError as error:
                status, headers, explain_error = error.status, error.headers, str(error)
        text = await _render(
            status=self._api.status(),
            upstreams=self._api.upstreams(),
            rates=self._api.rates(),
            options=options,
            page=page,
            first_page=page_link(options),
            next_page=page_link(options, page.next) if page and page.next else "",
            list_error=list_error,
            name=parameters.get("name", ""),
            type=parameters.get("type", "A").upper() or "A",
            types=TYPES,
            explanation=explanation,
            steps=PictureStep,
            explain_error=explain_error,
        )
        return web.Response(text=text, status=status, headers=headers, content_type="text/html")


def environment() -> jinja2.Environment:
    """Return the templates' environment: everything is escaped, a missing value is an error."""
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
    """Spell out characters that cannot be seen; what was escaped before is left as it is."""
    if isinstance(value, markupsafe.Markup) or not isinstance(value, str):
        return value
    return printable(value)


async def _render(**values: object) -> str:
    timeslice = page_timeslice()
    pieces: list[str] = []
    for piece in _TEMPLATE.generate(values):
        pieces.append(piece)
        await timeslice.checkpoint()
    return "".join(pieces)


def _compile() -> jinja2.Template:
    """Compile all templates, as part of the import, which happens beside the event loop."""
    made = environment()
    return [made.get_template(f"{name}.html") for name in ("parts", "steps", "explain", "page")][-1]


_TEMPLATE: Final = _compile()
