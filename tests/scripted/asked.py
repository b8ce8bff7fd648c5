"""What a request asks for, read from its path and query."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.scripted.faults import COMPARE, DISCOVERY, LIST, PAGE, STREAM, WATCH
from tests.scripted.wire import KINDS, View

OTHER = "other"


@dataclass(frozen=True)
class Asked:
    """One request, as it was recorded.

    Attributes:
        nature: DISCOVERY, LIST, PAGE, WATCH, STREAM, COMPARE of `faults`, or OTHER.
        resource: `serviceimports`, `endpointslices`, or empty.
        at_s: when it came, by the clock of the event loop.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    at_s: float
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    nature: str = field(default=OTHER)

    @property
    def verb(self) -> str:
        """The verb as RBAC has it."""
        return "watch" if self.nature in (WATCH, STREAM) else "list"

    @property
    def resource_version(self) -> int:
        """The resource version, 0 where there is none."""
        return int(self.query.get("resourceVersion") or 0)

    @property
    def takes_any_version(self) -> bool:
        """Whether anything the server has is good enough: 0, or a watch without a version."""
        version = self.query.get("resourceVersion", "")
        return version == "0" or (self.verb == "watch" and not version)

    @property
    def view(self) -> View:
        """What it looks at."""
        selector = self.query.get("labelSelector", "")
        return View(KINDS[self.resource], self.version, self.namespace, selector)


def read(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], at_s: float
) -> Asked:
    """Take a request apart."""
    words = path.strip("/").split("/")
    group, version, *rest = [*words[1:], "", ""] if words[0] == "apis" else ["", "", "?"]
    namespace = rest[1] if len(rest) > 3 and rest[0] == "namespaces" else ""
    rest = [word for word in (rest[2:] if namespace else rest) if word]
    resource = rest[0] if len(rest) == 1 and rest[0] in KINDS else ""
    nature = _nature(query) if resource else OTHER if rest or not group else DISCOVERY
    return Asked(
        method, path, dict(query), headers, at_s, group, version, namespace, resource, nature
    )


def _nature(query: Mapping[str, str]) -> str:
    if query.get("watch") in ("true", "1"):
        return STREAM if query.get("sendInitialEvents") in ("true", "1") else WATCH
    if query.get("limit") == "1":
        return COMPARE
    return PAGE if query.get("continue") else LIST
