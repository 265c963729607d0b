"""Dissertation §4.1 and §4.3: configurations found in the log, rolled back, joint."""

from __future__ import annotations

from raft_cluster import RaftCluster

from quorate.consensus.engine import Received
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.membership import Configuration
from quorate.consensus.raft.messages import Append

BIGGER = Configuration.of([1, 2, 3, 4])
JOINT = Configuration((1, 2), (), (1, 2, 3))


def offer(cluster: RaftCluster, term: int, previous: int, *entries: Entry, commit: int = 0) -> None:
    previous_term = cluster.nodes[2].state.log.epoch_at(previous) or 0
    append = Append(term, previous, previous_term, commit, list(entries))
    cluster.step(2, Received(1 if term == 1 else 3, append))


def change(index: int, term: int, configuration: Configuration) -> Entry:
    return Entry(index, term, EntryKind.CONFIGURATION, configuration.encode())


def test_4_1_the_latest_configuration_in_the_log_counts_committed_or_not() -> None:
    """§4.1: a node acts on a configuration as soon as it is in its log."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, BIGGER))
    assert cluster.nodes[2].state.commit_index == 0
    assert cluster.nodes[2].state.configuration == BIGGER


def test_4_1_truncation_rolls_the_configuration_back() -> None:
    """§4.1, known bug 40: with its entry goes the configuration."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, BIGGER))
    offer(cluster, 2, 0, Entry(1, 2, EntryKind.NOOP, b""))
    assert cluster.nodes[2].state.configuration == cluster.configuration
    assert cluster.nodes[2].state.quorum.configuration == cluster.configuration


def test_4_1_rollback_reaches_the_configuration_of_a_snapshot() -> None:
    """Known bug 41: the previous configuration may be compacted already."""
    cluster = RaftCluster(3)
    cluster.nodes[2].state.settings = type(cluster.settings)(log_keep_entries=0)
    offer(cluster, 1, 0, change(1, 1, BIGGER), Entry(2, 1, EntryKind.NOOP, b""), commit=2)
    cluster.take_snapshot(2)
    offer(cluster, 1, 2, change(3, 1, JOINT))
    assert cluster.nodes[2].state.configuration == JOINT
    offer(cluster, 2, 2, Entry(3, 2, EntryKind.NOOP, b""))
    assert cluster.nodes[2].state.configuration == BIGGER
    engine = cluster.nodes[2].engine
    assert engine is not None
    assert Configuration.decode(engine.snapshot_meta(2).configuration) == BIGGER


def test_4_3_a_restart_restores_both_halves() -> None:
    """§4.3, known bug 35: a joint configuration survives a restart as a joint one."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, JOINT))
    cluster.crash(2)
    cluster.start(2)
    assert cluster.nodes[2].state.configuration == JOINT
    assert cluster.nodes[2].state.quorum.configuration.is_joint


def test_4_2_2_a_voter_of_the_committed_configuration_may_campaign() -> None:
    """§4.2.2, known bug 37: a removal that is not committed does not silence the removed."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, Configuration.of([1, 3])))
    cluster.campaign(2)
    assert cluster.nodes[2].state.role.value == "pre_candidate"
    offer(cluster, 1, 1, commit=1)
    cluster.campaign(2)
    assert cluster.nodes[2].state.role.value == "follower"
