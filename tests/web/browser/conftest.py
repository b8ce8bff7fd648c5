"""A real Chromium without a window, and a status page for it to show."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcsdns.server.zone_state import ZoneState
from tests.paths import DOCS
from tests.waiting import DEADLINE_S, wait_until
from tests.web.browser.shop import HOSTILE, shop
from tests.web.standin import Served, StandIn, forwarding

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--no-proxy-server",
)


class Browser:
    """A browser with one page of ours."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a page."""
        self.driver.get(url)

    def leave(self) -> None:
        """Leave a page before its server ends: it would complain of that."""
        self.driver.get("about:blank")

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script, as the one who drives the browser."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str = "body") -> str:
        """What stands there to be read."""
        found = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return " ".join(str(self.run(found, selector)).split())

    def is_shown(self, selector: str) -> bool:
        """Whether it takes any room."""
        script = "const it = document.querySelector(arguments[0]); return !!it?.offsetHeight"
        return bool(self.run(script, selector))

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something to be so."""
        wait_until(condition, what)

    def type(self, selector: str, *keys: str) -> None:
        """Put the focus there and type."""
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(*keys)

    def click(self, selector: str) -> None:
        """Click it."""
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def look(self, *, width: int, height: int = 900, scheme: str = "light", scale: int = 1) -> None:
        """Be a screen of that width, whose user likes it light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": scale,
            "mobile": width < 500,
        }
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def script_off(self, *, off: bool) -> None:
        """Let pages run no scripts from now on."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": off})

    def complaints(self) -> list[str]:
        """What the console has: errors and violations of the policy, since it was last read."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("no chromium or chromedriver (Debian: chromium, chromium-driver)")
    os.environ["SE_OFFLINE"] = "true"  # selenium would look for drivers elsewhere
    os.environ["SE_AVOID_STATS"] = "true"
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(DEADLINE_S)
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser as it was at first; a test that leaves complaints behind has failed."""
    chromium.look(width=1280)
    chromium.script_off(off=False)
    chromium.complaints()
    yield chromium
    left = chromium.complaints()
    chromium.script_off(off=False)
    chromium.leave()
    assert left == []


def stand_in(world: ZoneState) -> StandIn:
    """A server with two upstreams."""
    made = StandIn(world)
    made.forwarder = forwarding(
        ("10.96.0.10:53", 0.0009, False), ("tls://10.0.0.54:853#dns.corp.example", 0.0132, False)
    )
    return made


@pytest.fixture
def operator() -> StandIn:
    return stand_in(shop(HOSTILE))


@pytest.fixture
def served(operator: StandIn, browser: Browser) -> Iterator[Served]:
    with Served(operator) as started:
        yield started
        browser.leave()


def images() -> Path | None:
    """Where the screenshots of the documentation go; None where they are not made anew."""
    if os.environ.get("MCSDNS_SCREENSHOTS") != "1":
        return None
    return DOCS / "images"
