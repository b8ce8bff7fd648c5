"""What an API server or a manifest says -> our lean objects, checked once.

msgspec decodes into the `Raw` shapes, in which `null` and absent are equal; what is wrong with an
object or a part of it is returned as problems, so that one bad address never stops the others.

Spec: spec.md 4; discovery.k8s.io/v1; multicluster.x-k8s.io v1alpha1 and v1beta1.
"""

import datetime
import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from mcsdns.dns import ip as addresses
from mcsdns.dns import name as names
from mcsdns.errors import ObjectError
from mcsdns.objects.model import (
    Condition,
    Endpoint,
    EndpointSlice,
    ImportType,
    Kind,
    Object,
    Port,
    Problem,
    ServiceImport,
)

SERVICE_NAME_LABEL: Final = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER_LABEL: Final = "multicluster.kubernetes.io/source-cluster"
TRIGGER_ANNOTATION: Final = "endpoints.kubernetes.io/last-change-trigger-time"
_LIGHTHOUSE_NAMESPACE_LABEL: Final = "lighthouse.submariner.io/sourceNamespace"
_MANAGED_BY_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
_KUBERNETES_SERVICE_LABEL: Final = "kubernetes.io/service-name"
_KARMADA: Final = "endpointslice-controller.karmada.io"
_KARMADA_SERVICE_PREFIX: Final = "derived-"
_KARMADA_SLICE_PREFIX: Final = "imported-"

IMPORT_GROUP: Final = "multicluster.x-k8s.io"
SLICE_GROUP: Final = "discovery.k8s.io"
IMPORT_VERSIONS: Final = ("v1beta1", "v1alpha1")
SLICE_VERSIONS: Final = ("v1",)
_MOST_OF_A_REASON: Final = 8
"""So many problems of one object are told by reason; whoever mends them finds the others."""


class SliceProfile(enum.StrEnum):
    """Which EndpointSlices count for a ServiceImport besides those with the labels of the KEP."""

    MCS = "mcs"
    """No others."""
    KARMADA = "karmada"
    """Those that Karmada's controller wrote; it puts no such labels on them."""

    @property
    def selector(self) -> str:
        """The `labelSelector` for lists and watches of EndpointSlices.

        A selector has no "or": with Karmada's, slices that somebody else labelled are not sent.
        """
        by_karmada = f"{_MANAGED_BY_LABEL}={_KARMADA}"
        return by_karmada if self is SliceProfile.KARMADA else SERVICE_NAME_LABEL


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """An object, or None where it is to be ignored, and what is wrong with it."""

    object: Object | None
    problems: tuple[Problem, ...] = ()


class _RawAnnotations(msgspec.Struct, gc=False):
    """The annotations that are read; all others are passed over unread."""

    service_name: str | None = msgspec.field(default=None, name=SERVICE_NAME_LABEL)
    trigger_time: str | None = msgspec.field(default=None, name=TRIGGER_ANNOTATION)


