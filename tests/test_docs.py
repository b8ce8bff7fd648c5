"""The pages are true: what they name exists, and what has to be on them is there."""

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcsdns
from tests.paths import ROOT

DOCS = ROOT / "docs"
SPEC = DOCS / "spec.md"
ARCHITECTURE = DOCS / "architecture.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
CASES = ROOT / "tests" / "cases"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name / "README.md" for name in ("examples", "corefile-examples", "tests/cases")),
]
ABOUT_CODE = [
    *(ARCHITECTURE, SPEC, CONTRIBUTING, CASES / "README.md"),
    *sorted((DOCS / "decisions").glob("*.md")),
]
"""Pages whose files are all ours, and whose dotted names are ours or those of OTHERS."""
OTHERS = {
    *(
        "asyncio",
        "conditions",
        "hostname",
        "id",
        "net",
        "ns",
        "resolv",
        "spec",
        "status",
        "version",
    ),
}
"""First words: fields of objects, domain names, settings of the system, the standard library."""

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4}.*$", re.MULTILINE)
SPAN = re.compile(r"`((?:[^`\n]|\n(?!\n))+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FILE = re.compile(r"[\w*.-]+(?:/[\w*.-]+)*(?:/|\.(?:py|md|ya?ml|toml|txt|Corefile))")
TOP = "bench|corefile-examples|deploy|docs|examples|mcsdns|requirements|tests"
IN_A_COMMAND = re.compile(rf"(?<![\w/.-])(?:{TOP})/[\w./-]*[\w/]")
COPIED = re.compile(r"^ *cp -r \S+ (\S+)", re.MULTILINE)
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
RFC = re.compile(r"RFC (\d+)")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@functools.cache
def prose(page: Path) -> str:
    """A page without its examples."""
    return INDENTED.sub("", FENCE.sub("", page.read_text()))


@functools.cache
def spans(page: Path) -> list[str]:
    return [" ".join(span.split()).removesuffix("()") for span in SPAN.findall(prose(page))]


@functools.cache
def ours() -> dict[str, list[object]]:
    """Every module by its last name, and every class by its own."""
    found: dict[str, list[object]] = {}
    for info in pkgutil.walk_packages(mcsdns.__path__, "mcsdns."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            found.setdefault(info.name.rpartition(".")[2], []).append(module)
            for name, thing in vars(module).items():
                if isinstance(thing, type) and thing.__module__ == info.name:
                    found.setdefault(name, []).append(thing)
    return found


def has(thing: object, steps: list[str]) -> bool:
    for step in steps:
        if step not in getattr(thing, "__annotations__", {}) and not hasattr(thing, step):
            return False
        thing = getattr(thing, step, None)
    return True


def exists(dotted: str) -> bool:
    head, *steps = dotted.removeprefix("mcsdns.").split(".")
    return any(has(thing, steps) for thing in ours().get(head, []))


@functools.cache
def files() -> list[str]:
    found = [*ROOT.glob("*"), *ROOT.glob(".ci/*")]
    for folder in TOP.split("|"):
        found += (ROOT / folder).rglob("*")
    return [str(path) for path in found]


def is_there(name: str) -> bool:
    """Whether a file or folder of ours ends like this; `*` stands for a part of one name."""
    pattern = re.escape("/" + name.rstrip("/")).replace(r"\*", "[^/]*") + "$"
    return any(re.search(pattern, path) for path in files())


def anchors(page: Path) -> Iterator[str]:
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    copies = tuple(COPIED.findall(text))
    named = [name for name in IN_A_COMMAND.findall(text) if not name.startswith(copies)]
    if page in ABOUT_CODE:
        named += [span for span in spans(page) if FILE.fullmatch(span)]
    assert [name for name in named if not is_there(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_functions_that_are_named_exist(page: Path) -> None:
    """A dotted name that begins with one of our modules or classes."""
    named = [span for span in spans(page) if DOTTED.fullmatch(span) and not FILE.fullmatch(span)]
    if page == ARCHITECTURE:
        for drawing in FENCE.findall(page.read_text()):
            named += DOTTED.findall(drawing)
    strict = page in ABOUT_CODE
    unknown = [
        name
        for name in named
        if not exists(name)
        and not name.endswith(".local")
        and name.partition(".")[0] not in OTHERS
        and (strict or name.partition(".")[0] in ours())
    ]
    assert unknown == []


def test_every_case_file_is_on_a_page() -> None:
    text = SPEC.read_text() + (CASES / "README.md").read_text()
    files = [path.name for path in CASES.glob("*.yaml")]
    assert [name for name in files if f"`{name}`" not in text] == []


def test_every_rfc_that_code_or_cases_obey_is_on_the_map() -> None:
    text = SPEC.read_text()
    mapped = set(re.findall(r"^\| (\d{4}),? ", text, re.MULTILINE))
    sources = [*(ROOT / "mcsdns").rglob("*.py"), *CASES.glob("*.yaml")]
    named = {number for path in sources for number in RFC.findall(path.read_text())}
    assert sorted(named - mapped) == []


def test_sections_that_comments_name_are_there() -> None:
    sources = [*(ROOT / "mcsdns").rglob("*.py"), *CASES.glob("*.yaml")]
    named = {n for path in sources for n in re.findall(r"spec\.md (\d)", path.read_text())}
    assert named <= set(re.findall(r"^## (\d)\. ", SPEC.read_text(), re.MULTILINE))


def test_every_room_is_described() -> None:
    rooms = {path.name for path in (ROOT / "mcsdns").iterdir() if not path.name.startswith("_")}
    rooms -= {"py.typed"}
    described = {span.partition("/")[0] for span in spans(ARCHITECTURE)}
    assert sorted(rooms - described) == []


def test_decisions_are_numbered_and_have_their_parts() -> None:
    for number, page in enumerate(sorted((DOCS / "decisions").glob("*.md")), 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        parts = HEADING.findall(text)[1:]
        assert [parts[0], parts[1], parts[-1]] == [
            "Context",
            "Choice",
            "What would change our mind",
        ]
