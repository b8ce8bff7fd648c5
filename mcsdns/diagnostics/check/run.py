"""One run of `check`: through where the objects come from, then over the wire to the servers.

The API server or the manifests come first, then the objects; then mcsdns itself, the cluster DNS
before it, and how this host looks names up. No server is waited for longer than a few seconds.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import anyio
import msgspec

from mcsdns.config.environment import in_pod
from mcsdns.diagnostics.check import cluster_dns
from mcsdns.diagnostics.check.api import Api, check_permissions, check_versions
from mcsdns.diagnostics.check.cluster_dns import Resolver, check_corefiles, check_node_local
from mcsdns.diagnostics.check.finding import Finding, Outcome, Reason, error, joined, warning
from mcsdns.diagnostics.check.objects import check_objects
from mcsdns.diagnostics.check.plan import Address, Plan
from mcsdns.diagnostics.check.probe import ProbeState, probe
from mcsdns.diagnostics.check.server import Expected, check_loops, check_server, expected_of
from mcsdns.diagnostics.check.stub_block import check_stub_block
from mcsdns.diagnostics.client import RemoteServer
from mcsdns.diagnostics.offline import read_once
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.dns.name import Name
from mcsdns.dns.request import Transport
from mcsdns.errors import SourceError
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.kubernetes.api import ApiServer
from mcsdns.sources.kubernetes.auth import Access
from mcsdns.sources.kubernetes.codec import ApiError
from mcsdns.sources.kubernetes.reflector import Trouble

RESOLV_CONF: str = "/etc/resolv.conf"
NSSWITCH: str = "/etc/nsswitch.conf"
_READ_S: Final = 60.0
_TRIES: Final = 2
_MAX_FILE_BYTES: Final = 1 << 16
_LOCAL: Final = names.from_text("local")
_HOSTS: Final = re.compile(r"^\s*hosts:(.*)", re.MULTILINE)
_STEP: Final = re.compile(r"\[([^\]]*)\]|(\S+)")
_STOPS: Final = re.compile(
    r"(?:^|\s)(?:NOTFOUND|!\s*(?:SUCCESS|UNAVAIL|TRYAGAIN))\s*=\s*return", re.I
)


def run(plan: Plan) -> Outcome:
    """Look at all that can be reached.

    Raises:
        ConfigError, SourceError: what is named is not there, or malformed.
    """
    source = anyio.run(check_source, plan)
    return joined([*source.outcomes, *_check_dns(plan, source)])


class SourceCheck(msgspec.Struct):
    """What the source of the objects came to.

    Attributes:
        state: None where the objects were not read.
        resolvers: the cluster DNS, by the API. stub_block: whether its ConfigMaps have the zones.
    """

    outcomes: list[Outcome]
    state: ZoneState | None = None
    resolvers: list[Resolver] = []
    stub_block: Outcome = Outcome()


async def check_source(plan: Plan) -> SourceCheck:
    """Look at the API server, read the objects, and look at them.

    Raises:
        ConfigError, SourceError: what is named is not there, or malformed.
    """
    found = SourceCheck([])
    if plan.access is not None:
        await _check_api(plan, plan.access, found)
    elif plan.settings.manifests:
        found.state = await read_once(plan.settings)
        found.outcomes.append(Outcome(checked=(", ".join(plan.settings.manifests),)))
    if found.state is not None:
        all_imports = not plan.settings.import_selector
        found.outcomes.append(check_objects(found.state, all_imports=all_imports))
    return found


async def _check_api(plan: Plan, access: Access, found: SourceCheck) -> None:
    """Look at the API server, then read all objects, as `serve` does."""
    server = ApiServer(access)
    api = Api(server)
    try:
        found.outcomes.append(await check_versions(api))
        permissions = await check_permissions(
            api, plan.settings.namespace, plan.account, in_pod=access.in_cluster
        )
        found.outcomes.append(permissions)
        found.outcomes.append(await check_node_local(api, plan.zones))
        found.resolvers = await cluster_dns.of_api(api, is_certain=in_pod())
        found.stub_block = await check_corefiles(api, plan.zones)
    except ApiError as failure:
        found.outcomes.append(Outcome((_about_api(failure, api.url),)))
    finally:
        await server.close()
    before = joined(found.outcomes)
    no_permission = before.has(Reason.NO_PERMISSION)
    if (access.in_cluster and no_permission) or before.has(
        Reason.API_AWAY, Reason.NOT_AUTHENTICATED, Reason.CRD_MISSING
    ):
        why = "objects: they cannot be read before that is put right"
        found.outcomes.append(Outcome(skipped=(why,)))
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
        found.outcomes.append(Outcome(skipped=(f"objects: {why}",)))
        return
    not_read = error(
        Reason.NOT_READ,
        f"the objects cannot be read: {why}",
        "API server, as the user of this kubeconfig",
        "see what the line says; where mcsdns has an account of its own, its log says how it fares",
    )
    found.outcomes.append(Outcome((not_read,)))


def _about_api(failure: ApiError, url: str) -> Finding:
    if failure.trouble is Trouble.UNAUTHORIZED:
        return error(
            Reason.NOT_AUTHENTICATED,
            f"the API server does not know who asks: {failure}",
            url,
            "renew the token or certificate; `kubectl auth whoami` with the same kubeconfig shows "
            "whether it is taken",
        )
    return error(
        Reason.API_AWAY,
        f"the API server does not do as asked: {failure}",
        url,
        "check the server's address in the kubeconfig, firewalls, and in a pod the NetworkPolicy "
        "(egress to the API server)",
    )


def _check_dns(plan: Plan, source: SourceCheck) -> Iterator[Outcome]:
    """Ask every server that can be asked, and compare what they answer."""
    expected = [Expected(zone) for zone in plan.zones]
    if source.state is not None:
        expected = expected_of(source.state)
    answering: dict[str, RemoteServer] = {}
    if plan.server:
        where, server = f"{ip.with_port(*plan.server)} (--server)", _client(plan, plan.server)
        outcome = check_server(server, where, expected)
        yield outcome
        if not outcome.has(Reason.SERVER_SILENT):
            answering[where] = server
            expected = [_as_served(server, each) for each in expected]
    outcomes: list[Outcome] = []
    for resolver in _resolvers(plan, source):
        server = _client(plan, (resolver.host, resolver.port))
        outcome = check_stub_block(resolver, server, expected)
        if not outcome.skipped and not outcome.has(Reason.CLUSTER_DNS_SILENT):
            answering[str(resolver)] = server
        outcomes.append(outcome)
    yield from outcomes
    if not outcomes:
        why = "it is not known; give --cluster-dns ADDR:PORT"
        if in_pod():
            why = f"{RESOLV_CONF} is that of the node (dnsPolicy: Default), so {why}"
        yield Outcome(skipped=(f"stub block of the cluster DNS: {why}",))
    if all(each.skipped for each in outcomes):
        yield source.stub_block
    yield check_loops(answering)
    nsswitch = _text_of(NSSWITCH)
    if nsswitch and (plan.server or plan.cluster_dns or in_pod()):
        yield check_nsswitch(nsswitch, plan.zones, NSSWITCH)


def _client(plan: Plan, address: Address) -> RemoteServer:
    return RemoteServer(*address, timeout_s=plan.timeout_s, tries=_TRIES)


def _as_served(server: RemoteServer, expected: Expected) -> Expected:
    """Expect of the cluster DNS what mcsdns answers as it runs, if it answers."""
    if expected.service is None:
        return expected
    reply = probe(server, expected.service, Transport.TCP)
    if reply.state is not ProbeState.ANSWERED:
        return expected
    return msgspec.structs.replace(expected, data=reply.data)


def _resolvers(plan: Plan, source: SourceCheck) -> Sequence[Resolver]:
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


def check_nsswitch(text: str, zones: Sequence[Name], path: str) -> Outcome:
    """Find out whether this host asks multicast DNS for names below `.local` and stops there.

    `text` is that of nsswitch.conf; what matters is what stands before `dns` (nss-mdns).
    """
    concerned = [zone for zone in zones if names.is_at_or_below(zone, _LOCAL)]
    module = _stops_at(text)
    if not concerned or not module:
        return Outcome(checked=(f"{path}: dns is asked for .local",))
    finding = warning(
        Reason.MDNS_FIRST,
        f"programs of this host may never ask DNS for names below .local: {module} "
        "[NOTFOUND=return] stands before dns (nss-mdns; recent ones pass on names of more than two "
        "labels, unless /etc/mdns.allow has .local)",
        f"{path}, line hosts",
        f"put dns before {module}, or serve a zone that does not end in .local (--zone); dig and "
        "mcsdns ask DNS in any case, `getent hosts NAME` does as programs do",
    )
    return Outcome((finding,), (path,))


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
