"""The servers that are measured: how each is configured for one core, found, and identified."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from bench.load import HOST
from bench.world import TTL, ZONE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OURS = "mcsdns"
UNCOUNTED = "uncounted"
"""mcsdns without request metrics; measured where it is asked for."""
COREDNS = "coredns"
KNOT = "knotd"
NSD = "nsd"
VERSION = re.compile(r"\d+\.\d+\S*")


class Site(msgspec.Struct, frozen=True):
    """Where a server runs: its own folder, its ports, and the world in the forms there are."""

    folder: Path
    port: int
    admin_port: int
    manifests: Path
    zone_file: Path
    kubeconfig: Path | None = None
    zone: str = ZONE
    upstream_port: int = 0


class Command(msgspec.Struct, frozen=True):
    """How a server is started in the foreground."""

    arguments: list[str]
    environment: dict[str, str] = {}


class Peer(msgspec.Struct, frozen=True):
    """One kind of server; `configure` writes its configuration and returns the command."""

    name: str
    title: str
    configure: Callable[[Site], Command]
    version_arguments: list[str]

    def found(self) -> bool:
        """Whether the server can be started here."""
        return shutil.which(self.version_arguments[0]) is not None

    def version(self) -> str:
        """Return the version that the server names itself, or `unknown`."""
        process = subprocess.run(
            self.version_arguments, capture_output=True, text=True, timeout=30, check=False
        )
        number = VERSION.search(process.stdout + process.stderr)
        return number[0].rstrip(",") if number and not process.returncode else "unknown"


def _mcsdns(site: Site) -> Command:
    return _mcsdns_from(site, "--manifests", str(site.manifests))


def _mcsdns_uncounted(site: Site) -> Command:
    return _mcsdns_from(site, "--manifests", str(site.manifests), "--request-metrics", "off")


def _mcsdns_api(site: Site) -> Command:
    return _mcsdns_from(site, "--kubeconfig", str(site.kubeconfig))


def _mcsdns_from(site: Site, *source: str) -> Command:
    """Configure mcsdns; its admin address moves off its default: several servers run at once."""
    admin = ("--admin", f"{HOST}:{site.admin_port}") if has_flag("--admin") else ()
    listen = ("--listen", f"{HOST}:{site.port}")
    return Command([sys.executable, "-m", "mcsdns", "serve", *source, *listen, *admin])


def has_flag(flag: str) -> bool:
    """Whether this mcsdns knows a flag of `serve`."""
    return flag in _usage().split()


@functools.cache
def _usage() -> str:
    """Return the help of `serve`, asked for once: it takes as long as a start."""
    return (
        subprocess.run(
            [sys.executable, "-m", "mcsdns", "serve", "--help"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        .stdout.replace("]", " ")
        .replace("[", " ")
    )


def _coredns(site: Site) -> Command:
    corefile = site.folder / "Corefile"
    corefile.write_text(
        f"""{ZONE}:{site.port} {{
    bind {HOST}
    file {site.zone_file} {{
        reload 0
    }}
}}
"""
    )
    return Command([COREDNS, "-conf", str(corefile)], {"GOMAXPROCS": "1"})


def _coredns_api(site: Site) -> Command:
    """Configure CoreDNS as in a cluster: one server for the cluster's zone and the clusterset's."""
    corefile = site.folder / "Corefile"
    corefile.write_text(
        f""".:{site.port} {{
    bind {HOST}
    kubernetes cluster.local {ZONE} {{
        kubeconfig {site.kubeconfig}
        multicluster {ZONE}
        ttl {TTL}
    }}
}}
"""
    )
    return Command([COREDNS, "-conf", str(corefile)], {"GOMAXPROCS": "1"})


def _knotd(site: Site) -> Command:
    configuration = site.folder / "knot.conf"
    configuration.write_text(
        f"""server:
    rundir: "{site.folder}"
    listen: {HOST}@{site.port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{site.folder}"
log:
  - target: stderr
    any: error
zone:
  - domain: {site.zone}
    file: "{site.zone_file}"
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
    semantic-checks: off
"""
    )
    return Command([KNOT, "-c", str(configuration)])


def _nsd(site: Site) -> Command:
    """Configure NSD; its response rate limiting, on by default, would measure itself."""
    configuration = site.folder / "nsd.conf"
    configuration.write_text(
        f"""server:
    ip-address: {HOST}@{site.port}
    server-count: 1
    username: ""
    zonesdir: "{site.folder}"
    zonelistfile: "{site.folder}/zone.list"
    database: ""
    pidfile: "{site.folder}/nsd.pid"
    xfrdfile: "{site.folder}/xfrd.state"
    xfrdir: "{site.folder}"
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: {site.zone}
    zonefile: "{site.zone_file}"
"""
    )
    return Command([NSD, "-d", "-c", str(configuration)])


PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, OURS, _mcsdns, [sys.executable, "-m", "mcsdns", "--version"]),
        Peer(COREDNS, "coredns (file; kubernetes in api/)", _coredns, [COREDNS, "-version"]),
        Peer(KNOT, KNOT, _knotd, [KNOT, "--version"]),
        Peer(NSD, NSD, _nsd, [NSD, "-v"]),
        Peer(
            UNCOUNTED,
            "mcsdns without request metrics",
            _mcsdns_uncounted,
            [sys.executable, "-m", "mcsdns", "--version"],
        ),
    )
}

API_PEERS = {
    OURS: msgspec.structs.replace(PEERS[OURS], configure=_mcsdns_api),
    COREDNS: msgspec.structs.replace(
        PEERS[COREDNS], title="coredns (kubernetes, multicluster)", configure=_coredns_api
    ),
}
