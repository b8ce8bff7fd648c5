"""The explanation as plain values: `--json` prints these structs field by field.

Field names and the words of the enums are a contract with programs (docs/explain.md): add, do not
rename. `explain --admin` reads them from a server that may be older, so a new field has a default.
Names are absolute, in presentation form with the trailing dot.
"""

import enum
from typing import Final

import msgspec

from mcsdns.objects.model import Condition, Port

FROM_SPEC: Final = "spec.ips"
FROM_SLICES: Final = "slices"


class VerdictReason(enum.StrEnum):
    """Why the answer is what it is."""

    RECORDS = "records"
    NO_RECORD_OF_TYPE = "no_record_of_type"
    EMPTY_NON_TERMINAL = "empty_non_terminal"
    NO_ADDRESS = "no_address"
    NO_IMPORT = "no_import"
    SLICES_WITHOUT_IMPORT = "slices_without_import"
    NO_NAMESPACE = "no_namespace"
    NAMESPACE_NOT_SERVED = "namespace_not_served"
    NO_READY_ENDPOINT = "no_ready_endpoint"
    ENDPOINT_NOT_SERVED = "endpoint_not_served"
    NO_SUCH_ENDPOINT = "no_such_endpoint"
    NO_SUCH_PORT = "no_such_port"
    NO_SUCH_NAME = "no_such_name"
    PER_CLUSTER_FORM = "per_cluster_form"
    NOT_READ_YET = "not_read_yet"
    OUTSIDE_ZONES = "outside_zones"
    TYPE_NOT_SERVED = "type_not_served"


class ShapeKind(enum.StrEnum):
    """What a name is by its form alone, whether or not it exists."""

    OUTSIDE = "outside"
    APEX = "apex"
    DNS = "dns"
    NAME_SERVER = "name_server"
    DNS_VERSION = "dns_version"
    SVC = "svc"
    ELSEWHERE = "elsewhere"
    NAMESPACE = "namespace"
    SERVICE = "service"
    PROTOCOL = "protocol"
    PORT = "port"
    PER_CLUSTER = "per_cluster"
    ENDPOINT = "endpoint"
    BELOW_SERVICE = "below_service"


class QuestionText(msgspec.Struct, frozen=True):
    """The name and type of the query."""

    name: str
    type: str


class Verdict(msgspec.Struct, frozen=True):
    """The answer in one sentence.

    Attributes:
        result: the response code, or NODATA.
        summary: for people, without the result and without a full stop.
    """

    result: str
    reason: VerdictReason
    summary: str


class Suggestion(msgspec.Struct, frozen=True):
    """A name or type near to that of the query.

    Attributes:
        resolves: whether the name has records of `type` now; if not, only its form is right.
    """

    name: str
    type: str
    resolves: bool
    why: str


class ServedZone(msgspec.Struct, frozen=True):
    """The zone that the name is in, and the state of all that is served.

    Attributes:
        name: None where the name is outside all of `served`.
        waiting_for: why not everything has been read yet, or empty.
        namespaces: the namespace filter; empty where all are served.
    """

    name: str | None
    served: tuple[str, ...]
    readiness: str
    waiting_for: str
    stale: bool
    namespaces: tuple[str, ...]


class NameParts(msgspec.Struct, frozen=True):
    """The form of the name and its parts; a part that the form does not have is None."""

    kind: ShapeKind
    pattern: str
    service: str | None = None
    namespace: str | None = None
    host: str | None = None
    cluster: str | None = None
    port: str | None = None
    protocol: str | None = None


class JudgedCondition(Condition, frozen=True):
    """A condition of the ServiceImport's status.

    Attributes:
        is_bad: whether it reports a fault (`objects.conditions`).
    """

    is_bad: bool = False


