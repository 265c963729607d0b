#!/usr/bin/env python3
"""Loss of the leader as a kazoo client on a surviving follower sees it; default settings.

    PYTHONPATH=src python bench/failover_kazoo.py [--times 20] [--ways kill,stop,terminate,transfer]

kill: kill -9. stop: SIGSTOP, so that its connections stand and only silence tells. terminate:
SIGTERM, which hands leadership over. transfer: ``quorate cluster transfer``.

Prints the longest gap between two successful writes around each loss, and the median. The client
must see no error at all.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from failover import WAYS, measure_failovers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--ways", default=",".join(WAYS))
    args = parser.parse_args()
    failed = False
    for way in args.ways.split(","):
        with tempfile.TemporaryDirectory() as directory:
            gaps, errors = measure_failovers(Path(directory), args.times, way)
        print(f"{way:10} ms: " + " ".join(f"{gap:.0f}" for gap in gaps))
        median = statistics.median(gaps)
        print(f"{way:10} median {median:.1f} ms, most {max(gaps):.1f} ms; errors {errors[:3]}")
        failed |= bool(errors)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
