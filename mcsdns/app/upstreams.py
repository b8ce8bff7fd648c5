"""Puts the forwarder together: upstreams of the settings and of a resolv.conf, and the ACL."""

import logging
import random
import time
from collections.abc import Sequence
from typing import Final

import anyio

from mcsdns.config import Settings
from mcsdns.dns.name import ROOT, to_text
from mcsdns.forward.forwarder import Forwarder, LatencyStatistics
from mcsdns.forward.network import AsyncioNetwork
from mcsdns.forward.resolv_conf import ResolvConf, is_own
from mcsdns.server.acl import Acl, own_networks
from mcsdns.server.forward_handler import ForwardHandler
from mcsdns.stats import TRANSPORTS, ReplyCounters

logger = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 5.0
_NETWORKS_EVERY_S: Final = 60.0
_DRAIN_LOOK_S: Final = 0.01


class Forwarding:
    """The forwarder, and what changes around it while it runs.

    Attributes:
        handlers: the way to the forwarder for UDP and for TCP.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Sequence[ReplyCounters] = (),
        latency: LatencyStatistics | None = None,
    ) -> None:
        """Open nothing yet; `counters` are those of UDP and of TCP, `latency` of what had to wait.

        Raises:
            ConfigError: an upstream or a network is not usable.
        """
        self._zones = settings.upstreams()
        self._path = settings.upstream_from
        self._resolv_conf: ResolvConf | None = None
        self._acl = Acl(settings.allow or None, own_networks())
        forward_settings, rng = settings.forward_settings(), random.SystemRandom()
        network = AsyncioNetwork(forward_settings, rng)
        self.forwarder = Forwarder(forward_settings, self._zones, network, rng, latency)
        network.drive(self.forwarder)
        logged: set[str] = set()
        self.handlers = [
            ForwardHandler(
                self.forwarder,
                self._acl,
                time.monotonic,
                tcp=bool(is_tcp),
                counters=each,
                logged=logged,
            )
            for is_tcp, each in enumerate(counters or map(ReplyCounters, TRANSPORTS))
        ]
        self._scope: anyio.CancelScope | None = None

    async def drained(self) -> None:
        """Wait until nothing is in flight; new queries count too."""
        while self._is_busy():  # noqa: ASYNC110 - only while others take over
            await anyio.sleep(_DRAIN_LOOK_S)

    def _is_busy(self) -> bool:
        now = self.forwarder.statistics()
        return bool(now.pending or now.waiting)

    def start(self, own: Sequence[tuple[str, int]]) -> None:
        """Begin, now that our own sockets are known: none of them may be an upstream."""
        for zone, upstreams in self._zones.items():
            others = [each for each in upstreams if not is_own(each, own)]
            if others != upstreams:
                logger.error(
                    "%s: this server itself is no upstream of it, and left out; name another one",
                    to_text(zone),
                )
                self._zones[zone] = others
                self.forwarder.replace(zone, others, time.monotonic())
        if self._path:
            self._resolv_conf = ResolvConf(self._path, own)
            self.look()
        self.forwarder.start(time.monotonic())

    async def run(self) -> None:
        """Follow the resolv.conf and our own networks until `close`."""
        networks_s = time.monotonic()
        with anyio.CancelScope() as self._scope:
            while True:
                await anyio.sleep(_LOOK_EVERY_S)
                self.look()
                if time.monotonic() > networks_s + _NETWORKS_EVERY_S:
                    networks_s = time.monotonic()
                    self._acl.renew(own_networks())

    def close(self) -> None:
        """Close all sockets."""
        if self._scope:
            self._scope.cancel()
        self.forwarder.close()

    def look(self) -> None:
        """Take the servers of the resolv.conf, if they changed."""
        if self._resolv_conf is not None and self._resolv_conf.refresh():
            found = self._resolv_conf.addresses
            logger.info("upstreams: %s", ", ".join(each.text for each in found))
            self.forwarder.replace(ROOT, [*self._zones[ROOT], *found], time.monotonic())
