"""What is forwarded to: names elsewhere, a server that has them, and one that never answers."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING

import msgspec

from bench.load import HOST
from bench.peers import KNOT, NSD, PEERS, Site
from bench.queries import write_text
from bench.servers import free_port, running
from bench.world import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.queries import Question
    from bench.servers import Server

ZONE = "cluster.local"
TTL = 3600  # above every cap that the servers have by default: nothing ends while it is measured
NAMES, FEW, DISTINCT = 10_000, 200, 100_000
UPSTREAMS = (NSD, KNOT)  # the one that costs the load core less is first
KNOWN: Question = (f"web-0.ns-000.svc.{ZONE}", "A")
NAMES_FILE, FEW_FILE, DISTINCT_FILE = "names", "few", "distinct"


def found_upstream() -> str | None:
    """Return which authoritative server can be the upstream here."""
    return next((name for name in UPSTREAMS if PEERS[name].found()), None)


@contextlib.contextmanager
def answering(site: Site, core: int) -> Iterator[Server]:
    """Start the upstream on a core, with a zone of its own; wait until it answers."""
    name = found_upstream()
    assert name, "the caller asked before"
    folder = site.folder / "upstream"
    folder.mkdir()
    port = free_port()
    own = msgspec.structs.replace(
        site, folder=folder, port=port, zone=ZONE, zone_file=folder / "upstream.db"
    )
    _write_zone(own.zone_file)
    with running(PEERS[name].configure(own), port, core, folder) as server:
        server.wait_answer(KNOWN)
        yield server


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Give the port of an upstream that takes what comes, as far as its buffer goes, and rests."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((HOST, 0))
        yield bound.getsockname()[1]


def write_questions(folder: Path, seed: int) -> None:
    """Write the query files: known names by A and AAAA, others by A once each."""
    rng = random.Random(seed)
    both = [(_name(number), one) for number in range(NAMES) for one in ("A", "AAAA")]
    few = both[: 2 * FEW]
    rng.shuffle(few)
    rng.shuffle(both)
    write_text(folder / f"{FEW_FILE}.txt", few)
    write_text(folder / f"{NAMES_FILE}.txt", both)
    others = range(NAMES, NAMES + DISTINCT)
    write_text(folder / f"{DISTINCT_FILE}.txt", ((_name(number), "A") for number in others))


def _write_zone(path: Path) -> None:
    with path.open("w") as file:
        soa = f"ns.{ZONE}. hostmaster.{ZONE}. 1 7200 1800 86400 30"
        file.write(f"{ZONE}. {TTL} IN SOA {soa}\n{ZONE}. {TTL} IN NS ns.{ZONE}.\n")
        file.write(f"ns.{ZONE}. {TTL} IN A {HOST}\n")
        for number in range(NAMES + DISTINCT):
            high, low = divmod(number, 1 << 16)
            file.write(f"{_name(number)}. {TTL} IN A 10.{high}.{low >> 8}.{low & 255}\n")
            if number < NAMES:
                file.write(f"{_name(number)}. {TTL} IN AAAA 2001:db8::{number:x}\n")


def _name(number: int) -> str:
    return f"web-{number}.ns-{number % NAMESPACES:03d}.svc.{ZONE}"
