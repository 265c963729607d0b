"""Known bugs 1 to 20: commit index, truncation, votes. The list is docs/known-bugs.md."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from fake_engine import Bench
from raft_cluster import RaftCluster

from known_bugs import (
    Mutants,
    Patch,
    Scenario,
    batch,
    batches,
    goes_as_written,
    must_notice,
    sent,
)
from quorate.consensus.engine import Propose, Received
from quorate.consensus.entry import Entry, EntryKind, Persist, SnapshotMeta
from quorate.consensus.log import Log
from quorate.consensus.progress import Progress
from quorate.consensus.quorum import Quorum, VoteResult
from quorate.consensus.raft import election, engine, follower, leader
from quorate.consensus.raft.messages import (
    Append,
    AppendRejected,
    AppendReply,
    Heartbeat,
    InstallChunk,
    VoteReply,
    VoteRequest,
)
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings
from quorate.errors import DiskFailed, InvariantBroken
from quorate.replication.replica import Replica
from quorate.simulation.disk import VirtualDisk
from quorate.simulation.world import World
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

MUTANTS = Mutants()


# ---- scenarios ---------------------------------------------------------------------------------


def test_kb_01_no_entry_is_committed_while_a_snapshot_arrives() -> None:
    """Pieces of a snapshot verify nothing: a divergent tail below leaderCommit stays unapplied."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1, 1])
    meta = SnapshotMeta(9, 2, cluster.configuration.encode())
    cluster.step(2, Received(3, InstallChunk(2, meta, 0, b"first", is_last=False)))
    cluster.step(2, Received(3, Heartbeat(2, 9, 1)))
    assert cluster.nodes[2].state.incoming is not None
    assert cluster.nodes[2].state.commit_index == 0
    assert cluster.nodes[2].applied == []


def test_kb_02_one_voter_that_answers_twice_is_one_vote() -> None:
    """Of five voters, the candidate and one peer heard twice are no majority."""
    cluster = RaftCluster(5)
    cluster.campaign(1)
    for voter in (2, 3):
        cluster.step(1, Received(voter, VoteReply(0, 1, is_pre_vote=True, is_granted=True)))
    for _ in range(3):
        cluster.step(1, Received(2, VoteReply(1, 1, is_pre_vote=False, is_granted=True)))
    assert cluster.nodes[1].state.role is Role.CANDIDATE
    cluster.step(1, Received(3, VoteReply(1, 1, is_pre_vote=False, is_granted=True)))
    assert cluster.nodes[1].state.role is Role.LEADER


def test_kb_03_a_late_append_deletes_nothing_acknowledged() -> None:
    """An Append that was overtaken is a prefix of the log, not its new end."""
    cluster = RaftCluster(3)
    cluster.step(2, Received(1, Append(1, 0, 0, 0, batches(1, 3, 1))))
    assert sent(cluster, 2) == [AppendReply(1, 3)]
    cluster.step(2, Received(1, Append(1, 0, 0, 0, batches(1, 2, 1))))
    cluster.step(2, Received(1, Append(1, 1, 1, 0, [])))
    assert cluster.terms(2) == [1, 1, 1]
    assert len(cluster.nodes[2].disk.entries) == 3


def test_kb_04_an_apply_that_raises_is_not_tried_again() -> None:
    """A state machine that raises stops its node's turn; its effects happen once, not per tick."""
    bench = Bench(node_id=1)
    effects = []

    def apply(payload: bytes, context: Any) -> None:
        effects.append(payload)
        raise RuntimeError("user code")

    bench.machine.apply = apply
    bench.commit_sub(b"once")
    with pytest.raises(RuntimeError):
        bench.replica.take()
    for tick in range(4):
        bench.replica.tick(tick, 0)
        bench.replica.take()
    assert effects == [b"once"]
    assert bench.replica.applied_index == 0, "nothing pretends that the entry was applied"


def test_kb_05_an_old_term_is_not_committed_by_counting() -> None:
    """Fig. 8: an entry of an earlier term on a majority may still be overwritten."""
    goes_as_written("fig_8_d")


