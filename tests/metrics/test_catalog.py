"""The table of metrics: all of it is collected and on its page, and nothing else is."""

import ipaddress
import re
import runpy
import shutil
import subprocess

import pytest
from prometheus_client import Metric as Family
from prometheus_client.metrics_core import METRIC_TYPES

from mcsdns.metrics.catalog import METRICS, Metric, ServerMetrics, Type
from mcsdns.metrics.collector import families, values
from mcsdns.metrics.snapshot import Snapshot
from mcsdns.stats import ReplyKind
from tests.metrics.snapshots import UPSTREAMS, ZONE, bare, full, render
from tests.paths import DOCS
from tests.waiting import DEADLINE_S

PROMTOOL = shutil.which("promtool")
COUSIN = re.compile(r'coredns_[a-z_]+(\{zone="dropped"\})?')


def collected() -> dict[str, Family]:
    """What a server of which nothing is absent shows, by name as it is in the table."""
    return {_name_of(family): family for family in families(full())}


def _name_of(family: Family) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    return family.name.removeprefix("mcsdns_") + suffix


def test_all_that_is_collected_is_in_the_table_and_the_other_way_round() -> None:
    assert list(collected()) == list(METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_type_help_and_labels_are_those_of_the_table(metric: Metric) -> None:
    family = collected()[metric.name]
    assert family.type in METRIC_TYPES
    assert (family.type, family.documentation) == (metric.type.value, metric.help)
    names = [label.name for label in metric.labels]
    for sample in family.samples:
        assert list(sample.labels)[: len(names)] == names
        assert set(sample.labels) - set(names) <= {"le"}


def test_every_value_of_a_closed_set_is_in_it() -> None:
    for metric in METRICS.values():
        for label in metric.labels:
            found = {sample.labels[label.name] for sample in collected()[metric.name].samples}
            if label.values:
                assert found <= set(label.values), metric.name
            assert label.text


def test_no_label_is_an_address_or_a_domain_name_but_of_the_settings() -> None:
    """Versions have dots too; a source cluster may be two labels, and has its own bound."""
    configured = {ZONE, *UPSTREAMS}
    for metric, labels, _ in values(full()):
        for value in labels if metric is not ServerMetrics.build_info else ():
            if value not in configured:
                assert re.fullmatch(r"[A-Za-z_]*|[.]", value), (metric.name, value)
                with pytest.raises(ValueError, match="IP"):
                    ipaddress.ip_address(value)


def test_every_name_is_as_prometheus_wants_it() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (metric.type is Type.COUNTER)
        assert name.endswith("_info") == (metric.type is Type.INFO)
        assert metric.type is not Type.HISTOGRAM or name.endswith("_seconds")
        assert metric.help[0].isupper() or metric.help[0].isdigit()
        assert metric.help.endswith(".")
        for cousin in filter(None, metric.coredns.split(", ")):
            assert COUSIN.fullmatch(cousin)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (package prometheus)")
@pytest.mark.parametrize("snapshot", [bare(), full()], ids=["bare", "full"])
def test_promtool_finds_nothing_to_mend(snapshot: Snapshot) -> None:
    body, _ = render(snapshot, "")
    ours = b"".join(
        line for line in body.splitlines(keepends=True) if b"process_" not in line
    )  # those of prometheus_client are as they are
    command = [str(PROMTOOL), "check", "metrics"]
    done = subprocess.run(command, input=ours, capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_page_is_current() -> None:
    generator = runpy.run_path(str(DOCS / "make_metrics.py"))
    page = (DOCS / "metrics.md").read_text()
    assert page == generator["page"](), "run `python docs/make_metrics.py`"
    for name in METRICS:
        assert page.count(f"| `mcsdns_{name}` |") == 1


def test_the_page_says_what_every_kind_of_answer_is() -> None:
    before, _, _ = (DOCS / "metrics.md").read_text().partition("## ")
    assert [kind for kind in ReplyKind if f"`{kind}`" not in before] == []
