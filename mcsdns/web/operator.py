"""What the web rooms may ask of the running server; `running.Server` is the one that answers."""

from typing import Protocol

from mcsdns.config import Settings
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.base import SourceState

__all__ = ["Operator", "SourceState"]


class Operator(Protocol):
    """A running server, as its operator sees it."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        ...

    @property
    def world(self) -> ZoneState:
        """All that is answered from; changes with the settings, so do not hold it."""
        ...

    @property
    def started_s(self) -> float:
        """When the process began, Unix time."""
        ...

    def is_ready(self) -> bool:
        """Say whether `/readyz` is 200."""
        ...

    def reasons(self) -> list[str]:
        """Return what is not as it should be, a line each, whether ready or not."""
        ...

    def sources(self) -> list[SourceState]:
        """Return where the objects come from."""
        ...

    def snapshot(self) -> Snapshot:
        """Return every room's statistics at this moment."""
        ...
