"""Response rate limiting over UDP: nobody is to be flooded with replies that he never asked for.

Who writes a victim's address on requests turns each octet into as many as the reply is longer. So a
reply that is longer than its request counts, for the prefix that it is sent to: IPv4 /24, IPv6 /56.
All others go out, for they help nobody who attacks. What always holds:

- A prefix gets at most so many counted replies a second, and no more than one second's worth at
  once. All that is known of it is the time up to which its replies are paid for.
- These times stand in a table of fixed size, at a place that only this process can tell (the hash
  of octets is keyed): whatever addresses are written on requests, it does not grow. Two prefixes at
  one place share a limit.
- Past the limit one reply of every few is sent without records and with TC, so that a client that
  is really there comes over TCP; the others are dropped. It has the OPT record of the reply, with
  a cookie where the client sent one.
- Clients that show a cookie that we gave them are at their address, and are not limited (RFC 7873).
"""

import array
import contextlib
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from mcsdns.dns import MIN_UDP_BYTES, Response, read_query, write_response
from mcsdns.dns.types import TC
from mcsdns.errors import MessageError
from mcsdns.forward.places import network_text, prefix_of
from mcsdns.server.packet_cache import without_options
from mcsdns.server.reply_options import ReplyOptions
from mcsdns.stats import LimitedReplies, LogInterval

logger = logging.getLogger(__name__)

_PLACES: Final = 1 << 16


class RateLimiter:
    """Decides what becomes of replies."""

    def __init__(
        self,
        rate: int,
        slip: int,
        reply_options: ReplyOptions,
        clock: Callable[[], float],
        counted: LimitedReplies,
    ) -> None:
        """Take the replies a second; one of `slip` is truncated, none for 0.

        `reply_options` knows the cookies, `clock` gives monotonic seconds, `counted` grows.
        """
        self._rate = rate
        self._slip = slip
        self._reply_options = reply_options
        self._clock = clock
        self._paid_until_s = array.array("d", bytes(8 * _PLACES))
        self._counted = counted
        self._past = 0
        self._lines = LogInterval()

    def limit(self, request: bytes, reply: bytes, address: bytes) -> bytes:
        """Return what is sent: the reply itself, a truncated one, or nothing."""
        if len(reply) <= len(request) or self._has_cookie(request, address):
            return reply
        now_s = self._clock()
        place = hash(prefix_of(address)) % _PLACES
        paid_until_s = max(self._paid_until_s[place], now_s)
        if paid_until_s < now_s + 1.0:
            self._paid_until_s[place] = paid_until_s + 1.0 / self._rate
            return reply
        if self._lines.may_pass(now_s):
            self._tell(address)
        self._past += 1
        if self._slip and not self._past % self._slip:
            self._counted.truncated += 1
            return self._without_records(request, reply, address)
        self._counted.dropped += 1
        return b""

    def send(
        self, send: Callable[[bytes], None], request: bytes, address: bytes, reply: bytes
    ) -> None:
        """Send what is left of a reply, which came later."""
        limited = self.limit(request, reply, address)
        if limited:
            send(limited)

    def _has_cookie(self, request: bytes, address: bytes) -> bool:
        key = request[2:]
        octets = without_options(key)
        if len(octets) == len(key):
            return False
        return self._reply_options.has_valid_cookie(key[len(octets) :], address)

    def _without_records(self, request: bytes, reply: bytes, address: bytes) -> bytes:
        query = read_query(request)
        assert query is not None, "what is malformed has no reply that is longer"
        if query.edns is not None and query.edns.options:
            with contextlib.suppress(MessageError):  # settings may have changed since it was read
                options = self._reply_options.of(query.edns.options, address)
                query = msgspec.structs.replace(query, reply_options=options)
        wire = write_response(query, Response(), MIN_UDP_BYTES).wire
        return reply[:2] + bytes((reply[2] | TC >> 8, reply[3])) + wire[4:]

    def _tell(self, address: bytes) -> None:
        logger.warning(
            "clients in %s, or somebody in their name, are owed more than %d replies a second: the "
            "others are dropped, or sent truncated so that the client comes over TCP; raise "
            "--rate-limit if these are your clients",
            network_text(prefix_of(address)),
            self._rate,
        )
