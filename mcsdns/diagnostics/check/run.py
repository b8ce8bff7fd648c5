"""One run of `check`: through where the objects come from, then over the wire to the servers.

The API server or the manifests come first, then the objects; then mcsdns itself, the cluster DNS
before it, and how this host looks names up. No server is waited for longer than a few seconds.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
import msgspec

from mcsdns import config
from mcsdns.config.environment import in_pod
from mcsdns.diagnostics.check import cluster_dns
from mcsdns.diagnostics.check.api import (
    Account,
    Api,
    account_from_text,
    check_permissions,
    check_versions,
)
from mcsdns.diagnostics.check.cluster_dns import Resolver
from mcsdns.diagnostics.check.finding import Reason, Report
from mcsdns.diagnostics.check.objects import check_objects
from mcsdns.diagnostics.check.probe import Peer, ProbeState, look_at, probe
from mcsdns.diagnostics.check.server import (
    Expected,
    check_loops,
    check_server,
    check_stub_block,
    expected_of,
)
from mcsdns.diagnostics.client import TIMEOUT_S, RemoteServer, server_from_text
from mcsdns.diagnostics.offline import read_once
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.request import NameServer, Transport
from mcsdns.errors import ConfigError, NoSourceError, SourceError
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

Address = tuple[str, int]
"""Host and port."""
RESOLV_CONF: str = "/etc/resolv.conf"
NSSWITCH: str = "/etc/nsswitch.conf"
_NOTHING: Final = (
    "nothing to check: give --manifests PATH, --kubeconfig FILE, --server ADDR:PORT or "
    "--cluster-dns ADDR:PORT"
)
_MAX_TIMEOUT_S: Final = 60
_READ_S: Final = 60.0
_TRIES: Final = 2
_MAX_FILE_BYTES: Final = 1 << 16
_LOCAL: Final = names.from_text("local")
_HOSTS: Final = re.compile(r"^\s*hosts:(.*)", re.MULTILINE)
_STEP: Final = re.compile(r"\[([^\]]*)\]|(\S+)")
_STOPS: Final = re.compile(
    r"(?:^|\s)(?:NOTFOUND|!\s*(?:SUCCESS|UNAVAIL|TRYAGAIN))\s*=\s*return", re.I
)


class Plan(msgspec.Struct, frozen=True):
    """What is to be looked at.

    Attributes:
        access: how to reach the API server, None where there is none to ask.
    """

    settings: config.Settings
    access: Access | None
    server: Address | None
    cluster_dns: Address | None
    account: Account
    timeout_s: float

    @property
    def zones(self) -> Sequence[Name]:
        """The zones that mcsdns is to serve, or a sidecar is to forward."""
        return [names.from_text(zone) for zone in self.settings.zone]


def plan_of(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Plan:
    """Read what is asked for.

    Raises:
        ConfigError: it cannot be done.
    """
    settings = config.load(flags, environment)
    server, cluster_dns = (
        server_from_text(flags[name], "--" + name.replace("_", "-")) if flags[name] else None
        for name in ("server", "cluster_dns")
    )
    timeout_s = flags["timeout"] if flags["timeout"] is not None else TIMEOUT_S
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise ConfigError(f"--timeout: {timeout_s:g} is not more than 0 and at most 60 seconds")
    given = flags["service_account"]
    account = account_from_text(given) if given else Account()
    try:
        access = settings.access()
    except NoSourceError:
        access = None
    if not (access or settings.manifests or server or cluster_dns or in_pod()):
        raise ConfigError(_NOTHING)
    return Plan(settings, access, server, cluster_dns, account, timeout_s)


def run(plan: Plan) -> Report:
    """Look at all that can be reached.

    Raises:
        ConfigError, SourceError: what is named is not there, or malformed.
    """
    report = Report()
    source = anyio.run(_check_source, report, plan)
    _check_dns(report, plan, source)
    return report


class _Source(msgspec.Struct):
    """What the source of the objects came to.

    Attributes:
        state: None where the objects were not read.
        resolvers: the cluster DNS, by the API. corefiles: what its ConfigMaps say.
    """

    state: ZoneState | None = None
    resolvers: list[Resolver] = []
    corefiles: dict[str, list[str]] = {}


async def _check_source(report: Report, plan: Plan) -> _Source:
    """Look at the API server, read the objects, and look at them."""
    found = _Source()
    if plan.access is not None:
        await _check_api(report, plan, plan.access, found)
    elif plan.settings.manifests:
        found.state = await read_once(plan.settings)
        report.checked.append(", ".join(plan.settings.manifests))
    if found.state is not None:
        check_objects(report, found.state, all_imports=not plan.settings.import_selector)
    return found


async def _check_api(report: Report, plan: Plan, access: Access, found: _Source) -> None:
    """Look at the API server, then read all objects, as `serve` does."""
    server = ApiServer(access)
    api = Api(server)
    try:
        await check_versions(report, api)
        namespaces = plan.settings.namespace
        await check_permissions(report, api, namespaces, plan.account, in_pod=access.in_cluster)
        await cluster_dns.check_node_local(report, api, plan.zones)
        found.resolvers = await cluster_dns.of_api(api, is_certain=in_pod())
        found.corefiles = await cluster_dns.read_corefiles(api)
    except ApiError as failure:
        _report_failure(report, failure, api.url)
    finally:
        await server.close()
    no_permission = report.has(Reason.NO_PERMISSION)
    if (access.in_cluster and no_permission) or report.has(
        Reason.API_AWAY, Reason.NOT_AUTHENTICATED, Reason.CRD_MISSING
    ):
        report.skipped.append("objects: they cannot be read before that is put right")
        return
    try:
        with anyio.fail_after(_READ_S):
            found.state = await read_once(plan.settings)
            return
    except SourceError as failure:
        why = str(failure)
    except TimeoutError:
        why = f"it takes longer than {_READ_S:g} s"
    if no_permission:  # which says it already
        report.skipped.append(f"objects: {why}")
        return
    report.error(
        Reason.NOT_READ,
        f"the objects cannot be read: {why}",
        "API server, as the user of this kubeconfig",
        "see what the line says; where mcsdns has an account of its own, its log says how it fares",
    )


def _report_failure(report: Report, failure: ApiError, url: str) -> None:
    if failure.trouble is Trouble.UNAUTHORIZED:
        report.error(
            Reason.NOT_AUTHENTICATED,
            f"the API server does not know who asks: {failure}",
            url,
            "renew the token or certificate; `kubectl auth whoami` with the same kubeconfig shows "
            "whether it is taken",
        )
        return
    report.error(
        Reason.API_AWAY,
        f"the API server does not do as asked: {failure}",
        url,
        "check the server's address in the kubeconfig, firewalls, and in a pod the NetworkPolicy "
        "(egress to the API server)",
    )


def _check_dns(report: Report, plan: Plan, source: _Source) -> None:
    """Ask every server that can be asked, and compare what they answer."""
    expected = [Expected(zone) for zone in plan.zones]
    if source.state is not None:
        expected = expected_of(source.state)
    peers: list[Peer] = []
    resolvers_asked = 0
    if plan.server:
        server = _look_at(plan, plan.server, f"{ip.with_port(*plan.server)} (--server)")
        peers.append(server)
        check_server(report, server, expected)
        if server.is_whole:
            expected = [_as_served(server.client, each) for each in expected]
    resolvers = _resolvers(plan, source)
    for resolver in resolvers:
        address = resolver.host, resolver.port
        peer = _look_at(plan, address, str(resolver), is_node_local=resolver.is_node_local)
        if not (peer.alive or resolver.is_certain):
            text = "run `mcsdns check` in a pod, or give --cluster-dns ADDR:PORT"
            report.skipped.append(f"stub block: {resolver} cannot be reached from here; {text}")
            continue
        peers.append(peer)
        resolvers_asked += 1
        check_stub_block(report, peer, expected)
    if not resolvers:
        why = "it is not known; give --cluster-dns ADDR:PORT"
        if in_pod():
            why = f"{RESOLV_CONF} is that of the node (dnsPolicy: Default), so {why}"
        report.skipped.append(f"stub block of the cluster DNS: {why}")
    if not resolvers_asked and source.corefiles:
        cluster_dns.check_corefiles(report, source.corefiles, plan.zones)
    check_loops(report, [peer for peer in peers if peer.is_whole])
    nsswitch = _text_of(NSSWITCH)
    if nsswitch and (plan.server or plan.cluster_dns or in_pod()):
        check_nsswitch(report, nsswitch, plan.zones, NSSWITCH)


def _look_at(plan: Plan, address: Address, where: str, *, is_node_local: bool = False) -> Peer:
    server = RemoteServer(*address, timeout_s=plan.timeout_s, tries=_TRIES)
    return look_at(server, where, is_node_local=is_node_local)


def _as_served(server: NameServer, expected: Expected) -> Expected:
    """Expect of the cluster DNS what mcsdns answers as it runs, if it answers."""
    if expected.service is None:
        return expected
    reply = probe(server, expected.service, Transport.TCP)
    if reply.state is not ProbeState.ANSWERED:
        return expected
    return msgspec.structs.replace(expected, data=reply.data)


def _resolvers(plan: Plan, source: _Source) -> Sequence[Resolver]:
    if plan.cluster_dns:
        return [Resolver(*plan.cluster_dns, "--cluster-dns")]
    of_pod = cluster_dns.of_resolv_conf(_text_of(RESOLV_CONF), RESOLV_CONF) if in_pod() else []
    return of_pod or source.resolvers


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError:
        return ""


def check_nsswitch(report: Report, text: str, zones: Sequence[Name], path: str) -> None:
    """Find out whether this host asks multicast DNS for names below `.local` and stops there.

    `text` is that of nsswitch.conf; what matters is what stands before `dns` (nss-mdns).
    """
    concerned = [zone for zone in zones if names.is_at_or_below(zone, _LOCAL)]
    module = _stops_at(text)
    if not concerned or not module:
        report.checked.append(f"{path}: dns is asked for .local")
        return
    report.checked.append(path)
    report.warning(
        Reason.MDNS_FIRST,
        f"programs of this host may never ask DNS for names below .local: {module} "
        "[NOTFOUND=return] stands before dns (nss-mdns; recent ones pass on names of more than two "
        "labels, unless /etc/mdns.allow has .local)",
        f"{path}, line hosts",
        f"put dns before {module}, or serve a zone that does not end in .local (--zone); dig and "
        "mcsdns ask DNS in any case, `getent hosts NAME` does as programs do",
    )


def _stops_at(text: str) -> str:
    """Return the module of multicast DNS behind which nothing is asked; empty if there is none."""
    line = _HOSTS.search(re.sub(r"#.*", "", text))
    module = ""
    for action, service in _STEP.findall(line[1] if line else ""):
        if service == "dns":
            return ""
        if service:
            module = service if service.startswith("mdns") else ""
        elif module and _STOPS.search(action):
            return module
    return ""
