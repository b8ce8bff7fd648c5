"""Writes what is made from something else here: `python deploy/make.py`.

The alerts come from `alerts/rules.yaml`, the dashboard from `dashboard.py`; kustomize and Helm want
them in folders of their own, the first as an object, and people want a page.
"""

import importlib.util
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).resolve().parent
RULES: Final = HERE / "alerts" / "rules.yaml"
COMPONENTS: Final = HERE / "kustomize" / "components"
FILES: Final = HERE / "charts" / "mcsdns" / "files"
PAGE: Final = HERE.parent / "docs" / "alerts.md"
MADE: Final = "# Made by deploy/make.py; change deploy/alerts/rules.yaml.\n"
HEAD: Final = """\
# Alerts

`deploy/alerts/rules.yaml` holds them: as they are for a Prometheus, as a PrometheusRule for its
operator ([install](install.md)). They look for the job `mcsdns`, as the ServiceMonitor and the
PodMonitor call it. `critical` is worth waking somebody, `warning` a look today, `info` some day.

<!-- What follows is written by deploy/make.py. -->
"""


def outputs() -> dict[Path, str]:
    """Return what each made file should hold."""
    dashboard = _dashboard()
    rules = RULES.read_text(encoding="utf-8")
    groups = rules[rules.index("groups:") :]
    return {
        FILES / "rules.yaml": MADE + groups,
        COMPONENTS / "alerts" / "prometheusrule.yaml": _object(groups),
        FILES / "dashboard.json": dashboard,
        COMPONENTS / "dashboard" / "mcsdns.json": dashboard,
        PAGE: HEAD + "".join(_sections(yaml.safe_load(rules))),
    }


def _dashboard() -> str:
    spec = importlib.util.spec_from_file_location("dashboard", HERE / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text: str = module.text()
    return text


def _object(groups: str) -> str:
    head = """\
        apiVersion: monitoring.coreos.com/v1
        kind: PrometheusRule
        metadata:
          name: mcsdns
          namespace: mcsdns
          labels:
            app.kubernetes.io/name: mcsdns
            app.kubernetes.io/instance: mcsdns
        spec:
        """
    return MADE + textwrap.dedent(head) + textwrap.indent(groups, "  ")


def _sections(rules: dict[str, Any]) -> Iterator[str]:
    for group in rules["groups"]:
        for rule in group["rules"]:
            notes = {name: text.strip() for name, text in rule["annotations"].items()}
            wait = f", after {rule['for']}" if "for" in rule else ", at once"
            yield f"\n## {rule['alert']}\n\n"
            yield f"{notes['summary']} ({rule['labels']['severity']}{wait})\n\n"
            yield textwrap.indent(rule["expr"].strip(), "    ") + "\n\n"
            yield textwrap.fill(notes["action"], 100, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8")
