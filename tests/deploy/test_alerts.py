"""Alerts and dashboard: they use only what mcsdns exports, and do what they say."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcsdns.metrics.catalog import METRICS, Metric, Type
from tests.deploy.rendering import DEPLOY

RULES = DEPLOY / "alerts" / "rules.yaml"
DASHBOARD = DEPLOY / "kustomize" / "components" / "dashboard" / "mcsdns.json"
OF_THE_SCRAPE = {"job", "instance", "namespace", "pod"}
OF_A_HISTOGRAM = ("_bucket", "_sum", "_count")
OF_PROCESSES = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
NAME = re.compile(r"\b(?:mcsdns|process)_\w+")
SELECTED = re.compile(r"\b(mcsdns_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
BY = re.compile(r"\bby \(([^)]*)\)")


def exported() -> dict[str, Metric]:
    """Every name that a scrape has, histograms' and info's too."""
    found: dict[str, Metric] = {}
    for metric in METRICS.values():
        if metric.type is Type.HISTOGRAM:
            found |= {metric.full_name + suffix: metric for suffix in OF_A_HISTOGRAM}
        else:
            found[metric.full_name] = metric
    return found


def alerts() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query."""
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard()["templating"]["list"]:
        yield variable["name"], variable["query"]


def labels_of(query: str) -> set[str]:
    """All labels that series of a query can have."""
    known = exported()
    metrics = [known[name] for name in NAME.findall(query) if name in known]
    return {label.name for metric in metrics for label in metric.labels} | OF_THE_SCRAPE | {"le"}


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_metrics_and_labels_exist(where: str, query: str) -> None:
    assert set(NAME.findall(query)) <= exported().keys() | OF_PROCESSES, where
    for name, inside in SELECTED.findall(query):
        for label, value in MATCHER.findall(inside):
            known = {each.name: each for each in exported()[name].labels}
            assert label in known.keys() | OF_THE_SCRAPE, where
            if label in known and known[label].values:
                assert value in known[label].values, where
    for names in BY.findall(query):
        assert {name.strip() for name in names.split(",")} <= labels_of(query), where


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alert_says_what_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "action"}
    # Labels that the texts name are there where the alert fires.
    used = set(re.findall(r"\$labels\.(\w+)", notes["description"]))
    groups = BY.findall(rule["expr"])
    there = set(re.split(r",\s*", groups[0])) if groups else labels_of(rule["expr"])
    assert used <= there


def test_what_the_issue_wants_is_alerted() -> None:
    wanted = "Down NotSynced WatchStale ServfailShare GuardHeld UpstreamDown SnapshotOld"
    names = {rule["alert"] for rule in alerts()}
    assert {f"Mcsdns{each}" for each in wanted.split()} <= names


def test_legends_name_labels_that_their_query_leaves() -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            groups = BY.findall(target["expr"])
            left = set(re.split(r",\s*", groups[0])) if groups else labels_of(target["expr"])
            assert used <= left, panel["title"]


def test_panels_do_not_overlap_and_have_a_number_each() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_made_files_are_of_now() -> None:
    for path, text in runpy.run_path(str(DEPLOY / "make.py"))["outputs"]().items():
        assert path.read_text() == text, (
            f"{path.name}: run `{Path(sys.executable).name} deploy/make.py`"
        )


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus)")
class TestPromtool:
    def test_rules_are_valid(self) -> None:
        promtool("check", "rules", str(RULES))

    def test_alerts_fire_when_they_should(self) -> None:
        promtool("test", "rules", str(RULES.with_name("rules_test.yaml")))

    def test_queries_of_the_dashboard_are_valid(self, tmp_path: Path) -> None:
        """Grafana's are PromQL like rules; its variables stand in matchers alone."""
        rules = [
            {"record": f"panel:{number}", "expr": query}
            for number, (_, query) in enumerate(queries())
            if not query.startswith("label_values") and query != "prometheus"
        ]
        path = tmp_path / "rules.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        promtool("check", "rules", str(path))


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    cases = RULES.with_name("rules_test.yaml").read_text()
    for rule in alerts():
        assert re.search(rf'alertname(="|: ){rule["alert"]}\b', cases), rule["alert"]
