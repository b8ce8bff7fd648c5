"""`mcsdns serve` where something is wrong with the network, the disk, the clock or the limits."""

import contextlib
import itertools
import re
import socketserver
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio.from_thread
import dnslib
import pytest
import yaml

from tests.conftest import Serve, ServeProcess, ask
from tests.faults.network import OURS, THEIRS, Hosts
from tests.scripted import FakeApi, Plain
from tests.waiting import free_port

WEB, WEB_ADDRESS = "web.shop.svc.clusterset.local", "10.0.0.1"
MANY, ENDPOINTS = "many.shop.svc.clusterset.local", 200
PROBES_PORT = 8080
_IMPORT = {"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport"}

Start = Callable[..., ServeProcess]


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Two hosts; the parameter is the MTU of their devices. The test is on `theirs`."""
    try:
        made = Hosts(getattr(request, "param", 1500))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no hosts (they want root, ip of iproute2, /dev/net/tun): {error}")
    yield made
    made.close()


@pytest.fixture
def start(hosts: Hosts, serve: Serve) -> Start:
    """Start mcsdns on our host, with probes."""

    def on_ours(*arguments: object, ready: bool = True) -> ServeProcess:
        given = ("--listen", f"{OURS}:53", "--probes", f"{OURS}:{PROBES_PORT}", *arguments)
        return serve(*given, ready=ready, preexec_fn=hosts.enter_ours)

    return on_ours


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """`web.shop` with one address, `many.shop` with 200 endpoints."""
    path = tmp_path / "services.yaml"
    path.write_text(yaml.safe_dump_all([web(), *many()]))
    return path


def web(name: str = "web", address: str = WEB_ADDRESS) -> Plain:
    metadata = {"name": name, "namespace": "shop"}
    return {**_IMPORT, "metadata": metadata, "spec": {"type": "ClusterSetIP", "ips": [address]}}


def many(count: int = ENDPOINTS) -> list[Plain]:
    """A headless service and its slice."""
    metadata = {"name": "many", "namespace": "shop"}
    labels = {
        "multicluster.kubernetes.io/service-name": "many",
        "multicluster.kubernetes.io/source-cluster": "eu",
    }
    return [
        {**_IMPORT, "metadata": metadata, "spec": {"type": "Headless"}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [f"10.1.{n >> 8}.{n & 255}"]} for n in range(count)],
        },
    ]


class Upstream:
    """Answers `n<number>.example.test` with 198.18.0.<number>, over UDP and TCP."""

    def __init__(self, host: str, ttl_s: int = 60) -> None:
        self.ttl_s = ttl_s
        self.asked: Counter[str] = Counter()
        answer = self.answer

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                message, sock = self.request
                sock.sendto(answer(message), self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while head := self.rfile.read(2):
                    reply = answer(self.rfile.read(int.from_bytes(head, "big")))
                    self.wfile.write(len(reply).to_bytes(2, "big") + reply)

        socketserver.TCPServer.allow_reuse_address = True
        address = (host, free_port())
        self.text = f"{host}:{address[1]}"
        self._servers = [
            socketserver.UDPServer(address, Datagram),
            socketserver.ThreadingTCPServer(address, Stream),
        ]
        self._servers[1].daemon_threads = True  # type: ignore[attr-defined]
        for each in self._servers:
            threading.Thread(target=each.serve_forever, daemon=True).start()

    def answer(self, message: bytes) -> bytes:
        request = dnslib.DNSRecord.parse(message)
        reply = request.reply(ra=1, aa=0)
        self.asked[str(request.q.qname)] += 1
        number = re.match(r"n(\d+)\.", str(request.q.qname))
        if number and request.q.qtype == dnslib.QTYPE.A:
            address = dnslib.A(f"198.18.0.{number[1]}")
            reply.add_answer(dnslib.RR(request.q.qname, ttl=self.ttl_s, rdata=address))
        else:
            times = (1, 1, 1, 1, 1)
            reply.add_auth(
                dnslib.RR(".", dnslib.QTYPE.SOA, ttl=1, rdata=dnslib.SOA(".", ".", times))
            )
        return bytes(reply.pack())

    def close(self) -> None:
        for each in self._servers:
            each.shutdown()
            each.server_close()


@pytest.fixture
def upstream(hosts: Hosts) -> Iterator[Upstream]:
    made = Upstream(THEIRS)
    yield made
    made.close()


class Api:
    """A scripted API server in a thread."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, api: FakeApi) -> None:
        self._portal, self.api = portal, api

    def put(self, *things: Plain) -> None:
        for each in things:
            self._portal.call(self.api.put, each)


@contextlib.contextmanager
def scripted(host: str) -> Iterator[Api]:
    """An API server with `web.shop`."""
    with anyio.from_thread.start_blocking_portal() as portal:
        api = FakeApi(host)
        with portal.wrap_async_context_manager(api):
            made = Api(portal, api)
            made.put(web())
            yield made


def ask_until_answered(name: str, *, tcp: bool = False, host: str = OURS) -> dnslib.DNSRecord:
    """Ask as a client does, again and again."""
    for _ in itertools.count():
        with contextlib.suppress(OSError, EOFError, dnslib.DNSError):
            return ask((host, 53), name, tcp=tcp, timeout_s=1)
    raise AssertionError


def metrics(hosts: Hosts) -> dict[str, float]:
    """What /metrics says, asked for on our host."""
    url = f"http://{OURS}:{PROBES_PORT}/metrics"

    def read() -> str:
        with urllib.request.urlopen(url, timeout=30) as response:
            return str(response.read().decode())

    pairs = (line.rpartition(" ") for line in hosts.on_ours(read).splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in pairs}


def warnings(server: ServeProcess) -> list[str]:
    """The lines of the log that are more than news."""
    return [line for line in server.log.splitlines() if " INFO " not in line]
