"""Asks without end, by UDP at a steady rate and by TCP on connections that come and go.

Every reply is judged. A question without a reply after `LOST_S` is lost: none is asked twice. Over
TCP it counts for nothing where who asks stood still itself meanwhile: then its connection is idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

import msgspec

from bench.load import HOST
from bench.soak.check import Asked, Question, Shape, judge

if TYPE_CHECKING:
    from collections.abc import Callable

LOST_S: Final = 5.0
LAG_S: Final = 5.0
"""Answers may be this old: the two seconds for which a lost service lingers, and as much again."""
MOST_WAITING: Final = 150  # what a receive buffer of the kernel's usual size holds in any case
SOCKETS: Final = 8
CONNECTIONS_A_SECOND: Final = 20
STALL_S: Final = 1.0
AT_ONCE: Final = 50
MOST_EXAMPLES: Final = 100
SO_TIMESTAMPNS: Final = 35  # Linux; Python has no name for it
TIMESPEC: Final = struct.Struct("qq")
SHAPES: Final = (
    *[Shape()] * 4,
    *[Shape(1232)] * 8,
    *[Shape(1232, has_cookie=True)] * 2,
    Shape(512),
    Shape(4096),
    Shape(1232, is_cased=True),
    Shape(is_cased=True),
)


class Counts(msgspec.Struct):
    """What was seen since the last sample. Delays are in ms, ages in seconds."""

    asked: int = 0
    answered: int = 0
    wrong: int = 0
    lost: int = 0
    by_tcp: int = 0
    delays: list[float] = []
    oldest_s: float = 0.0


class Load:
    """Asks one server.

    Attributes:
        rate: questions a second by UDP. asked: by UDP so far.
        counts: taken and replaced by who samples.
        examples: the first wrong and lost ones, as text.
        outages: when the API server was away, until all was heard of again; see `since_s`.
    """

    def __init__(self, port: int, ring: list[Question | Callable[[], Question]]) -> None:
        """Take what is asked, in turn."""
        self.rate = 0.0
        self.asked = 0
        self.counts = Counts()
        self.examples: list[str] = []
        self.outages: list[tuple[float, float | None]] = []
        self._port = port
        self._next = itertools.cycle(ring)
        self._rng = random.Random(1)
        self._sockets = [_Socket(port) for _ in range(SOCKETS)]
        self._turn = itertools.cycle(self._sockets)
        self._connections: set[asyncio.Task[None]] = set()
        self._stood_still_s = 0.0

    def since_s(self, sent_s: float) -> float:
        """Return since when an answer may have been right for a question of some moment."""
        since_s = sent_s - LAG_S
        for begin_s, end_s in self.outages:
            if end_s is None or end_s >= since_s:
                return min(since_s, begin_s - LAG_S)
        return since_s

    async def run(self) -> None:
        """Ask until cancelled, then wait for what is not answered yet."""
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.add_reader(one.sock.fileno(), self._receive, one)
        try:
            await asyncio.gather(self._ask_by_udp(), self._ask_by_tcp())
        finally:
            while any(one.waiting for one in self._sockets) or self._connections:
                await asyncio.sleep(0.01)
                self._expire()
            for one in self._sockets:
                loop.remove_reader(one.sock.fileno())
                one.sock.close()

    async def ask_all(self, questions: list[Question]) -> None:
        """Ask every question once, by TCP, in order."""
        for at in range(0, len(questions), AT_ONCE):
            some = questions[at : at + AT_ONCE]
            await self._ask_on_connection([self._asked(each, Shape(tcp=True)) for each in some])

    # UDP

    async def _ask_by_udp(self) -> None:
        due, before_s = 0.0, time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s > before_s + STALL_S:
                self._stood_still_s = time.time()
            due = min(due + (now_s - before_s) * self.rate, MOST_WAITING)
            before_s = now_s
            room = MOST_WAITING - sum(len(one.waiting) for one in self._sockets)
            for _ in range(min(int(due), room)):
                due -= 1
                self._ask(next(self._turn))
            self._expire()
            await asyncio.sleep(0.001)

    def _ask(self, one: _Socket) -> None:
        asked = self._asked(self._drawn(), self._rng.choice(SHAPES))
        number = self._rng.getrandbits(16)
        while number in one.waiting:
            number = self._rng.getrandbits(16)
        one.waiting[number] = asked
        self.asked += 1
        self.counts.asked += 1
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):  # then it is lost
            one.sock.send(number.to_bytes(2, "big") + self._message(asked))

    def _receive(self, one: _Socket) -> None:
        while True:
            try:
                reply, ancillary, _, _ = one.sock.recvmsg(4096, 64)
            except (BlockingIOError, ConnectionRefusedError):
                return
            asked = one.waiting.pop(int.from_bytes(reply[:2], "big"), None)
            if asked is None:
                self._note_wrong("a reply to nothing", reply)
                continue
            seconds, rest_ns = TIMESPEC.unpack(ancillary[0][2])
            self.counts.delays.append((seconds + rest_ns / 1e9 - asked.sent_s) * 1e3)
            self._judge(asked, reply)

    def _expire(self) -> None:
        before_s = time.time() - LOST_S
        for one in self._sockets:
            self._receive(one)  # what came while we stood still is not lost
            while one.waiting and (first := next(iter(one.waiting.items())))[1].sent_s < before_s:
                del one.waiting[first[0]]
                self._note_lost(first[1])

    # TCP

    async def _ask_by_tcp(self) -> None:
        while True:
            if self.rate:
                task = asyncio.create_task(self._connect())
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
            await asyncio.sleep(1 / CONNECTIONS_A_SECOND)

    async def _connect(self) -> None:
        count = self._rng.randrange(1, 20)
        shape = Shape(self._rng.choice((0, 1232)), tcp=True)
        asked = [self._asked(self._drawn(), shape) for _ in range(count)]
        await self._ask_on_connection(asked, leaves_early=self._rng.random() < 0.2)

    async def _ask_on_connection(self, asked: list[Asked], *, leaves_early: bool = False) -> None:
        """Ask all at once; replies come in any order. Who leaves early waits for none."""
        reader, writer = await asyncio.open_connection(HOST, self._port)
        waiting = dict(enumerate(asked))
        if not leaves_early:
            self.counts.asked += len(asked)
            self.counts.by_tcp += len(asked)
        try:
            for number, each in waiting.items():
                message = number.to_bytes(2, "big") + self._message(each)
                writer.write(len(message).to_bytes(2, "big") + message)
            if leaves_early:
                writer.transport.abort()
                return
            async with asyncio.timeout(LOST_S):
                while waiting:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    reply = await reader.readexactly(length)
                    self._judge(waiting.pop(int.from_bytes(reply[:2], "big")), reply)
        except (OSError, EOFError, TimeoutError):
            await asyncio.sleep(STALL_S / 10)  # so that a stall before this is known
            for each in waiting.values():
                if self._stood_still_s < each.sent_s:
                    self._note_lost(each)
        finally:
            writer.close()

    # Both

    def _drawn(self) -> Question:
        drawn = next(self._next)
        return drawn if isinstance(drawn, Question) else drawn()

    def _asked(self, question: Question, shape: Shape) -> Asked:
        octets = question.wire
        if shape.is_cased:  # upper case of some letters; the numbers of type and class are below
            octets = bytes(
                each ^ 0x20 if 0x61 <= each <= 0x7A and self._rng.random() < 0.5 else each
                for each in octets
            )
        return Asked(question, octets, shape, time.time())

    def _message(self, asked: Asked) -> bytes:
        return asked.message(self._rng.randbytes(8) if asked.shape.has_cookie else b"")

    def _judge(self, asked: Asked, reply: bytes) -> None:
        self.counts.answered += 1
        verdict = judge(asked, reply, self.since_s(asked.sent_s), time.time())
        if verdict.wrong:
            question = asked.question
            self._note_wrong(
                f"{question.name} {question.qtype} {asked.shape}: {verdict.wrong}", reply
            )
        self.counts.oldest_s = max(self.counts.oldest_s, verdict.age_s)

    def _note_wrong(self, what: str, reply: bytes) -> None:
        self.counts.wrong += 1
        self._note(f"wrong: {what}; the reply {reply.hex()}")

    def _note_lost(self, asked: Asked) -> None:
        self.counts.lost += 1
        self._note(f"lost: {asked.question.name} {asked.question.qtype} {asked.shape}")

    def _note(self, text: str) -> None:
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{time.strftime('%H:%M:%S')} {text}")


class _Socket:
    """One UDP socket, and what was asked from it, oldest first."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.connect((HOST, port))
        self.sock.setblocking(False)
        self.waiting: dict[int, Asked] = {}
