"""What strangers do to a server, each from a process of its own on the load core.

An attacker sends at a rate, whatever comes back; what is cut or closed comes again. The same one
against a `sink`, which takes all and answers nothing, is what its traffic alone does to a client
beside it. All run at a lower priority than that client, so that it is the server that keeps it
waiting.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import multiprocessing
import os
import select
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from bench.load import HOST
from bench.measure import pinned
from bench.queries import plain_message
from bench.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    Attacker = Callable[["Target", float], int]

NICE = 10
TURN_S = 0.001
MOST_IN_A_TURN = 20
STRANGER = "127.0.66.1"
"""Another /24 than that of who asks beside it."""
HELD_S = 0.05
"""For how long a connection of a flood stays."""
SMALL_BUFFER = 2048
HEAD = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: " + bytes([122]) * 32_000 + b"\r\n"
FIELD = b"Y: " + bytes([122]) * 32_000 + b"\r\n"


class Target(msgspec.Struct, frozen=True):
    """Where an attacker sends to."""

    dns: int
    http: int


@contextlib.contextmanager
def apart(
    core: int, work: Callable[..., None], *arguments: object, nice: int = NICE
) -> Iterator[Connection]:
    """Run work in a process on a core, and give the other end of its pipe; end it in the end."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(core, nice, work, theirs, *arguments), daemon=True
    )
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def attack(attacker: Attacker, at: Target, seconds: float, core: int) -> int:
    """Attack from a process of its own; return how much was sent, in the attacker's own unit."""
    with apart(core, _attack, attacker, at, seconds) as ours:
        sent: int = ours.recv()
    return sent


@contextlib.contextmanager
def sink(core: int) -> Iterator[int]:
    """Give the port of a process that takes what comes over UDP and TCP, and answers nothing."""
    port = free_port()
    with apart(core, _sink, port) as ours:
        ours.recv()
        yield port


def udp_flood(messages: Callable[[int], bytes], qps: float, source: str = HOST) -> Attacker:
    """Questions over UDP, made of their number; replies are read and forgotten."""

    def run(at: Target, seconds: float) -> int:
        sent = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((source, 0))
            client.connect((HOST, at.dns))
            client.setblocking(False)
            for due in _due(qps, seconds):
                for number in range(sent, sent + due):
                    with contextlib.suppress(OSError):
                        client.send((number & 0xFFFF).to_bytes(2, "big") + messages(number)[2:])
                sent += due
                with contextlib.suppress(OSError):
                    while client.recv(4096):
                        pass
        return sent

    return run


def connect_flood(per_s: float) -> Attacker:
    """Connections to the probes that say nothing and are gone after a moment."""

    def run(at: Target, seconds: float) -> int:
        made = 0
        held: collections.deque[tuple[float, socket.socket]] = collections.deque()
        for due in _due(per_s, seconds):
            for _ in range(due):
                client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                client.setblocking(False)
                client.connect_ex((HOST, at.http))
                held.append((time.monotonic(), client))
            made += due
            while held and (held[0][0] < time.monotonic() - HELD_S):
                held.popleft()[1].close()
        for _, client in held:
            client.close()
        return made

    return run


def swarm(
    count: int, octets: bytes, *, http: bool = False, reads: bool = False, mb_s: float = 20.0
) -> Attacker:
    """So many connections that send the same again and again, as much a second at most.

    One that is closed is opened anew. `octets` may be nothing.
    """

    def run(at: Target, seconds: float) -> int:
        return _Swarm(at.http if http else at.dns, octets, reads=reads).run(count, seconds, mb_s)

    return run


def together(*attackers: Attacker) -> Attacker:
    """Several at once."""

    def run(at: Target, seconds: float) -> int:
        with ThreadPoolExecutor(len(attackers)) as pool:
            return sum(pool.map(lambda one: one(at, seconds), attackers))

    return run


def framed(name: str, type_name: str, times: int) -> bytes:
    """Return a question as often as told, as it goes over TCP."""
    message = plain_message((name, type_name))
    return (len(message).to_bytes(2, "big") + message) * times


class _Swarm:
    """The connections of one attacker."""

    def __init__(self, port: int, octets: bytes, *, reads: bool) -> None:
        self._port = port
        self._octets = memoryview(octets)
        self._reads = reads
        self._epoll = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, list[int]]] = {}
        self._sent = 0

    def run(self, count: int, seconds: float, mb_s: float) -> int:
        """Keep so many connections busy; return how many octets they sent."""
        for _ in range(count):
            self._open()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            most = int(passed * mb_s * 1e6)
            for fd, events in self._epoll.poll(TURN_S, 64):
                if events & (select.EPOLLERR | select.EPOLLHUP) or not self._step(fd, events, most):
                    self._close(fd)
                    self._open()
            time.sleep(TURN_S)
        for fd in list(self._sockets):
            self._close(fd)
        return self._sent

    def _open(self) -> None:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if not self._reads:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.setblocking(False)
        client.connect_ex((HOST, self._port))
        mask = select.EPOLLOUT if self._octets else 0
        self._epoll.register(client.fileno(), mask | (select.EPOLLIN if self._reads else 0))
        self._sockets[client.fileno()] = client, [0]

    def _close(self, fd: int) -> None:
        self._epoll.unregister(fd)
        self._sockets.pop(fd)[0].close()

    def _step(self, fd: int, events: int, most: int) -> bool:
        """Read and send once; return whether the connection lives."""
        client, at = self._sockets[fd]
        try:
            if events & select.EPOLLIN and not client.recv(1 << 20):
                return False
            if events & select.EPOLLOUT and self._sent < most:
                sent = client.send(self._octets[at[0] :])
                at[0] = (at[0] + sent) % len(self._octets)
                self._sent += sent
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def _work(
    core: int, nice: int, work: Callable[..., None], pipe: Connection, *arguments: object
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()
    if nice:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(nice)
    with pinned(core):
        work(pipe, *arguments)


def _attack(pipe: Connection, attacker: Attacker, at: Target, seconds: float) -> None:
    pipe.send(attacker(at, seconds))


def _due(rate: float, seconds: float) -> Iterator[int]:
    """Yield each millisecond how many are due; one who was held up does not send all at once."""
    began = time.monotonic()
    given = 0
    while (passed := time.monotonic() - began) < seconds:
        due = int(passed * rate) - given
        given += due
        yield min(due, int(MOST_IN_A_TURN * rate * TURN_S) + 1)
        time.sleep(TURN_S)


def _sink(pipe: Connection, port: int) -> None:
    connections: dict[int, socket.socket] = {}
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server((HOST, port), backlog=4096) as tcp,
        select.epoll() as epoll,
    ):
        udp.bind((HOST, port))
        for one in (udp, tcp):
            one.setblocking(False)
            epoll.register(one.fileno(), select.EPOLLIN)
        pipe.send("ready")
        while True:
            for fd, _ in epoll.poll():
                with contextlib.suppress(OSError):
                    if fd == udp.fileno():
                        udp.recv(4096)
                    elif fd == tcp.fileno():
                        client, _ = tcp.accept()
                        connections[client.fileno()] = client
                        epoll.register(client.fileno(), select.EPOLLIN)
                    elif not connections[fd].recv(1 << 20):
                        epoll.unregister(fd)
                        connections.pop(fd).close()
