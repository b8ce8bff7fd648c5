"""A running server: what stays while settings change, and what its operator may ask of it.

Sockets stay; what answers on them comes from one generation and one forwarder, which `succession`
exchanges in one turn of the event loop.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import anyio
import anyio.abc
import msgspec

from mcsdns.app import upstreams as forwarding
from mcsdns.app.generation import ServerState
from mcsdns.app.listeners import Listening
from mcsdns.app.upstreams import Forwarding
from mcsdns.config import Settings, split_address
from mcsdns.config.schema import Switch
from mcsdns.forward.told import WaitStatistics
from mcsdns.metrics.snapshot import Reloads, Snapshot
from mcsdns.server import tcp, udp
from mcsdns.server.zone_state import UpdateQueue, ZoneState
from mcsdns.sources.base import SourceState
from mcsdns.sources.kubernetes.source import KubernetesSource
from mcsdns.sources.manifests.source import ManifestSource
from mcsdns.stats import TRANSPORTS, ReplyCounters
from mcsdns.web.sites import Sites

T = TypeVar("T")

IN_FLIGHT_S: Final = 2.0
"""Longest that a forwarded question takes, and a little."""


class Statistics(msgspec.Struct, frozen=True):
    """The counters of all sockets."""

    udp: list[udp.Statistics]
    tcp: list[tcp.Statistics]


class Answering(msgspec.Struct, frozen=True):
    """All that answers depend on."""

    settings: Settings
    generation: ServerState
    forwarding: Forwarding | None


class Server:
    """Sockets, what answers on them, and how all of it does (`web.status.Operator`).

    Attributes:
        settings: in force. generation, forwarding: what answers come from.
        started_s: Unix time.
        reloads: how often settings were read again. refusal: why the last ones are not in force.
        listening, sites, responders: the sockets for DNS and for HTTP, and what answers DNS.
        tallies: replies to UDP and to TCP, counted through all changes.
    """

    def __init__(self, settings: Settings) -> None:
        """Bind every address for DNS; nothing is answered before `start`.

        Raises:
            ConfigError: an address cannot be bound; says why and what to do.
        """
        self.settings = settings
        self.started_s = time.time()
        self.tallies = [ReplyCounters(transport) for transport in TRANSPORTS]
        self.generation = ServerState(settings)
        self.told = WaitStatistics()
        self.forwarding = forwarding.make(settings, self.tallies, self.told)
        self.reloads = Reloads()
        self.refusal = ""
        self.responders = self.generation.responders(self.forwarding, self.tallies)
        self.listening = Listening(settings, self.responders)
        self.sites: Sites | None = None
        self._is_open = self._is_closed = self._was_ready = False
        self._stopping = ""

    # Its life

    async def start(self) -> None:
        """Begin to answer; what is served is for `follow` or for the caller to fill."""
        self.observe()
        await self.listening.start()
        if self.forwarding:
            self.forwarding.start(self.own_addresses)
        self._is_open = True

    def observe(self) -> None:
        """Log as many of the requests as the settings say, and count them if they say so."""
        query_log = None
        if self.settings.query_log:
            from mcsdns.server.query_log import QueryLog  # noqa: PLC0415 - few want it

            query_log = QueryLog(self.settings.query_log)
        is_counting = self.settings.request_metrics is Switch.ON
        self.listening.observe(query_log, is_counting=is_counting)

    def bind_sites(self) -> None:
        """Bind the addresses of the page and the probes, which `show` serves.

        Raises:
            ConfigError: one that the settings name cannot be bound.
        """
        self.sites = Sites(self.settings)

    async def show(self) -> None:
        """Serve the page and the probes."""
        if self.sites:
            await self.sites.start(self)

    def follow(self, group: anyio.abc.TaskGroup) -> None:
        """Let tasks of a group fill the world and keep everything right.

        Raises:
            ConfigError: there is no source, or it is not described well.
        """
        self.generation.origin.take_over()
        group.start_soon(self.fill, self.generation)
        if self.forwarding:
            group.start_soon(self.forwarding.run)

    async def rescan(self) -> None:
        """Look for changes of the objects now."""
        await self.generation.origin.rescan()

    def leave(self, why: str) -> None:
        """Be not ready any more, for good; answers go on."""
        self._stopping = why

    async def drained(self) -> None:
        """Wait until no question is in flight, but not for long."""
        if self.forwarding:
            with anyio.move_on_after(IN_FLIGHT_S):
                await self.forwarding.drained()

    def close(self) -> None:
        """Answer what has arrived and close all sockets for DNS; once is enough."""
        if not self._is_closed:
            self._is_closed = True
            self.listening.close()
            if self.forwarding:
                self.forwarding.close()

    async def close_sites(self) -> None:
        """Close the sockets of the page and the probes."""
        if self.sites:
            await self.sites.close()

    # What its operator may ask

    @property
    def world(self) -> ZoneState:
        """All that is answered from; another one after a change of settings."""
        return self.generation.world

    @property
    def feed(self) -> UpdateQueue:
        """Who takes events for that world."""
        return self.generation.feed

    @property
    def addresses(self) -> list[str]:
        """Where it listens."""
        return self.listening.addresses

    def is_ready(self) -> bool:
        """Say whether queries are to be sent here: once it is so, it stays so until the end."""
        if self._is_open and (self.generation.is_synced or self.settings.is_ready_when_serving):
            self._was_ready = True
        return self._was_ready and not self._stopping

    def reasons(self) -> list[str]:
        """Return what is not as it should be, a line each, whether ready or not."""
        tree = self.world.tree
        reasons = [self._stopping] if self._stopping else []
        if not self.generation.is_synced:
            reasons.append(tree.reason)
        reasons += [each for state in self.sources() for each in state.reasons]
        if tree.stale:
            reasons.append("answers say that they are stale: the API server is away")
        return [*reasons, *self._down_upstreams(), *([self.refusal] if self.refusal else [])]

    def _down_upstreams(self) -> Iterator[str]:
        for each in self.forwarding.forwarder.statistics().upstreams if self.forwarding else ():
            if each.health.is_down:
                yield f"upstream {each.health.upstream} does not answer"

    def sources(self) -> list[SourceState]:
        """Return where the objects come from."""
        return self.generation.origin.states()

    def statistics(self) -> Statistics:
        """Return the counters of all sockets."""
        over_udp, over_tcp = self.listening.statistics()
        return Statistics(over_udp, over_tcp)

    def snapshot(self) -> Snapshot:
        """Return every room's statistics at this moment."""
        generation, forwards = self.generation, self.forwarding
        source, sockets = generation.origin, self.statistics()
        manifests = source.statistics() if isinstance(source, ManifestSource) else None
        kubernetes = source.statistics() if isinstance(source, KubernetesSource) else None
        return Snapshot(
            time_s=time.time(),
            ready=self.is_ready(),
            stale=self.world.tree.stale,
            udp=sockets.udp,
            tcp=sockets.tcp,
            replies=[count for tally in self.tallies for count in tally.counts()],
            handlers=_by_transport(each.statistics() for each in self.responders),
            packet_caches=_by_transport(each.statistics() for each in generation.kept),
            forward_handlers=_by_transport(
                forwards.relay(tcp=is_tcp).statistics() for is_tcp in (False, True) if forwards
            ),
            update_queue=self.feed.statistics(),
            store=self.world.store.statistics(),
            manifests=manifests,
            watches=kubernetes.watches if kubernetes else (),
            guard=kubernetes.guard if kubernetes else None,
            snapshot_writer=kubernetes.snapshot if kubernetes else None,
            forwarder=forwards.forwarder.statistics() if forwards else None,
            reloads=self.reloads,
        )

    def exchange(self, other: Answering) -> None:
        """Answer from something else, within this turn of the loop."""
        self.is_ready()  # what was ready by the old settings stays ready
        self.settings, self.forwarding = other.settings, other.forwarding
        self.generation = other.generation
        self.responders = other.generation.responders(other.forwarding, self.tallies)

    @property
    def own_addresses(self) -> list[tuple[str, int]]:
        """Where it listens."""
        return [split_address(address) for address in self.addresses]

    async def fill(self, generation: ServerState) -> None:
        """Fill a world; while others answer, its failure concerns nobody else."""
        try:
            await generation.run()
        except Exception as error:
            if generation is self.generation:
                raise
            generation.failure = error


def _by_transport(each: Iterable[T]) -> dict[str, T]:
    return dict(zip(TRANSPORTS, each, strict=False))
