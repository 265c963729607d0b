#!/usr/bin/env python3
"""Replace all nodes of a cluster one at a time under load, and see what clients notice.

    PYTHONPATH=src python bench/replace_all.py [--sessions 64] [--window 16] [--seconds 2]
                                               [--znodes 100000] [--snapshot-every 8MiB]

A new node joins (``quorate serve --join``), catches up and is promoted; then an old one is removed
(``quorate cluster remove``), the leader among them; until no node of the first cluster is left.
Sessions of a node that is to go move away first, as a load balancer would have them do. Nothing
acknowledged may be lost, no session may see an error, and the longest time without any acknowledged
write must stay below half a second; exits with 1 otherwise.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from harness import Cluster
from replacing import SteadyLoad, replace_all
from workloads import client

GAP_MS_MAX = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--znodes", type=int, default=0, help="of 128 bytes, before it begins")
    parser.add_argument("--snapshot-every", default="64MiB", help="small: newcomers need one")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load around each step")
    args = parser.parse_args()
    gaps = []

    def tell(words: str) -> None:
        print(words, flush=True)
        gaps.append(float(words.partition("longest gap ")[2].partition(" ms")[0]))

    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory), args.nodes, ["--snapshot-every", args.snapshot_every]) as cluster,
    ):
        cluster.start()
        with client(cluster.servers) as zk:
            for first in range(0, args.znodes, 1000):
                made = [
                    zk.create_async(f"/filler-{first + k}", bytes(128))
                    for k in range(min(1000, args.znodes - first))
                ]
                for answer in made:
                    answer.get(20)
        with SteadyLoad(cluster.servers, args.sessions, args.window) as load:
            last = replace_all(cluster, load, tell, args.seconds)
    print(f"longest gap {max(gaps)} ms; problems {last['problems']}; lost {last['lost']}")
    return 1 if max(gaps) > GAP_MS_MAX or last["problems"] or last["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