class RawMetadata(msgspec.Struct, gc=False, rename="camel"):
    """The metadata of an object as the API writes it."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: _RawAnnotations | None = None


class _RawPort(msgspec.Struct, gc=False):
    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class _RawImportSpec(msgspec.Struct, gc=False, rename="camel"):
    type: str | None = None
    ips: list[str] | None = None
    ports: list[_RawPort] | None = None


class _RawCluster(msgspec.Struct, gc=False):
    cluster: str | None = None


class _RawCondition(msgspec.Struct, gc=False):
    type: str | None = None
    status: str | None = None
    reason: str | None = None
    message: str | None = None


class _RawStatus(msgspec.Struct, gc=False):
    clusters: list[_RawCluster] | None = None
    conditions: list[_RawCondition] | None = None


class RawServiceImport(msgspec.Struct, gc=False, rename="camel"):
    """A ServiceImport as the API writes it; unknown fields are passed over."""

    metadata: RawMetadata
    spec: _RawImportSpec | None = None
    status: _RawStatus | None = None


class _RawConditions(msgspec.Struct, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _RawEndpoint(msgspec.Struct, gc=False, rename="camel"):
    addresses: list[str] | None = None
    hostname: str | None = None
    conditions: _RawConditions | None = None
    zone: str | None = None
    node_name: str | None = None


class RawEndpointSlice(msgspec.Struct, gc=False, rename="camel"):
    """An EndpointSlice as the API writes it; unknown fields are passed over."""

    metadata: RawMetadata
    address_type: str | None = None
    endpoints: list[_RawEndpoint] | None = None
    ports: list[_RawPort] | None = None


def decode(
    kind: Kind,
    plain: object,
    *,
    origin: str = "",
    api_version: str = "",
    profile: SliceProfile = SliceProfile.MCS,
) -> Decoded:
    """Turn a plain mapping (from YAML or JSON) into one of our objects.

    Raises:
        ObjectError: a field has the wrong type, or the object has no usable name; the path says
            which field.
    """
    try:
        if kind is Kind.SERVICE_IMPORT:
            raw_import = msgspec.convert(plain, RawServiceImport)
            return decode_import(raw_import, origin=origin, api_version=api_version)
        raw_slice = msgspec.convert(plain, RawEndpointSlice)
        return decode_slice(raw_slice, origin=origin, profile=profile)
    except msgspec.ValidationError as error:
        why, _, path = str(error).rpartition(" - at `")
        raise ObjectError(why or str(error), path.rstrip("`") if why else "$") from None


def check(thing: Object) -> None:
    """Check what the zone relies on in an object that was not decoded here, but read back.

    Raises:
        ObjectError: a name, an address or a port is of no form that `decode` makes.
    """
    labels = {thing.namespace, thing.service_key[1]}
    is_sound = all(
        (not port.name or _is_below_underscore(port.name))
        and (port.number is None or 0 <= port.number <= 0xFFFF)  # noqa: PLR2004
        and (not port.name or _is_below_underscore(port.protocol))
        for port in thing.ports
    )
    if isinstance(thing, ServiceImport):
        packed = set(thing.ips)
    else:
        is_sound = is_sound and bool(thing.malformed or _is_cluster_id(thing.cluster))
        labels.update(each.hostname for each in thing.endpoints if each.hostname)
        packed = {address for each in thing.endpoints for address in each.addresses}
    if not (is_sound and all(map(names.is_dns_label, labels)) and {*map(len, packed)} <= {4, 16}):
        raise ObjectError(f"{thing.kind} {thing.namespace!r}/{thing.name!r} is of no known form")


def decode_import(raw: RawServiceImport, *, origin: str, api_version: str = "") -> Decoded:
    """Check a ServiceImport.

    What stands in `spec.ips` of a headless one means nothing, and is no problem: Cilium before 1.17
    writes `["None"]`.

    Raises:
        ObjectError: name, namespace or type make it unusable.
    """
    meta = raw.metadata
    namespace, name = _identity(meta)
    if not names.is_dns_label(name):
        raise ObjectError(f"{name!r} is not a DNS label, no name can hold it", "$.metadata.name")
    is_annotated = meta.annotations is not None and meta.annotations.service_name is not None
    if is_annotated or SERVICE_NAME_LABEL in (meta.labels or {}):
        return Decoded(None)  # Lighthouse's per-cluster and broker copies
    spec = raw.spec or _RawImportSpec()
    try:
        import_type = ImportType(spec.type or "")
    except ValueError:
        raise ObjectError(
            f"{spec.type!r} is neither ClusterSetIP nor Headless, the service is not served",
            "$.spec.type",
        ) from None
    problems = _Problems(Kind.SERVICE_IMPORT, namespace, name)
    status = raw.status or _RawStatus()
    is_headless = import_type is ImportType.HEADLESS
    ips_problems = _Problems(Kind.SERVICE_IMPORT, namespace, name) if is_headless else problems
    decoded = ServiceImport(
        namespace=namespace,
        name=name,
        type=import_type,
        ips=tuple(dict.fromkeys(_packed(spec.ips or [], "$.spec.ips", 0, ips_problems))),
        ports=_ports(spec.ports, "$.spec.ports", problems),
        clusters=tuple(c.cluster.lower() for c in status.clusters or [] if c.cluster),
        conditions=tuple(
            Condition(c.type or "", c.status or "", c.reason or "", c.message or "")
            for c in status.conditions or []
        ),
        uid=meta.uid or "",
        resource_version=meta.resource_version or "",
        api_version=api_version,
        creation=meta.creation_timestamp or "",
        origin=origin,
    )
    return Decoded(decoded, tuple(problems.found))


def decode_slice(
    raw: RawEndpointSlice, *, origin: str, profile: SliceProfile = SliceProfile.MCS
) -> Decoded:
    """Check an EndpointSlice; one that is of no ServiceImport is not ours.

    Raises:
        ObjectError: name or namespace make it unusable.
    """
    meta = raw.metadata
    namespace, name = _identity(meta)
    labels = meta.labels or {}
    service = labels.get(SERVICE_NAME_LABEL, "")
    cluster = labels.get(SOURCE_CLUSTER_LABEL, "").lower()
    by_karmada = profile is SliceProfile.KARMADA and _is_by_karmada(labels)
    if by_karmada:
        service = labels[_KUBERNETES_SERVICE_LABEL].removeprefix(_KARMADA_SERVICE_PREFIX)
        cluster = _cluster_by_karmada(name, service)
    if not service or labels.get(_LIGHTHOUSE_NAMESPACE_LABEL, namespace) != namespace:
        return Decoded(None)  # an ordinary slice, or a broker's copy for another namespace
    if not names.is_dns_label(service):
        label = _KUBERNETES_SERVICE_LABEL if by_karmada else SERVICE_NAME_LABEL
        raise ObjectError(f"label {label} {service!r} is not a DNS label", "$.metadata.labels")
    problems = _Problems(Kind.ENDPOINT_SLICE, namespace, name)
    family = {"IPv4": 4, "IPv6": 16}.get(raw.address_type or "", 0)
    malformed = _malformed(raw, cluster, problems, by_karmada=by_karmada)
    decoded = EndpointSlice(
        namespace=namespace,
        name=name,
        service=service,
        cluster=cluster,
        address_type=raw.address_type or "",
        endpoints=() if malformed else tuple(_endpoints(raw.endpoints or [], family, problems)),
        ports=_ports(raw.ports, "$.ports", problems),
        resource_version=meta.resource_version or "",
        malformed=malformed,
        origin=origin,
        triggered_s=_unix_time(meta.annotations.trigger_time) if meta.annotations else 0.0,
    )
    return Decoded(decoded, tuple(problems.found))


def _is_by_karmada(labels: dict[str, str]) -> bool:
    """Returns whether Karmada's controller wrote a slice, without the labels of the KEP."""
    return (
        labels.get(_MANAGED_BY_LABEL) == _KARMADA
        and labels.get(_KUBERNETES_SERVICE_LABEL, "").startswith(_KARMADA_SERVICE_PREFIX)
        and SERVICE_NAME_LABEL not in labels
        and SOURCE_CLUSTER_LABEL not in labels
    )


