"""Objects are held against the schemas of Kubernetes, and against small ones for the operator's."""

from typing import Any

import jsonschema
import kubernetes_validate

Schema = dict[str, Any]
OLDEST, WITH_SIDECARS, NEWEST = "1.27", "1.29", "1.37"


def _struct(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


_TEXT: Schema = {"type": "string"}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}
_METADATA = _struct(("name", "namespace"), name=_TEXT, namespace=_TEXT, labels=_LABELS)
_SELECTOR = _struct(("matchLabels",), matchLabels=_LABELS)
_ENDPOINT = _struct(("port",), port=_TEXT, path=_TEXT, interval=_TEXT)
_ENDPOINTS: Schema = {"type": "array", "items": _ENDPOINT, "minItems": 1}
_RULE = _struct(
    ("alert", "expr", "labels", "annotations"),
    alert=_TEXT,
    expr=_TEXT,
    labels=_LABELS,
    annotations=_LABELS,
    **{"for": _TEXT},
)
_GROUP = _struct(("name", "rules"), name=_TEXT, rules={"type": "array", "items": _RULE})


def _monitor(endpoints: str) -> Schema:
    return _struct(
        ("selector", endpoints), jobLabel=_TEXT, selector=_SELECTOR, **{endpoints: _ENDPOINTS}
    )


_SPECS = {
    "ServiceMonitor": _monitor("endpoints"),
    "PodMonitor": _monitor("podMetricsEndpoints"),
    "PrometheusRule": _struct(("groups",), groups={"type": "array", "items": _GROUP}),
}
"""The part of the operator's schemas that we use: a field more has to be looked up and added."""


def check(each: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError where an object is wrong in one of the versions."""
    if each["apiVersion"] == "monitoring.coreos.com/v1":
        of = _struct(
            ("spec",),
            apiVersion=_TEXT,
            kind=_TEXT,
            metadata=_METADATA,
            spec=_SPECS[each["kind"]],
        )
        jsonschema.validate(each, of)
        return
    has_sidecar = "mcsdns-sidecar" in each["metadata"].get("labels", {})
    for version in (WITH_SIDECARS if has_sidecar else OLDEST, NEWEST):
        kubernetes_validate.validate(each, version, strict=True)
