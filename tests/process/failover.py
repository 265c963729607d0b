"""Take the leader away while a client writes through a follower: the longest gap, time by time."""

from __future__ import annotations

import http.client
import json
import signal
from pathlib import Path

from harness import HOST, Cluster, Node, wait_until
from workloads import FailoverWriter

_WRITES_BETWEEN = 50

WAYS = ("kill", "stop", "terminate", "transfer")
"""kill -9; SIGSTOP, and SIGCONT afterwards; SIGTERM, which hands over; on request."""


def measure_failovers(
    directory: Path, times: int, way: str = "kill"
) -> tuple[list[float], list[str]]:
    """Take ``times`` leaders away in a row; returns the longest gap of each in ms, and all errors.

    The cluster has its default settings.
    """
    assert way in WAYS, way
    gaps: list[float] = []
    errors: list[str] = []
    with Cluster(directory) as cluster:
        cluster.start()
        for _ in range(times):
            leader = cluster.leader()
            survivor = cluster.followers()[0]
            with FailoverWriter(survivor.server) as writer:
                _write_on(writer)
                writer.reset()
                _take_away(leader, way)
                _write_on(writer)
                gaps.append(writer.longest_gap_ms)
            errors += writer.errors
            _bring_back(leader, way)
            cluster.wait_serving()
    return gaps, errors


def _take_away(leader: Node, way: str) -> None:
    if way == "kill":
        leader.kill()
    elif way == "stop":
        leader.send(signal.SIGSTOP)
    elif way == "terminate":
        assert leader.terminate() == 0
    else:
        connection = http.client.HTTPConnection(HOST, leader.admin_port, timeout=10)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/cluster/transfer", json.dumps({}), headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()


def _bring_back(leader: Node, way: str) -> None:
    if way == "stop":
        leader.send(signal.SIGCONT)
        wait_until(lambda: (leader.status() or {}).get("role") == "follower", 20, "it follows")
    elif way != "transfer":
        leader.start()


def _write_on(writer: FailoverWriter) -> None:
    wanted = writer.writes + _WRITES_BETWEEN
    wait_until(lambda: writer.writes >= wanted, 30, "the client goes on writing")
