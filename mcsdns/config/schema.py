"""The schema: the `Settings` struct, from which flags, variables, keys and their pages are made.

Every room gets a small struct of its own built from here.
"""

import enum
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from mcsdns import __version__
from mcsdns.config import validate
from mcsdns.config.environment import in_pod, own_addresses, own_name
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.errors import ConfigError, NoSourceError
from mcsdns.forward import address, cache, forwarder
from mcsdns.forward.address import Address
from mcsdns.forward.health import Policy
from mcsdns.forward.stream_pool import StreamPoolSettings
from mcsdns.objects.decode import SliceProfile
from mcsdns.server.tcp import TcpSettings
from mcsdns.sources.deletion_guard import DeletionGuardSettings
from mcsdns.sources.kubernetes.auth import Access, has_kubeconfig
from mcsdns.sources.kubernetes.source import KubernetesSettings
from mcsdns.zone.tree import ClustersetIps, PerCluster, ZoneSettings

DEFAULT_ZONE: Final = "clusterset.local"
DEFAULT_LISTEN: Final = ["127.0.0.1:1053"]
POD_LISTEN: Final = ["0.0.0.0:5353", "[::]:5353"]
"""Both, since `[::]` is bound for IPv6 alone; it is passed over where IPv6 is off."""
DEFAULT_ADMIN: Final = "127.0.0.1:8053"
POD_PROBES: Final = ":8080"
_NOWHERE: Final = "none"
_MISSING_S: Final = 60.0
"""Without a guard a missing CRD still has this long to come back."""


class Effect(enum.Enum):
    """What a running server does with another value of a setting (see `app.reload`)."""

    RESTART = "restart"
    LIVE = "live"
    """Nothing has to be made anew: it is read whenever it is needed."""
    ZONE = "live: records"
    """The records of the zone change, and the replies made of them."""
    FORWARDER = "live: forwarder"
    """Another forwarder takes over, whose cache is empty."""


ANSWERING: Final = frozenset({"query", "test", "explain"})
"""The commands besides `serve` that answer from a source."""
READING: Final = ANSWERING | {"check"}
"""Those that read a source."""


class Setting(msgspec.Struct, frozen=True):
    """All that is known of a setting besides its name, type, bounds and default.

    Attributes:
        placeholder: stands for a value in the help.
        commands: those that take it besides `serve`.
        check: raises ConfigError, InvalidNameError or ValueError for a text, or for one of a list,
            that is not of the right form.
        effect: how a change takes effect.
    """

    placeholder: str
    description: str
    commands: frozenset[str] = frozenset()
    check: Callable[[str], object] | None = None
    effect: Effect = Effect.RESTART


