"""Waiting for a condition, and free ports: without pytest, so that the benchmark may too."""

import asyncio
import contextlib
import itertools
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

DEADLINE_S: Final = 90.0
"""A bound for what hangs, not a measure: a busy machine takes as long as it takes."""
TRY_S: Final = 5.0
"""For a question that is asked again: one may be lost while a server starts."""
_FIRST_PORT: Final = 10_000
_PORTS_PER_WORKER: Final = 1_500
WORKERS: Final = 14
"""Of pytest, at most; all ports are below 32,768, where those of the kernel and resolvers begin."""


def wait_until(condition: Callable[[], object], what: str = "it") -> None:
    """Look until a condition holds; fail after a while."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """Let the loop turn until a condition holds; fail after a while."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        await asyncio.sleep(0.001)


def free_port() -> int:
    """A port that is free on 127.0.0.1, UDP and TCP, and that no other worker of pytest takes."""
    for port in itertools.islice(_ports, _PORTS_PER_WORKER):
        with contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("all ports of this worker are in use")


def _ports_of_worker() -> Iterator[int]:
    """All ports of this worker of pytest-xdist, again and again, from a random one on."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first = random.SystemRandom().randrange(_PORTS_PER_WORKER)
    for number in itertools.count(first):
        yield _FIRST_PORT + worker * _PORTS_PER_WORKER + number % _PORTS_PER_WORKER


_ports = _ports_of_worker()
