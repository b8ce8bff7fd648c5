"""An upstream that writes questions in lower case, and clients that mix case for safety."""

from collections.abc import Iterator

import pytest

from tests.conftest import addresses, ask, rcode
from tests.forward.scripted import answer, question_end
from tests.forwarding.conftest import Forward
from tests.forwarding.servers import Scripted, Servers

NAME = "Www.Corp.TEST"


@pytest.fixture
def lowering() -> Iterator[Scripted]:
    """An upstream that repeats questions in lower case."""

    def reply(message: bytes) -> bytes:
        end = question_end(message) - 4
        return answer(message[:12] + message[12:end].lower() + message[end:])

    upstream = Scripted(reply)
    yield upstream
    upstream.close()


@pytest.mark.parametrize("scheme", ["", "tcp://"])
def test_each_client_gets_its_own_spelling(
    forward: Forward, lowering: Scripted, scheme: str
) -> None:
    server = forward(f"{scheme}{lowering.text}").wait_ready()
    for number, tcp in enumerate((False, True)):
        for name in (f"{NAME}{number}", f"{NAME}{number}".swapcase()):
            reply = ask(server.address, name, tcp=tcp)
            assert (rcode(reply), addresses(reply)) == ("NOERROR", ["10.0.0.1"])
            assert str(reply.q.qname) == f"{name}."
            assert str(reply.rr[0].rname) == f"{name}.", "its owner points to the question"


def test_unbound_that_mixes_case_is_answered_through_us(
    forward: Forward, lowering: Scripted, servers: Servers
) -> None:
    server = forward(lowering).wait_ready()
    unbound = servers.unbound(
        "use-caps-for-id: yes\nlocal-zone: test. nodefault",
        f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{server.address[1]}\n',
    )
    for number in range(20):
        reply = ask(unbound.address, f"host{number}.corp.test")
        assert (rcode(reply), addresses(reply)) == ("NOERROR", ["10.0.0.1"])
