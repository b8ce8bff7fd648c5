"""The API for the operator of a server: read-only JSON, made from what the server holds now.

What costs much is bounded: services are listed in short slices, and `explain`, which cannot be cut,
has a small share of the loop's time.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from mcsdns.diagnostics.explain.explain import explain
from mcsdns.diagnostics.explain.model import Explanation
from mcsdns.web import params
from mcsdns.web.fairness import Gate, page_timeslice
from mcsdns.web.params import RequestError
from mcsdns.web.rates import Rates, Sampler
from mcsdns.web.services import ListOptions, ServicePage, list_services
from mcsdns.web.status import Operator, Status, Upstreams, status_of, upstreams_of

_EXPLAIN_SHARE: Final = 0.05
_EXPLAIN_PAUSE_S: Final = 0.1


class AdminApi:
    """Answers requests about one running server; the status page shows the same values.

    Attributes:
        sampler: its rates.
    """

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self.sampler = Sampler(operator)
        self._to_explain = Gate(_EXPLAIN_SHARE, _EXPLAIN_PAUSE_S)
        self._to_list = Gate()

    def add_routes(self, app: web.Application) -> None:
        """Serve everything below `/api/` from an application."""
        app.cleanup_ctx.append(self.sampler.running)
        for name, answer in (
            ("explain", self._explain),
            ("services", self._services),
            ("sources", partial(_without_parameters, self.status)),
            ("upstreams", partial(_without_parameters, self.upstreams)),
            ("rates", partial(_without_parameters, self.rates)),
        ):
            app.router.add_get(f"/api/{name}", _as_json(answer))

    async def explain(self, name: str, qtype: int) -> Explanation:
        """Explain the answer to a question, its name in presentation form, when its time has come.

        Raises:
            BusyError: too many requests wait.
        """
        async with self._to_explain.passed():
            return explain(self._operator.zone_state, name, qtype)

    async def list_services(self, options: ListOptions) -> ServicePage:
        """List services, when its time has come.

        Raises:
            BusyError: too many requests wait.
        """
        async with self._to_list.passed():
            return await list_services(self._operator.zone_state, options, page_timeslice())

    def status(self) -> Status:
        """Return how the server is; its counters may be a second old."""
        return status_of(self._operator, self.sampler.latest)

    def upstreams(self) -> Upstreams:
        """Return how names outside the zones are answered."""
        return upstreams_of(self._operator, self.sampler.latest)

    def rates(self) -> Rates:
        """Return the answers per second of the last minutes."""
        return self.sampler.ring.rates()

    async def _explain(self, request: web.Request) -> object:
        return await self.explain(*params.read_question(params.of(request, "name", "type")))

    async def _services(self, request: web.Request) -> object:
        parameters = params.of(request, "q", "troubled", "after", "limit")
        return await self.list_services(params.read_options(parameters))


async def _without_parameters(answer: Callable[[], object], request: web.Request) -> object:
    params.of(request)
    return answer()


def _as_json(
    answer: Callable[[web.Request], Awaitable[object]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        status, headers, document = 200, dict[str, str](), object()
        try:
            document = await answer(request)
        except RequestError as error:
            status, headers, document = error.status, error.headers, {"error": str(error)}
        return web.Response(
            body=msgspec.json.encode(document),
            status=status,
            headers=headers,
            content_type="application/json",
            charset="utf-8",
        )

    return handle
