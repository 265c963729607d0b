"""The day after: a backup taken from a running cluster, and a cluster from one directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Cluster, run_quorate, wait_until
from workloads import FailoverWriter, client

pytestmark = pytest.mark.process


def members_of(cluster: Cluster) -> list[str]:
    return ["--cluster", cluster.members]


def test_a_backup_taken_under_load_becomes_a_new_cluster(tmp_path: Path) -> None:
    """Everything written before is in it; all members of the new cluster begin with it."""
    backup = tmp_path / "backup.q"
    with Cluster(tmp_path / "old") as old:
        old.start()
        with client(old.nodes[1].server) as kazoo:
            for number in range(50):
                kazoo.create(f"/n-{number}", b"%d" % number)
        admins = ",".join(f"127.0.0.1:{node.admin_port}" for node in old.nodes.values())
        with FailoverWriter(old.nodes[2].server) as writer:
            wait_until(lambda: writer.writes > 50, 20, "writes")
            before = writer.writes
            result = run_quorate("snapshot", "save", str(backup), "--admin", admins)
            assert result.returncode == 0, result.stderr
        assert writer.errors == []
        again = run_quorate("snapshot", "save", str(backup), "--admin", admins)
        assert again.returncode == 2
        assert "exists" in again.stderr
    with Cluster(tmp_path / "new") as new:
        for node in new.nodes.values():
            result = run_quorate(
                *("snapshot", "restore", str(backup), "--data", str(node.data)),
                *("--id", str(node.node_id), *members_of(new)),
            )
            assert result.returncode == 0, result.stderr
        new.start()
        for node in new.nodes.values():
            with client(node.server) as kazoo:
                kazoo.sync("/")
                for number in range(50):
                    assert kazoo.get(f"/n-{number}")[0] == b"%d" % number
                assert int(kazoo.get("/failover")[0]) >= before - 1
                kazoo.create(f"/after-{node.node_id}", b"")
        page = new.leader().status()
        assert page is not None
        assert page["zxid"] > 50


def test_a_lost_majority_is_recovered_from_one_directory(tmp_path: Path) -> None:
    """Two of three are gone: nothing without --force, then a new cluster of one with the data."""
    with Cluster(tmp_path / "old") as old:
        old.start()
        with client(old.nodes[1].server) as kazoo:
            for number in range(50):
                kazoo.create(f"/n-{number}", b"%d" % number)
            kazoo.sync("/")
        survivor = old.followers()[0]
        page = survivor.status()
        assert page is not None
        old.kill_all()
        with Cluster(tmp_path / "new", size=1) as new:
            node = new.nodes[1]
            words = [
                *("cluster", "recover", str(survivor.data), "--to", str(node.data)),
                *("--id", "1", *members_of(new)),
            ]
            refused = run_quorate(*words)
            assert refused.returncode == 2
            assert "may lose acknowledged writes" in refused.stderr
            assert run_quorate(*words, "--force").returncode == 130  # nobody answers yes
            assert not node.data.exists()
            before = {item.name: item.read_bytes() for item in survivor.data.iterdir()}
            result = run_quorate(*words, "--force", "--yes")
            assert result.returncode == 0, result.stderr
            assert "THIS MAY LOSE ACKNOWLEDGED WRITES" in result.stderr
            assert before == {item.name: item.read_bytes() for item in survivor.data.iterdir()}
            checked = run_quorate("log", "inspect", "--json", str(node.data))
            assert json.loads(checked.stdout)["verdict"] == "good", checked.stdout
            node.options = ["--cluster", new.members]
            new.start()
            with client(node.server) as kazoo:
                for number in range(50):
                    assert kazoo.get(f"/n-{number}")[0] == b"%d" % number
                kazoo.create("/after", b"")
