"""The guard against mass deletion: what it holds, what it says, and when it follows."""

import re

from tests.apiserver.process import ApiServer
from tests.conftest import ServeProcess
from tests.real.asking import Prober, answers, dig, unbroken, wait_answers, wait_dig
from tests.real.conftest import Follow
from tests.real.gate import Gate
from tests.real.services import Heard, Question, Service, answers_of, export, fleet, heard, web
from tests.waiting import wait_until

HELD = "mass deletion held: "
FOLLOWED = "mass deletion followed: "
OWN_NAME = re.compile(r"db-\d+\.shop\.")
CANCELLED = "mass deletion no longer held: all that was lost is back"


def delete_imports(apiserver: ApiServer, services: list[Service]) -> None:
    for service in services:
        apiserver.delete(service.imported)


def gone(services: list[Service]) -> dict[Question, Heard]:
    return dict.fromkeys(answers_of(services), heard(rcode="NXDOMAIN"))


def warnings(server: ServeProcess) -> list[str]:
    return [line for line in server.log.splitlines() if " WARNING " in line]


def check_held(server: ServeProcess, prober: Prober, lost: list[Service]) -> None:
    """Nothing is gone before the guard follows; then it is."""
    wait_answers(server, gone(lost))
    prober.check(until=server.logged_at(FOLLOWED), then=gone(lost))


def test_mass_deletion_is_held_and_then_followed(
    apiserver: ApiServer, gate: Gate, follow: Follow, services: list[Service]
) -> None:
    server = follow(gate, "--guard-grace", 3)
    with Prober(server, answers_of(services)) as prober:
        with gate.holding():
            delete_imports(apiserver, services[:15])
        check_held(server, prober, services[:15])
    wait_answers(server, gone(services[:15]) | answers_of(services[15:]))
    (held, followed) = warnings(server)
    assert f"{HELD}11 of 20 services lost their last answer" in held
    assert "stay for 3 s" in held
    assert f"{FOLLOWED}15 services" in followed


def test_list_without_most_services_is_held(
    apiserver: ApiServer, gate: Gate, follow: Follow, services: list[Service]
) -> None:
    server = follow(gate, "--guard-grace", 3)
    with Prober(server, answers_of(services)) as prober:
        gate.cut()
        delete_imports(apiserver, services[:15])
        apiserver.restart()
        gate.mend()
        check_held(server, prober, services[:15])
    assert f"{HELD}15 of 20 services lost their last answer" in server.log
    wait_answers(server, answers_of(services[15:]))


def test_slices_that_are_all_gone_are_held_too(
    apiserver: ApiServer, gate: Gate, follow: Follow, services: list[Service]
) -> None:
    more = [service for service in fleet(40)[20:] if len(service.objects) > 1]
    export(apiserver, more)
    headless = [service for service in [*services, *more] if len(service.objects) > 1]
    server = follow(gate, "--guard-grace", 3, "--guard-share", 0.4)
    own = {asked: said for asked, said in answers_of(headless).items() if OWN_NAME.match(asked[0])}
    with Prober(server, own) as prober:
        with gate.holding():
            for service in headless:
                for piece in service.objects[1:]:
                    apiserver.delete(piece)
        wait_answers(server, gone(headless))
    followed = server.logged_at(FOLLOWED)
    before = [each for each in prober.wrong() if each.first_at < followed]
    assert all(each.said and each.said[1] for each in before)  # what is not the last may go


def test_deletion_that_takes_its_time_is_held_from_its_first_service_on(
    apiserver: ApiServer, follow: Follow, services: list[Service]
) -> None:
    """The first losses may be followed before there are too many; they are put back then."""
    server = follow(apiserver, "--guard-grace", 3600)
    delete_imports(apiserver, services[:15])
    server.wait_log(HELD)
    apiserver.create(web("new", "10.97.0.1"))
    wait_dig(server, "new.shop", "10.97.0.1")
    wait_answers(server, answers_of(services))
    with unbroken(server, services) as prober:
        prober.wait_rounds(20)
    assert FOLLOWED not in server.log


def test_what_comes_back_is_not_lost(
    apiserver: ApiServer, gate: Gate, follow: Follow, services: list[Service]
) -> None:
    server = follow(gate, "--guard-grace", 3600)
    with unbroken(server, services) as prober:
        with gate.holding():
            delete_imports(apiserver, services[:15])
        server.wait_log(HELD)
        apiserver.create_many(service.imported for service in services[:15])
        server.wait_log(CANCELLED)
        prober.wait_rounds(20)
    apiserver.delete(services[0].imported)
    wait_answers(server, gone(services[:1]) | answers_of(services[1:]))
    assert len(warnings(server)) == 2


def test_few_deletions_are_followed_after_a_second(
    apiserver: ApiServer, follow: Follow, services: list[Service]
) -> None:
    server = follow(apiserver, "--guard-grace", 60)
    delete_imports(apiserver, services[:9])
    wait_answers(server, gone(services[:9]) | answers_of(services[9:]))
    assert not warnings(server), server.log


def test_imports_that_are_deleted_and_created_anew_leave_no_gap(
    apiserver: ApiServer, gate: Gate, follow: Follow, services: list[Service]
) -> None:
    server = follow(gate)
    with unbroken(server, services):
        with gate.holding():
            for service in services:
                apiserver.delete(service.imported)
                apiserver.create(service.imported)
        apiserver.create(web("new", "10.97.0.1"))
        wait_dig(server, "new.shop", "10.97.0.1")
    assert not warnings(server), server.log


def test_without_the_guard_every_deletion_is_followed_at_once(
    apiserver: ApiServer, follow: Follow, services: list[Service]
) -> None:
    server = follow(apiserver, "--guard-share", 0)
    delete_imports(apiserver, services)
    wait_until(lambda: dig(server, "web-0.shop").status == "NXDOMAIN")
    wait_until(lambda: answers(server, answers_of(services)) == gone(services))
    assert not warnings(server), server.log