_live: Final = partial(Setting, effect=Effect.LIVE)
_records: Final = partial(Setting, effect=Effect.ZONE)
_forwarder: Final = partial(Setting, effect=Effect.FORWARDER)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Adding a setting is adding a field."""

    manifests: Annotated[
        list[str],
        Setting(
            "PATH",
            "files or folders of manifests, `-` for standard input; re-read when they change",
            READING,
        ),
    ] = []
    source: Annotated[
        Literal["auto", "none"],
        Setting(
            "CHOICE",
            "none: serve no zone, forward everything; auto: manifests or an API server, as the "
            "other settings say",
        ),
    ] = "auto"
    kubeconfig: Annotated[
        str,
        Setting(
            "FILE",
            "file that says which API server to follow (default $KUBECONFIG, else ~/.kube/config; "
            "in a pod its service account)",
            READING,
        ),
    ] = ""
    context: Annotated[
        str, Setting("NAME", "context of the kubeconfig (default its current one)", READING)
    ] = ""
    in_cluster: Annotated[
        bool,
        Setting("", "follow the API server of this pod's cluster by its service account", READING),
    ] = False
    import_selector: Annotated[
        str,
        Setting("SELECTOR", "label selector: only these ServiceImports of the API server", READING),
    ] = ""
    snapshot: Annotated[
        str,
        Setting(
            "FILE",
            "file to keep the objects of the API server in, served at a start while it is away",
        ),
    ] = ""
    snapshot_max_age: Annotated[
        float, Meta(ge=0), Setting("SECONDS", "oldest snapshot that is served")
    ] = 86400.0
    stale_after: Annotated[
        float,
        Meta(ge=0),
        Setting(
            "SECONDS",
            "seconds without the API server after which answers say that they are stale; 0 for "
            "never",
        ),
    ] = 60.0
    guard_share: Annotated[
        float,
        Meta(ge=0, le=1),
        Setting(
            "SHARE",
            "share of services that may lose their last answer within the guard's window; more are "
            "kept for the grace time; 0 switches the guard off",
        ),
    ] = 0.5
    guard_least: Annotated[
        int,
        Meta(ge=1),
        Setting("N", "services that the guard lets go at once in any case, less one"),
    ] = 10
    guard_grace: Annotated[
        float,
        Meta(ge=0, le=86400),
        Setting("SECONDS", "seconds for which the guard keeps services; 0 switches it off"),
    ] = 60.0
    guard_window: Annotated[
        float,
        Meta(ge=10, le=86400),
        Setting(
            "SECONDS",
            "seconds within which the guard counts lost services together, and remembers them; a "
            "controller that deletes 5 a second needs 1000 for half of 10,000",
        ),
    ] = 1200.0
    recheck: Annotated[
        float,
        Meta(ge=0, le=604800),
        Setting(
            "SECONDS",
            "seconds, more or less, between lists that find what a watch of the API server missed; "
            "0 for none",
        ),
    ] = 21600.0
    listen: Annotated[
        list[str],
        Setting(
            "ADDR:PORT",
            "address and port to serve on, UDP and TCP (default 127.0.0.1:1053; in a pod "
            "0.0.0.0:5353 and [::]:5353)",
            check=validate.split_address,
        ),
    ] = []
    zone: Annotated[
        list[str],
        Meta(min_length=1),
        Setting("NAME", "zone to serve", READING, check=validate.check_zone),
    ] = msgspec.field(default_factory=lambda: [DEFAULT_ZONE])
    ttl: Annotated[
        int,
        Meta(ge=0, le=3600),
        _records("SECONDS", "seconds that answers may be cached", ANSWERING),
    ] = 5
    max_records: Annotated[
        int,
        Meta(ge=0, le=65535),
        _records(
            "N",
            "records of one type that an answer has at most; of more endpoints some are shown, "
            "others every TTL (BIND takes 100, PowerDNS 256); 0 for all",
            READING,
        ),
    ] = 0
    per_cluster: Annotated[
        PerCluster,
        _records(
            "ANSWER",
            "what <cluster>.<svc>.<ns>.svc is answered with: refused, auto, nodata or nxdomain",
            ANSWERING,
        ),
    ] = PerCluster.REFUSED
    clusterset_ips: Annotated[
        ClustersetIps,
        Setting(
            "WHERE",
            "where a ClusterSetIP service has its addresses from: spec, or slices where spec.ips "
            "is empty (Lighthouse)",
            READING,
        ),
    ] = ClustersetIps.SPEC
    slices: Annotated[
        SliceProfile,
        Setting(
            "WHICH",
            "which EndpointSlices count: mcs, those with the labels of the MCS API, or karmada, "
            "also those that Karmada writes without them",
            READING,
        ),
    ] = SliceProfile.MCS
    namespace: Annotated[
        list[str],
        Setting(
            "NAME",
            "serve the services of this namespace only",
            READING,
            check=validate.check_namespace,
        ),
    ] = []
    ns_address: Annotated[
        list[str],
        _records(
            "ADDR", "address of ns.dns.<zone> (default in a pod: its own)", ANSWERING, check=ip.pack
        ),
    ] = []
    identify: Annotated[
        Literal["off", "name", "all"],
        _live(
            "WHAT",
            "what clients are told of this server: off, nothing; name, the pod's name (NSID, "
            "id.server CH TXT); all, also the version (version.server CH TXT)",
        ),
    ] = "off"
    rate_limit: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        _live(
            "N",
            "UDP replies a second to one prefix of clients (IPv4 /24, IPv6 /56) that are longer "
            "than their request; 0 for any number; clients with a DNS cookie do not count",
        ),
    ] = 0
    rate_limit_slip: Annotated[
        int,
        Meta(ge=0, le=1000),
        _live(
            "N",
            "past the limit one of so many replies is sent truncated, so that the client comes "
            "over TCP, and the others are dropped; 0 to drop all",
        ),
    ] = 2
    cookie_secrets: Annotated[
        str,
        _live(
            "FILE",
            "file of secrets for DNS cookies, 32 hexadecimal digits a line: the first makes "
            "cookies, all are accepted; read every minute (default a random one, daily another)",
            check=validate.check_cookie_secrets,
        ),
    ] = ""
    tcp_idle: Annotated[
        float,
        Meta(gt=0, le=3600),
        _live(
            "SECONDS",
            "seconds after which a TCP connection that is silent, or takes no reply, is closed",
        ),
    ] = 10.0
    tcp_connections: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        _live("N", "TCP connections held at once; past it the one idle longest is closed"),
    ] = 2000
    tcp_bytes: Annotated[
        int,
        Meta(ge=1 << 20),
        _live(
            "BYTES",
            "memory for requests and replies of all TCP connections; past it the one that holds "
            "most is cut",
        ),
    ] = 64 << 20
    kept_bytes: Annotated[
        int, Meta(ge=0), Setting("BYTES", "memory for replies kept ready, for UDP and TCP each")
    ] = 64 << 20
    manifest_max_bytes: Annotated[
        int, Meta(ge=1), Setting("BYTES", "largest manifest file that is read", READING)
    ] = 64 << 20
    upstream: Annotated[
        list[str],
        _forwarder(
            "UPSTREAM",
            "where names outside the zone are looked up: ADDR, ADDR:PORT, tcp://ADDR or "
            "tls://ADDR#NAME (without any they are refused)",
            check=address.parse,
        ),
    ] = []
    upstream_from: Annotated[
        str,
        _forwarder(
            "FILE",
            "file such as /etc/resolv.conf whose name servers are upstreams; re-read when it "
            "changes",
        ),
    ] = ""
    stub_zone: Annotated[
        list[str],
        _forwarder(
            "ZONE=UPSTREAM",
            "upstreams of one zone, ZONE=UPSTREAM or ZONE=UPSTREAM+UPSTREAM; the longest zone wins",
            check=validate.split_stub_zone,
        ),
    ] = []
    upstream_policy: Annotated[
        Policy,
        _forwarder(
            "POLICY", "which upstream is asked first: fastest, sequential, random or round_robin"
        ),
    ] = Policy.FASTEST
    allow: Annotated[
        list[str],
        _forwarder(
            "CIDR",
            "who may have names outside the zone looked up (default private networks and our own)",
            check=validate.check_allow,
        ),
    ] = []
    loop_mark: Annotated[
        Literal["on", "off"],
        _forwarder(
            "SWITCH",
            "on or off: mark what is forwarded with an EDNS option (65432), by which forwarding "
            "loops are told at once",
        ),
    ] = "on"
    forward_limit: Annotated[
        int, Meta(ge=1, le=65536), _forwarder("N", "questions waiting for upstreams at once")
    ] = 4096
    cache_entries: Annotated[
        int, Meta(ge=0), _forwarder("N", "upstreams' replies kept; 0 for none")
    ] = 65536
    cache_bytes: Annotated[
        int, Meta(ge=0), _forwarder("BYTES", "memory for upstreams' replies")
    ] = 64 << 20
    cache_max_ttl: Annotated[
        int, Meta(ge=0, le=604800), _forwarder("SECONDS", "longest that a reply is kept")
    ] = 3600
    cache_max_negative_ttl: Annotated[
        int,
        Meta(ge=0, le=86400),
        _forwarder("SECONDS", "longest that NXDOMAIN and NODATA are kept"),
    ] = 30
    serve_stale: Annotated[
        float,
        Meta(ge=0, le=604800),
        _forwarder("SECONDS", "how long after its end a reply serves when no upstream answers"),
    ] = 3600.0
    upstream_ca: Annotated[
        str,
        _forwarder(
            "FILE",
            "file of the authorities that upstreams over TLS are verified by (default the "
            "system's)",
        ),
    ] = ""
    admin: Annotated[
        str,
        Setting(
            "ADDR:PORT",
            "where the status page and its API are; none for nowhere (default 127.0.0.1:8053)",
            check=validate.check_admin,
        ),
    ] = ""
    probes: Annotated[
        str,
        Setting(
            "ADDR:PORT",
            "where /healthz, /readyz and /metrics are for a kubelet; :PORT for all addresses, none "
            "for nowhere (default nowhere; in a pod :8080)",
            check=validate.check_probes,
        ),
    ] = ""
    ready_when: Annotated[
        Literal["auto", "synced", "serving"],
        _live(
            "WHEN",
            "what /readyz waits for: synced, everything is read or a snapshot is served; serving, "
            "the sockets are open; auto, serving where there is an upstream",
        ),
    ] = "auto"
    lameduck: Annotated[
        float,
        Meta(ge=0, le=3600),
        _live("SECONDS", "seconds for which answers go on after SIGTERM, while not ready any more"),
    ] = 5.0
    request_metrics: Annotated[
        Literal["on", "off"],
        _live("SWITCH", "on or off: count and time requests for /metrics and the status page"),
    ] = "on"
    query_log: Annotated[int, Meta(ge=0), _live("N", "log one of so many requests; 0 for none")] = 0
    log_format: Annotated[Literal["text", "json"], _live("FORMAT", "text or json", ANSWERING)] = (
        "text"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _live("LEVEL", "debug, info, warning or error", ANSWERING),
    ] = "info"

    def zone_settings(self) -> ZoneSettings:
        """Build what the zone needs; the settings were checked before."""
        return ZoneSettings(
            zones=() if self.is_sourceless else tuple(map(names.from_text, self.zone)),
            ttl=self.ttl,
            per_cluster=self.per_cluster,
            clusterset_ips=self.clusterset_ips,
            name_server=tuple(map(ip.pack, self.ns_address)) or own_addresses(),
            namespaces=frozenset(map(names.wire_label, self.namespace)),
            max_records=self.max_records,
        )

    @property
    def is_sourceless(self) -> bool:
        """Whether nothing is served but what upstreams say."""
        return self.source == "none"

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
            guard=DeletionGuardSettings(
                share=self.guard_share,
                least=self.guard_least,
                grace_s=self.guard_grace,
                window_s=self.guard_window,
                slices_matter=self.clusterset_ips is ClustersetIps.SLICES,
            ),
            snapshot=self.snapshot,
            snapshot_max_age_s=self.snapshot_max_age,
            stale_after_s=self.stale_after,
            recheck_s=self.recheck,
            zones=tuple(map(names.to_text, self.zone_settings().zones)),
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
            zone, upstreams = validate.split_stub_zone(text)
            if zone in zones:
                raise ConfigError(f"--stub-zone {text}: the zone stands there twice; keep one")
            zones[zone] = upstreams
        return zones

    def forward_settings(self) -> forwarder.Settings:
        """Build what the forwarder needs."""
        return forwarder.Settings(
            policy=self.upstream_policy,
            max_pending=self.forward_limit,
            has_mark=self.loop_mark == "on",
            streams=StreamPoolSettings(ca_file=self.upstream_ca or None),
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
        return TcpSettings(self.tcp_idle, self.tcp_connections, self.tcp_bytes)

    def told_name(self) -> str:
        """Return the name that clients are told; empty for none."""
        return "" if self.identify == "off" else own_name()

    def told_version(self) -> str:
        """Return the version that clients are told; empty for none."""
        return f"mcsdns {__version__}" if self.identify == "all" else ""

    def admin_address(self) -> tuple[str, int] | None:
        """Return where the status page is; None for nowhere."""
        text = self.admin or DEFAULT_ADMIN
        return None if text == _NOWHERE else validate.split_address(text)

    def probe_addresses(self) -> list[tuple[str, int]]:
        """Return where the probes are; the default depends on where we run."""
        text = self.probes or (POD_PROBES if in_pod() else _NOWHERE)
        return [] if text == _NOWHERE else validate.split_listen(text)

    @property
    def is_ready_when_serving(self) -> bool:
        """Whether readiness waits for no source: upstreams have answers without one."""
        if self.ready_when == "auto":
            return bool(self.upstreams())
        return self.ready_when == "serving"

    def listen_addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each socket; the defaults depend on where we run."""
        listen = self.listen or (POD_LISTEN if in_pod() else DEFAULT_LISTEN)
        return [validate.split_address(address) for address in listen]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
