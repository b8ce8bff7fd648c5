"""Other settings for a running server: all of them or none, and without losing a query.

What is new is made beside what answers, and waited for. Then everything is exchanged in one turn
of the event loop, and what is old goes once its questions in flight are answered.
"""

import contextlib
import logging
from typing import Final

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from mcsdns.app import changes, log, upstreams
from mcsdns.app.changes import Changes
from mcsdns.app.generation import ServerState, expect_few_objects, expect_many_objects, preload
from mcsdns.app.listeners import Address, Listener
from mcsdns.app.process import IN_FLIGHT_S, Answering, Server
from mcsdns.app.upstreams import Forwarding
from mcsdns.config import Settings
from mcsdns.errors import ConfigError, McsdnsError, SourceError
from mcsdns.sources.manifests.worker import STANDARD_INPUT
from mcsdns.web.sites import Site

logger = logging.getLogger(__name__)

_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.02


class _Prepared(msgspec.Struct, frozen=True):
    """All that is in force next; `sites` is None where they stay."""

    answering: Answering
    listeners: dict[Address, Listener]
    sites: list[Site] | None


class Succession:
    """Changes the settings of one server."""

    def __init__(
        self, server: Server, group: anyio.abc.TaskGroup, patience_s: float = _PATIENCE_S
    ) -> None:
        """Take the group whose tasks fill worlds, and how long a new world may take to be whole."""
        self._server = server
        self._group = group
        self._patience_s = patience_s

    async def change(self, wanted: Settings) -> Changes:
        """Let other settings take effect; returns what they change.

        Raises:
            McsdnsError: they cannot; those in force stay.
        """
        what = changes.between(self._server.settings, wanted)
        if what.names:
            with contextlib.ExitStack() as undo:
                undo.callback(expect_few_objects)
                prepared = await self._prepare(what, wanted, undo)
                undo.pop_all()
            self._adopt(what, prepared)
        return what

    async def _prepare(
        self, what: Changes, wanted: Settings, undo: contextlib.ExitStack
    ) -> _Prepared:
        """Make all that is new, and wait until it is as good as what it replaces."""
        server = self._server
        generation, forwards = server.generation, server.forwarding
        if what.needs_forwarding:
            forwards = upstreams.make(wanted, server.tallies, server.told)
            undo.callback(_close, forwards)
        listeners = server.listening.bind(wanted, server.responders)
        added = server.listening.new_among(listeners)
        for listener in added:
            undo.callback(listener.close)
        sites = self._bind_sites(wanted, undo) if what.needs_sites else None
        if what.needs_world:
            generation = await self._make_generation(wanted)
            undo.callback(self._discard, generation)
            await self._wait_for(generation, what)
        with anyio.CancelScope(shield=True):  # cut short, a socket would be read by nobody
            for listener in added:
                await listener.start()
        return _Prepared(Answering(wanted, generation, forwards), listeners, sites)

    def _bind_sites(self, wanted: Settings, undo: contextlib.ExitStack) -> list[Site] | None:
        sites = self._server.sites
        if sites is None:
            return None
        bound = sites.bind(wanted)
        undo.callback(sites.release, bound)
        return bound

    async def _make_generation(self, wanted: Settings) -> ServerState:
        if STANDARD_INPUT in wanted.manifests:
            raise ConfigError("--manifests -: standard input cannot be read again; restart instead")
        await anyio.to_thread.run_sync(preload, wanted)
        expect_many_objects()
        generation = ServerState(wanted)
        generation.feed.is_alone = False
        logger.info("reading everything anew from %s", generation.origin.name)
        self._group.start_soon(self._server.fill, generation)
        return generation

    async def _wait_for(self, generation: ServerState, what: Changes) -> None:
        with anyio.move_on_after(self._patience_s):
            while not self._may_take_over(generation, what):
                if generation.failure is not None:
                    raise _as_ours(generation.failure)
                await anyio.sleep(_LOOK_S)
            return
        reasons = [each for state in generation.origin.states() for each in state.reasons]
        why = "; ".join(reasons or [self._doubt(generation) or generation.world.tree.reason])
        raise SourceError(f"not whole after {self._patience_s:g} s: {why}")

    def _may_take_over(self, generation: ServerState, what: Changes) -> bool:
        """Say whether another world knows as much as the one in force."""
        if not generation.is_synced:
            serves = generation.settings.is_ready_when_serving
            return serves and not self._server.generation.is_synced
        is_guarded = generation.origin.is_guarded and what.keeps_objects
        return not (is_guarded and self._doubt(generation))

    def _doubt(self, generation: ServerState) -> str:
        """Say what speaks against a world, as the guard would where it is on."""
        settings = generation.settings
        before = self._server.world.tree.service_count()
        lost = before - generation.world.tree.service_count()
        is_on = settings.guard_grace and settings.guard_share
        if not is_on or lost < settings.guard_least or lost <= before * settings.guard_share:
            return ""
        return f"{lost} of {before} services are not there any more"

    def _adopt(self, what: Changes, new: _Prepared) -> None:
        """Answer from what is new, within one turn of the loop; what is old goes afterwards."""
        server, settings = self._server, new.answering.settings
        generation, forwards = server.generation, server.forwarding
        server.exchange(new.answering)
        gone = server.listening.adopt(new.listeners, server.responders, settings.tcp_settings())
        if server.forwarding is not forwards and server.forwarding:
            server.forwarding.start(server.own_addresses)
            self._group.start_soon(server.forwarding.run)
        if server.generation is not generation:
            generation.origin.step_down()
            server.generation.origin.take_over()
            server.generation.settle()
            self._discard(generation)
        elif (server.forwarding is None) is not (forwards is None):
            self._group.start_soon(generation.forget_replies)  # they tell whether RA is offered
        server.observe()
        if what.needs_log:
            log.configure(settings.log_format, settings.log_level)
        if server.sites and new.sites is not None:
            self._group.start_soon(server.sites.adopt, new.sites, server)
        self._group.start_soon(self._retire, forwards, gone)

    async def _retire(self, forwards: Forwarding | None, gone: list[Listener]) -> None:
        """Close what is not used any more, once its questions in flight are answered."""
        is_replaced = forwards is not self._server.forwarding
        if forwards and (is_replaced or gone):
            with anyio.move_on_after(IN_FLIGHT_S):
                await forwards.drained()
        for listener in gone:
            listener.close()
        if forwards and is_replaced:
            forwards.close()

    def _discard(self, generation: ServerState) -> None:
        """Have a world end that nobody answers from."""
        generation.stop()
        self._group.start_soon(generation.take_apart)


def _close(forwards: Forwarding | None) -> None:
    if forwards:
        forwards.close()


def _as_ours(error: Exception) -> McsdnsError:
    """Return the one error that a task failed of, in a form for people."""
    inner: tuple[Exception, ...] = getattr(error, "exceptions", ())
    if len(inner) == 1:
        return _as_ours(inner[0])
    if isinstance(error, McsdnsError):
        return error
    logger.error("the objects cannot be read", exc_info=error)
    return SourceError(f"the objects cannot be read: {error!r}")
