#!/usr/bin/env python3
"""How long a node needs from the start of its process to its first answered read and write.

    PYTHONPATH=src python bench/restart_time.py [--znodes 100000] [--nodes 1] [--stop term|kill]

Fills a cluster, stops one node, starts it again and asks it through its own port: a read of a
znode that was written last, and a write. Of a cluster of one this is the time without service; of
three, how long the node is missing. The log behind the last snapshot is replayed too: how long it
is depends on how the fill fell (``--extra-writes`` makes it longer), so it is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from harness import Cluster, Node
from many_znodes import Client, fill, path_of, resident_mib, value_of

from quorate.protocol import zookeeper_client as wire
from quorate.protocol.zookeeper import OpCode


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_answers(node: Node, number: int) -> tuple[float, float, float]:
    """Start the node; seconds until a read and until a write was answered, and CPU until then."""
    begin = time.monotonic()
    node.start()
    while True:
        try:
            client = Client(node.client_port)
            break
        except OSError:
            if time.monotonic() - begin > 120:
                raise
            time.sleep(0.002)
    reply = client.ask(wire.get(OpCode.GET_DATA, path_of(number)))
    read = time.monotonic() - begin
    assert reply.error == 0, reply
    reply = client.ask(wire.set_data(path_of(number), b"after"))
    assert reply.error == 0, reply
    written = time.monotonic() - begin
    client.close()
    assert node.process is not None
    return read, written, cpu_seconds(node.process.pid)


def write_more(port: int, count: int, znodes: int, value_bytes: int) -> None:
    """Change ``count`` znodes, so that the log behind the snapshot gets longer."""
    draw = random.Random(count)
    client = Client(port)
    for first in range(0, count, 500):
        size = min(500, count - first)
        places = [draw.randrange(znodes) for _ in range(size)]
        value = value_of(draw, value_bytes)
        client.pipeline([wire.set_data(path_of(place), value) for place in places])
    client.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--znodes", type=int, default=100_000)
    parser.add_argument("--value-bytes", type=int, default=128)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--extra-writes", type=int, default=0)
    parser.add_argument("--stop", choices=("term", "kill"), default="kill")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), options.nodes) as c:
        c.start()
        node = c.nodes[1]
        begin = time.monotonic()
        fill(node.client_port, options.znodes, options.value_bytes)
        write_more(node.client_port, options.extra_writes, options.znodes, options.value_bytes)
        print(f"filled in {time.monotonic() - begin:.1f} s", flush=True)
        for number in range(1, options.rounds + 1):
            node.send(signal.SIGTERM if options.stop == "term" else signal.SIGKILL)
            node.wait(60)
            read, written, cpu = first_answers(node, options.znodes - 1)
            assert node.process is not None
            snapshot = max(node.data.glob("snapshot-*.q"), default=None)
            size = snapshot.stat().st_size / 2**20 if snapshot else 0
            hello = [line for line in node.log.splitlines() if " serves " in line][-1]
            print(
                f"round {number}: read after {read:.2f} s, write after {written:.2f} s "
                f"({cpu:.2f} s of CPU), "
                f"{resident_mib(node.process.pid)} MiB, snapshot {size:.0f} MiB\n    {hello}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
