"""The same load against quorate and against ZooKeeper, in turn, on this machine.

Each round starts a fresh three-node cluster of the one, runs every load, stops it, and does the
same with the other; the table shows the median of the rounds. Both sync every write to the same
disk (``--dir``). CPU is read from /proc for the servers only, in the middle of each load.

The loader is a program of its own, so that it may be written in C: any executable that takes the
flags of ``loader.py`` and prints JSON with ``ops_s`` and latencies (see README.md).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAUNCHERS = {
    "quorate": HERE.parent / "tests" / "conformance" / "launch",
    "zookeeper": HERE / "launch_zookeeper",
}
LOADS = ((1, 1), (16, 1), (256, 1), (64, 16))  # (connections, outstanding requests on each)
NODES = 3
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Result:
    """One load, once: operations per second, latencies, and the servers' CPU per operation."""

    ops_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@contextmanager
def cluster(system: str, directory: Path, base_port: int) -> Iterator[tuple[str, list[int]]]:
    """Run three servers; gives their addresses and process ids."""
    ports = [
        (base_port + 10 * k, base_port + 10 * k + 1, base_port + 10 * k + 2) for k in range(NODES)
    ]
    members = " ".join(
        f"{k + 1}=127.0.0.1:{peer}:{election}:participant:{client}"
        for k, (client, peer, election) in enumerate(ports)
    )
    servers = []
    try:
        for k, (client, peer, election) in enumerate(ports):
            home = directory / f"{system}-{k + 1}"
            home.mkdir(parents=True)
            environment = os.environ | {
                "QUORATE_PYTHON": os.environ.get("QUORATE_PYTHON", sys.executable),
                "ZKC_ID": str(k + 1),
                "ZKC_DIR": str(home),
                "ZKC_CLIENT_PORT": str(client),
                "ZKC_PEER_PORT": str(peer),
                "ZKC_ELECTION_PORT": str(election),
                "ZKC_ADMIN_PORT": str(client + 3),
                "ZKC_SERVERS": members,
                "ZKC_ROLE": "participant",
            }
            with (home / "log").open("wb") as log:
                command = [str(LAUNCHERS[system])]
                servers.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        for client, _, _ in ports:
            wait_until_serving(client, directory)
        addresses = ",".join(f"127.0.0.1:{client}" for client, _, _ in ports)
        yield addresses, [server.pid for server in servers]
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def wait_until_serving(port: int, directory: Path) -> None:
    """Ask ``srvr`` until the server names its mode."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as client:
                client.sendall(b"srvr")
                if b"Mode:" in client.makefile("rb").read():
                    return
        except OSError:
            pass
        time.sleep(0.1)
    words = "".join(log.read_text(errors="replace")[-1500:] for log in directory.glob("*/log"))
    raise SystemExit(f"port {port} does not serve after 30 s; the servers said:\n{words}")


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


def measure(
    args: argparse.Namespace, addresses: str, pids: list[int], load: tuple[int, int]
) -> Result:
    """Run the loader once and read the servers' CPU over the middle of its measurement."""
    connections, window = load
    command = [*args.loader, "-s", addresses, "-n", str(connections), "-w", str(window)]
    command += ["-t", str(args.seconds), "-u", str(args.warmup)]
    command += ["-S", str(args.value_bytes), "-R", str(args.read_percent)]
    loader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(args.warmup + args.seconds * 0.25)
    before, begin = cpu_seconds(pids), time.monotonic()
    time.sleep(args.seconds * 0.5)
    cpu_share = (cpu_seconds(pids) - before) / (time.monotonic() - begin)
    out, _ = loader.communicate(timeout=args.seconds + args.warmup + 60)
    if loader.returncode:
        raise SystemExit(f"the loader failed: {' '.join(command)}")
    return parse(json.loads(out), cpu_share)


def parse(report: dict[str, object], cpu_share: float) -> Result:
    """Read a loader's JSON: ``p50_ms`` at the top, or ``p50`` under ``write`` or ``read``."""
    kinds = [report[kind] for kind in ("write", "read") if isinstance(report.get(kind), dict)]
    busiest = max(kinds, key=lambda kind: kind.get("n", 0), default={})
    ops_s = float(report["ops_s"])
    p50, p99 = (float(report.get(f"{p}_ms", busiest.get(p, 0))) for p in ("p50", "p99"))
    return Result(ops_s, p50, p99, cpu_share / ops_s * 1e6 if ops_s else 0.0)


def show(results: dict[tuple[int, int], dict[str, list[Result]]]) -> None:
    """Print the medians, one line per load and system."""
    print(f"\n{'load':>8} {'system':10} {'ops/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'CPU us/op':>10}")
    for (connections, window), systems in results.items():
        medians: dict[str, float] = {}
        for system, runs in systems.items():
            ops_s, p50, p99, cpu = (
                statistics.median(getattr(r, name) for r in runs)
                for name in ("ops_s", "p50_ms", "p99_ms", "cpu_us")
            )
            medians[system] = ops_s
            load = f"{connections}x{window}"
            print(f"{load:>8} {system:10} {ops_s:9,.0f} {p50:8.2f} {p99:8.2f} {cpu:10.1f}")
        if len(medians) == 2 and medians["zookeeper"]:
            print(f"{'':8} quorate/zookeeper: {medians['quorate'] / medians['zookeeper']:.2f}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loader", help="an external loader (default: loader.py beside this file)")
    parser.add_argument("--systems", default="quorate,zookeeper")
    parser.add_argument("--loads", default=",".join(f"{n}x{w}" for n, w in LOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=3.0, help="before each measurement")
    parser.add_argument("--value-bytes", type=int, default=128)
    parser.add_argument("--read-percent", type=int, default=0)
    parser.add_argument(
        "--dir", type=Path, help="on the disk to measure (default: a temporary one)"
    )
    parser.add_argument("--base-port", type=int, default=23500)
    args = parser.parse_args()
    args.loader = [args.loader] if args.loader else [sys.executable, str(HERE / "loader.py")]
    args.systems = args.systems.split(",")
    args.loads = [tuple(map(int, load.split("x"))) for load in args.loads.split(",")]
    if unknown := [system for system in args.systems if system not in LAUNCHERS]:
        parser.error(f"unknown systems {unknown}; known: {', '.join(LAUNCHERS)}")
    return args


def main() -> None:
    """Measure every system in every round, in turn."""
    args = arguments()
    if "zookeeper" in args.systems and not Path("/usr/share/java/zookeeper.jar").exists():
        print("ZooKeeper is not installed (apt: zookeeper default-jre-headless): left out")
        args.systems.remove("zookeeper")
    results = {load: {system: [] for system in args.systems} for load in args.loads}
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; keep it idle")
    for number in range(args.rounds):
        for system in args.systems:
            directory = Path(tempfile.mkdtemp(prefix="compare-", dir=args.dir))
            with cluster(system, directory, args.base_port) as (addresses, pids):
                for load in args.loads:
                    results[load][system].append(measure(args, addresses, pids, load))
            print(f"round {number + 1} of {args.rounds}: {system} done", file=sys.stderr)
    show(results)


if __name__ == "__main__":
    main()
