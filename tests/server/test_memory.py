"""Memory is given back as it is freed."""

import platform
import subprocess
import sys

import pytest

BURST = """
import pathlib
from mcsdns.server import memory

def resident_kb():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])

memory.give_back_at_once()
stays, before = [], resident_kb()
for _ in range(2):
    held = []
    for _ in range(800):
        held.append(bytearray(100_000))
        stays.append(bytes(600))
    most = resident_kb()
    held.clear()
    print(most - before, resident_kb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator")
def test_what_a_burst_took_is_given_back_though_small_blocks_lie_between() -> None:
    command = [sys.executable, "-c", BURST]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for most, left in (map(int, line.split()) for line in said.splitlines()):
        assert most > 70_000
        assert left < 10_000
