"""`explain` of a server that runs, as a command asks for it."""

import http.server
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from mcsdns.cli import explain
from mcsdns.diagnostics.explain.text import to_json, to_text
from mcsdns.errors import ConfigError, NoReplyError
from tests.diagnostics.explain.shop_world import SHOP, Explained
from tests.waiting import free_port
from tests.web.standin import Served, StandIn

NAME = "db.shop.svc.clusterset.local"


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(StandIn(Explained(SHOP))) as started:
        yield started


@pytest.mark.parametrize("rtype", ["A", "SRV", "TXT"])
def test_explanation_is_that_of_the_server(served: Served, rtype: str) -> None:
    wanted = Explained(SHOP).explain(f"{NAME} {rtype}")
    found = explain.ask(served.url, NAME, rtype)
    assert to_text(found) == to_text(wanted)
    assert to_json(found) == to_json(wanted)


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/", "127.0.0.1:{}"])
def test_url_may_be_short(served: Served, form: str) -> None:
    assert explain.ask(form.format(served.port), NAME, "A").verdict.result == "NOERROR"


def test_question_that_the_server_refuses(served: Served) -> None:
    with pytest.raises(ConfigError) as refused:
        explain.ask(served.url, "a..b", "A")
    assert str(refused.value) == (
        f"--admin {served.url}: name: 'a..b': a label has 0 octets; 1 to 63 are allowed; "
        "give a name such as web.shop.svc.clusterset.local"
    )


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://[::1", "http://x:99999", "http://x/?a=b", ""]
)
def test_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match=r"give a URL such as http://127\.0\.0\.1:8053"):
        explain.ask(url, NAME, "A")


def test_nobody_there() -> None:
    with pytest.raises(NoReplyError, match=r"is `mcsdns serve` running, and its --admin address"):
        explain.ask(f"http://127.0.0.1:{free_port()}", NAME, "A")


class _Canned(http.server.BaseHTTPRequestHandler):
    """Says what the test put down, one thing after the other."""

    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        status, headers, body = self.answers.pop(0)
        self.paths.append(self.path)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def canned() -> Iterator[str]:
    _Canned.answers, _Canned.paths = [], []
    server = http.server.HTTPServer(("127.0.0.1", 0), _Canned)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


BUSY = (429, {"Retry-After": "4"}, b'{"error":"too many requests wait for this"}')


def test_busy_server_is_asked_again(canned: str) -> None:
    good = to_json(Explained(SHOP).explain(NAME)).encode()
    _Canned.answers = [BUSY, BUSY, (200, {}, good)]
    waited: list[float] = []
    found = explain.ask(canned, NAME, "A", wait=waited.append)
    assert found.verdict.result == "NOERROR"
    assert waited == [4, 4]


def test_busy_server_is_not_asked_for_ever(canned: str) -> None:
    _Canned.answers = [BUSY] * 3
    with pytest.raises(NoReplyError, match="too many requests wait for this"):
        explain.ask(canned, NAME, "A", wait=lambda _: None)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"404: Not Found"),
        (200, b"<html>\x1b[31m another page"),
        (200, b'{"question": 7}'),
        (200, b"\xff\xfe"),
        (403, b"Host 'x' is not this server"),
        (500, b""),
    ],
)
def test_another_server_there(canned: str, status: int, body: bytes) -> None:
    _Canned.answers = [(status, {}, body)]
    with pytest.raises(NoReplyError) as refused:
        explain.ask(canned, NAME, "A")
    assert f"status {status}, and no explanation as this version knows it" in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_page_below_a_path_is_found(canned: str) -> None:
    _Canned.answers = [(200, {}, to_json(Explained(SHOP).explain(NAME)).encode())]
    explain.ask(f"{canned}/proxied/", "a b", "A")
    assert _Canned.paths == ["/proxied/api/explain?name=a+b&type=A"]