class Import(msgspec.Struct, frozen=True):
    """The ServiceImport.

    Attributes:
        origin: file and line, or empty where it came from an API server.
        clusters: cluster IDs of `status.clusters`.
        addresses_from: FROM_SPEC, or FROM_SLICES: their ready endpoints.
    """

    namespace: str
    name: str
    api_version: str
    type: str
    ips: tuple[str, ...]
    ports: tuple[Port, ...]
    clusters: tuple[str, ...]
    conditions: tuple[JudgedCondition, ...]
    resource_version: str
    uid: str
    creation: str
    origin: str
    addresses_from: str

    @property
    def from_slices(self) -> bool:
        """Whether the service is answered with the addresses of endpoints."""
        return self.addresses_from == FROM_SLICES


class SliceEndpoint(msgspec.Struct, frozen=True):
    """An endpoint of a slice.

    Attributes:
        names: the names of its own, whether or not they are served.
        counts: whether the service is answered with it. why_not: why it is not, else empty.
    """

    addresses: tuple[str, ...]
    hostname: str
    names: tuple[str, ...]
    counts: bool
    why_not: str
    ready: bool
    serving: bool | None
    terminating: bool | None
    zone: str
    node: str


class Slice(msgspec.Struct, frozen=True):
    """An EndpointSlice that is labelled for the service.

    Attributes:
        malformed: why it is not served at all, or empty; its endpoints are not known then.
    """

    namespace: str
    name: str
    cluster: str
    address_type: str
    ports: tuple[Port, ...]
    resource_version: str
    origin: str
    malformed: str
    endpoints: tuple[SliceEndpoint, ...]


class ClusterCounts(msgspec.Struct, frozen=True):
    """What one cluster has of the service, malformed slices left out.

    Attributes:
        in_status: whether the ServiceImport's status names it.
    """

    id: str
    in_status: bool
    slices: int
    endpoints: int
    counting: int


class ObjectProblem(msgspec.Struct, frozen=True):
    """Something wrong with one of the objects."""

    origin: str
    subject: str
    path: str
    text: str


class Records(msgspec.Struct, frozen=True):
    """How many records the name itself owns, by type."""

    a: int
    aaaa: int
    srv: int

    @property
    def by_type(self) -> list[str]:
        """The number of each type that there is, such as `2 A`; without any, empty."""
        counts = (("A", self.a), ("AAAA", self.aaaa), ("SRV", self.srv))
        return [f"{number} {rtype}" for rtype, number in counts if number]


class EdeText(msgspec.Struct, frozen=True):
    """An Extended DNS Error (RFC 8914), sent to clients with EDNS."""

    code: int
    name: str
    text: str


class ReplyText(msgspec.Struct, frozen=True):
    """The reply as it is decided, before any limit of size; a line for each record."""

    rcode: str
    flags: tuple[str, ...]
    ede: EdeText | None
    answer: tuple[str, ...]
    authority: tuple[str, ...]
    additional: tuple[str, ...]


class Size(msgspec.Struct, frozen=True):
    """What of the reply reaches a client.

    Attributes:
        limit: the octets a reply may have. octets: those it has.
        answers, additionals: records sent, the OPT record not among them.
        truncated: whether TC is set.
    """

    transport: str
    edns: bool
    limit: int
    octets: int
    answers: int
    additionals: int
    truncated: bool


class Explanation(msgspec.Struct, frozen=True):
    """The whole way from the query to the answer.

    Attributes:
        service_import: None where there is none, or the name belongs to no service.
        records: None where the zone has no such name, or it belongs to no service.
        long_names: names of the service that are left out because they exceed 255 octets.
        size_note: what becomes of so many records on their way; empty where nothing does.
    """

    question: QuestionText
    verdict: Verdict
    suggestions: tuple[Suggestion, ...]
    zone: ServedZone
    shape: NameParts
    service_import: Import | None
    clusters: tuple[ClusterCounts, ...]
    slices: tuple[Slice, ...]
    problems: tuple[ObjectProblem, ...]
    records: Records | None
    long_names: int
    reply: ReplyText
    sizes: tuple[Size, ...]
    size_note: str = ""

    @property
    def from_slices(self) -> bool:
        """Whether the service is answered with the addresses of endpoints."""
        return self.service_import is not None and self.service_import.from_slices
