"""Upstreams from a resolv.conf, read again when the file changes; never ourselves.

Only `nameserver` lines count; search lists and options are for stub resolvers (resolv.conf(5)).
"""

import logging
import os
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Final

from mcsdns.errors import ConfigError
from mcsdns.forward.address import Address, parse

logger = logging.getLogger(__name__)

_MAX_FILE_BYTES: Final = 1 << 16
_WILDCARDS: Final = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - compared


def nameservers(text: str, own: Collection[tuple[str, int]]) -> list[Address]:
    """Return the name servers of a resolv.conf, each once, in order; all of them, not only three.

    `own` are the host and port of our own sockets: what would come back to us is left out, and
    so is what is written badly; both are logged.
    """
    found: dict[Address, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0] != "nameserver":
            continue
        try:
            address = _address(words)
        except ConfigError as error:
            logger.warning("resolv.conf line %d is passed over: %s", number, error)
            continue
        if is_own(address, own):
            logger.warning(
                "resolv.conf line %d is passed over: %s is this server itself; "
                "name the servers behind it with --upstream",
                number,
                address.text,
            )
        else:
            found[address] = None
    return list(found)


def is_own(address: Address, own: Collection[tuple[str, int]]) -> bool:
    """Return whether a query sent there would come back to one of our sockets."""
    if (address.host, address.port) in own:
        return True
    wildcard = _WILDCARDS[address.family]
    return (wildcard, address.port) in own and _is_of_this_host(address)


class ResolvConf:
    """A resolv.conf and the name servers that it had when it last had any."""

    def __init__(self, path: str, own: Collection[tuple[str, int]]) -> None:
        """Take the file, which is first read by `refresh`, and our own sockets."""
        self.addresses: list[Address] = []
        self._path = path
        self._own = own
        self._version: tuple[int, ...] = ()
        self._complained = ""

    def refresh(self) -> bool:
        """Look whether the file changed; returns whether its name servers did.

        A file that is away, or has none (it may be in the middle of being written), changes
        nothing and is logged once.
        """
        try:
            status = os.stat(self._path)  # whatever symlinks lead to the file
            version = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
            if version == self._version:
                return False
            text = _read_text(self._path)
        except OSError as error:
            self._complain(error.strerror or str(error))
            self._version = ()
            return False
        self._version = version
        addresses = nameservers(text, self._own)
        if not addresses:
            self._complain("it names no server that can be asked")
            return False
        self._complained = ""
        changed = addresses != self.addresses
        self.addresses = addresses
        return changed

    def _complain(self, why: str) -> None:
        if why != self._complained:
            self._complained = why
            logger.warning(
                "%s: %s; %s",
                self._path,
                why,
                "the servers it had are used on" if self.addresses else "no server is known yet",
            )


def _address(words: list[str]) -> Address:
    if len(words) == 1:
        raise ConfigError("no address follows `nameserver`")
    if "/" in words[1] or "[" in words[1] or words[1].count(":") == 1:
        raise ConfigError(f"{words[1]!r} is no IP address, and only such stand there")
    return parse(words[1])


def _read_text(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(_MAX_FILE_BYTES).decode("utf-8", "replace")


def _is_of_this_host(address: Address) -> bool:
    """Ask the kernel by binding: only an address of this host can be bound."""
    with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
        try:
            host_and_rest = address.socket_address()
            sock.bind((host_and_rest[0], 0, *host_and_rest[2:]))
        except OSError:
            return False
    return True
