"""Asking a server that runs: by `dig`, once and for all names, or without end."""

import contextlib
import datetime
import re
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import dnslib
import pytest

from tests.conftest import ServeProcess, ask, rcode
from tests.real.services import Heard, Question, Service, answers_of, question
from tests.waiting import DEADLINE_S, TRY_S, wait_until

STATUS = re.compile(r"status: (\w+)")
ERROR = re.compile(r"^; EDE: (\d+)(?: \([^)]*\))?(?:: \((.*)\))?$", re.MULTILINE)


class Dug(NamedTuple):
    """What `dig` shows: data of the answer in the order of its text, extended errors by number."""

    status: str
    data: list[str]
    errors: dict[int, str]


def dig(server: ServeProcess | int, name: str, qtype: str = "A") -> Dug:
    """Ask a server, or a port of 127.0.0.1, about a name below `svc`."""
    if shutil.which("dig") is None:
        pytest.skip("dig is missing (Debian: apt-get install bind9-dnsutils)")
    port = server if isinstance(server, int) else server.address[1]
    name, qtype = question(name, qtype)
    command = ["dig", "@127.0.0.1", "-p", str(port), "+nocookie", "+tries=1", "+timeout=30"]
    done = subprocess.run(
        [*command, "+noquestion", "+noauthority", "+noadditional", "-t", qtype, "-q", name],
        capture_output=True,
        text=True,
        check=False,
    )
    status = STATUS.search(done.stdout)
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith(";")]
    data = sorted(line.split(None, 4)[4] for line in lines)
    errors = {int(code): text for code, text in ERROR.findall(done.stdout)}
    return Dug(status[1] if status else "no reply", data, errors)


def wait_dig(
    server: ServeProcess | int, name: str, *data: str, qtype: str = "A", status: str = "NOERROR"
) -> Dug:
    """Wait until `dig` sees this answer."""
    seen: list[Dug] = []

    def is_so() -> bool:
        seen[:] = [dig(server, name, qtype)]
        return seen[0][:2] == (status, sorted(data))

    try:
        wait_until(is_so)
    except AssertionError:
        raise AssertionError(f"{name} {qtype}: {seen[0]}, wanted {status} {data}") from None
    return seen[0]


def answers(server: ServeProcess, questions: Iterable[Question]) -> dict[Question, Heard]:
    """Ask everything once."""
    return {asked: read(ask(server.address, *asked)) for asked in questions}


def wait_answers(server: ServeProcess, expected: Mapping[Question, Heard]) -> None:
    """Wait until every question is answered so."""
    wrong: dict[Question, Heard] = {}

    def is_so() -> bool:
        found = answers(server, expected)
        wrong.clear()
        wrong.update({asked: said for asked, said in found.items() if said != expected[asked]})
        return not wrong

    try:
        wait_until(is_so)
    except AssertionError:
        raise AssertionError(f"answered otherwise: {wrong}; log: {server.log}") from None


def read(reply: dnslib.DNSRecord) -> Heard:
    return rcode(reply), frozenset(str(record.rdata) for record in reply.rr)


def extended_errors(reply: dnslib.DNSRecord) -> set[int]:
    return {
        int.from_bytes(option.data[:2], "big")
        for record in reply.ar
        if record.rtype == dnslib.QTYPE.OPT
        for option in record.rdata
        if option.code == 15
    }


class Wrong(NamedTuple):
    """One answer that should not have been given: when first, by the clock, and how often."""

    asked: Question
    said: Heard | None
    first_at: datetime.datetime
    times: int


class Prober:
    """Asks every question again and again from a thread and keeps every different reply.

    Each question is asked once: no second try hides a gap.
    """

    def __init__(self, server: ServeProcess, expected: Mapping[Question, Heard]) -> None:
        self.rounds = 0
        self._address = server.address
        self._expected = expected
        self._seen: Counter[tuple[Question, bytes | None]] = Counter()
        self._first_at: dict[tuple[Question, bytes | None], datetime.datetime] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask_all)

    def __enter__(self) -> "Prober":
        self._thread.start()
        self.wait_rounds()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.wait_rounds(5)
        self._stopped.set()
        self._thread.join()

    @property
    def asked(self) -> int:
        """How many questions were asked so far."""
        return self._seen.total()

    def wait_rounds(self, count: int = 2) -> None:
        """Wait until every question was asked so often from now on."""
        wanted = self.rounds + count
        wait_until(lambda: self.rounds >= wanted, "a round of questions")

    def wrong(self) -> list[Wrong]:
        """Every reply that was not as expected, and as `None` each question without one."""
        found = []
        for (asked, wire), times in list(self._seen.items()):
            said = read(dnslib.DNSRecord.parse(b"\0\0" + wire)) if wire is not None else None
            if said != self._expected[asked]:
                found.append(Wrong(asked, said, self._first_at[asked, wire], times))
        return sorted(found, key=lambda each: each.first_at)

    def errors(self) -> set[int]:
        """The extended errors of all replies."""
        wires = [wire for _, wire in list(self._seen) if wire is not None]
        return {
            code
            for wire in wires
            for code in extended_errors(dnslib.DNSRecord.parse(b"\0\0" + wire))
        }

    def check(
        self,
        *,
        until: datetime.datetime | None = None,
        then: Mapping[Question, Heard] | None = None,
    ) -> None:
        """Fail if one reply was wrong or missing; show what was seen.

        `then` is what may be answered as well, but not before `until`.
        """
        wrong = [
            each
            for each in self.wrong()
            if not (until and then and each.first_at >= until and each.said == then.get(each.asked))
        ]
        shown = f"{len(wrong)} kinds of wrong answers in {self.asked}, first {wrong[:5]}"
        assert not wrong, shown

    def _ask_all(self) -> None:
        wires = [(asked, request(asked)) for asked in self._expected]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(DEADLINE_S)
            sock.connect(self._address)
            while not self._stopped.is_set():
                for asked, wire in wires:
                    self._ask(sock, asked, wire)
                self.rounds += 1
                self._stopped.wait(0.005)  # leaves the processors to those that are asked

    def _ask(self, sock: socket.socket, asked: Question, wire: bytes) -> None:
        reply: bytes | None
        try:
            number = (self._seen.total() & 0xFFFF).to_bytes(2, "big")
            sock.send(number + wire)
            while (whole := sock.recv(65535))[:2] != number:
                pass  # of a question that was given up
            reply = whole[2:]
        except OSError:
            reply = None
        self._first_at.setdefault((asked, reply), datetime.datetime.now(datetime.UTC))
        self._seen[asked, reply] += 1


@contextlib.contextmanager
def unbroken(server: ServeProcess, services: Iterable[Service]) -> Iterator[Prober]:
    """Ask all of services without end meanwhile; not one reply may be wrong or missing."""
    with Prober(server, answers_of(services)) as prober:
        yield prober
    prober.check()


def request(asked: Question) -> bytes:
    """A question with EDNS, without its ID."""
    record = dnslib.DNSRecord.question(*asked)
    record.add_ar(dnslib.EDNS0(udp_len=1232))
    return bytes(record.pack())[2:]


def is_up(port: int) -> bool:
    """Whether a server answers anything on a port."""
    try:
        ask(("127.0.0.1", port), "clusterset.local", "SOA", timeout_s=TRY_S)
    except OSError:
        return False
    return True


def wait_up(port: int) -> None:
    wait_until(lambda: is_up(port), f"an answer on port {port} within {DEADLINE_S:g} s")
