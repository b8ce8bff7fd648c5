"""What a process costs, from /proc; the cores it may use, and the machine it runs on."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STAT_PPID, STAT_UTIME, STAT_STIME = 1, 11, 12  # counted after the ")" of the command, see proc(5)


class Memory(msgspec.Struct, frozen=True):
    """Memory of a process and its children."""

    rss_mb: float
    pss_mb: float


class Cores(msgspec.Struct, frozen=True):
    """The cores for servers, for load, and for what servers forward to: load's where no third."""

    server: int
    load: int
    upstream: int

    @property
    def shared(self) -> bool:
        """Whether load and server compete for one core."""
        return self.server == self.load


def choose_cores() -> Cores:
    """Return the first three cores that this process may use, the last one again if too few."""
    usable = sorted(os.sched_getaffinity(0))
    server, load, upstream = (usable[min(number, len(usable) - 1)] for number in range(3))
    return Cores(server=server, load=load, upstream=upstream)


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin this process to a core; what it starts meanwhile stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_tree(pid: int) -> list[int]:
    """Return a process and everything below it, since some servers fork."""
    children: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children.setdefault(int(_stat(int(folder.name))[STAT_PPID]), []).append(
                int(folder.name)
            )
    tree = [pid]
    for parent in tree:
        tree.extend(children.get(parent, []))
    return tree


def cpu_s(pids: list[int]) -> float:
    """Return the CPU seconds, user and system, of all threads of processes."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        ticks += int(fields[STAT_UTIME]) + int(fields[STAT_STIME])
    return ticks / TICKS_PER_S


def core_wait_s(pids: list[int]) -> float:
    """Return for how long threads of processes could have run but had no core: others had it."""
    waited_ns = 0
    for pid in pids:
        for path in (PROC / str(pid) / "task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # threads end
                waited_ns += int(path.read_text().split()[1])
    return waited_ns / 1e9


def memory(pids: list[int]) -> Memory:
    """Return the resident memory of processes; PSS counts shared pages in proportion."""
    totals = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            key, _, rest = line.partition(" ")
            if key in totals:
                totals[key] += int(rest.split()[0])
    return Memory(rss_mb=totals["Rss:"] / 1024, pss_mb=totals["Pss:"] / 1024)


def machine_facts(cores: Cores) -> dict[str, str | int | list[float]]:
    """Return what a reader needs to know about the machine before comparing figures."""
    cpu_info = (PROC / "cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpu_info if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 1,
        "server_core": cores.server,
        "load_core": cores.load,
        "upstream_core": cores.upstream,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_average": list(os.getloadavg()),
    }


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command, which may itself hold spaces."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
