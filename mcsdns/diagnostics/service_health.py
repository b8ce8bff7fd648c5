"""What is wrong with one service, from its objects and the zone: cheap enough to ask of all.

No endpoint is looked at here; `services` counts those of the services it shows.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from mcsdns.diagnostics.explain.words import counted, listed
from mcsdns.objects import conditions
from mcsdns.objects.model import EndpointSlice
from mcsdns.objects.store import Service
from mcsdns.zone.records import ServiceNode

_MOST_TEXT: Final = 300
_MOST_SLICES: Final = 3


def troubles_of(service: Service, node: ServiceNode | None) -> Iterator[str]:
    """Say what keeps a service, or a part of it, from being answered as its objects mean it.

    Each is a sentence for people. `node` is the service in the zone.
    """
    if not is_resolved(node):
        yield _about_unresolved(node)
    for condition in service.imported.conditions:
        if conditions.is_bad(condition):
            yield cut(conditions.to_text(condition))
    yield from _about_malformed(service.slices)
    if node and node.headless:
        yield from _about_missing(service)
        yield from _about_ports(service.slices)
    if node and node.long_names:
        yield f"{counted(node.long_names, 'name')} over 255 octets, not served"


def is_resolved(node: ServiceNode | None) -> bool:
    """Say whether the service's own name has an address."""
    own = node.names.get(b"") if node else None
    return own is not None and bool(own.a or own.aaaa)


def cut(text: str, most: int = _MOST_TEXT) -> str:
    """Shorten other people's text: it may be as long as an object."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _about_unresolved(node: ServiceNode | None) -> str:
    if node is None:
        return "not published yet"
    if node.headless:
        return "no ready endpoint, so the name does not exist"
    if node.addresses_from_slices:
        return "no address: spec.ips is empty, and no endpoint of its slices is ready"
    return "no address: spec.ips is empty"


def _about_malformed(slices: tuple[EndpointSlice, ...]) -> Iterator[str]:
    malformed = [piece for piece in slices if piece.malformed]
    for piece in malformed[:_MOST_SLICES]:
        yield cut(f"EndpointSlice {piece.name} is not served: {piece.malformed}")
    if len(malformed) > _MOST_SLICES:
        yield f"{counted(len(malformed) - _MOST_SLICES, 'more slice')} not served"


def _about_missing(service: Service) -> Iterator[str]:
    """Clusters that export the service as its status says, but of which nothing is here."""
    there = {piece.cluster for piece in service.slices}
    missing = [cluster for cluster in service.imported.clusters if cluster not in there]
    if missing:
        yield cut(f"no EndpointSlice of {listed(missing)}, though its status names it")


def _about_ports(slices: Iterable[EndpointSlice]) -> Iterator[str]:
    """Ports that clusters disagree on: a client of SRV has to take each as it comes."""
    found: dict[str, dict[str, str]] = {}
    for piece in slices:
        for port in piece.ports:
            text = f"{port.number}/{port.protocol}"
            found.setdefault(port.name, {}).setdefault(text, piece.cluster)
    for name, texts in found.items():
        if name and len(texts) > 1:
            where = [f"{text} in {cluster}" for text, cluster in texts.items()]
            yield cut(f"port {name} is {listed(where)}")
