"""Nodes are killed and fed rubbish; clients and data must not notice."""

import resource
import signal
import socket
import statistics
from pathlib import Path

import pytest
from crash import RoundResult, crash_rounds
from failover import measure_failovers
from harness import HOST, Cluster, Node, wait_until
from workloads import CrashLedger, FailoverWriter, _check_creates, _check_sets, client

pytestmark = pytest.mark.process


def test_losing_the_leader_is_invisible_on_surviving_nodes(tmp_path: Path) -> None:
    """kill -9 of the leader: a client on a follower sees no error and a gap below a second."""
    gaps, errors = measure_failovers(tmp_path, times=3)
    assert errors == []
    assert statistics.median(gaps) < 1000  # 300 on an idle machine; bench/failover_kazoo.py


def test_ra_10_leadership_moves_on_request_without_a_gap(tmp_path: Path) -> None:
    """RA-10: asked through the admin API, leadership moves; a client on a follower sees nothing."""
    gaps, errors = measure_failovers(tmp_path, times=5, way="transfer")
    assert errors == []
    assert statistics.median(gaps) < 200  # 6 on an idle machine; bench/failover_kazoo.py


def test_a_hung_leader_is_replaced_and_comes_back_as_follower(tmp_path: Path) -> None:
    """SIGSTOP of the leader: the others go on without an error; SIGCONT disturbs nobody."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        hung = cluster.leader()
        with FailoverWriter(cluster.followers()[0].server) as writer:
            wait_until(lambda: writer.writes > 50, 20, "writes")
            writer.reset()
            hung.send(signal.SIGSTOP)
            seen = writer.writes
            wait_until(lambda: writer.writes > seen + 50, 20, "writes without the hung leader")
            hung.send(signal.SIGCONT)
            wait_until(lambda: (hung.status() or {}).get("role") == "follower", 20, "it follows")
            seen = writer.writes
            wait_until(lambda: writer.writes > seen + 50, 20, "writes with the old leader back")
            assert writer.longest_gap_ms < 5000
        assert writer.errors == []
        assert cluster.leader() is not hung


def test_no_acknowledged_write_is_lost_and_none_applied_twice(tmp_path: Path) -> None:
    """kill -9 of all nodes under load, three times: everything acknowledged is there, once."""
    results: list[RoundResult] = []
    problems = crash_rounds(
        tmp_path, rounds=3, seed=7, report=lambda _, result: results.append(result)
    )
    assert problems == []
    assert all(result.acknowledged > 50 for result in results)


def test_the_crash_check_would_notice() -> None:
    """A lost, a doubled, a moved create and a set too many are all found by the comparison."""
    writer = CrashLedger(1).writers[0]
    writer.created = {b"a": "/n-1", b"b": "/n-2"}
    writer.doubtful = {b"c"}
    found = {b"a": ["/n-9"], b"c": ["/n-3", "/n-4"]}
    problems = "\n".join(_check_creates(writer, found))
    assert "b'a' acknowledged as /n-1, found ['/n-9']" in problems
    assert "b'b' acknowledged as /n-2, found None" in problems
    assert "b'c' was applied 2 times" in problems
    writer.version, writer.sets_doubtful = 5, 1
    assert _check_sets(writer, b"6", 6) == []
    assert "version 8" in _check_sets(writer, b"8", 8)[0]
    assert "version 3" in _check_sets(writer, b"3", 3)[0]
    assert "holds" in _check_sets(writer, b"2", 3)[0]


def test_a_clean_stop_of_the_leader_hands_over(tmp_path: Path) -> None:
    """SIGTERM of the leader exits 0, and a client on a follower sees neither error nor gap."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        leader = cluster.leader()
        with FailoverWriter(cluster.followers()[0].server) as writer:
            wait_until(lambda: writer.writes > 50, 20, "writes")
            writer.reset()
            assert leader.terminate() == 0
            seen = writer.writes
            wait_until(lambda: writer.writes > seen + 50, 20, "writes after the hand-over")
            assert writer.longest_gap_ms < 1000
        assert writer.errors == []
        assert "handed leadership over to node" in leader.log


