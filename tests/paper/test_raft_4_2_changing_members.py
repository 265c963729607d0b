"""Dissertation chapter 4: adding, removing and replacing members while the cluster works."""

from __future__ import annotations

import pytest
from raft_cluster import Letter, RaftCluster, add, remove, replace

from known_bugs import Mutants, Patch, Scenario, must_notice, sent
from quorate.consensus.change import Change, MemberRole
from quorate.consensus.engine import ChangeOutcome, Received
from quorate.consensus.entry import EntryKind
from quorate.consensus.membership import Configuration
from quorate.consensus.quorum import Quorum
from quorate.consensus.raft import election, membership, transfer
from quorate.consensus.raft.messages import Append, RemovalNotice, VoteReply, VoteRequest
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings

MUTANTS = Mutants()


def elected(voters: int = 3, **settings: int) -> RaftCluster:
    """A cluster led by n1."""
    cluster = RaftCluster(voters, settings=EngineSettings(**settings))
    cluster.elect(1)
    return cluster


def members(cluster: RaftCluster, node: int) -> Configuration:
    return cluster.nodes[node].state.configuration


# ---- §4.1 --------------------------------------------------------------------------------------


def test_4_1_only_one_change_at_a_time() -> None:
    """A change that comes while another is under way is refused, and says so."""
    cluster = elected()
    cluster.change(1, "first", remove(3))
    cluster.change(1, "second", remove(2))
    assert cluster.outcome("second") is ChangeOutcome.REFUSED
    assert "another change is under way" in cluster.answers["second"][0].reason
    cluster.settle()
    assert cluster.outcome("first") is ChangeOutcome.DONE
    assert members(cluster, 1).voters == (1, 2)


def test_4_1_no_change_before_an_entry_of_the_own_term_is_committed() -> None:
    """The correction of 2015: until then the leader cannot know what its predecessors changed."""
    cluster = RaftCluster(3)
    cluster.drop_if = lambda letter: isinstance(letter.message, Append)
    cluster.campaign(1)
    cluster.settle()
    assert cluster.nodes[1].state.role is Role.LEADER
    cluster.change(1, "early", remove(3))
    assert cluster.outcome("early") is ChangeOutcome.REFUSED
    assert members(cluster, 1).voters == (1, 2, 3)


def test_4_1_requests_are_answered_whoever_asks() -> None:
    """A node serves candidates and leaders that are not in its configuration."""
    cluster = RaftCluster(3)
    request = VoteRequest(1, 0, 0, is_pre_vote=False, is_forced=False)
    cluster.step(2, Received(9, request))
    assert sent(cluster, 2) == [VoteReply(1, 1, is_pre_vote=False, is_granted=True)]
    cluster.step(2, Received(9, Append(1, 0, 0, 0, [])))
    assert cluster.nodes[2].state.leader == 9


def test_4_4_a_new_node_starts_empty_and_silent() -> None:
    """It neither campaigns nor votes before it belongs to a configuration that it knows of."""
    cluster = elected()
    cluster.join(4)
    cluster.run(3000)
    assert cluster.nodes[4].state.term == 0
    cluster.step(4, Received(2, VoteRequest(5, 9, 4, is_pre_vote=False, is_forced=False)))
    assert sent(cluster, 4) == [VoteReply(0, 5, is_pre_vote=False, is_granted=False)]
    assert membership.standing(cluster.nodes[4].state) == "joining"


def test_4_a_removed_node_is_not_asked_and_not_counted() -> None:
    """From the moment its removal is in the log it counts nowhere."""
    cluster = elected()
    assert cluster.run_change(1, remove(3)) is ChangeOutcome.DONE
    cluster.crash(2)
    cluster.run(300)
    cluster.propose(1, "x")
    cluster.settle()
    assert "x" not in cluster.nodes[1].applied, "nodes 1 and 3 are no majority of 1 and 2"


