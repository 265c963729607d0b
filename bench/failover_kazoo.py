#!/usr/bin/env python3
"""Fail-over as a kazoo client sees it: kill -9 of the leader, client on a surviving follower.

    PYTHONPATH=src python bench/failover_kazoo.py [--kills 10]

Prints the longest gap between two successful writes around each kill, and the median. The client
must see no error at all.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from failover import measure_failovers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as directory:
        gaps, errors = measure_failovers(Path(directory), kills)
    print("kill  longest gap")
    for number, gap in enumerate(gaps, 1):
        print(f"{number:4}  {gap:8.1f} ms")
    print(f"median {statistics.median(gaps):.1f} ms, most {max(gaps):.1f} ms")
    print(f"errors seen by the client: {len(errors)} {errors[:3]}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
