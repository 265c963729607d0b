"""Raft §6 and dissertation §4.3: while two configurations meet, both decide."""

from __future__ import annotations

import pytest
from raft_cluster import RaftCluster, add, remove

from known_bugs import Mutants, Patch, Scenario, must_notice
from quorate.consensus import change as steps
from quorate.consensus.change import Change, NewMember
from quorate.consensus.engine import ChangeOutcome, Received
from quorate.consensus.entry import EntryKind
from quorate.consensus.membership import Configuration
from quorate.consensus.quorum import Quorum
from quorate.consensus.raft import leader, membership
from quorate.consensus.raft.messages import AppendReply, VoteReply
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings

MUTANTS = Mutants()
SWAP = Change(add=(NewMember(4), NewMember(5)), remove=(2, 3))
"""From 1,2,3 to 1,4,5: neither half alone may decide."""


def joint(*, commit: bool = False) -> RaftCluster:
    """Leader n1, both halves in the leader's log; nobody else has that entry unless ``commit``."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.join(4)
    cluster.join(5)
    cluster.change(1, "swap", SWAP)
    cluster.settle()
    while not cluster.nodes[1].state.configuration.is_joint:
        cluster.advance(10)
        if not cluster.nodes[1].state.configuration.is_joint:
            cluster.settle()
    if not commit:
        cluster.network.clear()
    return cluster


def acknowledge(cluster: RaftCluster, *nodes: int) -> None:
    """These nodes have stored the leader's whole log."""
    state = cluster.nodes[1].state
    for node in nodes:
        cluster.step(1, Received(node, AppendReply(state.term, state.log.last_index)))


@pytest.mark.parametrize("one_half", [(2, 3), (4, 5), (2,), (4,)])
def test_6_no_half_commits_alone(one_half: tuple[int, ...]) -> None:
    """§6: agreement needs separate majorities of the old and of the new configuration."""
    cluster = joint()
    index = cluster.nodes[1].state.log.last_index
    acknowledge(cluster, *one_half)
    assert cluster.nodes[1].state.commit_index < index
    acknowledge(cluster, 2, 4)
    assert cluster.nodes[1].state.commit_index >= index


def test_rf_4_a_change_goes_from_stable_through_transitional_to_stable_under_load() -> None:
    """RF-4: writes go on; in between both majorities are needed; then the new one decides."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.join(4)
    cluster.join(5)
    cluster.change(1, "swap", SWAP)
    seen: list[Configuration] = []
    for number in range(60):
        cluster.propose(1, f"{number}")
        cluster.run(10)
        now = cluster.nodes[1].state.configuration
        if not seen or seen[-1] != now:
            seen.append(now)
    first, *in_log = [
        Configuration.decode(entry.payload)
        for entry in cluster.nodes[5].state.log.entries
        if entry.kind == EntryKind.CONFIGURATION
    ]
    assert first == Configuration.of([1, 2, 3])
    assert [one.is_planned for one in in_log] == [True, False, False]
    assert [one.is_joint for one in in_log] == [False, True, False]
    assert in_log[1] == Configuration((1, 4, 5), (), (1, 2, 3))
    assert in_log[2] == Configuration.of([1, 4, 5])
    assert cluster.outcome("swap") is ChangeOutcome.DONE
    written = [f"{number}" for number in range(60)]
    for node in (1, 4, 5):
        assert cluster.nodes[node].applied == written


@pytest.mark.parametrize("voters", [(2, 3), (4, 5)])
def test_6_no_half_elects_alone(voters: tuple[int, ...]) -> None:
    """§6: an election too needs a majority of each half."""
    cluster = joint(commit=True)
    cluster.deliver_one(next(i for i, x in enumerate(cluster.network) if x.to == 2))
    cluster.crash(1)
    cluster.network.clear()
    assert cluster.nodes[2].state.configuration.is_joint
    cluster.nodes[2].state.election_deadline_ms = 0
    cluster.campaign(2)
    term = cluster.nodes[2].state.term
    for phase in (True, False):
        for voter in voters:
            if voter != 2:
                reply = VoteReply(term, term + 1, is_pre_vote=phase, is_granted=True)
                cluster.step(2, Received(voter, reply))
    assert cluster.nodes[2].state.role is not Role.LEADER


def test_6_a_leader_needs_both_majorities_to_stay() -> None:
    """Check-quorum asks both halves: cut off from one of them it steps down."""
    cluster = joint()
    cluster.isolate([1, 2, 3], [4, 5])
    cluster.run(1500)
    assert cluster.nodes[1].state.role is not Role.LEADER


def test_6_a_read_needs_both_majorities() -> None:
    """ReadIndex counts like everything else."""
    cluster = joint()
    cluster.isolate([1, 2, 3], [4, 5])
    cluster.read(1, "r")
    cluster.run(100)
    assert "r" not in cluster.reads_done
    cluster.heal()
    cluster.run(300)
    assert "r" in cluster.reads_done


def test_6_everybody_restarts_in_the_joint_state_and_it_is_completed() -> None:
    """§4.3: what the disks hold is enough to go on."""
    cluster = joint(commit=True)
    for letter in list(cluster.network):
        if letter.to in (2, 3, 4, 5):
            cluster.deliver_one(cluster.network.index(letter))
    cluster.network.clear()
    for node in (1, 2, 3, 4, 5):
        cluster.crash(node)
    for node in (1, 2, 3, 4, 5):
        cluster.start(node)
        assert cluster.nodes[node].state.configuration.is_joint
    cluster.run(5000)
    leader = cluster.leader()
    assert leader in (1, 4, 5)
    assert cluster.nodes[leader].state.configuration == Configuration.of([1, 4, 5])


def test_6_the_end_of_a_joint_configuration_is_proposed_once() -> None:
    """Known bug 35, second half: however many commits follow, one entry leaves the joint state."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.change(1, "less", remove(3))
    for number in range(20):
        cluster.propose(1, f"{number}")
    cluster.settle()
    cluster.run(300)
    kinds = [entry.kind for entry in cluster.nodes[1].state.log.entries]
    assert kinds.count(EntryKind.CONFIGURATION) == 3, "the first of all, joint, settled"


