"""Connects the rooms in one task group and stops them in order."""

import contextlib
import gc
import logging
import signal
import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio
import msgspec

from mcsdns import forwarding
from mcsdns.config import Settings, split_address
from mcsdns.errors import ConfigError
from mcsdns.feed import Feed
from mcsdns.index.events import Event, Init, InitDone
from mcsdns.index.objects import Kind
from mcsdns.listening import bind_all, within_file_limit
from mcsdns.server import tcp, udp
from mcsdns.server.kept import Kept
from mcsdns.server.respond import Responder
from mcsdns.sources.documents import Located
from mcsdns.sources.manifests import ManifestSource
from mcsdns.world import World

logger = logging.getLogger(__name__)

_THRESHOLDS: Final = (10_000, 20, 20)
"""While serving: hardly anything here is in cycles, and a forwarded question makes objects."""
_FIRST_THRESHOLDS: Final = (50_000, 20, 100)
"""While everything is read, all of it lives: a full collection took 37 ms, and freed nothing."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DRAIN_S: Final = 0.1
_FLUSH_S: Final = 1.0
_DROPS_EVERY_S: Final = 10.0


async def offline_world(settings: Settings) -> World:
    """Read the source once and publish everything: for commands that do not serve.

    Raises:
        ConfigError: there is no source. SourceError: it cannot be read.
    """
    world = World(settings)
    if settings.access() is None:
        manifests = _manifest_source(settings, world.publisher.apply)
        await manifests.load()
        world.problems = tuple(manifests.problems())
    else:
        from mcsdns import upkeep  # noqa: PLC0415 - what it imports takes 0.4 s

        source = upkeep.make_source(settings, world.publisher.apply)
        await source.load()
        world.problems = tuple(Located("", problem) for problem in source.problems())
    world.publish_all(int(time.time()))
    return world


def _manifest_source(settings: Settings, sink: Callable[[Event], None]) -> ManifestSource:
    return ManifestSource(
        settings.manifests,
        sink,
        max_bytes=settings.manifest_max_bytes,
        profile=settings.slices,
    )


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of the whole server."""

    udp: list[udp.Statistics]
    tcp: list[tcp.Statistics]


class Server:
    """Sockets, responders and their world."""

    def __init__(self, settings: Settings) -> None:
        """Bind every address; nothing is answered before `start`.

        Raises:
            ConfigError: an address cannot be bound; says why and what to do.
        """
        self.settings = settings
        self.world = World(settings)
        kept_udp, kept_tcp = Kept(settings.kept_bytes), Kept(settings.kept_bytes)
        self.forwarding = forwarding.make(settings)
        self._udp_responder = self._responder(kept_udp, over_tcp=False)
        self._tcp_responder = self._responder(kept_tcp, over_tcp=True)
        self.feed = Feed(self.world, (kept_udp, kept_tcp))
        self.addresses: list[str] = []
        self._udp: list[udp.UdpListener] = []
        self._tcp: list[tcp.TcpListener] = []
        tcp_settings = within_file_limit(settings.tcp_settings())
        for host, udp_socket, tcp_socket in bind_all(settings):
            port = udp_socket.getsockname()[1]
            self.addresses.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            wildcard = udp.is_wildcard(host)
            self._udp.append(udp.UdpListener(udp_socket, self._udp_responder, wildcard=wildcard))
            self._tcp.append(
                tcp.TcpListener(tcp_socket, self._tcp_responder, tcp_settings, time.monotonic)
            )

    async def start(self) -> None:
        """Begin to answer."""
        for listener in self._udp:
            listener.start()
        for tcp_listener in self._tcp:
            await tcp_listener.start()
        if self.forwarding:
            self.forwarding.start([split_address(address) for address in self.addresses])

    def close(self) -> None:
        """Answer what has arrived and close all sockets."""
        for listener in self._udp:
            listener.close()
        for tcp_listener in self._tcp:
            tcp_listener.close()
        if self.forwarding:
            self.forwarding.close()

    def statistics(self) -> Statistics:
        """Return the counters of all sockets."""
        return Statistics(
            [listener.statistics() for listener in self._udp],
            [listener.statistics() for listener in self._tcp],
        )

    def _responder(self, kept: Kept, *, over_tcp: bool) -> Responder:
        world = self.world
        relay = self.forwarding.relay(tcp=over_tcp) if self.forwarding else None
        return Responder(
            world.answerer, world.tree, kept, tcp=over_tcp, clock=time.monotonic, relay=relay
        )


