"""The command that points others at us: `stub` prints what a platform wants to be told."""

import argparse
import sys
from typing import Any

from mcsdns.diagnostics.stub_config import render
from mcsdns.dns.types import DNS_PORT
from mcsdns.errors import ConfigError


def add_stub(parser: argparse.ArgumentParser) -> None:
    """Make a parser that of `stub`."""
    parser.description = (
        "Print the Corefile block or the object that points the DNS of a platform at mcsdns, with "
        "how to apply it and what to know; without PLATFORM, list the platforms."
    )
    parser.add_argument("platform", metavar="PLATFORM", nargs="?", help="see `mcsdns stub`")
    parser.add_argument(
        "--ip",
        metavar="ADDR",
        action="append",
        help="the clusterIP of the mcsdns Service; repeat for several",
    )
    parser.add_argument(
        "--zone",
        metavar="NAME",
        action="append",
        help=f"the zone that mcsdns serves; repeat for several (default {render.DEFAULT_ZONE})",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=int,
        help=f"the port where mcsdns is asked (default {DNS_PORT})",
    )
    parser.set_defaults(run=_stub)


def _stub(flags: dict[str, Any]) -> int:
    name, ips, zones, port = (flags[key] for key in ("platform", "ip", "zone", "port"))
    if name is None:
        if ips or zones or port is not None:
            raise ConfigError(f"PLATFORM is missing; name one of {', '.join(render.platforms())}")
        sys.stdout.write(render.listing())
        return 0
    platform = render.find(name)
    target = render.read_target(
        ips or (),
        zones or (),
        DNS_PORT if port is None else port,
        on_host=platform.on_host,
    )
    sys.stdout.write(render.render(platform, target))
    return 0
