"""The clusterset names lose nothing while floods of other names go to a silent upstream."""

import re
import subprocess
from pathlib import Path

from tests.conftest import addresses, ask, wait_until
from tests.forwarding.conftest import OUR_ADDRESS, OURS, Forward
from tests.forwarding.load import Load
from tests.forwarding.servers import Silent, need

MISSES = 20_000
SECONDS = 3
THREADS = 4
"""One cannot pace so many: it sleeps between two questions."""


def test_zone_is_answered_while_misses_go_to_a_silent_upstream(
    forward: Forward, silent: Silent, tmp_path: Path
) -> None:
    dnsperf = need("dnsperf")
    names = tmp_path / "names"
    names.write_text("".join(f"n{number}.miss.test A\n" for number in range(MISSES * SECONDS)))
    server = forward(silent)
    command = [dnsperf, "-s", "127.0.0.1", "-p", str(server.address[1]), "-d", str(names)]
    command += ["-Q", str(MISSES), "-l", str(SECONDS), "-q", "65000", "-t", "3"]
    command += ["-T", str(THREADS), "-c", str(THREADS)]
    with Load(server.address, 200, lambda _: OURS) as load:
        wait_until(lambda: load.seen["NOERROR"] > 20, "answers before")
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    sent = re.search(r"Queries sent:\s+(\d+)", done.stdout)
    assert sent is not None, done.stdout
    assert int(sent[1]) > MISSES * SECONDS / 2, done.stdout
    assert (load.seen, load.missing) == ({"NOERROR": load.sent}, 0), done.stdout + server.log
    assert addresses(ask(server.address, OURS)) == [OUR_ADDRESS]
