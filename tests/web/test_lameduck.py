"""The end of the process: not ready at once, answers for a while, then nothing is cut short."""

import signal
import socket
import threading
from pathlib import Path

import dnslib
import pytest

from tests.conftest import addresses, ask, rcode
from tests.waiting import DEADLINE_S, wait_until
from tests.web.conftest import Live
from tests.web.life import Stream, Upstream, get, url_of, wait_status

OURS, THEIRS = "web.shop.svc.clusterset.local", "www.example"


def test_not_ready_at_once_while_answers_go_on(live: Live, manifest: Path) -> None:
    server = live("--manifests", manifest, "--lameduck", 60)
    url = url_of(server)
    with Stream(server.address, OURS) as stream:
        server.process.send_signal(signal.SIGTERM)
        assert wait_status(url, "/readyz", 503) == "not ready\nstopping on SIGTERM\n"
        stream.wait_rounds(20)
        for tcp in (False, True):
            assert addresses(server.ask("web.shop", tcp=tcp)) == ["10.0.0.1"]
        assert get(url, "/healthz") == (200, "ok\n")
        assert "mcsdns_ready 0.0" in get(url, "/metrics")[1]
        assert server.process.poll() is None
    assert "INFO stopping on SIGTERM, answers go on for 60 s\n" in server.log
    assert server.end(signal.SIGINT) == 0  # a second signal cuts it short
    assert "INFO stopping at once on SIGINT\n" in server.log


def test_the_end_comes_by_itself(live: Live, manifest: Path) -> None:
    server = live("--manifests", manifest, "--lameduck", 0.5)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(DEADLINE_S) == 0


def test_a_person_does_not_wait(live: Live, manifest: Path) -> None:
    server = live("--manifests", manifest, "--lameduck", 3600)
    assert server.end(signal.SIGINT) == 0
    assert server.log.endswith("INFO stopping on SIGINT\n")


def test_hangup_while_stopping_does_not_end_it(live: Live, manifest: Path) -> None:
    server = live("--manifests", manifest, "--lameduck", 60)
    server.process.send_signal(signal.SIGTERM)
    server.wait_log("stopping on SIGTERM")
    server.process.send_signal(signal.SIGHUP)
    for _ in range(10):
        assert addresses(server.ask("web.shop")) == ["10.0.0.1"]
    assert server.process.poll() is None
    assert server.end() == 0


@pytest.mark.parametrize("tcp", [False, True])
def test_question_in_flight_is_answered(
    live: Live, manifest: Path, upstream: Upstream, tcp: bool
) -> None:
    server = live("--manifests", manifest, "--upstream", upstream.text)
    upstream.hold()
    heard: list[dnslib.DNSRecord] = []
    asking = threading.Thread(target=lambda: heard.append(ask(server.address, THEIRS, tcp=tcp)))
    asking.start()
    wait_until(lambda: upstream.held, "the question")
    server.process.send_signal(signal.SIGTERM)
    server.wait_log("stopping on SIGTERM")
    upstream.release()
    asking.join()
    assert addresses(heard[0]) == ["192.0.2.7"]
    assert server.process.wait(DEADLINE_S) == 0


def test_question_that_nobody_answers_gets_its_servfail(
    live: Live, manifest: Path, upstream: Upstream
) -> None:
    server = live("--manifests", manifest, "--upstream", upstream.text)
    upstream.hold()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.connect(server.address)
        sock.send(dnslib.DNSRecord.question(THEIRS).pack())
        wait_until(lambda: upstream.held, "the question")
        server.process.send_signal(signal.SIGTERM)
        assert rcode(dnslib.DNSRecord.parse(sock.recv(4096))) == "SERVFAIL"
    assert server.process.wait(DEADLINE_S) == 0
