"""Resource versions that are too old (410): met, and nothing lost by it."""

import contextlib
from collections.abc import Iterator

from tests.apiserver.process import IMPORTS, SLICES, ApiServer
from tests.conftest import ServeProcess
from tests.kube import ApiServers
from tests.real.asking import dig, unbroken, wait_answers, wait_dig
from tests.real.conftest import Follow, GateTo
from tests.real.gate import Gate
from tests.real.services import Service, answers_of, export, fleet, slice_of, web
from tests.waiting import DEADLINE_S, free_port

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


@contextlib.contextmanager
def changes_behind(gate: Gate, apiserver: ApiServer, follow: Follow) -> Iterator[ServeProcess]:
    """Follow through a gate and change services while it is cut; nothing is lost once it mends.

    What the API server does meanwhile is done within.
    """
    services = export(apiserver, fleet(20))
    server = follow(gate)
    with unbroken(server, services[4:]):
        gate.cut()
        remaining = change_behind(apiserver, services)
        yield server
        gate.mend()
        check_nothing_is_lost(server, remaining)


def expired(server: ServeProcess) -> str:
    """The lines of the log that tell of a 410."""
    return "\n".join(line for line in server.log.splitlines() if TOO_OLD in line)


def check_both_expired(server: ServeProcess) -> None:
    assert IMPORTS in expired(server), server.log
    assert SLICES in expired(server), server.log


def test_changes_behind_a_killed_api_server_are_found_by_a_list(
    apiserver: ApiServer, gate: Gate, follow: Follow
) -> None:
    with changes_behind(gate, apiserver, follow) as server:
        apiserver.restart()
    check_both_expired(server)


def test_changes_behind_a_broken_connection_are_found_by_the_watch(
    apiserver: ApiServer, gate: Gate, follow: Follow
) -> None:
    with changes_behind(gate, apiserver, follow) as server:
        pass  # the API server itself lives on
    assert not expired(server), server.log


def test_a_watch_behind_a_compaction_without_watch_cache(
    apiservers: ApiServers, gate_to: GateTo, follow: Follow
) -> None:
    apiserver = apiservers(watch_cache=False)
    with changes_behind(gate_to(apiserver), apiserver, follow) as server:
        apiserver.compact()
    check_both_expired(server)


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
    assert IMPORTS in expired(server), server.log


def test_compaction_changes_nothing_where_there_is_a_watch_cache(
    apiserver: ApiServer, gate: Gate, follow: Follow
) -> None:
    services = export(apiserver, fleet(100))
    server = follow(gate)
    listed = gate.received
    with unbroken(server, services):
        for number in range(5):
            apiserver.apply(web("changed", f"10.97.0.{number}"))
            apiserver.compact()
            wait_dig(server, "changed.shop", f"10.97.0.{number}")
    assert not expired(server), server.log
    assert gate.received - listed < listed / 4  # five lines, and no list
