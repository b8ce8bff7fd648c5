"""File descriptors are divided by what is configured: UDP and forwarding always have theirs."""

import contextlib
import resource
import socket
from pathlib import Path

import pytest

from mcsdns.app.listeners import plan_files
from mcsdns.config import Settings
from tests.conftest import Serve, rcode
from tests.waiting import DEADLINE_S, wait_until
from tests.web.conftest import manifest
from tests.web.life import get, url_of

__all__ = ["manifest"]


def test_with_enough_files_everybody_has_what_is_configured() -> None:
    plan = plan_files(Settings(tcp_connections=5000), 1 << 20)
    assert (plan.tcp, plan.http) == (5000, 2048)
    assert plan.wanted == plan.kept + 5000 + 2048


@pytest.mark.parametrize("limit", [256, 1024, 4096])
@pytest.mark.parametrize("upstreams", [0, 1, 5])
def test_what_is_kept_is_given_to_no_client(limit: int, upstreams: int) -> None:
    settings = Settings(upstream=[f"192.0.2.{number}" for number in range(upstreams)])
    plan = plan_files(settings, limit)
    assert plan.kept >= 64 + upstreams * 128
    assert min(plan.tcp, plan.http) >= 16
    if limit - plan.kept >= 32:
        assert plan.kept + plan.tcp + plan.http <= limit


def test_a_resolv_conf_counts_as_three_upstreams() -> None:
    more = plan_files(Settings(upstream_from="/etc/resolv.conf"), 4096)
    assert more.kept - plan_files(Settings(), 4096).kept == 3 * 128


def test_few_files_are_said_at_the_start_and_udp_goes_on_whatever_connects(
    serve: Serve, manifest: Path
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))

    given = ("--probes", "127.0.0.1:0", "--manifests", manifest)
    server = serve(*given, preexec_fn=limit)
    server.wait_log("the limit of open files is 128, of which ")
    url = url_of(server)
    host, _, port = url.split("/")[2].rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=DEADLINE_S))
        wait_until(lambda: rcode(server.ask("web.shop")) == "NOERROR", "an answer")
        assert get(url, "/healthz") == (200, "ok\n")
    assert server.log.count("\n") < 10
