"""Two hosts as network namespaces, and a wire between them that does what a test says.

The wire is ours: each host has a TUN device, and a thread carries packets from one to the other. So
loss, delay, another order and a smaller MTU need nothing of the kernel, and hold for UDP and TCP,
IPv4 and IPv6 alike. A test runs on one host, `theirs`; mcsdns is started on the other, `ours`.
"""

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

OURS, THEIRS = "192.0.2.1", "192.0.2.2"
OURS_6, THEIRS_6 = "fd00:2::1", "fd00:2::2"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_CLONE_NEWNET = 0x40000000
_MOST_OCTETS = 65_535
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


@dataclass(frozen=True)
class Faults:
    """What a wire does to packets of either direction."""

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Each packet takes so much longer at most: they come in another order."""
    most_octets: int = _MOST_OCTETS
    """Larger ones vanish, and nobody is told."""
    is_cut: bool = False


class Wire(threading.Thread):
    """Carries packets between two devices.

    Attributes:
        faults: may be replaced at any time.
        largest: octets of the largest packet that was carried. fragments, dropped: how many.
    """

    def __init__(self, ends: list[int]) -> None:
        super().__init__(daemon=True)
        self.faults = Faults()
        self.largest = self.fragments = self.dropped = 0
        self._ends = ends
        self._rng = random.Random(7)
        self._late: list[tuple[float, int, int, bytes]] = []
        self._wake = os.pipe()

    def run(self) -> None:
        numbers = iter(range(1 << 62))
        while True:
            wait_s = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            readable, _, _ = select.select([*self._ends, self._wake[0]], [], [], wait_s)
            if self._wake[0] in readable:
                return
            for at, end in enumerate(self._ends):
                if end in readable:
                    self._take(os.read(end, _MOST_OCTETS), self._ends[1 - at], next(numbers))
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(self._late)
                self._carry(packet, to)

    def _take(self, packet: bytes, to: int, number: int) -> None:
        faults = self.faults
        is_lost = faults.is_cut or len(packet) > faults.most_octets
        if is_lost or self._rng.random() < faults.loss:
            self.dropped += 1
            return
        late_s = faults.delay_s + self._rng.random() * faults.jitter_s
        if late_s:
            heapq.heappush(self._late, (time.monotonic() + late_s, number, to, packet))
        else:
            self._carry(packet, to)

    def _carry(self, packet: bytes, to: int) -> None:
        self.largest = max(self.largest, len(packet))
        if packet[0] >> 4 == 4:
            self.fragments += bool(int.from_bytes(packet[6:8], "big") & 0x3FFF)
        else:
            self.fragments += packet[6] == 44
        with contextlib.suppress(OSError):  # a device that is down
            os.write(to, packet)

    def end(self) -> None:
        os.write(self._wake[1], b"x")
        self.join()
        for each in (*self._ends, *self._wake):
            os.close(each)


class Hosts:
    """Both hosts and their wire. Raises OSError or CalledProcessError where there can be none."""

    def __init__(self, mtu: int = 1500) -> None:
        self._names = [f"mcsdns-{os.getpid()}-{which}" for which in ("ours", "theirs")]
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            ends = []
            for name, address, address_6 in zip(
                self._names, (OURS, THEIRS), (OURS_6, THEIRS_6), strict=True
            ):
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "delete", name)
                device, end = _tun()
                ends.append(end)
                _ip("link", "set", device, "netns", name)
                for words in (
                    ["link", "set", device, "name", "wire", "mtu", str(mtu)],
                    ["address", "add", f"{address}/24", "dev", "wire"],
                    ["address", "add", f"{address_6}/64", "dev", "wire", "nodad"],
                    ["link", "set", "lo", "up"],
                    ["link", "set", "wire", "up"],
                ):
                    _ip("-n", name, *words)
            self.wire = Wire(ends)
            self.wire.start()
            stack.callback(self.wire.end)
            stack.enter_context(_in_namespace(self._names[1]))
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def enter_ours(self) -> None:
        """Be on our host from now on: for a new process, before its program."""
        _enter(Path("/run/netns", self._names[0]))

    def on_ours(self, call: Callable[[], T]) -> T:
        """Call something in a thread that is on our host, and return what it returns."""
        found: list[T] = []

        def run() -> None:
            self.enter_ours()
            found.append(call())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert found, "it raised"
        return found[0]


@contextlib.contextmanager
def _in_namespace(name: str) -> Iterator[None]:
    """Have this thread, and the processes and threads that it starts, on a host."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(Path("/run/netns", name))
        yield
    finally:
        _setns(before)
        os.close(before)


def _enter(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        _setns(number)
    finally:
        os.close(number)


def _setns(number: int) -> None:
    if _libc.setns(number, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _tun() -> tuple[str, int]:
    """Make a TUN device; return its name and what reads and writes its packets."""
    number = os.open("/dev/net/tun", os.O_RDWR)
    try:
        made = fcntl.ioctl(
            number, _TUNSETIFF, struct.pack("16sH22x", b"mcsw%d", _IFF_TUN | _IFF_NO_PI)
        )
    except OSError:
        os.close(number)
        raise
    return made[:16].rstrip(b"\0").decode(), number


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
