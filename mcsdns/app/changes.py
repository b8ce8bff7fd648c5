"""Which settings can be changed in a running server, and what each of them touches."""

from typing import Final

import msgspec

from mcsdns.config import Settings

PLAIN: Final = frozenset(
    {"log_format", "log_level", "query_log", "request_metrics", "lameduck", "ready_when"}
)
"""Looked at whenever they are needed, or set with one call."""
SOCKETS: Final = frozenset({"listen"})
CONNECTIONS: Final = frozenset({"tcp_idle", "tcp_connections"})
SITES: Final = frozenset({"admin", "probes"})
FORWARDING: Final = frozenset(
    {
        *("upstream", "upstream_from", "upstream_policy", "upstream_ca", "stub_zone", "allow"),
        *("forward_limit", "serve_stale", "cache_entries", "cache_bytes"),
        *("cache_max_ttl", "cache_max_negative_ttl"),
    }
)
OBJECTS: Final = frozenset(
    {
        *("manifests", "source", "kubeconfig", "context", "in_cluster", "import_selector"),
        *("namespace", "slices", "clusterset_ips"),
    }
)
"""Which objects are read, and whether a service has addresses."""
_APART: Final = PLAIN | SOCKETS | CONNECTIONS | SITES | FORWARDING


class Changes(msgspec.Struct, frozen=True):
    """What differs between two settings.

    Attributes:
        names: of the settings, in the order of the schema.
    """

    names: tuple[str, ...]

    @property
    def needs_world(self) -> bool:
        """Whether the objects are to be read anew: by every setting that is not known better."""
        return not _APART.issuperset(self.names)

    @property
    def needs_forwarding(self) -> bool:
        """Whether another forwarder is needed; none of our own addresses may be an upstream."""
        return not (FORWARDING | SOCKETS).isdisjoint(self.names)

    @property
    def needs_sites(self) -> bool:
        """Whether the page or the probes move."""
        return not SITES.isdisjoint(self.names)

    @property
    def needs_log(self) -> bool:
        """Whether log lines look different."""
        return not {"log_format", "log_level"}.isdisjoint(self.names)

    @property
    def keeps_objects(self) -> bool:
        """Whether the same objects are to be expected."""
        return OBJECTS.isdisjoint(self.names)


def between(before: Settings, after: Settings) -> Changes:
    """Compare two settings."""
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    return Changes(tuple(name for name, value in new.items() if old[name] != value))
