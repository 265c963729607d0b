"""What linearizable reads cost: the same reads with ``--reads`` local, linearizable and lease.

Each round starts a fresh three-node cluster for each mode in turn and runs every load of getData
against it; the table shows the medians, and reads per second against ``local``. The parts are those
of ``compare_zookeeper.py``, and its advice holds: an idle machine, and a loader that is not the
bottleneck (``CPU us/op`` is of the servers alone, so it tells the modes apart in any case).

    .venv/bin/python bench/read_modes.py
    .venv/bin/python bench/read_modes.py --loads 1x1,64x16 --rounds 5 --loader ./my_loader
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import compare_zookeeper

MODES = ("local", "linearizable", "lease")


def show(results: dict[tuple[int, int], dict[str, list[compare_zookeeper.Result]]]) -> None:
    """Print the medians, one line per load and mode."""
    head = f"{'load':>8} {'reads':13} {'ops/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'CPU us/op':>10}"
    print(f"\n{head} {'of local':>9}")
    for (connections, window), modes in results.items():
        local = statistics.median(run.ops_s for run in modes["local"])
        for mode, runs in modes.items():
            ops_s, p50, p99, cpu = (
                statistics.median(getattr(run, name) for run in runs)
                for name in ("ops_s", "p50_ms", "p99_ms", "cpu_us")
            )
            row = f"{f'{connections}x{window}':>8} {mode:13} {ops_s:9,.0f} {p50:8.2f} {p99:8.2f}"
            print(f"{row} {cpu:10.1f} {ops_s / local:9.2f}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loader", help="an external loader (default: loader.py beside this file)")
    parser.add_argument("--loads", default="1x1,64x16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--warmup", type=float, default=1.5)
    parser.add_argument("--value-bytes", type=int, default=128)
    parser.add_argument("--read-percent", type=int, default=100)
    parser.add_argument("--base-port", type=int, default=23600)
    args = parser.parse_args()
    loader = str(Path(__file__).resolve().parent / "loader.py")
    args.loader = [args.loader] if args.loader else [sys.executable, loader]
    args.loads = [tuple(map(int, load.split("x"))) for load in args.loads.split(",")]
    return args


def main() -> None:
    """Measure every mode in every round, in turn."""
    args = arguments()
    results = {load: {mode: [] for mode in MODES} for load in args.loads}
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; keep it idle")
    for number in range(args.rounds):
        for mode in MODES:
            os.environ["QUORATE_READS"] = mode
            directory = Path(tempfile.mkdtemp(prefix="read-modes-"))
            with compare_zookeeper.cluster("quorate", directory, args.base_port) as cluster:
                for load in args.loads:
                    result = compare_zookeeper.measure(args, *cluster, load)
                    results[load][mode].append(result)
            print(f"round {number + 1} of {args.rounds}: {mode} done", file=sys.stderr)
    show(results)


if __name__ == "__main__":
    main()
