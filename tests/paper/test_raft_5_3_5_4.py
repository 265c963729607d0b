"""Raft §5.3 (log replication) and §5.4 (safety)."""

from __future__ import annotations

import pytest
from raft_cluster import RaftCluster

from quorate.consensus.engine import Persisted, Propose, Received
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.raft.messages import (
    Append,
    AppendRejected,
    AppendReply,
    Heartbeat,
    VoteReply,
    VoteRequest,
)
from quorate.consensus.registry import EngineSettings
from quorate.errors import InvariantBroken


def batch(index: int, term: int) -> Entry:
    return Entry(index, term, EntryKind.BATCH, b"%d" % index)


def sent(cluster: RaftCluster, sender: int) -> list[object]:
    return [letter.message for letter in cluster.network if letter.sender == sender]


def test_5_3_an_append_is_refused_where_the_previous_entry_differs() -> None:
    """§5.3: the consistency check, answered with the conflicting term and its first index."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 2, 2, 2])
    cluster.step(2, Received(1, Append(3, 4, 3, 0, [batch(5, 3)])))
    assert sent(cluster, 2) == [AppendRejected(3, 4, 2, 2)]
    cluster.network.clear()
    cluster.step(2, Received(1, Append(3, 9, 3, 0, [])))
    assert sent(cluster, 2) == [AppendRejected(3, 9, 0, 5)]
    assert cluster.terms(2) == [1, 2, 2, 2], "a refusal changes nothing"


def test_5_3_a_follower_deletes_a_conflicting_suffix() -> None:
    """§5.3: an entry with the same index and another term goes, and all that follow it."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 2, 2, 2])
    cluster.step(2, Received(1, Append(3, 1, 1, 0, [batch(2, 2), batch(3, 3)])))
    assert cluster.terms(2) == [1, 2, 3]
    assert [entry.epoch for entry in cluster.nodes[2].disk.entries] == [1, 2, 3]


def test_5_3_committed_entries_are_never_deleted() -> None:
    """State Machine Safety: a leader that contradicts a committed entry stops the node."""
    cluster = RaftCluster(3)
    cluster.step(2, Received(1, Append(1, 0, 0, 2, [batch(1, 1), batch(2, 1)])))
    with pytest.raises(InvariantBroken):
        cluster.step(2, Received(3, Append(2, 1, 1, 0, [batch(2, 2)])))


def test_5_3_a_follower_commits_no_more_than_was_verified() -> None:
    """§5.3: min(leader's commit, last entry verified by this leader); never the own last index."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1, 1, 1])
    state = cluster.nodes[2].state
    cluster.step(2, Received(1, Append(2, 2, 1, 4, [])))
    assert state.commit_index == 2
    cluster.step(2, Received(1, Heartbeat(2, 4, 0)))
    assert state.commit_index == 2
    cluster.step(2, Received(1, Append(2, 2, 1, 4, [batch(3, 2)])))
    assert state.commit_index == 3


def test_5_3_commit_and_match_never_go_back() -> None:
    """Known bugs 6 and 7: delayed answers and lower commit indexes change nothing."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.step(1, Received(2, AppendReply(1, 1)))
    cluster.step(2, Received(1, Heartbeat(1, 1, 0)))
    assert cluster.nodes[1].state.progress[2].match_index == 3
    assert cluster.nodes[2].state.commit_index == 3