def _cluster_by_karmada(name: str, service: str) -> str:
    """Read the cluster out of `imported-<cluster>-<service>-<suffix>`; empty if the name has none.

    The suffix that Kubernetes generates has no hyphen, so in `imported-eu-web-web-x7f2k` the last
    `web` is the service. With any other suffix a second one makes it two readings.
    """
    whole = name.removeprefix(_KARMADA_SLICE_PREFIX)
    cluster, middle, suffix = whole.rpartition(f"-{service}-")
    if whole == name or not suffix or not _is_cluster_id(cluster):
        return ""
    is_only_reading = whole.index(middle) == len(cluster)
    return cluster if is_only_reading or "-" not in suffix else ""


class _Problems:
    """Collects what is wrong with one object."""

    def __init__(self, kind: Kind, namespace: str, name: str) -> None:
        self._subject = f"{kind} {namespace}/{name}"
        self._numbers: dict[str, int] = {}
        self.found: list[Problem] = []

    def add(self, reason: str, path: str, text: str) -> None:
        number = self._numbers[reason] = self._numbers.get(reason, 0) + 1
        if number <= _MOST_OF_A_REASON:  # an object may have a million bad addresses
            self.found.append(Problem(reason, self._subject, path, text))

    def add_port(self, path: str, why: str) -> None:
        self.add("bad_port", path, f"{why}, the port has no SRV record")


def _unix_time(text: str | None) -> float:
    """Return the Unix time of an RFC 3339 text, 0 for what is none; it is measured by, no more."""
    if not text:
        return 0.0
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return max(moment.timestamp(), 0.0) if moment.tzinfo else 0.0


