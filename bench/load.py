"""Runs dnsperf against one address and reads what it reports."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

import msgspec

from bench.measure import pinned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
GRACE_S = 15.0
QUERY_TIMEOUT_S = 2
BACKGROUND_NICE = "10"
BUFFER_KB = 1024  # the default loses some of 100 large replies that come at once
NUMBERS = {
    "sent": re.compile(r"Queries sent:\s+(\d+)"),
    "completed": re.compile(r"Queries completed:\s+(\d+)"),
    "lost": re.compile(r"Queries lost:\s+(\d+)"),
    "response_bytes": re.compile(r"Average packet size:.*response (\d+)"),
    "run_s": re.compile(r"Run time \(s\):\s+([\d.]+)"),
}
RCODE_LINE = re.compile(r"Response codes:\s+(.*)")
RCODE = re.compile(r"([A-Z]+\d*) (\d+)")


class LoadError(Exception):
    """dnsperf is missing, failed, or printed something else than before."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What dnsperf shall send: which file, how, for how long.

    Without `seconds` the file is sent once; `limit_s` then bounds the run.
    """

    path: Path
    tcp: bool = False
    edns: bool = False
    wire_format: bool = False
    seconds: float | None = None
    limit_s: float = 120.0
    outstanding: int = 100
    connections: int = 2
    max_qps: int | None = None

    def arguments(self, port: int) -> list[str]:
        """Return dnsperf's arguments."""
        once = ["-n", "1"] if self.seconds is None else []
        return [
            *("-s", HOST, "-p", str(port), "-d", str(self.path), "-q", str(self.outstanding)),
            *(
                "-b",
                str(BUFFER_KB),
                "-t",
                str(QUERY_TIMEOUT_S),
                "-l",
                f"{self.seconds or self.limit_s:g}",
                *once,
            ),
            *(["-m", "tcp", "-c", str(self.connections)] if self.tcp else []),
            *(["-e"] if self.edns else []),
            *(["-B"] if self.wire_format else []),
            *(["-Q", str(self.max_qps)] if self.max_qps else []),
        ]


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came back; `load_share` is how much of a core dnsperf itself used.

    `response_bytes` is the mean size of a reply.
    """

    sent: int
    completed: int
    lost: int
    run_s: float
    load_share: float
    rcodes: dict[str, int]
    response_bytes: int

    @property
    def qps(self) -> float:
        """Answers a second."""
        return self.completed / self.run_s if self.run_s else 0.0


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of the time between a query and its answer, in microseconds."""

    p50_us: float
    p99_us: float


def run(load: Load, port: int, core: int) -> LoadResult:
    """Send one load and return the result."""
    before_s, began = _children_cpu_s(), time.monotonic()
    output = _dnsperf(load, load.arguments(port), core)
    cpu_s, wall_s = _children_cpu_s() - before_s, time.monotonic() - began
    return parse_result(output, cpu_s / wall_s)


def run_latency(load: Load, port: int, core: int) -> Latency | None:
    """Send one load at its rate and return the percentiles, or None when nothing was answered."""
    output = _dnsperf(load, [*load.arguments(port), "-v"], core)
    return percentiles(
        [
            float(line.rpartition(" ")[2]) * 1e6
            for line in output.splitlines()
            if line.startswith("> ") and not line.startswith("> T ")
        ]
    )


@contextlib.contextmanager
def background(load: Load, port: int, core: int) -> Iterator[None]:
    """Send a load meanwhile, at a lower priority: what else is on that core goes first."""
    command = ["nice", "-n", BACKGROUND_NICE, "dnsperf", *load.arguments(port)]
    with pinned(core):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    try:
        yield
        if process.poll() is not None:
            message = f"{' '.join(command)}: ended too early: {process.stderr.read()[-500:]}"  # type: ignore[union-attr]
            raise LoadError(message)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=GRACE_S)


def parse_result(output: str, load_share: float) -> LoadResult:
    """Read dnsperf's final statistics."""
    found = {key: pattern.search(output) for key, pattern in NUMBERS.items()}
    values = {key: float(match[1]) for key, match in found.items() if match}
    if len(values) < len(NUMBERS):
        message = f"dnsperf printed no statistics, only: {output[-500:]}"
        raise LoadError(message)
    rcodes = RCODE_LINE.search(output)
    return LoadResult(
        sent=int(values["sent"]),
        completed=int(values["completed"]),
        lost=int(values["lost"]),
        run_s=values["run_s"],
        response_bytes=int(values["response_bytes"]),
        load_share=load_share,
        rcodes={name: int(count) for name, count in RCODE.findall(rcodes[1] if rcodes else "")},
    )


def percentiles(latencies_us: list[float]) -> Latency | None:
    """Return the 50th and 99th percentile of latencies."""
    if len(latencies_us) < 2:
        return None
    cuts = statistics.quantiles(latencies_us, n=100)
    return Latency(p50_us=cuts[49], p99_us=cuts[98])


def _dnsperf(load: Load, arguments: list[str], core: int) -> str:
    limit_s = (load.seconds or load.limit_s) + QUERY_TIMEOUT_S + GRACE_S
    try:
        with pinned(core):
            process = subprocess.run(
                ["dnsperf", *arguments],
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
            )
    except FileNotFoundError as error:
        message = "dnsperf is not on the PATH; install it, for instance from the distribution"
        raise LoadError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"dnsperf {' '.join(arguments)}: no end after {limit_s:.0f} s"
        raise LoadError(message) from error
    if process.returncode:
        message = f"dnsperf {' '.join(arguments)}: {process.stderr.strip()[-500:]}"
        raise LoadError(message)
    return process.stdout


def _children_cpu_s() -> float:
    """Return the CPU time of ended children; servers go on meanwhile and are not among them."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
