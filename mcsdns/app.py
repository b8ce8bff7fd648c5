"""Connects the rooms in one task group and stops them in order."""

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final

import anyio
import msgspec

from mcsdns.config import Settings
from mcsdns.errors import ConfigError
from mcsdns.index.events import Event
from mcsdns.server import tcp, udp
from mcsdns.server.kept import Kept
from mcsdns.server.respond import Responder
from mcsdns.sources.manifests import ManifestSource
from mcsdns.world import World
from mcsdns.zone.question import APEX_OWNER
from mcsdns.zone.tree import Readiness

logger = logging.getLogger(__name__)

_SLICE_S: Final = 0.002
"""Longest turn of the loop that publishing takes."""
_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DRAIN_S: Final = 0.1
_FLUSH_S: Final = 1.0
_DROPS_EVERY_S: Final = 10.0
_SPARE_FILES: Final = 64
"""File descriptors kept free for everything but TCP connections."""


async def offline_world(settings: Settings) -> World:
    """Read the sources once and publish everything: for commands that do not serve.

    Raises:
        SourceError: the source cannot be read.
    """
    world = World(settings)
    source = ManifestSource(
        settings.manifests, world.publisher.apply, max_bytes=settings.manifest_max_bytes
    )
    await source.load()
    world.problems = tuple(source.problems())
    world.publish_all(int(time.time()))
    return world


class Feed:
    """Takes events from sources, publishes them in short turns, and forgets what changed."""

    def __init__(self, world: World, kept: Iterable[Kept]) -> None:
        """Tell who holds replies that a change makes wrong."""
        self._world = world
        self._kept = tuple(kept)
        self._scheduled = False
        self._serial_timer: asyncio.TimerHandle | None = None
        self.synced = anyio.Event()

    def __call__(self, event: Event) -> None:
        """Take one event; its effect shows within this turn of the loop or the next ones."""
        self._world.publisher.apply(event)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        """Publish for a short turn; come back for the rest."""
        self._scheduled = False
        deadline = time.monotonic() + _SLICE_S
        for owners in self._world.publisher.publish():
            for kept in self._kept:
                kept.forget(owners)
            if time.monotonic() > deadline:
                break
        if self._world.publisher.pending:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish)
            return
        self._world.note_synced()
        if self._serial_timer is None:
            self._step_serial()
        if self._world.tree.readiness is Readiness.SYNCED and not self.synced.is_set():
            self.synced.set()

    def _step_serial(self) -> None:
        self._serial_timer = None
        now = time.time()
        before = self._world.publisher.serial
        if self._world.publisher.step_serial(int(now)):
            loop = asyncio.get_running_loop()
            self._serial_timer = loop.call_later(1 - now % 1, self._step_serial)
        if before != self._world.publisher.serial:
            for kept in self._kept:
                kept.forget((APEX_OWNER,))


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
        self._udp_responder = self._responder(kept_udp, over_tcp=False)
        self._tcp_responder = self._responder(kept_tcp, over_tcp=True)
        self.feed = Feed(self.world, (kept_udp, kept_tcp))
        self.addresses: list[str] = []
        self._udp: list[udp.UdpListener] = []
        self._tcp: list[tcp.TcpListener] = []
        tcp_settings = _within_file_limit(settings.tcp_settings())
        for host, udp_socket, tcp_socket in _bind_all(settings):
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

    def close(self) -> None:
        """Answer what has arrived and close all sockets."""
        for listener in self._udp:
            listener.close()
        for tcp_listener in self._tcp:
            tcp_listener.close()

    def statistics(self) -> Statistics:
        """Return the counters of all sockets."""
        return Statistics(
            [listener.statistics() for listener in self._udp],
            [listener.statistics() for listener in self._tcp],
        )

    def _responder(self, kept: Kept, *, over_tcp: bool) -> Responder:
        world = self.world
        return Responder(world.answerer, world.tree, kept, tcp=over_tcp, clock=time.monotonic)


