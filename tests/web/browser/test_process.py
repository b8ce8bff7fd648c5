"""`mcsdns serve` as it runs, in a real browser: what it reads, loses and finds again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.waiting import free_port
from tests.web.browser.conftest import Browser
from tests.web.conftest import Api

MANIFEST = """
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: {{name: {name}, namespace: shop}}
spec: {{type: ClusterSetIP, ips: [10.96.0.7], ports: [{{name: http, port: 80}}]}}
"""


@pytest.fixture
def serve(browser: Browser, serve: Serve) -> Iterator[Serve]:
    """Servers whose page is left before they end."""
    yield serve
    browser.leave()


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
    browser: Browser, serve: Serve, admin: str, api: Api
) -> None:
    api.put_service("web")
    server = serve("--kubeconfig", api.kubeconfig, "--admin", admin, "--stale-after", "0.5")
    open_when_served(browser, server, admin)
    browser.wait(lambda: not browser.is_shown("#alerts"), "no alert")
    assert "connected" in browser.text("#sources")
    api.go_away()
    browser.wait(lambda: "cannot be heard" in browser.text("#alerts"), "alert")
    browser.wait(lambda: "stale" in browser.text("#alerts"), "stale")
    assert "away" in browser.text("#sources")
    assert browser.text("#state") == "ready"
    assert "web" in browser.text("#rows")
    api.put_service("late")
    api.come_back()
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
