#!/usr/bin/env python3
"""The figures of docs/theory.md, measured: adversary, valences, stabilisation.

    PYTHONPATH=src python bench/theory_figures.py [--steps 3000] [--seeds 1000] [--svg FILE]

``--svg`` draws the duel of two proposers as a ring of bivalent configurations.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import deque
from pathlib import Path

from svg_plot import STYLE, XMLNS

from quorate.simulation.theory.adversary import Adversary
from quorate.simulation.theory.single_decree import (
    Configuration,
    Move,
    apply,
    duel,
    initial,
    moves,
    run,
)
from quorate.simulation.theory.stabilisation import stabilise
from quorate.simulation.theory.valence import BIVALENT, ValenceGraph, explore

PURPLE, BLUE, ORANGE = "#8f5bd7", "#2f83d6", "#dd7a1f"
WIDTH, HEIGHT, RADIUS = 900, 640, 205
CENTRE = (480, 320)


def adversary(steps: int) -> None:
    print(f"A scheduler that only delays, {steps} steps, then a fair one (median of 20 seeds)\n")
    names = ("arrivals", "epochs", "votes spoilt", "held at once", "longest delay", "then decided")
    print(f"{'nodes':>6}" + "".join(f"{name:>15}" for name in names))
    for nodes in (3, 5):
        reports = []
        for seed in range(20):
            scheduler = Adversary(seed, nodes=nodes)
            scheduler.keep_undecided(steps)
            reports.append(scheduler.decide_fairly(limit_ms=3_000))
        median = [
            statistics.median(getattr(report, name) for report in reports)
            for name in ("delivered", "epochs", "depositions")
        ]
        held = max(report.withheld_most for report in reports)
        delay = max(report.delay_most for report in reports)
        fair = max(report.fair_ticks_ms for report in reports)
        cells = "".join(f"{value:15,.0f}" for value in median)
        print(f"{nodes:>6}{cells}{held:15}{f'{delay} steps':>15}{f'<= {fair} ms':>15}", flush=True)


def stabilisation(seeds: int) -> None:
    print(f"\nFrom GST to a decision on all nodes, {seeds} seeds; timeouts 150-300 ms\n")
    names = ("median ms", "p99 ms", "max ms", "epochs before", "lost before")
    print(f"{'nodes':>6}" + "".join(f"{name:>15}" for name in names))
    for nodes in (3, 5):
        runs = [stabilise(seed, nodes=nodes) for seed in range(seeds)]
        times = sorted(one.decided_ms for one in runs)
        values = (
            times[len(times) // 2],
            times[int(0.99 * len(times))],
            times[-1],
            statistics.mean(one.epochs_before for one in runs),
            sum(one.lost for one in runs),
        )
        print(f"{nodes:>6}" + "".join(f"{value:15,.0f}" for value in values), flush=True)


def valences() -> ValenceGraph:
    graph = explore()
    steps = sum(len(found) for found in graph.successors)
    print(
        f"\nTwo proposers, three acceptors: {len(graph.configurations):,} configurations, ", end=""
    )
    print(f"{steps:,} steps between them")
    for name, count in graph.counts().items():
        print(f"  {name:<10}{count:8,}")
    stuck = sum(
        bits == BIVALENT and all(graph.valence[to] != BIVALENT for _, to in graph.successors[at])
        for at, bits in enumerate(graph.valence)
    )
    print(f"  bivalent without a bivalent successor: {stuck}")
    return graph


# ---- the drawing -------------------------------------------------------------------------------


def way_out(graph: ValenceGraph, start: Configuration, bits: int, most: int) -> list[Move] | None:
    """The shortest run to a configuration of that valence, of at most so many steps."""
    todo: deque[tuple[Configuration, list[Move]]] = deque([(start, [])])
    while todo:
        configuration, path = todo.popleft()
        if graph.valence_of(configuration) == bits:
            return path
        if len(path) < most:
            todo += [(apply(configuration, move), [*path, move]) for move in moves(configuration)]
    return None


def at(angle: float, radius: float) -> tuple[float, float]:
    x, y = CENTRE[0] + radius * math.cos(angle), CENTRE[1] + radius * math.sin(angle)
    return round(x, 1), round(y, 1)


def dot(place: tuple[float, float], colour: str, radius: float) -> str:
    return f'<circle cx="{place[0]}" cy="{place[1]}" r="{radius}" fill="{colour}"/>'


def line(start: tuple[float, float], end: tuple[float, float], colour: str, extra: str = "") -> str:
    return (
        f'<path d="M{start[0]} {start[1]}L{end[0]} {end[1]}" stroke="{colour}" '
        f'stroke-width="1.5" {extra}/>'
    )


def text(place: tuple[float, float], words: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{place[0]}" y="{place[1] + 4}" text-anchor="{anchor}" {extra}>{words}</text>'


def side(angle: float) -> str:
    """How text inside the ring at this angle is anchored so that it does not cross the ring."""
    if abs(math.cos(angle)) < 0.55:
        return "middle"
    return "start" if math.cos(angle) < 0 else "end"


def draw(graph: ValenceGraph) -> str:
    opening, cycle = duel()
    path = run(initial(), opening + cycle)[len(opening) :]
    count = len(cycle)
    parts = [
        f'<svg xmlns="{XMLNS}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">',
        f"<style>{STYLE}</style>",
        "<defs>",
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" orient="auto"',
        ' markerWidth="7" markerHeight="7">',
        f'<path d="M0 0L8 4L0 8z" fill="{PURPLE}"/></marker></defs>',
    ]
    for place, move in enumerate(cycle):
        angle = math.pi + 2 * math.pi * place / count
        following = angle + 2 * math.pi / count
        start, end = at(angle + 0.05, RADIUS), at(following - 0.05, RADIUS)
        parts.append(line(start, end, PURPLE, 'marker-end="url(#tip)"'))
        middle = (angle + following) / 2
        anchor = side(middle)
        depth = 38 if anchor == "middle" and abs(math.cos(middle)) > 0.1 else 16
        parts.append(text(at(middle, RADIUS - depth), str(move), anchor))
        parts += exits(graph, path[place], angle)
        parts.append(dot(at(angle, RADIUS), PURPLE, 7))
    ring = at(math.pi, RADIUS)
    parts.append(
        f'<path d="M40 150C40 260 140 300 {ring[0] - 10} {ring[1] - 4}" fill="none" '
        f'stroke="{PURPLE}" stroke-width="1.5" stroke-dasharray="4 4" marker-end="url(#tip)"/>'
    )
    parts += [
        dot((40, 144), PURPLE, 7),
        text((54, 138), "the initial configuration", "start"),
        text((54, 156), "P0 wishes 0, P1 wishes 1", "start", 'class="quiet"'),
        text((84, 226), "both prepare at all three", "start", 'class="quiet"'),
        *legend(),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def exits(graph: ValenceGraph, configuration: Configuration, angle: float) -> list[str]:
    """Short ways out of the ring, to where only one value is left."""
    parts = []
    found = [(way_out(graph, configuration, bits, 2), bits) for bits in (1, 2)]
    ways = [(way, bits) for way, bits in found if way is not None]
    for number, (way, bits) in enumerate(ways):
        spread = (number - (len(ways) - 1) / 2) * 0.2
        colour = BLUE if bits == 1 else ORANGE
        last, length = at(angle, RADIUS), 0
        for length in range(1, len(way) + 1):
            place = at(angle + spread * length / 2, RADIUS + 34 * length)
            parts.insert(0, line(last, place, colour if length == len(way) else PURPLE))
            parts.append(dot(place, colour if length == len(way) else PURPLE, 5))
            last = place
        end = at(angle + spread, RADIUS + 34 * length + 14)
        parts.append(text(end, str(bits - 1), "middle", f'style="fill: {colour}"'))
    return parts


def legend() -> list[str]:
    rows = (
        (PURPLE, "bivalent: both values can still be decided"),
        (BLUE, "0-valent: only 0 is left"),
        (ORANGE, "1-valent: only 1 is left"),
    )
    parts = []
    for number, (colour, words) in enumerate(rows):
        y = CENTRE[1] - 22 + 22 * number
        parts += [dot((CENTRE[0] - 124, y), colour, 5), text((CENTRE[0] - 112, y), words, "start")]
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--svg", type=Path, metavar="FILE")
    options = parser.parse_args()
    adversary(options.steps)
    stabilisation(options.seeds)
    graph = valences()
    if options.svg:
        options.svg.write_text(draw(graph), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
