"""Every room's statistics at one moment: what metrics and the status page are made from."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mcsdns.forward.forwarder import Statistics as ForwarderStatistics
from mcsdns.objects.store import Statistics as StoreStatistics
from mcsdns.server.forward_handler import Statistics as RelayStatistics
from mcsdns.server.handler import Statistics as ResponderStatistics
from mcsdns.server.packet_cache import Statistics as KeptStatistics
from mcsdns.server.tcp import Statistics as TcpStatistics
from mcsdns.server.udp import Statistics as UdpStatistics
from mcsdns.server.zone_state import Statistics as FeedStatistics
from mcsdns.sources.deletion_guard import Statistics as GuardStatistics
from mcsdns.sources.keeper import Statistics as KeeperStatistics
from mcsdns.sources.kubernetes.watched import Statistics as WatchStatistics
from mcsdns.sources.manifests.source import Statistics as ManifestStatistics
from mcsdns.stats import ReplyCount


class Reloads(msgspec.Struct, frozen=True):
    """How often the settings were read again, since the start.

    Attributes:
        applied, refused: how often. is_applied: whether the last one was; the first one always is.
    """

    applied: int = 0
    refused: int = 0
    is_applied: bool = True


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the rooms say of themselves.

    Attributes:
        time_s: Unix time at which it was taken.
        replies: by class and transport, since the start; those that had to wait for an upstream
            are the forwarder's.
        responders, kept, relays: by transport, `udp` and `tcp`; no relays where none forwards.
        watches: of the API server, one for each kind and namespace; none without one.
    """

    ready: bool
    stale: bool
    udp: Sequence[UdpStatistics]
    tcp: Sequence[TcpStatistics]
    replies: Sequence[ReplyCount]
    index: StoreStatistics
    time_s: float = 0.0
    responders: Mapping[str, ResponderStatistics] = {}
    kept: Mapping[str, KeptStatistics] = {}
    relays: Mapping[str, RelayStatistics] = {}
    feed: FeedStatistics | None = None
    manifests: ManifestStatistics | None = None
    watches: Sequence[WatchStatistics] = ()
    guard: GuardStatistics | None = None
    keeper: KeeperStatistics | None = None
    forwarder: ForwarderStatistics | None = None
    reloads: Reloads | None = None

    def all_replies(self) -> Iterator[ReplyCount]:
        """Iterate over the replies of all kinds, those that had to wait too."""
        yield from self.replies
        if self.forwarder is not None:
            yield from self.forwarder.replies
