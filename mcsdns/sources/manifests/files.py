"""Which files a set of paths names, in which state they are, and when to look again.

Nothing is read here. A file counts as changed when its `FileState` differs: no single field of it
is enough, since editors keep times, `git` keeps sizes, and a ConfigMap's link leads to another
inode.
"""

import logging
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import anyio
import anyio.to_thread
import msgspec
import watchfiles

from mcsdns.sources.manifests.documents import FileState

logger = logging.getLogger(__name__)

SUFFIXES: Final = (".yaml", ".yml", ".json")
_TICK_MS: Final = 500
_TICKS_PER_LOOK: Final = 10
"""How often to look without a notice: network volumes give none."""
_QUIET_MS: Final = 50
_RETRY_S: Final = 1.0
Folder = tuple[int, int]
"""Device and inode."""


class Listing(msgspec.Struct, frozen=True):
    """What paths name.

    Attributes:
        files: path -> state, in the order of paths and, in a folder, of names.
        missing: path -> what the system says, of what could not be looked at.
        folders: those whose changes matter.
    """

    files: dict[str, FileState] = {}
    missing: dict[str, str] = {}
    folders: dict[str, Folder] = {}

    def is_missing(self, path: str) -> bool:
        """Return whether a file could not be looked at, itself or a folder it is in."""
        return any(is_in(path, each) for each in self.missing)


def is_in(path: str, place: str) -> bool:
    """Return whether a path is a place, or below it."""
    return path == place or path.startswith(place.rstrip("/") + "/")


def find(paths: Sequence[str]) -> Listing:
    """Find the manifests that files and folders name, each file once, under its first path.

    A folder is searched whole, links included; a file or folder that was seen is not visited
    again, so a cycle of links ends. In folders, names that begin with a dot are passed over, as
    kubectl and the kubelet's volumes want it; a file that is named itself is read whatever its
    name.
    """
    listing = Listing()
    seen: set[Folder] = set()
    waiting = [(path, True) for path in reversed(paths)]
    for path in paths:
        _add_folder_of(os.path.abspath(path), listing)
    while waiting:
        path, is_link = waiting.pop()
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                continue
            seen.add(identity)
            if stat.S_ISDIR(status.st_mode):
                listing.folders[path] = identity
                waiting += sorted(_inside(path), reverse=True)
            elif stat.S_ISREG(status.st_mode):
                listing.files[path] = state_of(status)
                if is_link:
                    _add_folder_of(os.path.realpath(path), listing)
            else:
                listing.missing[path] = "not a regular file"
        except (OSError, ValueError) as error:  # the latter for a path with a NUL
            listing.missing[path] = getattr(error, "strerror", None) or str(error)
    return listing


def state_of(status: os.stat_result) -> FileState:
    """Return the state of a file."""
    return FileState(
        status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
    )


def _add_folder_of(path: str, listing: Listing) -> None:
    """Add the folder that a path is in, or the closest one above it that exists."""
    while path != "/":
        path = os.path.dirname(path)
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        listing.folders[path] = (status.st_dev, status.st_ino)
        return


def _inside(folder: str) -> Iterator[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (
                entry.name.endswith(SUFFIXES) or os.path.isdir(entry)  # not for a circle of links
            ):
                yield entry.path, entry.is_symlink()


async def notices(folders: Callable[[], Mapping[str, Folder]]) -> AsyncGenerator[None]:
    """Yield whenever it is worth looking at what folders hold, until cancelled.

    That is when the system reports a change in one of them, shortly after they began to be
    watched (what changed in between is reported by nobody), and every five seconds in any case.
    `folders` is called, in a thread, after each look: where it returns others, or one that was
    made anew, those are watched from then on. What cannot be watched is looked at every second.
    """
    is_reported = False
    while True:
        watched = await anyio.to_thread.run_sync(folders)
        changes = watchfiles.awatch(  # pyright: ignore[reportUnknownMemberType] - untyped stop_event
            *watched,
            watch_filter=None,
            step=_QUIET_MS,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        ticks = 0
        try:
            async with aclosing(changes):
                async for batch in changes:
                    if batch or not ticks % _TICKS_PER_LOOK:
                        yield
                        if await anyio.to_thread.run_sync(folders) != watched:
                            break
                    ticks += 1
            continue
        except FileNotFoundError:
            logger.debug("a folder is gone before it could be watched")
        except (OSError, RuntimeError) as error:  # such as the limit of inotify watches
            if not is_reported:
                why = "changes are found once a second only, watching folders fails: %s"
                logger.warning(why, error)
            is_reported = True
        await anyio.sleep(_RETRY_S)
        yield
