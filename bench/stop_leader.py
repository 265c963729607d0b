#!/usr/bin/env python3
"""The leader stands still (SIGSTOP): how long writes through a surviving node stop.

    PYTHONPATH=src python bench/stop_leader.py [--stops 10]

Default settings. Nothing tells the others that the leader hangs, its connections stay open: they
wait for an election timeout, drawn anew each time. Each leader goes on (SIGCONT) before the next is
stopped. Exit code 1 when the client saw an error, or a gap of a second or more.
"""

import argparse
import signal
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from harness import Cluster, wait_until
from workloads import FailoverWriter

WRITES_BETWEEN = 50


def measure_stops(directory: Path, stops: int) -> tuple[list[float], list[str]]:
    """Stop ``stops`` leaders in a row; returns the longest gap of each in ms, and all errors."""
    gaps: list[float] = []
    errors: list[str] = []
    with Cluster(directory) as cluster:
        cluster.start()
        for _ in range(stops):
            leader = cluster.leader()
            with FailoverWriter(cluster.followers()[0].server) as writer:
                _write_on(writer)
                writer.reset()
                leader.send(signal.SIGSTOP)
                try:
                    _write_on(writer)
                finally:
                    leader.send(signal.SIGCONT)
                _write_on(writer)
                gaps.append(writer.longest_gap_ms)
            errors += writer.errors
            cluster.wait_serving()
    return gaps, errors


def _write_on(writer: FailoverWriter) -> None:
    wanted = writer.writes + WRITES_BETWEEN
    wait_until(lambda: writer.writes >= wanted, 30, "the client goes on writing")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stops", type=int, default=10)
    stops = parser.parse_args().stops
    with tempfile.TemporaryDirectory() as directory:
        gaps, errors = measure_stops(Path(directory), stops)
    print("stop  longest gap")
    for number, gap in enumerate(gaps, 1):
        print(f"{number:4}  {gap:8.1f} ms")
    print(f"median {statistics.median(gaps):.1f} ms, most {max(gaps):.1f} ms")
    print(f"errors seen by the client: {len(errors)} {errors[:3]}")
    return 1 if errors or max(gaps) >= 1000 else 0


if __name__ == "__main__":
    sys.exit(main())
