"""A start while the API server is away: the snapshot is served, and what becomes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apiserver.process import ApiServer
from tests.conftest import ServeProcess, ask
from tests.real.asking import Prober, dig, read, wait_answers, wait_dig, wait_up
from tests.real.conftest import Follow, GateTo
from tests.real.services import (
    ZONE,
    Service,
    answers_of,
    heard,
    web,
)
from tests.waiting import free_port, wait_until

SERVED = "is served until the API server answers"
IGNORED = "it is ignored, and written anew after the first sync"

Refuses = Callable[..., ServeProcess]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "zone.snapshot"


def leave_snapshot(apiserver: ApiServer, follow: Follow, file: Path, *arguments: object) -> None:
    """Serve and stop, which leaves a snapshot; then the API server is away."""
    follow(apiserver, "--snapshot", file, *arguments).end()
    apiserver.kill()


def test_start_with_the_api_server_away(
    apiserver: ApiServer, follow: Follow, services: list[Service], file: Path
) -> None:
    leave_snapshot(apiserver, follow, file)
    assert file.stat().st_mode & 0o777 == 0o600
    server = follow(apiserver, "--snapshot", file)
    assert f"from snapshot {file} of " in server.out
    assert SERVED in server.log
    expected = answers_of(services)
    with Prober(server, expected) as prober:
        prober.wait_rounds(20)
        assert prober.errors() == {3}
        assert dig(server, "nothing.shop").errors.keys() == {19}
        apiserver.start()
        apiserver.create(web("new", "10.97.0.1"))
        wait_dig(server, "new.shop", "10.97.0.1")
        wait_until(lambda: not dig(server, "web-0.shop").errors, "fresh answers")
    prober.check()
    wait_dig(server, "nothing.shop", status="NXDOMAIN")


def test_what_was_deleted_meanwhile_is_gone_after_the_first_sync(
    apiserver: ApiServer, follow: Follow, services: list[Service], file: Path
) -> None:
    leave_snapshot(apiserver, follow, file)
    apiserver.start()
    apiserver.delete(services[0].imported)
    apiserver.apply(web("web-2", "10.97.0.2"))
    apiserver.kill()
    server = follow(apiserver, "--snapshot", file)
    assert dig(server, "web-0.shop").data == ["10.96.0.0"]
    apiserver.start()
    wait_dig(server, "web-2.shop", "10.97.0.2")
    wait_dig(server, "web-0.shop", status="NXDOMAIN")
    wait_answers(server, answers_of([services[1], *services[3:]]))


def test_first_list_without_most_services_is_held(
    apiserver: ApiServer, follow: Follow, services: list[Service], file: Path
) -> None:
    leave_snapshot(apiserver, follow, file)
    apiserver.start()
    for service in services[:15]:
        apiserver.delete(service.imported)
    server = follow(apiserver, "--snapshot", file, "--guard-grace", 3)
    with Prober(server, answers_of(services)) as prober:
        gone = dict.fromkeys(answers_of(services[:15]), heard(rcode="NXDOMAIN"))
        wait_answers(server, gone)
        prober.check(until=server.logged_at("mass deletion followed"), then=gone)
    assert "mass deletion held: 15 of 20 services lost their last answer" in server.log


def test_held_services_are_in_the_snapshot(
    apiserver: ApiServer, follow: Follow, services: list[Service], file: Path
) -> None:
    server = follow(apiserver, "--snapshot", file)
    for service in services[:15]:
        apiserver.delete(service.imported)
    server.wait_log("mass deletion held")
    server.end()
    apiserver.kill()
    server = follow(apiserver, "--snapshot", file)
    wait_answers(server, answers_of(services))


@pytest.fixture
def refuses(apiserver: ApiServer, follow: Follow, file: Path) -> Refuses:
    """Start with the snapshot and the API server away; it must be refused for a reason."""

    def start(reason: str, *arguments: object, where: object = apiserver) -> ServeProcess:
        port = free_port()
        given = ("--snapshot", file, "--listen", f"127.0.0.1:{port}", *arguments)
        server = follow(where, *given, ready=False)
        wait_up(port)
        server.wait_log(IGNORED)
        (line,) = [line for line in server.log.splitlines() if IGNORED in line]
        assert f"snapshot {file}: {reason}" in line
        zone = arguments[1] if "--zone" in arguments else ZONE
        reply = ask(("127.0.0.1", port), f"web-0.shop.svc.{zone}")
        assert read(reply) == heard(rcode="SERVFAIL")
        assert server.out == ""
        return server

    return start


def test_snapshot_of_something_else_is_refused(
    apiserver: ApiServer,
    follow: Follow,
    gate_to: GateTo,
    services: list[Service],
    file: Path,
    refuses: Refuses,
) -> None:
    leave_snapshot(apiserver, follow, file)
    gate = gate_to(apiserver)
    refuses("its API server is https://127.0.0.1:", where=gate)
    refuses(
        "its import selector is (none), and tier=public here", "--import-selector", "tier=public"
    )
    refuses("its list of namespaces is (none), and shop here", "--namespace", "shop")
    refuses("its list of zones is clusterset.local., and", "--zone", "other.local")
    refuses("it is ", "--snapshot-max-age", 0)
    other = file.with_name("ca.crt")
    other.write_text(apiserver.ca.read_text() + "\n")
    text = apiserver.kubeconfig.read_text().replace(str(apiserver.ca), str(other))
    kubeconfig = file.with_name("kubeconfig")
    kubeconfig.write_text(text)
    refuses("its certificate authority is ", where=kubeconfig)


def test_corrupt_snapshot_is_reported_and_replaced(
    apiserver: ApiServer, follow: Follow, services: list[Service], file: Path, refuses: Refuses
) -> None:
    leave_snapshot(apiserver, follow, file)
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    refuses("the checksum is wrong")
    file.write_text("something else")
    server = refuses("it is not a snapshot of mcsdns")
    apiserver.start()
    server.wait_ready()
    wait_answers(server, answers_of(services))
    wait_until(lambda: len(file.read_bytes()) > middle, "a snapshot again")
