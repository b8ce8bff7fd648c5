"""Writes the tables of settings from the schema: `python docs/make_configuration.py`.

That of `configuration.md` has all that is known of each, that of `operations.md` says what a reload
does with it.
"""

from collections.abc import Iterator
from pathlib import Path

from mcsdns import config
from mcsdns.config import Effect

CONFIGURATION = Path(__file__).with_name("configuration.md")
OPERATIONS = Path(__file__).with_name("operations.md")
HEAD = """\
| key | flag | default | what it sets | a change is | also of |
| --- | --- | --- | --- | --- | --- |
"""
RELOAD_HEAD = """\
| settings | what happens |
| --- | --- |
"""
EFFECTS = {
    Effect.LIVE: "in force at once",
    Effect.ZONE: "the next answers have them, the replies that are ready are made anew; the serial "
    "steps",
    Effect.FORWARDER: "another forwarder takes over, whose cache is empty; the old one answers "
    "what it was asked",
    Effect.RESTART: "they need a restart, and until then keep their value; the others take effect "
    "all the same",
}


def pages() -> dict[Path, str]:
    """Return the pages with the tables of now."""
    return {
        CONFIGURATION: _with_table(CONFIGURATION, HEAD, rows()),
        OPERATIONS: _with_table(OPERATIONS, RELOAD_HEAD, reload_rows()),
    }


def _with_table(page: Path, head: str, table: Iterator[tuple[str, ...]]) -> str:
    before, _, after = page.read_text(encoding="utf-8").partition(head)
    _, _, rest = after.partition("\n\n")
    lines = "".join(f"| {' | '.join(row)} |\n" for row in table)
    return f"{before}{head}{lines}\n{rest}"


def reload_rows() -> Iterator[tuple[str, ...]]:
    """Iterate over what a reload does, and with which settings."""
    for effect, text in EFFECTS.items():
        names = [f"`{each.name}`" for each in config.fields() if each.effect is effect]
        yield ", ".join(names), text


def rows() -> Iterator[tuple[str, ...]]:
    """Iterate over the cells of the table."""
    for field in config.fields():
        usage = f"{field.flag} {field.placeholder}{' ...' if field.repeats else ''}".strip()
        description, _, default = field.description.partition(" (default ")
        text = description + (f" ({field.bounds})" if field.bounds else "")
        yield (
            f"`{field.name}`",
            f"`{usage}`",
            default.removesuffix(")") or field.default_text,
            text.replace("<", "&lt;").replace(">", "&gt;"),
            "live" if field.effect is not Effect.RESTART else "for a restart",
            ", ".join(f"`{each}`" for each in sorted(field.commands)),
        )


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
