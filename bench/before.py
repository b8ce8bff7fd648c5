"""An earlier mcsdns as one more peer: what a change did to speed is a ratio of one run.

`--before PYTHON` names the interpreter of a virtual environment that has it, such as that of
another checkout after `make demo` there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from bench.forward_peers import ALL_PEERS, CACHED, UNCACHED
from bench.peers import API_PEERS, OURS, PEERS, Command

if TYPE_CHECKING:
    from bench.peers import Peer, Site

BEFORE: Final = "before"


def add_before(python: str) -> None:
    """Measure that mcsdns too, in every scenario in which ours is."""
    for peers in (PEERS, API_PEERS, CACHED, UNCACHED, ALL_PEERS):
        peers[BEFORE] = _earlier(peers[OURS], python)


def _earlier(ours: Peer, python: str) -> Peer:
    """Return ours with another interpreter, which looks for mcsdns in its own environment only."""

    def configure(site: Site) -> Command:
        command = ours.configure(site)
        return Command([python, "-P", *command.arguments[1:]], command.environment)

    version = [python, "-P", *ours.version_arguments[1:]]
    return msgspec.structs.replace(
        ours, name=BEFORE, title="mcsdns before", configure=configure, version_arguments=version
    )
