"""Settings: flags, `MCSDNS_*`, a YAML file and defaults, in that order, by one schema.

The schema is the `Settings` struct: flags, variables, keys of the file and their documentation are
made from it. Every room gets a small struct of its own built from here.
"""

import argparse
import difflib
import enum
import os
import socket
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec
import yaml
from msgspec import Meta

from mcsdns import names
from mcsdns.errors import ConfigError, InvalidNameError
from mcsdns.index import addresses
from mcsdns.server.tcp import TcpSettings
from mcsdns.sources.documents import line_of
from mcsdns.zone.tree import PerCluster, ZoneSettings

ENVIRONMENT_PREFIX: Final = "MCSDNS_"
DEFAULT_ZONE: Final = "clusterset.local"
DEFAULT_LISTEN: Final = ["127.0.0.1:1053"]
POD_LISTEN: Final = ["0.0.0.0:5353", "[::]:5353"]
"""`[::]` is IPv6 only, so both; a family the system lacks is passed over (see `sockets`)."""


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


Port = Annotated[int, Meta(ge=0, le=65535)]


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
    listen: Annotated[
        list[str],
        Meta(
            description="address and port to serve on, UDP and TCP (default 127.0.0.1:1053; in "
            "a pod 0.0.0.0:5353 and [::]:5353)",
            examples=["ADDR:PORT"],
        ),
    ] = []
    zone: Annotated[list[str], Meta(description="zone to serve", examples=["NAME"])] = (
        msgspec.field(default_factory=lambda: [DEFAULT_ZONE])
    )
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
    ] = 48 << 20
    manifest_max_bytes: Annotated[
        int, Meta(ge=1, description="largest manifest file that is read", examples=["BYTES"])
    ] = 64 << 20
    log_format: Annotated[LogFormat, Meta(description="text or json", examples=["FORMAT"])] = (
        LogFormat.TEXT
    )
    log_level: Annotated[
        LogLevel, Meta(description="debug, info, warning or error", examples=["LEVEL"])
    ] = LogLevel.INFO

    def zone_settings(self) -> ZoneSettings:
        """Build what the zone needs; the settings were checked before."""
        return ZoneSettings(
            zones=tuple(map(names.from_text, self.zone)),
            ttl=self.ttl,
            per_cluster=self.per_cluster,
            name_server=tuple(map(addresses.pack, self.ns_address)) or _own_addresses(),
            namespaces=frozenset(map(names.wire_label, self.namespace)),
        )

    def tcp_settings(self) -> TcpSettings:
        """Build what the TCP listeners need."""
        return TcpSettings(idle_s=self.tcp_idle, max_connections=self.tcp_connections)

    def listen_addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each socket; the defaults depend on where we run."""
        listen = self.listen or (POD_LISTEN if in_pod() else DEFAULT_LISTEN)
        return [split_address(address) for address in listen]


class Field(msgspec.Struct, frozen=True):
    """One setting, as flags and documentation need it."""

    name: str
    type: Any
    repeats: bool
    default: Any
    description: str
    placeholder: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()


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
            default,
            meta.description,
            meta.examples[0],
        )


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
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF or not packed:  # noqa: PLR2004
        raise ConfigError(f"{text!r} is not ADDR:PORT, such as 127.0.0.1:1053 or [::1]:1053")
    if bracketed != (len(packed) == 16):  # noqa: PLR2004
        raise ConfigError(f"{text!r}: an IPv6 address stands in brackets, an IPv4 address does not")
    return bare, int(port)


def add_flags(parser: argparse.ArgumentParser, only: set[str] | None = None) -> None:
    """Add a flag for each setting, or for some; what is not given stays absent.

    Lists take several values after one flag only where no positional argument could follow.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings")
    for field in fields():
        if only is not None and field.name not in only:
            continue
        help_text = field.description.replace("%", "%%")
        if field.default not in ([], None) and "(default" not in help_text:
            default = field.default
            shown = ", ".join(default) if isinstance(default, list) else default
            help_text += f" (default {shown})"
        parser.add_argument(
            field.flag,
            dest=field.name,
            metavar=field.placeholder,
            help=help_text,
            default=argparse.SUPPRESS,
            **({"action": "append", "nargs": 1 if only else "+"} if field.repeats else {}),  # type: ignore[arg-type]
        )


