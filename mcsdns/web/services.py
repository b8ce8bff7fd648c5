"""The services as a list: which ones match, and what an operator wants to know of each.

All of it is done in slices. Between two of them objects may come and go, so a service may match and
yet be gone when it is described.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from mcsdns.diagnostics.explain.model import JudgedCondition
from mcsdns.diagnostics.service_health import (
    ClusterEndpoints,
    EndpointCounter,
    cut,
    own_addresses,
    troubles_of,
)
from mcsdns.dns import ip
from mcsdns.dns import name as names
from mcsdns.objects import model
from mcsdns.objects.conditions import is_bad
from mcsdns.objects.model import ImportType
from mcsdns.objects.store import Service, ServiceKey
from mcsdns.server.zone_state import ZoneState
from mcsdns.sources.timeslice import Timeslice
from mcsdns.zone.records import ServiceNode
from mcsdns.zone.tree import labels_of_key

MOST_ROWS: Final = 200
_MOST_EACH: Final = 24
"""Of clusters, ports, addresses, conditions and troubles of one service."""
_BATCH: Final = 200


class ListOptions(msgspec.Struct, frozen=True):
    """Which services to list.

    Attributes:
        text: words that all have to be in `<namespace>/<name>` or `<name>.<namespace>`.
        troubled: only those with something wrong.
        after: those that come after this one. limit: how many at most.
    """

    text: str = ""
    troubled: bool = False
    after: ServiceKey | None = None
    limit: int = 50


class ServiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One service.

    Attributes:
        fqdn: its name in the first zone. asked: a type it has records of.
        resolves: whether that name has an address.
        conditions: of its status, the bad ones first; these are among the troubles, in words.
        more: how many clusters, ports, addresses and conditions are left out.
    """

    namespace: str
    name: str
    fqdn: str
    asked: str
    type: str
    api_version: str
    resolves: bool
    ips: Sequence[str]
    ports: Sequence[model.Port]
    clusters: Sequence[ClusterEndpoints]
    conditions: Sequence[JudgedCondition]
    troubles: Sequence[str]
    endpoints: int
    ready: int
    more: int


class ServicePage(msgspec.Struct, frozen=True):
    """Some of the services, by namespace and name.

    Attributes:
        total: all there are. matched: those that match, on any page.
        next: the `after` of the next page, as `<namespace>/<name>`; empty on the last one.
    """

    total: int
    matched: int
    services: Sequence[ServiceRow]
    next: str


async def list_services(
    zone_state: ZoneState, options: ListOptions, timeslice: Timeslice
) -> ServicePage:
    """Find the services that match and describe a page of them."""
    keys = list(zone_state.store.imports)
    words = words_of(options.text)
    matched = later = 0
    best: list[ServiceKey] = []
    for start in range(0, len(keys), _BATCH):
        found = [key for key in keys[start : start + _BATCH] if _matches(key, words)]
        if options.troubled:
            found = await _troubled(zone_state, found, timeslice)
        matched += len(found)
        ahead = [key for key in found if options.after is None or key > options.after]
        later += len(ahead)
        best = sorted(best + ahead)[: options.limit]
        await timeslice.checkpoint()
    rows: list[ServiceRow] = []
    for key in best:
        row = await _describe(zone_state, key, timeslice)
        if row is not None:
            rows.append(row)
    following = "/".join(best[-1]) if later > len(best) else ""
    return ServicePage(len(keys), matched, rows, following)


def words_of(text: str) -> list[str]:
    """Split what was typed; a whole domain name counts as the service it belongs to."""
    return [word.partition(".svc.")[0].removesuffix(".svc") for word in text.lower().split()]


def _matches(key: ServiceKey, words: Iterable[str]) -> bool:
    text = f"{key[0]}/{key[1]}.{key[0]}"
    return all(word in text for word in words)


async def _troubled(
    zone_state: ZoneState, keys: Iterable[ServiceKey], timeslice: Timeslice
) -> list[ServiceKey]:
    found: list[ServiceKey] = []
    for key in keys:
        service = zone_state.store.get(key)
        node = zone_state.tree.services.get(labels_of_key(key))
        if service and any(True for _ in troubles_of(service, node)):
            found.append(key)
        await timeslice.checkpoint()
    return found


async def _describe(
    zone_state: ZoneState, key: ServiceKey, timeslice: Timeslice
) -> ServiceRow | None:
    service = zone_state.store.get(key)
    if service is None:
        return None
    counter = EndpointCounter(service.imported.clusters)
    for piece in service.slices:
        counter.add(piece)
        await timeslice.checkpoint()
    clusters = [msgspec.structs.replace(each, id=cut(each.id)) for each in counter.clusters()]
    labels = labels_of_key(key)
    node = zone_state.tree.services.get(labels)
    own = own_addresses(node)
    imported = service.imported
    ips = [cut(ip.to_text(each)) for each in _addresses(service, node)]
    ports = _ports(service)
    conditions = sorted(imported.conditions, key=lambda each: not is_bad(each))
    return ServiceRow(
        namespace=imported.namespace,
        name=imported.name,
        fqdn=names.to_text(names.service_name(labels, zone_state.tree.settings.zones[0])),
        asked="AAAA" if own and not own.a else "A",
        type=imported.type.value,
        api_version=cut(imported.api_version),
        resolves=own is not None,
        ips=ips[:_MOST_EACH],
        ports=[model.Port(cut(p.name), cut(p.protocol), p.number) for p in ports[:_MOST_EACH]],
        clusters=clusters[:_MOST_EACH],
        conditions=[_shortened(each) for each in conditions[:_MOST_EACH]],
        troubles=list(troubles_of(service, node))[:_MOST_EACH],
        endpoints=sum(each.endpoints for each in clusters),
        ready=sum(each.ready for each in clusters),
        more=sum(max(0, len(s) - _MOST_EACH) for s in (ips, ports, clusters, conditions)),
    )


def _addresses(service: Service, node: ServiceNode | None) -> Sequence[bytes]:
    """The clusterset IPs; those of a headless service are its endpoints', which are counted."""
    own = own_addresses(node) if node and node.addresses_from_slices else None
    return own.a + own.aaaa if own else service.imported.ips


def _ports(service: Service) -> Sequence[model.Port]:
    """The ports that SRV records are of: a headless service has those of its slices."""
    own = service.imported.ports
    if service.imported.type is not ImportType.HEADLESS:
        return own
    return list(dict.fromkeys(port for each in service.slices for port in each.ports)) or own


def _shortened(condition: model.Condition) -> JudgedCondition:
    texts = {field: cut(text) for field, text in msgspec.structs.asdict(condition).items()}
    return JudgedCondition(is_bad=is_bad(condition), **texts)
