"""Every safety rule of the Raft engine, removed: the suite must notice each time.

A mutant is a patch that takes one rule away; a catcher is a story, a scenario or a random schedule
that must fail with the mutant and pass without. A rule that can be removed unnoticed is not tested.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raft_cluster import RaftCluster
from raft_schedule import Schedule
from raft_story import replay

from quorate.consensus.engine import Received
from quorate.consensus.entry import Entry, EntryKind, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.progress import Progress
from quorate.consensus.quorum import Quorum, VoteResult
from quorate.consensus.raft import election, engine, follower, leader, reads, snapshots
from quorate.consensus.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    InstallChunk,
    VoteReply,
    VoteRequest,
)
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings
from quorate.errors import StorageError

Patch = Callable[[pytest.MonkeyPatch], None]
Catcher = Callable[[], None]
STORIES = Path(__file__).parents[2] / "traces" / "raft"
CAUGHT = (AssertionError, StorageError)
MUTANTS: list[Any] = []


def mutant(*catchers: Catcher) -> Callable[[Patch], Patch]:
    """Register a mutant with those who must catch it."""

    def register(patch: Patch) -> Patch:
        MUTANTS.extend(
            pytest.param(patch, catcher, id=f"{patch.__name__}-{catcher.__name__}")
            for catcher in catchers
        )
        return patch

    return register


# ---- catchers ----------------------------------------------------------------------------------


def story(name: str) -> Catcher:
    """The story goes as written."""

    def catcher() -> None:
        text = (STORIES / f"{name}.txt").read_text()
        assert replay(text) == text

    catcher.__name__ = name
    return catcher


def chaos() -> None:
    """Random schedules keep Fig. 3 and recover."""
    for seed in range(60):
        Schedule(seed).run()


def doubled_vote() -> None:
    """In a cluster of five, a candidate with one foreign vote delivered twice does not lead."""
    cluster = RaftCluster(5)
    cluster.campaign(1)
    for voter in (2, 3):
        cluster.step(1, Received(voter, VoteReply(0, 1, is_pre_vote=True, is_granted=True)))
    for _ in range(2):
        cluster.step(1, Received(2, VoteReply(1, 1, is_pre_vote=False, is_granted=True)))
    assert cluster.nodes[1].state.role is Role.CANDIDATE


def delayed_short_append() -> None:
    """An Append that was delayed and is shorter than the log deletes nothing."""
    cluster = RaftCluster(3)
    entries = [Entry(index, 1, EntryKind.BATCH, b"x") for index in range(1, 4)]
    cluster.step(2, Received(1, Append(1, 0, 0, 0, entries)))
    cluster.step(2, Received(1, Append(1, 0, 0, 0, entries[:1])))
    assert cluster.nodes[2].state.log.last_index == 3


def acknowledged_write_survives() -> None:
    """Whatever one node acknowledged is on its disk when it stops at once."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.step(2, Received(1, Append(1, 0, 0, 0, [Entry(1, 1, EntryKind.BATCH, b"x")])))
    sent = [letter.message for letter in cluster.network]
    assert not any(isinstance(message, AppendReply) for message in sent)
    cluster.persist(2)
    sent = [letter.message for letter in cluster.network]
    assert AppendReply(1, 1) in sent
    assert cluster.nodes[2].disk.entries


def one_vote_across_a_crash() -> None:
    """A vote is on disk before its candidate learns of it, so a restart cannot vote again."""
    cluster = RaftCluster(3, instant_disk=False)
    ask = VoteRequest(1, 0, 0, is_pre_vote=False, is_forced=False)
    cluster.step(2, Received(1, ask))
    assert not cluster.network, "the answer waits for the disk"
    while cluster.persist(2):
        pass
    cluster.crash(2)
    cluster.start(2)
    cluster.network.clear()
    cluster.step(2, Received(3, ask))
    while cluster.persist(2):
        pass
    assert [letter.message for letter in cluster.network] == [
        VoteReply(1, 1, is_pre_vote=False, is_granted=False)
    ]