def test_kb_06_the_commit_index_never_falls() -> None:
    """Lower commit indexes, late and in any message, change nothing; no entry is applied twice."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.step(2, Received(1, Heartbeat(1, 1, 0)))
    cluster.step(2, Received(1, Append(1, 3, 1, 0, [])))
    cluster.step(1, Received(3, AppendReply(1, 1)))
    assert [cluster.nodes[node].state.commit_index for node in (1, 2)] == [3, 3]
    cluster.propose(1, "c")
    cluster.settle()
    assert cluster.nodes[2].applied == ["a", "b", "c"]


def test_kb_07_match_index_never_falls_after_reconnect() -> None:
    """A new connection makes the leader probe; what was acknowledged before stays counted."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.tell_opened(1, 2)
    peer = cluster.nodes[1].state.progress[2]
    for late in (AppendReply(1, 1), AppendRejected(1, 2, 0, 1), AppendReply(1, 2)):
        cluster.step(1, Received(2, late))
        assert peer.match_index == 3
        assert peer.next_index == 4
        assert cluster.nodes[1].state.matches[2] == 3


SMALL = StorageSettings(segment_bytes=900, preallocate_bytes=0, spare_segments_max=1)


def open_store(disk: VirtualDisk) -> tuple[Store, Any]:
    return Store.open(
        disk, node_id=1, cluster_id=b"c" * 16, new_directory_id=b"d" * 16, settings=SMALL
    )


def test_kb_08_a_conflict_is_replaced_in_one_step_or_not_at_all() -> None:
    """No crash leaves a log that lost its tail and did not get the new one; a match loses none."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.step(2, Received(1, Append(1, 0, 0, 3, batches(1, 3, 1))))
    cluster.step(2, Received(1, Append(1, 0, 0, 3, batches(1, 4, 1))))
    steps = [pending.persist for pending in cluster.nodes[2].pending]
    assert [step.truncate_from for step in steps] == [None, None]
    cluster.step(2, Received(3, Append(2, 3, 1, 3, [batch(4, 2)])))
    assert cluster.nodes[2].pending[-1].persist.truncate_from == 4
    assert cluster.nodes[2].pending[-1].persist.entries == [batch(4, 2)]

    old, new = batches(1, 6, 1), batches(1, 3, 1) + batches(4, 5, 2)
    origin = VirtualDisk()
    store, _ = open_store(origin)
    store.persist([Persist(1, entries=old)])
    store.close()
    for operations in range(12):
        for seed in range(6):
            disk = origin.clone()
            store, _ = open_store(disk)
            disk.fail_after(operations)
            try:
                store.persist([Persist(1, truncate_from=4, entries=new[3:])])
            except DiskFailed:
                disk.crash(World(seed).draw)
                _, recovered = open_store(disk)
                assert recovered.entries in (old, new), operations


def test_kb_09_a_vote_compares_the_term_before_the_index() -> None:
    """A longer log of an older term does not win over a shorter, newer one."""
    for index, term, granted in ((9, 1, False), (1, 3, True), (2, 2, False), (3, 2, True)):
        cluster = RaftCluster(3)
        cluster.prepare(2, [1, 2, 2])
        for is_pre_vote in (True, False):
            cluster.network.clear()
            cluster.step(2, Received(1, VoteRequest(4, index, term, is_pre_vote, False)))
            (reply,) = sent(cluster, 2)
            assert (reply.is_pre_vote, reply.is_granted) == (is_pre_vote, granted)


def test_kb_10_a_shorter_but_newer_log_can_win() -> None:
    """With one node down, the only one who may lead has fewer entries, and it does lead."""
    cluster = RaftCluster(3)
    cluster.prepare(1, [1, 3])
    cluster.prepare(2, [1, 2, 2, 2])
    cluster.crash(3)
    cluster.run(4000)
    assert cluster.leader() == 1
    assert cluster.terms(2) == cluster.terms(1)


@pytest.mark.parametrize(("voters", "enough"), [(2, 2), (4, 3), (6, 4)])
def test_kb_11_half_of_an_even_cluster_commits_nothing(voters: int, enough: int) -> None:
    """Of an even number of voters, one half is not a majority; one more is."""
    half_commits_nothing(voters, enough)


def half_commits_nothing(voters: int, enough: int) -> None:
    cluster = RaftCluster(voters)
    cluster.elect(1)
    cluster.propose(1, "a")
    for count, node in enumerate(range(2, voters + 1), start=2):
        cluster.step(1, Received(node, AppendReply(1, 2)))
        assert (cluster.nodes[1].state.commit_index == 2) == (count >= enough)


def half_of_four() -> None:
    """The scenario of bug 11 for one size, to be run with its rule removed."""
    half_commits_nothing(4, 3)


def test_kb_12_the_order_of_acknowledgements_does_not_matter() -> None:
    """However they arrive, the commit index is what the middle voter has, never what two have."""
    for order in itertools.permutations((2, 3, 4, 5)):
        cluster = RaftCluster(5)
        cluster.elect(1)
        cluster.propose(1, "a", "b", "c", "d")
        matches = {1: 5}
        for voter in order:
            matches[voter] = voter
            cluster.step(1, Received(voter, AppendReply(1, voter)))
            stored = sorted((matches.get(node, 1) for node in range(1, 6)), reverse=True)
            assert cluster.nodes[1].state.commit_index == stored[2], order


def test_kb_13_a_tail_of_an_old_term_is_not_committed_by_a_new_leaders_index() -> None:
    """The leader's commit index counts only up to what this leader has verified here."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1, 1])
    cluster.step(2, Received(1, Heartbeat(2, 3, 1)))
    assert cluster.nodes[2].applied == []
    cluster.step(2, Received(1, Append(2, 1, 1, 3, [batch(2, 2), batch(3, 2)])))
    assert cluster.nodes[2].applied == ["1.1", "2.2", "2.3"]


