"""A byte of one node's log flips while clients write: found, repaired by the others, nothing lost.

No person does anything: once the node is killed and started by whoever watches it, once it finds
the damage itself while it runs.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from harness import Cluster, Node, wait_until
from workloads import CrashLedger, client

pytestmark = pytest.mark.process

OPTIONS = ["--segment-size", "256KiB", "--snapshot-every", "64MiB"]


def flip_in_the_middle(node: Node) -> str:
    """Change one byte in the middle of the oldest file of the log; it is not the one in use."""
    segments = sorted(node.data.glob("wal-*.q"))
    assert len(segments) > 2, segments
    with segments[0].open("r+b") as file:
        file.seek(segments[0].stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0x10]))
    return segments[0].name


def fill(server: str, count: int) -> None:
    """Enough log for several files."""
    with client(server) as kazoo:
        for number in range(count):
            kazoo.create(f"/fill-{number}", bytes(20_000))


def is_repaired(node: Node) -> bool:
    page = node.status()
    return bool(page and page["serving"] and page["role"] in ("follower", "leader"))


@pytest.mark.parametrize("is_found_running", [False, True], ids=["at-restart", "while-running"])
def test_pl_4_a_flipped_byte_in_the_log_is_repaired_from_peers_under_load(
    tmp_path: Path, *, is_found_running: bool
) -> None:
    """The damaged node comes back whole; every acknowledged write is there, once."""
    options = [*OPTIONS, "--scrub-every", "500ms" if is_found_running else "1h"]
    with Cluster(tmp_path, options=options) as cluster:
        cluster.start()
        fill(cluster.nodes[1].server, 60)
        ledger = CrashLedger(3)
        ledger.prepare(cluster.nodes[1].server)
        victim = cluster.followers()[0]
        others = [node.server for node in cluster.nodes.values() if node is not victim]
        stop = threading.Event()
        threads = ledger.write_until(stop, others)
        try:
            name = flip_in_the_middle(victim)
            if not is_found_running:
                victim.kill()
                victim.start()
            wait_until(lambda: f"{name} is damaged at byte" in victim.log, 30, "it is found")
            wait_until(lambda: "repaired: this node has again" in victim.log, 30, "it is repaired")
            wait_until(lambda: is_repaired(victim), 20, "it serves")
            time.sleep(0.5)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert ledger.check(others[0]) == []
        assert not (victim.data / "repair.q").exists()
        # It counts again: with another node gone the two that are left are a majority.
        gone = next(node for node in cluster.nodes.values() if node is not victim)
        gone.kill()
        rest = next(node for node in cluster.nodes.values() if node not in (victim, gone))
        assert ledger.check(rest.server) == []
        with client(victim.server) as kazoo:
            kazoo.create("/after", b"")
            assert len(kazoo.get("/fill-0")[0]) == 20_000
