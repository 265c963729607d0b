#!/usr/bin/env python3
"""What a snapshot of a large tree costs those who write meanwhile.

    PYTHONPATH=src python bench/snapshot_pause.py [--znodes 1000000] [--seconds 60]

Three real nodes on loopback, filled, then written to by a steady load: ``--connections`` clients,
each with ``--window`` requests outstanding, spread over the nodes, changing random znodes. One more
client writes large values, so that the log grows and every node takes snapshots, as it would in
service after a longer time. Each answer is filed under "while at
least one node wrote a snapshot" or "while none did" (the temporary file is there or not).

Printed: the longest interval between two answers anywhere, latencies, throughput, CPU and memory,
with and without a snapshot. The load is one Python thread and shares the machine with the nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import selectors
import struct
import sys
import tempfile
import time
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from harness import Cluster
from many_znodes import Client, fill, path_of, resident_mib, value_of

from quorate.protocol import zookeeper_client as wire

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
REPLY = struct.Struct(">iiqi")  # length, xid, zxid, error
POLL_SECONDS = 0.005


class Answer(NamedTuple):
    """One answered write."""

    at: float
    latency: float
    during_snapshot: bool


class Writer:
    """One client that always has ``window`` writes outstanding."""

    def __init__(self, port: int, seed: int, znodes: int, value_bytes: int) -> None:
        self.socket = Client(port).socket
        self._draw = random.Random(seed)
        self._znodes = znodes
        self._values = [value_of(self._draw, value_bytes) for _ in range(100)]
        self._sent_at: deque[float] = deque()
        self._buffer = b""
        self._xid = 0

    def send(self, count: int, now: float) -> None:
        frames = []
        for _ in range(count):
            self._xid += 1
            path = path_of(self._draw.randrange(self._znodes))
            frames.append(wire.set_data(path, self._draw.choice(self._values)).frame(self._xid))
            self._sent_at.append(now)
        self.socket.sendall(b"".join(frames))

    def receive(self, now: float) -> list[float]:
        """Take what is there; the latencies of the answers."""
        data = self._buffer + self.socket.recv(262144)
        latencies, at = [], 0
        while len(data) - at >= REPLY.size:
            length, _, _, error = REPLY.unpack_from(data, at)
            if len(data) - at < length + 4:
                break
            assert error == 0, error
            latencies.append(now - self._sent_at.popleft())
            at += length + 4
        self._buffer = data[at:]
        return latencies


class Pusher:
    """Makes the log grow at a steady rate, so that snapshots become due: one large value, again
    and again. Its answers are not counted.
    """

    BYTES = 64 << 10

    def __init__(self, port: int, bytes_per_second: float) -> None:
        self.socket = Client(port).socket
        self.socket.setblocking(False)
        self._rate = bytes_per_second
        self._begin = time.perf_counter()
        self._sent = 0
        self._part = wire.set_data(path_of(0), random.Random(1).randbytes(self.BYTES))

    def push(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self.socket.recv(65536)
        if self._sent < (now - self._begin) * self._rate:
            self._sent += self.BYTES
            self.socket.setblocking(True)
            self.socket.sendall(self._part.frame(self._sent // self.BYTES))
            self.socket.setblocking(False)


def is_saving(cluster: Cluster) -> list[int]:
    """The nodes that write a snapshot of their own now."""
    return [node.node_id for node in cluster.nodes.values() if (node.data / "own.tmp").exists()]


def load(cluster: Cluster, options: argparse.Namespace) -> tuple[list[Answer], int]:
    """Write for a while; the answers, and how many snapshots began."""
    ports = [node.client_port for node in cluster.nodes.values()]
    writers = [
        Writer(ports[place % 3], place, options.znodes, options.value_bytes)
        for place in range(options.connections)
    ]
    pusher = Pusher(ports[0], options.log_growth * 2**20)
    selector = selectors.DefaultSelector()
    for writer in writers:
        selector.register(writer.socket, selectors.EVENT_READ, writer)
        writer.send(options.window, time.perf_counter())
    answers: list[Answer] = []
    saving: list[int] = []
    begun = 0
    polled = 0.0
    end = time.perf_counter() + options.seconds
    while (now := time.perf_counter()) < end:
        if now - polled > POLL_SECONDS:
            polled, before, saving = now, saving, is_saving(cluster)
            begun += len(set(saving) - set(before))
            pusher.push(now)
        for key, _ in selector.select(0.01):
            now = time.perf_counter()
            latencies = key.data.receive(now)
            if latencies:
                answers += [Answer(now, latency, bool(saving)) for latency in latencies]
                key.data.send(len(latencies), now)
    return answers, begun


def report(answers: list[Answer], during: bool) -> None:
    """Print one row: gaps between neighbouring answers that were both of this kind."""
    mine = sorted(a.latency for a in answers if a.during_snapshot == during)
    gaps = sorted(
        (later.at - earlier.at, earlier.at - answers[0].at)
        for earlier, later in pairwise(answers)
        if later.during_snapshot == during == earlier.during_snapshot
    )
    if not mine or not gaps:
        print(f"{'during' if during else 'without'}: nothing")
        return
    seconds = sum(gap for gap, _ in gaps)
    last = len(mine) - 1
    longest = ", ".join(f"{gap * 1000:.1f} (at {at:.1f} s)" for gap, at in gaps[:-6:-1])
    print(
        f"{'during' if during else 'without'}: {seconds:6.1f} s, {len(mine) / seconds:8.0f} ops/s, "
        f"p50 {mine[last // 2] * 1000:.2f}, p99 {mine[last * 99 // 100] * 1000:.2f}, "
        f"p99.9 {mine[last * 999 // 1000] * 1000:.2f}, most {mine[-1] * 1000:.1f} ms\n"
        f"    longest gaps between answers, ms: {longest}",
        flush=True,
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--value-bytes", type=int, default=128)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--log-growth", type=float, default=6.0, help="MiB/s beside the load")
    parser.add_argument("--snapshot-every", default="8MiB")
    options = parser.parse_args()
    flags = ("--snapshot-every", options.snapshot_every)
    with tempfile.TemporaryDirectory() as directory, Cluster(Path(directory), 3, flags) as cluster:
        cluster.start()
        begin = time.monotonic()
        fill(cluster.nodes[1].client_port, options.znodes, options.value_bytes)
        pids = [node.process.pid for node in cluster.nodes.values() if node.process is not None]
        memory = [resident_mib(pid) for pid in pids]
        print(f"filled in {time.monotonic() - begin:.1f} s; memory {memory} MiB", flush=True)
        while is_saving(cluster):
            time.sleep(0.1)
        before = [cpu_seconds(pid) for pid in pids]
        answers, begun = load(cluster, options)
        spent = [round(cpu_seconds(pid) - was, 1) for pid, was in zip(pids, before, strict=True)]
        print(f"{len(answers)} answers, {begun} snapshots begun, CPU {spent} s", flush=True)
        report(answers, during=False)
        report(answers, during=True)
        print(f"memory {[resident_mib(pid) for pid in pids]} MiB")
        for node in cluster.nodes.values():
            sizes = [path.stat().st_size >> 20 for path in node.data.glob("snapshot-*.q")]
            print(f"node {node.node_id}: snapshots of {sizes} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
