"""`mcsdns serve` as it runs, in a real browser: what it reads, loses and finds again."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.conftest import Serve
from tests.scripted.api import FakeApi
from tests.waiting import DEADLINE_S, free_port
from tests.web.browser.conftest import Browser

T = TypeVar("T")
MANIFEST = """
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {{name: {name}, namespace: shop}}
spec: {{type: ClusterSetIP, ips: [10.96.0.7], ports: [{{name: http, port: 80}}]}}
"""


def a_service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "multicluster.x-k8s.io/v1beta1",
        "kind": "ServiceImport",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "ClusterSetIP", "ips": ["10.96.0.7"], "ports": []},
    }


class Api:
    """A scripted API server in a thread of its own."""

    def __init__(self) -> None:
        self.fake = FakeApi()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in its loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def put(self, thing: dict[str, Any]) -> None:
        """Write an object."""

        async def written() -> None:
            self.fake.put(thing)

        self.do(written())

    def end(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def api() -> Iterator[Api]:
    started = Api()
    try:
        started.do(started.fake.__aenter__())
        yield started
        started.do(started.fake.__aexit__(None, None, None))
    finally:
        started.end()


@pytest.fixture
def admin() -> str:
    return f"127.0.0.1:{free_port()}"


def open_when_served(browser: Browser, server: Any, admin: str) -> None:
    server.wait_log("status page on")
    browser.open(f"http://{admin}/")


def test_file_that_changes_shows(
    browser: Browser, serve: Serve, tmp_path: Path, admin: str
) -> None:
    (tmp_path / "web.yaml").write_text(MANIFEST.format(name="web"))
    server = serve("--manifests", tmp_path, "--admin", admin)
    open_when_served(browser, server, admin)
    assert browser.text("#found") == "1 service"
    assert browser.text("#state") == "ready"
    (tmp_path / "new.yaml").write_text(MANIFEST.format(name="new"))
    browser.wait(lambda: browser.text("#total-services") == "2", "the new one is counted")
    browser.wait(lambda: "new" in browser.text("#rows"), "the new one is listed")
    browser.type("#name", "new.shop.svc.clusterset.local", "\n")
    browser.wait(lambda: browser.text(".verdict").startswith("NOERROR 1 A record"), "verdict")
    assert "new.yaml:2" in browser.text(".explained")


def test_answers_are_counted(browser: Browser, serve: Serve, tmp_path: Path, admin: str) -> None:
    (tmp_path / "web.yaml").write_text(MANIFEST.format(name="web"))
    server = serve("--manifests", tmp_path, "--admin", admin)
    open_when_served(browser, server, admin)

    def ask_and_look() -> bool:
        for _ in range(20):
            server.ask("web.shop")
        return "clusterset" in browser.text("#kinds") and browser.text("#rate-now") != "0"

    browser.wait(ask_and_look, "answers a second")


def test_api_server_that_goes_away_is_said_and_comes_back(
    browser: Browser, serve: Serve, tmp_path: Path, admin: str, api: Api
) -> None:
    api.put(a_service("web"))
    config = api.fake.write_kubeconfig(tmp_path / "kubeconfig")
    server = serve("--kubeconfig", config, "--admin", admin, "--stale-after", "0.5")
    open_when_served(browser, server, admin)
    assert not browser.is_shown("#alerts")
    assert "connected" in browser.text("#sources")
    api.do(api.fake.refuse())
    browser.wait(lambda: "cannot be heard" in browser.text("#alerts"), "alert")
    browser.wait(lambda: "stale" in browser.text("#alerts"), "stale")
    assert "away" in browser.text("#sources")
    assert browser.text("#state") == "ready"
    assert "web" in browser.text("#rows")
    api.put(a_service("late"))
    api.do(api.fake.accept())
    browser.wait(lambda: not browser.is_shown("#alerts"), "no alert")
    browser.wait(lambda: "late" in browser.text("#rows"), "what came meanwhile")


def test_server_that_ends_is_said(
    browser: Browser, serve: Serve, tmp_path: Path, admin: str
) -> None:
    (tmp_path / "web.yaml").write_text(MANIFEST.format(name="web"))
    server = serve("--manifests", tmp_path, "--admin", admin)
    open_when_served(browser, server, admin)
    assert server.end() == 0
    browser.wait(lambda: browser.is_shown("#lost"), "banner")
    assert "web" in browser.text("#rows")
    again = serve("--manifests", tmp_path, "--admin", admin)
    again.wait_log("status page on")
    browser.wait(lambda: not browser.is_shown("#lost"), "no banner")
    browser.complaints()