def test_6_a_snapshot_carries_the_joint_configuration() -> None:
    """§7: a snapshot replaces the entries that it covers, configurations included."""
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0))
    cluster.elect(1)
    cluster.isolate([1, 2], [3])
    cluster.change(1, "less", remove(3))
    cluster.settle()
    cluster.heal()
    assert cluster.outcome("less") is ChangeOutcome.DONE
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.take_snapshot(1)
    cluster.join(4)
    assert cluster.run_change(1, add(4)) is ChangeOutcome.DONE
    state = cluster.nodes[4].state
    assert state.log.base_index > 0, "it came by a snapshot"
    assert state.configuration == Configuration.of([1, 2, 4])


def test_6_the_voters_never_change_without_a_joint_step() -> None:
    """Whatever is asked for, the steps are: (planned,) joint, settled."""
    one, two = Configuration.of([1, 2, 3]), Configuration.of([3, 4, 5], [1])
    first = steps.first_step(one, two)
    assert (first.voters, first.next_voters) == ((1, 2, 3), (3, 4, 5))
    assert steps.given_up(first) == one
    both = steps.joint(one, steps.target_of(first))
    assert (both.voters, both.outgoing) == ((3, 4, 5), (1, 2, 3))
    assert steps.settled(both) == two


# ---- the rules, removed ------------------------------------------------------------------------


def _only(patch: pytest.MonkeyPatch, half: str) -> None:
    build = Quorum.__init__

    def single(self: Quorum, configuration: Configuration) -> None:
        voters = getattr(configuration, half) or configuration.voters
        build(self, Configuration(voters))
        self.configuration = configuration

    patch.setattr(Quorum, "__init__", single)


def decides_with_the_new_majority_alone(patch: pytest.MonkeyPatch) -> None:
    _only(patch, "voters")


def decides_with_the_old_majority_alone(patch: pytest.MonkeyPatch) -> None:
    _only(patch, "outgoing")


@MUTANTS.breaks(test_6_a_read_needs_both_majorities)
def asks_the_old_majority_alone(patch: pytest.MonkeyPatch) -> None:
    decides_with_the_old_majority_alone(patch)


@MUTANTS.breaks(test_6_a_leader_needs_both_majorities_to_stay)
def stays_with_the_old_majority(patch: pytest.MonkeyPatch) -> None:
    check_quorum = leader.check_quorum

    def only_old(state: RaftState) -> None:
        for voter in state.configuration.voters:
            if voter not in state.configuration.outgoing:
                state.actives[voter] = state.now_ms
        check_quorum(state)

    patch.setattr(leader, "check_quorum", only_old)


@MUTANTS.breaks(test_6_the_end_of_a_joint_configuration_is_proposed_once)
def leaves_the_joint_state_at_every_commit(patch: pytest.MonkeyPatch) -> None:
    on_commit = membership.on_commit

    def again(state: RaftState) -> None:
        on_commit(state)
        state.change.is_open = True
        if not state.configuration.is_changing:
            membership.append(state, state.configuration)

    patch.setattr(membership, "on_commit", again)


@MUTANTS.breaks(
    test_rf_4_a_change_goes_from_stable_through_transitional_to_stable_under_load,
    test_6_the_voters_never_change_without_a_joint_step,
)
def skips_the_joint_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "joint", lambda current, target: target)


@MUTANTS.breaks(test_6_everybody_restarts_in_the_joint_state_and_it_is_completed)
def forgets_a_joint_state_that_it_finds(patch: pytest.MonkeyPatch) -> None:
    take_over = membership.take_over

    def forget(state: RaftState) -> None:
        take_over(state)
        state.change.is_open = False

    patch.setattr(membership, "take_over", forget)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)


@pytest.mark.parametrize("test", [test_6_no_half_commits_alone, test_6_no_half_elects_alone])
@pytest.mark.parametrize(
    ("patch", "half"),
    [(decides_with_the_new_majority_alone, (4, 5)), (decides_with_the_old_majority_alone, (2, 3))],
)
def test_one_majority_is_noticed(test: Scenario, patch: Patch, half: tuple[int, ...]) -> None:
    """With one of the two majorities the same scenarios fail."""
    must_notice(patch, lambda: test(half))  # type: ignore[call-arg]
