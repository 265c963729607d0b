"""Disks that run full under real nodes: on small file systems in memory, made for one test each.

Nobody restarts anything: the nodes stay up, say what is wrong, and go on when there is room again.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from harness import Cluster, Node, run_quorate, wait_until
from kazoo.exceptions import ThrottledOpError
from workloads import CrashLedger, client

pytestmark = pytest.mark.process

MIB = 1 << 20
DISK_BYTES = 64 * MIB
OPTIONS = ["--segment-size", "1MiB", "--disk-reserve", "8MiB", "--snapshot-every", "2MiB"]


@contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """A file system of its own for this directory, as long as the test runs."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@contextmanager
def cluster_on_small_disks(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, options=OPTIONS)
        for node in cluster.nodes.values():
            stack.enter_context(small_disk(node.directory))
        with cluster:
            cluster.start()
            yield cluster


def occupy(node: Node, left_bytes: int = 2 * MIB) -> None:
    """Somebody else fills the disk: less is left than the reserve."""
    usage = shutil.disk_usage(node.directory)
    with suppress(OSError):  # the node writes too: then it is fuller than was wanted
        (node.directory / "somebody-elses").write_bytes(bytes(usage.free - left_bytes))


def free(node: Node) -> None:
    (node.directory / "somebody-elses").unlink()


def is_full(node: Node) -> bool:
    page = node.status()
    return bool(page and page["disk_full"])


def test_the_full_disk_of_a_leader_costs_no_client_an_error(tmp_path: Path) -> None:
    """It hands over, stays up and follows; with space again it has everything, by itself."""
    with cluster_on_small_disks(tmp_path) as cluster:
        ledger = CrashLedger(3)
        ledger.prepare(cluster.nodes[1].server)
        leader = cluster.leader()
        pid = leader.process.pid if leader.process else 0
        others = [node for node in cluster.nodes.values() if node is not leader]
        stop = threading.Event()
        threads = ledger.write_until(stop, [node.server for node in others])
        try:
            occupy(leader)
            wait_until(lambda: "the disk is full" in leader.log, 10, "it notices")
            wait_until(lambda: any(is_leading(node) for node in others), 10, "another leads")
            acknowledged = ledger.acknowledged
            wait_until(lambda: ledger.acknowledged > acknowledged + 50, 20, "writes go on")
            wait_until(lambda: not serves(leader), 10, "its clients are better off elsewhere")
            assert is_full(leader)
            free(leader)
            wait_until(lambda: "the disk has space again" in leader.log, 10, "it notices")
            wait_until(lambda: serves(leader), 20, "it serves again")
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert leader.process is not None
        assert leader.process.poll() is None
        assert leader.process.pid == pid
        assert ledger.check(leader.server) == []


def test_full_disks_refuse_writes_and_serve_reads_until_there_is_space(tmp_path: Path) -> None:
    """All three are full: reads are answered, a write says that it did not happen."""
    with cluster_on_small_disks(tmp_path) as cluster:
        nodes = list(cluster.nodes.values())
        with client(nodes[0].server) as kazoo:
            kazoo.create("/kept", b"before")
            for node in nodes:
                occupy(node)
            wait_until(lambda: all(is_full(node) for node in nodes), 10, "all notice")
            with pytest.raises(ThrottledOpError):
                kazoo.set("/kept", b"refused")
            assert kazoo.get("/kept")[0] == b"before"
            page = nodes[0].status()
            assert page is not None
            assert page["serving"]
            assert page["writes_refused"] >= 1
            saved = run_quorate(
                *("snapshot", "save", str(tmp_path / "backup")),
                *("--admin", ",".join(f"127.0.0.1:{node.admin_port}" for node in nodes)),
            )
            assert saved.returncode != 0
            assert "the disk of this node is full" in saved.stdout + saved.stderr
            for node in nodes:
                free(node)
            wait_until(lambda: not any(is_full(node) for node in nodes), 10, "all notice")
            wait_until(lambda: is_set(kazoo), 20, "writes are taken")
            assert kazoo.get("/kept")[0] == b"after"
        assert all(node.process and node.process.poll() is None for node in nodes)


def test_disks_without_a_single_byte_left_stop_nobody_in_the_middle_of_writing(
    tmp_path: Path,
) -> None:
    """Nobody saw it come: steps that do not fit wait, and what was acknowledged is there."""
    with cluster_on_small_disks(tmp_path) as cluster:
        nodes = list(cluster.nodes.values())
        with client(nodes[0].server) as kazoo:
            kazoo.create("/kept", b"")
            kazoo.create("/many", b"")
            sent = [kazoo.create_async(f"/many/{n}", bytes(2_000)) for n in range(3_000)]
            for node in nodes:
                occupy(node, 0)
            wait_until(lambda: all(is_full(node) for node in nodes), 10, "all notice")
            for node in nodes:
                free(node)
            wait_until(lambda: is_set(kazoo), 20, "writes are taken")
            wait_until(lambda: all(each.ready() for each in sent), 20, "each is answered")
            done = {n for n, each in enumerate(sent) if each.exception is None}
            assert {type(each.exception) for each in sent} <= {type(None), ThrottledOpError}
            kazoo.sync("/many")
            assert {int(name) for name in kazoo.get_children("/many")} == done
        assert all(node.process and node.process.poll() is None for node in nodes)


def is_set(kazoo: object) -> bool:
    try:
        kazoo.set("/kept", b"after")  # type: ignore[attr-defined]
    except ThrottledOpError:
        return False
    return True


def is_leading(node: Node) -> bool:
    page = node.status()
    return bool(page and page["role"] == "leader")


def serves(node: Node) -> bool:
    page = node.status()
    return bool(page and page["serving"])
