"""The server within its process: its sockets, the state that answers come from, and its readiness.

What never changes while it runs: the sockets, the source of objects, the zones, the packet caches,
and every counter. What a reload may exchange (`reload`): the settings, the forwarder, and the
records that the zone makes of its own settings.

Readiness. `is_ready` turns true once: when the sockets are open and everything is read or a
snapshot is served, or at once where the settings want it so (`--ready-when serving`, and with an
upstream). From then on it stays true, whatever becomes of the source or of the settings: a lost API
server, a missing CRD, held deletions and stale data concern all replicas alike, and a Service
without any endpoint is worse than answers that are old. They are in `reasons`, for people. Only
`leave`, at the end of the process, makes it false again, and that is for good.
"""

import importlib
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import anyio
import anyio.abc
import msgspec

from mcsdns.app import listeners, log
from mcsdns.app.upstreams import Forwarding
from mcsdns.config import Settings, split_address
from mcsdns.diagnostics.offline import make_source
from mcsdns.forward.forwarder import LatencyStatistics
from mcsdns.metrics.snapshot import Reloads, Snapshot
from mcsdns.objects.events import Init, InitDone
from mcsdns.objects.model import Kind
from mcsdns.server import authority
from mcsdns.server.handler import Handler
from mcsdns.server.packet_cache import PacketCache
from mcsdns.server.zone_state import UpdateQueue, ZoneState
from mcsdns.sources.base import Sink, Source, SourceState
from mcsdns.sources.kubernetes.source import KubernetesSource
from mcsdns.sources.manifests.documents import Located
from mcsdns.sources.manifests.source import ManifestSource
from mcsdns.stats import TRANSPORTS, LimitedReplies, ReplyCounters
from mcsdns.web.listener import WebListener

T = TypeVar("T")

_DRAIN_S: Final = 2.0
"""Longest that a forwarded question takes, and a little."""


def preload(settings: Settings) -> None:
    """Import what the settings' source needs: 0.2 s for an API server's.

    Raises:
        ConfigError: there is no source, or more than one.
    """
    if settings.access() is not None:
        importlib.import_module("mcsdns.sources.kubernetes.api")


class NoSource:
    """Nothing is served but what upstreams say: the zone is empty, and synced from the start."""

    name = "no source"

    def __init__(self, sink: Sink) -> None:
        """Take the sink of a zone that stays empty."""
        self._sink = sink

    async def run(self) -> None:
        """Send an empty list of each kind, and wait until cancelled."""
        for kind in Kind:
            self._sink.apply(Init(kind))
            self._sink.apply(InitDone(kind))
        await anyio.sleep_forever()

    async def rescan(self) -> None:
        """Do nothing."""

    def problems(self) -> tuple[Located, ...]:
        """Return nothing."""
        return ()

    def states(self) -> list[SourceState]:
        """Return the one state there is."""
        return [SourceState(name=self.name, kind="none", synced=True, connected=True)]


