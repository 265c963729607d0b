"""What a node whose disk is full does, rule by rule (``raft/space.py``)."""

from __future__ import annotations

from raft_cluster import RaftCluster

from quorate.consensus.engine import DiskSpace


def filled(*nodes: int) -> RaftCluster:
    """Three nodes, n1 leads one entry; the disks of these are full."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "before")
    cluster.settle()
    for node in nodes:
        cluster.step(node, DiskSpace(is_full=True))
    return cluster


def writes(cluster: RaftCluster, count: int = 20) -> int:
    """Propose whenever somebody leads; how much was committed by that."""
    before = max(node.state.commit_index for node in cluster.nodes.values())
    for number in range(count):
        if cluster.leader():
            cluster.propose(cluster.leader(), f"{number}")
        cluster.run(50)
    return max(node.state.commit_index for node in cluster.nodes.values()) - before


def test_a_leader_with_a_full_disk_hands_over_and_no_time_is_lost() -> None:
    """By a hand-over, within a tick: no election timeout passes."""
    cluster = filled(1)
    cluster.run(50)
    assert cluster.leader() in (2, 3)
    assert cluster.nodes[1].state.term == 2
    assert writes(cluster) >= 20


def test_a_full_leader_asks_one_voter_after_the_other() -> None:
    """Whoever is full as well declines, which nobody says; the third has space and leads."""
    for full in (2, 3):
        cluster = filled(1, full)
        cluster.run(4_000)
        assert cluster.leader() == 5 - full


def test_a_full_follower_stores_no_batches_and_acknowledges_none() -> None:
    """The others are a majority and go on; it stays where it was."""
    cluster = filled(3)
    last = cluster.nodes[3].state.log.last_index
    assert writes(cluster) >= 20
    state = cluster.nodes[3].state
    assert state.log.last_index == last
    assert cluster.nodes[cluster.leader()].state.matches[3] <= last


def test_with_a_majority_full_nothing_is_committed_and_nothing_is_lost() -> None:
    """The leader keeps what it has; with space again it is committed."""
    cluster = filled(2, 3)
    cluster.propose(1, "waits")
    cluster.run(2_000)
    assert cluster.leader() == 1, "it is followed, and has space"
    state = cluster.nodes[1].state
    assert state.commit_index < state.log.last_index
    cluster.step(2, DiskSpace(is_full=False))
    cluster.run(500)
    assert state.commit_index == state.log.last_index


def test_full_nodes_elect_a_leader() -> None:
    """A vote, and the first entry of a leader, are small: what is kept free is for them."""
    cluster = filled(1, 2, 3)
    cluster.crash(1)
    cluster.run(3_000)
    leader = cluster.leader()
    assert leader in (2, 3)
    assert cluster.nodes[leader].leadership.established
    before = cluster.nodes[leader].state.log.last_index
    cluster.propose(leader, "refused")
    assert cluster.nodes[leader].state.log.last_index == before


def test_a_follower_with_space_again_has_everything_at_once() -> None:
    """It asks for what it lacks as soon as it may, not when the next write comes."""
    cluster = filled(3)
    writes(cluster)
    cluster.step(3, DiskSpace(is_full=False))
    cluster.run(500)
    last = cluster.nodes[cluster.leader()].state.log.last_index
    assert cluster.nodes[3].state.durable_index == last


def test_a_full_follower_is_not_sent_the_same_entries_all_the_time() -> None:
    """Once in four election timeouts it asks; a leader's window is not sent with each heartbeat."""
    cluster = filled(3)
    writes(cluster)
    sent = 0

    def count(letter: object) -> bool:
        nonlocal sent
        message, to = letter.message, letter.to  # type: ignore[attr-defined]
        sent += len(getattr(message, "entries", ())) if to == 3 else 0
        return False

    cluster.drop_if = count
    cluster.run(10_000)
    assert sent < 500, "twenty entries, ten seconds"