# ---- §4.2.1 ------------------------------------------------------------------------------------


def test_ra_5_a_blank_node_catches_up_without_a_vote_and_is_promoted() -> None:
    """While it catches up nothing depends on it: commits go on with the old majority."""
    cluster = elected()
    cluster.propose(1, *"abc")
    cluster.settle()
    cluster.join(4)
    cluster.isolate([1, 2, 3], [4])
    cluster.change(1, "add", add(4))
    cluster.propose(1, "d")
    cluster.run(200)
    assert "d" in cluster.nodes[2].applied
    assert members(cluster, 1).voters == (1, 2, 3)
    cluster.crash(3)
    cluster.propose(1, "e")
    cluster.settle()
    assert "e" in cluster.nodes[2].applied, "two of three: the fourth has no vote yet"
    cluster.start(3)
    cluster.heal()
    cluster.run(300)
    assert cluster.outcome("add") is ChangeOutcome.DONE
    assert members(cluster, 4).voters == (1, 2, 3, 4)
    assert cluster.nodes[4].applied == cluster.nodes[1].applied


def test_4_2_1_a_member_that_never_catches_up_is_given_up_after_ten_rounds() -> None:
    """Each round brings what was written in the one before; too slow is too slow."""
    cluster = elected()
    cluster.join(4)
    cluster.change(1, "add", add(4))
    held: list[Letter] = []
    cluster.drop_if = lambda letter: letter.sender == 4 and (held.append(letter) or True)
    number = 0
    while number < 20 and cluster.outcome("add") is ChangeOutcome.ACCEPTED:
        number += 1
        cluster.run(600)  # an acknowledgement takes longer than an election timeout
        cluster.propose(1, f"round {number}")  # and when it comes, more has been written
        letters, held[:] = list(held), []
        for letter in letters:
            cluster.step(1, Received(4, letter.message))
        cluster.run(20)
    assert cluster.outcome("add") is ChangeOutcome.GIVEN_UP
    assert number == membership.ROUNDS_MAX + 1, "the first answer only says where it stands"
    assert "too slow" in cluster.answers["add"][-1].reason
    assert members(cluster, 1) == Configuration.of([1, 2, 3])
    assert membership.statistics(cluster.nodes[1].state).last_failure


def test_4_2_1_a_member_that_cannot_be_reached_is_given_up() -> None:
    """The plan ends with words that say who, and everything is as before."""
    cluster = elected(catch_up_patience_ms=2000)
    assert cluster.run_change(1, add(4), ms=3000) is ChangeOutcome.GIVEN_UP
    assert "node 4 cannot be reached" in cluster.answers["change 1"][-1].reason
    assert members(cluster, 2) == Configuration.of([1, 2, 3])
    assert "node 4 cannot be reached" in cluster.nodes[1].state.change.last_failure
    cluster.join(4)
    assert cluster.run_change(1, add(4)) is ChangeOutcome.DONE, "a second attempt works"
    assert not cluster.nodes[1].state.change.last_failure, "and is what counts now"


def test_4_2_1_removing_a_member_that_catches_up_takes_its_addition_back() -> None:
    """Nobody has to wait for the patience of a leader that waits for a node that never comes."""
    cluster = elected()
    cluster.change(1, "add", add(4))
    cluster.settle()
    assert cluster.run_change(1, remove(4)) is ChangeOutcome.DONE
    assert cluster.outcome("add") is ChangeOutcome.GIVEN_UP
    assert members(cluster, 3) == Configuration.of([1, 2, 3])


def test_4_2_1_an_addition_is_taken_back_only_when_its_plan_is_committed() -> None:
    """Taking it back is a step too, and each waits for the commit of the one before."""
    cluster = elected()
    cluster.drop_if = lambda letter: isinstance(letter.message, Append)
    cluster.change(1, "add", add(4))
    cluster.change(1, "too soon", remove(4))
    assert cluster.outcome("too soon") is ChangeOutcome.REFUSED
    assert "another change is under way" in cluster.answers["too soon"][0].reason
    assert members(cluster, 1).is_planned