def test_kb_14_a_truncation_takes_back_what_a_late_write_may_vouch_for() -> None:
    """A write confirmed after its entries were replaced acknowledges none of them."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.step(2, Received(1, Append(1, 0, 0, 0, batches(1, 4, 1))))
    cluster.step(2, Received(3, Append(2, 1, 1, 0, batches(2, 4, 2))))
    cluster.persist(2)
    assert cluster.nodes[2].state.durable_index == 1
    assert all(reply.match_index <= 1 for reply in sent(cluster, 2, AppendReply))
    cluster.persist(2)
    assert sent(cluster, 2, AppendReply)[-1] == AppendReply(2, 4)


def test_kb_15_a_follower_commits_no_further_than_what_was_sent() -> None:
    """The commit index is capped by the last entry of the message, not by the own log's end."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1, 1, 1])
    cluster.step(2, Received(1, Append(2, 2, 1, 4, [])))
    assert cluster.nodes[2].state.commit_index == 2
    cluster.step(2, Received(1, Append(2, 2, 1, 4, [batch(3, 2)])))
    assert cluster.nodes[2].applied == ["1.1", "1.2", "2.3"]


COMPACT = EngineSettings(log_keep_entries=0, snapshot_chunk_bytes=8)


def compacted(node: int) -> RaftCluster:
    """n1 leads; ``node`` has snapshotted and forgotten its four entries; n3 was away."""
    cluster = RaftCluster(3, settings=COMPACT)
    cluster.elect(1)
    cluster.crash(3)
    cluster.propose(1, "a", "b", "c")
    cluster.settle()
    cluster.run(100)
    cluster.take_snapshot(node)
    return cluster


