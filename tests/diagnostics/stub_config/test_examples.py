"""The files of `corefile-examples` are what `mcsdns stub` prints."""

import re
import runpy
from pathlib import Path

import pytest

from tests.paths import ROOT

FOLDER = ROOT / "corefile-examples"
BY_HAND = {"sidecar-pod.yaml", "node-local.yaml"}
"""Where mcsdns itself runs; the others point at it."""


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    return dict(runpy.run_path(str(ROOT / "docs" / "make_stubs.py"))["files"]())


def test_files_are_those_that_the_texts_make(made: dict[Path, str]) -> None:
    differing = [path.name for path, text in made.items() if path.read_text() != text]
    assert differing == [], "run `python docs/make_stubs.py`"
    assert {path.name for path in FOLDER.iterdir()} == {path.name for path in made} | BY_HAND


def test_page_links_every_file() -> None:
    linked = set(re.findall(r"\]\(([\w.-]+)\)", (FOLDER / "README.md").read_text()))
    assert linked >= {path.name for path in FOLDER.iterdir()} - {"README.md"}
