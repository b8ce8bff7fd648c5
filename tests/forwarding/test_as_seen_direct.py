"""Through mcsdns a reply is what `dig` sees when it asks the upstream itself."""

from collections.abc import Iterator

import pytest

from tests.conftest import ServeProcess
from tests.forwarding.conftest import LastingForward
from tests.forwarding.digging import Dug, dig, dig_all
from tests.forwarding.servers import Daemon, Servers
from tests.forwarding.zones import QUESTIONS, ZONES
from tests.waiting import wait_until

WAYS = [
    (),
    ("+noedns",),
    ("+tcp",),
    ("+dnssec",),
    ("+noedns", "+tcp"),
    ("+cd",),
    ("+adflag", "+dnssec", "+cd"),
    ("+noadflag",),
    ("+norecurse",),
    ("+bufsize=512",),
    ("+bufsize=4096", "+dnssec"),
]
SLACK_S = 2
"""The two servers are asked one after the other, and each rounds in its own way."""


@pytest.fixture(scope="package")
def knot(lasting: Servers) -> Daemon:
    """An authoritative server of all zones; that of the examples is signed."""
    return lasting.knot(ZONES, signed=frozenset({"example.test"}))


@pytest.fixture(scope="package")
def nsd(lasting: Servers) -> Daemon:
    return lasting.nsd(ZONES)


@pytest.fixture(scope="package")
def unbound(lasting: Servers, knot: Daemon) -> Daemon:
    """A resolver that validates; one zone is bogus, one refused, one has a dead server."""
    keys = dig(knot.address, "example.test", "DNSKEY", "+tcp").answer
    (anchor,) = [each.data for each in keys if each.data.startswith("257 ")]
    stubs = "".join(
        f"stub-zone:\n  name: {zone}\n  stub-addr: 127.0.0.1@{port}\n"
        for zone, port in [*((zone, knot.port) for zone in ZONES), ("dead.test", 1)]
    )
    return lasting.unbound(
        f"""
        module-config: "validator iterator"
        ede: yes
        val-log-level: 0
        trust-anchor: "example.test. DNSKEY {anchor}"
        trust-anchor: "bogus.test. DS 1 8 2 {"0" * 64}"
        local-zone: refused.test. refuse
        local-zone: test. nodefault
        local-zone: other.test. nodefault
        rrset-roundrobin: no
        """,
        stubs,
    )


@pytest.fixture(scope="package")
def dnsmasq(lasting: Servers, knot: Daemon) -> Daemon:
    return lasting.dnsmasq(f"server=127.0.0.1#{knot.port}\ncache-size=0\n")


@pytest.fixture(scope="package")
def coredns(lasting: Servers, knot: Daemon) -> Daemon:
    return lasting.coredns(
        f"""\
.:PORT {{
    forward . {knot.text}
}}
fail.test:PORT {{
    template ANY ANY {{
        rcode SERVFAIL
    }}
}}
refused.test:PORT {{
    template ANY ANY {{
        rcode REFUSED
    }}
}}
"""
    )


@pytest.fixture(params=["knot", "nsd", "unbound", "dnsmasq", "coredns"])
def upstream(request: pytest.FixtureRequest) -> Daemon:
    """One real server after the other."""
    daemon: Daemon = request.getfixturevalue(request.param)
    return daemon


@pytest.fixture
def through(lasting_forward: LastingForward, upstream: Daemon) -> ServeProcess:
    return lasting_forward(upstream)


def differences(way: tuple[str, ...], direct: Dug, seen: Dug, age_s: float) -> Iterator[str]:
    """Iterate over what is not as it is to be; `age_s` is how old a cached reply may be."""
    if seen.status != direct.status:
        yield f"status {direct.status} became {seen.status}"
    same = {"qr", "rd", "ad", "tc"}  # authoritative servers clear CD
    if seen.flags & same != direct.flags & same:
        yield f"flags {direct.flags} became {seen.flags}"
    if "aa" in seen.flags or "ra" not in seen.flags or ("cd" in seen.flags) != ("+cd" in way):
        yield f"flags {seen.flags}"
    if seen.edns != direct.edns:
        yield f"EDNS {direct.edns} became {seen.edns}"
    if "tc" in seen.flags:
        return  # how much of it is there is up to each server
    if seen.contents() != direct.contents():
        yield f"records {direct.contents()} became {seen.contents()}"
        return
    theirs = direct.ttls()
    is_denial = any(rtype == "SOA" for section, _, rtype, _ in theirs if section == "AUTHORITY")
    for record, ttl in seen.ttls().items():
        # what denies lives no longer than its SOA says, and the CNAME records in it neither
        if ttl > theirs[record] + SLACK_S or not (
            is_denial or ttl >= theirs[record] - age_s - SLACK_S
        ):
            yield f"TTL {theirs[record]} became {ttl}: {record}"


