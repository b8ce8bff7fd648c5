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
"""For the loop, signals, the log, manifests and their child process, the API server, a snapshot."""
_FILES_OF_UPSTREAM: Final = 128
"""64 sockets for UDP, and as many connections to one that takes a question of each."""
_MOST_OF_RESOLV_CONF: Final = 3
_HTTP_CONNECTIONS: Final = 2048
_LEAST_CONNECTIONS: Final = 16

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


class Listeners:
    """Every address that is served, over UDP and TCP.

    Attributes:
        addresses: where. udp: one for each address. tcp: for all of them.
    """

    def __init__(
        self,
        sockets: list[tuple[socket.socket, socket.socket]],
        handlers: tuple[Handler, Handler],
        limits: tcp.TcpSettings,
    ) -> None:
        """Take pairs of bound sockets, and what handles requests over UDP and over TCP.

        Nothing is read before `start`.
        """
        over_udp, over_tcp = handlers
        names = [for_udp.getsockname()[:2] for for_udp, _ in sockets]
        self.addresses = [ip.with_port(host, port) for host, port in names]
        self.udp = [
            udp.UdpListener(for_udp, over_udp, wildcard=udp.is_wildcard(host))
            for (host, _), (for_udp, _) in zip(names, sockets, strict=True)
        ]
        for_tcp = [each for _, each in sockets]
        self.tcp = tcp.TcpListener(for_tcp, over_tcp, limits, time.monotonic)

    def start(self) -> None:
        """Begin to answer."""
        for each in self.udp:
            each.start()
        self.tcp.start()

    def close(self) -> None:
        """Answer what has arrived and close all sockets."""
        for each in self.udp:
            each.close()
        self.tcp.close()


def bind_dns(settings: Settings, handlers: tuple[Handler, Handler]) -> Listeners:
    """Bind every address that the settings name.

    Raises:
        ConfigError: an address cannot be bound; says why and what to do. None of them is then.
    """
    addresses = settings.listen_addresses()
    with contextlib.ExitStack() as undo:
        pairs: list[tuple[socket.socket, socket.socket]] = []
        for pair in bind_each("--listen", addresses, _bind_pair, is_last=len(addresses) == 1):
            pairs.append(pair)
            for each in pair:
                undo.callback(each.close)
        undo.pop_all()
    return Listeners(pairs, handlers, settings.tcp_settings())


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


class FilePlan(msgspec.Struct, frozen=True):
    """Who may have how many file descriptors.

    Attributes:
        kept: for sockets that listen, for upstreams, the source and files; never given away, so
            that UDP and forwarding go on whatever connects.
        tcp, http: connections of clients, for DNS and for the probes and the status page.
        wanted: for all that is configured.
    """

    kept: int
    tcp: int
    http: int
    wanted: int


def plan_files(settings: Settings, limit: int) -> FilePlan:
    """Divide so many file descriptors by what is configured."""
    upstreams = sum(map(len, settings.upstreams().values()))
    upstreams += _MOST_OF_RESOLV_CONF if settings.upstream_from else 0
    kept = (
        _SPARE_FILES
        + 2 * len(settings.listen_addresses())
        + len(settings.probe_addresses())
        + upstreams * _FILES_OF_UPSTREAM
        + 2 * len(settings.namespace)
    )
    rest = max(2 * _LEAST_CONNECTIONS, limit - kept)
    http = min(_HTTP_CONNECTIONS, max(_LEAST_CONNECTIONS, rest // 4))
    wanted = kept + settings.tcp_connections + _HTTP_CONNECTIONS
    return FilePlan(kept, min(settings.tcp_connections, rest - http), http, wanted)


def within_file_limit(settings: Settings) -> FilePlan:
    """Raise the limit of open files as far as allowed, and plan to stay below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = hard if hard != resource.RLIM_INFINITY else 1 << 30
    plan = plan_files(settings, limit)
    if plan.tcp < settings.tcp_connections:
        logger.warning(
            "the limit of open files is %d, of which %d are kept for upstreams, the source and "
            "files: %d TCP connections at most instead of %d; raise it to %d (ulimit -Hn, "
            "LimitNOFILE=)",
            limit,
            plan.kept,
            plan.tcp,
            settings.tcp_connections,
            plan.wanted,
        )
    return plan
