"""The cluster DNS as the API and a pod's resolv.conf describe it: who answers pods, and for what.

NodeLocal DNSCache answers before the cluster DNS, and needs a stub block of its own: it sends what
is not of the cluster to the node's resolvers, so a stub block in the cluster DNS alone is never
asked. Its blocks come from two ConfigMaps.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.check.api import Api
from mcsdns.diagnostics.check.finding import Finding, Reason, Report, Severity
from mcsdns.diagnostics.explain.present import listed, shown
from mcsdns.dns import ip
from mcsdns.dns.name import Name
from mcsdns.dns.types import DNS_PORT
from mcsdns.forward.resolv_conf import nameservers
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

_MOST_SERVERS: Final = 3
"""As many as glibc asks."""
_LINK_LOCAL: Final = "169.254."
_SERVICES: Final = (
    ("kube-system", "kube-dns"),
    ("kube-system", "coredns"),
    ("kube-system", "rke2-coredns-rke2-coredns"),
    ("openshift-dns", "dns-default"),
)
_CONFIG_MAPS: Final = (
    ("kube-system", "coredns"),
    ("kube-system", "coredns-custom"),
    ("kube-system", "kube-dns"),
    ("kube-system", "rke2-coredns-rke2-coredns"),
    ("openshift-dns", "dns-default"),
)
_PUNCTUATION: Final = str.maketrans(dict.fromkeys(':"{}[],', " "))
_NAMESPACE: Final = "kube-system"
_NODE_LOCAL: Final = "node-local-dns"
_NODE_LOCAL_CONFIG_MAPS: Final = ("node-local-dns", "kube-dns")


class Resolver(msgspec.Struct, frozen=True):
    """A server that pods ask.

    Attributes:
        known_by: where it is known from.
        is_certain: whether it can be reached from here if it is well.
    """

    host: str
    port: int
    known_by: str
    is_certain: bool = True

    def __str__(self) -> str:
        kind = "NodeLocal DNSCache" if self.is_node_local else "cluster DNS"
        return f"{kind} {ip.with_port(self.host, self.port)} ({self.known_by})"

    @property
    def is_node_local(self) -> bool:
        """Whether it is a cache on the node, by its address (usually 169.254.20.10)."""
        return self.host.startswith(_LINK_LOCAL)


def of_resolv_conf(text: str, path: str) -> list[Resolver]:
    """Return the name servers of a pod; none where they are those of the node.

    A pod with `dnsPolicy: Default`, as mcsdns has it, looks names up as its node does; the search
    list of all others begins with `<ns>.svc.<cluster domain>`.
    """
    words = [line.split() for line in text.splitlines()]
    domains = [each for line in words if line and line[0] == "search" for each in line[1:]]
    if not any(".svc." in f".{each}." for each in domains):
        return []
    return [Resolver(each.host, each.port, path) for each in nameservers(text, ())[:_MOST_SERVERS]]


class _Spec(msgspec.Struct):
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
        given = service.spec.cluster_ips if service else None
        if found := [each for each in given or () if each not in ("", "None")]:
            known_by = f"Service {namespace}/{name}"
            return [Resolver(each, DNS_PORT, known_by, is_certain) for each in found]
    return []


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] | None = None


async def _texts_of(api: Api, namespace: str, name: str) -> list[str]:
    """Return the values of a ConfigMap; none where there is none.

    Raises:
        ApiError: it cannot be read.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
    found = await api.read_as(path, _ConfigMap)
    return list((found.data or {}).values()) if found else []


def _missing(zones: Iterable[Name], texts: Iterable[str]) -> list[str]:
    """Return the zones that no Corefile has a block for, and no `stubDomains` a key."""
    words = {
        word
        for text in texts
        for line in text.lower().splitlines()
        for word in line.partition("#")[0].translate(_PUNCTUATION).split()
    }
    return [name for name in map(shown, zones) if words.isdisjoint((name, f"{name}."))]


async def read_corefiles(api: Api) -> dict[str, list[str]]:
    """Read what the usual platforms configure their cluster DNS by.

    Returns the texts of each ConfigMap; none where they may not be read.

    Raises:
        ApiError: the API server does not answer.
    """
    found: dict[str, list[str]] = {}
    try:
        for namespace, name in _CONFIG_MAPS:
            if texts := await _texts_of(api, namespace, name):
                found[f"{namespace}/{name}"] = texts
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        return {}
    return found


def check_corefiles(
    report: Report, corefiles: Mapping[str, Sequence[str]], zones: Sequence[Name]
) -> None:
    """Look for the zones in what the cluster DNS is configured by."""
    missing = _missing(zones, itertools.chain(*corefiles.values()))
    where = f"ConfigMap {listed(list(corefiles))}"
    if not missing:
        report.checked.append(f"{where} has a stub block")
        return
    report.checked.append(where)
    report.warning(
        Reason.STUB_BLOCK_MISSING,
        f"the cluster DNS is not configured for {listed(missing)}: no stub block sends it to "
        "mcsdns",
        where,
        "add what `mcsdns stub PLATFORM --ip <ClusterIP of the mcsdns Service>` prints; where the "
        "platform keeps its configuration elsewhere, run `mcsdns check` in a pod, which asks",
    )


async def check_node_local(report: Report, api: Api, zones: Sequence[Name]) -> None:
    """Look for the DaemonSet, and for the zones in what it is configured by.

    Raises:
        ApiError: the API server does not answer.
    """
    path = f"/apis/apps/v1/namespaces/{_NAMESPACE}/daemonsets/{_NODE_LOCAL}"
    try:
        if await api.read(path) is None:
            report.checked.append("no NodeLocal DNSCache")
            return
        texts: list[str] = []
        for name in _NODE_LOCAL_CONFIG_MAPS:
            texts += await _texts_of(api, _NAMESPACE, name)
    except ApiError as refusal:
        if refusal.trouble is not Trouble.FORBIDDEN:
            raise
        report.skipped.append("NodeLocal DNSCache: its objects may not be read here")
        return
    report.checked.append("NodeLocal DNSCache")
    where = f"DaemonSet {_NAMESPACE}/{_NODE_LOCAL}"
    if missing := _missing(zones, texts):
        report.error(
            Reason.NODE_LOCAL_DNS,
            f"NodeLocal DNSCache answers pods before the cluster DNS, and has no stub block for "
            f"{listed(missing)}: it sends these names to the node's resolvers",
            f"ConfigMaps {_NAMESPACE}/{' and '.join(_NODE_LOCAL_CONFIG_MAPS)}, {where}",
            "add what `mcsdns stub nodelocal --ip <ClusterIP of the mcsdns Service>` prints; what "
            "it answered before stays in its cache until its TTL ends",
        )
        return
    note = Finding(
        Severity.NOTE,
        Reason.NODE_LOCAL_DNS,
        "NodeLocal DNSCache answers pods before the cluster DNS, with a stub block of its own; "
        "it keeps answers longer than our TTL says, negative ones too",
        where,
        "`cache 5` in its stub block keeps it as short as our TTL",
    )
    report.add(note)
