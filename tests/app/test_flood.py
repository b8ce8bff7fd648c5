"""A whole server under what only a hostile peer does: it answers on, as small as it was."""

import contextlib
import random
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcsdns import dns
from mcsdns.dns import name as names
from tests.paths import EXAMPLES as MANIFESTS
from tests.waiting import DEADLINE_S, wait_until

NAME = names.wire_from_text("rebel-base.default.svc.clusterset.local")
QUERY = dns.write_query(0x1234, NAME, 1)
GROWTH_KB = 16_384


class Server:
    """A `mcsdns serve` of its own."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "mcsdns", "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, "--manifests", str(MANIFESTS), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])

    def resident_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=DEADLINE_S)[1]


@contextlib.contextmanager
def serving(*flags: str) -> Iterator[Server]:
    server = Server(*flags)
    try:
        yield server
        log = server.stop()
        assert server.process.returncode == 0
        assert "Traceback" not in log
        assert "ERROR" not in log
    finally:
        server.process.kill()
        server.process.communicate()


def assert_answers(server: Server) -> None:
    wait_until(lambda: answers_over_udp(server), "an answer over UDP")
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
        sock.sendall(len(QUERY).to_bytes(2, "big") + QUERY)
        assert sock.recv(4096)[2:4] == QUERY[:2]


def answers_over_udp(server: Server) -> bool:
    """Ask once: in a flood the kernel drops what finds no room."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", server.port))
        sock.send(QUERY)
        try:
            return sock.recv(4096)[:2] == QUERY[:2]
        except TimeoutError:
            return False


def most_files() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_idle_connections_cost_no_more_than_the_limit_allows() -> None:
    wanted = min(10_000, most_files() - 200)
    with serving("--tcp-connections", "1000", "--tcp-idle", "3600") as server:
        resident: list[int] = []
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                for number in range(wanted):
                    address = ("127.0.0.1", server.port)
                    sock = stack.enter_context(socket.create_connection(address))
                    if number % 3 == 0:
                        sock.sendall(b"\0\x40half a message")
                assert_answers(server)
                resident.append(server.resident_kb())
            assert_answers(server)
        assert resident[1] - resident[0] < GROWTH_KB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_flood_of_noise_and_unknown_names_leaves_memory_flat() -> None:
    noise = random.Random(7)
    with serving() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.setblocking(False)
        resident = 0
        for turn in range(40):
            for _ in range(1000):
                label = noise.randbytes(6).hex().encode()
                unknown = dns.write_query(noise.getrandbits(16), b"\x0c" + label + NAME, 1)
                damaged = bytearray(unknown)
                damaged[noise.randrange(len(damaged))] = noise.getrandbits(8)
                for datagram in (unknown, bytes(damaged), noise.randbytes(noise.randrange(600))):
                    with contextlib.suppress(BlockingIOError):
                        sock.send(datagram)
                with contextlib.suppress(BlockingIOError):
                    while sock.recv(4096):
                        pass
            assert_answers(server)
            if turn == 10:
                resident = server.resident_kb()
        assert server.resident_kb() - resident < GROWTH_KB


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_connections_that_lie_about_lengths_end_and_others_go_on() -> None:
    noise = random.Random(8)
    with serving() as server:
        for number in range(300):
            with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
                lie = noise.randrange(70_000) & 0xFFFF
                with contextlib.suppress(ConnectionError):
                    sock.sendall(lie.to_bytes(2, "big") + noise.randbytes(noise.randrange(3000)))
            if number % 50 == 0:
                assert_answers(server)
        assert_answers(server)
