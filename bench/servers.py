"""A running server: started on its core, asked until it answers, stopped with its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from bench.load import HOST
from bench.measure import pinned, process_tree
from bench.queries import plain_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.peers import Command
    from bench.queries import Question

START_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0
POLL_S = 0.002
NOERROR = 0


class ServerError(Exception):
    """A server did not start; the message ends with its own last words."""


class Server:
    """One process of a server; leaving the `running` block ends it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        """Take over a process that has just been started."""
        self.port = port
        self._process = process
        self._log = log

    def pids(self) -> list[int]:
        """Return the process and its children."""
        return process_tree(self._process.pid)

    def wait_answer(
        self, question: Question, records: int | None = None, poll_s: float = POLL_S
    ) -> None:
        """Ask every few milliseconds until the answer is NOERROR, with so many records if told.

        Raises:
            ServerError: the server ended, or gave no such answer in time.
        """
        deadline = time.monotonic() + START_LIMIT_S
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((HOST, self.port))
            client.settimeout(poll_s)
            query = plain_message(question)
            while time.monotonic() < deadline and self._process.poll() is None:
                for rcode, answers in _replies(client, query, poll_s):
                    if rcode == NOERROR and records in {None, answers}:
                        return
        self._fail(question)

    def log_text(self) -> str:
        """Return what the server wrote to its standard output and standard error."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End the process group that `running` made for this server, and nothing else."""
        for kind in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                os.killpg(self._process.pid, kind)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_LIMIT_S)

    def _fail(self, question: Question) -> None:
        code = self._process.poll()
        state = "gave no answer in time" if code is None else f"ended with status {code}"
        message = (
            f"{self._process.args!r} {state}, asked for {question[0]}: {self.log_text()[-800:]}"
        )
        raise ServerError(message)


@contextlib.contextmanager
def running(command: Command, port: int, core: int, folder: Path) -> Iterator[Server]:
    """Start a server in a session of its own on one core, and stop it in the end."""
    log = folder / "server.log"
    with pinned(core), log.open("wb") as output:
        process = subprocess.Popen(
            command.arguments,
            env=os.environ | command.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port that is free for UDP and TCP on the loopback address."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind((HOST, 0))
            port: int = udp.getsockname()[1]
            with contextlib.suppress(OSError):
                tcp.bind((HOST, port))
                return port


def _replies(client: socket.socket, query: bytes, pause_s: float) -> Iterator[tuple[int, int]]:
    """Send a query; yield rcode and number of answers of each reply, until none comes in a moment.

    Replies to earlier copies of the query count: a server that starts may answer them all at once.
    """
    try:
        client.send(query)
        while reply := client.recv(65535):
            yield reply[3] & 15, int.from_bytes(reply[6:8], "big")
    except ConnectionRefusedError:  # nobody listens yet, which the kernel tells at once
        time.sleep(pause_s)
    except TimeoutError:
        pass
