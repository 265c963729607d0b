"""kill -9 of all nodes at random moments under write load; restart; compare."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import Cluster
from workloads import CrashLedger


@dataclass(frozen=True)
class RoundResult:
    """What one round showed."""

    acknowledged: int
    restart_seconds: float
    problems: list[str]


def crash_rounds(
    directory: Path, rounds: int, seed: int, report: Callable[[int, RoundResult], None]
) -> list[str]:
    """Run the rounds; returns all problems."""
    draw = random.Random(seed)
    ledger = CrashLedger(writers=3)
    problems: list[str] = []
    with Cluster(directory) as cluster:
        cluster.start()
        ledger.prepare(cluster.servers)
        for number in range(1, rounds + 1):
            before = ledger.acknowledged
            _crash_under_load(cluster, ledger, draw)
            begun = time.monotonic()
            cluster.start()
            restart_seconds = time.monotonic() - begun
            result = RoundResult(
                ledger.acknowledged - before, restart_seconds, ledger.check(cluster.servers)
            )
            problems += result.problems
            report(number, result)
    return problems


def _crash_under_load(cluster: Cluster, ledger: CrashLedger, draw: random.Random) -> None:
    stop = threading.Event()
    threads = ledger.write_until(stop, [node.server for node in cluster.nodes.values()])
    time.sleep(draw.uniform(0.3, 1.5))
    victims = list(cluster.nodes.values())
    draw.shuffle(victims)
    for victim in victims:
        victim.send(signal.SIGKILL)
        time.sleep(draw.choice((0.0, 0.0, draw.uniform(0, 0.05))))
    stop.set()
    for victim in victims:
        victim.wait()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
