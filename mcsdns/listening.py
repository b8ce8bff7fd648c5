"""Binds the sockets to listen on, and says why one cannot be had."""

import errno
import logging
import resource
import socket
from typing import Final

import msgspec

from mcsdns.config import Settings
from mcsdns.errors import ConfigError
from mcsdns.server import tcp, udp

logger = logging.getLogger(__name__)

_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_SPARE_FILES: Final = 64
"""File descriptors kept free for everything but TCP connections."""


def bind_all(settings: Settings) -> list[tuple[str, socket.socket, socket.socket]]:
    """Bind UDP and TCP of each address, on one port where the port is 0.

    Raises:
        ConfigError: an address cannot be bound; says why and what to do.
    """
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
