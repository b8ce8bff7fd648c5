"""The labels of a name below the apex -> the shape of the name.

The shapes of spec.md 1, read right to left from the apex:

    <zone>                               Fixed.APEX
    dns.<zone>                           Fixed.DNS             empty non-terminal
    ns.dns.<zone>                        Fixed.NAME_SERVER
    dns-version.<zone>                   Fixed.DNS_VERSION
    svc.<zone>                           Fixed.SVC             empty non-terminal
    <ns>.svc.<zone>                      NamespaceName         empty non-terminal
    <svc>.<ns>.svc.<zone>                ServiceName, below = b""
    <anything>.<svc>.<ns>.svc.<zone>     ServiceName, below = the labels of <anything>
    all others                           Fixed.ELSEWHERE

Only the text of the name counts here; whether a name of that shape exists is decided in `lookup`.
Names are compared as octets in wire form. So a dot within a label separates nothing, and a suffix
that equals the apex is the apex only where a label begins.
"""

import enum
from typing import Final

import msgspec

from mcsdns.dns.name import SVC, Name

APEX_OWNER: Final = b"\0"


class Fixed(enum.Enum):
    """The names that every zone has, and all that no zone has."""

    APEX = enum.auto()
    DNS = enum.auto()
    NAME_SERVER = enum.auto()
    DNS_VERSION = enum.auto()
    SVC = enum.auto()
    ELSEWHERE = enum.auto()


class NamespaceName(msgspec.Struct, frozen=True, gc=False):
    """`<ns>.svc`; the namespace as a wire label."""

    namespace: bytes


class ServiceName(msgspec.Struct, frozen=True, gc=False):
    """`<svc>.<ns>.svc` or a name below it.

    Attributes:
        service: the wire labels of service and namespace.
        below: the wire labels further left, in order; empty for the service's own name.
        depth: how many labels `below` has.
    """

    service: bytes
    below: bytes
    depth: int


Shape = Fixed | NamespaceName | ServiceName

_FIXED: Final = {
    b"\x03dns": Fixed.DNS,
    b"\x02ns\x03dns": Fixed.NAME_SERVER,
    b"\x0bdns-version": Fixed.DNS_VERSION,
}


def parse(name: Name, labels: tuple[int, ...], zone: Name) -> Shape | None:
    """Return the shape of a name in a zone; None where the name is outside.

    `labels` holds where each label of `name` begins, as `Query.labels` does.
    """
    if not name.endswith(zone):
        return None
    cut = len(name) - len(zone)
    if not cut:
        return Fixed.APEX
    if cut not in labels:
        return None
    depth = labels.index(cut)  # how many labels there are below the apex
    if name[labels[depth - 1] : cut] != SVC:
        return _FIXED.get(name[:cut], Fixed.ELSEWHERE)
    if depth == 1:
        return Fixed.SVC
    if depth == 2:  # noqa: PLR2004 - <ns>.svc
        return NamespaceName(name[: labels[1]])
    at = labels[depth - 3]
    return ServiceName(name[at : labels[depth - 1]], name[:at], depth - 3)


def namespace_of(service: bytes) -> bytes:
    """Return the namespace label of the wire labels `<svc>.<ns>`."""
    return service[1 + service[0] :]


def owner_of(shape: Shape) -> bytes:
    """Return what must change for the answers to change: a service, a namespace, or the apex.

    A service stands as its wire labels, a namespace as its label behind a zero octet, the apex as
    a zero octet; names whose answers never change have the empty owner.
    """
    if isinstance(shape, ServiceName):
        return shape.service
    if isinstance(shape, NamespaceName):
        return b"\0" + shape.namespace
    return APEX_OWNER if shape is Fixed.APEX else b""
