"""What a kubelet and a Prometheus request: `/healthz`, `/readyz`, `/metrics`, and nothing else."""

from typing import Final

from aiohttp import web

from mcsdns.metrics import collector
from mcsdns.web.fairness import BusyError, Gate, page_timeslice
from mcsdns.web.status import Operator

_MOST_SCRAPES: Final = 8
"""That wait: one scrape at a time leaves the loop to queries."""


def add_routes(application: web.Application, operator: Operator, *, is_public: bool = True) -> None:
    """Serve the probes of one server; GET and HEAD.

    Where they are public `/readyz` says what is wrong in fixed words, and `/metrics` has upstreams
    by numbers: whoever reaches the port of the probes, every pod by default, is not told addresses,
    paths and the API server's own words.
    """
    probes = _Probes(operator, is_public=is_public)
    application.router.add_get("/healthz", probes.health)
    application.router.add_get("/readyz", probes.readiness)
    application.router.add_get("/metrics", probes.metrics)


class _Probes:
    def __init__(self, operator: Operator, *, is_public: bool) -> None:
        self._operator = operator
        self._is_public = is_public
        self._reasons = operator.faults if is_public else operator.reasons
        self._gate = Gate(most_waiting=_MOST_SCRAPES)

    async def health(self, _: web.Request) -> web.Response:
        """Answer that the event loop runs: a restart would mend no source."""
        return _text("ok\n")

    async def readiness(self, _: web.Request) -> web.Response:
        """Answer whether to send queries here, and always what is not as it should be."""
        is_ready = self._operator.is_ready()
        lines = ["ready" if is_ready else "not ready", *self._reasons()]
        return _text("".join(f"{line}\n" for line in lines), 200 if is_ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer with all statistics, in the format that the client prefers."""
        encode, content_type = collector.encoder_for(request.headers.get("Accept", ""))
        parts: list[bytes] = []
        try:
            async with self._gate.passed():
                timeslice = page_timeslice()
                snapshot = self._operator.snapshot()
                for part in collector.exposition(snapshot, encode, is_public=self._is_public):
                    parts.append(part)
                    await timeslice.checkpoint()
        except BusyError as error:
            raise web.HTTPTooManyRequests(text=f"{error}\n", headers=error.headers) from None
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return web.Response(body=b"".join(parts), headers=headers)


def _text(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, headers={"Cache-Control": "no-store"})
