"""What docs/troubleshooting.md shows of servers is what they say."""

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.diagnostics.check.conftest import PAGE, READ, Check, Guarded, Report
from tests.diagnostics.check.test_stub_block import NOTHING_BEHIND, WEB, OneTransport, stub, text_of
from tests.forwarding.servers import Servers
from tests.kube import ApiServers
from tests.waiting import DEADLINE_S, free_port, wait_until

TROUBLE = PAGE.parent / "troubleshooting.md"
API, DNS, SERVICE = "https://10.96.0.1:443", "10.96.0.10:53", "10.96.0.53:53"


def assert_shown(text: str, here: dict[str, str]) -> None:
    """Find the text on the page, where other addresses stand than here."""
    for ours, theirs in here.items():
        text = text.replace(ours, theirs)
    assert text in TROUBLE.read_text(), f"docs/troubleshooting.md lacks:\n{text}"


def lines(found: Report, number: int) -> str:
    return "\n".join(found.out.splitlines()[:number])


def readiness(port: int) -> tuple[int, str]:
    """Status and body of /readyz."""
    url = f"http://127.0.0.1:{port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            return error.code, error.read().decode()


def wait_readiness(port: int, wanted: Callable[[int, str], bool]) -> str:
    """Wait until /readyz is as wanted; return its body."""
    bodies: list[str] = []

    def look() -> bool:
        with contextlib.suppress(OSError):
            status, body = readiness(port)
            bodies.append(body)
            return wanted(status, body)
        return False

    wait_until(look, "the readiness that is wanted")
    return bodies[-1]


def test_no_permission(guarded: Guarded, check: Check, serve: Serve) -> None:
    guarded.permit(account=[])
    account, port = guarded.kubeconfig("account-token"), free_port()
    serve("--kubeconfig", account, "--admin", f"127.0.0.1:{port}", ready=False)
    body = wait_readiness(port, lambda status, body: body.count("is forbidden") == 2)
    assert_shown("\n".join(body.splitlines()[:3]), {guarded.server.url: API})
    found = check("--kubeconfig", guarded.admin, "--service-account", "mcsdns:mcsdns")
    assert_shown(lines(found, 2), {})
    guarded.permit(account=READ)
    assert wait_readiness(port, lambda status, _: status == 200) == "ready\n"


def test_missing_crd(apiservers: ApiServers, check: Check, serve: Serve) -> None:
    apiserver, port = apiservers(crds=False, builtin_slices=True), free_port()
    serve("--kubeconfig", apiserver.kubeconfig, "--admin", f"127.0.0.1:{port}", ready=False)
    body = wait_readiness(port, lambda status, body: "install the CRDs" in body)
    assert_shown(body.rstrip("\n"), {apiserver.url: API})
    assert_shown(lines(check("--kubeconfig", apiserver.kubeconfig), 2), {apiserver.url: API})


@pytest.fixture
def objects(manifests: Callable[[str], Path]) -> Path:
    return manifests(WEB)


def test_missing_stub_block(check: Check, servers: Servers, objects: Path) -> None:
    dns = servers.coredns(NOTHING_BEHIND)
    found = check("--manifests", objects, "--cluster-dns", dns.text)
    assert_shown(lines(found, 3), {dns.text: DNS})


@pytest.fixture
def only_udp(serve: Serve, objects: Path) -> Iterator[str]:
    """The address of a Service whose TCP port was forgotten."""
    relay = OneTransport(serve("--manifests", objects).address, socket.SOCK_DGRAM)
    yield f"127.0.0.1:{relay.port}"
    relay.close()


def test_service_without_tcp(check: Check, servers: Servers, objects: Path, only_udp: str) -> None:
    """The stub block that we print, with its cache: asking the cluster DNS alone shows nothing."""
    dns = servers.coredns(stub(only_udp, "prefer_udp"))
    given = ("--manifests", objects, "--cluster-dns", dns.text)
    found = check(*given, "--server", only_udp)
    assert_shown(lines(found, 3), {only_udp: SERVICE})


def test_loop(check: Check, servers: Servers, serve: Serve, objects: Path) -> None:
    port, dns_port = free_port(), free_port()
    back = f"127.0.0.1:{dns_port}"
    server = serve("--manifests", objects, "--listen", f"127.0.0.1:{port}", "--upstream", back)
    dns = servers.coredns(f".:PORT {{\n    forward . 127.0.0.1:{port}\n}}\n", port=dns_port)
    ours = text_of(server.address)
    found = check("--manifests", objects, "--server", ours, "--cluster-dns", dns.text)
    assert_shown(lines(found, 3), {ours: SERVICE})
