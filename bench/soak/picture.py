"""Draws what a soak found: `python -m bench.soak.picture build/soak.json docs/images/soak.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import msgspec

mpl.use("Agg")

from matplotlib import pyplot as plt

from bench.soak.__main__ import Report

RED, BLUE, GREY, LIGHT = "#c0392b", "#2563eb", "#6b7280", "#93c5fd"


def draw(report: Report, to: Path) -> None:
    """Write the picture."""
    samples = [each for each in report.samples[:-1] if each.p50_ms]  # the last asks for all
    minutes = [each.at_s / 60 for each in samples]
    figure, axes = plt.subplots(
        5, 1, sharex=True, figsize=(9, 10), layout="constrained", height_ratios=[2, 3, 2, 2, 2]
    )
    load, delay, memory, losses, age = axes
    load.plot(minutes, [each.asked / 1000 for each in samples], color=BLUE, lw=0.8)
    load.set_ylabel("questions\na second, 1000")
    share = load.twinx()
    share.plot(minutes, [100 * each.waited for each in samples], color=RED, lw=0.4, alpha=0.5)
    share.plot(minutes, [100 * each.share for each in samples], color=GREY, lw=0.6)
    share.set_ylabel("% of a core: used,\nand had by others (red)", color=GREY)
    share.set_ylim(0, 100)
    for label, color, values in (
        ("longest", LIGHT, [each.most_ms for each in samples]),
        ("99 %", BLUE, [each.p99_ms for each in samples]),
        ("half", GREY, [each.p50_ms for each in samples]),
    ):
        delay.plot(minutes, values, color=color, lw=0.7, label=label)
    delay.set_yscale("log")
    delay.set_ylabel("time to the reply, ms")
    delay.legend(loc="lower right", ncols=3, fontsize="small")
    memory.plot(minutes, [each.rss_mb for each in samples], color=BLUE, lw=0.8)
    if any(each.cached_mb for each in samples):
        cached = [each.cached_mb for each in samples]
        memory.plot(minutes, cached, color=LIGHT, lw=0.8, label="of it caches")
        memory.legend(loc="lower right", fontsize="small")
    memory.set_ylim(0)
    memory.set_ylabel("resident, MB")
    for what, color in (("wrong", RED), ("lost", GREY)):
        losses.plot(
            minutes, [getattr(each, what) for each in samples], color=color, lw=1, label=what
        )
    losses.set_ylim(-0.05, max(1.0, losses.get_ylim()[1]))
    losses.set_ylabel("wrong, lost")
    losses.legend(loc="upper right", ncols=2, fontsize="small")
    age.plot(minutes, [each.oldest_s for each in samples], color=BLUE, lw=0.7)
    age.set_ylabel("oldest answer:\nold by, s")
    age.set_xlabel("minutes")
    for each in axes:
        each.grid(alpha=0.25)
        for begin_s, end_s in report.api_away:
            each.axvspan(begin_s / 60, end_s / 60, color=RED, alpha=0.12, lw=0)
        for begin_s, end_s in report.upstream_away:
            each.axvspan(begin_s / 60, end_s / 60, color=GREY, alpha=0.12, lw=0)
    load.set_title("red: the API server is away; grey: one of two upstreams is", fontsize="small")
    figure.savefig(to, dpi=100, pil_kwargs={"optimize": True})


def main() -> None:
    """Read a report and draw it."""
    source, target = sys.argv[1:]
    draw(msgspec.json.decode(Path(source).read_bytes(), type=Report), Path(target))


if __name__ == "__main__":
    main()
