"""So many questions in flight at any time, and what became of each."""

import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

import dnslib

from tests.waiting import DEADLINE_S

_PORTS = 16
_LOOK_S = 0.05


class Load:
    """Asks from a thread, with `in_flight` questions at any time; each is asked once.

    The next one is sent when a reply comes, so a machine that is slow is asked less, and the
    kernel need drop nothing. `seen` counts rcodes.
    """

    def __init__(
        self, address: tuple[str, int], in_flight: int, name: Callable[[int], str], qtype: int = 1
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.sent = 0
        self._in_flight, self._name, self._qtype = in_flight, name, qtype
        self._waiting: set[tuple[int, bytes]] = set()
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

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for sock in self._socks:
            sock.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            while len(self._waiting) < self._in_flight:
                self._send(self.sent)
            self._receive()
        deadline_s = time.monotonic() + DEADLINE_S
        while self._waiting and time.monotonic() < deadline_s:
            self._receive()

    def _send(self, number: int) -> None:
        port, message_id = number % _PORTS, (number // _PORTS & 0xFFFF).to_bytes(2, "big")
        question = question_behind_id(self._name(number), self._qtype)
        self._waiting.add((port, message_id))
        self._socks[port].send(message_id + question)
        self.sent += 1

    def _receive(self) -> None:
        for key, _ in self._selector.select(_LOOK_S):
            while True:
                try:
                    reply = self._socks[key.data].recv(4096)
                except BlockingIOError:
                    break
                if (key.data, reply[:2]) in self._waiting:
                    self._waiting.remove((key.data, reply[:2]))
                    self.seen[str(dnslib.RCODE.get(reply[3] & 0xF))] += 1


def question_behind_id(name: str, qtype: int) -> bytes:
    """Write a question behind its ID: RD, no EDNS."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0" + qtype.to_bytes(2, "big") + b"\0\1"
