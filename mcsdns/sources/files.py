"""Which files a set of paths names, and whether one of them changed."""

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

SUFFIXES: Final = (".yaml", ".yml", ".json")
Signature = tuple[int, int, int]
"""Inode, modification time in ns, size in octets: a change of content changes one of them."""


class Found(msgspec.Struct, frozen=True):
    """Files by path, in the order they are read, and what could not be looked at.

    Attributes:
        missing: path -> what the system says.
    """

    files: dict[str, Signature]
    missing: dict[str, str]


def find(paths: Sequence[str]) -> Found:
    """Find the manifests that files and folders name, each file once.

    A folder is searched whole, links included; a folder that was seen is not entered again, so a
    cycle of links ends. Names that begin with a dot are passed over, as kubectl and the kubelet's
    volumes want it; a file that is named itself is read whatever its suffix.
    """
    files: dict[str, Signature] = {}
    missing: dict[str, str] = {}
    entered: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            missing[path] = error.strerror or str(error)
            continue
        if stat.S_ISDIR(status.st_mode):
            for file in _walk(path, entered, missing):
                _add(file, files, missing)
        else:
            _add(path, files, missing)
    return Found(files, missing)


def _add(path: str, files: dict[str, Signature], missing: dict[str, str]) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        missing[path] = error.strerror or str(error)
        return
    if stat.S_ISREG(status.st_mode):
        files.setdefault(path, (status.st_ino, status.st_mtime_ns, status.st_size))
    else:
        missing[path] = "not a file"


def _walk(folder: str, entered: set[tuple[int, int]], missing: dict[str, str]) -> Iterator[str]:
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        names = sorted(os.listdir(folder))
    except OSError as error:
        missing[folder] = error.strerror or str(error)
        return
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.isdir(path):
            yield from _walk(path, entered, missing)
        elif name.endswith(SUFFIXES):
            yield path
