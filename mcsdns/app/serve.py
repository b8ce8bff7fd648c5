"""Connects the rooms in one task group and stops them in order: the life of the process."""

import contextlib
import gc
import logging
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import anyio

from mcsdns.app.generation import expect_many_objects, preload
from mcsdns.app.process import Server, Statistics
from mcsdns.app.reload import Reloader, follow_file
from mcsdns.app.succession import Succession
from mcsdns.config import Settings

__all__ = ["Server", "Statistics", "serve"]

logger = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DRAIN_S: Final = 0.1
_FLUSH_S: Final = 1.0
_DROPS_EVERY_S: Final = 10.0
_FIRST_S: Final = 1.0
"""How long the page and the probes wait for the first objects to be read."""
_AFTER_S: Final = 0.2
"""How long they leave the processor to the first answers then."""


async def serve(settings: Settings, reread: Callable[[], Settings], config_file: str = "") -> None:
    """Serve until SIGTERM or SIGINT; on SIGHUP, or when `config_file` changes, `reread` settings.

    Raises:
        ConfigError: an address cannot be bound, there is no source, or it is not described well.
        SourceError: the source cannot be read.
    """
    expect_many_objects()
    preload(settings)
    server = Server(settings)
    with contextlib.closing(server):
        server.bind_sites()
        async with anyio.create_task_group() as group, _closing_sites(server):
            reloader = Reloader(server, Succession(server, group), reread)
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                server.follow(group)
                await server.start()
                group.start_soon(_announce, server)
                group.start_soon(_show, server)
                group.start_soon(_watch_drops, server)
                group.start_soon(reloader.run)
                if config_file:
                    group.start_soon(follow_file, config_file, reloader.ask)
                await _live(server, reloader, signals)
            await _end(server)
            group.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _closing_sites(server: Server) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await server.close_sites()


async def _live(server: Server, reloader: Reloader, signals: AsyncIterator[signal.Signals]) -> None:
    """Answer until a signal says to stop, then until clients had time to go elsewhere."""
    async for received in signals:
        if received == signal.SIGHUP:
            reloader.ask(rescan=True)
            continue
        lameduck_s = server.settings.lameduck if received == signal.SIGTERM else 0
        if lameduck_s:
            logger.info("stopping on %s, answers go on for %g s", received.name, lameduck_s)
        else:
            logger.info("stopping on %s", received.name)
        server.leave(f"stopping on {received.name}")
        if await _unless_again(partial(anyio.sleep, lameduck_s), signals):
            await _unless_again(server.drained, signals)
        return


async def _unless_again(
    wait: Callable[[], Awaitable[None]], signals: AsyncIterator[signal.Signals]
) -> bool:
    """Wait for something, but not when told a second time to stop; returns whether it was not."""

    async def listen() -> None:
        async for received in signals:
            if received != signal.SIGHUP:
                logger.info("stopping at once on %s", received.name)
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await wait()
        group.cancel_scope.cancel()
        return True
    return False


async def _end(server: Server) -> None:
    """Answer what was sent before, close the sockets, and let connections write what they have."""
    await anyio.sleep(_DRAIN_S)
    server.close()
    with anyio.move_on_after(_FLUSH_S):
        while any(each.open for each in server.statistics().tcp):  # noqa: ASYNC110 - at exit
            await anyio.sleep(_DRAIN_S / 10)


async def _show(server: Server) -> None:
    """Serve the page and the probes, but let the first answers come before."""
    with anyio.move_on_after(_FIRST_S):
        await server.feed.synced.wait()
        await anyio.sleep(_AFTER_S)
    await server.show()
    gc.freeze()  # what was imported stays


async def _announce(server: Server) -> None:
    """Say when everything is read, whichever settings are in force then."""
    while not server.generation.is_synced:
        with anyio.move_on_after(_FIRST_S):
            await server.feed.synced.wait()
    gc.collect()
    server.generation.settle()
    counts = server.world.store.statistics()
    print(  # noqa: T201 - the line that scripts wait for
        f"ready: {counts.service_imports} services, {counts.endpoints} endpoints from "
        f"{server.generation.origin.name}, listening on {', '.join(server.addresses)}",
        flush=True,
    )


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
