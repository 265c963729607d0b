"""Known bugs 31 to 42, and 65 again: membership. The list is docs/known-bugs.md.

Some scenarios ask for changes as a user would; where that cannot lead to the situation in which
others failed, they put configuration entries into logs by hand.
"""

from __future__ import annotations

import pytest
from raft_cluster import RaftCluster, add, remove, replace

from known_bugs import (
    Mutants,
    Patch,
    Scenario,
    batch,
    must_notice,
    sent,
    settle_with_disks,
)
from quorate.consensus.engine import ChangeOutcome, Received
from quorate.consensus.entry import Entry, EntryKind
from quorate.consensus.membership import Configuration
from quorate.consensus.quorum import Quorum
from quorate.consensus.raft import election, engine, leader, membership
from quorate.consensus.raft.codec import encode_hard_state
from quorate.consensus.raft.messages import Append, AppendReply, VoteReply, VoteRequest
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.raft.under_way import Round
from quorate.consensus.registry import EngineSettings

MUTANTS = Mutants()
THREE = Configuration.of([1, 2, 3])
FOUR = Configuration.of([1, 2, 3, 4])
JOINT = Configuration((1, 2), (), (1, 2, 3))
"""On the way from three voters to two: node 3 counts in the outgoing half only."""


def change(index: int, term: int, configuration: Configuration) -> Entry:
    return Entry(index, term, EntryKind.CONFIGURATION, configuration.encode())


def offer(cluster: RaftCluster, term: int, previous: int, *entries: Entry, commit: int = 0) -> None:
    """An Append for n2, from n1 in term 1 and from n3 in term 2."""
    previous_term = cluster.nodes[2].state.log.epoch_at(previous) or 0
    append = Append(term, previous, previous_term, commit, list(entries))
    cluster.step(2, Received(1 if term == 1 else 3, append))


def started_with(node: int, *entries: Entry) -> RaftCluster:
    """A cluster of three in which one node holds these entries, none known to be committed."""
    cluster = RaftCluster(3)
    cluster.crash(node)
    cluster.nodes[node].disk.entries = list(entries)
    cluster.nodes[node].disk.hard_state = encode_hard_state(entries[-1].epoch, 0)
    cluster.start(node)
    return cluster


def forced_candidate(cluster: RaftCluster, node: int) -> None:
    """Make the node a candidate of the next term whose own vote is on disk."""
    cluster.nodes[node].state.election_deadline_ms = 0
    cluster.campaign(node)
    term = cluster.nodes[node].state.term + 1
    for voter in cluster.nodes[node].state.configuration.members:
        if voter != node:
            reply = VoteReply(term - 1, term, is_pre_vote=True, is_granted=True)
            cluster.step(node, Received(voter, reply))
    assert cluster.nodes[node].state.role is Role.CANDIDATE


# ---- scenarios ---------------------------------------------------------------------------------


def test_kb_32_a_configuration_counts_from_the_log_not_from_apply() -> None:
    """Two nodes that hold the same log count alike, whatever each of them has applied so far."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, FOUR))
    state = cluster.nodes[2].state
    assert state.commit_index == 0
    assert state.configuration == FOUR
    assert state.quorum.committed({1: 1, 2: 1}) == 0, "two of four are no majority"


def test_kb_33_a_learner_votes_when_asked() -> None:
    """A promoted node may not know it yet; refusing would leave nobody to elect."""
    cluster = RaftCluster(2, learners=1)
    for candidate, granted in ((1, True), (2, False)):
        cluster.network.clear()
        request = VoteRequest(1, 0, 0, is_pre_vote=False, is_forced=False)
        cluster.step(3, Received(candidate, request))
        assert sent(cluster, 3) == [VoteReply(1, 1, is_pre_vote=False, is_granted=granted)]


def test_kb_35_a_restart_restores_both_halves_of_a_joint_configuration() -> None:
    """What decided before the restart decides after it: a majority of each half."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, JOINT))
    cluster.crash(2)
    cluster.start(2)
    state = cluster.nodes[2].state
    assert state.configuration == JOINT
    assert state.quorum.committed({2: 1, 3: 1}) == 0, "the incoming half lacks node 1"
    assert state.quorum.committed({1: 1, 2: 1}) == 1


