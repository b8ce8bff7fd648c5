"""What can be measured, by name: `<kind of names>/<transport>/<shape of the query>`.

Those that begin with `api/` have their objects from an API server, and go over UDP; those that
begin with `forward/` ask for names that the servers look up elsewhere; in `attacks/` servers are
attacked while somebody asks.
"""

from __future__ import annotations

import fnmatch
import itertools

import msgspec

NAME_KINDS = ("mix", "clusterip", "headless", "host", "srv", "srv-headless", "nxdomain")
TRANSPORTS = ("udp", "tcp")
SHAPES = ("plain", "edns", "cookie")

UNKNOWN = "unknown"
ANY_SHAPE = "shapes"
START = "start"
FILES, API, FORWARD, ATTACKS = "files", "api", "forward", "attacks"
API_SYNC = "api/sync"
API_WRITE = "api/write"
API_RELIST = "api/relist"
API_SNAPSHOT = "api/snapshot"
API_ORDINARY = "api/ordinary"
API_SPECIAL = (API_SYNC, API_WRITE, API_RELIST, API_SNAPSHOT, API_ORDINARY)
HIT = "forward/hit"
HIT_FEW = "forward/hit-few"
MISS = "forward/miss"
LATENCY = "forward/latency"
MEMORY = "forward/memory"
SILENT = "forward/silent"
FORWARD_SPECIAL = (HIT, HIT_FEW, MISS, LATENCY, MEMORY, SILENT)
ATTACK_KINDS = (
    *("tcp-unread", "tcp-unread-forwarded", "tcp-pipelined", "srv-flood", "http-heads"),
    *("http-connects", "silent-zone", "files", "bad-objects", "gzip-bomb", "endless-page"),
)
SPECIAL = (
    *(UNKNOWN, ANY_SHAPE, START, *API_SPECIAL, *FORWARD_SPECIAL),
    *(f"attacks/{kind}" for kind in ATTACK_KINDS),
)

DEFAULT = (
    *("mix/*", "*/udp/plain", "*/udp/edns", "*/tcp/plain"),
    *("api/*/plain", "api/mix/edns", *SPECIAL),
)


class Scenario(msgspec.Struct, frozen=True):
    """One load; a cold one asks every existing name once, of a server just started."""

    kind: str
    transport: str
    shape: str
    source: str = FILES

    @property
    def name(self) -> str:
        """The name for the command line and the tables."""
        if self.source == API:
            return f"{API}/{self.kind}/{self.shape}"
        return f"{self.kind}/{self.transport}/{self.shape}"

    @property
    def cold(self) -> bool:
        """Whether the server is started anew for it."""
        return self.kind == "cold"

    @property
    def questions(self) -> str:
        """The kind of questions that it asks."""
        return "every" if self.cold else self.kind

    @property
    def rcodes(self) -> set[str]:
        """The rcodes that right answers have."""
        return {"mix": {"NOERROR", "NXDOMAIN"}, "nxdomain": {"NXDOMAIN"}}.get(
            self.kind, {"NOERROR"}
        )


SCENARIOS = {
    scenario.name: scenario
    for scenario in itertools.starmap(
        Scenario,
        itertools.chain(
            itertools.product((*NAME_KINDS, "cold"), TRANSPORTS, SHAPES),
            itertools.product(NAME_KINDS, ("udp",), SHAPES, (API,)),
        ),
    )
}


def choose(patterns: list[str]) -> list[str]:
    """Return the scenarios and special checks that any pattern matches, in their usual order.

    Raises:
        ValueError: a pattern matches nothing.
    """
    names = [*SCENARIOS, *SPECIAL]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            message = f"no scenario is called {pattern}; --list shows them"
            raise ValueError(message)
    return [name for name in names if any(fnmatch.fnmatch(name, one) for one in patterns)]


def of_source(names: list[str], source: str) -> list[str]:
    """Return those scenarios and special checks that are of one source."""
    others = tuple(f"{one}/" for one in (API, FORWARD, ATTACKS))
    if source == FILES:
        return [name for name in names if not name.startswith(others)]
    return [name for name in names if name.startswith(f"{source}/")]
