"""Resource versions that are too old (410): met, and nothing lost by it."""

from tests.conftest import DEADLINE_S, ServeProcess, free_port
from tests.kube import IMPORTS, SLICES, ApiServer, ApiServers
from tests.real.asking import Prober, dig, wait_answers, wait_dig
from tests.real.conftest import Follow, GateTo
from tests.real.gate import Gate
from tests.real.services import Service, answers_of, export, fleet, slice_of, web

TOO_OLD = "410 "
PAGE = 500
PAGE_OCTETS = 100_000
"""Less than a page of imports, more than anything that comes before it."""


def change_behind(apiserver: ApiServer, services: list[Service]) -> list[Service]:
    """Delete two services, move one, add one; return what there is now."""
    for service in services[:2]:
        for each in service.objects:
            apiserver.delete(each)
    (added,) = fleet(len(services) + 1)[-1:]
    export(apiserver, [added])
    apiserver.apply(web("web-2", "10.97.0.2"))
    apiserver.apply(slice_of("db-3", "east", "10.98.0.3"))
    return [*services[4:], added]


def check_nothing_is_lost(server: ServeProcess, remaining: list[Service]) -> None:
    wait_dig(server, "web-0.shop", status="NXDOMAIN")
    wait_dig(server, "db-1.shop", status="NXDOMAIN")
    wait_dig(server, "web-2.shop", "10.97.0.2")
    wait_dig(server, "db-3.shop", "10.98.0.3", "10.1.0.3")
    wait_answers(server, answers_of(remaining))


def expired(server: ServeProcess) -> list[str]:
    """The lines of the log that tell of a 410."""
    return [line for line in server.log.splitlines() if TOO_OLD in line]


def test_changes_behind_a_killed_api_server_are_found_by_a_list(
    apiserver: ApiServer, gate: Gate, follow: Follow
) -> None:
    services = fleet(20)
    export(apiserver, services)
    server = follow(gate)
    with Prober(server, answers_of(services[4:])) as prober:
        gate.cut()
        remaining = change_behind(apiserver, services)
        apiserver.restart()
        gate.mend()
        check_nothing_is_lost(server, remaining)
    prober.check()
    paths = " ".join(expired(server))
    assert IMPORTS in paths, server.log
    assert SLICES in paths, server.log


def test_changes_behind_a_broken_connection_are_found_by_the_watch(
    apiserver: ApiServer, gate: Gate, follow: Follow
) -> None:
    services = fleet(20)
    export(apiserver, services)
    server = follow(gate)
    with Prober(server, answers_of(services[4:])) as prober:
        gate.cut()
        remaining = change_behind(apiserver, services)
        gate.mend()
        check_nothing_is_lost(server, remaining)
    prober.check()
    assert not expired(server), server.log


def test_a_watch_behind_a_compaction_without_watch_cache(
    apiservers: ApiServers, gate_to: GateTo, follow: Follow
) -> None:
    apiserver = apiservers(watch_cache=False)
    gate = gate_to(apiserver)
    services = fleet(20)
    export(apiserver, services)
    server = follow(gate)
    with Prober(server, answers_of(services[4:])) as prober:
        gate.cut()
        remaining = change_behind(apiserver, services)
        apiserver.compact()
        gate.mend()
        check_nothing_is_lost(server, remaining)
    prober.check()
    paths = " ".join(expired(server))
    assert IMPORTS in paths, server.log
    assert SLICES in paths, server.log


def test_a_page_behind_a_compaction_without_watch_cache(
    apiservers: ApiServers, gate_to: GateTo, follow: Follow
) -> None:
    apiserver = apiservers(watch_cache=False, watch_list=False)
    gate = gate_to(apiserver)
    apiserver.create_many(web(f"web-{number}", "10.96.0.1") for number in range(PAGE + 2))
    gate.hold_after(PAGE_OCTETS)
    port = free_port()
    server = follow(gate, "--listen", f"127.0.0.1:{port}", ready=False)
    assert gate.held.wait(DEADLINE_S)
    apiserver.apply(web("web-0", "10.97.0.0"))
    apiserver.delete(web("web-1"))
    apiserver.create(web("new", "10.97.0.1"))
    apiserver.compact()
    assert dig(port, "web-0.shop").status == "SERVFAIL"
    gate.release()
    server.wait_ready()
    assert dig(server, "web-0.shop").data == ["10.97.0.0"]
    wait_dig(server, "web-1.shop", status="NXDOMAIN")  # it was on the first page: it lingers
    assert dig(server, "new.shop").data == ["10.97.0.1"]
    assert IMPORTS in " ".join(expired(server)), server.log


def test_compaction_changes_nothing_where_there_is_a_watch_cache(
    apiserver: ApiServer, gate: Gate, follow: Follow
) -> None:
    services = fleet(100)
    export(apiserver, services)
    server = follow(gate)
    listed = gate.received
    with Prober(server, answers_of(services)) as prober:
        for number in range(5):
            apiserver.apply(web("changed", f"10.97.0.{number}"))
            apiserver.compact()
            wait_dig(server, "changed.shop", f"10.97.0.{number}")
    prober.check()
    assert not expired(server), server.log
    assert gate.received - listed < listed / 4  # five lines, and no list
