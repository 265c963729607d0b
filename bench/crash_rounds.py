#!/usr/bin/env python3
"""kill -9 of all three nodes at random moments under write load, again and again.

    PYTHONPATH=src python bench/crash_rounds.py [--rounds 20] [--seed 1]

Counts unique sequential creates and versioned sets: no acknowledged write may be lost, none may
be applied twice.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from crash import RoundResult, crash_rounds


def report(number: int, result: RoundResult) -> None:
    print(
        f"round {number:3}: {result.acknowledged:6} writes acknowledged, serving again after "
        f"{result.restart_seconds:.2f} s, {len(result.problems)} problems",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        problems = crash_rounds(Path(directory), options.rounds, options.seed, report)
    for problem in problems:
        print("PROBLEM:", problem)
    print("nothing lost, nothing applied twice" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
