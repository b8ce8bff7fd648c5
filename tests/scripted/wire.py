"""What the Kubernetes API says on the wire: Status, discovery, lists, watch lines, selectors.

Texts and fields are those of k8s.io/apiserver v0.35.
"""

import base64
import json
from typing import Any

from tests.scripted.history import ENDPOINT_SLICE, SERVICE_IMPORT, Change, Plain

IMPORT_GROUP = "multicluster.x-k8s.io"
SLICE_GROUP = "discovery.k8s.io"
KINDS = {"serviceimports": SERVICE_IMPORT, "endpointslices": ENDPOINT_SLICE}
GROUPS = {SERVICE_IMPORT: IMPORT_GROUP, ENDPOINT_SLICE: SLICE_GROUP}
PLAIN_404 = "404 page not found\n"

_TOO_OLD_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


def line(thing: Any) -> bytes:
    """One JSON document and its newline."""
    return json.dumps(thing, separators=(",", ":")).encode() + b"\n"


def status(code: int, reason: str, message: str, **details: Any) -> Plain:
    """A Status of failure; `details` are written only where there are any."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        **({"details": details} if details else {}),
        "code": code,
    }


def unauthorized() -> Plain:
    return status(401, "Unauthorized", "Unauthorized")


def forbidden(verb: str, group: str, resource: str, namespace: str) -> Plain:
    """403 as RBAC words it."""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    return status(
        403,
        "Forbidden",
        f'{resource}.{group} is forbidden: User "system:serviceaccount:mcsdns:mcsdns" cannot '
        f'{verb} resource "{resource}" in API group "{group}" {where}',
        group=group,
        kind=resource,
    )


def not_found() -> Plain:
    return status(404, "NotFound", "the server could not find the requested resource")


def expired(reason: str = "Expired", version: int = 1, floor: int = 2) -> Plain:
    """410 of a watch; reason `Gone` is what older servers said."""
    return status(410, reason, f"too old resource version: {version} ({floor})")


def expired_page(start: str) -> Plain:
    """410 of a page, with the token for an inconsistent rest as the real one carries it."""
    answer = status(410, "Expired", _TOO_OLD_PAGE)
    answer["metadata"] = {"continue": encode_token(-1, start)}
    return answer


def too_large(version: int, current: int, retry_after_s: float) -> Plain:
    """504 for a version that is still to come."""
    return status(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {version}, current: {current}",
        causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        retryAfterSeconds=retry_after_s,
    )


def no_watch_list() -> Plain:
    """422 where streaming lists are off."""
    why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
    return status(
        422,
        "Invalid",
        f'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: {why}',
        group="meta.k8s.io",
        kind="ListOptions",
        causes=[
            {
                "reason": "FieldValueForbidden",
                "message": f"Forbidden: {why}",
                "field": "sendInitialEvents",
            }
        ],
    )


def too_many_requests(retry_after_s: int = 1) -> Plain:
    return status(
        429, "TooManyRequests", "storage is (re)initializing", retryAfterSeconds=retry_after_s
    )


def group(name: str, versions: list[str]) -> Plain:
    """An APIGroup; the first version is the preferred one."""
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": listed,
        "preferredVersion": listed[0],
    }


def resources(group_version: str, names: list[str]) -> Plain:
    """An APIResourceList; each resource can be listed and watched."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": [resource(name) for name in names],
    }


def resource(name: str) -> Plain:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return {
        "name": name,
        "singularName": name.removesuffix("s"),
        "namespaced": True,
        "kind": KINDS.get(name, "ServiceExport"),
        "verbs": verbs,
    }


def encode_token(version: int, start: str) -> str:
    """A `continue` token: the list's version (-1: whatever is in force) and where to go on."""
    plain = line({"v": "meta.k8s.io/v1", "rv": version, "start": start}).strip()
    return base64.urlsafe_b64encode(plain).decode().rstrip("=")


def decode_token(token: str) -> tuple[int, str]:
    """Version and start of a token."""
    plain = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return plain["rv"], plain["start"]


def with_type(kind: str, api_version: str, thing: Plain) -> Plain:
    return {"apiVersion": api_version, "kind": kind, **thing}


def list_of(kind: str, api_version: str, items: list[Plain], metadata: Plain) -> Plain:
    """A list; only the items of custom resources say their kind."""
    if kind == SERVICE_IMPORT:
        items = [with_type(kind, api_version, item) for item in items]
    return {
        "kind": f"{kind}List",
        "apiVersion": api_version,
        "metadata": metadata,
        "items": items,
    }


def event(event_type: str, thing: Plain) -> bytes:
    """One line of a watch."""
    return line({"type": event_type, "object": thing})


def bookmark(kind: str, api_version: str, version: int, *, initial_end: bool = False) -> bytes:
    """A bookmark; `initial_end` marks the end of the initial events."""
    metadata: Plain = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return event("BOOKMARK", with_type(kind, api_version, {"metadata": metadata}))


class Selector:
    """A label selector: `key`, `!key`, `key=value`, `key!=value`, joined by commas."""

    def __init__(self, text: str) -> None:
        self._terms = [term.strip() for term in text.split(",") if term.strip()]

    def __bool__(self) -> bool:
        return bool(self._terms)

    def matches(self, thing: Plain) -> bool:
        labels = thing["metadata"].get("labels") or {}
        return all(_holds(term, labels) for term in self._terms)


def _holds(term: str, labels: dict[str, str]) -> bool:
    if term.startswith("!"):
        return term[1:] not in labels
    key, is_negated, value = term.partition("!=")
    if is_negated:
        return labels.get(key) != value
    key, has_value, value = term.replace("==", "=").partition("=")
    return labels.get(key) == value if has_value else key in labels


class View:
    """What one request looks at: kind, version of the API, namespace, selector."""

    def __init__(self, kind: str, version: str, namespace: str, selector: str) -> None:
        self.kind = kind
        self.api_version = f"{GROUPS[kind]}/{version}"
        self.namespace = namespace
        self._selector = Selector(selector)

    @property
    def is_selective(self) -> bool:
        return bool(self._selector)

    def selects(self, thing: Plain | None) -> bool:
        """Say whether an object of the kind is in view."""
        if thing is None or self.namespace not in ("", thing["metadata"]["namespace"]):
            return False
        return self._selector.matches(thing)

    def line_of(self, change: Change) -> bytes:
        """The watch line of a change; empty where the view sees none of it."""
        if change.key[0] != self.kind:
            return b""
        before = self.selects(change.before)
        if self.selects(change.after):
            return self.event("MODIFIED" if before else "ADDED", change.after or {})
        if not before:
            return b""
        last = dict(change.before or {})
        last["metadata"] = {**last["metadata"], "resourceVersion": str(change.version)}
        return self.event("DELETED", last)

    def event(self, event_type: str, thing: Plain) -> bytes:
        return event(event_type, with_type(self.kind, self.api_version, thing))

    def bookmark(self, version: int, *, initial_end: bool = False) -> bytes:
        return bookmark(self.kind, self.api_version, version, initial_end=initial_end)
