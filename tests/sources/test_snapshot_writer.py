import logging
from pathlib import Path

import anyio
import pytest

from mcsdns.sources import snapshot
from mcsdns.sources.snapshot import Known, SnapshotWriter, wait_for
from tests.sources.test_snapshot import DAY_S, HERE, WORLD


class Script:
    """A clock, a source, and a snapshot writer whose every wait the test decides about."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 1000.0
        self.known: Known | None = None
        self.objects = list(WORLD)
        self.writer = SnapshotWriter(
            str(path),
            HERE,
            lambda: self.known,
            lambda: tuple(self.objects),
            lambda: self.now_s,
            self._wait,
        )
        self._end_s = 0.0
        self._scope = anyio.CancelScope()

    async def _wait(self, event: anyio.Event, seconds: float) -> None:
        assert seconds > 0
        await anyio.lowlevel.checkpoint()
        if event.is_set():
            return
        if self.now_s + seconds > self._end_s:
            self._scope.cancel()
            await anyio.lowlevel.checkpoint()
        self.now_s += seconds

    async def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self._end_s = self.now_s + seconds
        with anyio.CancelScope() as self._scope:
            await self.writer.run()
        self.now_s = self._end_s

    def sync(self, *, is_fresh: bool = True) -> None:
        self.known = Known(1_700_000_000.0 + self.now_s, "v1beta1", is_fresh)

    @property
    def writes(self) -> int:
        return self.writer.statistics().writes


@pytest.fixture
async def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "snapshot")


async def test_nothing_is_written_before_the_sync(script: Script) -> None:
    await script.run(3600)
    script.writer.note_change()
    await script.run(3600)
    await script.writer.flush()
    assert not script.path.exists()


async def test_the_first_sync_is_written_within_the_interval(script: Script) -> None:
    await script.run(1)
    script.sync()
    await script.run(5)
    assert script.writes == 1
    found = snapshot.read(str(script.path), HERE, 1_700_001_000.0, DAY_S)
    assert found.objects == WORLD


async def test_changes_are_written_at_most_every_interval(script: Script) -> None:
    script.sync()
    await script.run(0)
    assert script.writes == 1
    for _ in range(100):
        script.writer.note_change()
        await script.run(0.1)
    assert script.writes in {2, 3}
    await script.run(5)
    assert script.writes == 3
    await script.run(500)
    assert script.writes == 3


async def test_a_change_long_after_the_last_one_is_written_at_once(script: Script) -> None:
    script.sync()
    await script.run(100)
    script.writer.note_change()
    await script.run(0)
    assert script.writes == 2


async def test_a_change_wakes_who_waits(tmp_path: Path) -> None:
    script = Script(tmp_path / "snapshot")
    script.sync()
    waits: list[float] = []

    async def wait(event: anyio.Event, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            script.writer.note_change()
            await event.wait()
        else:
            group.cancel_scope.cancel()
            await anyio.lowlevel.checkpoint()

    script.writer = SnapshotWriter(
        str(script.path),
        HERE,
        lambda: script.known,
        lambda: (),
        lambda: script.now_s,
        wait,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(script.writer.run)
    assert waits == [600, 5]


async def test_a_fresh_source_is_written_now_and_then(script: Script) -> None:
    for _ in range(2):
        script.sync()
        await script.run(600)
    assert script.writes == 3
    assert script.writer.statistics().as_of_s == 1_700_001_600.0


async def test_a_stale_source_is_not_written_without_a_change(script: Script) -> None:
    script.sync()
    await script.run(0)
    script.sync(is_fresh=False)
    await script.run(3600)
    assert script.writes == 1
    script.writer.note_change()  # as when the guard lets go
    await script.run(5)
    assert script.writes == 2
    script.sync()
    await script.run(600)
    assert script.writes == 3


async def test_a_failure_is_logged_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    script = Script(tmp_path / "folder" / "snapshot")
    script.sync()
    await script.run(200)
    found = script.writer.statistics()
    assert (found.writes, found.failures) == (0, 4)
    assert "No such file or directory" in found.problem
    assert len(caplog.records) == 1
    (tmp_path / "folder").mkdir()
    await script.run(60)
    assert script.writer.statistics().problem == ""
    assert script.writes == 1
    assert caplog.messages[1:] == [f"snapshot {script.path}: written again"]


async def test_a_change_during_a_write_is_written_by_the_next(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.sync()
    write = snapshot.write

    async def write_while_it_changes(*arguments: object) -> None:
        if script.writes == 0:
            script.objects.pop()
            script.writer.note_change()
        await write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshot, "write", write_while_it_changes)
    await script.run(0)
    assert snapshot.read(str(script.path), HERE, 1_700_001_000.0, DAY_S).objects == WORLD
    await script.run(5)
    assert snapshot.read(str(script.path), HERE, 1_700_001_000.0, DAY_S).objects == WORLD[:-1]


async def test_what_changed_last_is_written_at_the_end(script: Script) -> None:
    script.sync()
    await script.run(0)
    await script.writer.flush()
    assert script.writes == 1
    script.writer.note_change()
    await script.writer.flush()
    assert script.writes == 2


async def test_waiting_ends_with_the_event_or_the_time() -> None:
    event = anyio.Event()
    await wait_for(event, 0.001)
    event.set()
    await wait_for(event, 3600)
