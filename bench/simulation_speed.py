"""How fast the simulator runs: virtual time per real time, events per second, seeds per minute.

    PYTHONPATH=src python bench/simulation_speed.py
    PYTHONPATH=src python bench/simulation_speed.py --seeds 1000 --json
    PYTHONPATH=src python bench/simulation_speed.py --seeds 20 --profile

It decides how many bugs are found. The goal is 1,000 seeds of a virtual minute in ten minutes on
two cores, a hundred times real time. ``--profile`` runs in one process and shows where the time
goes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import time

from quorate.cli.simulate.report import Tally, commit, speed_words
from quorate.simulation.farm import Errand, Farm, cores
from quorate.simulation.plan import Wishes
from quorate.simulation.trial import attempt
from quorate.simulation.units import parse_duration_us

GOAL_TIMES_REAL_TIME = 100


def measure(errand: Errand, seeds: range, jobs: int) -> tuple[Tally, float]:
    """All seeds on a farm; starting its processes counts."""
    tally = Tally()
    start = time.perf_counter()
    with Farm(errand, jobs) as farm:
        for verdict in farm.run(seeds):
            tally.add(verdict)
    return tally, time.perf_counter() - start


def profile(errand: Errand, seeds: range, lines: int) -> None:
    """All seeds in this process, under the profiler."""
    workload_of = errand.workload_of()
    profiler = cProfile.Profile()
    for seed in seeds:
        scenario = errand.scenario(seed, workload_of)
        profiler.enable()
        attempt(scenario, workload_of=workload_of)
        profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--duration", default="60s", help="virtual time of each run")
    parser.add_argument("--workload", default="", help="default: drawn")
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    errand = Errand(Wishes(given.workload, duration_us=parse_duration_us(given.duration)))
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.profile:
        profile(errand, seeds, 40)
        return
    load_before = os.getloadavg()[0]
    tally, seconds = measure(errand, seeds, given.jobs)
    found = {
        "commit": commit(),
        "seeds": given.seeds,
        "duration": given.duration,
        "jobs": given.jobs,
        "load_before": round(load_before, 2),
        **tally.speed(seconds),
        "seeds_min": round(60 * given.seeds / seconds, 1),
        "violations": len(tally.failures),
        "digest": tally.digest,
    }
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{given.seeds} seeds of {given.duration}, {given.jobs} processes: {seconds:.1f} s")
    print(f"{speed_words(tally, seconds)}; {found['seeds_min']:g} seeds a minute")
    print(f"goal: {GOAL_TIMES_REAL_TIME} times real time; digest {tally.digest}")
    if load_before > 0.5:
        print(f"the machine was not idle: load {load_before:.1f} before the start")


if __name__ == "__main__":
    main()