def test_5_3_a_rejection_older_than_an_acknowledgement_is_ignored() -> None:
    """A delayed rejection must not stop the stream."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.step(1, Received(2, AppendRejected(1, 2, 0, 1)))
    assert cluster.nodes[1].state.progress[2].state.value == "replicate"


def test_5_3_doubled_and_reordered_appends_are_harmless() -> None:
    """§5.5: requests are idempotent."""
    cluster = RaftCluster(3)
    first = Append(1, 0, 0, 0, [batch(1, 1)])
    second = Append(1, 1, 1, 1, [batch(2, 1)])
    for message in (second, first, second, first, second):
        cluster.step(2, Received(1, message))
    assert cluster.terms(2) == [1, 1]
    assert cluster.nodes[2].applied == ["1"]


def test_5_4_1_the_more_up_to_date_log_gets_the_vote() -> None:
    """§5.4.1 and known bugs 9, 10: last term first, length only between equal terms."""
    for index, term, granted in ((9, 1, False), (1, 3, True), (2, 2, False), (3, 2, True)):
        cluster = RaftCluster(3)
        cluster.prepare(2, [1, 2, 2])
        cluster.step(2, Received(1, VoteRequest(4, index, term, False, False)))
        reply = VoteReply(4, 4, is_pre_vote=False, is_granted=granted)
        assert sent(cluster, 2) == [reply]


def test_5_4_2_the_own_disk_counts_only_when_it_is_done() -> None:
    """Dissertation §10.2.1: ship first, count yourself later, commit without if you can."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.instant_disk = False
    cluster.step(1, Propose(b"a"))
    assert len(cluster.network) == 2, "shipped before the own disk is done"
    cluster.step(1, Received(2, AppendReply(1, 2)))
    assert cluster.nodes[1].state.commit_index == 1
    cluster.step(1, Received(3, AppendReply(1, 2)))
    assert cluster.nodes[1].applied == ["a"], "two other disks are a majority"


def test_8_nothing_is_proposed_before_the_terms_first_entry_is_committed() -> None:
    """§8: leadership counts as established with the committed no-op, not with the election."""
    cluster = RaftCluster(3)
    cluster.prepare(1, [1, 1])
    cluster.prepare(2, [1, 1])
    cluster.prepare(3, [1, 1])
    cluster.campaign(1)
    while cluster.nodes[1].state.leader != 1:
        cluster.deliver_one()
    cluster.propose(1, "too early")
    assert cluster.nodes[1].state.ignored["proposal without established leadership"] == 1
    cluster.settle()
    assert cluster.nodes[1].leadership.established
    assert cluster.nodes[1].applied == ["1.1", "1.2"], "everything earlier was delivered before"
    assert cluster.terms(1) == [1, 1, 2]


def test_10_2_2_appends_of_one_turn_travel_in_one_message() -> None:
    """Batching: one Append per member and turn, one acknowledgement per confirmed write."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.instant_disk = False
    for payload in (b"a", b"b", b"c"):
        cluster.step_only(1, Propose(payload))
    cluster.turn(1)
    messages = sent(cluster, 1)
    assert [len(message.entries) for message in messages] == [3, 3]
    assert messages[0] is messages[1], "built once for both members"
    cluster.settle()
    cluster.step(1, Propose(b"d"))
    cluster.settle()
    node = cluster.nodes[2]
    assert len(node.pending) == 2
    for pending in node.pending:
        node.disk.carry_out(pending.persist)
    last = node.pending[-1].persist.sequence
    node.pending.clear()
    cluster.step(2, Persisted(last))
    assert sent(cluster, 2) == [AppendReply(1, 5)]


def test_10_2_2_the_window_bounds_what_is_in_flight_and_answers_refill_it() -> None:
    """Pipelining is bounded in messages and bytes, and drains without any timer."""
    settings = EngineSettings(inflight_messages_max=4, append_bytes_max=3)
    cluster = RaftCluster(3, settings=settings)
    cluster.elect(1)
    for _ in range(40):
        cluster.step_only(1, Propose(b"xyz"))
    cluster.turn(1)
    assert len(cluster.network) == 8
    most = 0
    while cluster.network:
        cluster.deliver_one()
        to_n2 = [each for each in cluster.network if isinstance(each.message, Append)]
        most = max(most, len(to_n2))
    assert most <= 8
    assert len(cluster.nodes[2].applied) == 40, "no time passed"


def test_5_3_lost_appends_are_found_out_by_the_next_heartbeats() -> None:
    """§5.3: requests are retried for ever; loss without a closed connection costs heartbeats."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.network.clear()
    cluster.run(300)
    assert cluster.nodes[3].applied == ["a", "b"]


def test_6_2_check_quorum_counts_voters_not_learners() -> None:
    """Known bug 57: answers of learners keep no leader in office."""
    cluster = RaftCluster(3, learners=2)
    cluster.elect(1)
    cluster.crash(2)
    cluster.crash(3)
    cluster.run(1500)
    assert not cluster.nodes[1].leadership.established