def divergent_tail() -> None:
    """A leader's commit index says nothing about a tail that this leader never verified."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1, 1])
    cluster.step(2, Received(1, Heartbeat(2, 3, 1)))
    cluster.step(2, Received(1, Append(2, 1, 1, 3, [])))
    assert cluster.nodes[2].state.commit_index == 1


def late_confirmation() -> None:
    """A write confirmed after its entries were truncated vouches for nothing."""
    cluster = RaftCluster(3, instant_disk=False)
    old = [Entry(index, 1, EntryKind.BATCH, b"old") for index in range(1, 5)]
    cluster.step(2, Received(1, Append(1, 0, 0, 0, old)))
    new = [Entry(2, 2, EntryKind.BATCH, b"new")]
    cluster.step(2, Received(3, Append(2, 1, 1, 0, new)))
    cluster.persist(2)
    assert cluster.nodes[2].state.durable_index == 1
    cluster.persist(2)
    assert cluster.nodes[2].state.durable_index == 2


def conflicting_log_goes() -> None:
    """Fig. 13 rule 7: a log that disagrees with the snapshot is dropped, and catch-up ends."""
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0))
    cluster.prepare(1, [], term=1)
    cluster.prepare(2, [], term=1)
    cluster.crash(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b", "c")
    cluster.settle()
    cluster.take_snapshot(1)
    cluster.prepare(3, [1, 1, 1, 1, 1, 1])
    cluster.tell_opened(1, 3)
    cluster.run(200)
    assert cluster.terms(3) == cluster.terms(1)
    assert cluster.nodes[3].applied == cluster.nodes[1].applied


def pieces_of_two_snapshots_stay_apart() -> None:
    """Two leaders' snapshots of one index need not be equal bytes."""
    cluster = RaftCluster(3)
    meta = SnapshotMeta(9, 1, cluster.configuration.encode())
    for term, offset, data, identity in ((1, 0, b'["a"', b"one"), (2, 4, b',"b"]', b"two")):
        piece = InstallChunk(term, meta, offset, data, is_last=offset > 0, identity=identity)
        cluster.step(3, Received(1 + term % 2, piece))
    assert cluster.nodes[3].disk.snapshot is None