def test_4_2_1_promotion_survives_a_change_of_leader() -> None:
    """The plan is in the log: the next leader brings it to its end."""
    cluster = elected()
    cluster.change(1, "add", add(4))
    cluster.settle()
    cluster.crash(1)
    cluster.tell_closed(1)
    cluster.elect(2)
    cluster.join(4)
    cluster.run(300)
    assert members(cluster, 2).voters == (1, 2, 3, 4)


# ---- §4.2.2 ------------------------------------------------------------------------------------


def test_4_2_2_a_removed_leader_does_not_count_itself() -> None:
    """It leads the configuration that it is not in: a majority of the others decides."""
    cluster = RaftCluster(3, instant_disk=True)
    cluster.elect(1)
    cluster.change(1, "go", remove(1))
    while members(cluster, 1).is_joint:
        cluster.deliver_one()
    cluster.isolate([1, 2], [3])
    cluster.settle()
    state = cluster.nodes[1].state
    assert state.role is Role.LEADER
    assert state.commit_index < state.log.last_index, "1 and 2 are no majority of 2 and 3"


def test_ra_5_a_removed_leader_steps_down_after_the_commit_and_not_before() -> None:
    """Until then it is needed; then another one leads, without an election timeout."""
    cluster = elected()
    cluster.change(1, "go", remove(1))
    while cluster.network and cluster.outcome("go") is not ChangeOutcome.DONE:
        assert cluster.nodes[1].state.role is Role.LEADER
        cluster.deliver_one()
    index = cluster.answers["go"][-1].index
    assert cluster.nodes[1].state.commit_index >= index
    assert members(cluster, 1).voters == (2, 3)
    cluster.settle()  # no time passes
    assert cluster.leader() in (2, 3)
    cluster.run(3000)
    assert cluster.nodes[1].state.role is Role.FOLLOWER, "it does not campaign any more"
    assert membership.standing(cluster.nodes[1].state) == "removed"


# ---- §4.2.3 ------------------------------------------------------------------------------------


def cut_off_and_removed() -> RaftCluster:
    """Node 3 was removed while it could not be reached, and can be reached again."""
    cluster = elected()
    cluster.isolate([1, 2], [3])
    assert cluster.run_change(1, remove(3)) is ChangeOutcome.DONE
    cluster.run(2500)
    assert sorted(cluster.nodes[1].state.progress) == [2]
    cluster.heal()
    return cluster


def test_ra_9_a_removed_server_does_not_disrupt() -> None:
    """It campaigns for a while, and nobody's term or leader changes because of it."""
    cluster = cut_off_and_removed()
    term = cluster.nodes[1].state.term
    cluster.run(5000)
    assert cluster.leader() == 1
    assert [cluster.nodes[node].state.term for node in (1, 2)] == [term, term]


def test_4_2_3_a_removed_server_learns_of_it_and_falls_silent() -> None:
    """Whoever it asks says that it is no member; it says so itself and does not ask again."""
    cluster = cut_off_and_removed()
    cluster.run(2500)
    assert membership.standing(cluster.nodes[3].state) == "removed"
    cluster.events.clear()
    cluster.run(3000)
    assert not [event for event in cluster.events if event.startswith("n3>")]


def test_4_2_3_who_was_removed_is_told_before_it_is_left_alone() -> None:
    """A node that can be reached learns of its removal from the leader, and then hears no more."""
    cluster = elected()
    assert cluster.run_change(1, remove(3)) is ChangeOutcome.DONE
    cluster.run(50)
    state = cluster.nodes[3].state
    assert state.commit_index >= state.configurations[-1][0]
    assert membership.standing(state) == "removed"
    assert sorted(cluster.nodes[1].state.progress) == [2]


