"""Upstreams over TLS and TCP, served by Unbound."""

from pathlib import Path

import pytest

from tests.certificates import Authority, Certificate, authority
from tests.conftest import Serve, ServeProcess
from tests.forwarding.digging import dig
from tests.forwarding.servers import Daemon, Servers
from tests.waiting import free_port

__all__ = ["authority"]

NAME = "dns.example.test"


@pytest.fixture(scope="package")
def certificate(authority: Authority) -> Certificate:
    return authority.server(f"DNS:{NAME}", "IP:127.0.0.1")


@pytest.fixture(scope="package")
def tls(lasting: Servers, certificate: Certificate) -> tuple[Daemon, int]:
    """Unbound, and the port on which it speaks TLS."""
    port = free_port()
    text = " ".join("x" * 200 for _ in range(1))
    records = "".join(
        f"local-data: 'large.example.test. 300 TXT \"{number}{text}\"'\n" for number in range(40)
    )
    daemon = lasting.unbound(
        f"interface: 127.0.0.1@{port}\ntls-port: {port}\n"
        f'tls-service-pem: "{certificate.cert}"\ntls-service-key: "{certificate.key}"\n'
        "local-zone: example.test. static\n"
        f"local-data: 'www.example.test. 300 A 192.0.2.1'\n{records}"
    )
    return daemon, port


def trusting(
    serve: Serve, ca: Path | None, manifest: Path, upstream: str, *flags: object
) -> ServeProcess:
    """Start mcsdns with an authority, or the system's."""
    authority = () if ca is None else ("--upstream-ca", ca)
    return serve("--manifests", manifest, "--upstream", upstream, *authority, *flags)


@pytest.mark.parametrize("behind", [f"#{NAME}", ""])
def test_server_with_the_right_certificate_is_asked(
    serve: Serve, authority: Authority, manifest: Path, tls: tuple[Daemon, int], behind: str
) -> None:
    upstream = f"tls://127.0.0.1:{tls[1]}{behind}"
    server = trusting(serve, authority.ca.cert, manifest, upstream)
    assert_served(server, tls[0])


def test_server_is_asked_over_tcp_alone(
    serve: Serve, manifest: Path, tls: tuple[Daemon, int]
) -> None:
    server = trusting(serve, None, manifest, f"tcp://{tls[0].text}")
    assert_served(server, tls[0])


def assert_served(server: ServeProcess, upstream: Daemon) -> None:
    for way in ((), ("+tcp",), ("+noedns",)):
        for name, qtype in (("www", "A"), ("large", "TXT"), ("no", "A")):
            direct = dig(upstream.address, f"{name}.example.test", qtype, *way)
            seen = dig(server.address, f"{name}.example.test", qtype, *way)
            assert (seen.status, seen.contents()) == (direct.status, direct.contents())
    assert "WARNING" not in server.log


@pytest.mark.parametrize(
    ("behind", "is_trusted", "why"),
    [
        ("#other.example.test", True, "certificate is not valid for 'other.example.test'"),
        (f"#{NAME}", False, "certificate refused"),
    ],
)
def test_server_with_a_wrong_certificate_is_not_believed(
    *,
    serve: Serve,
    authority: Authority,
    manifest: Path,
    tls: tuple[Daemon, int],
    behind: str,
    is_trusted: bool,
    why: str,
) -> None:
    ca = authority.ca.cert if is_trusted else None
    upstream = f"tls://127.0.0.1:{tls[1]}{behind}"
    server = trusting(serve, ca, manifest, upstream)
    for number in range(5):
        dug = dig(server.address, f"n{number}.example.test")
        assert (dug.status, dug.data) == ("SERVFAIL", [])
        assert dug.errors.keys() & {22, 23}
    lines = [line for line in server.log.splitlines() if upstream in line]
    assert any(why in line for line in lines), server.log
    assert len(lines) <= 2, server.log
