"""The manifests source: edits of every kind, the last good state, and what is said about it."""

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import watchfiles

from mcsdns.errors import SourceError
from mcsdns.objects.decode import SliceProfile
from mcsdns.objects.events import Apply, Delete, Event, Init, InitApply, InitDone
from mcsdns.objects.model import Kind, ServiceImport
from mcsdns.objects.store import Store
from mcsdns.sources.manifests import files, worker
from mcsdns.sources.manifests import source as source_module
from mcsdns.sources.manifests.source import Debounce, ManifestSource
from mcsdns.sources.manifests.state import Statistics
from mcsdns.sources.timeslice import Timeslice
from tests.sources.manifests.test_documents import IMPORT, SLICE
from tests.waiting import until

KEPT = "what it said before is still served"
NOT_SERVED = "it is not served, the rest is"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that we are in, with an empty folder `in`; open to all."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("in")
    tmp_path.chmod(0o777)
    os.chmod("in", 0o777)
    return tmp_path


def service(name: str, ip: str = "10.0.0.1") -> str:
    return IMPORT.replace("web", name).replace("10.0.0.1", ip)


WEB = service("web")
WEB_2 = service("web", "10.0.0.2")


def write(path: str, *documents: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("---\n".join(documents))


class World:
    """A sink with a store, the events that a source sent, and what they changed."""

    def __init__(self, *paths: str, max_bytes: int = 1 << 20, **debounce: float) -> None:
        self.store = Store()
        self.events: list[Event] = []
        self.changes: list[str] = []
        waits: dict[str, float] = {"still_s": 0.02, "gone_s": 0.1, "most_s": 0.3, "retry_s": 0}
        self.source = ManifestSource(
            paths or ["in"], self, max_bytes=max_bytes, debounce=Debounce(**waits | debounce)
        )

    def apply(self, event: Event) -> None:
        self.events.append(event)
        if self.store.apply(event):
            self.changes.append(shortly(event))

    def note(self, why: str, *, imports_only: bool) -> None:
        raise AssertionError(why)

    def mark_stale(self, *, stale: bool) -> None:
        raise AssertionError(stale)

    @property
    def ips(self) -> dict[str, str]:
        """The last number of the address of each service, by name."""
        return {name: str(each.ips[0][-1]) for (_, name), each in self.store.imports.items()}

    @property
    def problems(self) -> list[str]:
        return [f"{each.origin}: {each.problem.text}" for each in self.source.problems()]

    async def rescan(self) -> list[str]:
        """Look for changes; return what the store found changed, shortly."""
        self.changes.clear()
        await self.source.rescan()
        return self.changes.copy()


def shortly(event: Event) -> str:
    match event:
        case Apply(object=each) | InitApply(object=each):
            return f"+{each.name}"
        case Delete(key=(_, name)):
            return f"-{name}"
        case _:
            return type(event).__name__


async def loaded(*paths: str, max_bytes: int = 1 << 20, **debounce: float) -> World:
    world = World(*paths, max_bytes=max_bytes, **debounce)
    await world.source.load()
    return world


async def test_load_sends_a_whole_new_list_of_each_kind() -> None:
    write("in/a.yaml", service("web"), SLICE)
    world = await loaded()
    web, db = (event.object for event in world.events if isinstance(event, InitApply))
    assert world.events == [
        *(Init(kind) for kind in Kind),
        InitApply(web),
        InitApply(db),
        *(InitDone(kind) for kind in Kind),
    ]
    nothing_wrong = {"duplicate": 0, "missing": 0}
    assert world.source.statistics() == Statistics(1, 2, 0, 0, 1, 0, nothing_wrong)
    assert world.source.name == "in"


async def test_load_of_much_is_done_by_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    write("in/a.yaml", service("web"), "#" * 600_000)
    assert (await loaded()).ips == {"web": "1"}
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert (await loaded()).problems == [
        f"in/a.yaml: reading it failed with status 1; {NOT_SERVED}"
    ]


async def test_path_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(SourceError, match=r"^gone: No such file or directory; name a file or fold"):
        await loaded("in", "gone")


async def test_folder_without_manifests_is_served_empty_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write("in/readme.md")
    world = await loaded()
    assert all(map(world.store.is_synced, Kind))
    assert "in: no file of .yaml, .yml, .json there" in caplog.text


def rewrite(path: str, text: str) -> None:
    Path(path).write_text(text)


def replace(path: str, text: str) -> None:
    rewrite("tmp", text)
    os.replace("tmp", path)


def replace_with_backup(path: str, text: str) -> None:
    os.rename(path, path + "~")
    rewrite(path, text)
    os.remove(path + "~")


def remove_and_create(path: str, text: str) -> None:
    os.remove(path)
    rewrite(path, text)


def truncate_and_append(path: str, text: str) -> None:
    os.truncate(path, 0)
    with open(path, "a", encoding="utf-8") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()


def replace_by_link(path: str, text: str) -> None:
    os.makedirs("elsewhere", exist_ok=True)
    rewrite("elsewhere/file", text)
    os.symlink("../elsewhere/file", "link")
    os.replace("link", path)


def make_the_folder_anew(path: str, text: str) -> None:
    shutil.rmtree("in")
    os.mkdir("in")
    rewrite(path, text)


EDITS = [
    *(rewrite, replace, replace_with_backup, remove_and_create, truncate_and_append),
    *(replace_by_link, make_the_folder_anew),
]


@pytest.mark.parametrize("edit", EDITS, ids=[edit.__name__ for edit in EDITS])
async def test_edit_sends_what_differs_and_nothing_else(
    edit: Callable[[str, str], None],
) -> None:
    write("in/a.yaml", service("kept"), service("changed"), service("removed"))
    world = await loaded()
    texts = [service("kept"), service("changed", "10.0.0.2"), service("added")]
    edit("in/a.yaml", "---\n".join(texts))
    assert sorted(await world.rescan()) == ["+added", "+changed", "-removed"]
    assert world.ips == {"kept": "1", "changed": "2", "added": "1"}
    assert world.problems == []
    assert await world.rescan() == []


async def test_config_map_volume_is_swapped_in_one_go() -> None:
    write("in/..1/a.yaml", service("web"))
    write("in/..1/b.yaml", service("gone"))
    os.symlink("..1", "in/..data")
    for name in ("a.yaml", "b.yaml"):
        os.symlink(f"..data/{name}", f"in/{name}")
    world = await loaded()
    assert world.ips == {"web": "1", "gone": "1"}
    write("in/..2/a.yaml", service("web", "10.0.0.2"))
    os.symlink("..2", "in/..data_tmp")
    os.replace("in/..data_tmp", "in/..data")
    os.remove("in/b.yaml")
    shutil.rmtree("in/..1")
    assert sorted(await world.rescan()) == ["+web", "-gone"]
    assert world.ips == {"web": "2"}


async def test_file_that_is_gone_takes_its_objects_along() -> None:
    write("in/a.yaml", service("a"))
    write("in/b.yaml", service("b"))
    world = await loaded()
    os.remove("in/b.yaml")
    assert await world.rescan() == ["-b"]


def after_each_look(monkeypatch: pytest.MonkeyPatch, do: Callable[[files.Listing], None]) -> None:
    """Do something to the files right after each time that they were looked at."""
    find = files.find

    def find_and_do(paths: Sequence[str]) -> files.Listing:
        listing = find(paths)
        do(listing)
        return listing

    monkeypatch.setattr(files, "find", find_and_do)


async def test_file_that_is_only_gone_for_a_moment_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("in/a.yaml", service("a"))
    world = await loaded()
    os.remove("in/a.yaml")

    def create(listing: files.Listing) -> None:
        if not listing.files:
            write("in/a.yaml", service("a"))

    after_each_look(monkeypatch, create)
    assert await world.rescan() == []
    assert world.source.statistics().reads == 2


async def test_file_under_a_new_name_is_the_same() -> None:
    write("in/b.yaml", service("web"))
    world = await loaded()
    os.rename("in/b.yaml", "in/a.yaml")
    assert await world.rescan() == ["+web"]  # with its new place
    assert world.problems == []
    (web,) = world.store.imports.values()
    assert web.origin == "in/a.yaml:1"


async def test_object_that_moves_between_files_is_never_away() -> None:
    write("in/a.yaml", service("a"), service("web"))
    write("in/b.yaml", service("b"))
    world = await loaded()
    write("in/a.yaml", service("a"))
    write("in/b.yaml", service("b"), service("web"))
    assert await world.rescan() == ["+web"]


@pytest.mark.parametrize("restless_s", [0, 10_000])
async def test_restless_file_is_waited_for_but_not_for_ever(
    restless_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in/a.yaml", service("a"))
    world = await loaded(restless_s=restless_s)

    def append(_: files.Listing) -> None:
        with open("in/a.yaml", "a", encoding="utf-8") as file:
            file.write("---\n" + service("b"))

    after_each_look(monkeypatch, append)
    write("in/c.yaml", service("c"))
    while "c" not in world.ips:  # which does not wait for the other
        await world.rescan()
    await world.rescan()
    assert ("b" in world.ips) is (restless_s == 0)


async def test_file_that_is_written_to_while_it_is_read_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("in/a.yaml", WEB, service("other"))
    world = await loaded()
    read_by_child = worker.read_by_child

    async def read_and_write(
        paths: list[str], max_bytes: int, take: worker.Take, profile: SliceProfile
    ) -> None:
        write("in/a.yaml", WEB_2)  # the first half
        await read_by_child(paths, max_bytes, take, profile)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "read_by_child", read_and_write)
        write("in/a.yaml", service("other", "10.0.0.2"), WEB_2)
        assert await world.rescan() == []
    assert world.ips == {"web": "1", "other": "1"}
    write("in/a.yaml", WEB_2, service("other", "10.0.0.2"))
    assert await world.rescan() == ["+web", "+other"]


async def test_file_that_is_replaced_while_it_is_read_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("in/a.yaml", WEB)
    world = await loaded()
    read_by_child = worker.read_by_child

    async def read_and_replace(
        paths: list[str], max_bytes: int, take: worker.Take, profile: SliceProfile
    ) -> None:
        replace("in/a.yaml", WEB_2)
        await read_by_child(paths, max_bytes, take, profile)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "read_by_child", read_and_replace)
        write("in/a.yaml", service("web", "10.0.0.3"))
        assert await world.rescan() == ["+web"]
    assert world.ips == {"web": "2"}