def test_kb_16_a_compacted_index_has_no_term_that_could_match() -> None:
    """An index before the log has no term, not term 0: it commits nothing, and is never sent."""
    cluster = compacted(2)
    state = cluster.nodes[2].state
    cluster.step(2, Received(1, Append(1, 2, 0, 99, [])))
    assert (state.commit_index, state.log.last_index) == (4, 4)
    cluster.step(2, Received(1, Append(1, 7, 0, 99, [])))
    assert sent(cluster, 2)[-1] == AppendRejected(1, 7, 0, 5)
    assert (state.commit_index, state.log.last_index) == (4, 4)

    cluster = compacted(1)
    cluster.start(3)
    cluster.tell_opened(1, 3)
    assert [append.prev_term for append in sent(cluster, 1, Append)] == []
    cluster.settle()
    assert cluster.nodes[3].applied == ["a", "b", "c"]


def test_kb_17_many_commits_at_once_are_delivered_without_gap_or_repeat() -> None:
    """Message and batch sizes page what is sent; what is delivered follows the commit index."""
    cluster = RaftCluster(3, settings=EngineSettings(append_bytes_max=3))
    cluster.elect(1)
    cluster.crash(3)
    wanted = [f"entry-{number}" for number in range(40)]
    cluster.drop_if = lambda letter: letter.message in (AppendReply(1, i) for i in range(1, 41))
    for payload in wanted:
        cluster.step_only(1, Propose(payload.encode()))
    cluster.turn(1)
    cluster.settle()
    cluster.drop_if = lambda _: False
    cluster.start(3)
    cluster.tell_opened(1, 3)
    cluster.settle()
    assert cluster.nodes[1].applied == wanted
    assert cluster.nodes[3].applied == wanted


def test_kb_18_a_committed_entry_is_never_rolled_back() -> None:
    """A leader that contradicts what is committed here stops the node, and the log stays."""
    cluster = RaftCluster(3)
    cluster.step(2, Received(1, Append(1, 0, 0, 2, batches(1, 2, 1))))
    raft = cluster.nodes[2].engine
    assert raft is not None
    with pytest.raises(InvariantBroken):
        raft.step(Received(3, Append(2, 1, 1, 0, [batch(2, 2)])))
    assert cluster.terms(2) == [1, 1]


def test_kb_19_no_term_changes_between_a_check_and_its_use() -> None:
    """Events are atomic: a proposal beside a newer leader's heartbeat keeps its own term or goes.

    There is no fast path and no second thread; both orders within one turn are tried.
    """
    for heartbeat_first in (False, True):
        cluster = RaftCluster(3)
        cluster.elect(1)
        events = [Propose(b"x"), Received(2, Heartbeat(2, 0, 1))]
        for event in reversed(events) if heartbeat_first else events:
            cluster.step_only(1, event)
        cluster.turn(1)
        assert cluster.terms(1) == ([1] if heartbeat_first else [1, 1])
        assert not [m for m in sent(cluster, 1, Append) if m.term != 1 or m.entries]
        assert cluster.nodes[1].state.role is Role.FOLLOWER


def test_kb_20_two_leaders_in_one_term_stop_the_node() -> None:
    """Election Safety broken somewhere is reported by whoever sees it, not lived with."""
    for leads in (True, False):
        cluster = RaftCluster(3)
        cluster.elect(1)
        node, other = (1, 2) if leads else (3, 2)
        with pytest.raises(InvariantBroken, match="Election Safety"):
            cluster.step(node, Received(other, Heartbeat(1, 0, 1)))


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(
    test_kb_01_no_entry_is_committed_while_a_snapshot_arrives,
    test_kb_13_a_tail_of_an_old_term_is_not_committed_by_a_new_leaders_index,
    test_kb_15_a_follower_commits_no_further_than_what_was_sent,
)
def commits_up_to_the_own_last_index(patch: pytest.MonkeyPatch) -> None:
    def advance(state: RaftState) -> None:
        state.commit_index = max(state.commit_index, min(state.leader_commit, state.log.last_index))

    def on_heartbeat(state: RaftState, sender: int, message: Heartbeat) -> None:
        follower.hear_leader(state, sender)
        state.leader_commit = message.commit_index
        advance(state)

    patch.setattr(follower, "advance_commit", advance)
    patch.setitem(engine._ON_MESSAGE, Heartbeat, on_heartbeat)


