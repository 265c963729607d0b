"""Nodes of different releases in one cluster, as far as one release can play several.

What a node says that it speaks is set by ``QUORATE_TEST_PEER_VERSIONS``; see docs/compatibility.md.
"""

from pathlib import Path

import pytest
from harness import Cluster, wait_until
from workloads import client

from quorate.node.versions import VARIABLE
from quorate.protocol.peer import PEER_PROTOCOL_VERSION, PEER_PROTOCOL_VERSION_MIN

pytestmark = pytest.mark.process
NEWEST = PEER_PROTOCOL_VERSION


@pytest.mark.parametrize("oldest", range(PEER_PROTOCOL_VERSION_MIN, NEWEST + 1))
def test_a_node_of_the_oldest_version_serves_among_newer_ones(tmp_path: Path, oldest: int) -> None:
    """Links use what both speak; the older node leads, follows, dies and comes back like others."""
    with Cluster(tmp_path) as cluster:
        older = cluster.nodes[3]
        older.environ = {VARIABLE: str(oldest)}
        for number in (1, 2):
            cluster.nodes[number].environ = {VARIABLE: f"{PEER_PROTOCOL_VERSION_MIN}-{NEWEST + 1}"}
        cluster.start()
        wait_until(
            lambda: (
                (cluster.nodes[1].status() or {}).get("peer_versions")
                == {"2": NEWEST + 1, "3": oldest}
            ),
            10,
            "node 1 has agreed with both",
        )
        with client(cluster.servers) as kazoo:
            kazoo.create("/mixed", b"0")
            for round_ in range(3):
                cluster.leader().kill()
                kazoo.retry(kazoo.set, "/mixed", b"%d" % round_)
                cluster.start()
                kazoo.retry(kazoo.sync, "/mixed")
                assert kazoo.retry(kazoo.get, "/mixed")[0] == b"%d" % round_
        for node in cluster.nodes.values():
            with client(node.server) as own:
                own.sync("/mixed")
                assert own.get("/mixed")[0] == b"2"


def test_a_cluster_is_upgraded_node_by_node_and_back(tmp_path: Path) -> None:
    """Old, both, new; then back: at every moment a majority serves, and nothing is lost."""
    both = f"{NEWEST}-{NEWEST + 1}"
    with Cluster(tmp_path) as cluster:
        cluster.start()
        with client(cluster.servers) as kazoo:
            kazoo.create("/step", b"0")
            step = 0
            for versions in (both, str(NEWEST + 1), both, str(NEWEST)):
                for node in cluster.nodes.values():
                    assert node.terminate() == 0
                    node.environ = {VARIABLE: versions}
                    node.start()
                    wait_until(node.is_serving, 20, f"node {node.node_id} serves {versions}")
                    wait_until(
                        lambda n=node: len((n.status() or {}).get("linked", ())) == 2, 20, "links"
                    )
                    step += 1
                    kazoo.retry(kazoo.set, "/step", b"%d" % step)
            assert kazoo.retry(kazoo.get, "/step")[0] == b"12"


def test_a_node_without_a_common_version_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    """Both versions and the way out are in the log; when it speaks a common one, it is taken."""
    with Cluster(tmp_path) as cluster:
        strange = cluster.nodes[3]
        strange.environ = {VARIABLE: str(NEWEST + 1)}
        for node in cluster.nodes.values():
            node.start()
        for number in (1, 2):
            wait_until(cluster.nodes[number].is_serving, 20, f"node {number} serves")
        words = f"node 3 speaks version {NEWEST + 1} of the protocol between nodes, node "
        wait_until(lambda: words in strange.log, 10, "the reason in the log of the refused")
        assert f"to a release that speaks version {NEWEST + 1}" in strange.log
        wait_until(lambda: words in cluster.nodes[1].log, 10, "and of the one that refuses")
        assert not strange.is_serving()
        with client(cluster.nodes[1].server) as kazoo:
            kazoo.create("/served", b"")
        assert strange.terminate() == 0
        strange.environ = {}
        strange.start()
        wait_until(strange.is_serving, 20, "node 3 serves with a common version")