async def serve(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Serve until SIGTERM or SIGINT; on SIGHUP look at the files and, with `reread`, the settings.

    Raises:
        ConfigError: an address cannot be bound. SourceError: the source cannot be read.
    """
    server = Server(settings)
    source = ManifestSource(settings.manifests, server.feed, max_bytes=settings.manifest_max_bytes)
    with contextlib.closing(server):
        async with anyio.create_task_group() as group:
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                await server.start()
                group.start_soon(_follow, source, server)
                group.start_soon(_watch_drops, server)
                async for received in signals:
                    if received != signal.SIGHUP:
                        logger.info("stopping on %s", received.name)
                        break
                    _check_again(settings, reread)
                    group.start_soon(source.rescan)
                await anyio.sleep(_DRAIN_S)  # what was sent before the signal is answered
            group.cancel_scope.cancel()
    with anyio.move_on_after(_FLUSH_S):  # connections write what they have
        while any(each.open for each in server.statistics().tcp):  # noqa: ASYNC110 - at exit
            await anyio.sleep(_DRAIN_S / 10)


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


async def _follow(source: ManifestSource, server: Server) -> None:
    """Load a source, say that we are ready, and follow its changes."""
    await source.load()
    await server.feed.synced.wait()
    gc.collect()
    gc.freeze()  # a full collection would walk every object of the index for nothing
    counts = server.world.store.statistics()
    print(  # noqa: T201 - the line that scripts wait for
        f"ready: {counts.service_imports} services, {counts.endpoints} endpoints from "
        f"{source.name}, listening on {', '.join(server.addresses)}",
        flush=True,
    )
    await source.watch()


def _bind_all(settings: Settings) -> list[tuple[str, socket.socket, socket.socket]]:
    """Bind UDP and TCP of each address, on one port where the port is 0."""
    listen = settings.listen_addresses()
    bound: list[tuple[str, socket.socket, socket.socket]] = []
    for host, port in listen:
        try:
            bound.append((host, *_bind_pair(host, port)))
        except OSError as error:
            if host == "::" and len(listen) > 1 and error.errno in _NO_SUCH_FAMILY:
                logger.info("IPv6 is off here, [::]:%d is passed over", port)
                continue
            for _, *sockets in bound:
                for each in sockets:
                    each.close()
            raise ConfigError(_why_not_bound(host, port, error)) from None
    return bound


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    for attempt in range(20):
        udp_socket = udp.bind(host, port)
        try:
            return udp_socket, tcp.bind(host, udp_socket.getsockname()[1])
        except OSError as error:
            udp_socket.close()
            if port or error.errno != errno.EADDRINUSE or attempt == 19:  # noqa: PLR2004
                raise
    raise AssertionError("unreachable")


def _why_not_bound(host: str, port: int, error: OSError) -> str:
    what = f"--listen {f'[{host}]' if ':' in host else host}:{port}: "
    if error.errno == errno.EADDRINUSE:
        return what + (
            f"the port is in use; `ss -lnp sport = :{port}` shows by whom, "
            "choose another with --listen ADDR:PORT"
        )
    if error.errno == errno.EACCES:
        return what + "not permitted; choose a port from 1024 on, or allow CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return what + "this host has no such address; `ip address` lists those it has"
    if error.errno == errno.EAFNOSUPPORT:
        return what + "IPv6 is off here; listen on an IPv4 address, or on 0.0.0.0 for all"
    return what + (error.strerror or str(error))


def _within_file_limit(settings: tcp.TcpSettings) -> tcp.TcpSettings:
    """Raise the limit of open files as far as allowed, and stay below it with connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = max(1, hard - _SPARE_FILES)
    if settings.max_connections <= most:
        return settings
    logger.warning("%d TCP connections at most, the limit of open files is %d", most, hard)
    return msgspec.structs.replace(settings, max_connections=most)
