"""The site of docs/: built without a warning, whole, and without a word to any other host."""

import functools
import html
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.paths import ROOT

DOCS = ROOT / "docs"
LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "link": "href",
}
CSS_URL = re.compile(r"(?:@import\s+|url\()\s*[\"']?([^\"')\s]+)")


class Reader(HTMLParser):
    """What a page loads, what it links to, and where it can be linked to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.navigation: set[str] = set()
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        classes = given.get("class", "").split()
        self.ids.add(given.get("id", ""))
        self.classes.update(classes)
        if given.get("rel") != "canonical" and given.get(LOADING.get(tag, ""), ""):
            self.loads.append(given[LOADING[tag]])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
            if "md-nav__link" in classes:
                self.navigation.add(given["href"])


@functools.cache
def read(page: Path) -> Reader:
    return Reader(page)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is missing (make docs installs it)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr
    return folder


def pages(site: Path) -> Iterator[Path]:
    found = sorted(site.rglob("*.html"))
    assert found
    return iter(found)


def is_elsewhere(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme not in {"", "data"}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loaded = {each for page in pages(site) for each in read(page).loads}
    for style in site.rglob("*.css"):
        loaded.update(CSS_URL.findall(style.read_text(encoding="utf-8")))
    assert sorted(filter(is_elsewhere, loaded)) == []


def test_no_page_has_what_the_theme_fetches_code_for(site: Path) -> None:
    assert [page for page in pages(site) if read(page).classes & {"mermaid", "arithmatex"}] == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    there = read(site / "index.html").navigation
    uris = (path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))
    wanted = {"." if uri == "index" else f"{uri}/" for uri in uris}
    assert sorted(wanted - there) == []


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    dead = []
    for page in pages(site):
        for link in read(page).links:
            parts = urlsplit(link)
            if parts.scheme or page.name == "404.html":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (
                anchor and target.suffix == ".html" and anchor not in read(target).ids
            ):
                dead.append(f"{page.relative_to(site)}: {link}")
    assert dead == []


def test_files_that_pages_link_to_are_shown(site: Path) -> None:
    page = (site / "examples" / "cases.yaml" / "index.html").read_text(encoding="utf-8")
    shown = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert (ROOT / "examples" / "cases.yaml").read_text() in shown
    assert (site / "corefile-examples" / "index.html").is_file()
    assert (site / "CHANGELOG" / "index.html").is_file()


def test_lists_of_the_repository_are_lists_of_the_site(site: Path) -> None:
    text = (site / "spec" / "index.html").read_text(encoding="utf-8")
    assert "<li>The zone may have other names" in text
