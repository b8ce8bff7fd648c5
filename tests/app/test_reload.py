"""Other settings within the process: what takes effect, what waits, and what stays as it was."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import dnslib
import msgspec
import pytest
from anyio import wait_all_tasks_blocked

from mcsdns import config, dns
from mcsdns.app.process import Server
from mcsdns.app.reload import follow_file, reload
from mcsdns.config import Effect, Settings, split_address
from mcsdns.dns import name as names
from mcsdns.errors import ConfigError
from mcsdns.stats import LimitedReplies
from tests.sources.manifests.test_documents import IMPORT
from tests.waiting import until

LIVE = {
    *("log_format", "log_level", "query_log", "request_metrics", "lameduck", "ready_when"),
    *("identify", "tcp_idle", "tcp_connections", "tcp_bytes", "ttl", "per_cluster", "ns_address"),
    "max_records",
    *("rate_limit", "rate_limit_slip", "cookie_secrets"),
    *("upstream", "upstream_from", "upstream_policy", "upstream_ca", "stub_zone", "allow"),
    *("loop_mark", "forward_limit", "serve_stale", "cache_entries", "cache_bytes"),
    *("cache_max_ttl", "cache_max_negative_ttl"),
}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Server]:
    """A server that knows everything."""
    server = Server(msgspec.structs.replace(settings, listen=["127.0.0.1:0"]))
    try:
        async with anyio.create_task_group() as group:
            server.follow(group)
            await server.start()
            await server.updates.synced.wait()
            yield server
            group.cancel_scope.cancel()
    finally:
        server.close()
        await asyncio.sleep(0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a server of one service, `web.shop`."""
    (tmp_path / "web.yaml").write_text(IMPORT)
    return Settings(manifests=[str(tmp_path)])


def reload_with(server: Server, **changed: Any) -> None:
    reload(server, lambda: msgspec.structs.replace(server.settings, **changed))


def ask(server: Server, name: str, qtype: int) -> list[str]:
    """The TTLs and types of a reply's records, whichever section they are in."""
    wire = dns.write_query(1, names.wire_from_text(name), qtype)
    reply = server.handlers[False].reply_to(wire)
    assert reply is not None
    record = dnslib.DNSRecord.parse(reply)
    return [f"{each.ttl} {dnslib.QTYPE[each.rtype]}" for each in (*record.rr, *record.auth)]


def test_the_field_tells_how_a_change_takes_effect() -> None:
    live = {field.name for field in config.fields() if field.effect is not Effect.RESTART}
    assert live == LIVE


async def test_records_have_the_new_ttl_and_the_zone_another_serial(settings: Settings) -> None:
    async with serving(settings) as server:
        name, none = "web.shop.svc.clusterset.local", "no.shop.svc.clusterset.local"
        for _ in range(3):  # rendered, then ready
            assert ask(server, name, 1) == ["5 A"]
            assert ask(server, none, 1) == ["5 SOA"]
        serial = server.zone_state.publisher.serial
        reload_with(server, ttl=9, ns_address=["192.0.2.53"])
        await until(lambda: ask(server, name, 1) == ["9 A"])
        await until(lambda: ask(server, none, 1) == ["9 SOA"])
        assert ask(server, "ns.dns.clusterset.local", 1) == ["9 A"]
        await until(lambda: server.zone_state.publisher.serial > serial)
        assert len(server.zone_state.tree.services) == 1


async def test_so_many_records_are_shown_from_now_on(settings: Settings, tmp_path: Path) -> None:
    text = IMPORT.replace("[10.0.0.1]", "[10.0.0.1, 10.0.0.2, 10.0.0.3]")
    assert text != IMPORT
    (tmp_path / "web.yaml").write_text(text)
    async with serving(settings) as server:
        name = "web.shop.svc.clusterset.local"
        for most, shown in ((0, 3), (2, 2), (3, 3)):
            reload_with(server, max_records=most)
            await until(lambda shown=shown: ask(server, name, 1) == ["5 A"] * shown)  # type: ignore[misc]


