"""A node that was away for long: logs are compacted meanwhile, so it needs a snapshot."""

from pathlib import Path

import pytest
from harness import Cluster, Node, wait_until
from workloads import client

pytestmark = pytest.mark.process

VALUE = b"x" * 20_000
BOUND_BYTES = 32 << 20
OPTIONS = ("--snapshot-every", "1MiB", "--segment-size", "1MiB")


def test_ra_6_zb_7_node_too_far_behind_catches_up_by_snapshot(tmp_path: Path) -> None:
    """RA-6, ZB-7: the log stays bounded, and who missed what was compacted gets a snapshot."""
    with Cluster(tmp_path, options=OPTIONS) as cluster:
        cluster.start()
        away, other = cluster.followers()
        away.kill()
        with client(other.server) as zk:
            zk.create("/n")
            version = 0
            while version < 20_000 and not is_compacted(other):
                pending = [zk.set_async("/n", VALUE) for _ in range(100)]
                version = max(answer.get(20).version for answer in pending)
        assert is_compacted(other)
        stored = sum(path.stat().st_size for path in other.data.glob("wal-*.q"))
        assert stored < BOUND_BYTES < version * len(VALUE), "the log is not bounded"
        away.start()
        applied = (other.status() or {})["applied_index"]
        wait_until(
            lambda: (away.status() or {}).get("applied_index", 0) >= applied, 20, "caught up"
        )
        assert list(away.data.glob("snapshot-*.q")), "it did not come by snapshot"
        with client(away.server) as zk:
            data, stat = zk.get("/n")
        assert (data, stat.version) == (VALUE, version)


def is_compacted(node: Node) -> bool:
    """Whether much of the log is gone; 16 MiB stay behind a snapshot."""
    numbers = [int(path.stem.removeprefix("wal-")) for path in node.data.glob("wal-*.q")]
    return min(numbers) > 60
