"""Who asks a server while it starts, changes and stops, and an upstream that waits."""

import http.client
import socket
import threading
from collections.abc import Callable
from typing import Any

import dnslib

from tests.conftest import ServeProcess, addresses, rcode
from tests.waiting import DEADLINE_S, wait_until

WINDOW = 20
Seen = tuple[str, tuple[str, ...], int]
"""An rcode, the addresses, and the TTL of the first record."""


def get(url: str, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of a page."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=DEADLINE_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def url_of(server: ServeProcess, what: str = "probes") -> str:
    """Where the probes or the status page are, from the log."""
    server.wait_log(f" {what} on http://")
    return server.log.rpartition(f" {what} on ")[2].split()[0]


def wait_status(url: str, path: str, status: int) -> str:
    """Wait until a page has a status; return its text."""
    wait_until(lambda: get(url, path)[0] == status, f"{path} {status}")
    return get(url, path)[1]


class Stream:
    """Asks without end, many questions at once, and misses none of the answers."""

    def __init__(self, address: tuple[str, int], *names: str, tcp: bool = False) -> None:
        self.seen: dict[str, set[Seen]] = {name: set() for name in names}
        self.rounds = 0
        self.failure: BaseException | None = None
        self._names = names
        self._tcp = tcp
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        self._sock = socket.socket(socket.AF_INET, kind)
        self._sock.settimeout(DEADLINE_S)
        self._sock.connect(address)

    def __enter__(self) -> "Stream":
        self._thread.start()
        self.wait_rounds(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._sock.close()
        assert self.failure is None, repr(self.failure)

    def wait_rounds(self, count: int) -> None:
        """Wait until so many more times all was asked and answered."""
        wanted = self.rounds + count
        wait_until(lambda: self.failure or self.rounds >= wanted, f"{count} rounds")
        assert self.failure is None, repr(self.failure)

    def _ask(self) -> None:
        try:
            while not self._stopped.is_set():
                self._ask_window()
                self.rounds += 1
        except BaseException as error:
            self.failure = error

    def _ask_window(self) -> None:
        """Send a window full of questions, and take the answer to each."""
        asked: dict[int, str] = {}
        for number in range(WINDOW):
            name = self._names[number % len(self._names)]
            record = dnslib.DNSRecord.question(name)
            record.header.id = number + 1
            asked[record.header.id] = name
            wire = record.pack()
            self._sock.sendall(len(wire).to_bytes(2, "big") + wire if self._tcp else wire)
        while asked:
            reply = dnslib.DNSRecord.parse(self._receive())
            name = asked.pop(reply.header.id)
            ttl = reply.rr[0].ttl if reply.rr else 0
            self.seen[name].add((rcode(reply), tuple(addresses(reply)), ttl))

    def _receive(self) -> bytes:
        if not self._tcp:
            return self._sock.recv(4096)
        size = int.from_bytes(self._exactly(2), "big")
        return self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            more = self._sock.recv(count - len(octets))
            assert more, "the connection was closed"
            octets += more
        return octets


class Upstream:
    """Answers every question with one address and TTL 0, at once or when it is let."""

    def __init__(self, answer: str = "192.0.2.7", ttl: int = 0) -> None:
        self.asked = 0
        self._answer, self._ttl = answer, ttl
        self._held: list[Callable[[], Any]] | None = None
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.settimeout(0.05)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def text(self) -> str:
        """What settings call it."""
        return f"127.0.0.1:{self._sock.getsockname()[1]}"

    def hold(self) -> None:
        """Take questions without answering them."""
        self._held = []

    @property
    def held(self) -> int:
        """How many questions wait."""
        return len(self._held or ())

    def release(self) -> None:
        """Answer what waits, and all that comes."""
        held, self._held = self._held or [], None
        for send in held:
            send()

    def close(self) -> None:
        """Go away."""
        self._stopped.set()
        self._thread.join()
        self._sock.close()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                message, client = self._sock.recvfrom(4096)
            except TimeoutError:
                continue
            self._take(message, client)

    def _take(self, message: bytes, client: tuple[str, int]) -> None:
        request = dnslib.DNSRecord.parse(message)
        reply = request.reply()
        if request.q.qtype == dnslib.QTYPE.A:
            self.asked += 1
            reply.add_answer(
                dnslib.RR(request.q.qname, rdata=dnslib.A(self._answer), ttl=self._ttl)
            )
        wire = reply.pack()
        if self._held is not None and request.q.qtype == dnslib.QTYPE.A:
            self._held.append(lambda: self._sock.sendto(wire, client))
        else:
            self._sock.sendto(wire, client)
