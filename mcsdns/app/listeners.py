"""Binds the sockets to listen on, and says why one cannot be had."""

import errno
import logging
import resource
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from mcsdns.config import Settings
from mcsdns.errors import ConfigError
from mcsdns.server import tcp, udp
from mcsdns.server.handler import Handler

if TYPE_CHECKING:
    from mcsdns.server.query_log import QueryLog

logger = logging.getLogger(__name__)

_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_SPARE_FILES: Final = 64
"""File descriptors kept free for everything but TCP connections."""


Address: TypeAlias = tuple[str, int]
Responders: TypeAlias = tuple[Handler, Handler]
"""Who answers over UDP, and who over TCP."""
T = TypeVar("T")


def bind_each(
    flag: str, addresses: Sequence[Address], bind: Callable[[str, int], T], *, is_last: bool
) -> Iterator[tuple[Address, T]]:
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
        yield (host, port), bound


def text_of(host: str, port: int) -> str:
    """Return ADDR:PORT, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Bind UDP and TCP on one port, also where that is 0."""
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
    what = f"{flag} {text_of(host, port)}: "
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
        responders: Responders,
        settings: tcp.TcpSettings,
    ) -> None:
        """Take two bound sockets; nothing is read before `start`."""
        host, port = sockets[0].getsockname()[:2]
        self.address = text_of(host, port)
        over_udp, over_tcp = responders
        self.udp = udp.UdpListener(sockets[0], over_udp, wildcard=udp.is_wildcard(host))
        self.tcp = tcp.TcpListener(sockets[1], over_tcp, settings, time.monotonic)

    async def start(self) -> None:
        """Begin to answer."""
        self.udp.start()
        await self.tcp.start()

    def close(self) -> None:
        """Answer what has arrived and close both sockets."""
        self.udp.close()
        self.tcp.close()


class Listening:
    """All addresses that are listened on, by what the settings call them."""

    def __init__(self, settings: Settings, responders: Responders) -> None:
        """Bind them.

        Raises:
            ConfigError: an address cannot be bound; says why and what to do.
        """
        self._gone_udp: list[udp.Statistics] = []
        self._gone_tcp: list[tcp.Statistics] = []
        self._listeners: dict[Address, Listener] = {}
        self._listeners = self.bind(settings, responders)

    def bind(self, settings: Settings, responders: Responders) -> dict[Address, Listener]:
        """Bind what the settings add, and return these listeners with those that stay.

        Raises:
            ConfigError: an address cannot be bound; none of the new ones is then.
        """
        wanted = settings.listen_addresses()
        known = {each: self._listeners[each] for each in wanted if each in self._listeners}
        limits = within_file_limit(settings.tcp_settings())
        added: dict[Address, Listener] = {}
        try:
            missing = [each for each in wanted if each not in known]
            is_last = len(wanted) == 1
            for address, sockets in bind_each("--listen", missing, _bind_pair, is_last=is_last):
                added[address] = Listener(sockets, responders, limits)
        except ConfigError:
            for listener in added.values():
                listener.close()
            raise
        both = known | added
        return {each: both[each] for each in wanted if each in both}

    def new_among(self, listeners: Mapping[Address, Listener]) -> list[Listener]:
        """Return those that are not listened on so far."""
        return [each for address, each in listeners.items() if address not in self._listeners]

    def adopt(
        self, listeners: dict[Address, Listener], responders: Responders, settings: tcp.TcpSettings
    ) -> list[Listener]:
        """Answer on these from now on, in this way; return those that are to be closed."""
        gone = [each for address, each in self._listeners.items() if address not in listeners]
        self._listeners = listeners
        for each in gone:
            self._gone_udp.append(each.udp.statistics())
            self._gone_tcp.append(msgspec.structs.replace(each.tcp.statistics(), open=0))
        limits = within_file_limit(settings)
        for each in [*listeners.values(), *gone]:
            each.udp.handler, each.tcp.handler = responders
            each.tcp.settings = limits
        return gone

    async def start(self) -> None:
        """Begin to answer."""
        for listener in self._listeners.values():
            await listener.start()

    def close(self) -> None:
        """Answer what has arrived and close all sockets."""
        for listener in self._listeners.values():
            listener.close()

    def observe(self, query_log: "QueryLog | None", *, is_counting: bool) -> None:
        """Note some of the requests, or none, and count them, or not."""
        for each in self._listeners.values():
            each.udp.query_log = each.tcp.query_log = query_log
            each.udp.is_counting = each.tcp.is_counting = is_counting

    def statistics(self) -> tuple[list[udp.Statistics], list[tcp.Statistics]]:
        """Return the counters of all sockets, with those that are gone: sums never fall."""
        listeners = self._listeners.values()
        return (
            [*self._gone_udp, *(each.udp.statistics() for each in listeners)],
            [*self._gone_tcp, *(each.tcp.statistics() for each in listeners)],
        )

    @property
    def addresses(self) -> list[str]:
        """Where we listen, for people."""
        return [each.address for each in self._listeners.values()]

    @property
    def listeners(self) -> Sequence[Listener]:
        """Those that answer."""
        return list(self._listeners.values())


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
