"""The Grafana dashboard as a table of panels; `make.py` writes it as JSON."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_CHOSEN: Final = '{job=~"$job", instance=~"$instance"}'
_WIDTH: Final = 8
_HEIGHT: Final = 7
_COLUMNS: Final = 24


@dataclass(frozen=True)
class Panel:
    """One plot. `{}` in a query stands for the instances that were chosen."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""


ROWS: Final[dict[str, list[Panel]]] = {
    "Answers": [
        Panel(
            "Answers by kind",
            "reqps",
            (("sum by (kind) (rate(mcsdns_requests_total{}[5m]))", "{{kind}}"),),
        ),
        Panel(
            "Answers by rcode",
            "reqps",
            (("sum by (rcode) (rate(mcsdns_requests_total{}[5m]))", "{{rcode}}"),),
        ),
        Panel(
            "Share of SERVFAIL by zone",
            "percentunit",
            (
                (
                    (
                        'sum by (zone) (rate(mcsdns_requests_total{rcode="SERVFAIL"}[5m]))'
                        " / sum by (zone) (rate(mcsdns_requests_total{}[5m]))"
                    ),
                    "{{zone}}",
                ),
            ),
        ),
        Panel(
            "Answers by type and transport",
            "reqps",
            (
                (
                    "sum by (type, transport) (rate(mcsdns_requests_total{}[5m]))",
                    "{{type}} {{transport}}",
                ),
            ),
        ),
        Panel(
            "Time to answer",
            "s",
            tuple(
                (
                    (
                        f"histogram_quantile({share}, sum by (le, path)"
                        " (rate(mcsdns_request_duration_seconds_bucket{}[5m])))"
                    ),
                    f"p{share * 100:g} {{{{path}}}}",
                )
                for share in (0.5, 0.99)
            ),
        ),
        Panel(
            "Lost by the kernel",
            "reqps",
            (("sum by (instance) (rate(mcsdns_kernel_drops_total{}[5m]))", "{{instance}}"),),
            "Datagrams for which there was no room before they were read.",
        ),
    ],
    "Objects and sources": [
        Panel(
            "Ready, and stale",
            "short",
            (("mcsdns_ready{}", "ready {{instance}}"), ("mcsdns_stale{}", "stale {{instance}}")),
        ),
        Panel("Services", "short", (("mcsdns_services{}", "{{instance}}"),)),
        Panel(
            "Objects by kind and source cluster",
            "short",
            (("max by (kind, cluster) (mcsdns_objects{})", "{{kind}} {{cluster}}"),),
        ),
        Panel(
            "Endpoints",
            "short",
            (("max by (ready) (mcsdns_endpoints{})", "ready {{ready}}"),),
        ),
        Panel(
            "Age of the last word of the API",
            "s",
            (("mcsdns_watch_last_event_age_seconds{}", "{{resource}} {{instance}}"),),
        ),
        Panel(
            "Watches begun again, by reason",
            "short",
            (
                (
                    "sum by (resource, reason) (increase(mcsdns_watch_restarts_total{}[5m]))",
                    "{{resource}} {{reason}}",
                ),
            ),
        ),
        Panel(
            "From a change of endpoints to the answer",
            "s",
            tuple(
                (
                    (
                        f"histogram_quantile({share}, sum by (le)"
                        " (rate(mcsdns_programming_duration_seconds_bucket{}[15m])))"
                    ),
                    f"p{share * 100:g}",
                )
                for share in (0.5, 0.99)
            ),
            "By the clock of the cluster that the change is from.",
        ),
        Panel(
            "Services that the guard keeps",
            "short",
            (("mcsdns_guard_held_services{}", "{{instance}}"),),
        ),
        Panel("Age of the snapshot", "s", (("mcsdns_snapshot_age_seconds{}", "{{instance}}"),)),
    ],
    "Forwarding": [
        Panel(
            "Questions to upstreams",
            "reqps",
            (
                ("sum by (upstream) (rate(mcsdns_upstream_requests_total{}[5m]))", "{{upstream}}"),
                (
                    "sum by (upstream) (rate(mcsdns_upstream_failures_total{}[5m]))",
                    "failed {{upstream}}",
                ),
            ),
        ),
        Panel(
            "Upstreams that answer",
            "short",
            (("min by (upstream) (mcsdns_upstream_up{})", "{{upstream}}"),),
        ),
        Panel(
            "Round trip of upstreams",
            "s",
            (("max by (upstream) (mcsdns_upstream_rtt_seconds{})", "{{upstream}}"),),
        ),
        Panel(
            "Share of the cache",
            "percentunit",
            (
                (
                    (
                        "sum(rate(mcsdns_cache_hits_total{}[5m]))"
                        " / (sum(rate(mcsdns_cache_hits_total{}[5m]))"
                        " + sum(rate(mcsdns_cache_misses_total{}[5m])))"
                    ),
                    "hits",
                ),
            ),
        ),
        Panel(
            "Cache",
            "bytes",
            (("mcsdns_cache_bytes{}", "{{instance}}"),),
        ),
        Panel(
            "Waiting for upstreams",
            "short",
            (("mcsdns_forward_pending{}", "{{instance}}"),),
        ),
    ],
    "Processes": [
        Panel(
            "CPU",
            "percentunit",
            (("rate(process_cpu_seconds_total{}[5m])", "{{instance}}"),),
        ),
        Panel(
            "Resident memory",
            "bytes",
            (("process_resident_memory_bytes{}", "{{instance}}"),),
        ),
        Panel(
            "TCP connections",
            "short",
            (("mcsdns_tcp_connections{}", "{{instance}}"),),
        ),
    ],
}
"""The last row uses what prometheus-client exports of each process."""


def text() -> str:
    """Return the dashboard as Grafana imports it."""
    dashboard = {
        "title": "mcsdns",
        "uid": "mcsdns",
        "tags": ["dns", "kubernetes"],
        "editable": True,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_source(), _variable("job"), _variable("instance")]},
        "panels": list(_panels()),
    }
    return json.dumps(dashboard, indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    number = top = 0
    for title, panels in ROWS.items():
        number += 1
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        yield {"id": number, "type": "row", "title": title, "gridPos": place, "panels": []}
        top += 1
        for index, panel in enumerate(panels):
            number += 1
            row, column = divmod(index, _COLUMNS // _WIDTH)
            yield _plot(panel, number, column * _WIDTH, top + row * _HEIGHT)
        top += -(-len(panels) // (_COLUMNS // _WIDTH)) * _HEIGHT


def _plot(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": {"type": "prometheus", "uid": "$datasource"},
            "expr": chosen(query),
            "legendFormat": legend,
        }
        for index, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": left, "y": top},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": targets,
    }


def chosen(query: str) -> str:
    """Return a query for the instances that were chosen alone."""
    return query.replace("{}", _CHOSEN).replace(
        '{rcode="SERVFAIL"}', '{rcode="SERVFAIL", ' + _CHOSEN[1:]
    )


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _variable(label: str) -> dict[str, Any]:
    within = "" if label == "job" else '{job=~"$job"}'
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "query": f"label_values(mcsdns_build_info{within}, {label})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }
