"""EDNS options that replies carry where the settings want it: NSID (RFC 5001) and DNS cookies.

A cookie shows that a client gets what is sent to its address, so that it is not the victim of
somebody who writes that address on requests (RFC 7873). The server's part of it (RFC 9018, 4) is

    version 1 | three octets of zero | seconds since 1970 | hash

with the SipHash-2-4 of the client's part, of what stands before the hash, and of the client's
address, keyed with a secret. Servers that clients meet at one address should share their secrets:
of a file of secrets the first makes cookies and all are accepted, so that one is replaced by
writing the next behind it, then before it, and then taking it out (RFC 9018, 5). Without a file a
secret is random and lasts a day; the one before is accepted, too.
"""

import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Final

from siphash24 import siphash24  # type: ignore[import-not-found]

from mcsdns.dns.reader import Cursor
from mcsdns.dns.types import COOKIE_OPTION, NSID_OPTION, OPTION, Rcode
from mcsdns.errors import ConfigError, MessageError

logger = logging.getLogger(__name__)

_SECRET_BYTES: Final = 16
_CLIENT_BYTES: Final = 8
_HASHED_BYTES: Final = 16
_COOKIE_BYTES: Final = 24
_SIZES: Final = frozenset({_CLIENT_BYTES, *range(16, 41)})
"""Those of cookies of any server (RFC 7873, 4)."""
_VERSION: Final = b"\1\0\0\0"
_OLDEST_S: Final = 3600
_NEWEST_S: Final = 300
"""How much older than now, or newer, a cookie may be: another server made it (RFC 9018, 4.3)."""
_READ_AGAIN_S: Final = 60.0
_REPLACE_S: Final = 86400.0
_MAX_FILE_BYTES: Final = 4096


class Cookies:
    """Makes the server's part of cookies, and checks those that come back."""

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        """Take the file of secrets, empty for none, and what gives Unix time.

        Raises:
            ConfigError: as `read_secrets`.
        """
        self._path = path
        self._clock = clock
        self._secrets = read_secrets(path) if path else []
        self._renew_s = clock() + _READ_AGAIN_S if path else 0.0

    def option(self, cookie: bytes, address: bytes) -> bytes:
        """Return the option of the reply to a client that sent this one.

        Raises:
            MessageError: it is no cookie (RFC 7873, 5.2.2).
        """
        if len(cookie) not in _SIZES:
            raise MessageError(Rcode.FORMERR, "the cookie is malformed", edns=True)
        made_s = self._now_s() & 0xFFFFFFFF
        hashed = cookie[:_CLIENT_BYTES] + _VERSION + made_s.to_bytes(4, "big")
        head = OPTION.pack(COOKIE_OPTION, _COOKIE_BYTES)
        return head + hashed + _hash(self._secrets[0], hashed, address)

    def is_valid(self, cookie: bytes, address: bytes) -> bool:
        """Return whether a client has a cookie from us, and not too long."""
        if len(cookie) != _COOKIE_BYTES or cookie[_CLIENT_BYTES] != _VERSION[0]:
            return False
        made_s = int.from_bytes(cookie[_HASHED_BYTES - 4 : _HASHED_BYTES], "big")
        age_s = (self._now_s() - made_s + (1 << 31)) % (1 << 32) - (1 << 31)  # RFC 1982, 3.2
        hashed, known = cookie[:_HASHED_BYTES], cookie[_HASHED_BYTES:]
        return -_NEWEST_S <= age_s <= _OLDEST_S and any(
            hmac.compare_digest(_hash(secret, hashed, address), known) for secret in self._secrets
        )

    def _now_s(self) -> int:
        """Return the time; the secrets are those of this moment then."""
        now_s = self._clock()
        if now_s >= self._renew_s:
            if not self._path:
                self._secrets = [secrets.token_bytes(_SECRET_BYTES), *self._secrets[:1]]
                self._renew_s = now_s + _REPLACE_S
            else:
                self._renew_s = now_s + _READ_AGAIN_S
                try:
                    self._secrets = read_secrets(self._path)
                except ConfigError as error:
                    logger.warning("%s; the secrets that were read before stay", error)
        return int(now_s)


def _hash(secret: bytes, hashed: bytes, address: bytes) -> bytes:
    octets = hashed + address
    return bytes(siphash24(octets, key=secret).digest())  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def read_secrets(path: str) -> list[bytes]:
    """Read the secrets in a file, one a line.

    Raises:
        ConfigError: it cannot be read, or has other lines; the text has none of them.
    """
    try:
        with open(path, encoding="ascii") as file:
            found = [bytes.fromhex(line) for line in file.read(_MAX_FILE_BYTES).split()]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a file of cookie secrets") from None
    except ValueError:
        found = []
    if not found or any(len(secret) != _SECRET_BYTES for secret in found):
        raise ConfigError(f"{path}: write a secret of 32 hexadecimal digits on each line")
    return found


class ReplyOptions:
    """The options of replies.

    Attributes:
        cookies: None where they mean nothing.
    """

    def __init__(self, name: str, cookies: Cookies | None = None) -> None:
        """Take the name of this server for NSID; empty for none."""
        octets = name.encode()
        self._nsid = OPTION.pack(NSID_OPTION, len(octets)) + octets if name else b""
        self.cookies = cookies

    def are_asked(self, options: bytes) -> bool:
        """Return whether a request's options, which are well-formed, ask for any of ours."""
        asked = _first_options(options) if options else {}
        return (bool(self._nsid) and NSID_OPTION in asked) or (
            self.cookies is not None and COOKIE_OPTION in asked
        )

    def of(self, options: bytes, address: bytes) -> bytes:
        """Return what the reply carries for a request's options, which are well-formed.

        Raises:
            MessageError: the cookie is malformed.
        """
        asked = _first_options(options)
        found = self._nsid if NSID_OPTION in asked else b""
        cookie = asked.get(COOKIE_OPTION)
        if cookie is not None and self.cookies is not None and address:
            found += self.cookies.option(cookie, address)
        return found

    def has_valid_cookie(self, options: bytes, address: bytes) -> bool:
        """Return whether a request shows that its client gets what is sent to its address."""
        cookie = _first_options(options).get(COOKIE_OPTION)
        return (
            cookie is not None
            and self.cookies is not None
            and self.cookies.is_valid(cookie, address)
        )


def _first_options(options: bytes) -> dict[int, bytes]:
    """Return the first option of each code: no other counts (RFC 7873, 5.2)."""
    found: dict[int, bytes] = {}
    for code, content in Cursor(options).options():
        found.setdefault(code, content)
    return found
