"""Sends questions for ever new names at a steady rate, whatever comes back, from its own process.

dnsperf cannot: with nothing answered it sends less than 2,000 a second, however many it is told.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import multiprocessing
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from bench.load import HOST
from bench.measure import pinned
from bench.queries import plain_message

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TURN_S = 0.001
MOST_IN_A_TURN = 3  # times what is due: one who was held up does not send all of it at once
LAST_REPLIES_S = 2.0
RCODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
NUMBER = b"00000000"
FIRST_LABEL = 13  # the number's place, right after the header and the length of the label


class Flooded(msgspec.Struct, frozen=True):
    """How many were sent, in how many seconds, and what came back by rcode."""

    sent: int
    seconds: float
    rcodes: dict[str, int]

    @property
    def qps(self) -> float:
        """The rate that it came to."""
        return self.sent / self.seconds

    @property
    def unanswered(self) -> int:
        """Questions without a reply."""
        return self.sent - sum(self.rcodes.values())


def flood(port: int, core: int, zone: str, qps: int, seconds: float) -> Flooded:
    """Send from a process on a core; return when the last replies had their time."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    arguments = (port, core, zone, qps, seconds, theirs)
    process = context.Process(target=_flood, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        found: Flooded = ours.recv()
    finally:
        process.terminate()
        process.join()
    return found


def _flood(port: int, core: int, zone: str, qps: int, seconds: float, control: Connection) -> None:
    gc.disable()
    with pinned(core), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.connect((HOST, port))
        client.setblocking(False)
        control.send(_Sending(client, zone).run(qps, seconds))


class _Sending:
    """The process's own: a message whose first label is a number, and the replies by rcode."""

    def __init__(self, client: socket.socket, zone: str) -> None:
        self._client = client
        self._message = bytearray(plain_message((f"{NUMBER.decode()}.{zone}", "A")))
        self._sent = 0
        self._rcodes: collections.Counter[int] = collections.Counter()

    def run(self, qps: int, seconds: float) -> Flooded:
        began = now = time.monotonic()
        most = int(MOST_IN_A_TURN * qps * TURN_S)
        owed = 0.0
        while (now := time.monotonic()) - began < seconds:
            due = int((now - began) * qps - owed) - self._sent
            owed += max(0, due - most)
            self._send(min(due, most))
            self._receive(TURN_S)
        lasted_s = now - began
        deadline = now + LAST_REPLIES_S
        while time.monotonic() < deadline and self._rcodes.total() < self._sent:
            self._receive(0.01)
        rcodes = {RCODES.get(rcode, str(rcode)): n for rcode, n in sorted(self._rcodes.items())}
        return Flooded(self._sent, lasted_s, rcodes)

    def _send(self, count: int) -> None:
        message = self._message
        for number in range(self._sent, self._sent + count):
            message[:2] = (number & 0xFFFF).to_bytes(2, "big")
            message[FIRST_LABEL : FIRST_LABEL + len(NUMBER)] = b"%08x" % number
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                self._client.send(message)
        self._sent += max(0, count)

    def _receive(self, wait_s: float) -> None:
        time.sleep(wait_s)
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while reply := self._client.recv(512):
                self._rcodes[reply[3] & 15] += 1
