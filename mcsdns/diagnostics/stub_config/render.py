"""The addresses and zones of mcsdns as a user gives them, and the text of a platform with them.

The table of platforms is `templates/platforms.yaml`, beside the text of each.
"""

import difflib
import functools
import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from typing import Final

import msgspec

from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.types import DNS_PORT
from mcsdns.errors import ConfigError

DEFAULT_ZONE: Final = "clusterset.local"
MAX_ADDRESSES: Final = 15
"""What CoreDNS takes in one `forward`."""

_PACKAGE: Final = "mcsdns.diagnostics.stub_config"
_CLUSTER_DOMAIN: Final = "cluster.local"
_MAX_ZONE: Final = 253
_THE_SERVICE: Final = "give the clusterIP of the mcsdns Service"


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be pointed at mcsdns.

    Attributes:
        suffix: what its text is: `Corefile`, `conf`, `lua` or `yaml`.
        title: one line that says who wants it.
        place: where the text goes.
        example_ip: an address from the usual Service range of the platform.
        on_host: whether it may run beside mcsdns on one host, where loopback addresses are right.
        dnsmasq_reads: whether a dnsmasq, which wants no brackets, may read the addresses.
    """

    name: str
    suffix: str
    title: str
    place: str
    example_ip: str = "10.96.0.53"
    on_host: bool = False
    dnsmasq_reads: bool = False

    @property
    def example_file(self) -> str:
        """Its file in `corefile-examples/`."""
        return f"{self.name}.{self.suffix}"


@functools.cache
def platforms() -> Mapping[str, Platform]:
    """Return the platforms by name, in the order in which they are listed."""
    table = (resources.files(_PACKAGE) / "templates" / "platforms.yaml").read_bytes()
    return {each.name: each for each in msgspec.yaml.decode(table, type=list[Platform])}


def find(name: str) -> Platform:
    """Return a platform by its name.

    Raises:
        ConfigError: there is none; names the nearest, and all.
    """
    if found := platforms().get(name):
        return found
    near = difflib.get_close_matches(name.lower(), platforms(), n=1, cutoff=0.5)
    hint = f", did you mean {near[0]}?" if near else ";"
    raise ConfigError(f"no platform {name!r}{hint} the platforms are {', '.join(platforms())}")


def listing() -> str:
    """Return one line for each platform."""
    width = max(map(len, platforms()))
    return "".join(f"{name:<{width}}  {each.title}\n" for name, each in platforms().items())


class StubTarget(msgspec.Struct, frozen=True):
    """Addresses and port of mcsdns, and zones to ask it for.

    Attributes:
        hosts: IP addresses in their short form.
        zones: lower case, without a dot at the end.
    """

    hosts: tuple[str, ...]
    zones: tuple[str, ...] = (DEFAULT_ZONE,)
    port: int = DNS_PORT

    @property
    def targets(self) -> list[str]:
        """The addresses as CoreDNS and Go have them: the port where it is not 53."""
        if self.port == DNS_PORT:
            return list(self.hosts)
        return [ip.with_port(host, self.port) for host in self.hosts]

    def targets_with(self, sign: str) -> list[str]:
        """Return the addresses with a sign before the port: `@` for Unbound, `#` for dnsmasq."""
        port = "" if self.port == DNS_PORT else f"{sign}{self.port}"
        return [f"{host}{port}" for host in self.hosts]

    @property
    def stub_domains(self) -> dict[str, list[str]]:
        """The addresses of each zone, as kube-dns has them."""
        return dict.fromkeys(self.zones, self.targets)

    @property
    def flags(self) -> str:
        """The flags of `mcsdns stub` that stand for this."""
        words = [f"--ip {host}" for host in self.hosts]
        if self.zones != (DEFAULT_ZONE,):
            words += [f"--zone {zone}" for zone in self.zones]
        if self.port != DNS_PORT:
            words.append(f"--port {self.port}")
        return " ".join(words)

    @property
    def is_loopback(self) -> bool:
        """Whether an address is of the host itself."""
        return any(ipaddress.ip_address(host).is_loopback for host in self.hosts)


def read_target(
    hosts: Sequence[str], zones: Sequence[str], port: int = DNS_PORT, *, on_host: bool = False
) -> StubTarget:
    """Check what a user gave; what is given twice counts once.

    Raises:
        ConfigError: an address, zone or port that cannot be right, with what to give instead.
    """
    if not hosts:
        raise ConfigError(f"--ip is missing; {_THE_SERVICE}")
    if not 0 < port <= ip.MAX_PORT:
        raise ConfigError(f"--port {port}: this is no port; 1 to {ip.MAX_PORT} are")
    wanted = tuple(dict.fromkeys(_address(host, on_host=on_host) for host in hosts))
    if len(wanted) > MAX_ADDRESSES:
        raise ConfigError(f"--ip: {len(wanted)} addresses; CoreDNS takes {MAX_ADDRESSES}")
    return StubTarget(wanted, tuple(dict.fromkeys(map(_zone, zones))) or (DEFAULT_ZONE,), port)


def render(platform: Platform, target: StubTarget) -> str:
    """Return what is to be applied, comments included.

    Raises:
        ConfigError: the platform cannot have such addresses.
    """
    import jinja2  # noqa: PLC0415 - of use to this command only, and takes 0.1 s

    if platform.dnsmasq_reads and target.port != DNS_PORT:
        for host in target.hosts:
            if ":" in host:
                raise ConfigError(
                    f"--ip {host}: {platform.name} cannot be told an IPv6 address with a port; "
                    "have mcsdns answer on port 53, and leave out --port"
                )
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the texts are no HTML, and what is put in was checked by `read_target`
    )
    return templates.get_template(f"{platform.example_file}.j2").render(
        target=target,
        zones=target.zones,
        command=f"mcsdns stub {platform.name} {target.flags}",
    )


def _address(text: str, *, on_host: bool) -> str:
    try:
        address = ipaddress.ip_address(ip.drop_scope(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ConfigError(f"--ip {text!r}: {_why_no_address(text)}") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if why := _why_no_server(address, on_host=on_host):
        raise ConfigError(f"--ip {text!r}: {why}; {_THE_SERVICE}")
    return str(address)


def _why_no_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    with suppress(ValueError):
        ipaddress.ip_address(host)
        if port.isdigit():
            return f"the port has a flag of its own; write --ip {host} --port {port}"
    if "/" in text:
        return f"this is a network; {_THE_SERVICE}"
    if names.is_dns_label(text.lower().split(".")[-1]) and not text[-1:].isdigit():
        return (
            "this is a host name, and whoever resolved it would need the DNS that is set up here; "
            + _THE_SERVICE
        )
    return f"this is no IP address; {_THE_SERVICE}"


def _why_no_server(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, *, on_host: bool
) -> str | None:
    if address.is_unspecified:
        return "a server listens on this, and nobody can ask it there"
    if address.is_multicast or str(address) == "255.255.255.255":
        return "this is an address of many, none of one server"
    if address.is_loopback and not on_host:
        return "for the pods that read this text it is the pod itself"
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local:
        return "this address counts on one interface only"
    return None


def _zone(text: str) -> str:
    zone = text.lower().removesuffix(".")
    if not all(map(names.is_dns_label, zone.split("."))) or len(zone) > _MAX_ZONE:
        raise ConfigError(
            f"--zone {text!r}: this is no zone; write labels of letters, digits and hyphens, "
            f"as {DEFAULT_ZONE}"
        )
    if f".{_CLUSTER_DOMAIN}".endswith(f".{zone}"):
        raise ConfigError(
            f"--zone {text!r}: this would take {_CLUSTER_DOMAIN} from the cluster DNS; "
            "name the zone that mcsdns serves"
        )
    return zone
