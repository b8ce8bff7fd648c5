"""A server for tests of the status page: a real world, and all else as the test wants it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web
from anyio.from_thread import BlockingPortal, start_blocking_portal

from mcsdns.config import Settings
from mcsdns.forward import cache, health, pending
from mcsdns.forward import forwarder as forward
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.base import SourceState
from mcsdns.stats import ReplyCount, ReplyKind
from mcsdns.web.html import page
from tests.waiting import DEADLINE_S


class StandIn:
    """An `Operator` whose state a test sets."""

    def __init__(self, world: ZoneState, settings: Settings | None = None) -> None:
        self.zone_state = world
        self.settings = settings or Settings()
        self.started_s = time.time() - 3 * 3600
        self.is_up = True
        self.said: list[str] = []
        self.states = [
            SourceState(
                name="https://10.0.0.1:6443",
                kind="kubernetes",
                synced=True,
                connected=True,
                fresh_s=0.4,
            )
        ]
        self.numbers = {ReplyKind.CLUSTERSET: 0, ReplyKind.NEGATIVE: 0}
        self.growth: dict[ReplyKind, float] = {}
        self.forwarder: forward.Statistics | None = None
        self._looked_s = time.monotonic()

    def is_ready(self) -> bool:
        return self.is_up

    def reasons(self) -> list[str]:
        return self.said

    def faults(self) -> list[str]:
        return ["something is wrong"] if self.said else []

    def sources(self) -> list[SourceState]:
        return self.states

    def lose_source(self, why: str) -> None:
        """Let the source go away."""
        self.states = [
            msgspec.structs.replace(each, connected=False, fresh_s=75.0, reasons=[why])
            for each in self.states
        ]
        self.zone_state.tree.stale = True

    def find_source(self) -> None:
        """Let the source be back."""
        self.states = [
            msgspec.structs.replace(each, connected=True, fresh_s=0.2, reasons=[])
            for each in self.states
        ]
        self.zone_state.tree.stale = False

    def snapshot(self) -> Snapshot:
        now_s = time.monotonic()
        for kind, per_second in self.growth.items():
            self.numbers[kind] += round(per_second * (now_s - self._looked_s))
        self._looked_s = now_s
        counts = [
            ReplyCount("udp", "clusterset.local.", "A", "NOERROR", kind, number)
            for kind, number in self.numbers.items()
        ]
        return Snapshot(
            ready=self.is_up,
            stale=self.zone_state.tree.stale,
            udp=[],
            tcp=[],
            replies=counts,
            store=self.zone_state.store.statistics(),
            forwarder=self.forwarder,
        )


def forwarding(*upstreams: tuple[str, float | None, bool]) -> forward.Statistics:
    """A forwarder with these upstreams: address, round trip, whether it is down."""
    kept = _with(cache.Statistics, replies=1834, size_bytes=412_000, hits=91_230, misses=5120)
    asked = [
        _with(
            health.Statistics,
            upstream=address,
            rtt_s=rtt_s,
            is_down=is_down,
            asked=2560,
            failed=10 if is_down else 0,
        )
        for address, rtt_s, is_down in upstreams
    ]
    found: forward.Statistics = _with(
        forward.Statistics,
        asked=5120,
        cache=kept,
        upstreams=[_with(pending.UpstreamStatistics, health=each) for each in asked],
        replies=[],
        seconds={},
    )
    return found


def _with(kind: type[msgspec.Struct], **values: object) -> Any:
    """A struct whose other fields are 0."""
    return kind(**{name: values.get(name, 0) for name in kind.__struct_fields__})


def application(operator: StandIn) -> web.Application:
    """What an administrator's address serves."""
    app = web.Application()
    page.add_routes(app, operator)
    return app


class Served:
    """A stand-in that is served by a thread of its own, for clients that block."""

    def __init__(self, operator: StandIn, port: int = 0) -> None:
        self.operator = operator
        self.port = port
        self.url = ""
        self._portal: BlockingPortal
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> "Served":
        with contextlib.ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self.start()
            stack.callback(self.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        """Serve, on the port of before."""
        self._portal.call(self._start)

    def stop(self) -> None:
        """Serve no more."""
        self._portal.call(self._stop)

    def do(self, change: Callable[[], object]) -> None:
        """Change something between two turns of the server's loop."""
        self._portal.call(change)

    async def _start(self) -> None:
        app = web.Application()
        self.sampler = page.add_routes(app, self.operator).sampler
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/"

    async def _stop(self) -> None:
        if self._runner is not None:
            server = self._runner.server
            open_still = [each.transport for each in server.connections] if server else []
            await self._runner.cleanup()
            for transport in filter(None, open_still):
                transport.abort()  # what a browser has not read yet would outlive the loop
            self._runner = None


def apply_all(world: ZoneState, events: Iterable[Any]) -> None:
    """Let a world change."""
    for event in events:
        world.publisher.apply(event)
    world.publish_all(int(time.time()))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look until a condition holds, while the loop does what it has to."""
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
