"""A whole server under what only a hostile peer does: it answers on, as small as it was."""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
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

    def __init__(self, *flags: str, files: int = 0) -> None:
        command = [sys.executable, "-m", "mcsdns", "serve", "--listen", "127.0.0.1:0"]
        if files:
            command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            [*command, "--manifests", str(MANIFESTS), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(":")[2])
        self.log = ""

    def resident_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.log = self.process.communicate(timeout=DEADLINE_S)[1]


@contextlib.contextmanager
def serving(*flags: str, files: int = 0) -> Iterator[Server]:
    server = Server(*flags, files=files)
    try:
        yield server
        server.stop()
        assert server.process.returncode == 0
        assert "Traceback" not in server.log
        assert "ERROR" not in server.log
    finally:
        server.process.kill()
        server.process.communicate()


def assert_answers(server: Server) -> None:
    wait_until(lambda: answers_over_udp(server), "an answer over UDP")
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as sock:
        assert asked_over_tcp(sock)[:2] == QUERY[:2]


def answers_over_udp(server: Server, query: bytes = QUERY) -> bool:
    """Ask once: in a flood the kernel drops what finds no room."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", server.port))
        sock.send(query)
        try:
            reply = sock.recv(4096)
        except TimeoutError:
            return False
        return (reply[:2], reply[3] & 15) == (query[:2], 0)


def asked_over_tcp(sock: socket.socket, query: bytes = QUERY) -> bytes:
    sock.settimeout(DEADLINE_S)
    sock.sendall(len(query).to_bytes(2, "big") + query)
    size = int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big")
    reply = sock.recv(size, socket.MSG_WAITALL)
    assert len(reply) == size
    return reply


def elsewhere(number: int) -> bytes:
    """A question that is forwarded, and that nobody asked before."""
    name = names.wire_from_text(f"n{number}.example")
    return dns.write_query(number & 0xFFFF, name, 1, rd=True)


@contextlib.contextmanager
def upstream() -> Iterator[str]:
    """An upstream that answers everything with one address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    query, peer = sock.recvfrom(4096)
                    if not query:
                        return
                    question = query[12 : query.index(0, 12) + 5]
                    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
                    head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
                    sock.sendto(head + question + record, peer)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"127.0.0.1:{sock.getsockname()[1]}"
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_more_connections_than_file_descriptors_take_none_from_udp_tcp_and_forwarding() -> None:
    with (
        upstream() as at,
        serving("--upstream", at, "--tcp-idle", "3600", files=256) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(2 * 256):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        for number in range(0, 300, 2):
            assert_answers(server)
            over_udp, over_tcp = elsewhere(number), elsewhere(number + 1)
            wait_until(partial(answers_over_udp, server, over_udp), "an answer over UDP")
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                reply = asked_over_tcp(sock, over_tcp)
                assert (reply[:2], reply[3] & 15) == (over_tcp[:2], 0)
        assert server.files() <= 256


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, prlimit(2)")
def test_without_a_file_descriptor_left_what_is_open_serves_and_who_connects_waits() -> None:
    with (
        upstream() as at,
        serving("--upstream", at, "--tcp-idle", "3600") as server,
        contextlib.ExitStack() as stack,
    ):
        address = ("127.0.0.1", server.port)
        known = stack.enter_context(socket.create_connection(address))
        for number in range(200):  # opens sockets to the upstream
            assert asked_over_tcp(known, elsewhere(number))[3] & 15 == 0
        before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        none_left = (server.files(), before[1])
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, none_left)
        waiting = [stack.enter_context(socket.create_connection(address)) for _ in range(20)]
        for number in range(200, 400):
            assert asked_over_tcp(known)[:2] == QUERY[:2]
            assert asked_over_tcp(known, elsewhere(number))[3] & 15 == 0
            query = elsewhere(number + 1000)
            wait_until(partial(answers_over_udp, server, query), "an answer over UDP")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
        for sock in waiting:
            assert asked_over_tcp(sock)[:2] == QUERY[:2]
    assert server.log.count("no connection can be accepted") == 1