@MUTANTS.breaks(test_kb_02_one_voter_that_answers_twice_is_one_vote)
def counts_answers_instead_of_voters(patch: pytest.MonkeyPatch) -> None:
    def record(state: RaftState, voter: int, *, granted: bool) -> None:
        state.votes[voter + 1000 * len(state.votes)] = granted

    def result(state: RaftState) -> VoteResult:
        won = sum(state.votes.values()) > len(state.configuration.voters) // 2
        return VoteResult.WON if won else VoteResult.PENDING

    patch.setattr(election, "record_vote", record)
    patch.setattr(election, "vote_result", result)


@MUTANTS.breaks(
    test_kb_03_a_late_append_deletes_nothing_acknowledged,
    test_kb_08_a_conflict_is_replaced_in_one_step_or_not_at_all,
)
def drops_everything_behind_the_previous_entry(patch: pytest.MonkeyPatch) -> None:
    on_append = follower.on_append

    def drop_first(state: RaftState, sender: int, message: Append) -> None:
        if message.prev_index < state.log.last_index:
            state.commit_index = min(state.commit_index, message.prev_index)
            state.truncate(message.prev_index + 1)
        on_append(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, Append, drop_first)


@MUTANTS.breaks(test_kb_04_an_apply_that_raises_is_not_tried_again)
def tries_a_failed_apply_again(patch: pytest.MonkeyPatch) -> None:
    apply_committed = Replica._apply_committed

    def keep_on_failure(self: Replica, turn: Any) -> None:
        entries = list(self._committed)
        try:
            apply_committed(self, turn)
        except RuntimeError:
            self._committed = entries
            raise

    patch.setattr(Replica, "_apply_committed", keep_on_failure)


@MUTANTS.breaks(test_kb_05_an_old_term_is_not_committed_by_counting)
def commits_old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    def advance(state: RaftState) -> None:
        index = min(state.quorum.committed(state.matches), state.log.last_index)
        if index > state.commit_index:
            state.commit_index = index
            state.is_term_committed = True

    patch.setattr(leader, "advance_commit", advance)


@MUTANTS.breaks(test_kb_06_the_commit_index_never_falls)
def takes_over_any_commit_index(patch: pytest.MonkeyPatch) -> None:
    def on_heartbeat(state: RaftState, sender: int, message: Heartbeat) -> None:
        follower.hear_leader(state, sender)
        state.leader_commit = message.commit_index
        state.commit_index = min(state.leader_commit, state.verified_index)

    patch.setitem(engine._ON_MESSAGE, Heartbeat, on_heartbeat)


@MUTANTS.breaks(test_kb_07_match_index_never_falls_after_reconnect)
def forgets_matches_on_a_new_connection(patch: pytest.MonkeyPatch) -> None:
    reconnected = Progress.reconnected

    def forget(self: Progress, last_index: int) -> None:
        reconnected(self, last_index)
        self.match_index = 0

    patch.setattr(Progress, "reconnected", forget)


@MUTANTS.breaks(test_kb_08_a_conflict_is_replaced_in_one_step_or_not_at_all)
def stores_a_truncation_by_itself(patch: pytest.MonkeyPatch) -> None:
    persist = Store._persist

    def in_two(self: Store, steps: list[Persist]) -> None:
        for step in steps:
            if step.truncate_from is not None:
                persist(self, [Persist(step.sequence, truncate_from=step.truncate_from)])
            persist(self, [Persist(step.sequence, entries=step.entries)])

    patch.setattr(Store, "_persist", in_two)


@MUTANTS.breaks(test_kb_09_a_vote_compares_the_term_before_the_index)
def votes_for_the_longer_log(patch: pytest.MonkeyPatch) -> None:
    def is_up_to_date(self: Log, last_index: int, last_epoch: int) -> bool:
        return (last_index, last_epoch) >= (self.last_index, self.last_epoch)

    patch.setattr(Log, "is_up_to_date", is_up_to_date)


