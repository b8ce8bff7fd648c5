"""Shows that memory stays flat: asks a fresh mcsdns what it never saw, and reads its memory.

`unknown` asks for names that do not exist, each once, and beside each step for known ones: a flood
may neither fill the memory nor be slower than half of ordinary traffic. `shapes` asks for known
names with a random cookie and a random EDNS size in each query.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from bench import measure, queries
from bench.load import Load
from bench.peers import OURS
from bench.runner import say
from bench.scenarios import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.runner import Runner
    from bench.servers import Server
    from bench.world import World

STEPS = 8
TIMES_KEPT = 3  # a reply is kept when it is asked for again
FILLED_AFTER = STEPS // 2  # until then bounded stores may still fill up
TOLERATED_MB = 4.0
TOLERATED_SHARE = 0.03
STEP_LIMIT_S = 120.0


class Step(msgspec.Struct, frozen=True):
    """One part of the queries; `known_qps` is the rate for known names right before it."""

    completed: int
    lost: int
    qps: float
    known_qps: float
    rss_mb: float


class Flat(msgspec.Struct, frozen=True):
    """A whole check; step by step, and the memory before the first."""

    asked: int
    rss_before_mb: float
    steps: list[Step]

    @property
    def growth_mb(self) -> float:
        """How much memory grew after bounded stores were filled."""
        return self.steps[-1].rss_mb - self.steps[FILLED_AFTER - 1].rss_mb

    @property
    def tolerated_mb(self) -> float:
        """How much growth is noise."""
        return max(TOLERATED_MB, TOLERATED_SHARE * self.rss_before_mb)

    @property
    def rate_ratios(self) -> list[float]:
        """Each step's rate in relation to known names right before."""
        return [step.qps / step.known_qps for step in self.steps if step.known_qps]


def check_flat(kind: str, runner: Runner, world: World) -> Flat:
    """Run one check, `unknown` or `shapes`, against a fresh server."""
    write = _unknown_writer(world) if kind == UNKNOWN else _shapes_writer(runner, world)
    total = runner.settings.unknown if kind == UNKNOWN else runner.settings.shapes
    path = runner.files.folder / f"{kind}.step"
    with runner.fresh(OURS) as server:
        for edns in (False, True) * TIMES_KEPT:  # what is known and kept is not growth
            every = runner.files.path("every")
            runner.run(Load(path=every, edns=edns, limit_s=STEP_LIMIT_S), server)
        before = measure.memory(server.pids())
        steps = []
        for number in range(STEPS):
            write(path, number, total // STEPS)
            steps.append(_step(runner, server, path, wire_format=kind != UNKNOWN))
            say(f"{kind}: step {number + 1}/{STEPS}, {steps[-1].rss_mb:.1f} MB resident")
    path.unlink()
    return Flat(asked=total, rss_before_mb=before.rss_mb, steps=steps)


def _step(runner: Runner, server: Server, path: Path, *, wire_format: bool) -> Step:
    known = Load(path=runner.files.path("mix"), seconds=runner.settings.seconds)
    known_result = runner.run(known, server)
    result = runner.run(Load(path=path, wire_format=wire_format, limit_s=STEP_LIMIT_S), server)
    return Step(
        completed=result.completed,
        lost=result.lost,
        qps=result.qps,
        known_qps=known_result.qps,
        rss_mb=measure.memory(server.pids()).rss_mb,
    )


def _unknown_writer(world: World) -> Callable[[Path, int, int], None]:
    def write(path: Path, number: int, count: int) -> None:
        queries.write_text(path, queries.unknown_questions(world, count, f"step{number}"))

    return write


def _shapes_writer(runner: Runner, world: World) -> Callable[[Path, int, int], None]:
    rng = random.Random(runner.settings.seed)
    every = queries.questions_by_kind(world, runner.settings.seed, 0)["every"]

    def write(path: Path, _: int, count: int) -> None:
        queries.write_with_cookies(path, rng.choices(every, k=count), rng, any_size=True)

    return write
