"""Times a write to the API server until its effect is seen by DNS.

One client, pinned to the load core, sends the write on a connection that stays open, and from that
moment a query every quarter of a millisecond, which is the resolution; it waits in the kernel, not
in a loop, and takes the arrival of the first reply that shows the write. Only one server runs
meanwhile, so that none waits for the other's work on the same core. Under load dnsperf sends the
mix from the load core as fast as it can, with a lower priority than API server and client. One
delete in ten is waited for: mcsdns follows each after a second, in which more of them would show
that something is wrong.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import random
import select
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from bench.load import HOST, Load, background
from bench.measure import pinned
from bench.queries import plain_message
from bench.servers import ServerError
from bench.sync import wait_whole
from bench.world import PORT, PORT_NAME, ZONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.cluster import Cluster
    from bench.runner import Runner
    from bench.world import World

INTERVAL_S = 0.00025
LIMIT_S = 20.0
LOAD_LIMIT_S = 3600.0
DELETES_ONE_IN = 10  # mcsdns waits a second before it follows one, so not all are waited for
PAUSE_S = (0.002, 0.012)
CREATE, ADDRESS, ENDPOINTS, DELETE = "create import", "change spec.ips", "change slice", "delete"
KINDS = (CREATE, ADDRESS, ENDPOINTS, DELETE)
JUDGED = (CREATE, ADDRESS, ENDPOINTS)
IMPORTS = "/apis/multicluster.x-k8s.io/v1beta1/namespaces/{}/serviceimports"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
NXDOMAIN = 3

Seen = Callable[[bytes], bool]


class Times(msgspec.Struct, frozen=True):
    """Milliseconds until a write was seen, since it was sent and since it was acknowledged.

    What was seen before the acknowledgement was read has a time below 0.
    """

    since_sent_ms: float
    since_acknowledged_ms: float


class Writes(msgspec.Struct, frozen=True):
    """The writes of one round to one server, by kind."""

    round: int
    loaded: bool
    times: dict[str, list[Times]]


class Percentiles(msgspec.Struct, frozen=True):
    """Of so many writes: since the acknowledgement (at least the resolution), and since sending."""

    writes: int
    p50_ms: float
    p99_ms: float
    sent_p50_ms: float
    sent_p99_ms: float


class Write(msgspec.Struct, frozen=True):
    """What is written, the name that shows it, and how to see it in a reply."""

    method: str
    path: str
    body: Any
    name: str
    seen: Seen


def time_writes(
    runner: Runner, cluster: Cluster, peer: str, world: World, number: int
) -> list[Writes]:
    """Start one server; time writes while it is idle, then while it is asked as fast as it can."""
    with runner.start(peer) as server:
        wait_whole(server, world)
        mix = Load(path=runner.files.path("mix"), edns=True, seconds=runner.settings.seconds)
        runner.run(mix, server)
        endless = msgspec.structs.replace(mix, seconds=LOAD_LIMIT_S)
        with pinned(runner.cores.load), Client(cluster, server.port) as client:
            idle = _block(client, runner, f"{peer}-{number}-idle")
            with background(endless, server.port, runner.cores.load):
                loaded = _block(client, runner, f"{peer}-{number}-load")
    return [Writes(number, False, idle), Writes(number, True, loaded)]


def _block(client: Client, runner: Runner, label: str) -> dict[str, list[Times]]:
    """Write so many times of each kind; the objects are gone afterwards."""
    rng = random.Random(label)
    times: dict[str, list[Times]] = {kind: [] for kind in KINDS}
    namespace = "ns-000"
    for write in _headless(namespace, label, first=True):
        client.time(write)
    gc.disable()
    try:
        for number in range(runner.settings.writes):
            for kind, write in _cycle(namespace, label, number):
                time.sleep(rng.uniform(*PAUSE_S))  # what went before is over
                if kind == DELETE and number % DELETES_ONE_IN:
                    client.time(msgspec.structs.replace(write, seen=_any))
                else:
                    times[kind].append(client.time(write))
    finally:
        gc.enable()
    for write in _headless(namespace, label, first=False):
        client.time(write)
    return times


def _cycle(namespace: str, label: str, number: int) -> Iterator[tuple[str, Write]]:
    """Yield a write of each kind: a service comes, gets another address and goes."""
    name = f"{label}-{number}"
    imports = IMPORTS.format(namespace)
    first, second, third = (_address(place, number) for place in (101, 102, 103))
    owner = f"{name}.{namespace}.svc.{ZONE}"
    yield CREATE, Write("POST", imports, _import(namespace, name, first), owner, _has(first))
    change = {"spec": {"ips": [second]}}
    yield ADDRESS, Write("PATCH", f"{imports}/{name}", change, owner, _has(second))
    path = f"{SLICES.format(namespace)}/{label}-eu"
    headless = f"{label}.{namespace}.svc.{ZONE}"
    endpoints = {"endpoints": _endpoints(third)}
    yield ENDPOINTS, Write("PATCH", path, endpoints, headless, _has(third))
    yield DELETE, Write("DELETE", f"{imports}/{name}", None, owner, _absent)


def _headless(namespace: str, label: str, *, first: bool) -> Iterator[Write]:
    """Yield what creates the headless service whose slice is changed, or what deletes it."""
    imports, slices = IMPORTS.format(namespace), SLICES.format(namespace)
    owner = f"{label}.{namespace}.svc.{ZONE}"
    address = _address(104, 0)
    if first:
        yield Write("POST", imports, _import(namespace, label, ""), owner, _any)
        yield Write("POST", slices, _slice(namespace, label, address), owner, _has(address))
    else:
        yield Write("DELETE", f"{slices}/{label}-eu", None, owner, _any)
        yield Write("DELETE", f"{imports}/{label}", None, owner, _absent)


def pooled(writes: list[Writes], kinds: Iterable[str], *, loaded: bool) -> Percentiles | None:
    """Return the percentiles of all rounds, or None where nothing was measured."""
    chosen = [one for one in writes if one.loaded is loaded]
    times = [time for one in chosen for kind in kinds for time in one.times[kind]]
    if len(times) < 2:
        return None
    resolution_ms = INTERVAL_S * 1e3
    acknowledged = [max(resolution_ms, one.since_acknowledged_ms) for one in times]
    after = statistics.quantiles(acknowledged, n=100)
    sent = statistics.quantiles([one.since_sent_ms for one in times], n=100)
    return Percentiles(len(times), after[49], after[98], sent[49], sent[98])


class Client:
    """Writes to the API server on one connection and asks one server by UDP."""

    def __init__(self, cluster: Cluster, dns_port: int) -> None:
        """Connect to both."""
        context = ssl.create_default_context(cafile=str(cluster.ca))
        self._api = http.client.HTTPSConnection(HOST, cluster.port, context=context)
        self._api.connect()
        self._api.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._dns.connect((HOST, dns_port))
        self._dns.setblocking(False)
        self._number = 0

    def __enter__(self) -> Client:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close both sockets."""
        self._api.close()
        self._dns.close()

    def time(self, write: Write) -> Times:
        """Write, and ask from then on until the write is seen and acknowledged.

        Raises:
            ServerError: it was refused, or not seen in time.
        """
        self._number = (self._number + 1) & 0xFFFF
        query = self._number.to_bytes(2, "big") + plain_message((write.name, "A"))[2:]
        seen_s = acknowledged_s = 0.0
        sent_s = next_s = time.perf_counter()
        self._send(write)
        while not (seen_s and acknowledged_s):
            now_s = time.perf_counter()
            if now_s > sent_s + LIMIT_S:
                message = f"{write.method} {write.path}: not seen within {LIMIT_S:.0f} s"
                raise ServerError(message)
            if not seen_s and now_s >= next_s:
                self._ask(query)
                next_s = max(next_s + INTERVAL_S, now_s)
            wait_s = 1.0 if seen_s else max(0.0, next_s - time.perf_counter())
            readable, _, _ = select.select([self._dns, self._api.sock], (), (), wait_s)
            if self._dns in readable and self._hears(query[:2], write.seen) and not seen_s:
                seen_s = time.perf_counter()
            if self._api.sock in readable and not acknowledged_s:
                acknowledged_s = self._acknowledged(write)
        return Times((seen_s - sent_s) * 1e3, (seen_s - acknowledged_s) * 1e3)

    def _send(self, write: Write) -> None:
        kind = "merge-patch+json" if write.method == "PATCH" else "json"
        body = None if write.body is None else msgspec.json.encode(write.body)
        headers = {"Accept": "application/json", "Content-Type": f"application/{kind}"}
        self._api.request(write.method, write.path, body, headers)

    def _ask(self, query: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # a full buffer is under load as any loss
            self._dns.send(query)

    def _hears(self, identity: bytes, seen: Seen) -> bool:
        """Read all replies; say whether one to this write's queries shows it."""
        found = False
        with contextlib.suppress(BlockingIOError):
            while True:
                reply = self._dns.recv(65535)
                found = found or (reply[:2] == identity and seen(reply))
        return found

    def _acknowledged(self, write: Write) -> float:
        response = self._api.getresponse()
        now_s = time.perf_counter()
        body = response.read()
        if response.status >= 300:
            message = f"{write.method} {write.path}: {response.status} {body[:300]!r}"
            raise ServerError(message)
        return now_s


def _address(first: int, number: int) -> str:
    """Return an address that nothing else in a reply looks like."""
    return f"{first}.{171 + (number >> 14)}.{128 + (number >> 7 & 127)}.{128 + (number & 127)}"


def _has(address: str) -> Seen:
    octets = socket.inet_aton(address)
    return lambda reply: octets in reply


def _absent(reply: bytes) -> bool:
    return reply[3] & 15 == NXDOMAIN


def _any(_: bytes) -> bool:
    return True


def _import(namespace: str, name: str, ip: str) -> dict[str, Any]:
    return {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceImport",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "type": "ClusterSetIP" if ip else "Headless",
            **({"ips": [ip]} if ip else {}),
            "ports": [{"name": PORT_NAME, "protocol": "TCP", "port": PORT}],
        },
    }


def _slice(namespace: str, service: str, address: str) -> dict[str, Any]:
    labels = {
        "multicluster.kubernetes.io/service-name": service,
        "multicluster.kubernetes.io/source-cluster": "eu",
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": f"{service}-eu", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": PORT_NAME, "protocol": "TCP", "port": PORT}],
        "endpoints": _endpoints(address),
    }


def _endpoints(address: str) -> list[dict[str, Any]]:
    return [{"addresses": [address], "hostname": "web-0", "conditions": {"ready": True}}]
