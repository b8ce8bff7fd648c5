"""A Kubernetes source that follows a scripted API server into a world, and what tests ask of it."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from mcsdns.config import Settings
from mcsdns.errors import ObjectError
from mcsdns.objects.decode import decode
from mcsdns.objects.events import Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, Object, ServiceImport
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from mcsdns.sources.kubernetes.watcher import Timing
from tests.scripted.api import FakeApi
from tests.scripted.history import Plain
from tests.waiting import until

LABEL = "multicluster.kubernetes.io/service-name"
CLUSTER_LABEL = "multicluster.kubernetes.io/source-cluster"

QUICK = Timing(first_pause_s=0.001, longest_pause_s=0.02, healthy_s=0.05)
"""Pauses of milliseconds; an answer, a page or a silence may take as long as in real life."""
IMPATIENT = msgspec.structs.replace(
    QUICK, overdue_s=0.1, bookmark_s=0.02, answer_s=0.5, page_s=0.5, quiet_list_s=0.1
)
"""For servers that fall silent: what hangs is given up soon, on a busy machine also what does not.

A test that counts requests takes `QUICK`, with only the wait that it is about made short.
"""


class Clock:
    """The real clock, which a test can move."""

    def __init__(self) -> None:
        self.moved_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.moved_s


class CountingRandom(random.Random):
    """Counts how many pauses were drawn."""

    pauses = 0

    def uniform(self, a: float, b: float) -> float:
        self.pauses += 1
        return super().uniform(a, b)


def service_import(name: str, namespace: str = "shop", **spec: Any) -> Plain:
    """A ClusterSetIP import where it has `ips`, else a headless one."""
    spec = {"type": "ClusterSetIP" if "ips" in spec else "Headless", **spec}
    metadata = {"namespace": namespace, "name": name}
    return {"kind": "ServiceImport", "metadata": metadata, "spec": spec}


def endpoint_slice(
    name: str, service: str, *addresses: str, namespace: str = "shop", **fields: Any
) -> Plain:
    """A slice of cluster `eu`; without a service it has no labels."""
    labels = {LABEL: service, CLUSTER_LABEL: "eu"} if service else {}
    return {
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        **fields,
    }


class Followed:
    """One source at work, and the sink it sends to.

    Attributes:
        events: all that the sink took. watch: sees each event after the world has it.
        smallest: the least number of imports since a test set it.
    """

    def __init__(
        self,
        api: FakeApi,
        folder: Path,
        *,
        timing: Timing = QUICK,
        seed: int = 0,
        watch: Callable[[Event], None] | None = None,
        **settings: Any,
    ) -> None:
        self.api = api
        self.rng = CountingRandom(seed)
        self.world = _new_world(**settings)
        self.store = self.world.store
        self.events: list[Event] = []
        self.smallest = 0
        self.watch = watch
        access = Access(kubeconfig=str(api.write_kubeconfig(folder / "config")))
        namespaces = settings.get("namespaces", ())
        cluster = ApiServer(access, watches=2 * max(1, len(namespaces)))
        self.source = KubernetesSource(
            cluster,
            self,
            KubernetesSettings(**settings),
            timing=msgspec.structs.replace(timing, rng=self.rng),
        )

    async def __aenter__(self) -> "Followed":
        self._task = asyncio.create_task(self.source.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        is_running = not self._task.done()
        self._task.cancel()
        (result,) = await asyncio.gather(self._task, return_exceptions=True)
        if not is_running and isinstance(result, BaseException):
            raise result

    def apply(self, event: Event) -> None:
        self.world.apply(event)
        self.events.append(event)
        self.smallest = min(self.smallest, len(self.world.store.imports))
        if self.watch:
            self.watch(event)

    def note(self, why: str, *, imports_only: bool) -> None:
        self.world.note(why, imports_only=imports_only)

    def mark_stale(self, *, stale: bool) -> None:
        self.world.mark_stale(stale=stale)

    async def until(self, condition: Callable[[], object], what: str = "it") -> None:
        """Wait for a condition; a source that ended fails at once."""
        await until(lambda: self._task.done() or condition(), what)
        if self._task.done():
            self._task.result()

    async def synced(self) -> None:
        """Wait until both lists are there and watches are open."""
        await self.until(lambda: self.is_connected and self.is_equal(), "sync")

    @property
    def is_connected(self) -> bool:
        """Whether all lists are complete and all watches open."""
        return all(each.connected for each in self.source.statistics().watches)

    async def equal(self) -> None:
        """Wait until store and zone equal the objects of the API server."""
        await self.until(self.is_equal, "the zone of the objects")

    def is_equal(self) -> bool:
        return not self.differences()

    def differences(self) -> dict[str, Any]:
        """What differs between this world and one that was filled from the objects just now."""
        self.world.publish_all(0)
        fresh = self.fresh()
        return {
            name: (mine, other)
            for name, mine, other in (
                *_pairs(self.world, fresh),
                ("synced", self.world.tree.readiness, fresh.tree.readiness),
            )
            if mine != other
        }

    def fresh(self) -> ZoneState:
        """The world of a start from scratch."""
        namespaces = tuple(self.world.store.namespaces)
        world = _new_world(namespaces=namespaces)
        for kind in Kind:
            for namespace in namespaces or ("",):
                world.publisher.apply(Init(kind, namespace))
            for thing in self.objects(kind):
                world.publisher.apply(InitApply(thing))
            for namespace in namespaces or ("",):
                world.publisher.apply(InitDone(kind, namespace))
        world.publish_all(0)
        return world

    def objects(self, kind: Kind) -> list[Object]:
        """The objects of the API server, decoded; those that cannot be are left out."""
        found = []
        for plain in self.api.objects(str(kind)):
            try:
                thing = decode(kind, plain).object
            except ObjectError:
                continue
            if thing is not None:
                found.append(thing)
        return found

    def names(self, kind: Kind = Kind.SERVICE_IMPORT) -> set[str]:
        """Names of the objects in the store."""
        return {thing.name for thing in self.world.store.objects(kind)}

    def asked(self, *natures: str, resource: str = "") -> list[Any]:
        """The requests of some natures."""
        return [
            each
            for each in self.api.requests
            if each.nature in natures and resource in ("", each.resource)
        ]


def _new_world(namespaces: Any = (), **_: Any) -> ZoneState:
    made = Settings(namespace=list(namespaces))
    return ZoneState(made.zone_settings(), made.namespace)


def _pairs(one: ZoneState, other: ZoneState) -> list[tuple[str, Any, Any]]:
    """What is compared, as (name, of one, of the other), cut to what differs."""
    return [
        *((str(kind), *_cut(_by_key(one, kind), _by_key(other, kind))) for kind in Kind),
        ("services", *_cut(one.tree.services, other.tree.services)),
        ("namespaces", *_cut(one.tree.namespaces, other.tree.namespaces)),
    ]


def _by_key(world: ZoneState, kind: Kind) -> dict[Any, Object]:
    """The objects, whichever API version they were read under: several may be served."""
    return {
        thing.key: msgspec.structs.replace(thing, api_version="")
        if isinstance(thing, ServiceImport)
        else thing
        for thing in world.store.objects(kind)
    }


def _cut(mine: dict[Any, Any], theirs: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    if mine == theirs:
        return {}, {}
    keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    return (
        {key: mine[key] for key in keys if key in mine},
        {key: theirs[key] for key in keys if key in theirs},
    )
