#!/usr/bin/env python3
"""Minutes of saturating load on three real nodes: leader changes, gaps, memory, errors.

    PYTHONPATH=src python bench/soak.py [--minutes 30] [--connections 64] [--window 16]

Every connection keeps ``window`` setData requests outstanding on a znode of its own, so each answer
must carry the next version, the next xid and a higher zxid; anything else is an error and ends the
run. A line of progress comes every ten seconds: writes per second, the longest silence (no answer
on any connection), the longest wait of one write, epoch and leader, resident memory of each node.

At the end come the slow tails that the nodes measured themselves (late event loops, collections of
garbage, disk writes, batches) and what they warned about.

Exit code 1 when an answer was wrong, a connection was lost, or leadership changed. Memory is
judged by reading: the growth is that of the second half, when trees and caches are warm.
"""

from __future__ import annotations

import argparse
import json
import re
import selectors
import struct
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "process"))

from harness import Cluster
from loader import Connection

# length, xid, zxid, error; then the Stat: four 64-bit fields, version, and the rest
ANSWER = struct.Struct(">iiqi32xi32x")
ANSWER_LENGTH = ANSWER.size - 4
XIDS = 1024  # the loader's ring of prepared requests
TAILS = ("loop_delay", "gc_pause", "disk_write_duration", "commit_duration")


class Checked(Connection):
    """A connection whose every answer is compared with what it must be."""

    def __init__(self, server: str, number: int, args: argparse.Namespace) -> None:
        super().__init__(server, number, args)
        self.version = 1  # the loader has set the znode once
        self.xid = 0
        self.zxid = 0
        self.answers = 0

    def check(self, longest_wait: float, now: float) -> tuple[int, float]:
        """Take what is there; returns how many answers, and the longest wait so far."""
        chunk = self.socket.recv(262_144)
        if not chunk:
            raise SystemExit("the node closed the connection")
        data = self.buffer + chunk
        whole = len(data) - len(data) % ANSWER.size
        count, (xid, zxid, version) = 0, (self.xid, self.zxid, self.version)
        for length, its_xid, its_zxid, error, its_version in ANSWER.iter_unpack(data[:whole]):
            version += 1
            if (
                error
                or length != ANSWER_LENGTH
                or its_xid != xid
                or its_version != version
                or its_zxid <= zxid
            ):
                raise SystemExit(
                    f"wrong answer: length {length}, xid {its_xid} (expected {xid}), zxid "
                    f"{its_zxid} (after {zxid}), error {error}, version {its_version} (expected "
                    f"{version})"
                )
            xid, zxid, count = (xid + 1) % XIDS, its_zxid, count + 1
        sent_at = self.sent_at
        for _ in range(count):
            longest_wait = max(longest_wait, now - sent_at.popleft())
        self.xid, self.zxid, self.version, self.buffer = xid, zxid, version, data[whole:]
        self.answers += count
        return count, longest_wait


@dataclass
class Sample:
    """Ten seconds of load."""

    second: float
    writes_per_second: float
    longest_silence_ms: float
    longest_wait_ms: float
    epochs: dict[int, int]
    leaders: dict[int, int]
    resident_mib: dict[int, float]


@dataclass
class Result:
    """What a run showed."""

    minutes: float = 0.0
    writes: int = 0
    longest_silence_ms: float = 0.0
    longest_wait_ms: float = 0.0
    leader_changes: int = 0
    error: str = ""
    growth_mib: dict[int, float] = field(default_factory=dict)
    tails_seconds: dict[str, dict[int, str]] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


class Watcher(threading.Thread):
    """Asks every node for its status each second, beside the load."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name="soak-watcher", daemon=True)
        self._cluster = cluster
        self._stop_asked = threading.Event()
        self.epochs: dict[int, int] = {}
        self.leaders: dict[int, int] = {}
        self.reigns: list[tuple[int, int]] = []  # (epoch, leader), in the order seen

    def run(self) -> None:
        while not self._stop_asked.wait(1.0):
            self.look()

    def look(self) -> None:
        for number, node in self._cluster.nodes.items():
            page = node.status()
            if page is None:
                continue
            self.epochs[number], self.leaders[number] = page["epoch"], page["leader"]
            reign = page["epoch"], page["leader"]
            if page["leader"] and reign not in self.reigns:
                self.reigns.append(reign)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(10)


def resident_mib(cluster: Cluster) -> dict[int, float]:
    """Resident memory of each node's process."""
    found = {}
    for number, node in cluster.nodes.items():
        assert node.process is not None
        text = Path(f"/proc/{node.process.pid}/status").read_text()
        kib = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
        found[number] = round(kib / 1024, 1)
    return found


def soak(directory: Path, args: argparse.Namespace) -> Result:
    """Run the load; returns what happened."""
    result = Result()
    with Cluster(directory, options=args.option) as cluster:
        cluster.start()
        watcher = Watcher(cluster)
        watcher.look()
        watcher.start()
        servers = cluster.servers.split(",")
        connections = [
            Checked(servers[number % len(servers)], number, args)
            for number in range(args.connections)
        ]
        try:
            _drive(connections, cluster, watcher, args, result)
        except (SystemExit, OSError) as error:
            result.error = str(error)
        watcher.stop()
        watcher.look()
        result.leader_changes = len(watcher.reigns) - 1
        result.growth_mib = _growth(result.samples)
        for name in TAILS:
            result.tails_seconds[name] = {
                number: _tail((node.page("/metrics") or (0, ""))[1], f"quorate_{name}_seconds")
                for number, node in cluster.nodes.items()
            }
        result.warnings = _warnings(cluster)
    return result


