"""Questions at a steady rate from many ports, and what became of each."""

import itertools
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import dnslib

_PORTS = 16
_STEP_S = 0.005


class Load:
    """Asks from a thread; each question is asked once and awaited for 5 s at the end.

    `seen` counts rcodes; `longest_s` is the longest that one reply took.
    """

    def __init__(
        self, address: tuple[str, int], rate: int, name: Callable[[int], str], qtype: int = 1
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.sent = 0
        self.longest_s = 0.0
        self._rate, self._name, self._qtype = rate, name, qtype
        self._waiting: dict[tuple[int, bytes], float] = {}
        self._socks: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        for number in range(_PORTS):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.connect(address)
            sock.setblocking(False)
            self._socks.append(sock)
            self._selector.register(sock, selectors.EVENT_READ, number)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def missing(self) -> int:
        return len(self._waiting)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        for sock in self._socks:
            sock.close()
        self._selector.close()

    def _run(self) -> None:
        begin_s = time.monotonic()
        numbers = itertools.count()
        while not self._stopped.is_set():
            due = int((time.monotonic() - begin_s) * self._rate)
            while self.sent < due:
                self._send(next(numbers))
            self._receive(_STEP_S)
        end_s = time.monotonic() + 5
        while self._waiting and time.monotonic() < end_s:
            self._receive(_STEP_S)

    def _send(self, number: int) -> None:
        port, message_id = number % _PORTS, (number // _PORTS & 0xFFFF).to_bytes(2, "big")
        question = question_behind_id(self._name(number), self._qtype)
        self._waiting[port, message_id] = time.monotonic()
        self._socks[port].send(message_id + question)
        self.sent += 1

    def _receive(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            sock = self._socks[key.data]
            while True:
                try:
                    reply = sock.recv(4096)
                except BlockingIOError:
                    break
                began_s = self._waiting.pop((key.data, reply[:2]), None)
                if began_s is not None:
                    self.longest_s = max(self.longest_s, time.monotonic() - began_s)
                    self.seen[str(dnslib.RCODE.get(reply[3] & 0xF))] += 1


def question_behind_id(name: str, qtype: int) -> bytes:
    """Write a question behind its ID: RD, no EDNS."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0" + qtype.to_bytes(2, "big") + b"\0\1"
