"""The schema: the `Settings` struct, from which flags, variables, keys and their pages are made.

Every room gets a small struct of its own built from here.
"""

import enum
import os
import re
import socket
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from mcsdns import names
from mcsdns.errors import ConfigError, NoSourceError
from mcsdns.index import addresses
from mcsdns.index.decode import SliceProfile
from mcsdns.index.guard import GuardSettings
from mcsdns.names import Name
from mcsdns.server import allow
from mcsdns.server.tcp import TcpSettings
from mcsdns.sources.identity import Access, has_kubeconfig
from mcsdns.sources.settings import KubernetesSettings
from mcsdns.upstream import address, cache, forward
from mcsdns.upstream.address import Address
from mcsdns.upstream.health import Policy
from mcsdns.zone.tree import ClustersetIps, PerCluster, ZoneSettings

ENVIRONMENT_PREFIX: Final = "MCSDNS_"
DEFAULT_ZONE: Final = "clusterset.local"
DEFAULT_LISTEN: Final = ["127.0.0.1:1053"]
POD_LISTEN: Final = ["0.0.0.0:5353", "[::]:5353"]
"""`[::]` is IPv6 only, so both; a family the system lacks is passed over (see `app`)."""


_PORT = re.compile("[0-9]{1,5}")
_MISSING_S: Final = 60.0
"""Without a guard a missing CRD still has this long to come back."""


