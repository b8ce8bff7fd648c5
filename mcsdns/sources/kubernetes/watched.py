"""What a follower of an API server did so far; apart from it, as it takes long to import."""

from collections.abc import Mapping

import msgspec

from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes.reflector import Trouble


class Statistics(msgspec.Struct, frozen=True):
    """An immutable snapshot of one follower.

    Attributes:
        lists, watches: begun. lines: of watches. bookmarks: among them.
        problems: objects with something wrong. skipped: the same by reason, an object once each.
        troubles: how often a request failed, by way. ended: watches that ended in order.
        heard_age_s: seconds since anything was heard. known_age_s: since everything was known, 0
            while the watch is open.
    """

    kind: Kind
    namespace: str
    synced: bool
    connected: bool
    lists: int
    watches: int
    lines: int
    bookmarks: int
    problems: int
    troubles: Mapping[Trouble, int]
    ended: int = 0
    heard_age_s: float = 0.0
    known_age_s: float = 0.0
    skipped: Mapping[str, int] = {}
