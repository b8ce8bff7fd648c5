"""Every room's statistics at one moment: what metrics and the status page are made from."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mcsdns.forward.forwarder import Statistics as ForwarderStatistics
from mcsdns.objects.store import Statistics as StoreStatistics
from mcsdns.server.accept import Statistics as AcceptStatistics
from mcsdns.server.forward_handler import Statistics as ForwardHandlerStatistics
from mcsdns.server.handler import Statistics as HandlerStatistics
from mcsdns.server.packet_cache import Statistics as PacketCacheStatistics
from mcsdns.server.tcp import Statistics as TcpStatistics
from mcsdns.server.udp import Statistics as UdpStatistics
from mcsdns.server.zone_state import Statistics as UpdateQueueStatistics
from mcsdns.sources.kubernetes.source import Statistics as KubernetesStatistics
from mcsdns.sources.manifests.state import Statistics as ManifestStatistics
from mcsdns.stats import LimitedReplies, ReplyCount


class Reloads(msgspec.Struct, frozen=True):
    """How often the settings were read again, since the start.

    Attributes:
        applied, refused: how often. is_applied: whether the last one was; the first one always is.
    """

    applied: int = 0
    refused: int = 0
    is_applied: bool = True


class HttpStatistics(msgspec.Struct, frozen=True):
    """Connections to the probes and the status page.

    Attributes:
        open: now. closed: by us, by the reason. acceptors: of each socket.
    """

    open: int
    closed: Mapping[str, int]
    acceptors: Sequence[AcceptStatistics]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of all rooms.

    Attributes:
        time_s: Unix time at which it was taken.
        udp, tcp: one for each socket.
        replies: by class and transport, since the start; the forwarder has those that had to wait
            for an upstream.
        handlers, packet_caches, forward_handlers: by transport, `udp` and `tcp`; without an
            upstream there are no forward handlers.
        held_lines: of the log. limited: replies past the rate limit.
        manifests, kubernetes: of the source, whichever it is.
    """

    ready: bool
    stale: bool
    udp: Sequence[UdpStatistics]
    tcp: Sequence[TcpStatistics]
    replies: Sequence[ReplyCount]
    store: StoreStatistics
    time_s: float = 0.0
    handlers: Mapping[str, HandlerStatistics] = {}
    packet_caches: Mapping[str, PacketCacheStatistics] = {}
    forward_handlers: Mapping[str, ForwardHandlerStatistics] = {}
    update_queue: UpdateQueueStatistics | None = None
    manifests: ManifestStatistics | None = None
    kubernetes: KubernetesStatistics | None = None
    forwarder: ForwarderStatistics | None = None
    reloads: Reloads | None = None
    http: HttpStatistics | None = None
    held_lines: int = 0
    limited: LimitedReplies = msgspec.field(default_factory=LimitedReplies)

    def all_replies(self) -> Iterator[ReplyCount]:
        """Iterate over the replies of all classes, those that had to wait for an upstream too."""
        yield from self.replies
        if self.forwarder is not None:
            yield from self.forwarder.replies
