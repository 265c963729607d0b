#!/usr/bin/env python3
"""How long quorate is without a leader, beside Fig. 16 of the Raft paper.

    PYTHONPATH=src python bench/election_downtime.py [--trials 1000] [--logs differ|equal|both]
    PYTHONPATH=src python bench/election_downtime.py --ranges 150-300 --ranges 50-100 --jitter-ms 5
    PYTHONPATH=src python bench/election_downtime.py --wan

The real engine in virtual time: each trial crashes a leader right after a heartbeat that all
followers got at the same moment, and measures until another leads. Closed connections are not
reported to the engine, so this is the time of a lost machine or network; a killed *process* is
replaced within milliseconds. The paper measured LogCabin, which has no pre-vote, on real machines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from raft_wake import raft_wake
from svg_plot import COLOURS, Line, Panel, cdf_plot

from quorate.simulation.elections import Downtime, ElectionTrial, crash_leader

PAPER_MEDIAN_MS = {
    (150, 150): 41_093,
    (150, 151): 1_198,
    (150, 155): 287,
    (150, 175): 141,
    (150, 200): 146,
    (150, 300): 171,
    (12, 24): 30,
    (25, 50): 43,
    (50, 100): 67,
    (100, 200): 120,
}
"""Ongaro and Ousterhout 2014, Fig. 16; those that the text does not give are read off the plot."""

TOP = [(150, 150), (150, 151), (150, 155), (150, 175), (150, 200), (150, 300)]
BOTTOM = [(12, 24), (25, 50), (50, 100), (100, 200), (150, 300)]
FIXED_TRIALS = 100
LOGS = {"differ": [True], "equal": [False], "both": [True, False]}
QUANTILES = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p99": 0.99, "max": 1.0}


def one(trial: ElectionTrial, seed: int) -> Downtime:
    return crash_leader(trial, seed, next_wake=raft_wake)


def measure(trial: ElectionTrial, trials: int, pool) -> dict:
    """Run the trials of one row; times in ms, None where no leader came within the cap."""
    started = time.monotonic()
    results = pool.map(partial(one, trial), range(trials), chunksize=max(1, trials // 40))
    return {
        "range_ms": list(trial.timeout_ms),
        "logs": "differ" if trial.logs_differ else "equal",
        "dead": trial.dead,
        "trials": trials,
        "cap_ms": trial.cap_us // 1000,
        "leader_ms": sorted(_ms(result.leader_us) for result in results if result.leader_us),
        "serving_ms": sorted(_ms(result.serving_us) for result in results if result.serving_us),
        "epochs": statistics.mean(result.epochs for result in results),
        "seconds": time.monotonic() - started,
    }


def _ms(duration_us: int) -> float:
    return duration_us / 1000


def quantile(row: dict, share: float) -> float | None:
    """None: beyond the cap."""
    place = int(share * (row["trials"] - 1))
    return row["leader_ms"][place] if place < len(row["leader_ms"]) else None


def summary(row: dict) -> dict:
    """A row for a file: the 101 percentiles of the downtimes instead of each of them."""
    percentiles = [quantile(row, share / 100) for share in range(101)]
    serving = row["serving_ms"]
    return {
        "range_ms": row["range_ms"],
        "logs": row["logs"],
        "dead": row["dead"],
        "trials": row["trials"],
        "never": row["trials"] - len(row["leader_ms"]),
        "cap_ms": row["cap_ms"],
        "epochs_mean": round(row["epochs"], 3),
        "serving_median_ms": statistics.median(serving) if serving else None,
        "paper_median_ms": PAPER_MEDIAN_MS.get(tuple(row["range_ms"])),
        "percentiles_ms": percentiles,
    }


def print_head(title: str) -> None:
    print(f"\n{title}\n")
    head = "".join(f"{name:>9}" for name in QUANTILES)
    print(f"{'timeouts':>9}{head}{'paper':>9}{'epochs':>8}{'never':>7}{'serving':>9}")


def print_row(row: dict) -> None:
    low, high = row["range_ms"]
    cells = ""
    for share in QUANTILES.values():
        value = quantile(row, share)
        cells += f"{value:9,.0f}" if value is not None else f"{'>' + str(row['cap_ms']):>9}"
    paper = PAPER_MEDIAN_MS.get((low, high))
    never = row["trials"] - len(row["leader_ms"])
    serving = row["serving_ms"]
    served = f"{statistics.median(serving):9,.0f}" if 2 * len(serving) > row["trials"] else ""
    print(
        f"{f'{low}-{high}':>9}{cells}{paper or '':>9}{row['epochs']:8.2f}{never or '':>7}"
        f"{served or 'never':>9}",
        flush=True,
    )


def panel(title: str, rows: list[dict], ranges: list[tuple[int, int]], high: float) -> Panel:
    drawn = Panel(title, 10, high, "milliseconds without a leader")
    for wanted in ranges:
        for row in rows:
            if tuple(row["range_ms"]) == wanted:
                median = quantile(row, 0.5)
                shown = f"{median:,.0f}" if median is not None else f">{row['cap_ms']:,}"
                label = f"{wanted[0]}–{wanted[1]}: {shown} ({PAPER_MEDIAN_MS[wanted]:,})"
                never = [float("inf")] * (row["trials"] - len(row["leader_ms"]))
                values = row["leader_ms"] + never
                colour = len(COLOURS) - len(ranges) + ranges.index(wanted)
                drawn.lines.append(Line(label, values, PAPER_MEDIAN_MS[wanted], colour))
    return drawn


def plot(rows: list[dict]) -> str:
    panels = []
    for logs in ("differ", "equal"):
        chosen = [row for row in rows if row["logs"] == logs]
        if chosen:
            panels.append(panel(f"More randomness, logs {logs}", chosen, TOP, 100_000))
            panels.append(panel(f"Shorter timeouts, logs {logs}", chosen, BOTTOM, 1_000))
    note = "Names: timeouts in ms: our median (the paper's). Rings: the paper's medians."
    return cdf_plot(panels, columns=2, note=note)


def parse_range(text: str) -> tuple[int, int]:
    low, high = text.split("-")
    return int(low), int(high)


def lan(options: argparse.Namespace, pool) -> list[dict]:
    half_us = int(options.jitter_ms * 500)
    centre_us = int(options.one_way_ms * 1000)
    rows = []
    for logs_differ in LOGS[options.logs]:
        print_head(
            f"5 nodes, {options.one_way_ms:g} ms one way, jitter {options.jitter_ms:g} ms, logs "
            f"{'differ' if logs_differ else 'equal'}; ms until another leads"
        )
        for timeout_ms in options.ranges or list(PAPER_MEDIAN_MS):
            trial = ElectionTrial(
                timeout_ms,
                one_way_us=(centre_us - half_us, centre_us + half_us),
                logs_differ=logs_differ,
                resolution_us=options.resolution_us,
                retries=options.retries,
            )
            is_fixed = timeout_ms[0] == timeout_ms[1]
            trials = min(options.trials, FIXED_TRIALS) if is_fixed else options.trials
            rows.append(measure(trial, trials, pool))
            print_row(rows[-1])
    return rows


def wan(options: argparse.Namespace, pool) -> list[dict]:
    """Dissertation §9.4: across a continent, one or two of five dead."""
    rows = []
    print("\n5 nodes, 30-40 ms one way, timeouts 300-600 ms, logs equal\n")
    print(f"{'dead':>6}{'mean':>8}{'median':>8}{'p99':>8}{'p99.9':>8}{'max':>8}   dissertation")
    theirs = {1: "mean 475, 99.9 % under 1,500", 2: "mean 650, 99.9 % under 3,000"}
    for dead in (1, 2):
        trial = ElectionTrial((300, 600), dead=dead, one_way_us=(30_000, 40_000), logs_differ=False)
        row = measure(trial, options.trials, pool)
        rows.append(row)
        cells = "".join(f"{quantile(row, q) or 0:8,.0f}" for q in (0.5, 0.99, 0.999, 1.0))
        mean = statistics.mean(row["leader_ms"])
        print(f"{dead:>6}{mean:8,.0f}{cells}   {theirs[dead]}", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--ranges", type=parse_range, action="append", metavar="LOW-HIGH")
    parser.add_argument("--logs", choices=sorted(LOGS), default="both")
    parser.add_argument("--one-way-ms", type=float, default=7.5)
    parser.add_argument("--jitter-ms", type=float, default=0.0, help="width of the latencies")
    parser.add_argument(
        "--resolution-us", type=int, default=10, help="step of the clocks; the product has 1000"
    )
    parser.add_argument(
        "--retries", type=int, default=0, help="lost rounds tried again early; the product has 4"
    )
    parser.add_argument("--wan", action="store_true", help="the rows across a continent instead")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    options = parser.parse_args()
    with multiprocessing.Pool(options.processes) as pool:
        rows = wan(options, pool) if options.wan else lan(options, pool)
    if options.json:
        lines = ",\n".join(json.dumps(summary(row)) for row in rows)
        options.json.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    if options.svg and not options.wan:
        options.svg.write_text(plot(rows), encoding="utf-8")
    print(f"\n{sum(row['trials'] for row in rows)} crashes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
