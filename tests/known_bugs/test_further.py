"""Bugs found beyond the list of 66, F1 to F9 in docs/known-bugs.md."""

from __future__ import annotations

import pytest
from raft_cluster import RaftCluster

from known_bugs import (
    Mutants,
    Patch,
    Scenario,
    batch,
    batches,
    must_notice,
    persist_all,
    sent,
)
from quorate.consensus.engine import Received
from quorate.consensus.entry import SnapshotMeta
from quorate.consensus.raft import election, engine, follower, snapshots
from quorate.consensus.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    InstallChunk,
    InstallReply,
    TermNotice,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from quorate.consensus.raft.state import RaftState
from quorate.consensus.registry import EngineSettings

MUTANTS = Mutants()


# ---- scenarios ---------------------------------------------------------------------------------


def test_kb_f1_stepping_down_removes_nothing() -> None:
    """A newer term says nothing about the log: an acknowledged suffix of old terms stays."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1, 2])
    cluster.step(2, Received(3, TermNotice(7)))
    assert cluster.terms(2) == [1, 1, 2]

    cluster = RaftCluster(3)
    cluster.prepare(1, [1, 1, 2])
    cluster.elect(1)
    cluster.isolate([1], [2, 3])
    cluster.propose(1, "x")
    cluster.step(1, Received(3, TermNotice(20)))
    assert cluster.terms(1) == [1, 1, 2, 3, 3]
    assert len(cluster.nodes[1].disk.entries) == 5


def test_kb_f2_only_what_an_append_described_is_acknowledged() -> None:
    """A suffix behind the described entries may be somebody else's, however durable it is."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1, 1, 1, 1])
    cluster.step(2, Received(1, Append(2, 1, 1, 0, [batch(2, 1)])))
    assert sent(cluster, 2) == [AppendReply(2, 2)]
    cluster.step(2, Received(1, Append(2, 2, 1, 0, [])))
    assert sent(cluster, 2)[-1] == AppendReply(2, 2)


def test_kb_f3_an_append_that_only_overlaps_rolls_nothing_back() -> None:
    """A leader led too far back by a stale rejection repeats old entries; they change nothing."""
    cluster = RaftCluster(3)
    cluster.step(2, Received(1, Append(1, 0, 0, 4, batches(1, 5, 1))))
    for previous in range(5):
        message = Append(1, previous, min(previous, 1), 4, batches(previous + 1, previous + 1, 1))
        cluster.step(2, Received(1, message))
        assert cluster.nodes[2].state.log.last_index == 5
    assert cluster.nodes[2].applied == ["1.1", "1.2", "1.3", "1.4"]


def test_kb_f4_a_transfer_that_ended_with_the_leadership_is_over() -> None:
    """Deposed in the middle of a hand-over and elected again, a leader takes proposals."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.drop_if = lambda letter: letter.to == 3
    cluster.propose(1, "a")
    cluster.transfer(1, 3)
    cluster.settle()
    assert not cluster.nodes[1].leadership.established
    cluster.step(1, Received(2, TermNotice(5)))
    cluster.drop_if = lambda _: False
    cluster.settle()
    cluster.elect(1)
    cluster.propose(1, "b")
    cluster.settle()
    assert cluster.nodes[2].applied == ["a", "b"]
    assert not sent(cluster, 1, TimeoutNow)


def test_kb_f5_an_append_from_the_very_beginning_adds_nothing_to_a_compacted_log() -> None:
    """Previous index 0 matches everything; the entries that are compacted must be passed over."""
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0))
    cluster.step(2, Received(1, Append(1, 0, 0, 4, batches(1, 5, 1))))
    cluster.take_snapshot(2)
    before = cluster.nodes[2].state.log.describe()
    for count in (1, 3, 5):
        cluster.step(2, Received(1, Append(1, 0, 0, 4, batches(1, count, 1))))
        assert cluster.nodes[2].state.log.describe() == before == "(4:t1) t1[5]"


def test_kb_f6_a_candidate_that_asks_again_gets_its_vote_again() -> None:
    """The first answer may be lost; refusing the second one would lose the election for nothing."""
    cluster = RaftCluster(3)
    request = VoteRequest(1, 0, 0, is_pre_vote=False, is_forced=False)
    for _ in range(2):
        cluster.network.clear()
        cluster.step(2, Received(1, request))
        assert sent(cluster, 2) == [VoteReply(1, 1, is_pre_vote=False, is_granted=True)]


def test_kb_f7_a_snapshot_older_than_what_is_applied_changes_nothing() -> None:
    """Applied state never goes back, and the entries after the snapshot are not applied again."""
    cluster = RaftCluster(3)
    cluster.step(2, Received(1, Append(1, 0, 0, 4, batches(1, 4, 1))))
    meta = SnapshotMeta(2, 1, cluster.configuration.encode())
    cluster.step(2, Received(1, InstallChunk(1, meta, 0, b'["other"]', is_last=True)))
    assert cluster.nodes[2].applied == ["1.1", "1.2", "1.3", "1.4"]
    assert cluster.nodes[2].disk.snapshot is None
    assert sent(cluster, 2)[-1] == InstallReply(1, 2, 0, is_done=True)


def test_kb_f8_a_heartbeat_commits_nothing_while_a_snapshot_is_stored() -> None:
    """Between the last piece and its confirmation the old log stands still."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.step(2, Received(1, Append(1, 0, 0, 0, batches(1, 3, 1))))
    persist_all(cluster, 2)
    meta = SnapshotMeta(9, 1, cluster.configuration.encode())
    cluster.step(2, Received(1, InstallChunk(1, meta, 0, b'["state"]', is_last=True)))
    cluster.step(2, Received(1, Heartbeat(1, 9, 0)))
    cluster.step(2, Received(1, Append(1, 3, 1, 9, [batch(4, 1)])))
    assert cluster.nodes[2].state.commit_index == 0
    assert cluster.nodes[2].applied == []
    persist_all(cluster, 2)
    assert cluster.nodes[2].state.commit_index == 9
    assert cluster.nodes[2].applied == ["state"]


