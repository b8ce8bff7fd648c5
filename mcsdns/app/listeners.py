"""Binds the sockets of DNS, of the status page and of the probes, or tells why it cannot.

Binds are exclusive: two servers never share a port unseen.
"""

import contextlib
import errno
import logging
import resource
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from mcsdns.config import Settings
from mcsdns.dns import ip
from mcsdns.errors import ConfigError
from mcsdns.server import tcp, udp
from mcsdns.server.handler import Handler

logger = logging.getLogger(__name__)

_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_SPARE_FILES: Final = 64
"""File descriptors kept free for everything but TCP connections."""


T = TypeVar("T")


def bind_each(
    flag: str, addresses: Sequence[tuple[str, int]], bind: Callable[[str, int], T], *, is_last: bool
) -> Iterator[T]:
    """Bind one address after the other.

    `::` is passed over where IPv6 is off, unless `is_last`: there is no other address.

    Raises:
        ConfigError: an address cannot be bound; says why and what to do about `flag`.
    """
    for host, port in addresses:
        try:
            bound = bind(host, port)
        except OSError as error:
            if host == "::" and not is_last and error.errno in _NO_SUCH_FAMILY:
                logger.info("IPv6 is off here, [::]:%d is passed over", port)
                continue
            raise ConfigError(_why_not_bound(flag, host, port, error)) from None
        yield bound


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Bind UDP and TCP on one port; for port 0, on one that is free for both."""
    for attempt in range(20):
        udp_socket = udp.bind(host, port)
        try:
            return udp_socket, tcp.bind(host, udp_socket.getsockname()[1])
        except OSError as error:
            udp_socket.close()
            if port or error.errno != errno.EADDRINUSE or attempt == 19:  # noqa: PLR2004
                raise
    raise AssertionError("unreachable")


def _why_not_bound(flag: str, host: str, port: int, error: OSError) -> str:
    what = f"{flag} {ip.with_port(host, port)}: "
    if error.errno == errno.EADDRINUSE:
        return what + (
            f"the port is in use; `ss -lnp sport = :{port}` shows by whom, "
            f"choose another with {flag} ADDR:PORT"
        )
    if error.errno == errno.EACCES:
        return what + "not permitted; choose a port from 1024 on, or allow CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return what + "this host has no such address; `ip address` lists those it has"
    if error.errno == errno.EAFNOSUPPORT:
        return what + "IPv6 is off here; listen on an IPv4 address, or on 0.0.0.0 for all"
    return what + (error.strerror or str(error))


class Listener:
    """One address, over UDP and TCP."""

    def __init__(
        self,
        sockets: tuple[socket.socket, socket.socket],
        handlers: tuple[Handler, Handler],
        limits: tcp.TcpSettings,
    ) -> None:
        """Take two bound sockets, and what handles requests over UDP and over TCP.

        Nothing is read before `start`.
        """
        host, port = sockets[0].getsockname()[:2]
        self.address = ip.with_port(host, port)
        over_udp, over_tcp = handlers
        self.udp = udp.UdpListener(sockets[0], over_udp, wildcard=udp.is_wildcard(host))
        self.tcp = tcp.TcpListener(sockets[1], over_tcp, limits, time.monotonic)

    async def start(self) -> None:
        """Begin to answer."""
        self.udp.start()
        await self.tcp.start()

    def close(self) -> None:
        """Answer what has arrived and close both sockets."""
        self.udp.close()
        self.tcp.close()


def bind_dns(settings: Settings, handlers: tuple[Handler, Handler]) -> list[Listener]:
    """Bind every address that the settings name.

    Raises:
        ConfigError: an address cannot be bound; says why and what to do. None of them is then.
    """
    addresses = settings.listen_addresses()
    with contextlib.ExitStack() as undo:
        listeners: list[Listener] = []
        is_last = len(addresses) == 1
        for sockets in bind_each("--listen", addresses, _bind_pair, is_last=is_last):
            listeners.append(Listener(sockets, handlers, settings.tcp_settings()))
            undo.callback(listeners[-1].close)
        undo.pop_all()
    return listeners


def bind_web(settings: Settings) -> tuple[list[socket.socket], list[socket.socket]]:
    """Bind the addresses of the status page and of the probes.

    The page does without its own where the settings do not name it.

    Raises:
        ConfigError: an address that the settings name cannot be bound; none of them is then.
    """
    admin, addresses = settings.admin_address(), settings.probe_addresses()
    page: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        try:
            found = bind_each("--admin", [admin] if admin else [], tcp.bind, is_last=True)
            page = [undo.enter_context(sock) for sock in found]
        except ConfigError as error:
            if settings.admin:
                raise
            logger.warning("there is no status page: %s", error)
        found = bind_each("--probes", addresses, tcp.bind, is_last=len(addresses) == 1)
        probes = [undo.enter_context(sock) for sock in found]
        undo.pop_all()
    return page, probes


def within_file_limit(settings: tcp.TcpSettings) -> tcp.TcpSettings:
    """Raise the limit of open files as far as allowed, and stay below it with connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = max(1, hard - _SPARE_FILES)
    if settings.max_connections <= most:
        return settings
    logger.warning("%d TCP connections at most, the limit of open files is %d", most, hard)
    return msgspec.structs.replace(settings, max_connections=most)
