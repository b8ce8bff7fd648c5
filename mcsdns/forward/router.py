"""Which upstreams serve which zone: the longest suffix of a name wins."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from mcsdns.dns.name import Name, labels_of

T = TypeVar("T")


class Router(Generic[T]):
    """Stub zones, and what serves all other names."""

    def __init__(self, zones: Mapping[Name, T], default: T | None = None) -> None:
        """Take what serves each zone and the names below it; the root zone may be one.

        `default` serves names that no zone has; None where such names have no upstream.
        """
        self._zones = dict(zones)
        self._default = self._zones.pop(Name(b"\0"), default)
        depths = {len(labels_of(zone)) for zone in self._zones}
        self._depths = tuple(sorted(depths, reverse=True))

    def find(self, name: Name, labels: tuple[int, ...]) -> T | None:
        """Return what serves a name.

        `labels` has where each label of `name` begins, as `dns.Query` has it: only there can a
        zone begin. Costs one look-up for each number of labels that zones have.
        """
        count = len(labels)
        for depth in self._depths:
            if depth <= count:
                found = self._zones.get(Name(name[labels[-depth] :]))
                if found is not None:
                    return found
        return self._default
