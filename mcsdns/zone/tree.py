"""Service -> its names, for all zones: every zone has the same names below its apex.

A service's names are one dictionary of their own, so `replace_service` swaps a service in one
assignment and a lookup sees it whole, before or after. A namespace exists while it has a
ServiceImport; all other names are fixed (`name_shape`).
"""

import enum
from typing import Final

import msgspec

from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.objects.store import ServiceKey
from mcsdns.zone.name_shape import namespace_of
from mcsdns.zone.records import ServiceNode
from mcsdns.zone.zone import Zone

NOT_READ: Final = "the objects have not been read yet"


class Readiness(enum.Enum):
    """Which of the two lists, ServiceImports and EndpointSlices, have been read (spec.md 3)."""

    NOT_SYNCED = "not synced"
    IMPORTS_ONLY = "imports only"
    SYNCED = "synced"


class PerCluster(enum.StrEnum):
    """What the per-cluster form `<cluster>.<svc>.<ns>.svc` is answered with (spec.md 2)."""

    REFUSED = "refused"
    AUTO = "auto"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"


class ClustersetIps(enum.StrEnum):
    """Where the addresses of a ClusterSetIP service come from."""

    SPEC = "spec"
    SLICES = "slices"
    """From `spec.ips`, and where that is empty from the ready endpoints of its slices."""


class ZoneSettings(msgspec.Struct, frozen=True):
    """What the zone's answers depend on besides the objects.

    Attributes:
        zones: apexes, absolute.
        ttl: seconds, 0 to 3600, of every record but `dns-version`.
        per_cluster: see PerCluster. clusterset_ips: see ClustersetIps.
        name_server: packed addresses of `ns.dns`.
        namespaces: wire labels of the namespaces that are served; empty for all.
        max_records: how many records of one type an answer has at most; 0 for all.
    """

    zones: tuple[Name, ...] = (names.from_text("clusterset.local"),)
    ttl: int = 5
    per_cluster: PerCluster = PerCluster.REFUSED
    name_server: tuple[bytes, ...] = ()
    namespaces: frozenset[bytes] = frozenset()
    clusterset_ips: ClustersetIps = ClustersetIps.SPEC
    max_records: int = 0


class Tree:
    """The names of all services.

    Attributes:
        zones: longest apex first, so that the first zone that a name is in is the closest one.
        readiness, reason: which lists have been read, and why not both.
        stale: whether the objects are older than the operator wants to call fresh.
        services: by the wire labels `<svc>.<ns>`; changed by `replace_service` alone.
        namespaces: how many services each has, by its wire label.
    """

    def __init__(self, settings: ZoneSettings) -> None:
        self.settings = settings
        self.zones = tuple(
            Zone(apex, settings.ttl) for apex in sorted(settings.zones, key=len)[::-1]
        )
        self.readiness = Readiness.NOT_SYNCED
        self.reason = NOT_READ
        self.stale = False
        self.name_room = min(
            (names.MAX_NAME_BYTES - len(zone) - len(names.SVC) for zone in settings.zones),
            default=0,
        )
        self.services: dict[bytes, ServiceNode] = {}
        self.namespaces: dict[bytes, int] = {}

    def serves(self, namespace: bytes) -> bool:
        """Return whether the settings let a namespace be served, whether or not it exists."""
        namespaces = self.settings.namespaces
        return not namespaces or namespace in namespaces

    def replace_service(self, labels: bytes, node: ServiceNode | None) -> bool:
        """Put a service in place of the one before; None removes it.

        Returns whether its namespace came into existence or went out of it.
        """
        before = self.services.get(labels)
        if node is None:
            self.services.pop(labels, None)
        else:
            self.services[labels] = node
        if (before is None) is (node is None):
            return False
        namespace = namespace_of(labels)
        count = self.namespaces.get(namespace, 0) + (1 if before is None else -1)
        if count:
            self.namespaces[namespace] = count
        else:
            del self.namespaces[namespace]
        return count == (1 if before is None else 0)


def labels_of_key(key: ServiceKey) -> bytes:
    """Return the wire labels `<svc>.<ns>` of a service that has an import."""
    namespace, name = key
    return names.wire_label(name) + names.wire_label(namespace)