class LogFormat(enum.StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """From which severity on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SourceChoice(enum.StrEnum):
    """Whether there is a source of objects at all."""

    AUTO = "auto"
    NONE = "none"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. The description of each field is its documentation."""

    manifests: Annotated[
        list[str],
        Meta(
            description="files or folders of manifests, `-` for standard input; re-read when "
            "they change",
            examples=["PATH"],
        ),
    ] = []
    source: Annotated[
        SourceChoice,
        Meta(
            description="none: serve no zone, forward everything; auto: manifests or an API "
            "server, as the other settings say",
            examples=["CHOICE"],
        ),
    ] = SourceChoice.AUTO
    kubeconfig: Annotated[
        str,
        Meta(
            description="file that says which API server to follow (default $KUBECONFIG, else "
            "~/.kube/config; in a pod its service account)",
            examples=["FILE"],
        ),
    ] = ""
    context: Annotated[
        str,
        Meta(description="context of the kubeconfig (default its current one)", examples=["NAME"]),
    ] = ""
    in_cluster: Annotated[
        bool,
        Meta(
            description="follow the API server of this pod's cluster by its service account",
            examples=[""],
        ),
    ] = False
    import_selector: Annotated[
        str,
        Meta(
            description="label selector: only these ServiceImports of the API server",
            examples=["SELECTOR"],
        ),
    ] = ""
    snapshot: Annotated[
        str,
        Meta(
            description="file to keep the objects of the API server in, served at a start "
            "while it is away",
            examples=["FILE"],
        ),
    ] = ""
    snapshot_max_age: Annotated[
        float,
        Meta(ge=0, description="oldest snapshot that is served", examples=["SECONDS"]),
    ] = 86400.0
    stale_after: Annotated[
        float,
        Meta(
            ge=0,
            description="seconds without the API server after which answers say that they are "
            "stale; 0 for never",
            examples=["SECONDS"],
        ),
    ] = 60.0
    guard_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="share of services that may lose their last answer within 10 seconds; "
            "more are kept for the grace time; 0 switches the guard off",
            examples=["SHARE"],
        ),
    ] = 0.5
    guard_least: Annotated[
        int,
        Meta(
            ge=1,
            description="services that the guard lets go at once in any case, less one",
            examples=["N"],
        ),
    ] = 10
    guard_grace: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="seconds for which the guard keeps services; 0 switches it off",
            examples=["SECONDS"],
        ),
    ] = 60.0
    listen: Annotated[
        list[str],
        Meta(
            description="address and port to serve on, UDP and TCP (default 127.0.0.1:1053; in "
            "a pod 0.0.0.0:5353 and [::]:5353)",
            examples=["ADDR:PORT"],
        ),
    ] = []
    zone: Annotated[
        list[str], Meta(min_length=1, description="zone to serve", examples=["NAME"])
    ] = msgspec.field(default_factory=lambda: [DEFAULT_ZONE])
    ttl: Annotated[
        int,
        Meta(ge=0, le=3600, description="seconds that answers may be cached", examples=["SECONDS"]),
    ] = 5
    per_cluster: Annotated[
        PerCluster,
        Meta(
            description="what <cluster>.<svc>.<ns>.svc is answered with: refused, auto, nodata "
            "or nxdomain",
            examples=["ANSWER"],
        ),
    ] = PerCluster.REFUSED
    clusterset_ips: Annotated[
        ClustersetIps,
        Meta(
            description="where a ClusterSetIP service has its addresses from: spec, or slices "
            "where spec.ips is empty (Lighthouse)",
            examples=["WHERE"],
        ),
    ] = ClustersetIps.SPEC
    slices: Annotated[
        SliceProfile,
        Meta(
            description="which EndpointSlices count: mcs, those with the labels of the MCS API, "
            "or karmada, also those that Karmada writes without them",
            examples=["WHICH"],
        ),
    ] = SliceProfile.MCS
    namespace: Annotated[
        list[str],
        Meta(description="serve the services of this namespace only", examples=["NAME"]),
    ] = []
    ns_address: Annotated[
        list[str],
        Meta(description="address of ns.dns.<zone> (default in a pod: its own)", examples=["ADDR"]),
    ] = []
    tcp_idle: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="seconds after which a silent TCP connection is closed",
            examples=["SECONDS"],
        ),
    ] = 10.0
    tcp_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="TCP connections held at once; past it the one idle longest is closed",
            examples=["N"],
        ),
    ] = 2000
    kept_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="memory for replies kept ready, for UDP and TCP each",
            examples=["BYTES"],
        ),
    ] = 64 << 20
    manifest_max_bytes: Annotated[
        int, Meta(ge=1, description="largest manifest file that is read", examples=["BYTES"])
    ] = 64 << 20
    upstream: Annotated[
        list[str],
        Meta(
            description="where names outside the zone are looked up: ADDR, ADDR:PORT, "
            "tcp://ADDR or tls://ADDR#NAME (without any they are refused)",
            examples=["UPSTREAM"],
        ),
    ] = []
    upstream_from: Annotated[
        str,
        Meta(
            description="file such as /etc/resolv.conf whose name servers are upstreams; re-read "
            "when it changes",
            examples=["FILE"],
        ),
    ] = ""
    stub_zone: Annotated[
        list[str],
        Meta(
            description="upstreams of one zone, ZONE=UPSTREAM or ZONE=UPSTREAM+UPSTREAM; the "
            "longest zone wins",
            examples=["ZONE=UPSTREAM"],
        ),
    ] = []
    upstream_policy: Annotated[
        Policy,
        Meta(
            description="which upstream is asked first: fastest, sequential, random or round_robin",
            examples=["POLICY"],
        ),
    ] = Policy.FASTEST
    allow: Annotated[
        list[str],
        Meta(
            description="who may have names outside the zone looked up (default private networks "
            "and our own)",
            examples=["CIDR"],
        ),
    ] = []
    forward_limit: Annotated[
        int,
        Meta(ge=1, le=65536, description="questions waiting for upstreams at once", examples=["N"]),
    ] = 4096
    cache_entries: Annotated[
        int,
        Meta(ge=0, description="upstreams' replies kept; 0 for none", examples=["N"]),
    ] = 65536
    cache_bytes: Annotated[
        int, Meta(ge=0, description="memory for upstreams' replies", examples=["BYTES"])
    ] = 64 << 20
    cache_max_ttl: Annotated[
        int,
        Meta(ge=0, le=604800, description="longest that a reply is kept", examples=["SECONDS"]),
    ] = 3600
    cache_max_negative_ttl: Annotated[
        int,
        Meta(
            ge=0,
            le=86400,
            description="longest that NXDOMAIN and NODATA are kept",
            examples=["SECONDS"],
        ),
    ] = 30
    serve_stale: Annotated[
        float,
        Meta(
            ge=0,
            le=604800,
            description="how long after its end a reply serves when no upstream answers",
            examples=["SECONDS"],
        ),
    ] = 3600.0
    log_format: Annotated[LogFormat, Meta(description="text or json", examples=["FORMAT"])] = (
        LogFormat.TEXT
    )
    log_level: Annotated[
        LogLevel, Meta(description="debug, info, warning or error", examples=["LEVEL"])
    ] = LogLevel.INFO

    def zone_settings(self) -> ZoneSettings:
        """Build what the zone needs; the settings were checked before."""
        return ZoneSettings(
            zones=() if self.is_sourceless else tuple(map(names.from_text, self.zone)),
            ttl=self.ttl,
            per_cluster=self.per_cluster,
            clusterset_ips=self.clusterset_ips,
            name_server=tuple(map(addresses.pack, self.ns_address)) or _own_addresses(),
            namespaces=frozenset(map(names.wire_label, self.namespace)),
        )

    @property
    def is_sourceless(self) -> bool:
        """Whether nothing is served but what upstreams say."""
        return self.source is SourceChoice.NONE

    def access(self) -> Access | None:
        """Return how to reach the API server; None where there is none to follow.

        Raises:
            ConfigError: there is no source, or more than one.
        """
        given = [name for name in ("kubeconfig", "context", "in_cluster") if getattr(self, name)]
        if self.is_sourceless:
            given = ["manifests"] if self.manifests else given
            if given:
                raise ConfigError(f"--source none and {_flag(given[0])} exclude each other")
            if not self.upstreams():
                raise ConfigError("--source none: give --upstream or --stub-zone, or who answers?")
            return None
        if self.manifests:
            if given:
                raise ConfigError(f"--manifests and {_flag(given[0])} exclude each other; keep one")
            return None
        if self.in_cluster and given != ["in_cluster"]:
            raise ConfigError(f"--in-cluster and {_flag(given[0])} exclude each other; keep one")
        if not given and not in_pod() and not has_kubeconfig():
            raise NoSourceError("no source of objects: give --manifests PATH, or --kubeconfig FILE")
        in_cluster = self.in_cluster or (not given and in_pod())
        return Access(self.kubeconfig, self.context, in_cluster)

    def kubernetes_settings(self) -> KubernetesSettings:
        """Build what the source that follows an API server needs."""
        return KubernetesSettings(
            namespaces=tuple(dict.fromkeys(self.namespace)),
            import_selector=self.import_selector,
            profile=self.slices,
            missing_s=self.guard_grace or _MISSING_S,
        )

    def guard_settings(self) -> GuardSettings:
        """Build what the guard against mass deletion needs."""
        return GuardSettings(
            share=self.guard_share,
            least=self.guard_least,
            grace_s=self.guard_grace,
            slices_matter=self.clusterset_ips is ClustersetIps.SLICES,
        )

    def upstreams(self) -> dict[Name, list[Address]]:
        """Return the upstreams of each stub zone; those of the root are for all other names.

        Raises:
            ConfigError: a zone stands there twice.
        """
        zones: dict[Name, list[Address]] = {}
        if self.upstream or self.upstream_from:
            zones[names.ROOT] = [address.parse(text) for text in self.upstream]
        for text in self.stub_zone:
            zone, upstreams = split_stub_zone(text)
            if zone in zones:
                raise ConfigError(f"--stub-zone {text}: the zone stands there twice; keep one")
            zones[zone] = upstreams
        return zones

    def forward_settings(self) -> forward.Settings:
        """Build what the forwarder needs."""
        return forward.Settings(
            policy=self.upstream_policy,
            max_pending=self.forward_limit,
            cache=cache.Settings(
                max_entries=self.cache_entries,
                max_bytes=self.cache_bytes,
                most_ttl_s=self.cache_max_ttl,
                most_negative_ttl_s=self.cache_max_negative_ttl,
                stale_s=self.serve_stale,
            ),
        )

    def tcp_settings(self) -> TcpSettings:
        """Build what the TCP listeners need."""
        return TcpSettings(idle_s=self.tcp_idle, max_connections=self.tcp_connections)

    def listen_addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each socket; the defaults depend on where we run."""
        listen = self.listen or (POD_LISTEN if in_pod() else DEFAULT_LISTEN)
        return [split_address(address) for address in listen]


class Field(msgspec.Struct, frozen=True):
    """One setting, as flags and documentation need it.

    Attributes:
        repeats: whether it is a list. is_switch: whether the flag takes no value.
        bounds: such as `0 to 3600`, or empty.
    """

    name: str
    type: Any
    repeats: bool
    is_switch: bool
    default: Any
    description: str
    placeholder: str
    bounds: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def default_text(self) -> str:
        """The default for people; empty where there is none, or the description tells it."""
        if self.default in ([], None, "", False) or "(default" in self.description:
            return ""
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return ", ".join(map(str, self.default)) if self.repeats else str(self.default)


def fields() -> Iterator[Field]:
    """Iterate over the schema."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        base, meta = typing.get_args(hints[field.name])
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = typing.cast("Callable[[], Any]", field.default_factory)()
        yield Field(
            field.name,
            hints[field.name],
            typing.get_origin(base) is list,
            base is bool,
            default,
            meta.description,
            meta.examples[0],
            _bounds(meta),
        )


