"""Writes the texts of `mcsdns stub` to `corefile-examples/`: `python docs/make_stubs.py`."""

from collections.abc import Iterator
from pathlib import Path

from mcsdns.diagnostics.stub_config.render import platforms, read_target, render

FOLDER = Path(__file__).parent.parent / "corefile-examples"
PAGE = FOLDER / "README.md"
HEAD = """\
| platform | for | where it goes |
| --- | --- | --- |
"""


def files() -> Iterator[tuple[Path, str]]:
    """Iterate over the files and what is to stand in them."""
    for platform in platforms().values():
        text = render(platform, read_target([platform.example_ip], []))
        yield FOLDER / platform.example_file, text
    yield PAGE, page()


def page() -> str:
    """Return the page with the table of now."""
    before, _, after = PAGE.read_text(encoding="utf-8").partition(HEAD)
    _, _, rest = after.partition("\n\n")
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows())
    return f"{before}{HEAD}{table}\n{rest}"


def rows() -> Iterator[tuple[str, str, str]]:
    """Iterate over the cells of the table."""
    for platform in platforms().values():
        link = f"[`{platform.name}`]({platform.example_file})"
        yield link, platform.title, platform.place


if __name__ == "__main__":
    for path, text in files():
        path.write_text(text, encoding="utf-8")