RUBBISH = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\xff\xff\xff\xff" + bytes(64),
    b"\x7f\xff\xff\xff" + b"x" * 1000,
    b"\x00\x00\x00\x04\x00\x00\x00\x00" * 100,
    bytes(range(256)) * 64,
    b"\x00",
]


def test_rubbish_hurts_nobody_else(tmp_path: Path) -> None:
    """Garbage, huge frames and half-open connections on every port: the others go on."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        leader = cluster.leader()
        with FailoverWriter(leader.server) as writer:
            wait_until(lambda: writer.writes > 20, 20, "writes")
            writer.reset()
            half_open = [
                socket.create_connection((HOST, port), timeout=5)
                for port in _ports(leader)
                for _ in range(20)
            ]
            for port in _ports(leader):
                for rubbish in RUBBISH:
                    _throw(port, rubbish)
            seen = writer.writes
            wait_until(lambda: writer.writes > seen + 100, 20, "writes beside the rubbish")
            for sock in half_open:
                sock.close()
        assert writer.errors == []
        assert cluster.leader() is leader
        assert all(node.is_running for node in cluster.nodes.values())


def _ports(node: Node) -> tuple[int, int, int]:
    return node.client_port, node.peer_port, node.admin_port


def _throw(port: int, rubbish: bytes) -> None:
    """Send and leave, whatever the node does with it."""
    with socket.create_connection((HOST, port), timeout=5) as sock:
        try:
            sock.sendall(rubbish)
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.2)
            while sock.recv(65536):
                pass
        except OSError:
            return


def test_a_failed_disk_stops_the_node_and_the_others_go_on(tmp_path: Path) -> None:
    """When a write fails, the node exits with 4 and says so; nobody else notices."""
    with Cluster(tmp_path, options=["--segment-size", "4MiB"]) as cluster:
        cluster.start()
        victim = cluster.nodes[3].process
        assert victim is not None
        limit = 3 << 20  # larger files cannot be written: write() fails with EFBIG
        resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (limit, limit))
        with client(cluster.nodes[1].server) as kazoo:
            for number in range(60):
                kazoo.create(f"/big-{number}", bytes(100_000))
            assert cluster.nodes[3].wait(15) == 4
            kazoo.create("/after", b"")
        assert "CRITICAL node 3: the disk cannot be used any more" in cluster.nodes[3].log


def test_without_free_descriptors_those_who_are_connected_go_on(tmp_path: Path) -> None:
    """When accept fails for want of descriptors, old clients work and new ones come in later."""
    with Cluster(tmp_path, size=1) as cluster:
        cluster.start()
        node = cluster.nodes[1]
        assert node.process is not None
        with FailoverWriter(node.server) as writer:
            open_files = len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))
            limits = (open_files + 4, 4096)
            resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, limits)
            crowd = [socket.create_connection((HOST, node.client_port)) for _ in range(20)]
            seen = writer.writes
            wait_until(lambda: writer.writes > seen + 100, 20, "writes beside the crowd")
            for sock in crowd:
                sock.close()
            with client(node.server) as kazoo:
                kazoo.create("/late", b"")
        assert writer.errors == []
        assert node.terminate() == 0


def test_a_second_signal_quits_at_once(tmp_path: Path) -> None:
    """While a clean stop waits for a quorum that never comes, a second SIGTERM ends it."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        leader, (first, second) = cluster.leader(), cluster.followers()
        for node in (first, second):
            node.send(signal.SIGSTOP)  # linked, but silent
        leader.send(signal.SIGTERM)
        wait_until(lambda: "SIGTERM; stopping" in leader.log, 5, "the first signal is heard")
        leader.send(signal.SIGTERM)
        assert leader.wait(5) in (0, 1)
        if leader.process is not None and leader.process.returncode == 1:
            assert "quitting at once" in leader.log
