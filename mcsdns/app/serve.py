"""Connects the rooms in one task group and stops them in order: the life of the process.

The end. SIGTERM is what a kubelet sends while the endpoints of the Service are being updated, so
queries still come for a while:

1. `/readyz` is 503 at once, and answers go on for `--lameduck` seconds (SIGINT, from a terminal:
   for none).
2. The questions that wait for an upstream get their replies, for two seconds at most. A second
   SIGTERM or SIGINT ends both at once.
3. What has arrived at the sockets by then is answered, they are closed, and TCP connections write
   what they have.
4. The other tasks are cancelled; a source writes its last snapshot. Then the status page and the
   probes close.

Signals are received until all of that is done: none of them ends the process in the middle.

The collector of cycles. Hardly anything here is in cycles, but a full collection walks every object
there is: 37 ms at 100,000 endpoints, in which no query is answered. While objects are read for the
first time, all of them stay, so it rests as far as it can; then they are frozen, out of its sight,
and from then on it looks often at the little that is made while serving.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import anyio
import anyio.abc

from mcsdns.app import log
from mcsdns.app.process import Server, preload
from mcsdns.app.reload import follow_file, reload
from mcsdns.config import Settings
from mcsdns.server import memory

logger = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DRAIN_S: Final = 0.1
_FLUSH_S: Final = 1.0
_DROPS_EVERY_S: Final = 10.0
_HELD_EVERY_S: Final = 5.0
_FIRST_S: Final = 1.0
"""How long the page and the probes wait for the first objects to be read."""
_AFTER_S: Final = 0.2
"""How long they leave the processor to the first answers then."""
_READING_THRESHOLDS: Final = (50_000, 20, 100)
_SERVING_THRESHOLDS: Final = (10_000, 20, 20)


async def serve(settings: Settings, reread: Callable[[], Settings], config_file: str = "") -> None:
    """Serve until SIGTERM or SIGINT; on SIGHUP, or when `config_file` changes, `reread` settings.

    Raises:
        ConfigError: an address cannot be bound, there is no source, or it is not described well.
        SourceError: the source cannot be read.
    """
    memory.give_back_at_once()
    gc.set_threshold(*_READING_THRESHOLDS)
    preload(settings)
    with (
        contextlib.closing(Server(settings)) as server,
        anyio.open_signal_receiver(*_SIGNALS) as signals,
    ):
        server.bind_web()
        try:
            async with anyio.create_task_group() as group:
                server.follow(group)
                await server.start()
                group.start_soon(_announce, server)
                group.start_soon(_start_web, server)
                group.start_soon(_watch_drops, server)
                group.start_soon(_tell_held_lines)
                if config_file:
                    group.start_soon(follow_file, config_file, partial(reload, server, reread))
                received = await _next_stop(server, reread, signals, group)
                await _leave(server, received, signals)
                await _close(server)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await server.close_web()
            log.tell(at_end=True)


async def _next_stop(
    server: Server,
    reread: Callable[[], Settings],
    signals: AsyncIterator[signal.Signals],
    group: anyio.abc.TaskGroup,
) -> signal.Signals:
    """Wait for a signal that says to stop; SIGHUP is for settings, and for manifests too."""
    async for received in signals:
        if received != signal.SIGHUP:
            return received
        reload(server, reread)
        group.start_soon(server.source.rescan)
    raise AssertionError("signals never end")


async def _leave(
    server: Server, received: signal.Signals, signals: AsyncIterator[signal.Signals]
) -> None:
    """Answer on until clients had time to go elsewhere, or until another signal says to stop."""
    lameduck_s = server.settings.lameduck if received == signal.SIGTERM else 0
    if lameduck_s:
        logger.info("stopping on %s, answers go on for %g s", received.name, lameduck_s)
    else:
        logger.info("stopping on %s", received.name)
    server.leave(f"stopping on {received.name}")

    async def stop_at_once() -> None:
        async for again in signals:
            if again != signal.SIGHUP:
                logger.info("stopping at once on %s", again.name)
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(stop_at_once)
        await anyio.sleep(lameduck_s)
        await server.drained()
        group.cancel_scope.cancel()


async def _close(server: Server) -> None:
    """Answer what was sent before, close the sockets, and let connections write what they have."""
    await anyio.sleep(_DRAIN_S)
    server.close()
    with anyio.move_on_after(_FLUSH_S):
        while server.listeners.tcp.statistics().open:  # noqa: ASYNC110 - at exit
            await anyio.sleep(_DRAIN_S / 10)


async def _start_web(server: Server) -> None:
    """Serve the page and the probes, but let the first answers come before."""
    with anyio.move_on_after(_FIRST_S):
        await server.updates.synced.wait()
        await anyio.sleep(_AFTER_S)
    await server.start_web()
    gc.freeze()  # what was imported stays


async def _announce(server: Server) -> None:
    """Tell when everything is read, and turn the collector to what is made from then on."""
    await server.updates.synced.wait()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_SERVING_THRESHOLDS)
    counts = server.zone_state.store.statistics()
    line = (
        f"ready: {counts.service_imports} services, {counts.endpoints} endpoints from "
        f"{server.source.name}, listening on {', '.join(server.addresses)}"
    )
    try:
        print(line, flush=True)  # noqa: T201 - the line that scripts wait for
    except OSError as error:  # a full disk, a reader that went away: no reason to stop answering
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what its buffer holds goes
        logger.warning("standard output takes no line (%s): %s", error.strerror, line)


async def _tell_held_lines() -> None:
    """Have it said how many log lines were held back, also when no other line comes."""
    while True:
        await anyio.sleep(_HELD_EVERY_S)
        log.tell()


async def _watch_drops(server: Server) -> None:
    """Log when the kernel dropped datagrams: the one loss that nothing else here can see."""
    known = 0
    while True:
        await anyio.sleep(_DROPS_EVERY_S)
        drops = sum(each.statistics().kernel_drops for each in server.listeners.udp)
        if drops > known:
            logger.warning(
                "%d datagrams dropped by the kernel, %d in all: requests come faster than they "
                "are read; raise net.core.rmem_max for bursts, run more replicas for load",
                drops - known,
                drops,
            )
        known = drops
