"""The index, the zone and its only writer, put together: all that answers are made from."""

import logging
from collections.abc import Callable, Iterable

from mcsdns.config import Settings
from mcsdns.objects.model import Kind, Problem
from mcsdns.objects.store import Store
from mcsdns.server.authority import Authority
from mcsdns.sources.manifests.documents import Located
from mcsdns.zone.publisher import Publisher
from mcsdns.zone.tree import Readiness, Tree

logger = logging.getLogger(__name__)


class ZoneState:
    """The index, the zone and who writes to it: all that answers are made from.

    Attributes:
        find_problems: iterates over what the source finds wrong with objects now.
        imports_only: whether slices cannot be read at all, so that imports have to do.
    """

    def __init__(self, settings: Settings) -> None:
        """Make an empty world that is not synced."""
        self.store = Store(settings.namespace)
        self.tree = Tree(settings.zone_settings())
        self.publisher = Publisher(self.store, self.tree, _log_problem)
        self.answerer = Authority(self.tree)
        self.find_problems: Callable[[], Iterable[Located]] = tuple
        self.imports_only = False

    def publish_all(self, now_s: int) -> list[bytes]:
        """Publish whatever waits, in one go; returns the owners whose answers changed."""
        changed = [owner for owners in self.publisher.publish() for owner in owners]
        self.note_synced()
        self.publisher.step_serial(now_s)
        return changed

    @property
    def problems(self) -> tuple[Located, ...]:
        """What the source finds wrong with objects now."""
        return tuple(self.find_problems())

    @property
    def is_readable(self) -> bool:
        """Whether there is anything to answer from; before, no service need be built."""
        if self.imports_only:
            return self.store.is_synced(Kind.SERVICE_IMPORT)
        return all(map(self.store.is_synced, Kind))

    def note_synced(self) -> None:
        """Call the zone synced once both lists are in it; it stays so."""
        if self.publisher.pending or self.tree.readiness is Readiness.SYNCED:
            return
        if all(map(self.store.is_synced, Kind)):
            self.tree.readiness = Readiness.SYNCED
        elif self.is_readable:
            self.tree.readiness = Readiness.IMPORTS_ONLY
        else:
            self.tree.readiness = Readiness.NOT_SYNCED


def _log_problem(problem: Problem) -> None:
    logger.warning(
        "%s: %s: %s", problem.subject, problem.path, problem.text, extra={"reason": problem.reason}
    )
