"""Writes the table of docs/compliance.md: `python -m tests.compliance`.

Our column is what the tests want; the others are what the servers that are installed say to the
same octets, about the same names.
"""

import datetime
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.compliance.test_compliance import PAGE, ROWS, ZONE, Row, ask, cells
from tests.forwarding.servers import Daemon, Servers, running
from tests.paths import which

BEGIN: Final = "<!-- From here on it is written by `python -m tests.compliance`. -->\n"
RECORDS: Final = f"""\
$ORIGIN {ZONE}.
$TTL 5
@ SOA ns.dns hostmaster 1 7200 1800 86400 5
@ NS ns.dns
ns.dns A 10.0.0.53
web.shop.svc A 10.96.1.10
_http._tcp.web.shop.svc SRV 0 100 80 web.shop.svc
db-0.cluster-a.db.shop.svc A 10.42.0.7
""" + "".join(f"b.n.svc A 10.42.1.{host}\n" for host in range(1, 91))


def coredns(servers: Servers, folder: Path) -> Daemon:
    """Serve the zone by the `file` plugin."""
    (folder / "zone").write_text(RECORDS)
    corefile = f"{ZONE}:PORT {{\n  bind 127.0.0.1\n  file {folder}/zone\n}}\n"
    return servers.coredns(corefile)


def unbound(servers: Servers, folder: Path) -> Daemon:
    """Serve the zone as a resolver that has a copy of it."""
    (folder / "zone").write_text(RECORDS)
    return servers.unbound(
        f'local-zone: "{ZONE}." nodefault\nlocal-zone: "local." nodefault',
        f"auth-zone:\n  name: {ZONE}\n  zonefile: {folder}/zone\n  for-downstream: yes\n"
        "  for-upstream: no\n  fallback-enabled: no\n",
    )


PEERS: Final[dict[str, tuple[str, str, Callable[[Servers, Path], Daemon]]]] = {
    "CoreDNS": ("coredns", "-version", coredns),
    "Knot": ("knotd", "-V", lambda servers, _: servers.knot({ZONE: RECORDS})),
    "NSD": ("nsd", "-v", lambda servers, _: servers.nsd({ZONE: RECORDS})),
    "Unbound": ("unbound", "-V", unbound),
}


def said(row: Row, peer: Daemon) -> str:
    """Return what another server says, where it is something else; some answer in any order."""
    try:
        answer = ask(row, peer.address, patience_s=1)
    except OSError as error:
        answer = f"no reply ({error})"
    return "same" if answer == row.expected else answer


def page() -> str:
    """Ask all servers, and return the page."""
    titles, columns = [], []
    with tempfile.TemporaryDirectory() as top:

        def make_folder(prefix: str) -> Path:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=top))

        with running(make_folder) as servers:
            for title, (command, flag, start) in PEERS.items():
                path = which(command)
                if path is None:
                    print(f"{command} is not installed: {title} is left out", file=sys.stderr)
                    continue
                told = subprocess.run([path, flag], capture_output=True, text=True, check=False)
                version = re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)
                titles.append(f"{title} {version[0] if version else ''}".rstrip())
                peer = start(servers, make_folder("zone"))
                columns.append([said(row, peer) for row in ROWS])
    before = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    lines = [["RFC, section", "asked", "mcsdns", *titles], ["---"] * (3 + len(titles))]
    lines += [[*cells(row), *others] for row, *others in zip(ROWS, *columns, strict=True)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{before}{BEGIN}\nOther servers were asked on {today}.\n\n{table}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
