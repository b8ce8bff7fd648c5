"""What can be measured, by name: `<kind of names>/<transport>/<shape of the query>`."""

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
SPECIAL = (UNKNOWN, ANY_SHAPE, START)

DEFAULT = ("mix/*", "*/udp/plain", "*/udp/edns", "*/tcp/plain", *SPECIAL)


class Scenario(msgspec.Struct, frozen=True):
    """One load; a cold one asks every existing name once, of a server just started."""

    kind: str
    transport: str
    shape: str

    @property
    def name(self) -> str:
        """The name for the command line and the tables."""
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
        Scenario, itertools.product((*NAME_KINDS, "cold"), TRANSPORTS, SHAPES)
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
