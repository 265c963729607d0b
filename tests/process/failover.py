"""Kill the leader while a client writes through a follower: the longest gap, kill by kill."""

from __future__ import annotations

from pathlib import Path

from harness import Cluster, wait_until
from workloads import FailoverWriter

_WRITES_BETWEEN = 50


def measure_failovers(directory: Path, kills: int) -> tuple[list[float], list[str]]:
    """Kill ``kills`` leaders in a row; returns the longest gap of each in ms, and all errors."""
    gaps: list[float] = []
    errors: list[str] = []
    with Cluster(directory) as cluster:
        cluster.start()
        for _ in range(kills):
            leader = cluster.leader()
            survivor = cluster.followers()[0]
            with FailoverWriter(survivor.server) as writer:
                _write_on(writer)
                writer.reset()
                leader.kill()
                _write_on(writer)
                gaps.append(writer.longest_gap_ms)
            errors += writer.errors
            leader.start()
            cluster.wait_serving()
    return gaps, errors


def _write_on(writer: FailoverWriter) -> None:
    wanted = writer.writes + _WRITES_BETWEEN
    wait_until(lambda: writer.writes >= wanted, 30, "the client goes on writing")