class Server:
    """Sockets, what answers on them, and how all of it does (`web.status.Operator`).

    Attributes:
        settings: in force.
        started_s: Unix time.
        listeners: on every address that is served, over UDP and TCP.
        zone_state, updates: what answers come from, and the one way to change it.
        source: where the objects come from.
        forwarding: the way to the upstreams; None where the settings name none.
        handlers: what answers over UDP and over TCP.
        reloads: how often settings were read again.
        reload_problem: why what was read last is not in force, or not all of it, for people;
            reload_fault: the same in fixed words.
    """

    def __init__(self, settings: Settings) -> None:
        """Bind every address for DNS; nothing is read or answered before `start`.

        Raises:
            ConfigError: an address cannot be bound, there is no source, or it is not described
                well; says why and what to do.
        """
        settings.access()  # refuses what names no source
        self.settings = settings
        self.started_s = time.time()
        self.reloads = Reloads()
        self.reload_problem = self.reload_fault = ""
        self.zone_state = ZoneState(settings.zone_settings(), settings.namespace)
        self._caches = PacketCache(settings.kept_bytes), PacketCache(settings.kept_bytes)
        self.updates = UpdateQueue(self.zone_state, self._caches)
        self.source: Source = (
            NoSource(self.updates)
            if settings.is_sourceless
            else make_source(settings, self.updates)
        )
        self.zone_state.find_problems = self.source.problems
        self.counters = [ReplyCounters(transport) for transport in TRANSPORTS]
        self._latency = LatencyStatistics()
        self.forwarding = self.make_forwarding(settings)
        self.handlers = self._make_handler(tcp=False), self._make_handler(tcp=True)
        self.listeners = listeners.bind_dns(settings, self.handlers)
        self._limited = LimitedReplies()
        self._reply_shape = ("", 0, 0, "")
        self._web: WebListener | None = None
        self._http_connections = 0
        self._group: anyio.abc.TaskGroup | None = None
        self._is_open = self._is_closed = self._was_ready = False
        self._stopping = ""

    def _make_handler(self, *, tcp: bool) -> Handler:
        return Handler(
            self.zone_state.authority,
            self._caches[tcp],
            tcp=tcp,
            clock=time.monotonic,
            forward_handler=self.forwarding.handlers[tcp] if self.forwarding else None,
            counters=self.counters[tcp],
        )

    # Its life

    def follow(self, group: anyio.abc.TaskGroup) -> None:
        """Have tasks of a group read the objects, and follow the source and the upstreams."""
        self._group = group
        group.start_soon(self.source.run)
        if self.forwarding:
            group.start_soon(self.forwarding.run)

    async def start(self) -> None:
        """Begin to answer."""
        self.apply_to_sockets()
        self.listeners.start()
        if self.forwarding:
            self.forwarding.start(self._own_addresses())
        self._is_open = True

    def bind_web(self) -> None:
        """Bind the addresses of the status page and of the probes, which `start_web` serves.

        Raises:
            ConfigError: one that the settings name cannot be bound.
        """
        self._web = WebListener(*listeners.bind_web(self.settings))

    async def start_web(self) -> None:
        """Serve the status page and the probes."""
        if self._web:
            await self._web.start(self, self._http_connections)

    def leave(self, why: str) -> None:
        """Be not ready any more, for good; answers go on."""
        self._stopping = why

    async def drained(self) -> None:
        """Wait until no question waits for an upstream, but not for long."""
        if self.forwarding:
            with anyio.move_on_after(_DRAIN_S):
                await self.forwarding.drained()

    def close(self) -> None:
        """Answer what has arrived and close all sockets for DNS; once is enough."""
        if not self._is_closed:
            self._is_closed = True
            self.listeners.close()
            if self.forwarding:
                self.forwarding.close()

    async def close_web(self) -> None:
        """Let HTTP requests in flight end, and close the sockets of the page and the probes."""
        if self._web:
            await self._web.close()

    # What a reload exchanges

    def apply_to_sockets(self) -> None:
        """Limit connections, log requests and count them as the settings in force want it."""
        plan = listeners.within_file_limit(self.settings)
        limits = msgspec.structs.replace(self.settings.tcp_settings(), max_connections=plan.tcp)
        self._http_connections = plan.http
        query_log = None
        if self.settings.query_log:
            from mcsdns.server.query_log import QueryLog  # noqa: PLC0415 - few want it

            query_log = QueryLog(self.settings.query_log)
        is_counting = self.settings.request_metrics == "on"
        for udp in self.listeners.udp:
            udp.query_log = query_log
            udp.is_counting = is_counting
        self._shape_replies()
        tcp = self.listeners.tcp
        tcp.query_log = query_log
        tcp.is_counting = is_counting
        tcp.settings = limits

    def _shape_replies(self) -> None:
        """Limit replies, and let them say what they may; what stays as it was keeps its cookies."""
        settings, name = self.settings, self.settings.told_name()
        texts = authority.identity(name, settings.told_version())
        self.zone_state.authority.identity = texts
        shape = (name, settings.rate_limit, settings.rate_limit_slip, settings.cookie_secrets)
        if shape == self._reply_shape:
            return
        reply_options = limiter = None
        if name or settings.rate_limit:
            from mcsdns.server.reply_options import Cookies, ReplyOptions  # noqa: PLC0415 - few

            cookies = Cookies(settings.cookie_secrets, time.time) if settings.rate_limit else None
            reply_options = ReplyOptions(name, cookies)
            if settings.rate_limit:
                from mcsdns.server.rate_limit import RateLimiter  # noqa: PLC0415 - few want it

                rates = settings.rate_limit, settings.rate_limit_slip
                limiter = RateLimiter(*rates, reply_options, time.monotonic, self._limited)
        for handler in self.handlers:
            handler.reply_options = reply_options
        for udp in self.listeners.udp:
            udp.limit(limiter)
        self._reply_shape = shape

    def make_forwarding(self, settings: Settings) -> Forwarding | None:
        """Make what forwards by other settings; None where they name no upstream.

        Raises:
            ConfigError: an upstream or a network is not usable.
        """
        if not settings.upstreams():
            return None
        return Forwarding(settings, self.counters, self._latency)

    def exchange_forwarding(self, forwarding: Forwarding | None) -> None:
        """Forward another way from now on; the questions that wait in the old way are answered."""
        before, self.forwarding = self.forwarding, forwarding
        for is_tcp, handler in enumerate(self.handlers):
            handler.forward_handler = forwarding.handlers[is_tcp] if forwarding else None
        if (before is None) is not (forwarding is None):
            self.updates.evict_all()  # every reply has RA
        assert self._group is not None
        if forwarding:
            forwarding.start(self._own_addresses())
            self._group.start_soon(forwarding.run)
        if before:
            self._group.start_soon(self._retire, before)

    def _own_addresses(self) -> list[tuple[str, int]]:
        return list(map(split_address, self.addresses))

    async def _retire(self, forwarding: Forwarding) -> None:
        try:
            with anyio.move_on_after(_DRAIN_S):
                await forwarding.drained()
        finally:
            forwarding.close()

    # What its operator may ask

    @property
    def addresses(self) -> list[str]:
        """Where it listens."""
        return self.listeners.addresses

    def is_ready(self) -> bool:
        """Return whether queries are to be sent here (see above)."""
        is_synced = self.updates.synced.is_set()
        if self._is_open and (is_synced or self.settings.is_ready_when_serving):
            self._was_ready = True
        return self._was_ready and not self._stopping

    def reasons(self) -> list[str]:
        """Return what is not as it should be, a line each, whether ready or not."""
        tree = self.zone_state.tree
        reasons = [self._stopping] if self._stopping else []
        if not self.updates.synced.is_set():
            reasons.append(tree.reason)
        reasons += [each for state in self.sources() for each in state.reasons]
        if tree.stale:
            reasons.append("answers say that they are stale: the API server is away")
        reasons += self._down_upstreams()
        return [*reasons, self.reload_problem] if self.reload_problem else reasons

    def faults(self) -> list[str]:
        """Return the same in fixed words, without addresses, paths and what others wrote."""
        faults = [self._stopping] if self._stopping else []
        states = self.sources()
        told = [each for state in states for each in state.faults]
        if not self.updates.synced.is_set() and not told:
            faults.append(self.zone_state.tree.reason)
        faults += told
        if self.zone_state.tree.stale:
            faults.append("answers say that they are stale: the API server is away")
        if any(self._down_upstreams()):
            faults.append("an upstream does not answer")
        if self.reload_fault:
            faults.append(self.reload_fault)
        return list(dict.fromkeys(faults))

    def _down_upstreams(self) -> Iterator[str]:
        for each in self.forwarding.forwarder.statistics().upstreams if self.forwarding else ():
            if each.health.is_down:
                yield f"upstream {each.health.upstream} does not answer"

    def sources(self) -> list[SourceState]:
        """Return where the objects come from."""
        return self.source.states()

    def snapshot(self) -> Snapshot:
        """Return every room's statistics at this moment."""
        source, forwards = self.source, self.forwarding
        manifests = source.statistics() if isinstance(source, ManifestSource) else None
        kubernetes = source.statistics() if isinstance(source, KubernetesSource) else None
        return Snapshot(
            time_s=time.time(),
            ready=self.is_ready(),
            stale=self.zone_state.tree.stale,
            udp=[each.statistics() for each in self.listeners.udp],
            tcp=[self.listeners.tcp.statistics()],
            replies=[count for each in self.counters for count in each.counts()],
            handlers=_by_transport(each.statistics() for each in self.handlers),
            packet_caches=_by_transport(each.statistics() for each in self._caches),
            forward_handlers=_by_transport(
                each.statistics() for each in (forwards.handlers if forwards else ())
            ),
            update_queue=self.updates.statistics(),
            store=self.zone_state.store.statistics(),
            manifests=manifests,
            kubernetes=kubernetes,
            forwarder=forwards.forwarder.statistics() if forwards else None,
            reloads=self.reloads,
            held_lines=log.held(),
            limited=self._limited,
            http=self._web.statistics() if self._web else None,
        )


def _by_transport(each: Iterable[T]) -> dict[str, T]:
    return dict(zip(TRANSPORTS, each, strict=False))