def test_every_reply_is_as_seen_direct(upstream: Daemon, through: ServeProcess) -> None:
    wrong: list[str] = []
    for way in WAYS:
        direct = dig_all(upstream.address, QUESTIONS, *way)
        for turn in ("first", "kept"):
            seen = dig_all(through.address, QUESTIONS, *way)
            for question, one, other in zip(QUESTIONS, direct, seen, strict=True):
                found = list(differences(way, one, other, through.age_s))
                if any(what.startswith("TTL") for what in found):  # it was refreshed between
                    again = [dig(each.address, *question, *way) for each in (upstream, through)]
                    found = list(differences(way, *again, through.age_s))
                wrong += [f"{' '.join((*question, *way))} ({turn}): {what}" for what in found]
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:40])


UNUSUAL = [
    ("www.bogus.test", "A"),
    ("refused.test", "A"),
    ("www.refused.test", "MX"),
]


def test_failures_of_a_resolver_come_through(
    lasting_forward: LastingForward, unbound: Daemon
) -> None:
    server = lasting_forward(unbound)
    for way in ((), ("+tcp",), ("+noedns",), ("+dnssec",), ("+cd",)):
        for name, qtype in UNUSUAL:
            direct = dig(unbound.address, name, qtype, *way)
            seen = dig(server.address, name, qtype, *way)
            assert not list(differences(way, direct, seen, server.age_s)), (way, direct, seen)
            assert bool(direct.errors) <= bool(seen.errors), (name, way, direct, seen)
    assert dig(server.address, "www.bogus.test").status == "SERVFAIL"
    assert dig(server.address, "www.bogus.test", "A", "+cd").data == ["192.0.2.66"]
    assert dig(server.address, "refused.test").status == "REFUSED"


def test_name_whose_servers_are_dead_is_servfail(
    lasting_forward: LastingForward, unbound: Daemon
) -> None:
    server = lasting_forward(unbound)
    dug = dig(server.address, "www.dead.test")
    assert (dug.status, dug.data) == ("SERVFAIL", [])
    assert dug.errors


def test_what_templates_of_coredns_say_comes_through(
    lasting_forward: LastingForward, coredns: Daemon
) -> None:
    server = lasting_forward(coredns)
    for name, status in (("a.fail.test", "SERVFAIL"), ("a.refused.test", "REFUSED")):
        for way in ((), ("+tcp",), ("+noedns",)):
            assert dig(server.address, name, "A", *way).status == status


def test_validated_data_is_marked_for_who_understands_it(
    lasting_forward: LastingForward, unbound: Daemon
) -> None:
    server = lasting_forward(unbound)
    for way in (("+adflag",), ("+noadflag", "+dnssec")):
        assert "ad" in dig(server.address, "www.example.test", "A", *way).flags
    for way in (("+noadflag",), ("+noadflag", "+noedns")):
        direct = dig(unbound.address, "www.example.test", "A", *way)
        assert "ad" not in direct.flags
        assert "ad" not in dig(server.address, "www.example.test", "A", *way).flags


def test_case_of_the_question_is_kept(upstream: Daemon, through: ServeProcess) -> None:
    server = through
    for name in ("wWw.ExAmPlE.tEsT", "WWW.example.TEST", "www.example.test", "mIxEd.eXample.test"):
        for way in ((), ("+tcp",), ("+noedns",)):
            direct, seen = (dig(each.address, name, "A", *way) for each in (upstream, server))
            assert seen.question == f"{name}."
            assert (seen.status, seen.data) == (direct.status, direct.data)


def test_long_answer_is_cut_over_udp_and_whole_over_tcp(
    upstream: Daemon, through: ServeProcess
) -> None:
    server = through
    for size in (512, 1232, 4096):
        for turn in ("first", "kept"):
            cut = dig(server.address, "large.example.test", "TXT", f"+bufsize={size}", "+ignore")
            assert "tc" in cut.flags, turn
            assert cut.size <= min(size, 1232)
    whole = dig(server.address, "large.example.test", "TXT")
    assert len(whole.data) == 60
    assert whole.data == dig(upstream.address, "large.example.test", "TXT", "+tcp").data


def test_kept_answers_count_down(lasting_forward: LastingForward, knot: Daemon) -> None:
    server = lasting_forward(knot)
    names = [("www.example.test", "A"), ("one.example.test", "A"), ("no.example.test", "A")]
    first = {record: ttl for dug in dig_all(server.address, names) for record, ttl in ttls(dug)}
    seen: list[dict[tuple[str, ...], int]] = []

    def is_less() -> bool:
        dugs = dig_all(server.address, names)
        seen[:] = [{record: ttl for dug in dugs for record, ttl in ttls(dug)}]
        return all(ttl < first[record] for record, ttl in seen[0].items())

    wait_until(is_less, "TTLs counted down")
    assert seen[0].keys() == first.keys()
    assert dig(knot.address, "www.example.test").answer[0].ttl == 300
    assert dig(server.address, "zero.example.test").answer[0].ttl == 0


def ttls(dug: Dug) -> Iterator[tuple[tuple[str, ...], int]]:
    yield from dug.ttls().items()