def test_kb_36_a_member_of_the_outgoing_half_counts_its_own_vote() -> None:
    """A leader on its way out may be the only one who can lead: it votes for itself and wins."""
    cluster = RaftCluster(configuration=JOINT)
    cluster.prepare(3, [1, 1])
    cluster.campaign(3)
    while cluster.network and cluster.nodes[3].state.role is not Role.LEADER:
        cluster.deliver_one()
    assert cluster.nodes[3].state.role is Role.LEADER
    cluster.crash(2)
    cluster.settle()
    assert not cluster.leader(), "one of two is no majority of the incoming half"
    cluster.start(2)
    cluster.run(1000)
    assert "n3 leads, established t2" in cluster.notes


def test_kb_37_a_voter_of_the_committed_configuration_may_campaign() -> None:
    """A removal that never commits must not silence the removed; once committed, it does."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, Configuration.of([1, 3])))
    cluster.campaign(2)
    assert cluster.nodes[2].state.role is Role.PRE_CANDIDATE
    offer(cluster, 1, 1, commit=1)
    cluster.campaign(2)
    assert cluster.nodes[2].state.role is Role.FOLLOWER


def test_kb_38_a_new_leader_counts_by_its_predecessors_uncommitted_configuration() -> None:
    """An inherited configuration is in force from the first moment of the new leadership."""
    cluster = started_with(1, batch(1, 1), change(2, 1, FOUR))
    forced_candidate(cluster, 1)
    cluster.step(1, Received(2, VoteReply(2, 2, is_pre_vote=False, is_granted=True)))
    assert cluster.nodes[1].state.role is Role.CANDIDATE, "two of four elect nobody"
    cluster.step(1, Received(3, VoteReply(2, 2, is_pre_vote=False, is_granted=True)))
    state = cluster.nodes[1].state
    assert state.role is Role.LEADER
    assert sorted(state.progress) == [2, 3, 4]
    assert not state.change.leaving
    cluster.step(1, Received(2, AppendReply(2, 3)))
    assert state.commit_index == 0, "two of four commit nothing"
    cluster.step(1, Received(4, AppendReply(2, 3)))
    assert state.commit_index == 3


def test_kb_39_an_overwritten_change_gives_back_index_and_configuration() -> None:
    """What replaces a configuration entry sits at its index, and the old configuration is back."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, batch(1, 1), change(2, 1, FOUR), batch(3, 1))
    offer(cluster, 2, 1, batch(2, 2), batch(3, 2))
    state = cluster.nodes[2].state
    assert [(entry.index, entry.epoch) for entry in state.log.entries] == [(1, 1), (2, 2), (3, 2)]
    assert (state.configuration, state.quorum.configuration) == (THREE, THREE)


def test_kb_40_truncation_takes_the_configuration_with_it() -> None:
    """With its entry goes the change; a later change goes, an earlier one stays."""
    cluster = RaftCluster(3)
    offer(cluster, 1, 0, change(1, 1, FOUR), change(2, 1, JOINT))
    offer(cluster, 2, 1, batch(2, 2))
    assert cluster.nodes[2].state.configuration == FOUR
    assert cluster.nodes[2].state.quorum.configuration == FOUR
    cluster.crash(2)
    cluster.start(2)
    assert cluster.nodes[2].state.configuration == FOUR


def test_kb_41_a_rollback_reaches_a_configuration_that_is_compacted() -> None:
    """The configuration to go back to may live in the snapshot alone."""
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0))
    offer(cluster, 1, 0, change(1, 1, FOUR), batch(2, 1), commit=2)
    cluster.take_snapshot(2)
    offer(cluster, 1, 2, change(3, 1, JOINT))
    for restart in (False, True):
        if restart:
            cluster.crash(2)
            cluster.start(2)
        assert cluster.nodes[2].state.log.base_index == 2
        assert cluster.nodes[2].state.configuration == JOINT
    offer(cluster, 2, 2, batch(3, 2))
    assert cluster.nodes[2].state.configuration == FOUR


# ---- asked for as a user would -----------------------------------------------------------------


