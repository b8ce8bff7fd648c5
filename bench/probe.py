"""Asks one server at a steady rate, from a process of its own, and notes every delay and mistake.

A query goes out every half millisecond. The kernel stamps each reply on arrival, so that what else
runs on the load core does not count; a query whose sending was held up is left out of the delays.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import select
import socket
import statistics
import struct
import time
from typing import TYPE_CHECKING

import msgspec

from bench.load import HOST
from bench.measure import pinned
from bench.queries import plain_message

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import TracebackType

    from bench.queries import Question

INTERVAL_NS = 500_000
HELD_UP_NS = 200_000
LAST_REPLIES_S = 2.0
SO_TIMESTAMPNS = 35  # Linux; Python has no name for it
TIMESPEC = struct.Struct("qq")
NOERROR, NXDOMAIN = 0, 3


class Expected(msgspec.Struct, frozen=True):
    """A question and its right answer: rcode, and addresses in any order."""

    question: Question
    rcode: int
    addresses: tuple[str, ...]


class Probed(msgspec.Struct, frozen=True):
    """What a probe saw.

    `gap_ms` is the longest time for which a query waited and no reply came; `sender_gap_ms` the
    longest time between two queries, more than the interval where the probe itself had to wait.
    """

    asked: int
    wrong: int
    missing: int
    held_up: int
    gap_ms: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    sender_gap_ms: float


class Probe:
    """Asks while the block runs; `mark` ends a part, and the parts are reported on their own."""

    def __init__(self, port: int, core: int, expected: list[Expected]) -> None:
        """Start nothing yet."""
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_probe, args=(port, core, expected, theirs), daemon=True
        )

    def __enter__(self) -> Probe:
        """Begin to ask."""
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """End the process if it was not finished."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join()

    def mark(self) -> None:
        """Begin the next part."""
        self._ours.send("mark")

    def finish(self) -> list[Probed]:
        """Stop asking and return what each part saw."""
        self._ours.send("stop")
        parts: list[Probed] = self._ours.recv()
        self._process.join()
        return parts


def _probe(port: int, core: int, expected: list[Expected], control: Connection) -> None:
    gc.disable()
    with pinned(core), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.connect((HOST, port))
        client.setblocking(False)
        control.send(_Sending(client, expected, control).run())


class _Sending:
    """The probe's own process: what was sent when, and what came back when."""

    def __init__(
        self, client: socket.socket, expected: list[Expected], control: Connection
    ) -> None:
        self._client = client
        self._control = control
        self._queries = [plain_message(one.question)[2:] for one in expected]
        self._answers = [_checked(one) for one in expected]
        self._sent_ns: list[int] = []
        self._held_up: set[int] = set()
        self._arrived_ns: dict[int, int] = {}
        self._wrong: set[int] = set()

    def run(self) -> list[Probed]:
        parts = [0]
        next_ns = time.time_ns()
        while True:
            now_ns = time.time_ns()
            if now_ns >= next_ns:
                self._send()
                next_ns = max(next_ns + INTERVAL_NS, now_ns)
            wait_s = max(0.0, (next_ns - time.time_ns()) / 1e9)
            both: list[socket.socket | Connection] = [self._client, self._control]
            readable, _, _ = select.select(both, (), (), wait_s)
            if self._client in readable:
                self._receive()
            if self._control in readable:
                parts.append(len(self._sent_ns))
                if self._control.recv() == "stop":
                    break
        deadline = time.monotonic() + LAST_REPLIES_S
        while len(self._arrived_ns) < len(self._sent_ns) and time.monotonic() < deadline:
            select.select([self._client], (), (), 0.01)
            self._receive()
        return [self._part(first, end) for first, end in itertools.pairwise(parts)]

    def _send(self) -> None:
        number = len(self._sent_ns)
        message = (number & 0xFFFF).to_bytes(2, "big") + self._queries[number % len(self._queries)]
        before_ns = time.time_ns()
        try:
            self._client.send(message)
        except (BlockingIOError, ConnectionRefusedError):
            self._held_up.add(number)
        if time.time_ns() - before_ns > HELD_UP_NS:
            self._held_up.add(number)
        self._sent_ns.append(before_ns)

    def _receive(self) -> None:
        while True:
            try:
                reply, ancillary, _, _ = self._client.recvmsg(4096, 64)
            except (BlockingIOError, ConnectionRefusedError):
                return
            seconds, rest_ns = TIMESPEC.unpack(ancillary[0][2])
            newest = len(self._sent_ns) - 1
            number = newest - ((newest - int.from_bytes(reply[:2], "big")) & 0xFFFF)
            self._arrived_ns[number] = seconds * 1_000_000_000 + rest_ns
            rcode, count, needles = self._answers[number % len(self._answers)]
            right = (reply[3] & 15, int.from_bytes(reply[6:8], "big")) == (rcode, count)
            if not right or any(needle not in reply for needle in needles):
                self._wrong.add(number)

    def _part(self, first: int, end: int) -> Probed:
        numbers = range(first, end)
        arrived = [number for number in numbers if number in self._arrived_ns]
        timed = [number for number in arrived if number not in self._held_up]
        delays = [(self._arrived_ns[number] - self._sent_ns[number]) / 1e6 for number in timed]
        sent_ns = self._sent_ns[first:end]
        pauses = [after - before for before, after in itertools.pairwise(sent_ns)]
        return Probed(
            asked=len(numbers),
            wrong=len(self._wrong.intersection(numbers)),
            missing=len(numbers) - len(arrived),
            held_up=len(self._held_up.intersection(numbers)),
            gap_ms=self._gap_ms(timed),
            p50_ms=statistics.median(delays) if delays else 0.0,
            p99_ms=statistics.quantiles(delays, n=100)[98] if len(delays) > 1 else 0.0,
            p999_ms=statistics.quantiles(delays, n=1000)[998] if len(delays) > 1 else 0.0,
            sender_gap_ms=max(pauses, default=0) / 1e6,
        )

    def _gap_ms(self, timed: list[int]) -> float:
        """Return the longest time between two replies, less the time when no query waited."""
        in_order = sorted((self._arrived_ns[number], self._sent_ns[number]) for number in timed)
        longest_ns, before_ns = 0, 0
        for arrived_ns, sent_ns in in_order:
            longest_ns = max(longest_ns, arrived_ns - max(before_ns, sent_ns))
            before_ns = arrived_ns
        return longest_ns / 1e6


def _checked(expected: Expected) -> tuple[int, int, list[bytes]]:
    """Return the rcode, the number of answers, and what each reply must hold."""
    needles = [socket.inet_aton(address) for address in expected.addresses]
    return expected.rcode, len(needles), needles