def test_kb_f9_a_snapshot_whose_last_answer_was_lost_is_not_waited_for_for_ever() -> None:
    """The leader repeats the last piece; the receiver, already beyond it, says that it is done."""
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0, snapshot_chunk_bytes=8))
    cluster.elect(1)
    cluster.crash(3)
    cluster.propose(1, "a", "b", "c")
    cluster.settle()
    cluster.take_snapshot(1)
    cluster.start(3)
    cluster.drop_if = lambda letter: (
        isinstance(letter.message, InstallReply | AppendReply)
        and (letter.sender == 3 and getattr(letter.message, "is_done", True))
    )
    cluster.tell_opened(1, 3)
    cluster.settle()
    assert cluster.nodes[3].applied == ["a", "b", "c"]
    assert cluster.nodes[1].state.progress[3].match_index == 1, "the snapshot at 4 is not counted"
    cluster.drop_if = lambda _: False
    cluster.run(1500)
    cluster.propose(1, "d")
    cluster.settle()
    assert cluster.leader() == 1
    assert cluster.nodes[3].applied == ["a", "b", "c", "d"]


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(test_kb_f1_stepping_down_removes_nothing)
def rolls_back_to_the_commit_index_when_stepping_down(patch: pytest.MonkeyPatch) -> None:
    become_follower = RaftState.become_follower

    def roll_back(self: RaftState, term: int, leader: int) -> None:
        become_follower(self, term, leader)
        if self.log.last_index > self.commit_index:
            self.truncate(self.commit_index + 1)

    patch.setattr(RaftState, "become_follower", roll_back)


@MUTANTS.breaks(test_kb_f2_only_what_an_append_described_is_acknowledged)
def acknowledges_all_that_is_durable(patch: pytest.MonkeyPatch) -> None:
    def flush(state: RaftState) -> None:
        if state.leader:
            state.send(state.leader, AppendReply(state.term, state.durable_index))

    patch.setattr(follower, "flush", flush)


@MUTANTS.breaks(
    test_kb_f3_an_append_that_only_overlaps_rolls_nothing_back,
    test_kb_f5_an_append_from_the_very_beginning_adds_nothing_to_a_compacted_log,
)
def rolls_back_before_it_looks(patch: pytest.MonkeyPatch) -> None:
    on_append = follower.on_append

    def eager(state: RaftState, sender: int, message: Append) -> None:
        start = max(message.prev_index, state.log.base_index) + 1
        if start <= state.log.last_index:
            state.log.truncate_from(start)
        on_append(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, Append, eager)


@MUTANTS.breaks(test_kb_f4_a_transfer_that_ended_with_the_leadership_is_over)
def remembers_a_transfer_beyond_the_leadership(patch: pytest.MonkeyPatch) -> None:
    drop = RaftState._drop_leadership

    def keep(self: RaftState) -> None:
        target = self.transfer_target
        drop(self)
        self.transfer_target = target

    patch.setattr(RaftState, "_drop_leadership", keep)


@MUTANTS.breaks(test_kb_f6_a_candidate_that_asks_again_gets_its_vote_again)
def answers_a_candidate_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        election,
        "can_vote_for",
        lambda state, candidate, term: term == state.term and state.voted_for == 0,
    )


@MUTANTS.breaks(
    test_kb_f7_a_snapshot_older_than_what_is_applied_changes_nothing,
    test_kb_f9_a_snapshot_whose_last_answer_was_lost_is_not_waited_for_for_ever,
)
def stores_any_snapshot(patch: pytest.MonkeyPatch) -> None:
    on_chunk = snapshots.on_chunk

    def store(state: RaftState, sender: int, message: InstallChunk) -> None:
        commit_index, state.commit_index = state.commit_index, 0
        on_chunk(state, sender, message)
        state.commit_index = commit_index

    patch.setitem(engine._ON_MESSAGE, InstallChunk, store)


@MUTANTS.breaks(test_kb_f8_a_heartbeat_commits_nothing_while_a_snapshot_is_stored)
def follows_appends_while_a_snapshot_is_stored(patch: pytest.MonkeyPatch) -> None:
    on_append = follower.on_append

    def follow(state: RaftState, sender: int, message: Append) -> None:
        installing, state.installing = state.installing, None
        on_append(state, sender, message)
        state.installing = installing

    patch.setitem(engine._ON_MESSAGE, Append, follow)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
