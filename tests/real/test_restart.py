"""The API server is killed and started again under load: no answer is wrong, none is missing."""

import itertools
import threading
from collections.abc import Mapping
from http.client import HTTPException

from tests.apiserver.process import ApiServer
from tests.conftest import ServeProcess
from tests.real.asking import Prober, answers, dig, unbroken, wait_answers, wait_dig
from tests.real.conftest import Follow
from tests.real.services import (
    Heard,
    Question,
    answers_of,
    db,
    export,
    fleet,
    heard,
    question,
    slice_of,
    web,
)
from tests.waiting import wait_until


class Churn:
    """Creates, changes and deletes services of the namespace `busy` without end."""

    def __init__(self, apiserver: ApiServer) -> None:
        self.changes = 0
        self._apiserver = apiserver
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Churn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        for number in itertools.takewhile(lambda _: not self._stopped.is_set(), itertools.count()):
            try:
                _change(self._apiserver, number)
                self.changes += 1
            except (OSError, HTTPException, AssertionError, KeyError):  # away, or not yet all there
                self._stopped.wait(0.01)


def _change(apiserver: ApiServer, number: int) -> None:
    at, turn = f"churn-{number % 7}", number // 7 % 3
    address = f"10.99.{number // 256 % 256}.{number % 256}"
    if turn == 2:
        apiserver.delete(db(at, namespace="busy"))
        apiserver.delete(slice_of(at, "east", namespace="busy"))
    elif number % 2:
        apiserver.apply(web(at, address, namespace="busy"))
    else:
        apiserver.apply(db(at, namespace="busy"))
        apiserver.apply(slice_of(at, "east", address, namespace="busy"))


def busy_questions() -> list[Question]:
    names = [f"churn-{number}.busy" for number in range(7)]
    return [question(name, qtype) for name in names for qtype in ("A", "SRV")]


def test_kill_and_restart_under_load(apiserver: ApiServer, follow: Follow) -> None:
    services = export(apiserver, fleet(100))
    server = follow(apiserver)
    with unbroken(server, services) as prober, Churn(apiserver) as churn:
        for number in range(2):
            apiserver.restart()
            apiserver.apply(web("mark", f"10.97.0.{number}"))
            wait_dig(server, "mark.shop", f"10.97.0.{number}")
            before = churn.changes
            wait_until(lambda before=before: churn.changes > before + 10, "changes")  # type: ignore[misc]
            prober.wait_rounds()
    apiserver.apply(web("end", "10.97.1.0", namespace="busy"))
    wait_dig(server, "end.busy", "10.97.1.0")

    fresh = follow(apiserver)
    asked = [*answers_of(services), *busy_questions(), question("mark.shop")]
    wait_answers(server, answers(fresh, asked))


def test_an_api_server_that_stays_away_takes_nothing_with_it(
    apiserver: ApiServer, follow: Follow
) -> None:
    services = export(apiserver, fleet(20))
    server = follow(apiserver)
    with unbroken(server, services) as prober:
        apiserver.kill()
        server.wait_log("no connection")
        prober.wait_rounds(20)
        apiserver.start()
        apiserver.create(web("new", "10.97.0.1"))
        wait_dig(server, "new.shop", "10.97.0.1")
    assert prober.errors() == set()
    assert answers(server, [question("nothing.shop")])[question("nothing.shop")] == heard(
        rcode="NXDOMAIN"
    )


def wait_errors(server: ServeProcess, positive: int | None, negative: int) -> None:
    """Wait until a positive answer and an NXDOMAIN have these extended errors."""

    def is_so() -> bool:
        found = [[*dig(server, name).errors] for name in ("web-0.shop", "nothing.shop")]
        return found == [[positive] if positive else [], [negative]]

    wait_until(is_so, f"extended errors {positive} and {negative}")


def test_stale_answers_say_so_until_the_api_server_is_back(
    apiserver: ApiServer, follow: Follow
) -> None:
    services = export(apiserver, fleet(6))
    server = follow(apiserver, "--stale-after", 1)
    expected = answers_of(services) | {question("nothing.shop"): heard(rcode="NXDOMAIN")}
    expected |= {question("web-0.shop", "AAAA"): heard()}
    with Prober(server, expected) as prober:
        apiserver.kill()
        wait_errors(server, 3, 19)
    prober.check()
    assert {3, 19} <= prober.errors()

    apiserver.start()
    wait_until(lambda: _errors_of_rounds(server, expected) == {0}, "fresh answers")


def _errors_of_rounds(server: ServeProcess, expected: Mapping[Question, Heard]) -> set[int]:
    """Ask on, and return the extended errors of denials; a watch may come about after a while."""
    with Prober(server, expected) as prober:
        prober.wait_rounds(20)
    prober.check()
    return prober.errors()