def load(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Merge all sources of settings.

    Raises:
        ConfigError: says which setting, where it was given, and what would be right.
    """
    values: dict[str, Any] = {}
    path = flags.get("config") or environment.get(ENVIRONMENT_PREFIX + "CONFIG")
    if path:
        values.update(_from_file(path))
    values.update(_from_environment(environment))
    values.update(_from_flags(flags))
    return Settings(**values)


def from_mapping(plain: Mapping[str, Any], where: str) -> Settings:
    """Read settings that stand in some other document; `where` begins each error.

    Raises:
        ConfigError: as `load`.
    """
    return Settings(**_from_plain(plain, lambda _: where))


def _from_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields():
        given = flags.get(field.name)
        if given is not None:
            if field.repeats:
                given = [value for group in given for value in group]
            values[field.name] = _convert(field, given, field.flag)
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {field.variable: field for field in fields()}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if variable.startswith(_SERVICE_LINKS):
            continue
        if variable not in known:
            raise ConfigError(f"{variable}: no such setting{_suggest(variable, known)}")
        field = known[variable]
        given = text.replace(",", " ").split() if field.repeats else text
        values[field.name] = _convert(field, given, variable)
    return values


_OTHER_VARIABLES: Final = frozenset({ENVIRONMENT_PREFIX + "CONFIG"})
_SERVICE_LINKS: Final = ("MCSDNS_SERVICE_", "MCSDNS_PORT")
"""Kubernetes sets these in every pod of a namespace that has a Service named mcsdns."""


def _from_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        node = yaml.compose(text, yaml.CSafeLoader)
        plain = yaml.load(text, yaml.CSafeLoader) or {}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name a YAML file of settings") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; name a YAML file of settings") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: a config file is a mapping of settings, such as `ttl: 5`")
    return _from_plain(plain, lambda key: f"{path}:{line_of(node, '$.' + key)}")


def _from_plain(plain: Mapping[Any, Any], where: Callable[[str], str]) -> dict[str, Any]:
    known = {field.name: field for field in fields()}
    values: dict[str, Any] = {}
    for key, given in plain.items():
        field = known.get(str(key).replace("-", "_"))
        if field is None:
            raise ConfigError(f"{where(str(key))}: {key}: no such setting{_suggest(key, known)}")
        if field.repeats and isinstance(given, str):
            given = [given]  # noqa: PLW2901 - one value for a list
        values[field.name] = _convert(field, given, f"{where(str(key))}: {key}")
    return values


def _suggest(name: object, known: Mapping[str, Field]) -> str:
    close = difflib.get_close_matches(str(name), known, 1)
    return f"; did you mean {close[0]}?" if close else "; `mcsdns serve --help` lists them"


def _convert(field: Field, given: Any, where: str) -> Any:
    try:
        value = msgspec.convert(given, field.type, strict=False)
        if field.name in _CHECKS:
            for each in value:
                _CHECKS[field.name](each)
    except msgspec.ValidationError as error:
        why = str(error).partition(" - at `")[0]
        raise ConfigError(f"{where}: {given!r}: {why}; wanted: {field.description}") from None
    except (ConfigError, InvalidNameError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None
    return value


def _check_zone(text: str) -> None:
    zone = names.from_text(text)
    if zone == names.ROOT:
        raise ValueError("the root cannot be served; name a zone such as clusterset.local")
    if len(zone) > 128:  # noqa: PLR2004 - <svc>.<ns>.svc must find room
        raise ValueError(f"{text!r} leaves no room for names below it (at most 128 octets)")


def _check_namespace(text: str) -> None:
    if not names.is_dns_label(text):
        raise ValueError(f"{text!r} is not a namespace: lower-case letters, digits and hyphens")


_CHECKS: Final[dict[str, Callable[[str], object]]] = {
    "listen": split_address,
    "zone": _check_zone,
    "namespace": _check_namespace,
    "ns_address": addresses.pack,
}


def _own_addresses() -> tuple[bytes, ...]:
    """Return the pod's own addresses, from the downward API or its host name; none elsewhere."""
    texts = os.environ.get("POD_IPS") or os.environ.get("POD_IP") or ""
    found = [address for address in texts.split(",") if address]
    if not found and in_pod():
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)]
        except OSError:
            found = []
    return tuple(dict.fromkeys(addresses.pack(address.partition("%")[0]) for address in found))
