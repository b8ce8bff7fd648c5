"""Who may have names outside the zone looked up, seen from real addresses."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.forwarding.conftest import OUR_ADDRESS, OURS, Forward
from tests.forwarding.digging import Dug, dig
from tests.forwarding.servers import Daemon, Servers, need
from tests.forwarding.zones import OTHER
from tests.waiting import DEADLINE_S, wait_until

PUBLIC = "203.0.113.9"


@pytest.fixture
def origin(servers: Servers) -> Daemon:
    return servers.knot({"other.test": OTHER})


def test_loopback_may_ask(forward: Forward, origin: Daemon) -> None:
    server = forward(origin, flags=("--listen", "127.0.0.1:0"))
    assert dig(server.address, "www.other.test").data == ["198.18.0.80"]
    server = forward(origin, flags=("--listen", "[::1]:0"))
    for way in ((), ("+tcp",)):
        assert dig(server.address, "www.other.test", "A", *way).data == ["198.18.0.80"]
    assert "not looked up" not in server.log


@pytest.mark.parametrize(
    ("listen", "prefix"), [("127.0.0.1:0", "127.0.0.0/24"), ("[::1]:0", "::/64")]
)
def test_who_is_not_named_is_refused_and_told_once(
    forward: Forward, origin: Daemon, listen: str, prefix: str
) -> None:
    server = forward(origin, flags=("--listen", listen, "--allow", "203.0.113.0/24"))
    for way in ((), ("+tcp",), ("+dnssec",)):
        for name in ("www.other.test", "www.other.test", "other.test"):
            assert_refused(dig(server.address, name, "A", *way))
    assert dig(server.address, "www.other.test", "A", "+noedns").status == "REFUSED"
    ours = dig(server.address, OURS)
    assert (ours.status, ours.data) == ("NOERROR", [OUR_ADDRESS])
    line = f"names outside the zone are not looked up for {prefix}; to allow it: --allow {prefix}"
    assert server.log.count(line) == 1
    assert server.log.count("not looked up") == 1


def assert_refused(dug: Dug) -> None:
    assert (dug.status, dug.data) == ("REFUSED", [])
    assert 18 in dug.errors


class Networks:
    """Two hosts as network namespaces: 192.0.2.1 here, there 192.0.2.2 and a public address."""

    def __init__(self, name: str) -> None:
        self.here, self.there = f"{name}-a", f"{name}-b"

    def run(self, name: str, *command: str) -> "subprocess.CompletedProcess[str]":
        prefix = ["ip", "netns", "exec", name]
        return subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)

    def make(self) -> None:
        a, b = self.here, self.there
        for words in (
            *(["netns", "add", each] for each in (a, b)),
            *(["-n", each, "link", "set", "lo", "up"] for each in (a, b)),
            ["-n", a, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", b],
            ["-n", a, "address", "add", "192.0.2.1/24", "dev", "v0"],
            ["-n", b, "address", "add", "192.0.2.2/24", "dev", "v0"],
            ["-n", b, "address", "add", f"{PUBLIC}/32", "dev", "lo"],
            *(["-n", each, "link", "set", "v0", "up"] for each in (a, b)),
            ["-n", a, "route", "add", "203.0.113.0/24", "via", "192.0.2.2"],
        ):
            subprocess.run([need("ip"), *words], check=True, capture_output=True)

    def remove(self) -> None:
        for name in (self.here, self.there):
            subprocess.run([need("ip"), "netns", "delete", name], check=False, capture_output=True)

    def status(self, source: str) -> str:
        """Ask from the other host, from one of its addresses; of our status the word."""
        given = ["@192.0.2.1", "-p", "53", "-b", source, "+tries=1", "+timeout=30"]
        text = self.run(self.there, need("dig"), *given, "www.other.test").stdout
        return text.partition("status: ")[2].partition(",")[0]


@pytest.fixture
def networks() -> Iterator[Networks]:
    """Skips where none can be made."""
    made = Networks(f"mcsdns-allow-{os.getpid()}")
    try:
        made.make()
    except (OSError, subprocess.CalledProcessError) as error:
        made.remove()
        pytest.skip(f"no network namespaces can be made: {error}")
    yield made
    made.remove()


@contextmanager
def serving(networks: Networks, manifest: Path, folder: Path, *flags: str) -> Iterator[Path]:
    """Serve in the first network with an upstream that refuses connections; yields the log."""
    command = [sys.executable, "-m", "mcsdns", "serve", "--manifests", str(manifest)]
    command += ["--listen", "192.0.2.1:53", "--upstream", "127.0.0.1:9", *flags]
    out, log = folder / "out", folder / "log"
    with out.open("w") as stdout, log.open("w") as stderr:
        prefix = ["ip", "netns", "exec", networks.here]
        process = subprocess.Popen([*prefix, *command], stdout=stdout, stderr=stderr)
    try:
        wait_until(lambda: "ready" in out.read_text(), "ready")
        yield log
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_neighbours_may_ask_and_the_world_may_not(
    networks: Networks, manifest: Path, tmp_path: Path
) -> None:
    with serving(networks, manifest, tmp_path) as log:
        assert networks.status("192.0.2.2") == "SERVFAIL"
        assert networks.status(PUBLIC) == "REFUSED"
        assert networks.status(PUBLIC) == "REFUSED"
        flags = "--allow default --allow 203.0.113.0/24"
        assert log.read_text().count(f"for 203.0.113.0/24; to allow it: {flags}\n") == 1
    with serving(networks, manifest, tmp_path, *flags.split()):
        assert networks.status("192.0.2.2") == "SERVFAIL"
        assert networks.status(PUBLIC) == "SERVFAIL"
    with serving(networks, manifest, tmp_path, "--allow", "203.0.113.0/24"):
        assert networks.status("192.0.2.2") == "REFUSED"
        assert networks.status(PUBLIC) == "SERVFAIL"
