"""What tests of several rooms share: servers as processes, questions over the wire, permissions."""

import datetime
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dnslib
import pytest

from tests import profiles as profiles
from tests.waiting import DEADLINE_S, WORKERS, wait_until

os.environ.setdefault("MCSDNS_ADMIN", "none")  # many servers run at once
os.environ.setdefault("MCSDNS_LAMEDUCK", "0")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # servers start in half the time where they may
READY = re.compile(
    r"ready: (?P<services>\d+) services, (?P<endpoints>\d+) endpoints from (?P<source>.+), "
    r"listening on (?P<addresses>.+)\n"
)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each processor: most tests wait for servers, half of the time or more."""
    return min(2 * len(os.sched_getaffinity(0)), WORKERS)


def ask(
    address: tuple[str, int],
    name: str,
    qtype: str = "A",
    *,
    tcp: bool = False,
    timeout_s: float = DEADLINE_S,
) -> dnslib.DNSRecord:
    """Ask with EDNS from a connected socket, which takes replies from that address alone."""
    request = dnslib.DNSRecord.question(name, qtype)
    request.add_ar(dnslib.EDNS0(udp_len=1232))
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.settimeout(timeout_s)
        sock.connect(address)
        wire = request.pack()
        if tcp:
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
            with sock.makefile("rb") as stream:
                reply = stream.read(int.from_bytes(stream.read(2), "big"))
        else:
            sock.send(wire)
            reply = sock.recv(65535)
    parsed = dnslib.DNSRecord.parse(reply)
    assert parsed.header.id == request.header.id
    return parsed


def rcode(reply: dnslib.DNSRecord) -> str:
    return str(dnslib.RCODE.get(reply.header.rcode))


def addresses(reply: dnslib.DNSRecord) -> list[str]:
    """The addresses in the answer, in order of their text."""
    return sorted(str(record.rdata) for record in reply.rr)


def cpu_s(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class ServeProcess:
    """One `mcsdns serve` with its output in files."""

    def __init__(self, folder: Path, arguments: list[str], **options: object) -> None:
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._started_s = time.monotonic()
        command = [sys.executable, "-W", "error", "-m", "mcsdns", "serve", *arguments]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=err,
                **options,  # type: ignore[call-overload]
            )

    @property
    def age_s(self) -> float:
        """How long ago it was started: nothing that it cached is older."""
        return time.monotonic() - self._started_s

    @property
    def out(self) -> str:
        """All of standard output so far."""
        return self._out.read_text()

    @property
    def log(self) -> str:
        """All of standard error so far."""
        return self._err.read_text()

    def wait_ready(self) -> "ServeProcess":
        """Wait for the ready line."""
        wait_until(lambda: self.out.endswith("\n") or self.process.poll() is not None, "ready")
        assert READY.fullmatch(self.out), (self.out, self.log)
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first socket, from the ready line."""
        ready = READY.fullmatch(self.out)
        assert ready is not None
        host, _, port = ready["addresses"].split(", ")[0].rpartition(":")
        return host.strip("[]"), int(port)

    def ask(self, name: str, qtype: str = "A", *, tcp: bool = False) -> dnslib.DNSRecord:
        """Ask the first socket about a name below the zone."""
        return ask(self.address, f"{name}.svc.clusterset.local", qtype, tcp=tcp)

    def wait_for(self, name: str, expected: list[str]) -> None:
        """Wait until a name has these addresses."""
        wait_until(lambda: addresses(self.ask(name)) == expected, f"{name} {expected}")

    def wait_log(self, text: str) -> None:
        """Wait until something is logged."""
        wait_until(lambda: text in self.log, f"log {text!r}")

    def logged_at(self, text: str) -> datetime.datetime:
        """When something was logged first."""
        line = next(line for line in self.log.splitlines() if text in line)
        return datetime.datetime.fromisoformat(line.split()[0])

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def child(self) -> int:
        """The process ID of the reader that is well at work, 0 where none is."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return next((int(pid) for pid in children.split() if cpu_s(int(pid)) > 0.25), 0)


Serve = Callable[..., ServeProcess]


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start `mcsdns serve`, on a free port of 127.0.0.1 unless told otherwise, or not told at all.

    Each is ended at the end, and may not have written a traceback.
    """
    started: list[ServeProcess] = []

    def start(
        *arguments: object, ready: bool = True, listen: bool = True, **options: object
    ) -> ServeProcess:
        texts = [str(argument) for argument in arguments]
        if listen and "--listen" not in texts:
            texts += ["--listen", "127.0.0.1:0"]
        process = ServeProcess(tmp_path_factory.mktemp("serve"), texts, **options)
        started.append(process)
        return process.wait_ready() if ready else process

    yield start
    for process in started:
        process.end()
        assert "Traceback" not in process.log, process.log
        assert "Warning" not in process.log, process.log


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a cluster, which is not to be asked."""
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setattr("mcsdns.sources.kubernetes.auth.DEFAULT_KUBECONFIG", "/nowhere/kubeconfig")


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Be a user whom file permissions hold off."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def readable(sock: socket.socket, timeout_s: float) -> bool:
    """Say whether something arrives within a time."""
    return bool(select.select([sock], [], [], timeout_s)[0])
