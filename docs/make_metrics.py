"""Writes the tables of `metrics.md` from the table of metrics: `python docs/make_metrics.py`."""

from collections.abc import Iterator
from pathlib import Path

from mcsdns.metrics.catalog import GROUPS, Metric

PAGE = Path(__file__).with_name("metrics.md")
BEGIN = (
    "<!-- From here on it is written by docs/make_metrics.py from mcsdns/metrics/catalog.py. -->\n"
)
END = "<!-- Up to here. -->\n"
HEAD = """\
| metric | type | labels | what it says | coredns cousin |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page with the tables of now."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{''.join(map(section, GROUPS))}{END}{after}"


def section(group: type) -> str:
    """Return one heading with its table."""
    metrics = [each for each in vars(group).values() if isinstance(each, Metric)]
    table = "".join(f"| {' | '.join(cells(metric))} |\n" for metric in metrics)
    return f"## {str(group.__doc__).removesuffix('.')}\n\n{HEAD}{table}\n"


def cells(metric: Metric) -> Iterator[str]:
    """Iterate over the cells of one row."""
    labels = (f"`{label.name}`: {label.text}" for label in metric.labels)
    yield f"`{metric.full_name}`"
    yield metric.type.value
    yield "<br>".join(labels)
    yield metric.help
    yield ", ".join(f"`{name}`" for name in metric.coredns.split(", ")) if metric.coredns else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
