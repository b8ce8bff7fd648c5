"""One real service to ask for: of those that resolve, the one that shows most about a forwarder."""

import ipaddress
from collections.abc import Iterator
from typing import Final

from mcsdns.diagnostics.check.stub_block import Expected
from mcsdns.diagnostics.check.told import Question
from mcsdns.diagnostics.service_health import own_addresses
from mcsdns.dns import ip
from mcsdns.dns.name import Name
from mcsdns.dns.types import RRType
from mcsdns.objects.store import Store
from mcsdns.zone.records import Node
from mcsdns.zone.tree import Tree, labels_of_key

_MOST_ADDRESSES: Final = 8
"""With more, replies over UDP may lack some."""


def expected_of(store: Store, tree: Tree) -> list[Expected]:
    """Return what each zone is to be answered with."""
    labels, node = next(_candidates(store, tree), (b"", Node()))
    return [_expected(zone.apex, labels, node) for zone in tree.zones]


def _candidates(store: Store, tree: Tree) -> Iterator[tuple[bytes, Node]]:
    """Iterate over services with few addresses, those with private ones only first."""
    found: list[tuple[bytes, Node]] = []
    for key in sorted(store.keys()):
        labels = labels_of_key(key)
        service = tree.service(labels)
        node = own_addresses(service)
        if node is None or len(_of_one_family(node)) > _MOST_ADDRESSES:
            continue
        if all(map(_is_private, _of_one_family(node))):
            yield labels, node
        found.append((labels, node))
    yield from found


def _of_one_family(node: Node) -> tuple[bytes, ...]:
    return node.a or node.aaaa


def _is_private(packed: bytes) -> bool:
    return ipaddress.ip_address(packed).is_private


def _expected(zone: Name, labels: bytes, node: Node) -> Expected:
    if not labels:
        return Expected(zone)
    question = Question(labels + b"\x03svc" + zone, RRType.A if node.a else RRType.AAAA)
    data = frozenset(map(ip.to_text, _of_one_family(node)))
    return Expected(zone, question, data)
