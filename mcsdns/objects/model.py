"""Lean ServiceImport and EndpointSlice: only the fields we answer from or explain with.

Every field added here costs memory once per endpoint of the clusterset: addresses are packed
octets, and the structs are outside the garbage collector. `decode` makes them. A new field has a
default: a snapshot written before does not have it.

Spec: spec.md 4; KEP-1645; discovery.k8s.io/v1.
"""

import enum
from typing import ClassVar

import msgspec


class Kind(enum.StrEnum):
    """The kinds of object we read."""

    SERVICE_IMPORT = "ServiceImport"
    ENDPOINT_SLICE = "EndpointSlice"


class ImportType(enum.StrEnum):
    """`spec.type` of a ServiceImport."""

    CLUSTER_SET_IP = "ClusterSetIP"
    HEADLESS = "Headless"


class Problem(msgspec.Struct, frozen=True, gc=False):
    """Something wrong with an object, for the log, the counters and `explain`.

    Attributes:
        reason: a short constant, to count by.
        subject: kind, namespace and name.
        path: the field.
        text: what is wrong, what follows from it, what to do.
    """

    reason: str
    subject: str
    path: str
    text: str


class Port(msgspec.Struct, frozen=True, gc=False):
    """A named or unnamed port; `protocol` is TCP where the object has none."""

    name: str
    protocol: str
    number: int | None


class Condition(msgspec.Struct, frozen=True, gc=False):
    """A condition of a ServiceImport's status, for `explain`."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class ServiceImport(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An imported service.

    Attributes:
        kind: for all of them.
        ips: packed clusterset addresses, in the object's order, no two equal.
        clusters: cluster IDs of `status.clusters`, lower case.
        origin: file and line, or empty; explained, never compared.
    """

    kind: ClassVar = Kind.SERVICE_IMPORT

    namespace: str
    name: str
    type: ImportType
    ips: tuple[bytes, ...]
    ports: tuple[Port, ...]
    clusters: tuple[str, ...]
    conditions: tuple[Condition, ...]
    uid: str
    resource_version: str
    api_version: str
    creation: str
    origin: str

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def service_key(self) -> tuple[str, str]:
        """Namespace and name of the service, which are those of the object."""
        return self.namespace, self.name


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint of a slice.

    Attributes:
        addresses: packed, all of the slice's family.
        hostname: a DNS label, or empty where the endpoint has no usable one.
        ready: whether it counts: `conditions.ready` is true or absent.
        serving, terminating: as the object says; explained only.
    """

    addresses: tuple[bytes, ...]
    hostname: str
    ready: bool
    serving: bool | None
    terminating: bool | None
    zone: str
    node: str


class EndpointSlice(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The endpoints of one service in one cluster, or some of them.

    Attributes:
        kind: for all of them.
        service: the ServiceImport's name (label `multicluster.kubernetes.io/service-name`).
        cluster: source cluster ID, lower case, of one or two DNS labels.
        malformed: why the slice is not served at all, or empty.
        triggered_s: Unix time of the change that the slice shows, by the clock of its own cluster;
            0 where it does not say. Only measured by.
    """

    kind: ClassVar = Kind.ENDPOINT_SLICE

    namespace: str
    name: str
    service: str
    cluster: str
    address_type: str
    endpoints: tuple[Endpoint, ...]
    ports: tuple[Port, ...]
    resource_version: str
    malformed: str
    origin: str
    triggered_s: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def service_key(self) -> tuple[str, str]:
        """Namespace and name of the service that the slice is labelled for."""
        return self.namespace, self.service


Object = ServiceImport | EndpointSlice