async def test_what_needs_a_restart_waits_and_the_rest_takes_effect(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(settings) as server:
        reload_with(server, zone=["mesh.example"], ttl=9, guard_least=3)
        said = "needs a restart to take effect: guard_least, zone"
        assert said in server.reasons()
        assert f"{said}; what is in force stays" in caplog.text
        assert (server.settings.zone, server.settings.ttl) == (["clusterset.local"], 9)
        assert (server.reloads.applied, server.reloads.is_applied) == (1, True)
        reload_with(server)
        assert server.reasons() == []


async def test_old_and_new_settings_together_must_be_sound(tmp_path: Path) -> None:
    settings = Settings(source="none", upstream=["127.0.0.1:9"])
    async with serving(settings) as server:
        forwarding = server.forwarding
        wanted = {"source": "auto", "manifests": [str(tmp_path)], "upstream": []}
        reload_with(server, ttl=9, **wanted)
        assert "--source none: give --upstream or --stub-zone" in server.reload_problem
        assert (server.forwarding, server.settings.ttl) == (forwarding, 5)
        assert (server.reloads.refused, server.reloads.is_applied) == (1, False)


async def test_bad_settings_change_nothing(settings: Settings) -> None:
    async with serving(settings) as server:

        def fail() -> Settings:
            raise ConfigError("settings.yaml:2: ttl: no")

        before = server.settings
        reload(server, fail)
        assert server.settings is before
        assert server.reasons() == [
            "the settings that were read last are not in force: settings.yaml:2: ttl: no"
        ]
        reload_with(server, upstream=["192.0.2.1"], stub_zone=["a=10.0.0.1", "a=10.0.0.2"])
        assert "the zone stands there twice" in server.reload_problem
        assert server.forwarding is None


async def test_what_is_wrong_is_logged_once_though_it_is_read_twice(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is written, and then told of by SIGHUP."""

    def fail(why: str) -> Settings:
        raise ConfigError(f"settings.yaml:2: {why}")

    async with serving(settings) as server:
        for why in ("ttl: no", "ttl: no", "zone: no", "ttl: no"):
            reload(server, lambda why=why: fail(why))  # type: ignore[misc]
        errors = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
        assert [each.partition(";")[0] for each in errors] == [
            "settings.yaml:2: ttl: no",
            "settings.yaml:2: zone: no",
            "settings.yaml:2: ttl: no",
        ]
        assert server.reloads.refused == 4
        for _ in range(2):
            reload_with(server, guard_least=3)
        warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert warnings == ["needs a restart to take effect: guard_least; what is in force stays"]


async def test_ready_stays_ready(settings: Settings) -> None:
    server = Server(msgspec.structs.replace(settings, listen=["127.0.0.1:0"], ready_when="serving"))
    assert not server.is_ready()
    async with anyio.create_task_group() as group:
        server.follow(group)
        await server.start()
        assert not server.updates.synced.is_set()
        reload_with(server, ready_when="synced")
        assert server.is_ready()
        server.leave("stopping")
        assert not server.is_ready()
        assert server.reasons()[0] == "stopping"
        group.cancel_scope.cancel()
    server.close()
    await asyncio.sleep(0)


async def test_counters_do_not_fall_when_the_forwarder_goes(settings: Settings) -> None:
    async with serving(settings) as server:
        ask(server, "web.shop.svc.clusterset.local", 1)
        rendered = server.snapshot().handlers["udp"].rendered
        for upstream in (["127.0.0.1:9"], ["127.0.0.1:10"], []):
            reload_with(server, upstream=upstream)
            assert (server.forwarding is None) is (not upstream)
            assert server.snapshot().handlers["udp"].rendered == rendered > 0


async def test_file_is_followed_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(IMPORT)
    seen: list[str] = []

    def change(*texts: str | None) -> None:
        for text in texts:
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)

    async with anyio.create_task_group() as group:
        group.start_soon(follow_file, str(path), lambda: seen.append(path.read_text()))
        await wait_all_tasks_blocked()
        change("ttl: 1\n")
        await until(lambda: seen == ["ttl: 1\n"])
        change("ttl: 1\n", None, "ttl: 1\n", "ttl: 2\n")
        await until(lambda: len(seen) > 1)
        group.cancel_scope.cancel()
    assert seen == ["ttl: 1\n", "ttl: 2\n"]


async def test_a_rate_limit_and_a_name_take_effect_and_end(
    settings: Settings, tmp_path: Path
) -> None:
    secrets = tmp_path.parent / f"{tmp_path.name}.secrets"
    secrets.write_text("0" * 32)
    nsid_and_cookie = b"\0\3\0\0\0\x0a\0\x08clientis"
    name = names.wire_from_text("web.shop.svc.clusterset.local")
    request = dns.write_query(1, name, 1, opt=dns.write_opt(1232, options=nsid_and_cookie))
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)

        async def options() -> tuple[bool, list[int]]:
            """Whether a reply is truncated, and which options it has."""
            sock.send(request)
            reply = dnslib.DNSRecord.parse(await loop.sock_recv(sock, 4096))
            return bool(reply.header.tc), [each.code for each in reply.ar[-1].rdata]

        async with serving(settings) as server:
            sock.connect(split_address(server.addresses[0]))
            assert await options() == (False, [])
            reload_with(server, identify="name")
            assert await options() == (False, [3])
            limit = {"rate_limit": 1, "rate_limit_slip": 1, "cookie_secrets": str(secrets)}
            reload_with(server, **limit)
            while not (reply := await options())[0]:
                assert reply == (False, [3, 10])
            assert reply == (True, [3, 10])
            assert server.snapshot().limited == LimitedReplies(dropped=0, truncated=1)
            secrets.unlink()
            reload_with(server, rate_limit=2)
            assert "No such file" in server.reload_problem
            reload_with(server, rate_limit=0, identify="off")
            for _ in range(9):
                assert await options() == (False, [])
            assert server.snapshot().limited.truncated == 1
