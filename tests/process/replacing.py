"""Replace every node of a cluster, one after the other, under load; what clients saw of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness import Cluster, environment, wait_until

_PROGRAM = Path(__file__).with_name("steady_load.py")


class SteadyLoad:
    """The load program of ``steady_load.py``, running. A context manager: it ends with it."""

    def __init__(self, servers: str, sessions: int, window: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), "-s", servers, "-n", str(sessions), "-w", str(window)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def say(self, words: str) -> None:
        """Tell it something; see there."""
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()

    def report(self, words: str = "report") -> dict[str, Any]:
        """What it counted since ``mark``; with "stop" also what it read back."""
        self.say(words)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the load ended with {self._process.wait(10)}"
        found = json.loads(line)
        assert isinstance(found, dict)
        return found


def replace_all(
    cluster: Cluster,
    load: SteadyLoad,
    tell: Callable[[str], None],
    settle_seconds: float,
) -> dict[str, Any]:
    """Put a new node in the place of each of the first ones; returns the load's last report."""
    wait_until(lambda: load.report()["writes"] > 1000, 30, "the load writes")
    load.say("mark")
    time.sleep(settle_seconds)
    tell(f"before: {_words(load.report())}")
    for old in list(cluster.nodes.values()):
        new = cluster.newcomer(max(cluster.nodes) + 1)
        load.say("mark")
        new.start()
        cluster.wait_member(new, seconds=120)
        wait_until(new.is_serving, 20, f"node {new.node_id} serves")
        load.say(f"join {new.server}")
        time.sleep(settle_seconds)
        tell(f"node {new.node_id} added: {_words(load.report())}")
        was_leader = cluster.leader() is old
        load.say("mark")
        load.say(f"leave {old.server}")
        wait_until_left(load, old.server)
        done = cluster.quorate("remove", str(old.node_id))
        assert done.returncode == 0, done.stderr
        assert old.wait() == 7, "a node that was removed stops and says so"
        time.sleep(settle_seconds)
        which = "the leader" if was_leader else "a follower"
        tell(f"node {old.node_id} ({which}) removed: {_words(load.report())}")
        del cluster.nodes[old.node_id]
    return load.report("stop")


def wait_until_left(load: SteadyLoad, server: str) -> None:
    """Until no session is there any more."""
    wait_until(lambda: server not in load.report()["servers"], 20, "sessions have moved")


def _words(report: dict[str, Any]) -> str:
    return (
        f"{report['writes_s']:,} writes/s, longest gap {report['gap_ms']} ms, of one session "
        f"{report['session_gap_ms']} ms, problems {report['problems']}"
    )
