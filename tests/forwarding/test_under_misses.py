"""The clusterset's names are answered while many others wait for a silent upstream."""

from tests.conftest import addresses, ask
from tests.forwarding.conftest import OUR_ADDRESS, OURS, Forward
from tests.forwarding.load import Load
from tests.forwarding.servers import Silent
from tests.waiting import wait_until

MISSES = 4000
"""In flight at any time: nearly as many as the forwarder takes."""


def test_zone_is_answered_while_misses_wait_for_a_silent_upstream(
    forward: Forward, silent: Silent
) -> None:
    server = forward(silent)
    with (
        Load(server.address, MISSES, lambda number: f"n{number}.miss.test") as misses,
        Load(server.address, 4, lambda _: OURS) as load,
    ):
        wait_until(lambda: misses.seen.total() > 2 * MISSES, "misses that ended")
    assert (load.seen, load.missing) == ({"NOERROR": load.sent}, 0), server.log
    assert (misses.seen, misses.missing) == ({"SERVFAIL": misses.sent}, 0), server.log
    assert addresses(ask(server.address, OURS)) == [OUR_ADDRESS]
