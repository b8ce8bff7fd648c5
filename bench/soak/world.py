"""The services of a soak: their objects, the events that change them, and all that is asked."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.soak.check import VERSION_TTL, Question
from bench.soak.model import (
    NOERROR,
    NXDOMAIN,
    Answer,
    Endpoint,
    History,
    Import,
    Port,
    Service,
    Slice,
)
from bench.soak.upstream import TTL as UPSTREAM_TTL
from bench.soak.upstream import address_of
from bench.world import ZONE
from bench.writes import IMPORTS, SLICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACES, SERVICES, LARGE_EVERY, LARGE = 20, 600, 60, 120
CLUSTERS = ("eu", "us.west")
FORWARDED = "example.test"
FEW = 50
BEACONS = "beacons"


class Write(NamedTuple):
    """One change: what the model is told, and the request for it."""

    service: Service
    history: History
    value: Import | Slice | None
    method: str
    path: str
    body: Any


class Made(NamedTuple):
    """A service with where its objects are."""

    namespace: str
    name: str
    service: Service
    is_kept: bool

    def slice_name(self, at: int) -> str:
        """Return the name of a slice."""
        return f"{self.name}-{at}"


class World:
    """All services."""

    def __init__(self, seed: int, services: int = SERVICES) -> None:
        """Make the first states."""
        self._rng = random.Random(seed)
        self.services = [self._made(number) for number in range(services)]
        self._beacons = [
            self._service(BEACONS, f"beacon-{number}", headless=bool(number), size=1, is_kept=True)
            for number in range(2)
        ]

    @property
    def namespaces(self) -> list[str]:
        """All of them."""
        return [BEACONS, *(_namespace(number) for number in range(NAMESPACES))]

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yield what is to be there by now."""
        for made in (*self.services, *self._beacons):
            for at, history in enumerate((made.service.imported, *made.service.slices)):
                if history.newest is not None:
                    yield _object(made, at - 1, history.newest)

    def beacon(self, address: str) -> list[Write]:
        """Return changes of an import and of a slice after which both services have an address."""
        one, other = self._beacons
        changed = Slice(CLUSTERS[0], (Endpoint("beacon", address, True),), ())
        return [_write(one, -1, Import(False, (address,), ())), _write(other, 0, changed)]

    def event(self, made: Made, rng: random.Random) -> Write:
        """Draw a change of a service: what is not there comes back, something else changes."""
        service = made.service
        at = rng.randrange(-1, len(service.slices))
        history = service.imported if at < 0 else service.slices[at]
        value = history.newest
        if value is None:
            return _write(made, at, self._import(rng) if at < 0 else _slice(made, at, rng))
        if rng.random() < 0.1 and not (at < 0 and made.is_kept):
            return _write(made, at, None)
        return _write(made, at, self._import(rng) if at < 0 else _slice(made, at, rng))

    def questions(self, rng: random.Random) -> list[Question | Callable[[], Question]]:
        """Return what is asked, each as often as it is asked; calls make one of a new name."""
        ring: list[Question | Callable[[], Question]] = []
        for made in self.services:
            ring += self._of_service(made)
        fixed = [
            Question(ZONE, "SOA", fixed=_answer(("SOA", f"ns.dns.{ZONE}"))),
            Question(ZONE, "NS", fixed=_answer(("NS", f"ns.dns.{ZONE}"))),
            Question(
                f"dns-version.{ZONE}",
                "TXT",
                fixed=_answer(("TXT", b"\x051.0.0".hex())),
                ttl=VERSION_TTL,
            ),
            Question(f"svc.{ZONE}", "A", fixed=Answer(NOERROR)),
            *(
                Question(f"{each}.svc.{ZONE}", "A", fixed=Answer(NOERROR))
                for each in self.namespaces
            ),
        ]
        ring += fixed * 4
        few = [self._forwarded(f"site-{number}") for number in range(FEW)]
        ring += few * (len(ring) // 8 // FEW)
        unknown = len(ring) // 5
        ring += [lambda: self._unknown(rng)] * unknown
        ring += [lambda: self._forwarded(_label(rng))] * (unknown // 2)
        ring += [lambda: self._forwarded(f"absent-{_label(rng)}")] * (unknown // 8)
        rng.shuffle(ring)
        return ring

    def final(self) -> list[Question]:
        """Return questions for everything that a service can show."""
        return [each for made in self.services for each in self._of_service(made)]

    def _of_service(self, made: Made) -> list[Question]:
        def ask(qtype: str, *below: str) -> Question:
            name = ".".join((*below, service.owner))
            return Question(name, qtype, service=service, below=below)

        service = made.service
        cluster = CLUSTERS[0]
        return [
            *[ask("A")] * 8,
            *[ask("AAAA")] * 3,
            *[ask("SRV")] * 2,
            ask("A", f"{made.name}-0", cluster),
            ask("A", f"{made.name}-1", *CLUSTERS[1].split(".")),
            ask("SRV", "_http", "_tcp"),
            ask("SRV", "_dns", "_udp"),
            ask("A", "_tcp"),
            ask("A", cluster),
            ask("A", *CLUSTERS[1].split(".")),
            ask("TXT"),
        ]

    def _unknown(self, rng: random.Random) -> Question:
        made = rng.choice(self.services)
        label = _label(rng)
        if rng.random() < 0.3:
            below = (label, CLUSTERS[0])
            name = ".".join((*below, made.service.owner))
            return Question(name, "A", service=made.service, below=below)
        return Question(f"{label}.{made.namespace}.svc.{ZONE}", rng.choice(("A", "AAAA", "SRV")))

    def _forwarded(self, label: str) -> Question:
        name = f"{label}.{FORWARDED}"
        if label.startswith("absent-"):
            return Question(name, "A", fixed=Answer(NXDOMAIN), ttl=UPSTREAM_TTL)
        answer = _answer(("A", address_of(name)))
        return Question(name, "A", fixed=answer, ttl=UPSTREAM_TTL)

    def _made(self, number: int) -> Made:
        large = number % LARGE_EVERY == 1
        headless = large or number % 3 == 0
        namespace = _namespace(number % NAMESPACES)
        return self._service(
            namespace,
            f"svc-{number}",
            headless=headless,
            size=LARGE if large else 4,
            is_kept=number < NAMESPACES,
        )

    def _service(
        self, namespace: str, name: str, *, headless: bool, size: int, is_kept: bool
    ) -> Made:
        imported = Import(True, (), ()) if headless else self._import(self._rng, headless=False)
        made = Made(
            namespace, name, Service(f"{name}.{namespace}.svc.{ZONE}", imported, []), is_kept
        )
        slices = [_slice(made, at, self._rng, size) for at in range(len(CLUSTERS))]
        return made._replace(service=Service(made.service.owner, imported, slices))

    def _import(self, rng: random.Random, *, headless: bool | None = None) -> Import:
        """Draw an import; half of those that change are headless."""
        if headless or (headless is None and rng.random() < 0.5):
            return Import(True, (), ())
        ips = [f"172.{rng.randrange(16, 32)}.{rng.randrange(256)}.{rng.randrange(256)}"]
        ips += [f"fd00::{rng.randrange(1, 1 << 16):x}"] * (rng.random() < 0.3)
        return Import(False, tuple(ips[: rng.choice((1, 2, 2, 2, 2, 2, 0))]), _ports(rng))


def _slice(made: Made, at: int, rng: random.Random, size: int = 0) -> Slice:
    """Draw a slice, as large as the one that it replaces."""
    if not size:
        newest = made.service.slices[at].newest
        size = len(newest.endpoints) if isinstance(newest, Slice) else 4
    endpoints = tuple(
        Endpoint(
            f"{made.name}-{place}" if place % 4 < 3 else "",
            f"10.{rng.randrange(1, 200)}.{rng.randrange(256)}.{rng.randrange(256)}",
            rng.random() < 0.9,
        )
        for place in range(size)
    )
    return Slice(CLUSTERS[at], endpoints, _ports(rng))


def _ports(rng: random.Random) -> tuple[Port, ...]:
    both = (Port("http", "TCP", rng.randrange(1, 65_536)), Port("dns", "UDP", 53))
    return both[: rng.choice((1, 2, 2))]


def _namespace(number: int) -> str:
    return f"ns-{number:02d}"


def _label(rng: random.Random) -> str:
    return f"{rng.getrandbits(60):x}"


def _answer(*records: tuple[str, str]) -> Answer:
    return Answer(NOERROR, frozenset(records))


def _write(made: Made, at: int, value: Import | Slice | None) -> Write:
    """Return the request that makes a version of an object out of the one before."""
    service = made.service
    history = service.imported if at < 0 else service.slices[at]
    collection = (IMPORTS if at < 0 else SLICES).format(made.namespace)
    path = f"{collection}/{made.name if at < 0 else made.slice_name(at)}"
    if value is None:
        return Write(service, history, None, "DELETE", path, None)
    whole = _object(made, at, value)
    if history.newest is None:
        return Write(service, history, value, "POST", collection, whole)
    change = {key: whole[key] for key in ("spec", "endpoints", "ports") if key in whole}
    return Write(service, history, value, "PATCH", path, change)


def _object(made: Made, at: int, value: object) -> dict[str, Any]:
    metadata = {"namespace": made.namespace, "name": made.name}
    if isinstance(value, Import):
        return {
            "apiVersion": "multicluster.x-k8s.io/v1beta1",
            "kind": "ServiceImport",
            "metadata": metadata,
            "spec": {
                "type": "Headless" if value.headless else "ClusterSetIP",
                "ips": list(value.ips),
                "ports": _port_objects(value.ports or (Port("http", "TCP", 80),)),
            },
        }
    assert isinstance(value, Slice)
    labels = {
        "multicluster.kubernetes.io/service-name": made.name,
        "multicluster.kubernetes.io/source-cluster": value.cluster,
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "name": made.slice_name(at), "labels": labels},
        "addressType": "IPv4",
        "ports": _port_objects(value.ports),
        "endpoints": [
            {
                "addresses": [each.address],
                **({"hostname": each.hostname} if each.hostname else {}),
                "conditions": {"ready": each.ready},
            }
            for each in value.endpoints
        ],
    }


def _port_objects(ports: tuple[Port, ...]) -> list[dict[str, Any]]:
    return [{"name": each.name, "protocol": each.protocol, "port": each.number} for each in ports]
