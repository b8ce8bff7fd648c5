"""What the API and the page say of the server as a whole, as plain values.

Field names are a contract with programs (docs/status-page.md): add, do not rename.
"""

import time
from collections.abc import Iterator, Sequence

import msgspec

from mcsdns import __version__
from mcsdns.dns import name as names
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.web.operator import Operator, SourceState


class GuardStatus(msgspec.Struct, frozen=True):
    """Services that were lost all at once, and are kept for a while."""

    held: int
    lingering: int
    why: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The server and where its objects come from.

    Attributes:
        started_s, now_s: Unix time. readiness: `synced`, `imports only` or `not synced`.
        waiting_for: why not everything was read yet, or empty.
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
    """One server that is asked about other names.

    Attributes:
        zones: for which, `.` for all others. rtt_s: smoothed, None before the first reply.
    """

    upstream: str
    zones: Sequence[str]
    is_down: bool
    rtt_s: float | None
    asked: int
    answered: int
    failed: int


class CacheStatus(msgspec.Struct, frozen=True):
    """Replies of upstreams that are kept."""

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
        asked: questions put to upstreams. pending: waiting now. gave_up: not answered in time.
        refused: for too many waiting. loops: questions that came back to us.
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
    """Say how the server is; `snapshot` may be a second old."""
    tree, guard = operator.world.tree, snapshot.guard
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
    if operator.world.tree.stale:
        yield "Answers say that they are stale (Extended DNS Error 3 or 19)"
    yield from reasons


def upstreams_of(operator: Operator, snapshot: Snapshot) -> Upstreams:
    """Say how other names are answered."""
    found = snapshot.forwarder
    if found is None:
        return Upstreams(forwarding=False)
    zones: dict[str, list[str]] = {}
    for zone, theirs in operator.settings.upstreams().items():
        for each in theirs:
            zones.setdefault(each.text, []).append(names.to_text(zone))
    health = [each.health for each in found.upstreams]
    cache = found.cache
    return Upstreams(
        forwarding=True,
        asked=found.asked,
        pending=found.pending,
        gave_up=found.gave_up,
        refused=found.refused,
        loops=found.looped,
        cache=CacheStatus(
            replies=cache.replies,
            failures=cache.failures,
            size_bytes=cache.size_bytes,
            hits=cache.hits,
            stale_hits=cache.stale_hits,
            misses=cache.misses,
            evicted=cache.evicted,
        ),
        upstreams=[
            UpstreamStatus(
                each.upstream,
                zones.get(each.upstream, ["."]),
                each.is_down,
                each.rtt_s,
                each.asked,
                each.answered,
                each.failed,
            )
            for each in health
        ],
    )
