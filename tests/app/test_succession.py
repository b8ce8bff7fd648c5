"""Other settings within the process: what is doubted, given up, freed and carried over."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest
from anyio import wait_all_tasks_blocked

from mcsdns import config
from mcsdns.app import changes
from mcsdns.app.process import Server
from mcsdns.app.reload import Reloader, follow_file
from mcsdns.app.succession import Succession
from mcsdns.config import Settings
from mcsdns.errors import SourceError
from mcsdns.server.zone_state import ZoneState
from tests.forward.scripted import until
from tests.scripted import SERVICE_IMPORT, FakeApi
from tests.sources.manifests.test_documents import IMPORT


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[tuple[Server, anyio.abc.TaskGroup]]:
    """A server that knows everything."""
    server = Server(msgspec.structs.replace(settings, listen=["127.0.0.1:0"]))
    try:
        async with anyio.create_task_group() as group:
            server.follow(group)
            await server.start()
            await server.feed.synced.wait()
            yield server, group
            group.cancel_scope.cancel()
    finally:
        server.close()
        await asyncio.sleep(0)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """An API server with 20 services."""
    async with FakeApi() as fake:
        for number in range(20):
            fake.put(service(f"web-{number}"))
        yield fake


def service(name: str) -> dict[str, Any]:
    return {
        "kind": SERVICE_IMPORT,
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"type": "ClusterSetIP", "ips": ["10.0.0.1"], "ports": []},
    }


def settings_of(api: FakeApi, folder: Path, **more: Any) -> Settings:
    return Settings(kubeconfig=str(api.write_kubeconfig(folder / "kubeconfig")), **more)


def with_ttl(settings: Settings, ttl: int) -> Settings:
    return msgspec.structs.replace(settings, ttl=ttl)


def test_every_setting_belongs_to_one_class_at_most() -> None:
    classes = [
        *(changes.PLAIN, changes.SOCKETS, changes.CONNECTIONS, changes.SITES),
        *(changes.FORWARDING, changes.OBJECTS),
    ]
    known = {field.name for field in config.fields()}
    assert set().union(*classes) <= known
    assert sum(map(len, classes)) == len(set().union(*classes))


@pytest.mark.parametrize(
    ("more", "world", "forwarding", "sites"),
    [
        ({"ttl": 9}, True, False, False),
        ({"manifests": ["x"]}, True, False, False),
        ({"upstream": ["192.0.2.1"]}, False, True, False),
        ({"listen": ["127.0.0.1:9"]}, False, True, False),
        ({"admin": "none", "lameduck": 1.0}, False, False, True),
        ({"query_log": 5, "tcp_idle": 1.0, "log_level": "debug"}, False, False, False),
    ],
)
def test_what_is_made_anew(
    more: dict[str, Any], world: bool, forwarding: bool, sites: bool
) -> None:
    what = changes.between(Settings(), Settings(**more))
    assert set(what.names) == set(more)
    assert (what.needs_world, what.needs_forwarding, what.needs_sites) == (world, forwarding, sites)


async def test_api_server_that_is_away_keeps_the_world(api: FakeApi, tmp_path: Path) -> None:
    settings = settings_of(api, tmp_path)
    async with following(settings) as (server, group):
        world = server.world
        await api.refuse()
        with pytest.raises(SourceError, match=r"^not whole after 0\.2 s: .*no connection"):
            await Succession(server, group, 0.2).change(with_ttl(server.settings, 9))
        assert (server.world, server.settings.ttl) == (world, 5)
        assert world.tree.service_count() == 20
        await api.accept()
        await Succession(server, group).change(with_ttl(server.settings, 9))
        assert server.world is not world
        assert server.world.tree.settings.ttl == 9


async def test_world_that_lost_most_services_is_doubted(api: FakeApi, tmp_path: Path) -> None:
    async with following(settings_of(api, tmp_path)) as (server, group):
        world = server.world
        for number in range(15):
            api.delete(SERVICE_IMPORT, "shop", f"web-{number}")
        with pytest.raises(SourceError, match="15 of 20 services are not there any more"):
            await Succession(server, group, 0.5).change(with_ttl(server.settings, 9))
        assert server.world is world
        assert world.tree.service_count() == 20  # by its guard
        other = msgspec.structs.replace(server.settings, guard_grace=0.0)
        await Succession(server, group).change(other)
        assert server.world.tree.service_count() == 5


async def test_other_objects_are_not_doubted(api: FakeApi, tmp_path: Path) -> None:
    async with following(settings_of(api, tmp_path)) as (server, group):
        wanted = msgspec.structs.replace(server.settings, import_selector="team=none")
        await Succession(server, group).change(wanted)
        assert server.world.tree.service_count() == 0


async def test_old_world_is_taken_apart_and_freed(api: FakeApi, tmp_path: Path) -> None:
    gone: list[ZoneState] = []
    async with following(settings_of(api, tmp_path)) as (server, group):
        for ttl in (6, 7, 8):
            gone.append(server.world)
            await Succession(server, group).change(with_ttl(server.settings, ttl))
        await until(lambda: not any(world.tree.service_count() for world in gone))
        for world in gone:
            assert world.store.statistics().service_imports == 0
        assert server.world.tree.service_count() == 20


async def test_old_snapshot_is_not_written_over_the_new_one(api: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "zone.snapshot"
    settings = settings_of(api, tmp_path, snapshot=str(path))
    async with following(settings) as (server, group):
        await until(path.exists)
        first = path.read_bytes()
        wanted = msgspec.structs.replace(server.settings, zone=["mesh.example"])
        await Succession(server, group).change(wanted)
        await until(lambda: path.read_bytes() != first)
        second = path.read_bytes()
        assert b"mesh" in second
    assert b"mesh" in path.read_bytes()


async def test_ready_stays_ready(api: FakeApi, tmp_path: Path) -> None:
    settings = settings_of(api, tmp_path, ready_when=config.schema.ReadyWhen.SERVING)
    server = Server(msgspec.structs.replace(settings, listen=["127.0.0.1:0"]))
    await api.refuse()
    async with anyio.create_task_group() as group:
        server.follow(group)
        assert not server.is_ready()
        await server.start()
        synced = msgspec.structs.replace(server.settings, ready_when=config.schema.ReadyWhen.SYNCED)
        await Succession(server, group).change(synced)
        assert server.is_ready()
        server.leave("stopping")
        assert not server.is_ready()
        assert server.reasons()[0] == "stopping"
        group.cancel_scope.cancel()
    server.close()
    await asyncio.sleep(0)


async def test_newest_settings_replace_a_change_under_way(api: FakeApi, tmp_path: Path) -> None:
    async with following(settings_of(api, tmp_path)) as (server, group):
        wanted = with_ttl(server.settings, 6)
        reloader = Reloader(server, Succession(server, group), lambda: wanted)
        group.start_soon(reloader.run)
        await api.refuse()
        reloader.ask()
        await wait_all_tasks_blocked()
        wanted = with_ttl(server.settings, 7)
        await api.accept()
        reloader.ask()
        await until(lambda: server.settings.ttl == 7)
        assert server.reloads.applied == 1


async def test_file_is_followed_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(IMPORT)
    told: list[str] = []

    def change(*texts: str | None) -> None:
        for text in texts:
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)

    async with anyio.create_task_group() as group:
        group.start_soon(follow_file, str(path), lambda: told.append(path.read_text()))
        await wait_all_tasks_blocked()
        change("ttl: 1\n")
        await until(lambda: told == ["ttl: 1\n"])
        change("ttl: 1\n", None, "ttl: 1\n", "ttl: 2\n")
        await until(lambda: len(told) > 1)
        group.cancel_scope.cancel()
    assert told == ["ttl: 1\n", "ttl: 2\n"]


async def test_nothing_of_an_old_world_waits_for_the_collector(tmp_path: Path) -> None:
    """What was settled is frozen: the collector does not see it."""
    (tmp_path / "web.yaml").write_text(IMPORT)
    settings = Settings(manifests=[str(tmp_path)])
    gc.disable()
    try:
        async with following(settings) as (server, group):
            before = weakref.ref(server.feed)
            server.generation.settle()
            await Succession(server, group).change(msgspec.structs.replace(settings, ttl=9))
            await until(lambda: before() is None)
    finally:
        gc.enable()


async def test_a_rescan_is_not_cut_short_by_the_next_one(tmp_path: Path) -> None:
    """Cut short between what it noted and what it told, it would never tell."""
    (tmp_path / "web.yaml").write_text(IMPORT)
    settings = Settings(manifests=[str(tmp_path)])
    ended: list[int] = []
    async with following(settings) as (server, group):
        reloader = Reloader(server, Succession(server, group), lambda: server.settings)
        go_on = anyio.Event()

        async def rescan() -> None:
            reloader.ask(rescan=True) if not ended else None
            await go_on.wait()
            ended.append(1)

        server.rescan = rescan  # type: ignore[method-assign]
        group.start_soon(reloader.run)
        reloader.ask(rescan=True)
        await wait_all_tasks_blocked()
        go_on.set()
        await until(lambda: len(ended) == 2)


async def test_counters_do_not_fall_when_a_socket_or_the_forwarder_goes(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(IMPORT)
    settings = Settings(manifests=[str(tmp_path)], upstream=["127.0.0.1:9"])
    async with following(settings) as (server, group):
        succession, told = Succession(server, group), server.told
        listeners = len(server.statistics().udp)
        wanted = msgspec.structs.replace(
            server.settings, listen=["127.0.0.1:0", "[::1]:0"], cache_max_ttl=7
        )
        await succession.change(wanted)
        assert server.forwarding is not None
        assert server.told is told
        await succession.change(msgspec.structs.replace(wanted, listen=["[::1]:0"]))
        assert len(server.listening.listeners) == 1
        assert len(server.statistics().udp) == listeners + 1