def test_kb_31_no_change_before_an_entry_of_the_own_term_is_committed() -> None:
    """A leader that does not know yet what its predecessors committed changes nothing."""
    cluster = RaftCluster(3)
    cluster.drop_if = lambda letter: isinstance(letter.message, Append)
    cluster.campaign(1)
    cluster.settle()
    assert cluster.nodes[1].state.role is Role.LEADER
    cluster.change(1, "early", remove(3))
    assert cluster.outcome("early") is ChangeOutcome.REFUSED
    assert cluster.nodes[1].state.configuration == THREE
    cluster.drop_if = lambda _: False
    cluster.run(200)
    assert cluster.run_change(1, remove(3)) is ChangeOutcome.DONE, "a moment later it may"


def test_kb_34_removing_the_leader_of_two_strands_nobody() -> None:
    """It stays until the other one has its removal; the other one leads alone, at once."""
    cluster = RaftCluster(2)
    cluster.elect(1)
    assert cluster.run_change(1, remove(1)) is ChangeOutcome.DONE
    cluster.settle()
    cluster.crash(1)
    cluster.run(100)
    assert cluster.leader() == 2
    cluster.propose(2, "alone")
    assert cluster.nodes[2].applied == ["alone"]


def test_kb_35_the_joint_configuration_is_left_once() -> None:
    """However many commits follow, and whoever leads: one entry ends it."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.change(1, "less", remove(3))
    for number in range(10):
        cluster.propose(1, f"{number}")
        cluster.settle()
    cluster.transfer(1, 2)
    cluster.run(500)
    kinds = [entry.kind for entry in cluster.nodes[2].state.log.entries]
    assert kinds.count(EntryKind.CONFIGURATION) == 3, "the first of all, joint, settled"


def test_kb_42_who_counts_as_a_voter_has_stored_that_it_belongs() -> None:
    """Whatever it votes after that survives a restart, with the knowledge that it may vote."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.campaign(1)
    settle_with_disks(cluster, 1, 2, 3)
    cluster.join(4)
    cluster.change(1, "swap", replace(3, 4))
    for _ in range(60):
        cluster.advance(10)
        settle_with_disks(cluster, 1, 2, 3)  # the disk of the new one stands still
        assert not cluster.nodes[1].state.configuration.is_voter(4)
    for _ in range(10):
        cluster.advance(10)
        settle_with_disks(cluster, 1, 2, 3, 4)
    assert cluster.outcome("swap") is ChangeOutcome.DONE
    cluster.crash(4)
    cluster.start(4)
    assert cluster.nodes[4].state.configuration.is_voter(4)


def test_kb_65_a_minority_cannot_make_itself_a_cluster() -> None:
    """A leader that was cut off removes the others: that needs a majority of them, and fails."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.isolate([1], [2, 3])
    cluster.change(1, "alone", remove(2, 3))
    cluster.propose(1, "lost")
    cluster.settle()
    assert cluster.nodes[1].applied == []
    cluster.run(3000)
    leader_now = cluster.leader()
    assert leader_now in (2, 3)
    cluster.propose(leader_now, "kept")
    cluster.heal()
    cluster.run(2000)
    assert [cluster.nodes[node].applied for node in (1, 2, 3)] == [["kept"]] * 3
    assert cluster.nodes[1].state.configuration == THREE


def test_kb_65_a_node_that_comes_back_is_brought_up_to_date_first() -> None:
    """Removed and added again on its old disk, it has no vote before it has the log."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    assert cluster.run_change(1, remove(3)) is ChangeOutcome.DONE
    cluster.run(2000)
    cluster.crash(3)
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.start(3)
    assert cluster.run_change(1, add(3)) is ChangeOutcome.DONE
    assert cluster.nodes[3].applied == ["a", "b"]


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(
    test_kb_32_a_configuration_counts_from_the_log_not_from_apply,
    test_kb_38_a_new_leader_counts_by_its_predecessors_uncommitted_configuration,
)
def waits_for_the_commit_of_a_configuration(patch: pytest.MonkeyPatch) -> None:
    def committed(self: RaftState) -> Configuration:
        return self.configuration_at(self.commit_index)

    patch.setattr(RaftState, "configuration", property(committed))


@MUTANTS.breaks(test_kb_33_a_learner_votes_when_asked)
def learners_do_not_vote(patch: pytest.MonkeyPatch) -> None:
    answer = election.on_vote_request

    def only_voters(state: RaftState, sender: int, message: VoteRequest) -> None:
        if state.configuration.is_voter(state.node_id):
            answer(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, VoteRequest, only_voters)


