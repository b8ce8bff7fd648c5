"""Who answers the pods of the cluster: as given, by a pod's resolv.conf, or by the API."""

import ipaddress
from collections.abc import Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.api import Api
from mcsdns.forward.resolv_conf import nameservers
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_MOST: Final = 3
"""As many as glibc asks."""
_DNS_PORT: Final = 53
_LINK_LOCAL: Final = ipaddress.ip_network("169.254.0.0/16")
_SERVICES: Final = (
    ("kube-system", "kube-dns"),
    ("kube-system", "coredns"),
    ("kube-system", "rke2-coredns-rke2-coredns"),
    ("openshift-dns", "dns-default"),
)


class Resolver(msgspec.Struct, frozen=True):
    """A server that pods ask.

    Attributes:
        known_by: who says so. is_certain: whether it can be reached from here if it is well.
    """

    host: str
    port: int
    known_by: str
    is_certain: bool = True

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        kind = "NodeLocal DNSCache" if self.is_node_local else "cluster DNS"
        return f"{kind} {host}:{self.port} ({self.known_by})"

    @property
    def is_node_local(self) -> bool:
        """Whether it is a cache on the node, by its address (usually 169.254.20.10)."""
        try:
            return ipaddress.ip_address(self.host) in _LINK_LOCAL
        except ValueError:
            return False


def of_resolv_conf(text: str, path: str) -> list[Resolver]:
    """Return the name servers of a pod; none where they are those of the node.

    A pod with `dnsPolicy: Default`, as mcsdns has it, looks names up as its node does; the search
    list of all others begins with `<ns>.svc.<cluster domain>`.
    """
    words = [line.split() for line in text.splitlines()]
    domains = [each for line in words if line and line[0] == "search" for each in line[1:]]
    if not any(".svc." in f".{each}." for each in domains):
        return []
    return [Resolver(each.host, each.port, path) for each in nameservers(text, ())[:_MOST]]


class _Spec(msgspec.Struct, rename="camel"):
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")


class _Service(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


async def of_api(api: Api, *, is_certain: bool) -> list[Resolver]:
    """Return the addresses of the cluster DNS's Service; none where it is not found, or forbidden.

    Raises:
        ApiError: the API server does not answer.
    """
    for namespace, name in _SERVICES:
        path = f"/api/v1/namespaces/{namespace}/services/{name}"
        try:
            service = await api.read_as(path, _Service)
        except ApiError as refusal:
            if refusal.trouble is not Trouble.FORBIDDEN:
                raise
            continue
        found = _addresses(service.spec) if service else ()
        if found:
            known_by = f"Service {namespace}/{name}"
            return [Resolver(each, _DNS_PORT, known_by, is_certain) for each in found]
    return []


def _addresses(spec: _Spec) -> Sequence[str]:
    given = spec.cluster_ips or [spec.cluster_ip or ""]
    return [each for each in given if each not in ("", "None")]