def _bounds(meta: Meta) -> str:
    least = meta.ge if meta.gt is None else f"above {meta.gt}"
    most = meta.le
    if least is None:
        return ""
    return f"{least} to {most}" if most is not None else f"at least {least}"


def in_pod() -> bool:
    """Say whether this process runs in a Kubernetes pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def split_address(text: str) -> tuple[str, int]:
    """Split `ADDR:PORT`, IPv6 in brackets.

    Raises:
        ConfigError: there is no port, or the address is none.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    try:
        packed = addresses.pack(bare)
    except ValueError:
        packed = b""
    if not (colon and packed and _PORT.fullmatch(port) and int(port) <= 0xFFFF):  # noqa: PLR2004
        raise ConfigError(f"{text!r} is not ADDR:PORT, such as 127.0.0.1:1053 or [::1]:1053")
    if bracketed != (len(packed) == 16):  # noqa: PLR2004
        raise ConfigError(f"{text!r}: an IPv6 address stands in brackets, an IPv4 address does not")
    return bare, int(port)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def split_stub_zone(text: str) -> tuple[Name, list[Address]]:
    """Read ZONE=UPSTREAM+UPSTREAM.

    Raises:
        ConfigError, InvalidNameError: it is not of this form.
    """
    zone, equals, rest = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not ZONE=UPSTREAM, such as corp.example=10.0.0.53")
    return names.from_text(zone), [address.parse(each) for each in rest.split("+")]