def test_4_2_3_a_notice_of_an_older_removal_changes_nothing() -> None:
    """Who came back knows a later configuration than the one that it was told of."""
    cluster = elected()
    assert cluster.run_change(1, remove(3)) is ChangeOutcome.DONE
    assert cluster.run_change(1, add(3)) is ChangeOutcome.DONE
    cluster.step(3, Received(2, RemovalNotice(1, 3)))
    assert not cluster.nodes[3].state.is_told_removed


# ---- several at once, and everything -------------------------------------------------------------


def test_ra_5_three_of_three_are_replaced_one_at_a_time_while_writes_go_on() -> None:
    """Joint consensus, one replacement after the other; every write is applied everywhere."""
    cluster = elected()
    written: list[str] = []
    for old, new in ((1, 4), (2, 5), (3, 6)):
        cluster.join(new)
        token = f"{old} by {new}"
        cluster.change(cluster.leader(), token, replace(old, new))
        for number in range(40):
            cluster.run(10)
            who = cluster.leader()
            if who:
                written.append(f"{token} {number}")
                cluster.propose(who, written[-1])
        assert cluster.outcome(token) is ChangeOutcome.DONE
        cluster.crash(old)
    cluster.run(300)
    assert members(cluster, 5) == Configuration.of([4, 5, 6])
    assert len(written) > 100
    for node in (4, 5, 6):
        assert cluster.nodes[node].applied == written


def test_4_a_learner_receives_everything_and_counts_nowhere() -> None:
    """Added as a learner it stays one; promotion is a change of its own."""
    cluster = elected()
    cluster.join(4)
    assert cluster.run_change(1, add(4, role=MemberRole.LEARNER)) is ChangeOutcome.DONE
    cluster.propose(1, "a")
    cluster.run(200)
    assert cluster.nodes[4].applied == ["a"]
    cluster.isolate([1, 4], [2, 3])
    cluster.propose(1, "b")
    cluster.settle()
    assert "b" not in cluster.nodes[1].applied
    cluster.heal()
    cluster.run(200)
    assert cluster.run_change(1, Change(promote=(4,))) is ChangeOutcome.DONE
    assert members(cluster, 4).voters == (1, 2, 3, 4)
    assert cluster.run_change(1, Change(demote=(2,))) is ChangeOutcome.DONE
    assert members(cluster, 2) == Configuration.of([1, 3, 4], [2])


def test_4_addresses_and_priorities_travel_with_the_configuration() -> None:
    """Consensus carries them and everybody has the same."""
    cluster = elected()
    change = Change(addresses=((1, "a:1"), (2, "b:2")), priorities=((1, 3),))
    assert cluster.run_change(1, change) is ChangeOutcome.DONE
    cluster.run(200)
    for node in (1, 2, 3):
        assert members(cluster, node).address(2) == "b:2"
        assert members(cluster, node).priority(1) == 3
    assert cluster.run_change(1, Change(addresses=((2, ""),))) is ChangeOutcome.DONE
    assert members(cluster, 1).addresses == ((1, "a:1"),)


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(test_4_1_only_one_change_at_a_time)
def takes_two_changes_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Configuration, "is_changing", property(lambda self: False))
    patch.setattr(membership, "is_committed", lambda state: True)


@MUTANTS.breaks(test_4_1_no_change_before_an_entry_of_the_own_term_is_committed)
def changes_before_its_term_is_committed(patch: pytest.MonkeyPatch) -> None:
    why_not_now = membership.why_not_now

    def early(state: RaftState) -> str:
        reason = why_not_now(state)
        return "" if "committed nothing yet" in reason else reason

    patch.setattr(membership, "why_not_now", early)


