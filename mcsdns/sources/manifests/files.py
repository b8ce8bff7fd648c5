"""Which files a set of paths names, whether one of them changed, and which folders would tell."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

SUFFIXES: Final = (".yaml", ".yml", ".json")
Folder = tuple[int, int]
"""Device and inode."""


class Signature(msgspec.Struct, frozen=True, gc=False):
    """The state of a file; whatever changes, one of these does. Times in ns."""

    device: int
    inode: int
    content_time: int
    status_time: int
    size_bytes: int

    def is_written_since(self, before: "Signature") -> bool:
        """Say whether the same file was written to; one that took its place was not."""
        same_file = (self.device, self.inode) == (before.device, before.inode)
        return same_file and (self.content_time, self.size_bytes) != (
            before.content_time,
            before.size_bytes,
        )


class Found(msgspec.Struct, frozen=True):
    """What paths name.

    Attributes:
        files: path -> signature, in the order of paths and, in a folder, of names.
        missing: path -> what the system says, of what could not be looked at.
        folders: those whose changes matter.
    """

    files: dict[str, Signature] = {}
    missing: dict[str, str] = {}
    folders: dict[str, Folder] = {}

    def is_missing(self, path: str) -> bool:
        """Say whether a file could not be looked at, itself or a folder it is in."""
        return any(is_in(path, each) for each in self.missing)


def is_in(path: str, place: str) -> bool:
    """Say whether a path is a place, or below it."""
    return path == place or path.startswith(place.rstrip("/") + "/")


def find(paths: Sequence[str]) -> Found:
    """Find the manifests that files and folders name, each file once, under its first path.

    A folder is searched whole, links included; a file or folder that was seen is not visited
    again, so a cycle of links ends. In folders, names that begin with a dot are passed over, as
    kubectl and the kubelet's volumes want it; a file that is named itself is read whatever its
    name.
    """
    found = Found()
    seen: set[Folder] = set()
    waiting = [(path, True) for path in reversed(paths)]
    for path in paths:
        _note_folder(os.path.dirname(os.path.abspath(path)), found)
    while waiting:
        path, is_link = waiting.pop()
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                continue
            seen.add(identity)
            if stat.S_ISDIR(status.st_mode):
                found.folders[path] = identity
                waiting += sorted(_inside(path), reverse=True)
            elif stat.S_ISREG(status.st_mode):
                found.files[path] = signature_of(status)
                if is_link:
                    _note_folder(os.path.dirname(os.path.realpath(path)), found)
            else:
                found.missing[path] = "not a regular file"
        except OSError as error:
            found.missing[path] = error.strerror or str(error)
        except ValueError as error:  # no path can have a NUL
            found.missing[path] = str(error)
    return found


def signature_of(status: os.stat_result) -> Signature:
    """Return the state of a file."""
    return Signature(
        status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
    )


def _note_folder(path: str, found: Found) -> None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return
    found.folders[path] = (status.st_dev, status.st_ino)


def _inside(folder: str) -> Iterator[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (
                entry.name.endswith(SUFFIXES) or _is_folder(entry)
            ):
                yield entry.path, entry.is_symlink()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to nowhere, or in a circle
