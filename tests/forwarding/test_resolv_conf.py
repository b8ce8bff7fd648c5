"""Upstreams from a resolv.conf, which knows only port 53."""

import random
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.forwarding.digging import dig
from tests.forwarding.servers import Daemon, Servers

ZONE = "$ORIGIN other.test.\n@ 1 SOA ns h 1 7200 900 1209600 1\n@ 1 NS ns\nwww 1 A {}\n"
On53 = Callable[[str], tuple[str, Daemon]]


@pytest.fixture
def free_53() -> Callable[[], str]:
    """Find a loopback address whose port 53 we may have."""

    def find() -> str:
        rng = random.SystemRandom()
        for _ in range(20):
            host = f"127.{rng.randrange(64, 250)}.{rng.randrange(1, 250)}.{rng.randrange(1, 250)}"
            try:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as sock:
                        sock.bind((host, 53))
            except PermissionError:
                pytest.skip("port 53 is for root alone here")
            except OSError:
                continue
            return host
        pytest.skip("port 53 of all of 127.0.0.0/8 is in use")

    return find


@pytest.fixture
def on_53(servers: Servers, free_53: Callable[[], str]) -> On53:
    """Start a server on port 53 that knows one address of `www.other.test`."""

    def start(address: str) -> tuple[str, Daemon]:
        host = free_53()
        return host, servers.knot({"other.test": ZONE.format(address)}, host=host, port=53)

    return start


def test_upstreams_change_with_the_file_while_it_runs(
    serve: Serve, on_53: On53, manifest: Path, tmp_path: Path
) -> None:
    (one, first), (two, _) = on_53("192.0.2.1"), on_53("192.0.2.2")
    path = tmp_path / "resolv.conf"
    path.write_text(f"search example.test\nnameserver {one}\noptions ndots:5\n")
    server = serve("--manifests", manifest, "--upstream-from", path)
    assert dig(server.address, "www.other.test").data == ["192.0.2.1"]
    (tmp_path / "new").write_text(f"nameserver {two}\n")
    (tmp_path / "new").rename(path)
    server.wait_log(f"INFO upstreams: {two}:53")
    first.end()
    assert dig(server.address, "no.other.test").status == "NXDOMAIN"


def test_itself_in_the_file_is_left_out_and_told(
    serve: Serve, on_53: On53, free_53: Callable[[], str], manifest: Path, tmp_path: Path
) -> None:
    (behind, _), own = on_53("192.0.2.1"), free_53()
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {own}\nnameserver {behind}\n")
    flags = ("--upstream-from", path, "--listen", f"{own}:53")
    server = serve("--manifests", manifest, *flags)
    for number in range(20):
        assert dig(server.address, f"n{number}.other.test").status == "NXDOMAIN"
    line = f"resolv.conf line 1 is passed over: {own}:53 is this server itself"
    assert server.log.count(line) == 1
    assert f"INFO upstreams: {behind}:53\n" in server.log


def test_file_that_names_only_us_leaves_nobody_to_ask(
    serve: Serve, free_53: Callable[[], str], manifest: Path, tmp_path: Path
) -> None:
    own = free_53()
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver {own}\n")
    server = serve("--manifests", manifest, "--upstream-from", path, "--listen", f"{own}:53")
    dug = dig(server.address, "www.other.test")
    assert dug.status == "SERVFAIL"
    assert dug.errors
    assert "it names no server that can be asked; no server is known yet" in server.log