async def serve(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Serve until SIGTERM or SIGINT; on SIGHUP look at the files and, with `reread`, the settings.

    Raises:
        ConfigError: an address cannot be bound, there is no source, or it is not described well.
        SourceError: the source cannot be read.
    """
    gc.set_threshold(*_FIRST_THRESHOLDS)
    make_origin = _origin_of(settings)
    server = Server(settings)
    with contextlib.closing(server):
        origin = make_origin(server)
        async with anyio.create_task_group() as group:
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                await server.start()
                group.start_soon(_follow, origin, server)
                group.start_soon(_watch_drops, server)
                if server.forwarding:
                    group.start_soon(server.forwarding.run)
                async for received in signals:
                    if received != signal.SIGHUP:
                        logger.info("stopping on %s", received.name)
                        break
                    _check_again(settings, reread)
                    group.start_soon(origin.rescan)
                await anyio.sleep(_DRAIN_S)  # what was sent before the signal is answered
            group.cancel_scope.cancel()
    with anyio.move_on_after(_FLUSH_S):  # connections write what they have
        while any(each.open for each in server.statistics().tcp):  # noqa: ASYNC110 - at exit
            await anyio.sleep(_DRAIN_S / 10)


class Origin(Protocol):
    """Where a server's objects come from, for as long as it runs."""

    @property
    def name(self) -> str:
        """Say what is read, for people."""
        ...

    async def run(self) -> None:
        """Tell the server's feed of objects until cancelled."""

    async def rescan(self) -> None:
        """Look for changes now, where looking is how they are found."""


class NoOrigin:
    """Nothing is served but what upstreams say."""

    name = "no source"

    def __init__(self, server: Server) -> None:
        """Take the server whose world stays empty."""
        self._feed = server.feed

    async def run(self) -> None:
        """Call the empty world complete, and wait until cancelled."""
        for kind in Kind:
            self._feed(Init(kind))
            self._feed(InitDone(kind))
        await anyio.sleep_forever()

    async def rescan(self) -> None:
        """Do nothing."""


def _origin_of(settings: Settings) -> Callable[[Server], Origin]:
    """Return what makes the origin that the settings name, once there is a server."""
    access = settings.access()
    if settings.is_sourceless:
        return NoOrigin
    if access is None:
        return lambda server: _manifest_source(settings, server.feed)
    from mcsdns.upkeep import Upkeep  # noqa: PLC0415 - takes 0.2 s: before a socket is open

    return lambda server: Upkeep(settings, server.world, server.feed)


async def _watch_drops(server: Server) -> None:
    """Say when the kernel dropped datagrams: the one loss that nothing else here can see."""
    known = 0
    while True:
        await anyio.sleep(_DROPS_EVERY_S)
        drops = sum(each.kernel_drops for each in server.statistics().udp)
        if drops > known:
            logger.warning(
                "%d datagrams dropped by the kernel, %d in all: requests come faster than they "
                "are read; raise net.core.rmem_max for bursts, run more replicas for load",
                drops - known,
                drops,
            )
        known = drops


def _check_again(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Say what a restart would change, or why there could be none."""
    try:
        wanted = reread()
    except ConfigError as error:
        logger.error("%s; the settings in force stay", error)
        return
    before = msgspec.structs.asdict(settings)
    after = msgspec.structs.asdict(wanted)
    changed = [name for name, value in after.items() if before[name] != value]
    if changed:
        logger.warning("restart to apply what changed: %s", ", ".join(changed))
    else:
        logger.info("the settings have not changed")


async def _follow(origin: Origin, server: Server) -> None:
    """Follow where the objects come from, and say when we are ready."""
    async with anyio.create_task_group() as group:
        group.start_soon(origin.run)
        await server.feed.synced.wait()
        gc.collect()
        gc.freeze()  # a full collection would walk every object of the index for nothing
        gc.set_threshold(*_THRESHOLDS)
        counts = server.world.store.statistics()
        print(  # noqa: T201 - the line that scripts wait for
            f"ready: {counts.service_imports} services, {counts.endpoints} endpoints from "
            f"{origin.name}, listening on {', '.join(server.addresses)}",
            flush=True,
        )
