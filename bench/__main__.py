"""The command line: builds the world, measures what was chosen, prints tables, writes JSON."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from bench import measure, report
from bench.api import Api, measure_api
from bench.api_budgets import judge_api
from bench.attack_report import judge_attacks
from bench.attacks import measure_attacks
from bench.before import BEFORE, add_before
from bench.budgets import Samples, judge
from bench.flat import check_flat
from bench.forward import Forward, measure_forward
from bench.forward_budgets import judge_forward
from bench.forward_peers import ALL_PEERS
from bench.load import LoadError
from bench.peers import OURS, PEERS, UNCOUNTED
from bench.runner import Files, Runner, Settings, say, write_files
from bench.scenarios import (
    ANY_SHAPE,
    API,
    ATTACKS,
    DEFAULT,
    FILES,
    FORWARD,
    SCENARIOS,
    SPECIAL,
    START,
    UNKNOWN,
    choose,
    of_source,
)
from bench.servers import ServerError
from bench.startup import time_start
from bench.world import World, build_world, write_manifests
from bench.zonefile import write_zone_file

EXIT_MISSED = 1
EXIT_USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.list:
        sys.stdout.write("\n".join((*SCENARIOS, *SPECIAL)) + "\n")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        found = _run(options)
    except (LoadError, ServerError, ValueError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    sys.stdout.write(found.text() + "\n")
    found.write_json(options.json)
    say(f"wrote {options.json}")
    return EXIT_MISSED if options.strict and not found.kept() else 0


def _run(options: argparse.Namespace) -> report.Report:
    chosen = choose(options.only)
    settings = _settings(options)
    if options.before:
        add_before(options.before)
        options.servers.append(BEFORE)
    found = _found(options.servers)
    peers = [name for name in found if name in PEERS]
    cores = measure.choose_cores()
    facts = measure.machine_facts(cores)
    world = build_world(settings.services, settings.seed)
    with tempfile.TemporaryDirectory(prefix="mcsdns-bench-", ignore_cleanup_errors=True) as folder:
        files = write_files(world, Path(folder), settings)
        by_files, by_api = of_source(chosen, FILES), of_source(chosen, API)
        elsewhere, attacks = of_source(chosen, FORWARD), of_source(chosen, ATTACKS)
        if by_files:
            _write_world(world, files)
        with Runner(settings, cores, files) as runner:
            queries = [one for one in by_files if one in SCENARIOS]
            samples: Samples = runner.measure_all(queries, peers)
        special = [name for name in by_files if name in SPECIAL and OURS in peers]
        kinds = [name for name in special if name in {UNKNOWN, ANY_SHAPE}]
        flat = {kind: check_flat(kind, runner, world) for kind in kinds}
        start = time_start(runner, world) if START in special else None
        api = measure_api(by_api, peers, world, files, settings, cores) if by_api else Api()
        forward = (
            measure_forward(elsewhere, found, settings, cores, Path(folder) / FORWARD)
            if elsewhere
            else Forward()
        )
        attacked = (
            measure_attacks(attacks, found, settings, cores, Path(folder) / ATTACKS)
            if attacks
            else {}
        )
    samples |= api.samples
    return report.Report(
        machine=facts,
        settings=settings,
        world=world.facts(),
        versions={name: ALL_PEERS[name].version() for name in found},
        missing=[name for name in options.servers if name not in found],
        samples=samples,
        flat=flat,
        start=start,
        api=api,
        forward=forward,
        attacks=attacked,
        verdicts=[
            *(*judge(samples, flat, start), *judge_api(api), *judge_forward(forward)),
            *judge_attacks(attacked),
        ],
    )


def _found(servers: list[str]) -> list[str]:
    """Return the servers that are installed; at least one must be."""
    peers = [name for name in servers if ALL_PEERS[name].found()]
    if not peers:
        message = f"none of {', '.join(servers)} is on the PATH"
        raise ValueError(message)
    return peers


def _write_world(world: World, files: Files) -> None:
    say(f"writing {len(world.services):,} services as manifests and zone file")
    write_manifests(world, files.manifests)
    write_zone_file(world, files.zone_file)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(**{name: getattr(options, name) for name in Settings.__struct_fields__})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure mcsdns beside CoreDNS, Knot DNS, NSD and dnsdist where installed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--rounds", type=_positive, default=3, help="interleaved rounds")
    option("--seconds", type=float, default=5.0, help="length of one run")
    option("--latency-seconds", type=float, default=1.0, help="length of a latency run, 0 for none")
    option("--latency-qps", type=_positive, default=5000, help="fixed rate of a latency run")
    option("--outstanding", type=_positive, default=100, help="UDP queries in flight")
    option("--tcp-outstanding", type=_positive, default=400, help="TCP queries in flight")
    option("--connections", type=_positive, default=2, help="TCP connections")
    option("--services", type=_positive, default=10_000, help="size of the world")
    option("--seed", type=int, default=1, help="of everything drawn at random")
    option("--unknown", type=_positive, default=2_000_000, help="different names that do not exist")
    option(
        "--shapes", type=_positive, default=1_000_000, help="queries with random cookies and sizes"
    )
    option("--starts", type=_positive, default=7, help="repetitions of the start")
    option(
        "--crd-slices", action="store_true", help="have the API server's EndpointSlices as a CRD"
    )
    option("--writes", type=_positive, default=100, help="of each kind to the API, each round")
    patterns = list(DEFAULT)
    option("--only", nargs="+", metavar="SCENARIO", default=patterns, help="names or patterns")
    names = list(ALL_PEERS)
    usual = [name for name in names if name != UNCOUNTED]
    option("--servers", nargs="+", choices=names, default=usual, help="whom to measure")
    option("--before", metavar="PYTHON", help="an earlier mcsdns beside it: its interpreter")
    option("--json", type=Path, default=Path("build/bench.json"), help="where the JSON goes")
    option("--strict", action="store_true", help="exit with 1 when a budget is missed")
    option("--list", action="store_true", help="show all scenarios and exit")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"{text} is not above 0"
        raise argparse.ArgumentTypeError(message)
    return number


if __name__ == "__main__":
    sys.exit(main())
