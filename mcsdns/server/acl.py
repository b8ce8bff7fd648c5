"""The clients that may have names looked up elsewhere: nobody is to run an open resolver unawares.

Own prefixes come from getifaddrs(3): it is the one place that has address and prefix of each
interface for both families. /proc/net/route has no IPv4 prefixes but routes, among them "all the
world through this tunnel", which would let everybody in.
"""

import ctypes
import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from mcsdns.dns.ip import unmapped
from mcsdns.errors import ConfigError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT: Final = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",  # RFC 1918
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",  # RFC 6598; pods of EKS and of GKE
    "169.254.0.0/16",  # link-local; node-local caches
    "fe80::/10",
    "fc00::/7",  # RFC 4193
    "240.0.0.0/4",  # reserved; pods of GKE
)
"""Networks that nobody on the Internet can send from and get a reply."""

MOST_DECISIONS: Final = 16384
_IPV4_BYTES: Final = 4
_WIDEST_OWN: Final = {4: 8, 6: 32}
"""Prefix lengths below which an interface's network is not believed to be a neighbourhood."""
_PREFIX_LOGGED: Final = {4: 24, 6: 64}


class Acl:
    """Decides by a client's address."""

    def __init__(self, networks: Sequence[str] | None, own_networks: Sequence[Network]) -> None:
        """Take the networks of the settings, or None for `DEFAULT` and our own prefixes.

        The word `default` among the networks stands for these.

        Raises:
            ConfigError: a network is written badly.
        """
        networks = ["default"] if networks is None else networks
        self._is_default = "default" in networks
        self._named = [parse(text) for text in networks if text != "default"]
        if self._is_default:
            self._named += [ipaddress.ip_network(text) for text in DEFAULT]
        self._own: frozenset[Network] = frozenset()
        self._decided: dict[bytes, bool] = {}
        self._masks: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        self._build()
        self.renew(own_networks)

    def allows(self, packed: bytes) -> bool:
        """Return whether a client may ask; `packed` has 4 or 16 octets."""
        decided = self._decided.get(packed)
        return self._decide(packed) if decided is None else decided

    @property
    def remembered(self) -> int:
        """The number of clients whose decision is remembered."""
        return len(self._decided)

    def flags_for(self, packed: bytes) -> str:
        """Return the flags that would let in a client's network and nobody out."""
        default = "--allow default " if self._is_default else ""
        return f"{default}--allow {prefix_text(packed)}"

    def renew(self, own_networks: Sequence[Network]) -> None:
        """Take the prefixes that our interfaces have now."""
        own = frozenset(own_networks)
        if self._is_default and own != self._own:
            self._own = own
            self._build()

    def _build(self) -> None:
        self._decided = {}
        self._masks = {4: [], 6: []}
        for network in [*self._named, *self._own]:
            mask_and_value = int(network.netmask), int(network.network_address)
            self._masks[network.version].append(mask_and_value)

    def _decide(self, packed: bytes) -> bool:
        address = unmapped(packed)
        number = int.from_bytes(address, "big")
        allowed = False
        for mask, value in self._masks[4 if len(address) == _IPV4_BYTES else 6]:
            if number & mask == value:
                allowed = True
                break
        if len(self._decided) >= MOST_DECISIONS:
            self._decided.clear()  # a client that asks again is decided anew, at 0.6 us
        self._decided[packed] = allowed
        return allowed


def parse(text: str) -> Network:
    """Read a network or one address.

    Raises:
        ConfigError: it is neither, or has bits behind its prefix.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(
            f"--allow {text!r}: this is no network; write one such as 10.0.0.0/8 or fd00::/8, "
            "or the word default"
        ) from None
    raise ConfigError(f"--allow {text!r}: bits are set behind the prefix; did you mean {meant}?")


def prefix_text(packed: bytes) -> str:
    """Return the network that lets a client in: a /24 or /64."""
    address = ipaddress.ip_address(unmapped(packed))
    return str(ipaddress.ip_network((address, _PREFIX_LOGGED[address.version]), strict=False))


def own_networks() -> tuple[Network, ...]:
    """Return the prefixes of our interfaces, as far as they can be neighbourhoods.

    An address without neighbours (a pod's /32) lets itself in. A failing system gives none.
    """
    found = {_network(*pair) for pair in interface_addresses()}
    return tuple(network for network in found if network.prefixlen >= _WIDEST_OWN[network.version])


def _network(address: bytes, netmask: bytes) -> Network:
    length = int.from_bytes(netmask, "big").bit_count()
    return ipaddress.ip_network((address, length), strict=False)


class _Interface(ctypes.Structure):
    """The head of `struct ifaddrs`."""


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
]
_OFFSETS: Final[dict[int, tuple[int, int]]] = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}
"""Where the address is in `sockaddr_in` and `sockaddr_in6`, and its length."""


def interface_addresses() -> Iterator[tuple[bytes, bytes]]:
    """Yield address and netmask of each interface."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        first = ctypes.POINTER(_Interface)()
        if libc.getifaddrs(ctypes.byref(first)):
            return
    except (OSError, AttributeError):
        return
    try:
        at = first
        while at:
            address, netmask = _octets(at.contents.address), _octets(at.contents.netmask)
            if address and len(address) == len(netmask):
                yield address, netmask
            at = at.contents.next
    finally:
        libc.freeifaddrs(first)


def _octets(pointer: int | None) -> bytes:
    """Return the address in a `sockaddr`; nothing where it is of another family."""
    if not pointer:
        return b""
    family = int.from_bytes(ctypes.string_at(pointer, 2), sys.byteorder)
    offset, length = _OFFSETS.get(family, (0, 0))
    return ctypes.string_at(pointer + offset, length)
