"""A randomised soak of the Kubernetes source: thousands of changes and faults, one seed.

Steps change objects and break things on the scripted API server. At every quiet point the faults
are taken off; once the source has caught up, store and zone equal the objects of the server.

MCSDNS_SOAK_SEED sets the seed (it is printed), MCSDNS_SOAK_STEPS the number of steps.
"""

import asyncio
import logging
import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcsdns.objects.events import Apply, Event, InitApply
from mcsdns.objects.model import Kind
from mcsdns.sources.kubernetes import watcher
from tests.scripted import FakeApi, Plain, faults, wire
from tests.scripted.faults import DISCOVERY, LIST, LISTS, PAGE, STREAM, WATCHES
from tests.scripted.followed import (
    CLUSTER_LABEL,
    IMPATIENT,
    LABEL,
    Clock,
    Followed,
    endpoint_slice,
    service_import,
)

STEPS = int(os.environ.get("MCSDNS_SOAK_STEPS", "3000"))
SEED = int(os.environ.get("MCSDNS_SOAK_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
NAMESPACES = ("shop", "bank")
GHOST = "ghost"
RESOURCES = ("serviceimports", "endpointslices")
PILLARS = {Kind.SERVICE_IMPORT: 12, Kind.ENDPOINT_SLICE: 12}
_RESTORED_VERSIONS = 400


class Soak:
    """One run: what was done of late, what is out of order, what was seen that must not be."""

    def __init__(self, api: FakeApi, rng: random.Random) -> None:
        self.api = api
        self.rng = rng
        self.clock = Clock()
        self.story: deque[str] = deque(maxlen=80)
        self.wrong: list[str] = []
        self.may_lose = False
        self.was_emptied = False
        self.fences = 0
        self.oldest = 0
        self.followed: Followed
        self.steps: list[tuple[int, Callable[[], Any]]] = [
            (24, self.put_import),
            (30, self.put_slice),
            (6, self.put_ordinary_slice),
            (4, self.put_wrong_type),
            (8, self.delete_import),
            (10, self.delete_slice),
            (12, self.fault_request),
            (3, self.reset_connections),
            (2, self.refuse),
            (4, self.accept),
            (3, self.end_watches),
            (3, self.expire_watches),
            (2, self.reset_a_watch),
            (3, self.compact),
            (2, self.expire_pages),
            (3, self.silence),
            (4, self.speak),
            (1, self.garbage),
            (2, self.low_bookmark),
            (3, self.turn_knobs),
            (2, self.flip_versions),
            (2, self.permit),
            (1, self.change_token),
            (2, self.jump),
            (1, self.replace_all),
        ]

    # Objects

    def put_import(self) -> str:
        thing = service_import(self._service(), self._namespace(), **self._spec())
        self.api.put(thing)
        return f"put {_name(thing)} {thing['spec']}"

    def _spec(self) -> dict[str, Any]:
        ports = [{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}]
        some: list[dict[str, Any]] = [
            {},
            {"ips": [f"10.0.0.{self.rng.randrange(9)}"]},
            {"ips": ["10.0.0.1", "fd00::1"], "ports": ports},
            {"ips": ["no address"], "ports": ports[:1]},
            {"ips": [], "ports": None},
            {"type": "Headless", "ports": ports[self.rng.randrange(2) :]},
            {"type": "Wrong"},
        ]
        return self.rng.choice(some)

    def put_slice(self) -> str:
        """A slice of any service: the same name moves from one to another."""
        addresses = [f"10.1.0.{self.rng.randrange(9)}" for _ in range(self.rng.randrange(4))]
        thing = endpoint_slice(
            self._slice(), self._service(), *addresses, namespace=self._namespace()
        )
        if addresses:
            thing["endpoints"][0] |= {
                "conditions": {"ready": self.rng.choice([True, False, None])},
                "hostname": self.rng.choice([None, "web-0", "Bad_Host"]),
            }
        if self.rng.random() < 0.2:
            thing["metadata"]["labels"][CLUSTER_LABEL] = self.rng.choice(["us", "a.b", "", "a_b"])
        self.api.put(thing)
        return f"put {_name(thing)} of {thing['metadata']['labels'][LABEL]}"

    def put_ordinary_slice(self) -> str:
        """A slice without the label: one that had it leaves the selector."""
        thing = endpoint_slice(self._slice(), "", "10.2.0.1", namespace=self._namespace())
        self.api.put(thing)
        return f"unlabel {_name(thing)}"

    def put_wrong_type(self) -> str:
        thing = self.rng.choice(
            [
                {**service_import(self._service(), self._namespace()), "spec": 5},
                service_import(self._service(), self._namespace(), ports={"name": "http"}),
                service_import("Not.A.Label", self._namespace()),
                endpoint_slice(
                    self._slice(), self._service(), namespace=self._namespace(), endpoints="none"
                ),
                endpoint_slice(self._slice(), "Not.A.Label", namespace=self._namespace()),
            ]
        )
        self.api.put(thing)
        return f"put {_name(thing)} of a wrong type"

    def delete_import(self) -> str:
        where = (self._namespace(), self._service())
        self.api.delete("ServiceImport", *where)
        return f"delete ServiceImport {where}"

    def delete_slice(self) -> str:
        where = (self._namespace(), self._slice())
        self.api.delete("EndpointSlice", *where)
        return f"delete EndpointSlice {where}"

    def replace_all(self) -> str:
        """Delete many and write them anew, faster than any watch tells."""
        for number in range(10):
            for kind in ("ServiceImport", "EndpointSlice"):
                name = f"svc-{number}" if kind == "ServiceImport" else f"slice-{number}"
                self.api.delete(kind, "shop", name)
        for _ in range(10):
            self.put_slice()
            self.put_import()
        return "replace all"

    def _namespace(self) -> str:
        return self.rng.choice(NAMESPACES)

    def _service(self) -> str:
        return f"svc-{self.rng.randrange(12)}"

    def _slice(self) -> str:
        return f"slice-{self.rng.randrange(20)}"

    # Faults

    def fault_request(self) -> str:
        natures: dict[str, list[faults.Action]] = {
            DISCOVERY: [faults.forbidden(), faults.not_found(), faults.Garbage()],
            LISTS: [faults.HalfPage(), faults.Garbage(), faults.EmptyList(), faults.expired()],
            PAGE: [faults.ExpirePage(), faults.Reset(self.rng.randrange(2000))],
            WATCHES: [
                faults.Garbage(),
                faults.expired(self.rng.choice(["Gone", "Expired"])),
                faults.expired_in_stream("Expired", self._ghost_lines()),
                faults.expired_in_stream("Gone", self._ghost_lines()),
                faults.too_large(0.01),
            ],
            STREAM: [
                faults.no_watch_list(),
                faults.NoEndBookmark(),
                faults.EmptyList(),
                faults.InStream(wire.status(500, "InternalError", "no")),
            ],
            "": [
                faults.Reset(self.rng.randrange(-1, 2000)),
                faults.Reset(self.rng.randrange(-1, 2000)),
                faults.Reset(self.rng.randrange(-1, 200)),
                faults.Hang(),
                faults.Hang(headers=True),
                faults.Dribble(),
                faults.unauthorized(),
                faults.forbidden(),
                faults.not_found(plain=self.rng.random() < 0.5),
                faults.too_many_requests(0),
                faults.internal_error(),
                faults.unavailable(),
            ],
        }
        nature = self.rng.choice(list(natures))
        action = self.rng.choice(natures[nature])
        if isinstance(action, faults.EmptyList):
            self.may_lose = self.was_emptied = True
        resource = self.rng.choice(["", *RESOURCES]) if nature != DISCOVERY else ""
        self.api.fault(action, nature, resource, times=self.rng.randrange(1, 4))
        return f"fault {nature or 'any'} {resource} {str(action)[:100]}"

    def _ghost_lines(self) -> bytes:
        """Lines of an abandoned watch: an object that must never be seen."""
        lines = b""
        for thing in (service_import(GHOST, ips=["6.6.6.6"]), endpoint_slice(GHOST, GHOST)):
            thing["metadata"]["resourceVersion"] = str(self.api.version + 1_000_000)
            thing.setdefault("apiVersion", "v1")
            lines += wire.event("ADDED", thing)
        return lines

    def expire_watches(self) -> str:
        self.api.expire_watches(
            self.rng.choice(["", *map(str, Kind)]),
            self.rng.choice(["Gone", "Expired"]),
            self._ghost_lines(),
        )
        return "410 in open watches, then lines of a ghost"

    def reset_connections(self) -> str:
        self.api.reset_connections()
        return "reset all connections"

    async def refuse(self) -> str:
        await self.api.refuse()
        return "refuse connections"

    async def accept(self) -> str:
        await self.api.accept()
        return "accept connections"

    def end_watches(self) -> str:
        self.api.end_watches(self.rng.choice(["", *map(str, Kind)]))
        return "end watches"

    def reset_a_watch(self) -> str:
        if self.api.watches:
            self.rng.choice(self.api.watches).reset()
        return "reset a watch"

    def compact(self) -> str:
        self.api.compact()
        return "compact"

    def expire_pages(self) -> str:
        self.api.expire_pages()
        return "expire pages"

    def silence(self) -> str:
        if self.api.watches:
            self.rng.choice(self.api.watches).silence()
        return "silence a watch"

    def speak(self) -> str:
        for watch in self.api.watches:
            watch.speak()
        return "speak"

    def garbage(self) -> str:
        for watch in self.api.watches:
            watch.send(self.rng.choice([b"\x00\xff?\n", b"{}\n", b'{"type":"ADDED"}\n', b"[1]\n"]))
        return "garbage in watches"

    def low_bookmark(self) -> str:
        self.api.bookmark(self.api.version - 500)
        return "bookmark below"

    def turn_knobs(self) -> str:
        api, rng = self.api, self.rng
        api.streaming_lists = rng.choice(["on", "on", "422", "error"])
        api.expired_as = rng.choice(["status", "event"])
        api.expired_reason = rng.choice(["Gone", "Expired"])
        api.future_versions = rng.choice(["status", "event", "hold"])
        api.bookmark_interval_s = rng.choice([None, 0.02, 0.02])
        api.plain_404 = rng.random() < 0.5
        return f"knobs {api.streaming_lists} {api.expired_as} {api.future_versions}"

    def flip_versions(self) -> str:
        some = [("v1beta1",), ("v1alpha1",), ("v1beta1", "v1alpha1"), ()]
        self.api.serve(*self.rng.choice(some), end_watches=self.rng.random() < 0.8)
        return f"serve {self.api.versions}"

    def permit(self) -> str:
        resource = self.rng.choice(RESOURCES)
        verbs = self.rng.choice(["list watch", "watch", "list"])
        if self.rng.random() < 0.5:
            self.api.revoke(resource, verbs=verbs)
            return f"revoke {verbs} {resource}"
        self.api.grant(resource, verbs=verbs)
        return f"grant {verbs} {resource}"

    def change_token(self) -> str:
        self.api.token = self.rng.choice([None, None, "another"])
        return f"token {self.api.token}"

    def jump(self) -> str:
        self.clock.moved_s += self.rng.choice([-1000, -5, 5, 1000])
        return f"clock moved {self.clock.moved_s}"

    # Quiet points

    def take(self, event: Event) -> None:
        """See an event right after the world has it."""
        if isinstance(event, Apply | InitApply) and event.object.name == GHOST:
            self.wrong.append("a line of an abandoned watch counted")
        if self.may_lose:
            return
        store = self.followed.world.store
        for kind, count in PILLARS.items():
            if self.followed.source.synced and len(pillars(store.objects(kind))) < count:
                self.wrong.append(f"a moment with less than the truth: {kind} at {event}")

    async def step(self) -> None:
        (step,) = self.rng.choices(*zip(*((act, n) for n, act in self.steps), strict=True))  # type: ignore[misc]
        told = step()
        self.story.append(await told if asyncio.iscoroutine(told) else told)
        if self.rng.random() < 0.15:
            await asyncio.sleep(self.rng.random() * 0.02)
        elif self.rng.random() < 0.5:
            await asyncio.sleep(0)

    async def quiet(self) -> None:
        """Take the faults off and wait until the source has caught up; then all is equal."""
        await self._mend()
        if self.rng.random() < 0.4:
            await self._restore()
        if self.was_emptied:
            self._make_list_again()
        self._put_fences()
        await self._caught_up()
        self._check_requests()
        self.oldest = self.api.version
        self.may_lose = self.was_emptied = False
        self.story.append("--- quiet")

    async def _mend(self) -> None:
        api = self.api
        api.clear_faults()
        api.token = None
        for resource in RESOURCES:
            api.grant(resource)
        if not api.versions:
            api.serve(self.rng.choice(["v1beta1", "v1alpha1"]))
        api.bookmark_interval_s = 0.02
        api.streaming_lists = self.rng.choice(["on", "422"])
        await api.accept()

    async def _restore(self) -> None:
        """An etcd restored from a backup; what the counter says is believed until it is passed."""
        api = self.api
        oldest = max(self.oldest, api.version - _RESTORED_VERSIONS)
        version = self.rng.randrange(oldest, api.version + 1)
        self.story.append(f"restore {version} of {api.version}")
        self.may_lose = True
        known = list(api.watches)
        api.restore(version)
        for watch in api.watches:
            watch.speak()

        def is_noticed() -> bool:
            open_now = [each for each in api.watches if each not in known]
            scopes = {(each.view.kind, each.view.namespace) for each in open_now}
            wanted = len(Kind) * max(1, len(self.followed.world.store.namespaces))
            return len(scopes) == wanted and all(each.opened_at <= version for each in open_now)

        await self.followed.until(is_noticed, f"a list after the restore; {self}")

    def _make_list_again(self) -> None:
        """An empty list that was believed is mended by the next list."""
        self._put_fences()
        self.api.compact()
        self.api.expire_watches()

    def _put_fences(self) -> None:
        """Objects that come after all others: who has them has caught up."""
        self.fences += 1
        for namespace in NAMESPACES:
            name = f"fence-{self.fences % 2}"
            ips = [f"10.{namespace == 'shop':d}.{self.fences >> 8 & 255}.{self.fences & 255}"]
            self.api.put(service_import(name, namespace, ips=ips))
            self.api.put(endpoint_slice(name, name, *ips, namespace=namespace))

    async def _caught_up(self) -> None:
        try:
            await self.followed.until(self._has_fences, "the last objects")
            await self.followed.equal()
        except AssertionError as error:
            raise AssertionError(f"{error}; {self}\n{self._state()}") from error
        assert not self.wrong, f"{self}\n{self.wrong[:5]}"

    def _state(self) -> str:
        watches = [(each.opened_at, each.sent, each.asked.nature) for each in self.api.watches]
        asked = [(each.path, each.nature) for each in self.api.requests[-10:]]
        lines = [
            *(f"{name}: {pair}" for name, pair in self.followed.differences().items()),
            *map(str, self.followed.source.statistics().watches),
            f"version {self.api.version}, floor {self.api.history.floor}",
            f"watches (opened at, sent, nature): {watches}",
            f"last requests: {asked}",
        ]
        return "\n".join(line[:1000] for line in lines)

    def _has_fences(self) -> bool:
        store = self.followed.world.store
        return all(
            any(thing.name == f"fence-{self.fences % 2}" for thing in store.objects(kind))
            for kind in Kind
        )

    def _check_requests(self) -> None:
        for request in self.api.requests:
            query = request.query
            assert query.get("resourceVersion") != "0", self
            assert 10 <= int(query.get("timeoutSeconds", "300")) <= 600, self
            if request.nature == PAGE:
                assert wire.decode_token(query["continue"])[0] > 0, self
            if request.nature == LIST:
                assert "resourceVersion" not in query, self
        self.api.requests.clear()
        self.followed.events.clear()
        if self.api.history.floor - 5000 > 0:
            self.api.history.forget()

    def __str__(self) -> str:
        return "\n  ".join([f"MCSDNS_SOAK_SEED={SEED}, the last steps:", *self.story])


def pillars(things: Any) -> list[str]:
    return [thing.name for thing in things if thing.name.startswith("pillar")]


def _name(thing: Plain) -> str:
    return f"{thing['kind']} {thing['metadata']['namespace']}/{thing['metadata']['name']}"


@pytest.fixture
def quiet_log() -> Any:
    """Thousands of failures are logged; pytest would keep them all."""
    logger = logging.getLogger("mcsdns")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.mark.timeout(600 + STEPS)
@pytest.mark.usefixtures("quiet_log")
async def test_after_every_quiet_point_the_zone_equals_the_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"MCSDNS_SOAK_SEED={SEED} MCSDNS_SOAK_STEPS={STEPS}")  # noqa: T201
    rng = random.Random(SEED)
    monkeypatch.setattr(watcher, "PAGE_OBJECTS", rng.choice([7, 30, 500]))
    async with FakeApi() as api:
        soak = Soak(api, rng)
        api.retry_after_s = 0.01
        for number in range(12):
            api.put(service_import(f"pillar-{number}", NAMESPACES[number % 2], ips=["10.9.0.1"]))
            api.put(
                endpoint_slice(
                    f"pillar-{number}",
                    f"pillar-{number}",
                    "10.9.1.1",
                    namespace=NAMESPACES[number % 2],
                )
            )
        timing = msgspec.structs.replace(IMPATIENT, clock=soak.clock)
        settings: dict[str, Any] = {"namespaces": NAMESPACES} if rng.random() < 0.4 else {}
        settings["missing_s"] = 1e6  # jumps of the clock would make a missing CRD an empty list
        followed = Followed(api, tmp_path, timing=timing, seed=SEED, watch=soak.take, **settings)
        soak.followed = followed
        async with followed:
            await followed.synced()
            soak.oldest = api.version
            done = 0
            while done < STEPS:
                count = rng.randrange(20, 120)
                for _ in range(count):
                    await soak.step()
                done += count
                await soak.quiet()
