"""Running counts of what the store holds, so that nobody has to walk all of it to know."""

from itertools import islice
from typing import Final

from mcsdns.objects.model import EndpointSlice

MOST_CLUSTERS: Final = 64
"""So many clusters are counted apart: whoever writes slices must not make metrics without end."""
OTHER: Final = "other"
UNKNOWN: Final = ""


class Census:
    """Counts slices by source cluster, and the endpoints that belong to an imported service.

    Attributes:
        endpoints, unready: of imported services; how many of them are not ready.
    """

    def __init__(self) -> None:
        self.endpoints = self.unready = 0
        self._slices: dict[str, int] = {}

    def add(self, piece: EndpointSlice, *, imported: bool) -> None:
        """Count a slice, and its endpoints where its service is imported."""
        cluster = UNKNOWN if piece.malformed else piece.cluster  # which then may be any text
        self._slices[cluster] = self._slices.get(cluster, 0) + 1
        if imported:
            self.serve(piece)

    def remove(self, piece: EndpointSlice, *, imported: bool) -> None:
        """Count a slice no more."""
        cluster = UNKNOWN if piece.malformed else piece.cluster
        self._slices[cluster] -= 1
        if not self._slices[cluster]:
            del self._slices[cluster]
        if imported:
            self.drop(piece)

    def serve(self, piece: EndpointSlice) -> None:
        """Count the endpoints of a slice whose service is imported now."""
        self.endpoints += len(piece.endpoints)
        for endpoint in piece.endpoints:
            if not endpoint.ready:
                self.unready += 1

    def drop(self, piece: EndpointSlice) -> None:
        """Count the endpoints of a slice no more."""
        self.endpoints -= len(piece.endpoints)
        for endpoint in piece.endpoints:
            if not endpoint.ready:
                self.unready -= 1

    def slices(self, total: int) -> dict[str, int]:
        """Return how many of all slices each cluster has; those past the first ones are `other`."""
        shown = dict(islice(self._slices.items(), MOST_CLUSTERS))
        rest = total - sum(shown.values())
        if rest:
            shown[OTHER] = shown.get(OTHER, 0) + rest
        return shown