def _identity(meta: RawMetadata) -> tuple[str, str]:
    namespace = meta.namespace or "default"
    if not names.is_dns_label(namespace):
        raise ObjectError(f"{namespace!r} is not a DNS label", "$.metadata.namespace")
    if not meta.name:
        raise ObjectError("the name is empty", "$.metadata.name")
    return namespace, meta.name


def _malformed(
    raw: RawEndpointSlice, cluster: str, problems: _Problems, *, by_karmada: bool
) -> str:
    path, remedy = "$.metadata.labels", "have the exporting controller set it"
    if by_karmada and not cluster:
        why = "the name does not tell one cluster, as imported-<cluster>-<service>-<suffix> does"
        path = "$.metadata.name"
        remedy = "name the member's slice <service>-<suffix>, without a hyphen in the suffix"
    elif not cluster:
        why = f"label {SOURCE_CLUSTER_LABEL} is missing"
    elif not _is_cluster_id(cluster):
        why = f"label {SOURCE_CLUSTER_LABEL} {cluster!r} is not one or two DNS labels"
    elif raw.address_type not in {"IPv4", "IPv6"}:
        why = f"addressType {raw.address_type or 'is missing'} is neither IPv4 nor IPv6"
        path = "$.addressType"
    else:
        return ""
    endpoints = len(raw.endpoints or [])
    problems.add(
        "malformed_slice", path, f"{why}, its {endpoints} endpoints are not served; {remedy}"
    )
    return why


def _is_cluster_id(cluster: str) -> bool:
    """A cluster ID is a DNS label, or two joined by a dot (KEP-1645, "cluster name")."""
    labels = cluster.split(".")
    return len(labels) <= 2 and all(map(names.is_dns_label, labels))  # noqa: PLR2004


def _endpoints(raws: list[_RawEndpoint], family: int, problems: _Problems) -> Iterator[Endpoint]:
    for number, raw in enumerate(raws):
        conditions = raw.conditions
        hostname = raw.hostname or ""
        if hostname and not names.is_dns_label(hostname):
            problems.add(
                "bad_hostname",
                f"$.endpoints[{number}].hostname",
                f"{hostname!r} is not a DNS label, the endpoint is named by its address instead",
            )
            hostname = ""
        path = f"$.endpoints[{number}].addresses"
        yield Endpoint(
            tuple(_packed(raw.addresses or [], path, family, problems)),
            hostname,
            conditions is None or conditions.ready is not False,
            None if conditions is None else conditions.serving,
            None if conditions is None else conditions.terminating,
            raw.zone or "",
            raw.node_name or "",
        )


def _packed(texts: list[str], path: str, family: int, problems: _Problems) -> Iterator[bytes]:
    for number, text in enumerate(texts):
        try:
            packed = addresses.pack(text)
        except ValueError:
            packed = b""
        if packed and family in (0, len(packed)):
            yield packed
        else:
            problems.add(
                "bad_address",
                f"{path}[{number}]",
                f"{text!r} is no {'IP' if not family else 'IPv4' if family == 4 else 'IPv6'}"  # noqa: PLR2004
                " address, it is not served",
            )


def _is_below_underscore(text: str) -> bool:
    """Returns whether `_` and a text are a label of SRV names."""
    return names.is_dns_label(text) and len(text) < names.MAX_LABEL_BYTES


def _ports(raws: list[_RawPort] | None, path: str, problems: _Problems) -> tuple[Port, ...]:
    ports: list[Port] = []
    for number, raw in enumerate(raws or []):
        name, protocol, port = raw.name or "", (raw.protocol or "TCP").lower(), raw.port
        if name and not _is_below_underscore(name):
            problems.add_port(f"{path}[{number}].name", f"{name!r} is not a port name")
            name = ""
        if not _is_below_underscore(protocol):
            problems.add_port(f"{path}[{number}].protocol", f"{protocol!r} is not a protocol")
            name = ""
        if port is not None and not 0 <= port <= 0xFFFF:  # noqa: PLR2004
            problems.add_port(f"{path}[{number}].port", f"{port} is no port number")
            port = None
        ports.append(Port(name, protocol, port))
    return tuple(ports)