def snapshots_are_sent_at_a_bounded_rate() -> None:
    """What travels in a while is what the setting allows, however quick disks and links are."""
    settings = EngineSettings(
        snapshot_chunk_bytes=1, log_keep_entries=0, snapshot_send_bytes_per_second=10
    )
    cluster = RaftCluster(3, settings=settings)
    cluster.crash(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b", "c", "d")
    cluster.settle()
    cluster.take_snapshot(1)
    cluster.start(3)
    cluster.tell_opened(1, 3)
    cluster.run(500)
    assert len(cluster.nodes[3].disk.incoming) < 10


def pre_vote_changes_nothing() -> None:
    """Granting a pre-vote leaves term, vote and disk as they were."""
    cluster = RaftCluster(3)
    cluster.step(2, Received(1, VoteRequest(5, 0, 0, is_pre_vote=True, is_forced=False)))
    state = cluster.nodes[2].state
    assert (state.term, state.voted_for) == (0, 0)
    assert cluster.nodes[2].disk.hard_state is None


# ---- mutants -----------------------------------------------------------------------------------


@mutant(doubled_vote)
def counts_answers_instead_of_voters(patch: pytest.MonkeyPatch) -> None:
    def record(state: RaftState, voter: int, *, granted: bool) -> None:
        state.votes[voter + 1000 * len(state.votes)] = granted

    def result(state: RaftState) -> VoteResult:
        granted = sum(state.votes.values())
        needed = len(state.configuration.voters) // 2 + 1
        return VoteResult.WON if granted >= needed else VoteResult.PENDING

    patch.setattr(election, "record_vote", record)
    patch.setattr(election, "vote_result", result)


@mutant(story("fig_8_d"))
def commits_old_terms_by_counting(patch: pytest.MonkeyPatch) -> None:
    def advance(state: RaftState) -> None:
        index = min(state.quorum.committed(state.matches), state.log.last_index)
        if index > state.commit_index:
            state.commit_index = index
            state.is_term_committed = True

    patch.setattr(leader, "advance_commit", advance)


@mutant(delayed_short_append, chaos)
def truncates_without_a_conflict(patch: pytest.MonkeyPatch) -> None:
    store = follower.store

    def store_all(state: RaftState, entries: list[Entry]) -> None:
        if entries[0].index <= state.log.last_index:
            state.truncate(entries[0].index)
        store(state, entries)

    patch.setattr(follower, "store", store_all)


@mutant(acknowledged_write_survives, story("restart_with_lost_write"), chaos)
def acknowledges_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    def flush(state: RaftState) -> None:
        if state.leader and state.role is Role.FOLLOWER:
            state.out.messages.append((state.leader, AppendReply(state.term, state.verified_index)))

    patch.setattr(follower, "on_durable", lambda state: None)
    patch.setattr(follower, "flush", flush)
    on_append = follower.on_append

    def always_due(state: RaftState, sender: int, message: Append) -> None:
        on_append(state, sender, message)
        state.is_ack_due = True

    patch.setitem(engine._ON_MESSAGE, Append, always_due)


@mutant(one_vote_across_a_crash, chaos)
def keeps_the_vote_in_memory(patch: pytest.MonkeyPatch) -> None:
    def set_vote(self: RaftState, term: int, voted_for: int) -> None:
        self.term, self.voted_for = term, voted_for

    patch.setattr(RaftState, "set_vote", set_vote)


@mutant(one_vote_across_a_crash)
def answers_before_the_vote_is_durable(patch: pytest.MonkeyPatch) -> None:
    def send(self: RaftState, to: int, message: Any) -> None:
        self.out.messages.append((to, message))

    patch.setattr(RaftState, "send", send)


@mutant(story("split_vote"))
def votes_for_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(election, "can_vote_for", lambda state, candidate, term: term == state.term)
    patch.setattr(
        RaftState,
        "set_vote",
        lambda self, term, voted_for: self.__dict__.update(
            term=term, voted_for=voted_for, is_hard_dirty=True
        ),
    )


@mutant(story("fig_8_e"))
def votes_for_outdated_logs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(election, "is_log_acceptable", lambda state, message: True)


@mutant(story("read_before_own_term_commit"), chaos)
def starts_a_term_without_an_entry(patch: pytest.MonkeyPatch) -> None:
    def no_entry(state: RaftState) -> None:
        state.is_term_committed = True

    patch.setattr(leader, "append_first_entry", no_entry)


@mutant(divergent_tail)
def commits_beyond_what_is_verified(patch: pytest.MonkeyPatch) -> None:
    def advance(state: RaftState) -> None:
        state.commit_index = max(state.commit_index, min(state.leader_commit, state.log.last_index))

    patch.setattr(follower, "advance_commit", advance)


@mutant(story("old_leader_cut_off"), story("read_with_delayed_echo"))
def reads_without_a_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "confirmed_round", lambda state: state.round)


@mutant(story("read_with_delayed_echo"))
def reuses_the_last_round(patch: pytest.MonkeyPatch) -> None:
    begin = reads.begin_round

    def begin_again(state: RaftState) -> None:
        if state.reads_waiting and state.round:
            state.round -= 1
        begin(state)

    patch.setattr(reads, "begin_round", begin_again)


@mutant(pre_vote_changes_nothing)
def pre_vote_takes_over_the_term(patch: pytest.MonkeyPatch) -> None:
    ask = election.on_vote_request

    def on_request(state: RaftState, sender: int, message: VoteRequest) -> None:
        ask(state, sender, message)
        if message.term > state.term:
            state.become_follower(message.term, 0)

    patch.setitem(engine._ON_MESSAGE, VoteRequest, on_request)


