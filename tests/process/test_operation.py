"""Real nodes, as those who run them see them: pages, log, service manager."""

import contextlib
import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from harness import Cluster, Node, wait_until
from workloads import FailoverWriter

pytestmark = pytest.mark.process


def metric(node: Node, name: str) -> float | None:
    """A sample by its name, labels included, as it stands on the page."""
    code, page = node.page("/metrics") or (0, "")
    assert code == 200
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else None


def events(node: Node, name: str) -> list[dict[str, Any]]:
    """Lines of a JSON log with this event."""
    whole = node.log.rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if line["event"] == name]


def test_metrics_and_log_tell_of_a_lost_leader(tmp_path: Path) -> None:
    """Who led, why that changed, who lags, how quick disks are: in numbers and in lines."""
    with Cluster(tmp_path, options=["--log-format", "json"]) as cluster:
        cluster.start()
        old = cluster.leader()
        follower = cluster.followers()[0]
        assert metric(old, 'quorate_role{role="leader"}') == 1
        assert metric(old, "quorate_failures_tolerated") == 1
        assert metric(follower, "quorate_failures_tolerated") is None
        with FailoverWriter(follower.server) as writer:
            wait_until(lambda: writer.writes > 100, 20, "writes")
        assert (metric(follower, "quorate_commit_duration_seconds_count") or 0) > 100
        assert (metric(follower, "quorate_disk_write_duration_seconds_count") or 0) > 100
        assert (metric(old, "quorate_batches_applied_total") or 0) > 100
        old.kill()
        new = cluster.leader()
        cause = "connection of the leader closed"
        assert metric(new, f'quorate_role_changes_total{{role="leader",cause="{cause}"}}') == 1
        elected = wait_until(lambda: events(new, "elected"), 5, "its election is told of")[-1]
        assert (elected["cause"], elected["node"]) == (cause, new.node_id)
        wait_until(lambda: events(new, "member_lagging"), 10, "the lost node is told of")
        assert events(new, "member_lagging")[0]["member"] == old.node_id
        assert metric(new, f'quorate_member_active{{member="{old.node_id}"}}') == 0
        assert metric(new, "quorate_failures_tolerated") == 0
        old.start()
        wait_until(lambda: events(new, "member_caught_up"), 20, "its return is told of")
        wait_until(lambda: events(new, "tolerance_lower"), 10, "what it cost is told")
        wait_until(lambda: events(new, "tolerance_higher"), 10, "and that all is well again")
        in_force = wait_until(lambda: events(old, "settings"), 5, "settings")[-1]["in_force"]
        assert in_force["log_format"] == "json"


def test_a_node_that_is_not_ready_says_why(tmp_path: Path) -> None:
    """Alone of three it lives, is not ready, and names whom it misses; with a quorum it is."""
    with Cluster(tmp_path) as cluster:
        first, second, third = cluster.nodes.values()
        first.start()
        wait_until(lambda: first.page("/live"), 20, "the node answers")
        assert first.page("/live") == (200, "ok\n")
        code, words = first.page("/ready") or (0, "")
        assert code == 503
        assert words.startswith("not ready: no leader is known")
        assert "linked to nobody of 2, 3" in words
        second.start()
        wait_until(lambda: first.page("/ready") == (200, "ok\n"), 20, "ready with a quorum")
        third.start()
        cluster.wait_serving()


def test_the_service_manager_hears_ready_alive_and_stopping(tmp_path: Path) -> None:
    """READY when it listens, WATCHDOG while it runs, none while it stands still, STOPPING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(15)

        def hear(wanted: str) -> None:
            while manager.recv(4096).decode() != wanted:
                pass

        with Cluster(tmp_path, size=1) as cluster:
            node = cluster.nodes[1]
            node.environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
            node.start()
            hear("READY=1")
            hear("WATCHDOG=1")
            hear("STATUS=leads epoch 1; the cluster tolerates 0 more of 0 failures")
            node.send(signal.SIGSTOP)
            manager.settimeout(0.5)
            with pytest.raises(TimeoutError):
                while True:  # what was on its way
                    manager.recv(4096)
            node.send(signal.SIGCONT)
            manager.settimeout(15)
            hear("WATCHDOG=1")
            assert node.terminate() == 0
            hear("STOPPING=1")
            assert "stood still" in node.log or "ms late" in node.log


def test_a_hundred_strangers_do_not_fill_the_log(tmp_path: Path) -> None:
    """Lines that repeat themselves are bounded, and how many were left out is counted."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        node = cluster.nodes[1]
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", node.client_port)) as stranger:
                stranger.sendall(b"\xff" * 64)
                stranger.recv(100)
        reason = "does not speak the protocol"
        assert metric(node, f'quorate_connections_closed_total{{reason="{reason}"}}') == 100
        wait_until(lambda: node.log.count(reason) >= 10, 5, "the first ten are written")
        assert metric(node, "quorate_log_lines_left_out_total") == 90
        assert node.terminate() == 0
        assert node.log.count(reason) == 10


def test_a_refused_start_is_a_line_in_the_wanted_format(tmp_path: Path) -> None:
    """A port that is taken ends the node with 2, and the reason is JSON when that was asked for."""
    with Cluster(tmp_path, size=1) as cluster:
        node = cluster.nodes[1]
        node.options = ["--log-format", "json"]
        with socket.create_server(("127.0.0.1", node.client_port)):
            node.start()
            assert node.wait() == 2
        [failed] = events(node, "node_failed")
        assert "cannot listen on --listen" in failed["reason"]
        assert failed["level"] == "critical"


def test_a_log_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    """Standard error is a pipe that is full from the beginning: the node serves all the same."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    with Cluster(tmp_path, size=1) as cluster:
        node = cluster.nodes[1]
        node.stderr = writer
        cluster.start()
        os.close(writer)
        with FailoverWriter(node.server) as client:
            wait_until(lambda: client.writes > 50, 20, "writes")
        assert client.errors == []
        assert node.terminate() == 0
    os.close(reader)
