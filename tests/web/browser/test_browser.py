"""The page in a real browser: searched, explained, attacked, abandoned, and made small."""

import math
import random
import time
from pathlib import Path

import pytest

from mcsdns.stats import ReplyCount, ReplyKind
from mcsdns.web.rates import SECONDS
from tests.web.browser.conftest import Browser, images, stand_in
from tests.web.browser.shop import shop
from tests.web.standin import Served

ROWS = "return [...document.querySelectorAll('#rows > tr')].map((row) => row.outerHTML)"
NAMES = "return [...document.querySelectorAll('#rows th a')].map((link) => link.textContent)"


def names(browser: Browser) -> list[str]:
    found: list[str] = browser.run(NAMES)
    return found


# Search


def test_typing_finds_services_without_a_reload(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.run("window.same = true")
    browser.type("#q", "store pri")
    browser.wait(lambda: names(browser) == ["prices"], "search")
    assert browser.text("#found") == "1 of 18 services"
    assert browser.run("return window.same")
    assert browser.run("return location.search") == "?q=store+pri"
    browser.driver.refresh()
    assert names(browser) == ["prices"]


def test_only_services_with_a_problem(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.click("#troubled")
    browser.wait(lambda: browser.text("#found") == "7 of 18 services", "services in trouble")
    assert "web" not in names(browser)
    assert "pending" in names(browser)


def test_search_that_is_refused_says_why(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.run("document.querySelector('#q').removeAttribute('maxlength')")
    browser.run("document.querySelector('#q').value = 'x'.repeat(256)")
    browser.type("#q", "x")
    browser.wait(lambda: "at most 255" in browser.text("#filter-error"), "refusal")
    complaints = browser.complaints()  # the browser tells of every status 400; the page asks again
    assert complaints
    assert all("400" in each for each in complaints)


def test_pages_are_turned_in_place(browser: Browser, served: Served) -> None:
    browser.open(f"{served.url}?limit=5")
    browser.run("window.same = true")
    browser.click("#next")
    browser.wait(lambda: names(browser)[:1] == ["hostile"], "next page")
    browser.click("#first")
    browser.wait(lambda: names(browser)[:1] == ["ledger"], "first page")
    assert browser.run("return window.same")


def test_script_draws_what_the_server_draws(browser: Browser, served: Served) -> None:
    """Every row twice: once by the template, once by the script, hostile ones among them."""
    browser.script_off(off=True)
    browser.open(f"{served.url}?q=shop")
    by_server = browser.run(ROWS)
    browser.script_off(off=False)
    browser.open(served.url)
    browser.run("document.querySelector('#rows').replaceChildren()")
    browser.type("#q", "shop")
    browser.wait(lambda: len(browser.run(ROWS)) == len(by_server) == 9, "rows")
    assert browser.run(ROWS) == by_server


@pytest.mark.parametrize("part", ["#sources", "#upstreams", "#cache", "#alerts"])
def test_script_leaves_what_is_right(browser: Browser, served: Served, part: str) -> None:
    served.operator.said = ["a <b> reason", "an\u202eother"]
    inner = f"return document.querySelector('{part}').innerText"
    browser.script_off(off=True)
    browser.open(served.url)
    by_server = browser.run(inner)
    browser.script_off(off=False)
    browser.open(served.url)
    browser.wait(lambda: browser.run("return !!document.querySelector('#plot svg')"), "a round")
    assert browser.run(inner) == by_server


# Explain


def test_name_is_explained(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.type("#name", "replica.cluster-a.db.shop.svc.clusterset.local", "\n")
    browser.wait(lambda: browser.is_shown(".explained"), "explanation")
    assert browser.text(".verdict").startswith("NXDOMAIN endpoint replica in cluster cluster-a is")
    assert browser.text(".step.stopped h4") == "Slices and endpoints decided here"
    assert "the one asked for" in browser.text(".dots .asked")
    browser.click(".suggestions a")
    browser.wait(lambda: browser.text(".verdict").startswith("NOERROR"), "suggestion")
    assert "IN A 10.42.0.8" in browser.text(".records")


def test_type_is_chosen(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.type("#name", "web.shop.svc.clusterset.local")
    browser.type("#type", "SRV")
    browser.click(".ask button")
    browser.wait(lambda: "IN SRV 0 100 80" in browser.text(".records"), "records")


def test_service_of_the_list_is_explained(browser: Browser, served: Served) -> None:
    browser.open(f"{served.url}?q=bank")
    browser.click("#rows a")
    browser.wait(lambda: browser.text(".verdict").startswith("NOERROR 1 AAAA record"), "verdict")


def test_page_is_used_with_the_keyboard_alone(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    reached = []
    for _ in range(8):
        browser.type(":focus" if reached else "body", "\t")
        reached.append(
            browser.run("return document.activeElement.id || document.activeElement.tagName")
        )
    assert reached == ["A", "name", "type", "BUTTON", "q", "troubled", "A", "A"]


# Others' text


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize(
    "query", ["", "?q=hostile", "?name=hostile.shop.svc.clusterset.local&type=SRV&q=hostile"]
)
def test_hostile_object_is_text(browser: Browser, served: Served, query: str, script: bool) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    browser.script_off(off=not script)
    browser.open(served.url + query)
    if script:
        browser.run("document.querySelector('#rows').replaceChildren()")
        browser.type("#q", " ")
    browser.wait(lambda: "hostile" in browser.text("#rows"), "rows")
    assert '"><script>window.hacked=3</script>' in browser.text("#rows")
    assert "<script>alert(document.domain)</script> {{ 7*7 }} \\u202e\\u0000 end" in browser.text()
    with pytest.raises(NoAlertPresentException):
        _ = browser.driver.switch_to.alert
    assert browser.run("return window.hacked ?? null") is None
    assert browser.run("return document.scripts.length") == 1
    assert (
        browser.run("return document.querySelectorAll('img, iframe, main svg *[onload]').length")
        == 0
    )
    assert browser.complaints() == []


def test_question_that_is_hostile_is_text(browser: Browser, served: Served) -> None:
    payload = '"><script>window.hacked=1</script><img src=x onerror=window.hacked=2>'
    browser.open(served.url)
    browser.type("#name", payload, "\n")
    browser.wait(lambda: browser.is_shown(".explained"), "explanation")
    assert browser.run("return window.hacked ?? null") is None
    assert browser.run("return document.querySelector('#name').value") == payload


def test_policy_stops_what_would_slip_through(browser: Browser, served: Served) -> None:
    """Were there a hole in the escaping, the browser itself would not run it."""
    browser.open(served.url)
    tries = (
        "document.body.innerHTML = '<img src=x onerror=window.hacked=1>'",
        "document.body.setAttribute('onclick', 'window.hacked = 2')",
        "document.body.append(Object.assign(document.createElement('script'), {text: '0'}))",
        "new DOMParser().parseFromString('<p>', 'text/html')",
    )
    for each in tries:
        refused = browser.run(f"try {{ {each}; return '' }} catch (it) {{ return it.name }}")
        assert refused == "TypeError", each
    assert browser.run("return window.hacked ?? null") is None
    assert len(browser.complaints()) >= len(tries)


# Away


def test_source_that_goes_away_is_said_and_comes_back(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.wait(lambda: "connected" in browser.text("#sources"), "source")
    assert not browser.is_shown("#alerts")
    served.do(lambda: served.operator.lose_source("no connection: refused; is it up?"))
    browser.wait(lambda: browser.is_shown("#alerts"), "alert")
    assert "https://10.0.0.1:6443 cannot be heard" in browser.text("#alerts")
    assert "stale" in browser.text("#alerts")
    assert "away" in browser.text("#sources")
    assert "no connection: refused; is it up?" in browser.text("#sources")
    assert "web" in names(browser)
    served.do(served.operator.find_source)
    browser.wait(lambda: not browser.is_shown("#alerts"), "no alert")
    assert "connected" in browser.text("#sources")


def test_server_that_goes_away_is_said_and_comes_back(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    browser.wait(lambda: browser.run("return !!document.querySelector('#plot svg')"), "a round")
    browser.run("window.same = true")
    served.stop()
    browser.wait(lambda: browser.is_shown("#lost"), "banner")
    assert browser.text("#lost").startswith("No answer from mcsdns since 2")
    assert browser.text("#state") == "no answer"
    assert "web" in names(browser)
    served.operator.is_up = False
    served.start()
    browser.wait(lambda: not browser.is_shown("#lost"), "no banner")
    browser.wait(lambda: browser.text("#state") == "not ready", "what is new")
    assert browser.run("return window.same")
    assert all("ERR_CONNECTION_REFUSED" in each for each in browser.complaints())


# Widths and colours


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize(
    "query", ["?q=hostile", "?name=replica.cluster-a.db.shop.svc.clusterset.local"]
)
def test_nothing_sticks_out(browser: Browser, served: Served, width: int, query: str) -> None:
    browser.look(width=width)
    browser.open(served.url + query)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert (
        browser.run(
            "return [...document.querySelectorAll('input:not([type=checkbox]), button, select')]"
            ".filter((it) => it.offsetHeight && it.offsetHeight < 36).length"
        )
        == 0
    )


CONTRAST = """
const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (it) => {
  for (; it; it = it.parentElement) {
    const colour = numbers(getComputedStyle(it).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
};
const low = [];
for (const it of document.querySelectorAll('body *')) {
  const own = [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !it.offsetHeight || it.closest('svg')) continue;
  const [a, b] = [light(numbers(getComputedStyle(it).color)), light(ground(it))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(`${it.tagName}.${it.className} ${ratio.toFixed(2)}: ${it.textContent}`);
}
return low;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser: Browser, served: Served, scheme: str) -> None:
    """WCAG 2.1, 1.4.3: at least 4.5 to 1."""
    served.operator.lose_source("no connection")
    browser.look(width=1280, scheme=scheme)
    browser.open(f"{served.url}?name=replica.cluster-a.db.shop.svc.clusterset.local")
    assert browser.run(CONTRAST) == []


def test_every_field_has_a_name(browser: Browser, served: Served) -> None:
    browser.open(served.url)
    unnamed = (
        "return [...document.querySelectorAll('input, select')].filter((it) => !it.labels.length)"
    )
    assert browser.run(unnamed) == []
    assert browser.run("return document.documentElement.lang") == "en"


# Plot


def fill(served: Served) -> None:
    """Five minutes of a day as it is, with a few seconds of more, and go on so."""
    rng = random.Random(6)
    shares = {
        ReplyKind.CLUSTERSET: 0.62,
        ReplyKind.CACHED: 0.23,
        ReplyKind.NEGATIVE: 0.11,
        ReplyKind.FORWARDED: 0.04,
    }
    totals = dict.fromkeys(shares, 0)
    now_s, wall_s = time.monotonic(), time.time()
    number = 0.0
    for second in range(SECONDS + 1):
        number = 820 + 240 * math.sin(second / 40) + rng.randrange(-40, 40)
        number += 430 if 190 < second < 212 else 0
        for kind, share in shares.items():
            totals[kind] += int(number * share)
        counts = [
            ReplyCount("udp", ".", "A", "NOERROR", kind, total) for kind, total in totals.items()
        ]
        ago_s = SECONDS - second
        served.sampler.ring.add(counts, now_s - ago_s, wall_s - ago_s)
    served.operator.snapshot()
    served.operator.numbers = totals
    served.operator.growth = {kind: number * share for kind, share in shares.items()}


def test_answers_are_plotted(browser: Browser, served: Served) -> None:
    served.do(lambda: fill(served))
    browser.open(served.url)
    browser.wait(lambda: browser.run("return !!document.querySelector('#plot .curve')"), "curve")
    points = browser.run(
        "return document.querySelector('.curve').getAttribute('d').split('L').length"
    )
    assert points == SECONDS
    peak = float(browser.text("#rate-peak").replace(",", ""))
    assert peak > 1000
    assert browser.text("#plot .top") == "1,200"
    assert "clusterset" in browser.text("#kinds")


# For the pages


@pytest.mark.parametrize(
    ("name", "width", "scheme", "height", "host"),
    [
        ("status-light", 1280, "light", 2150, "primary"),
        ("status-dark", 1280, "dark", 2150, "replica"),
        ("status-phone", 390, "light", 1700, "replica"),
    ],
)
def test_screenshot(
    browser: Browser, tmp_path: Path, name: str, width: int, scheme: str, height: int, host: str
) -> None:
    """With MCSDNS_SCREENSHOTS=1 those of the documentation are made anew."""
    folder = images() or tmp_path
    with Served(stand_in(shop())) as served:
        served.do(lambda: fill(served))
        browser.look(width=width, scheme=scheme, height=height, scale=1 if width > 500 else 2)
        browser.open(f"{served.url}?name={host}.cluster-a.db.shop.svc.clusterset.local&type=A")
        browser.wait(lambda: browser.run("return !!document.querySelector('.curve')"), "curve")
        browser.driver.save_screenshot(str(folder / f"{name}.png"))
        browser.leave()
    assert (folder / f"{name}.png").stat().st_size > 10_000
