"""What a kubelet and a Prometheus ask: `/healthz`, `/readyz`, `/metrics`, and nothing else."""

from typing import Final

from aiohttp import web

from mcsdns.metrics import exposition
from mcsdns.web.fairness import BusyError, Gate, in_turns
from mcsdns.web.operator import Operator

_MOST_SCRAPES: Final = 8
"""That wait for their turn: one scrape at a time leaves the loop to queries."""


def add_routes(application: web.Application, operator: Operator) -> None:
    """Serve the probes of one server; GET and HEAD."""
    probes = _Probes(operator)
    application.router.add_get("/healthz", probes.tell_health)
    application.router.add_get("/readyz", probes.tell_ready)
    application.router.add_get("/metrics", probes.tell_metrics)


class _Probes:
    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._gate = Gate(most_waiting=_MOST_SCRAPES)

    async def tell_health(self, _: web.Request) -> web.Response:
        """Say that the event loop runs: no source can be mended by a restart."""
        return _text("ok\n")

    async def tell_ready(self, _: web.Request) -> web.Response:
        """Say whether to send queries here, and always what is not as it should be."""
        is_ready = self._operator.is_ready()
        lines = ["ready" if is_ready else "not ready", *self._operator.reasons()]
        return _text("".join(f"{line}\n" for line in lines), 200 if is_ready else 503)

    async def tell_metrics(self, request: web.Request) -> web.Response:
        """Show every room's statistics, in the format that the client prefers."""
        accepted = request.headers.get("Accept", "")
        try:
            async with self._gate.passed():
                work = exposition.rendering(self._operator.snapshot(), accepted)
                body, content_type = await in_turns(work)
        except BusyError as error:
            raise web.HTTPTooManyRequests(
                text=f"{error}\n", headers={"Retry-After": str(error.retry_s)}
            ) from None
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return web.Response(body=body, headers=headers)


def _text(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, headers={"Cache-Control": "no-store"})
