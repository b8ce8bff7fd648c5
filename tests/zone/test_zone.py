"""The SOA record of a zone, for itself and as negative replies have it."""

import pytest

from mcsdns.dns import HEADER_BYTES
from mcsdns.dns import name as names
from mcsdns.dns.types import RRType
from mcsdns.zone.zone import Zone


def test_soa_names_the_server_and_has_the_serial_and_the_ttl_twice() -> None:
    zone = Zone(names.from_text("clusterset.local"), 30)
    zone.replace_serial(77)
    (rdata,) = zone.soa.rdatas
    assert (zone.soa.rtype, zone.soa.ttl) == (RRType.SOA, 30)
    assert rdata == (
        names.from_text("ns.dns.clusterset.local")
        + names.from_text("hostmaster.clusterset.local")
        + b"".join(number.to_bytes(4, "big") for number in (77, 7200, 1800, 86400, 30))
    )


@pytest.mark.parametrize("apex_at", [HEADER_BYTES, 60, HEADER_BYTES + 254])
def test_negative_replies_have_it_compressed_to_wherever_the_apex_stands(apex_at: int) -> None:
    zone = Zone(names.from_text("clusterset.local"), 30)
    record = zone.negative_soa.records[apex_at]
    pointer = (0xC000 | apex_at).to_bytes(2, "big")
    assert record.startswith(pointer + b"\0\x06\0\1\0\0\0\x1e")
    assert record.count(pointer) == 3


def test_cached_negative_replies_see_a_new_serial_and_a_new_ttl() -> None:
    zone = Zone(names.from_text("clusterset.local"), 30)
    records = zone.negative_soa.records
    zone.ttl = 9
    zone.replace_serial(78)
    assert records is zone.negative_soa.records
    assert (78).to_bytes(4, "big") in records[HEADER_BYTES]
    assert records[HEADER_BYTES].endswith((9).to_bytes(4, "big"))