def _drive(
    connections: list[Checked],
    cluster: Cluster,
    watcher: Watcher,
    args: argparse.Namespace,
    result: Result,
) -> None:
    selector = selectors.DefaultSelector()
    begin = last = time.perf_counter()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(args.window, begin)
    end, due = begin + args.minutes * 60, begin + args.every
    writes, silence, wait = 0, 0.0, 0.0
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(1.0):
            now = time.perf_counter()
            count, wait = key.data.check(wait, now)
            if count:
                silence, last = max(silence, now - last), now
                writes += count
                key.data.send(count, now)
        silence = max(silence, now - last)
        if now >= due:
            sample = Sample(
                round(now - begin, 1),
                round(writes / (now - due + args.every)),
                round(silence * 1000, 1),
                round(wait * 1000, 1),
                dict(watcher.epochs),
                dict(watcher.leaders),
                resident_mib(cluster),
            )
            _note(result, sample, writes)
            print(_line(sample), flush=True)
            due, writes, silence, wait = now + args.every, 0, 0.0, 0.0
    result.minutes = round((time.perf_counter() - begin) / 60, 2)


def _note(result: Result, sample: Sample, writes: int) -> None:
    result.samples.append(sample)
    result.writes += writes
    result.longest_silence_ms = max(result.longest_silence_ms, sample.longest_silence_ms)
    result.longest_wait_ms = max(result.longest_wait_ms, sample.longest_wait_ms)


def _growth(samples: list[Sample]) -> dict[int, float]:
    """Resident memory at the end against the middle, per node."""
    if len(samples) < 2:
        return {}
    middle, end = samples[len(samples) // 2], samples[-1]
    return {
        number: round(end.resident_mib[number] - mib, 1)
        for number, mib in middle.resident_mib.items()
    }


def _tail(page: str, name: str) -> str:
    """In which bucket the slowest observations lie: "99.9 % up to, all up to"."""
    buckets = [
        (bound, int(count))
        for bound, count in re.findall(rf'^{name}_bucket{{le="(.+?)"}} (\d+)$', page, re.MULTILINE)
    ]
    if not buckets or not buckets[-1][1]:
        return "none"
    total = buckets[-1][1]
    most = next(bound for bound, count in buckets if count >= 0.999 * total)
    return f"{most}, {next(bound for bound, count in buckets if count == total)}"


def _warnings(cluster: Cluster) -> dict[str, int]:
    """What nodes warned about, numbers left out, and how often."""
    found: dict[str, int] = {}
    for node in cluster.nodes.values():
        for words in re.findall(r" (?:WARNING|ERROR|CRITICAL) +node \d+: (.*)", node.log):
            plain = re.sub(r"\d+(\.\d+)*", "#", words)
            found[plain] = found.get(plain, 0) + 1
    return found


def _line(sample: Sample) -> str:
    memory = " ".join(f"{mib:7.1f}" for mib in sample.resident_mib.values())
    epoch = max(sample.epochs.values(), default=0)
    leader = max((sample.epochs[n], sample.leaders[n]) for n in sample.epochs)[1]
    return (
        f"{sample.second:8.0f} {sample.writes_per_second:9,.0f} "
        f"{sample.longest_silence_ms:11.1f} {sample.longest_wait_ms:11.1f} "
        f"{epoch:6} {leader:7}  {memory}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--window", type=int, default=16, help="outstanding requests on each")
    parser.add_argument("--value-bytes", type=int, default=128)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between lines")
    parser.add_argument("--dir", type=Path, help="where data directories go (default: temporary)")
    parser.add_argument("--option", action="append", default=[], help="for quorate serve")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    args.read_percent = 0
    print("  second  writes/s  silence ms     wait ms  epoch  leader  resident MiB of each node")
    with tempfile.TemporaryDirectory(dir=args.dir) as directory:
        result = soak(Path(directory), args)
    if args.json:
        args.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(
        f"{result.writes:,} writes in {result.minutes:g} min; longest silence "
        f"{result.longest_silence_ms:g} ms, longest wait of a write {result.longest_wait_ms:g} ms"
    )
    print(
        f"leader changes: {result.leader_changes}; memory growth of the second half in MiB: "
        f"{result.growth_mib}"
    )
    for name, by_node in result.tails_seconds.items():
        words = "; ".join(f"node {number} {tail}" for number, tail in by_node.items())
        print(f"{name}, seconds that 99.9 % and that all took at most: {words}")
    for words, count in sorted(result.warnings.items()):
        print(f"{count:6} x {words}")
    print(f"error: {result.error or 'none'}")
    return 1 if result.error or result.leader_changes else 0


if __name__ == "__main__":
    sys.exit(main())
