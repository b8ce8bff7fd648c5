"""Where the answer to a query comes from: a zone, an upstream, or nobody."""

import pytest

from mcsdns import dns
from mcsdns.dns import name as names
from mcsdns.dns.types import Rcode, RRType
from mcsdns.server.authority import Foreign, Local, Reject, Route
from mcsdns.stats import ReplyKind
from mcsdns.zone.name_shape import Fixed, ServiceName
from tests.worlds import world_of

STATE = world_of([], zone=["clusterset.local", "sub.clusterset.local"])


def route(name: str, qtype: int = RRType.A, *, qclass: int = 1, version: int = 0) -> Route:
    opt = dns.write_opt(1232, version=version)
    message = dns.write_query(1, names.wire_from_text(name), qtype, qclass=qclass, opt=opt)
    query = dns.read_query(message)
    assert query is not None
    return STATE.authority.route(query)


@pytest.mark.parametrize(
    ("name", "apex"),
    [
        ("clusterset.local", "clusterset.local"),
        ("Web.Shop.Svc.ClusterSet.Local", "clusterset.local"),
        ("web.shop.svc.sub.clusterset.local", "sub.clusterset.local"),
    ],
)
def test_a_name_is_local_to_the_closest_zone(name: str, apex: str) -> None:
    found = route(name)
    assert isinstance(found, Local)
    assert found.zone.apex == names.from_text(apex)
    wanted = Fixed.APEX if name == apex else ServiceName(b"\x03web\x04shop", b"", 0)
    assert found.shape == wanted


@pytest.mark.parametrize("name", ["www.example", "local", ".", r"web\.clusterset.local", "xlocal"])
def test_a_name_in_no_zone_is_foreign(name: str) -> None:
    assert isinstance(route(name), Foreign)
    assert isinstance(route(name, RRType.ANY), Foreign)


@pytest.mark.parametrize(
    ("qtype", "qclass", "version", "rcode"),
    [
        (RRType.A, 1, 1, Rcode.BADVERS),
        (RRType.A, 3, 1, Rcode.BADVERS),
        (RRType.A, 3, 0, Rcode.REFUSED),
        (RRType.OPT, 3, 0, Rcode.REFUSED),
        (RRType.AXFR, 1, 0, Rcode.REFUSED),
        (RRType.IXFR, 1, 0, Rcode.REFUSED),
        (RRType.OPT, 1, 0, Rcode.FORMERR),
        (RRType.TSIG, 1, 0, Rcode.FORMERR),
    ],
)
@pytest.mark.parametrize("name", ["clusterset.local", "www.example"])
def test_version_class_and_type_are_rejected_in_this_order_whatever_the_name(
    name: str, qtype: int, qclass: int, version: int, rcode: int
) -> None:
    found = route(name, qtype, qclass=qclass, version=version)
    assert isinstance(found, Reject)
    decision = STATE.authority.answer(found, qtype)
    assert (decision.response.rcode, decision.kind) == (rcode, ReplyKind.REJECTED)


def test_what_is_foreign_is_refused_by_the_authority_itself() -> None:
    decision = STATE.authority.answer(route("www.example"), RRType.A)
    assert (decision.response.rcode, decision.kind) == (Rcode.REFUSED, ReplyKind.OUTSIDE)