@MUTANTS.breaks(test_kb_35_a_restart_restores_both_halves_of_a_joint_configuration)
def loses_the_outgoing_half_on_disk(patch: pytest.MonkeyPatch) -> None:
    decode = Configuration.decode.__func__

    def simple(cls: type[Configuration], data: bytes) -> Configuration:
        return Configuration(decode(cls, data).voters)

    patch.setattr(Configuration, "decode", classmethod(simple))


@MUTANTS.breaks(test_kb_36_a_member_of_the_outgoing_half_counts_its_own_vote)
def only_incoming_voters_campaign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Configuration, "is_voter", lambda self, node_id: node_id in self.voters)


@MUTANTS.breaks(test_kb_37_a_voter_of_the_committed_configuration_may_campaign)
def only_voters_in_force_campaign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        election, "may_campaign", lambda state: state.configuration.is_voter(state.node_id)
    )


@MUTANTS.breaks(
    test_kb_39_an_overwritten_change_gives_back_index_and_configuration,
    test_kb_40_truncation_takes_the_configuration_with_it,
    test_kb_41_a_rollback_reaches_a_configuration_that_is_compacted,
)
def keeps_a_truncated_configuration(patch: pytest.MonkeyPatch) -> None:
    truncate = RaftState.truncate

    def keep(self: RaftState, index: int) -> None:
        configurations, quorum = list(self.configurations), self.quorum
        truncate(self, index)
        self.configurations[:], self.quorum = configurations, quorum

    patch.setattr(RaftState, "truncate", keep)


@MUTANTS.breaks(test_kb_38_a_new_leader_counts_by_its_predecessors_uncommitted_configuration)
def leads_by_the_bootstrap_configuration(patch: pytest.MonkeyPatch) -> None:
    become_leader = leader.become_leader

    def forget_and_lead(state: RaftState) -> None:
        del state.configurations[1:]
        become_leader(state)

    patch.setattr(leader, "become_leader", forget_and_lead)


@MUTANTS.breaks(test_kb_31_no_change_before_an_entry_of_the_own_term_is_committed)
def changes_before_its_term_is_committed(patch: pytest.MonkeyPatch) -> None:
    why_not_now = membership.why_not_now

    def early(state: RaftState) -> str:
        reason = why_not_now(state)
        return "" if "committed nothing yet" in reason else reason

    patch.setattr(membership, "why_not_now", early)


@MUTANTS.breaks(test_kb_34_removing_the_leader_of_two_strands_nobody)
def drops_who_is_left_with_the_leaders_own_commit(patch: pytest.MonkeyPatch) -> None:
    def leave(state: RaftState) -> None:
        state.become_follower(state.term, 0)

    follow = membership.follow_members

    def follow_and_leave(state: RaftState) -> None:
        follow(state)
        if not state.configuration.is_voter(state.node_id):
            leave(state)

    patch.setattr(membership, "follow_members", follow_and_leave)


@MUTANTS.breaks(test_kb_35_the_joint_configuration_is_left_once)
def leaves_the_joint_configuration_at_every_commit(patch: pytest.MonkeyPatch) -> None:
    on_commit = membership.on_commit

    def again(state: RaftState) -> None:
        on_commit(state)
        state.change.is_open = True
        if not state.configuration.is_changing:
            membership.append(state, state.configuration)

    patch.setattr(membership, "on_commit", again)


@MUTANTS.breaks(test_kb_42_who_counts_as_a_voter_has_stored_that_it_belongs)
def promotes_at_once(patch: pytest.MonkeyPatch) -> None:
    def ready(state: RaftState, _peer: object, turn: Round) -> str:
        turn.is_ready = state.role is Role.LEADER
        return ""

    patch.setattr(membership, "_judge", ready)


@MUTANTS.breaks(test_kb_65_a_minority_cannot_make_itself_a_cluster)
def decides_with_the_new_majority_alone(patch: pytest.MonkeyPatch) -> None:
    build = Quorum.__init__

    def single(self: Quorum, configuration: Configuration) -> None:
        build(self, Configuration(configuration.voters))
        self.configuration = configuration

    patch.setattr(Quorum, "__init__", single)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