def _check_zone(text: str) -> None:
    zone = names.from_text(text)
    if zone == names.ROOT:
        raise ValueError("the root cannot be served; name a zone such as clusterset.local")
    if len(zone) > 128:  # noqa: PLR2004 - <svc>.<ns>.svc must find room
        raise ValueError(f"{text!r} leaves no room for names below it (at most 128 octets)")


def _check_allow(text: str) -> None:
    if text != "default":
        allow.parse(text)


def _check_namespace(text: str) -> None:
    if not names.is_dns_label(text):
        raise ValueError(f"{text!r} is not a namespace: lower-case letters, digits and hyphens")


CHECKS: Final[dict[str, Callable[[str], object]]] = {
    "listen": split_address,
    "upstream": address.parse,
    "stub_zone": split_stub_zone,
    "allow": _check_allow,
    "zone": _check_zone,
    "namespace": _check_namespace,
    "ns_address": addresses.pack,
}


def _own_addresses() -> tuple[bytes, ...]:
    """Return the pod's own addresses, from the downward API or its host name; none elsewhere.

    Raises:
        ConfigError: the variables of the downward API hold no addresses.
    """
    variable = "POD_IPS" if os.environ.get("POD_IPS") else "POD_IP"
    found = [address for address in os.environ.get(variable, "").split(",") if address]
    if not found and in_pod():
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)]
        except OSError:
            found = []
    try:
        return tuple(dict.fromkeys(addresses.pack(each.partition("%")[0]) for each in found))
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}; set it from status.podIPs") from None
