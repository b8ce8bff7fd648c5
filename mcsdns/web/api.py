"""The API and the page for whoever runs the server: read-only, answered from what it holds now.

Every answer is JSON but the page. What costs much is bounded: the list of services is made in
short turns, and `explain`, which cannot be, has a small share of the loop's time.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from mcsdns.diagnostics.explain.explain import explain
from mcsdns.diagnostics.explain.model import Explanation
from mcsdns.web import params, security
from mcsdns.web.fairness import BusyError, Gate, page_timeslice
from mcsdns.web.html.page import StatusPage, statics
from mcsdns.web.operator import Operator
from mcsdns.web.params import AskedName, BadRequestError
from mcsdns.web.rates import Sampler
from mcsdns.web.services import ServicePage, Wanted, find
from mcsdns.web.status import status_of, upstreams_of

_EXPLAIN_SHARE: Final = 0.05
_EXPLAIN_PAUSE_S: Final = 0.1

SAMPLER: Final = web.AppKey("sampler", Sampler)

Answer = Callable[[web.Request], Awaitable[object]]


def add_routes(app: web.Application, operator: Operator) -> None:
    """Serve the status page and its API from an application, and guard all that it serves."""
    security.put_up(app)
    admin = Admin(operator)
    page = StatusPage(operator, admin.sampler, admin.explained, admin.listed)
    app[SAMPLER] = admin.sampler
    app.cleanup_ctx.append(admin.sampler.running)
    app.router.add_get("/", page.show)
    for name, static in statics():
        app.router.add_get(f"/static/{name}", static)
    for name, answer in admin.answers().items():
        app.router.add_get(f"/api/{name}", _as_json(answer))


class Admin:
    """Answers what is asked about one running server.

    Attributes:
        sampler: its rates.
    """

    def __init__(self, operator: Operator) -> None:
        """Take the server; nothing is asked of it yet."""
        self.sampler = Sampler(operator)
        self._operator = operator
        self._to_explain = Gate(_EXPLAIN_SHARE, _EXPLAIN_PAUSE_S)
        self._to_list = Gate()

    def answers(self) -> dict[str, Answer]:
        """Return what answers each name below `/api/`."""
        return {
            "explain": self._explain,
            "services": self._services,
            "sources": self._sources,
            "upstreams": self._upstreams,
            "rates": self._rates,
        }

    async def explained(self, question: AskedName) -> Explanation:
        """Explain a name, when it is its turn.

        Raises:
            BusyError: too many wait.
        """
        async with self._to_explain.passed():
            return explain(self._operator.world, question.name, question.qtype)

    async def listed(self, wanted: Wanted) -> ServicePage:
        """List services, when it is its turn.

        Raises:
            BusyError: too many wait.
        """
        async with self._to_list.passed():
            return await find(self._operator.world, wanted, page_timeslice())

    async def _explain(self, request: web.Request) -> object:
        return await self.explained(params.question_of(request))

    async def _services(self, request: web.Request) -> object:
        return await self.listed(params.wanted_of(request))

    async def _sources(self, request: web.Request) -> object:
        params.parameters_of(request, ())
        return status_of(self._operator, self.sampler.latest)

    async def _upstreams(self, request: web.Request) -> object:
        params.parameters_of(request, ())
        return upstreams_of(self._operator, self.sampler.latest)

    async def _rates(self, request: web.Request) -> object:
        params.parameters_of(request, ())
        return self.sampler.ring.rates()


def _as_json(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def respond(request: web.Request) -> web.Response:
        try:
            return _json(await answer(request))
        except BadRequestError as error:
            return _json({"error": str(error)}, 400)
        except BusyError as error:
            return _json({"error": str(error)}, 429, error.retry_s)

    return respond


def _json(document: object, status: int = 200, retry_s: int = 0) -> web.Response:
    headers = {"Retry-After": str(retry_s)} if retry_s else None
    return web.Response(
        body=msgspec.json.encode(document),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )
