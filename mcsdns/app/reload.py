"""Other settings for a running server: on SIGHUP, and when the config file changes.

What a reload does, step by step:

1. The settings are read as at the start: flags and variables as they were, the file as it is now.
   Whatever is wrong with them is one line in the log, in `/readyz` and on the status page; the
   settings in force stay, all of them.
2. Each setting says in the schema how it takes effect (`config.schema.Effect`). Those that need a
   restart keep the value they have, and one line names them. The others take effect: an operator
   who edits a file expects what can change at once to change at once (decision record 0008).
3. Both together must be sound as well: an old `source: none` without any upstream answers nobody.
   If they are not, nothing takes effect.
4. All that may fail is made before anything is changed: the forwarder. From then on the reload is
   one turn of the event loop, so no query meets half of it. The old forwarder answers what waits
   for its upstreams, and closes. Replies that are ready from the time before are evicted in short
   turns after that.
"""

import logging
from collections.abc import Callable, Set
from contextlib import aclosing
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from mcsdns import config
from mcsdns.app import log
from mcsdns.app.process import Server
from mcsdns.config import Effect, Settings
from mcsdns.errors import McsdnsError
from mcsdns.metrics.snapshot import Reloads
from mcsdns.sources.manifests import files

logger = logging.getLogger(__name__)

_STILL_S: Final = 0.3
"""What was written to may be written to again: so long it has to stand still."""
_MAX_FILE_BYTES: Final = 1 << 20


def reload(server: Server, reread: Callable[[], Settings]) -> None:
    """Read the settings again and let those take effect that can, or log why not.

    A file is often written and then told of by SIGHUP: what is wrong with it is logged once.
    """
    counted, known_problem = server.reloads, server.reload_problem
    try:
        wanted = reread()
        effects = _differing(server.settings, wanted)
        waiting = [name for name, effect in effects.items() if effect is Effect.RESTART]
        changed = [name for name in effects if name not in waiting]
        old = {name: getattr(server.settings, name) for name in waiting}
        _apply(server, msgspec.structs.replace(wanted, **old), {effects[name] for name in changed})
    except McsdnsError as error:
        server.reload_fault = "the settings that were read last are not in force"
        server.reload_problem = f"{server.reload_fault}: {error}"
        if server.reload_problem != known_problem:
            logger.error("%s; the settings in force stay", error)
        else:
            logger.info("the settings were read again; why they are not in force was told")
        server.reloads = Reloads(counted.applied, counted.refused + 1, is_applied=False)
        return
    server.reloads = Reloads(counted.applied + 1, counted.refused, is_applied=True)
    server.reload_problem = server.reload_fault = ""
    if changed:
        logger.info("settings changed: %s", ", ".join(changed))
    if waiting:
        server.reload_fault = f"needs a restart to take effect: {', '.join(waiting)}"
        server.reload_problem = server.reload_fault
        if server.reload_problem != known_problem:
            logger.warning("%s; what is in force stays", server.reload_problem)
    if not changed and (not waiting or server.reload_problem == known_problem):
        logger.info("the settings have not changed")


def _differing(before: Settings, after: Settings) -> dict[str, Effect]:
    """Return which settings differ, with their effect."""
    return {
        field.name: field.effect
        for field in config.fields()
        if getattr(before, field.name) != getattr(after, field.name)
    }


def _apply(server: Server, settings: Settings, effects: Set[Effect]) -> None:
    """Put settings in force, of which some have changed, with these effects.

    Raises:
        ConfigError: they are not sound; nothing has changed then.
    """
    settings.access()
    forwarding = server.forwarding
    if Effect.FORWARDER in effects:
        forwarding = server.make_forwarding(settings)
    zone = settings.zone_settings() if Effect.ZONE in effects else None
    server.is_ready()  # what is ready by the old settings stays ready
    server.settings = settings
    if forwarding is not server.forwarding:
        server.exchange_forwarding(forwarding)
    if zone is not None:
        server.updates.replace_settings(zone)
    if Effect.LIVE in effects:
        server.apply_to_sockets()
        log.configure(settings.log_format, settings.log_level, is_limited=True)


async def follow_file(path: str, changed: Callable[[], None]) -> None:
    """Call `changed` whenever the content of a file is another one, until cancelled.

    A ConfigMap's file is a link to a link in its folder, which is exchanged: so folders are
    watched, and what counts is the content.
    """
    known = await anyio.to_thread.run_sync(_content_of, path)
    async with aclosing(files.notices(lambda: files.find([path]).folders)) as notices:
        async for _ in notices:
            found = await anyio.to_thread.run_sync(_content_of, path)
            while found != known:
                await anyio.sleep(_STILL_S)
                before, found = found, await anyio.to_thread.run_sync(_content_of, path)
                if found == before:
                    known = found
                    logger.info("%s changed", path)
                    changed()


def _content_of(path: str) -> bytes | None:
    """Return what a file says; None where it cannot be read, which is a change too."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE_BYTES + 1)
    except OSError:
        return None
