"""The servers that forward: mcsdns, CoreDNS and dnsdist, each with a cache and without.

mcsdns and CoreDNS serve the clusterset's zone besides; dnsdist has no zones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.load import HOST
from bench.peers import COREDNS, OURS, PEERS, Command, Peer
from bench.upstream import DISTINCT, KNOWN, NAMES, TTL

if TYPE_CHECKING:
    from bench.peers import Site

DNSDIST = "dnsdist"
FLAG = "--upstream"
ENTRIES = 2 * (NAMES + DISTINCT)
CACHE_BYTES = 1 << 30  # the number of replies is the bound


def _mcsdns_cached(site: Site) -> Command:
    return _mcsdns(site, ENTRIES)


def _mcsdns_uncached(site: Site) -> Command:
    return _mcsdns(site, 0)


def _mcsdns(site: Site, entries: int) -> Command:
    arguments = PEERS[OURS].configure(site).arguments
    upstream = (FLAG, f"{HOST}:{site.upstream_port}")
    bounds = ("--cache-entries", str(entries), "--cache-bytes", str(CACHE_BYTES))
    return Command([*arguments, *upstream, *bounds])


def _coredns_cached(site: Site) -> Command:
    return _coredns(site, f"cache {TTL} {{\n        success {ENTRIES} {TTL}\n    }}")


def _coredns_uncached(site: Site) -> Command:
    return _coredns(site, "")


def _coredns(site: Site, cache: str) -> Command:
    command = PEERS[COREDNS].configure(site)
    with (site.folder / "Corefile").open("a") as corefile:
        corefile.write(
            f""".:{site.port} {{
    bind {HOST}
    {cache}
    forward . {HOST}:{site.upstream_port}
}}
"""
        )
    return command


def _dnsdist_cached(site: Site) -> Command:
    cache = f'getPool(""):setCache(newPacketCache({ENTRIES}, {{maxTTL={TTL}}}))'
    return _dnsdist(site, cache)


def _dnsdist_uncached(site: Site) -> Command:
    return _dnsdist(site, "")


def _dnsdist(site: Site, cache: str) -> Command:
    """Configure dnsdist; its look-up of security advisories would leave the machine."""
    configuration = site.folder / "dnsdist.conf"
    configuration.write_text(
        f"""setLocal("{HOST}:{site.port}")
setSecurityPollSuffix("")
newServer({{address="{HOST}:{site.upstream_port}", checkName="{KNOWN[0]}."}})
{cache}
"""
    )
    return Command([DNSDIST, "--supervised", "--disable-syslog", "-C", str(configuration)])


_DNSDIST_VERSION = [DNSDIST, "--version"]
CACHED = {
    peer.name: peer
    for peer in (
        Peer(OURS, OURS, _mcsdns_cached, PEERS[OURS].version_arguments),
        Peer(
            COREDNS,
            "coredns (forward, cache)",
            _coredns_cached,
            PEERS[COREDNS].version_arguments,
        ),
        Peer(DNSDIST, "dnsdist (packet cache)", _dnsdist_cached, _DNSDIST_VERSION),
    )
}
UNCACHED = {
    peer.name: peer
    for peer in (
        Peer(OURS, OURS, _mcsdns_uncached, PEERS[OURS].version_arguments),
        Peer(COREDNS, "coredns (forward)", _coredns_uncached, PEERS[COREDNS].version_arguments),
        Peer(DNSDIST, DNSDIST, _dnsdist_uncached, _DNSDIST_VERSION),
    )
}
ALL_PEERS = {**PEERS, DNSDIST: UNCACHED[DNSDIST]}