@mutant(story("stickiness"), story("peer_closed_was_wrong"))
def forgets_its_live_leader(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(election, "has_live_leader", lambda state, candidate: False)


@mutant(late_confirmation, chaos)
def trusts_confirmations_of_truncated_entries(patch: pytest.MonkeyPatch) -> None:
    truncate = RaftState.truncate

    def truncate_only(self: RaftState, index: int) -> None:
        steps = [list(step) for step in self.unconfirmed]
        durable = self.durable_index
        truncate(self, index)
        self.durable_index = durable
        for step, before in zip(self.unconfirmed, steps, strict=True):
            step[:] = before

    patch.setattr(RaftState, "truncate", truncate_only)


@mutant(pieces_of_two_snapshots_stay_apart)
def puts_pieces_of_two_snapshots_together(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshots, "_same_snapshot", lambda state, _message: state.incoming)


@mutant(story("snapshot_resume"))
def begins_every_transfer_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        snapshots,
        "_same_snapshot",
        lambda state, message: state.incoming if message.offset else None,
    )


@mutant(snapshots_are_sent_at_a_bounded_rate)
def sends_snapshots_as_fast_as_it_can(patch: pytest.MonkeyPatch) -> None:
    def read_next(state: RaftState, peer: Progress) -> None:
        state.snapshot_budget_millibytes = 1
        original(state, peer)

    original = snapshots._read_next
    patch.setattr(snapshots, "_read_next", read_next)


@mutant(conflicting_log_goes)
def keeps_a_log_that_disagrees_with_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    chunk = snapshots.SnapshotChunk
    patch.setattr(
        snapshots,
        "SnapshotChunk",
        lambda meta, offset, data, last, _discard, identity: chunk(
            meta, offset, data, last, False, identity
        ),
    )
    on_durable = snapshots.on_durable

    def keep(state: RaftState) -> None:
        if state.installing is not None:
            state.installing.discard_log = False
        on_durable(state)

    patch.setattr(snapshots, "on_durable", keep)


@mutant(story("slow_leader_disk"), chaos)
def leader_counts_itself_before_its_disk(patch: pytest.MonkeyPatch) -> None:
    advance = leader.advance_commit

    def advance_early(state: RaftState) -> None:
        state.matches[state.node_id] = state.log.last_index
        advance(state)

    patch.setattr(leader, "advance_commit", advance_early)


@mutant(story("learner"))
def counts_learners(patch: pytest.MonkeyPatch) -> None:
    build = Quorum.__init__

    def count_all(self: Quorum, configuration: Configuration) -> None:
        build(self, Configuration.of(configuration.members))

    patch.setattr(Quorum, "__init__", count_all)


@mutant(story("check_quorum"), story("old_leader_cut_off"))
def leads_without_a_majority(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leader, "check_quorum", lambda state: None)


@mutant(story("transfer"))
def takes_proposals_while_handing_over(patch: pytest.MonkeyPatch) -> None:
    def propose(state: RaftState, payload: bytes) -> None:
        if state.role is Role.LEADER:
            index = state.log.last_index + 1
            state.append_entry(Entry(index, state.term, EntryKind.BATCH, payload))

    patch.setattr(leader, "on_propose", propose)


# ---- tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patch", "catcher"), MUTANTS)
def test_mutant_is_caught(patch: Patch, catcher: Catcher) -> None:
    """Without this rule the catcher fails."""
    with pytest.MonkeyPatch.context() as context:
        patch(context)
        with pytest.raises(CAUGHT):
            catcher()


SCENARIOS = sorted(
    {param.values[1] for param in MUTANTS if param.values[1] is not chaos},
    key=lambda catcher: catcher.__name__,
)


@pytest.mark.parametrize("catcher", SCENARIOS, ids=lambda catcher: catcher.__name__)
def test_catcher_passes_without_mutants(catcher: Catcher) -> None:
    """A catcher that always fails catches nothing."""
    catcher()