BREAKS: list[tuple[str, str]] = [
    ("a: b: c\n", "in/a.yaml:1: not YAML: mapping values are not allowed"),
    (WEB.replace("80", "x"), "in/a.yaml:8: Expected `int | null`, got `str`"),
    (WEB.replace("v1alpha1", "v1"), "in/a.yaml:1: 'multicluster.x-k8s.io/v1' is not read"),
    (WEB.replace("name: web, ", ""), "in/a.yaml:3: Object missing required field `name`"),
    (WEB.replace("kind: ServiceImport\n", ""), "in/a.yaml:1: a manifest is a mapping with"),
    (WEB[:40], "in/a.yaml:1: a manifest is a mapping with"),
    (WEB[:80], "in/a.yaml:4: not YAML: did not find expected node content"),
    ("kind: List\nitems:\n- " + WEB[:40], "in/a.yaml:3: a manifest is a mapping"),
    (WEB + "\0", "in/a.yaml:9: not YAML: a character that YAML does not allow"),
    ("[" * 1900, "in/a.yaml:1: not YAML: deeper than 500 levels"),
    ("", "in/a.yaml: it is empty"),
    ("\n\n", "in/a.yaml: it is empty"),
    (WEB + "#" * 2000, "in/a.yaml: larger than 2000 octets"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why"), BREAKS, ids=[why[:50] for _, why in BREAKS])
async def test_what_breaks_leaves_its_last_good_state_until_it_is_mended(
    text: str, why: str
) -> None:
    write("in/a.yaml", WEB)
    write("in/b.yaml", service("b"))
    world = await loaded(max_bytes=2000)
    rewrite("in/a.yaml", text)
    write("in/b.yaml", service("b", "10.0.0.3"))
    assert await world.rescan() == ["+b"]
    assert world.ips == {"web": "1", "b": "3"}
    (said,) = world.problems
    assert said.startswith(why)
    assert said.endswith(f"; {KEPT}")
    write("in/a.yaml", WEB_2)
    assert await world.rescan() == ["+web"]
    assert world.problems == []


@pytest.mark.parametrize(("text", "why"), BREAKS, ids=[why[:50] for _, why in BREAKS])
async def test_what_is_broken_from_the_start_costs_only_itself(text: str, why: str) -> None:
    rewrite("in/a.yaml", text)
    write("in/b.yaml", service("b"))
    world = await loaded(max_bytes=2000)
    assert world.ips == {"b": "1"}
    if text.strip():
        (said,) = world.problems
        assert said.endswith(f"; {NOT_SERVED}")
    else:
        assert world.problems == []


async def test_broken_object_keeps_itself_and_lets_others_change() -> None:
    write("in/a.yaml", WEB, service("other"), service("removed"))
    world = await loaded()
    write("in/a.yaml", WEB.replace("80", "x"), service("other", "10.0.0.2"))
    assert sorted(await world.rescan()) == ["+other", "-removed"]
    assert world.ips == {"web": "1", "other": "2"}


async def test_broken_document_keeps_whatever_it_may_have_been() -> None:
    write("in/a.yaml", WEB, service("other"))
    world = await loaded()
    write("in/a.yaml", "a: b: c\n", service("other", "10.0.0.2"), service("new"))
    assert sorted(await world.rescan()) == ["+new", "+other"]
    assert world.ips == {"web": "1", "other": "2", "new": "1"}


async def test_last_good_state_outlives_many_broken_ones() -> None:
    write("in/a.yaml", WEB)
    world = await loaded()
    for number in range(3):
        rewrite("in/a.yaml", f"a: b: c # {number}\n")
        assert await world.rescan() == []
    assert world.ips == {"web": "1"}


@pytest.mark.parametrize("retry_s", [0, 10_000])
async def test_child_that_dies_leaves_the_last_good_state(
    retry_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in/a.yaml", WEB)
    world = await loaded(retry_s=retry_s)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        write("in/a.yaml", WEB_2)
        assert await world.rescan() == []
    kept = [f"in/a.yaml: reading it failed with status 1; {KEPT}"]
    assert world.problems == kept
    assert world.source.statistics().failed_reads == 1
    assert await world.rescan() == ([] if retry_s else ["+web"])
    assert world.problems == (kept if retry_s else [])


async def test_named_path_that_is_gone_leaves_its_last_good_state() -> None:
    write("in/a.yaml", WEB)
    write("b.yaml", service("b"))
    world = await loaded("in", "b.yaml")
    shutil.rmtree("in")
    os.remove("b.yaml")
    assert await world.rescan() == []
    assert world.problems == [
        f"{path}: No such file or directory; {KEPT}" for path in ("in", "b.yaml")
    ]
    write("in/a.yaml", WEB_2)
    write("b.yaml", service("b"))
    assert "+web" in await world.rescan()
    assert world.problems == []


async def test_file_and_folder_that_may_not_be_read_keep_their_last_good_state(
    monkeypatch: pytest.MonkeyPatch, as_nobody: None
) -> None:
    async def read_here(
        paths: list[str], max_bytes: int, take: worker.Take, profile: SliceProfile
    ) -> None:
        for path in paths:
            await take(path, worker.read_file(path, max_bytes, profile))

    monkeypatch.setattr(worker, "read_by_child", read_here)  # who is nobody runs no Python
    write("in/a.yaml", WEB)
    write("in/deep/b.yaml", service("b"))
    world = await loaded()
    os.chmod("in/a.yaml", 0)
    os.chmod("in/deep", 0)
    assert await world.rescan() == []
    assert sorted(world.problems) == [
        f"in/a.yaml: Permission denied; {KEPT}",
        f"in/deep: Permission denied; {KEPT}",
    ]
    os.chmod("in/deep", 0o755)
    os.chmod("in/a.yaml", 0o644)
    assert await world.rescan() == []
    assert world.problems == []


async def test_object_that_stands_twice_is_served_from_the_first_place() -> None:
    write("in/a.yaml", service("x"), service("twice", "10.0.0.1"), service("twice", "10.0.0.2"))
    write("in/b.yaml", service("twice", "10.0.0.3"))
    world = await loaded()
    assert world.ips == {"x": "1", "twice": "1"}
    text = "the same object stands at in/a.yaml:10; that one is served, remove one of them"
    assert world.problems == [f"in/a.yaml:19: {text}", f"in/b.yaml:1: {text}"]
    write("in/a.yaml", service("x"))
    assert await world.rescan() == ["+twice"]
    assert world.ips == {"x": "1", "twice": "3"}
    assert world.problems == []


async def test_problem_is_logged_once_until_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write("in/a.yaml", WEB.replace("80", "x"))
    world = await loaded()
    line = f"in/a.yaml:8: ServiceImport shop/web: $.spec.ports[0].port: Expected `int | null`, got `str`; {NOT_SERVED}"  # noqa: E501
    assert caplog.messages == [line]
    write("in/a.yaml", "# an edit elsewhere\n" + WEB.replace("80", "x"))
    await world.rescan()
    assert caplog.messages == [line]
    write("in/a.yaml", WEB)
    await world.rescan()
    write("in/a.yaml", WEB.replace("80", "x"))
    await world.rescan()
    assert caplog.messages == [line, line.replace(NOT_SERVED, KEPT)]


async def test_of_very_many_problems_the_first_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write("in/a.yaml", *["[]\n"] * 100)
    world = await loaded()
    assert len(caplog.messages) == 21
    assert caplog.messages[-1] == "80 more problems"
    assert world.source.statistics().problems == 100


async def test_problems_are_counted_by_reason_and_object_as_they_come_and_go() -> None:
    twice_wrong = WEB.replace("name: http", "name: HTTP").replace("10.0.0.1", "10.0.0.300")
    write("in/a.yaml", twice_wrong, "[]\n", "[]\n")
    write("in/b.yaml", WEB)
    write("in/c.yaml", WEB)
    world = await loaded()

    def counted() -> dict[str, int]:
        statistics = world.source.statistics()
        assert statistics.problems == len(list(world.source.problems()))
        return {reason: number for reason, number in statistics.wrong.items() if number}

    assert counted() == {"bad_address": 1, "bad_port": 1, "not_an_object": 2, "duplicate": 1}
    write("in/a.yaml", "kind: Pod\napiVersion: v1\nmetadata: {name: x}\n")
    await world.rescan()
    assert counted() == {"duplicate": 1}
    assert world.source.statistics().ignored == 1
    os.remove("in/a.yaml")
    os.remove("in/c.yaml")
    await world.rescan()
    assert counted() == {}
    assert world.source.statistics().ignored == 0


@pytest.fixture
def shortest_timeslices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source leaves the loop to others whenever it may."""
    monkeypatch.setattr(source_module, "Timeslice", partial(Timeslice, -1.0))


@pytest.mark.usefixtures("shortest_timeslices")
async def test_all_of_one_service_is_sent_in_one_turn() -> None:
    slices = [SLICE.replace("db-1", f"{n}-slice").replace(": db", f": s{n}") for n in range(400)]
    write("in/a.yaml", *(service(f"s{number}") for number in range(400)))
    write("in/b.yaml", *slices)
    turn = 0
    turns: dict[str, set[int]] = {}

    class Turns(World):
        def apply(self, event: Event) -> None:
            super().apply(event)
            if isinstance(event, Apply | InitApply):
                each = event.object
                name = each.name if isinstance(each, ServiceImport) else each.service
                turns.setdefault(name, set()).add(turn)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await anyio.lowlevel.checkpoint()

    world = Turns()
    async with anyio.create_task_group() as group:
        await world.source.load()
        turns.clear()
        group.start_soon(count_turns)
        write("in/b.yaml", *(piece.replace("10.1.0.1", "10.1.0.2") for piece in slices))
        write("in/a.yaml", *(service(f"s{number}", "10.0.0.2") for number in range(400)))
        await world.rescan()
        group.cancel_scope.cancel()
    assert len(turns) == 400
    assert all(len(each) == 1 for each in turns.values())
    assert len(set().union(*turns.values())) > 1


@pytest.mark.usefixtures("shortest_timeslices")
async def test_slice_under_a_new_name_is_never_there_beside_the_old_one() -> None:
    numbers = range(50)

    def write_slices(name: str) -> None:
        texts = (SLICE.replace("db-1", f"{name}-{n}").replace(": db", f": s{n}") for n in numbers)
        write("in/a.yaml", *texts)

    write_slices("old")
    world = await loaded()
    names: set[tuple[str, ...]] = set()

    async def look() -> None:
        while True:
            for number in numbers:
                names.add(tuple(each.name for each in world.store.orphans(("shop", f"s{number}"))))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        write_slices("new")
        await world.rescan()
        group.cancel_scope.cancel()
    assert names == {(f"{name}-{number}",) for name in ("old", "new") for number in numbers}


@contextlib.asynccontextmanager
async def watched(*paths: str) -> AsyncIterator[World]:
    """A world that follows its files by itself."""
    world = await loaded(*paths)
    async with anyio.create_task_group() as group:
        group.start_soon(world.source.watch)
        yield world
        group.cancel_scope.cancel()


async def test_watch_sees_edits_of_files_folders_and_what_is_linked() -> None:
    write("in/a.yaml", service("a"))
    write("named.yaml", service("named"))
    write("out/linked.yaml", service("linked"))
    os.symlink("../out/linked.yaml", "in/linked.yaml")
    async with watched("in", "named.yaml") as world:
        write("in/a.yaml", service("a", "10.0.0.2"))
        await until(lambda: world.ips == {"a": "2", "named": "1", "linked": "1"})
        write("out/linked.yaml", service("linked", "10.0.0.2"))
        await until(lambda: world.ips == {"a": "2", "named": "1", "linked": "2"})
        replace("named.yaml", service("named", "10.0.0.2"))
        await until(lambda: world.ips == {"a": "2", "named": "2", "linked": "2"})
        write("in/new/deep/b.yaml", service("b"))
        await until(lambda: world.ips == {"a": "2", "named": "2", "linked": "2", "b": "1"})
        write("in/new/deep/b.yaml", service("b", "10.0.0.2"))
        await until(lambda: world.ips == {"a": "2", "named": "2", "linked": "2", "b": "2"})


async def test_watch_goes_on_in_a_folder_that_was_made_anew() -> None:
    write("in/a.yaml", service("a"))
    async with watched() as world:
        shutil.rmtree("in")
        write("in/a.yaml", service("a", "10.0.0.2"))
        await until(lambda: world.ips == {"a": "2"})
        shutil.rmtree("in")
        await until(lambda: world.problems)
        write("in/a.yaml", service("a", "10.0.0.3"))
        await until(lambda: world.ips == {"a": "3"})
        write("in/a.yaml", service("a", "10.0.0.4"))
        await until(lambda: world.ips == {"a": "4"})


async def test_watch_rests_while_nothing_changes() -> None:
    write("in/a.yaml", service("a"))
    async with watched() as world:
        write("in/a.yaml", service("a", "10.0.0.2"))
        await until(lambda: world.ips == {"a": "2"})
        await world.source.rescan()
        await world.source.rescan()
        assert world.source.statistics().reads == 2


async def test_without_notices_changes_are_found_by_looking(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*paths: object, **options: object) -> AsyncIterator[set[object]]:
        raise OSError(28, "No space left on device")
        yield set()

    monkeypatch.setattr(watchfiles, "awatch", fail)
    write("in/a.yaml", service("a"))
    async with watched() as world:
        write("in/a.yaml", service("a", "10.0.0.2"))
        await until(lambda: world.ips == {"a": "2"})
    assert "changes are found once a second only, watching folders fails" in caplog.text
