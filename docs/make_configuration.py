"""Writes the table of `configuration.md` from the schema: `python docs/make_configuration.py`."""

from collections.abc import Iterator
from pathlib import Path

from mcsdns import config
from mcsdns.config import Effect

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """\
| key | flag | default | what it sets | a change is | also of |
| --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page with the table of now."""
    before, _, after = PAGE.read_text(encoding="utf-8").partition(HEAD)
    _, _, rest = after.partition("\n\n")
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows())
    return f"{before}{HEAD}{table}\n{rest}"


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
    PAGE.write_text(page(), encoding="utf-8")
