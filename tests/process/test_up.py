"""``quorate up`` and ``quorate status``: what a newcomer runs first."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import (
    HOST,
    Cluster,
    environment,
    free_ports,
    is_alive,
    quorate_command,
    run_quorate,
    wait_until,
)
from workloads import client

pytestmark = pytest.mark.process


class Up:
    """A running ``quorate up`` and what it has said."""

    def __init__(self, directory: Path, base_port: int) -> None:
        arguments = ("up", "--dir", str(directory), "--base-port", str(base_port))
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            quorate_command(*arguments),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, words: str, seconds: float = 20.0) -> str:
        """The first line with these words."""
        return str(
            wait_until(lambda: next((x for x in self.lines if words in x), None), seconds, words)
        )

    def node_pids(self) -> list[int]:
        return [int(found) for found in re.findall(r"\(pid (\d+)\)", "\n".join(self.lines))]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def running(directory: Path, base_port: int) -> Iterator[Up]:
    up = Up(directory, base_port)
    try:
        yield up
    finally:
        up.end()


def up_ports() -> int:
    """A base port whose client, peer and admin ports are free."""
    return free_ports(203)[0]


def test_up_serves_starts_again_quickly_and_leaves_nothing(tmp_path: Path) -> None:
    """Ready is said once all serve; data survives; SIGTERM exits 0 and no process is left."""
    base = up_ports()
    servers = f"{HOST}:{base},{HOST}:{base + 1},{HOST}:{base + 2}"
    with running(tmp_path, base) as up:
        assert up.wait_for("ready:") == f"ready: {servers}"
        assert re.search(r"node \d leads \(epoch \d+\)", "\n".join(up.lines))
        with client(servers) as kazoo:
            kazoo.create("/kept", b"data")
        up.process.terminate()
        assert up.process.wait(15) == 0
        wait_until(lambda: up.lines[-1] == "stopped", 5, "the last word")
        pids = up.node_pids()
        assert len(pids) == 3
        assert not any(is_alive(pid) for pid in pids)
    with running(tmp_path, base) as up:
        up.wait_for("ready:")
        seconds = time.monotonic() - up.started
        with client(servers) as kazoo:
            assert kazoo.get("/kept")[0] == b"data"
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(15) == 0
    assert seconds < 4.0  # 2 s on an idle machine; this one may be busy


def test_nodes_do_not_outlive_up(tmp_path: Path) -> None:
    """Even after kill -9 of ``up`` its nodes stop by themselves."""
    with running(tmp_path, up_ports()) as up:
        up.wait_for("ready:")
        pids = up.node_pids()
        assert all(is_alive(pid) for pid in pids)
        up.process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in pids), 15, "all nodes stopped")


def test_up_says_when_a_node_dies_and_shows_its_last_words(tmp_path: Path) -> None:
    """A dead node is reported with the cause and the end of its log, and not restarted."""
    with running(tmp_path, up_ports()) as up:
        up.wait_for("ready:")
        victim = up.node_pids()[0]
        os.kill(victim, signal.SIGKILL)  # started by the command that this test started
        assert "killed by SIGKILL" in up.wait_for("died")
        up.wait_for("linked to node")
        up.process.terminate()
        assert up.process.wait(15) == 0


def test_up_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    """The port, the node and the way out are named, and nothing is started."""
    base = up_ports()
    with running(tmp_path / "first", base) as up:
        up.wait_for("ready:")
        second = run_quorate("up", "--dir", str(tmp_path / "second"), "--base-port", str(base))
        assert second.returncode == 2
        assert f"port {base} (node 1, clients) cannot be used" in second.stderr
        assert "--base-port" in second.stderr
        assert not (tmp_path / "second").exists()
        up.process.terminate()
        assert up.process.wait(15) == 0


def test_status_says_who_leads_and_what_can_still_fail(tmp_path: Path) -> None:
    """Exit code 0 with a quorum, 1 without; tolerance shrinks with every dead node."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        leader = cluster.leader()
        with client(cluster.servers) as kazoo:
            kazoo.create("/x", b"")
        table = run_quorate("status", "--servers", cluster.servers)
        assert table.returncode == 0
        assert f"{leader.server} leads 3 voters; tolerates 1 more failure" in table.stdout
        assert table.stdout.count("follower") == 2
        dead = cluster.followers()[0]
        dead.kill()
        wait_until(lambda: tolerated(cluster) == 0, 10, "the leader notices")
        answer = run_quorate("status", "--json", QUORATE_SERVERS=cluster.servers)
        assert answer.returncode == 0
        page = json.loads(answer.stdout)
        assert page["leader"] == leader.server
        assert page["quorum"] is True
        states = {server["server"]: server["state"] for server in page["servers"]}
        assert states[dead.server] == "no answer"
        leader.kill()
        assert run_quorate("status", "--servers", cluster.servers).returncode == 1


def tolerated(cluster: Cluster) -> int | None:
    answer = run_quorate("status", "--json", "--servers", cluster.servers)
    return json.loads(answer.stdout)["failures_tolerated"]