@MUTANTS.breaks(test_4_4_a_new_node_starts_empty_and_silent)
def votes_without_belonging(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(membership, "may_vote", lambda state: True)


@MUTANTS.breaks(test_ra_5_a_blank_node_catches_up_without_a_vote_and_is_promoted)
def counts_learners(patch: pytest.MonkeyPatch) -> None:
    build = Quorum.__init__

    def count_all(self: Quorum, configuration: Configuration) -> None:
        build(self, Configuration.of(configuration.members))

    patch.setattr(Quorum, "__init__", count_all)


@MUTANTS.breaks(test_4_2_1_a_member_that_never_catches_up_is_given_up_after_ten_rounds)
def promotes_after_any_round(patch: pytest.MonkeyPatch) -> None:
    judge = membership._judge

    def generous(state: RaftState, peer, turn) -> str:  # type: ignore[no-untyped-def]
        turn.started_ms = state.now_ms
        return judge(state, peer, turn)

    patch.setattr(membership, "_judge", generous)


@MUTANTS.breaks(test_4_2_1_a_member_that_cannot_be_reached_is_given_up)
def waits_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(membership, "give_up", lambda state, reason: None)


@MUTANTS.breaks(test_4_2_2_a_removed_leader_does_not_count_itself)
def removed_leader_counts_itself(patch: pytest.MonkeyPatch) -> None:
    committed = Quorum.committed

    def with_leader(self: Quorum, acks: dict[int, int]) -> int:
        if 1 in acks and 1 not in self.configuration.members:
            return sorted(acks.values())[(len(acks) - 1) >> 1]
        return committed(self, acks)

    patch.setattr(Quorum, "committed", with_leader)


@MUTANTS.breaks(test_ra_5_a_removed_leader_steps_down_after_the_commit_and_not_before)
def steps_down_when_its_removal_is_in_the_log(patch: pytest.MonkeyPatch) -> None:
    follow = membership.follow_members

    def leave(state: RaftState) -> None:
        follow(state)
        if not state.configuration.is_voter(state.node_id):
            transfer.begin_resigning(state)

    patch.setattr(membership, "follow_members", leave)


@MUTANTS.breaks(test_ra_5_a_removed_leader_steps_down_after_the_commit_and_not_before)
def leads_on_after_its_removal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transfer, "begin_resigning", lambda state: None)


@MUTANTS.breaks(test_4_2_3_a_removed_server_learns_of_it_and_falls_silent)
def tells_nobody_of_a_removal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(membership, "tell_removed", lambda state, sender: None)


@MUTANTS.breaks(test_4_2_3_who_was_removed_is_told_before_it_is_left_alone)
def drops_who_was_removed_at_once(patch: pytest.MonkeyPatch) -> None:
    def forget(state: RaftState) -> None:
        for node in list(state.change.leaving):
            state.peers.remove(state.progress.pop(node))
            del state.change.leaving[node]

    follow = membership.follow_members

    def follow_and_forget(state: RaftState) -> None:
        follow(state)
        forget(state)

    patch.setattr(membership, "follow_members", follow_and_forget)


@MUTANTS.breaks(test_ra_9_a_removed_server_does_not_disrupt)
def refuses_nobody_for_a_live_leader(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(election, "has_live_leader", lambda state, candidate: False)
    patch.setattr(election, "start_pre_vote", lambda state: election.campaign(state, forced=False))


@MUTANTS.breaks(test_4_2_1_promotion_survives_a_change_of_leader)
def forgets_its_predecessors_plan(patch: pytest.MonkeyPatch) -> None:
    take_over = membership.take_over

    def forget(state: RaftState) -> None:
        take_over(state)
        state.change.is_open = False

    patch.setattr(membership, "take_over", forget)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)


def test_every_step_is_a_configuration_entry() -> None:
    """A change is entries of the log, and nothing besides: three for an addition.

    The first entry of all is the configuration of the beginning (§4.4).
    """
    cluster = elected()
    cluster.join(4)
    assert cluster.run_change(1, add(4)) is ChangeOutcome.DONE
    kinds = [entry.kind for entry in cluster.nodes[2].state.log.entries]
    assert kinds == [EntryKind.CONFIGURATION] * 4
