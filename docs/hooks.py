"""Makes a site of what the repository shows: pages may link to any file of it.

A file outside docs/ that a page links to becomes a page too: Markdown as it is, any other file as
a listing, a folder as the list of its files. Links stay those of the repository; here they are
turned into those of the site.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
HOME = {"README.md": "docs/index.md"}
"""What the site has in place of a file."""
APART = "---\nsearch:\n  exclude: true\n---\n\n"
"""What a file says is not what somebody looks for in the docs."""
ICON = "mcsdns/web/html/static/icon.svg"
LANGUAGES = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".py": "python",
    ".json": "json",
    ".conf": "unixconfig",
}
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
BEFORE_A_LIST = re.compile(r"^(?![-*|#>\s]|1\. )(.+\n)(?=- |1\. )", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let a pattern in the navigation stand for the pages that it matches."""
    config.nav = _expanded(config.nav)
    return config


def _expanded(nav: Any) -> Any:  # noqa: ANN401 - lists, mappings and paths, as YAML has them
    if isinstance(nav, dict):
        return {title: _expanded(inner) for title, inner in nav.items()}
    if isinstance(nav, list):
        return [each for inner in nav for each in _pages(inner)]
    return nav


def _pages(inner: Any) -> list[Any]:  # noqa: ANN401 - as above
    if not isinstance(inner, str) or "*" not in inner:
        return [_expanded(inner)]
    docs = ROOT / "docs"
    return sorted(path.relative_to(docs).as_posix() for path in docs.glob(inner))


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that the pages of docs/ link to, and those that these link to."""
    icon = str(ROOT / ICON)
    files.append(File.generated(config, "icon.svg", abs_src_path=icon))
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    while waiting:
        for path in _linked(waiting.pop()):
            uri = _uri(path)
            if files.get_file_from_path(uri) is None:
                files.append(_page(config, uri, path))
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links into those of the site, and set lists apart as Python-Markdown wants it."""
    del config, files
    uri = page.file.src_uri
    if (ROOT / uri.removesuffix(".md")).is_file():
        return markdown  # a file that is shown as it is

    def change(prose: str) -> str:
        linked = LINK.sub(lambda link: _rewritten(uri, link), prose)
        return BEFORE_A_LIST.sub(r"\1\n", linked)

    return _outside_fences(markdown, change)


def _outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    parts = FENCE.split(markdown)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


def _rewritten(uri: str, link: re.Match[str]) -> str:
    before, target, after = link.groups()
    path = _target(_folder(uri), target)
    if path is None:
        return link.group()
    return f"{before}{posixpath.relpath(_uri(path), posixpath.dirname(uri) or '.')}{after}"


def _folder(uri: str) -> str:
    """Return the folder of the repository that a page's links are seen from."""
    folder = posixpath.dirname(uri)
    inside = posixpath.join("docs", folder)
    return inside if (ROOT / "docs" / uri).exists() or uri == _uri(inside) else folder


def _target(folder: str, link: str) -> str | None:
    """Return the path in the repository that a link leads to, None where it leads elsewhere."""
    if ":" in link or link.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(folder, link))
    path = HOME.get(path, path)
    return path if (ROOT / path).exists() and not path.startswith("..") else None


def _uri(path: str) -> str:
    """Return where a file or folder of the repository is in the site."""
    uri = path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{uri}/README.md"
    return uri if uri.endswith((".md", ".png", ".svg")) else f"{uri}.md"


def _linked(path: str) -> Iterator[str]:
    """Iterate over the files and folders that a file of the repository links to."""
    if (ROOT / path).is_dir():
        if not (ROOT / path / "README.md").exists():
            yield from _inside(path)
            return
        path = f"{path}/README.md"
    if not path.endswith(".md"):
        return
    prose = FENCE.sub("", (ROOT / path).read_text(encoding="utf-8"))
    for _, link, _ in LINK.findall(prose):
        if target := _target(posixpath.dirname(path), link):
            yield target


def _inside(folder: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).iterdir()):
        if not path.name.startswith((".", "__")):
            yield str(path.relative_to(ROOT))


def _page(config: MkDocsConfig, uri: str, path: str) -> File:
    """Return the page of a file or folder, which is outside the navigation."""
    apart = InclusionLevel.NOT_IN_NAV
    source = ROOT / path
    if source.is_dir() and (source / "README.md").exists():
        source /= "README.md"
    if source.suffix == ".md":
        return File.generated(config, uri, abs_src_path=str(source), inclusion=apart)
    text = _listing(path) if source.is_dir() else _source(path)
    return File.generated(config, uri, content=text, inclusion=apart)


def _listing(folder: str) -> str:
    paths = (posixpath.relpath(path, folder) for path in _inside(folder))
    return f"{APART}# {folder}\n\n" + "".join(f"- [{name}]({name})\n" for name in paths)


def _source(path: str) -> str:
    """Return a file as a page that shows it."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"{APART}# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"
