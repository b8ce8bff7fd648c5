"""A clock that is set an hour on or back while mcsdns runs, by libfaketime."""

import datetime
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve, ServeProcess, addresses, ask
from tests.faults.conftest import Upstream, scripted, warnings, web
from tests.faults.table import row
from tests.real.asking import extended_errors
from tests.waiting import wait_until

ZONE = "clusterset.local"
HOUR_S = 3600
AGAIN = "the settings have not changed"


class Clock:
    """The clock of a process; only what says the time of day goes wrong, as in real life."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset_s: int) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(f"{offset_s:+d}\n")
        part.rename(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is missing (Debian: apt-get install faketime)")
    return Clock(library, tmp_path)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream("127.0.0.1")
    yield made
    made.close()


def times_of(server: ServeProcess) -> list[datetime.datetime]:
    """When the process says that it has read its settings again."""
    lines = [line for line in server.log.splitlines() if AGAIN in line]
    return [datetime.datetime.fromisoformat(line.split()[0]) for line in lines]


def serial(server: ServeProcess) -> int:
    (record,) = ask(server.address, ZONE, "SOA").rr
    return int(record.rdata.times[0])


@pytest.mark.parametrize(
    ("offset_s", "name"),
    [(HOUR_S, "the clock is set an hour on"), (-HOUR_S, "the clock is set an hour back")],
)
def test_the_clock_is_set(
    serve: Serve, clock: Clock, upstream: Upstream, tmp_path: Path, offset_s: int, name: str
) -> None:
    assert not row(name).lines
    kubeconfig = tmp_path / "kubeconfig"
    given = ("--kubeconfig", kubeconfig, "--snapshot", tmp_path / "snapshot")
    given += ("--upstream", upstream.text, "--stale-after", 60)
    with scripted("127.0.0.1") as api:
        api.api.write_kubeconfig(kubeconfig)
        server = serve(*given, env=clock.environment)
        server.process.send_signal(signal.SIGHUP)
        server.wait_log(AGAIN)
        before = serial(server)
        assert addresses(ask(server.address, "n1.example.test")) == ["198.18.0.1"]
        clock.set(offset_s)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(times_of(server)) > 1, "another line")
        first, second = times_of(server)
        assert abs((second - first).total_seconds() - offset_s) < HOUR_S / 2
        for number in range(3):
            api.put(web(f"new-{number}", "10.0.0.2"))
            server.wait_for(f"new-{number}.shop", ["10.0.0.2"])
        wait_until(lambda: serial(server) > before, "another serial")
        assert (serial(server) - before > HOUR_S / 2) is (offset_s > 0)
        (cached,) = ask(server.address, "n1.example.test").rr
        assert 0 < cached.ttl <= upstream.ttl_s
        assert upstream.asked["n1.example.test."] == 1
        assert not extended_errors(server.ask("web.shop"))
        assert not warnings(server)
        assert server.end() == 0
    clock.set(0)
    again = serve(*given, env=clock.environment)
    assert extended_errors(again.ask("new-2.shop")) == {3}
    assert addresses(again.ask("new-2.shop")) == ["10.0.0.2"]
