"""Upstreams that end or fall silent while much is asked, and come back."""

import signal

import pytest

from tests.forwarding.conftest import OUR_ADDRESS, OURS, Forward
from tests.forwarding.digging import dig
from tests.forwarding.load import Load
from tests.forwarding.servers import Servers
from tests.waiting import free_port, wait_until

BRIEF = """\
$ORIGIN brief.test.
@ 1 SOA ns hostmaster 1 7200 900 1209600 1
@ 1 NS ns
ns 1 A 127.0.0.1
* 1 A 192.0.2.42
a.ent 1 A 192.0.2.43
"""
IN_FLIGHT = 64
MANY = 3000


def unique(number: int) -> str:
    """A name that nobody asked for before."""
    return f"n{number}.brief.test"


def few(number: int) -> str:
    """One of a hundred names."""
    return f"n{number % 100}.brief.test"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_with_a_second_upstream_no_question_is_lost(
    forward: Forward, servers: Servers, number: signal.Signals
) -> None:
    first, second = (servers.knot({"brief.test": BRIEF}) for _ in range(2))
    server = forward(first, second, flags=("--upstream-policy", "sequential"))
    with Load(server.address, IN_FLIGHT, unique) as load:
        wait_until(lambda: load.seen["NOERROR"] > MANY, "answers before")
        first.process.send_signal(number)
        before = load.sent
        wait_until(lambda: load.seen["NOERROR"] > before + MANY, "answers after")
        server.wait_log(f"upstream {first.text} is left alone until it answers")
    first.process.send_signal(signal.SIGCONT)
    assert load.missing == 0
    assert load.seen == {"NOERROR": load.sent}


def test_without_another_upstream_old_answers_serve_on(forward: Forward, servers: Servers) -> None:
    port = free_port()
    upstream = servers.knot({"brief.test": BRIEF}, port=port)
    server = forward(upstream)
    assert dig(server.address, "a.a.ent.brief.test").status == "NXDOMAIN"
    with Load(server.address, IN_FLIGHT, few) as load:
        wait_until(lambda: load.seen["NOERROR"] > MANY, "answers before")
        upstream.end(signal.SIGKILL)
        wait_until(lambda: 3 in dig(server.address, few(7)).errors, "stale answers")
        assert dig(server.address, OURS).data == [OUR_ADDRESS]
        before = load.sent
        wait_until(lambda: load.seen["NOERROR"] > before + MANY, "stale answers for all")
    assert load.missing == 0
    assert load.seen == {"NOERROR": load.sent}
    stale = dig(server.address, few(7))
    assert [(each.data, each.ttl) for each in stale.answer] == [("192.0.2.42", 1)]
    wait_until(lambda: 19 in dig(server.address, "a.a.ent.brief.test").errors, "a stale NXDOMAIN")
    assert dig(server.address, "a.a.ent.brief.test").status == "NXDOMAIN"
    never = dig(server.address, "never.brief.test")
    assert (never.status, never.data) == ("SERVFAIL", [])
    assert never.errors.keys() & {22, 23}
    servers.knot({"brief.test": BRIEF}, port=port)
    wait_until(lambda: not dig(server.address, few(7)).errors, "fresh answers")
    assert dig(server.address, few(7)).data == ["192.0.2.42"]
    server.wait_log(f"upstream {upstream.text} answers again")


def test_upstream_that_comes_and_goes(forward: Forward, servers: Servers) -> None:
    upstream, steady = (servers.knot({"brief.test": BRIEF}) for _ in range(2))
    server = forward(upstream, steady)
    with Load(server.address, IN_FLIGHT, unique) as load:
        for number in range(100):
            upstream.process.send_signal(signal.SIGSTOP if number % 2 else signal.SIGCONT)
            before = load.seen.total()
            wait_until(lambda before=before: load.seen.total() > before + 20)  # type: ignore[misc]
        upstream.process.send_signal(signal.SIGCONT)
    assert load.missing == 0
    assert load.seen == {"NOERROR": load.sent}
