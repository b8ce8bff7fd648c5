"""Waiting for a condition, and free ports: without pytest, so that the benchmark may too."""

import contextlib
import socket
import time
from collections.abc import Callable

DEADLINE_S = 20.0


def wait_until(
    condition: Callable[[], object], what: str = "it", *, within_s: float = DEADLINE_S
) -> None:
    """Look until a condition holds; fail after a while."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def free_port() -> int:
    """A port that was free on 127.0.0.1, UDP and TCP, a moment ago."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            stream.bind(("127.0.0.1", 0))
            port = stream.getsockname()[1]
            with (
                contextlib.suppress(OSError),
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            ):
                datagrams.bind(("127.0.0.1", port))
                return int(port)