@MUTANTS.breaks(
    test_kb_09_a_vote_compares_the_term_before_the_index,
    test_kb_10_a_shorter_but_newer_log_can_win,
)
def refuses_whoever_is_behind_in_either(patch: pytest.MonkeyPatch) -> None:
    def is_up_to_date(self: Log, last_index: int, last_epoch: int) -> bool:
        return last_index >= self.last_index and last_epoch >= self.last_epoch

    patch.setattr(Log, "is_up_to_date", is_up_to_date)


@MUTANTS.breaks(half_of_four)
def takes_half_for_a_majority(patch: pytest.MonkeyPatch) -> None:
    def committed(self: Quorum, acks: dict[int, int]) -> int:
        values = sorted(acks.get(voter, 0) for voter in self.configuration.voters)
        return values[len(values) // 2]

    patch.setattr(Quorum, "committed", committed)


@MUTANTS.breaks(test_kb_12_the_order_of_acknowledgements_does_not_matter)
def takes_the_middle_without_sorting(patch: pytest.MonkeyPatch) -> None:
    def committed(self: Quorum, acks: dict[int, int]) -> int:
        values = [acks.get(voter, 0) for voter in self.configuration.voters]
        return values[(len(values) - 1) // 2]

    patch.setattr(Quorum, "committed", committed)


@MUTANTS.breaks(test_kb_14_a_truncation_takes_back_what_a_late_write_may_vouch_for)
def trusts_confirmations_of_truncated_entries(patch: pytest.MonkeyPatch) -> None:
    truncate = RaftState.truncate

    def truncate_only(self: RaftState, index: int) -> None:
        steps = [list(step) for step in self.unconfirmed]
        truncate(self, index)
        for step, before in zip(self.unconfirmed, steps, strict=True):
            step[:] = before

    patch.setattr(RaftState, "truncate", truncate_only)


@MUTANTS.breaks(test_kb_16_a_compacted_index_has_no_term_that_could_match)
def gives_unknown_indexes_term_0(patch: pytest.MonkeyPatch) -> None:
    epoch_at = Log.epoch_at
    patch.setattr(Log, "epoch_at", lambda self, index: epoch_at(self, index) or 0)


@MUTANTS.breaks(test_kb_17_many_commits_at_once_are_delivered_without_gap_or_repeat)
def delivers_one_page_and_calls_it_all(patch: pytest.MonkeyPatch) -> None:
    def deliver(self: RaftState) -> None:
        if self.commit_index > self.delivered_index:
            last = min(self.commit_index, self.delivered_index + 5)
            self.out.committed = self.log.between(self.delivered_index + 1, last)
            self.delivered_index = self.commit_index

    patch.setattr(RaftState, "deliver", deliver)


@MUTANTS.breaks(test_kb_18_a_committed_entry_is_never_rolled_back)
def truncates_committed_entries(patch: pytest.MonkeyPatch) -> None:
    truncate = RaftState.truncate

    def anyway(self: RaftState, index: int) -> None:
        self.commit_index = min(self.commit_index, index - 1)
        truncate(self, index)

    patch.setattr(RaftState, "truncate", anyway)


@MUTANTS.breaks(test_kb_19_no_term_changes_between_a_check_and_its_use)
def proposes_on_a_check_made_earlier(patch: pytest.MonkeyPatch) -> None:
    def on_propose(state: RaftState, payload: bytes) -> None:
        index = state.log.last_index + 1
        state.append_entry(Entry(index, state.term, EntryKind.BATCH, payload))

    patch.setattr(leader, "on_propose", on_propose)


@MUTANTS.breaks(test_kb_20_two_leaders_in_one_term_stop_the_node)
def follows_a_second_leader_of_the_same_term(patch: pytest.MonkeyPatch) -> None:
    def hear_leader(state: RaftState, sender: int) -> None:
        state.become_follower(state.term, sender)

    patch.setattr(follower, "hear_leader", hear_leader)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
