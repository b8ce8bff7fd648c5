"""What is shown in the end: tables for people, and a JSON document with every sample."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import msgspec

from bench.api_report import api_parts
from bench.attack_report import attack_parts
from bench.budgets import ratio
from bench.forward_peers import ALL_PEERS
from bench.forward_report import forward_parts
from bench.peers import OURS
from bench.runner import SATURATED
from bench.tables import Row, number, table

if TYPE_CHECKING:
    from pathlib import Path

    from bench.api import Api
    from bench.attacks import Attacked
    from bench.budgets import Samples, Verdict
    from bench.flat import Flat
    from bench.forward import Forward
    from bench.runner import Sample, Settings
    from bench.startup import Start

MEDIANS = (
    *("qps", "cpu_us", "p50_us", "p99_us", "rss_mb", "pss_mb"),
    *("server_share", "load_share", "response_bytes"),
)
HEADINGS = (
    *("scenario", "server", "q/s", "ratio", "CPU us/q", "ratio", "p50 us", "p99 us"),
    *("RSS MB", "PSS MB", "notes"),
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run found."""

    machine: dict[str, Any]
    settings: Settings
    world: dict[str, int]
    versions: dict[str, str]
    missing: list[str]
    samples: Samples
    flat: dict[str, Flat]
    start: Start | None
    api: Api
    forward: Forward
    attacks: dict[str, dict[str, list[Attacked]]]
    verdicts: list[Verdict]

    def kept(self) -> bool:
        """Whether no budget was missed."""
        return all(verdict.word != "MISS" for verdict in self.verdicts)

    def text(self) -> str:
        """Return the tables."""
        parts = [self._head()]
        if self.samples:
            parts.append(table(HEADINGS, self._sample_rows()))
        parts += [_flat_text(kind, check) for kind, check in self.flat.items()]
        if self.start:
            parts.append(_start_text(self.start))
        parts += api_parts(self.api)
        parts += forward_parts(self.forward)
        parts += attack_parts(self.attacks)
        if self.verdicts:
            headings = ("what", "measured", "must", "aim", "verdict", "notes")
            parts.append(table(headings, [_verdict_row(one) for one in self.verdicts]))
        return "\n\n".join(parts)

    def write_json(self, path: Path) -> None:
        """Write facts, medians, ratios, verdicts and all samples."""
        document = {
            **msgspec.to_builtins(self),
            "medians": {
                scenario: {peer: medians(samples) for peer, samples in by_peer.items()}
                for scenario, by_peer in self.samples.items()
            },
            "ratios": self._ratios(),
            "start_medians": self.start.medians if self.start else None,
            "verdicts": [
                {**msgspec.to_builtins(verdict), "verdict": verdict.word}
                for verdict in self.verdicts
            ],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")

    def _ratios(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Return how mcsdns relates to each peer, as medians of the rounds' ratios."""
        return {
            scenario: {
                peer: {figure: ratio(by_peer, peer, figure) for figure in ("qps", "cpu_us")}
                for peer in by_peer
                if peer != OURS
            }
            for scenario, by_peer in self.samples.items()
        }

    def _head(self) -> str:
        machine, world = self.machine, self.world
        versions = ", ".join(
            f"{ALL_PEERS[name].title} {text}" for name, text in self.versions.items()
        )
        cores = f"servers on core {machine['server_core']}, load on core {machine['load_core']}"
        services = f"{world['services']:,} services in {world['namespaces']} namespaces"
        rounds = f"{self.settings.rounds} rounds of {self.settings.seconds:g} s"
        lines = [
            f"{machine['cpu']}, kernel {machine['kernel']}, {machine['python']}, {cores}",
            f"{versions}; not found: {', '.join(self.missing) or 'none'}",
            f"{services}, {world['endpoints']:,} endpoints",
            f"medians of {rounds}; latency at {self.settings.latency_qps:,} q/s",
            f"ratio: {OURS} to that server; more is better for q/s, less for CPU per query",
        ]
        if machine["server_core"] == machine["load_core"]:
            lines.append(
                "one core only: servers and load generator share it, the rates mean little"
            )
        return "\n".join(lines)

    def _sample_rows(self) -> list[Row]:
        return [
            _sample_row(scenario, peer, by_peer)
            for scenario, by_peer in self.samples.items()
            for peer in by_peer
        ]


def medians(samples: list[Sample]) -> dict[str, float | None]:
    """Return the median of each figure, None for those not measured."""
    figures = {}
    for name in MEDIANS:
        values = [value for one in samples if (value := getattr(one, name)) is not None]
        figures[name] = statistics.median(values) if values else None
    return figures


def _sample_row(scenario: str, peer: str, by_peer: dict[str, list[Sample]]) -> Row:
    middle = medians(by_peer[peer])
    faster = ratio(by_peer, peer, "qps") if peer != OURS else None
    dearer = ratio(by_peer, peer, "cpu_us") if peer != OURS else None
    notes = dict.fromkeys(note for sample in by_peer[peer] for note in sample.notes)
    return [
        *(scenario, peer, number(middle["qps"]), number(faster, 2)),
        *(number(middle["cpu_us"], 2), number(dearer, 2)),
        *(number(middle["p50_us"]), number(middle["p99_us"])),
        *(number(middle["rss_mb"], 1), number(middle["pss_mb"], 1), "; ".join(notes)),
    ]


def _verdict_row(verdict: Verdict) -> Row:
    sign = "at most" if verdict.at_most else "at least"
    return [
        verdict.what,
        "-" if verdict.measured is None else f"{verdict.measured:,.2f} {verdict.unit}",
        f"{sign} {number(verdict.must, 2)}",
        number(verdict.aim, 2),
        verdict.word,
        f"{SATURATED}; by CPU {verdict.by_cpu:.2f} x" if verdict.by_cpu else "",
    ]


def _flat_text(kind: str, check: Flat) -> str:
    steps = " ".join(f"{step.rss_mb:.1f}" for step in check.steps)
    rates = " ".join(f"{step.qps:,.0f}" for step in check.steps)
    known = " ".join(f"{step.known_qps:,.0f}" for step in check.steps)
    return "\n".join(
        (
            f"{kind}: {check.asked:,} queries in {len(check.steps)} steps",
            f"  RSS MB   {check.rss_before_mb:.1f} before, then {steps}",
            f"  q/s      {rates}",
            f"  the mix  {known}",
        )
    )


def _start_text(start: Start) -> str:
    middle = start.medians
    return "\n".join(
        (
            f"start: medians of {len(start.first_answer_s)}",
            f"  {middle['first_answer_s']:.3f} s to the first answer, {start.manifests} manifests",
            f"  {middle['imports_s']:.3f} s Python and the third-party imports",
            f"  {middle['python_s']:.3f} s Python alone",
        )
    )
