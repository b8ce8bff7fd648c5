"""How the server is as a whole, as plain values, and the Operator that they are read from.

Field names are a contract with programs (docs/status-page.md): add, do not rename.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from mcsdns import __version__
from mcsdns.config import Settings
from mcsdns.dns import name as names
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.base import SourceState


class Operator(Protocol):
    """A running server, as its operator may look at it; nothing here changes it.

    `app.process.Server` is one. Several workers in one process group will be another.
    """

    @property
    def settings(self) -> Settings:
        """The settings in force; a reload replaces them, so callers do not hold them."""
        ...

    @property
    def zone_state(self) -> ZoneState:
        """The objects and the zones made from them."""
        ...

    @property
    def started_s(self) -> float:
        """When the process began, Unix time."""
        ...

    def is_ready(self) -> bool:
        """Return whether `/readyz` is 200."""
        ...

    def reasons(self) -> list[str]:
        """Return what is not as it should be, a line each, whether ready or not."""
        ...

    def faults(self) -> list[str]:
        """Return the same in fixed words, without addresses, paths and what others wrote."""
        ...

    def sources(self) -> list[SourceState]:
        """Return where the objects come from."""
        ...

    def snapshot(self) -> Snapshot:
        """Return all statistics at this moment."""
        ...


class GuardStatus(msgspec.Struct, frozen=True):
    """Services that were lost all at once, and are answered for a while longer."""

    held: int
    lingering: int
    why: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The server and where its objects come from.

    Attributes:
        started_s, now_s: Unix time. readiness: `synced`, `imports only` or `not synced`.
        waiting_for: what keeps the server from its first sync, or empty.
        stale: whether answers say that they are older than they should be.
        reasons: what is not as it should be, for people, a line each.
        alerts: these and what else an operator should see first.
    """

    version: str
    started_s: float
    now_s: float
    zones: Sequence[str]
    ready: bool
    readiness: str
    waiting_for: str
    stale: bool
    reasons: Sequence[str]
    alerts: Sequence[str]
    services: int
    slices: int
    endpoints: int
    guard: GuardStatus | None
    sources: Sequence[SourceState]


class UpstreamStatus(msgspec.Struct, frozen=True):
    """One upstream.

    Attributes:
        zones: the names that are forwarded to it, `.` for all others.
        rtt_s: smoothed, None before the first reply.
    """

    upstream: str
    zones: Sequence[str]
    is_down: bool
    rtt_s: float | None
    asked: int
    answered: int
    failed: int


class CacheStatus(msgspec.Struct, frozen=True):
    """The cache of upstreams' replies."""

    replies: int
    failures: int
    size_bytes: int
    hits: int
    stale_hits: int
    misses: int
    evicted: int


class Upstreams(msgspec.Struct, frozen=True):
    """How other names are answered.

    Attributes:
        forwarding: whether there is any upstream; without one they are refused.
        asked: queries to forward. pending: waiting now. gave_up: not answered in time.
        refused: because too many were waiting. loops: queries that came back to us.
    """

    forwarding: bool
    asked: int = 0
    pending: int = 0
    gave_up: int = 0
    refused: int = 0
    loops: int = 0
    cache: CacheStatus | None = None
    upstreams: Sequence[UpstreamStatus] = ()


def status_of(operator: Operator, snapshot: Snapshot) -> Status:
    """Return how the server is; `snapshot` may be a second old."""
    tree, kubernetes = operator.zone_state.tree, snapshot.kubernetes
    guard = kubernetes.guard if kubernetes else None
    sources, reasons = operator.sources(), operator.reasons()
    waiting = tree.readiness.value != "synced" and not operator.settings.is_sourceless
    return Status(
        version=__version__,
        started_s=operator.started_s,
        now_s=time.time(),
        zones=[names.to_text(zone) for zone in tree.settings.zones],
        ready=operator.is_ready(),
        readiness=tree.readiness.value,
        waiting_for=tree.reason if waiting else "",
        stale=tree.stale,
        reasons=reasons,
        alerts=list(_alerts(operator, sources, reasons)),
        services=snapshot.store.service_imports,
        slices=snapshot.store.endpoint_slices,
        endpoints=snapshot.store.endpoints,
        guard=GuardStatus(guard.held, guard.lingering, guard.why) if guard else None,
        sources=sources,
    )


def _alerts(
    operator: Operator, sources: Sequence[SourceState], reasons: Sequence[str]
) -> Iterator[str]:
    if not operator.is_ready():
        yield "Not ready: this server should not be asked yet, or no more"
    for each in sources:
        if each.synced and not each.connected:
            yield f"{each.name} cannot be heard; answers are from what it said before"
    if operator.zone_state.tree.stale:
        yield "Answers say that they are stale (Extended DNS Error 3 or 19)"
    yield from reasons


def upstreams_of(operator: Operator, snapshot: Snapshot) -> Upstreams:
    """Return how other names are answered."""
    found = snapshot.forwarder
    if found is None:
        return Upstreams(forwarding=False)
    zones: dict[str, list[str]] = {}
    for zone, upstreams in operator.settings.upstreams().items():
        for each in upstreams:
            zones.setdefault(each.text, []).append(names.to_text(zone))
    return Upstreams(
        forwarding=True,
        asked=found.asked,
        pending=found.pending,
        gave_up=found.gave_up,
        refused=found.refused,
        loops=found.looped,
        cache=msgspec.convert(found.cache, CacheStatus, from_attributes=True),
        upstreams=[
            UpstreamStatus(
                each.health.upstream,
                zones.get(each.health.upstream, ["."]),
                each.health.is_down,
                each.health.rtt_s,
                each.health.asked,
                each.health.answered,
                each.health.failed,
            )
            for each in found.upstreams
        ],
    )
