"""Dissertation §3.10: leadership that a leader gives away by itself; and members without data."""

from __future__ import annotations

import pytest
from raft_cluster import RaftCluster, add, remove

from known_bugs import Mutants, Patch, Scenario, must_notice, settle_with_disks
from quorate.consensus.change import Change, MemberRole, NewMember
from quorate.consensus.engine import ChangeOutcome
from quorate.consensus.entry import WITHHELD_BODY, EntryKind
from quorate.consensus.membership import Configuration
from quorate.consensus.raft import leader, snapshots, transfer
from quorate.consensus.raft.state import RaftState
from quorate.consensus.registry import EngineSettings
from quorate.errors import UsageError

MUTANTS = Mutants()


# ---- preferred leaders -------------------------------------------------------------------------


def preferring(node: int) -> RaftCluster:
    """n1 leads and ``node`` should."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    assert cluster.run_change(1, Change(priorities=((node, 5),))) is ChangeOutcome.DONE
    return cluster


def test_a_preferred_member_that_keeps_up_is_given_leadership() -> None:
    """After an election timeout of keeping up, by a hand-over: no proposal is lost."""
    cluster = preferring(3)
    for number in range(100):
        cluster.run(10)
        if cluster.leader():
            cluster.propose(cluster.leader(), f"{number}")
    assert cluster.leader() == 3
    assert cluster.nodes[3].state.term == 2, "one hand-over, and no election besides"


def test_a_preferred_member_that_cannot_be_reached_is_not_waited_for() -> None:
    """Proposals are taken all the time: nobody hands over to who does not answer."""
    cluster = preferring(3)
    cluster.isolate([1, 2], [3])
    for _ in range(300):
        cluster.run(10)
        assert cluster.nodes[1].leadership.established


def test_a_hand_over_that_fails_is_not_tried_again_at_once() -> None:
    """Each attempt holds proposals up; the next one waits for ten timeouts."""
    cluster = preferring(3)
    cluster.drop_if = lambda letter: type(letter.message).__name__ == "TimeoutNow"
    stops = 0
    for _ in range(500):
        before = cluster.nodes[1].leadership.established
        cluster.run(10)
        stops += before and not cluster.nodes[1].leadership.established
    assert stops == 1


# ---- a disk that stands still ------------------------------------------------------------------


def with_stalled_disk(*, writes: bool) -> RaftCluster:
    """n1 leads, and its disk answers nothing any more; time passes."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.campaign(1)
    settle_with_disks(cluster, 1, 2, 3)
    assert cluster.leader() == 1
    for number in range(60):
        if writes:
            cluster.propose(cluster.leader() or 1, f"{number}")
        cluster.advance(20)
        settle_with_disks(cluster, 2, 3)
    return cluster


def test_a_leader_whose_disk_stands_still_hands_over() -> None:
    """hashicorp/raft 614: it could go on with the others' disks for ever, one fault from the end.

    Commits do not need the leader's disk, so nothing else would make it step down.
    """
    assert with_stalled_disk(writes=True).leader() in (2, 3)


def test_a_leader_that_has_nothing_to_write_stays() -> None:
    """A disk that is not asked for anything is not stalled."""
    assert with_stalled_disk(writes=False).leader() == 1


# ---- witnesses ---------------------------------------------------------------------------------


def with_witness(**settings: int) -> RaftCluster:
    """n1 and n2 keep data, n3 is a witness; n1 leads."""
    configuration = Configuration.of([1, 2, 3], witnesses=[3])
    cluster = RaftCluster(configuration=configuration, settings=EngineSettings(**settings))
    cluster.elect(1)
    return cluster


def test_a_witness_makes_a_majority_and_never_holds_a_payload() -> None:
    """It is told where entries are and of which term, nothing else."""
    cluster = with_witness()
    cluster.crash(2)
    cluster.propose(1, "secret")
    cluster.settle()
    assert cluster.nodes[1].applied == ["secret"]
    disk = cluster.nodes[3].disk
    assert [entry.kind for entry in disk.entries][-1] == EntryKind.WITHHELD
    assert not any(b"secret" in entry.payload for entry in disk.entries)


def test_a_witness_is_never_the_only_one_to_have_an_entry() -> None:
    """It could give it to nobody, and would refuse its vote to everybody for ever."""
    configuration = Configuration.of([1, 2], witnesses=[2])
    cluster = RaftCluster(configuration=configuration, instant_disk=False)
    cluster.campaign(1)
    settle_with_disks(cluster, 1, 2)
    cluster.propose(1, "lost")
    settle_with_disks(cluster, 2)
    cluster.crash(1)
    cluster.start(1)
    cluster.tell_opened(1, 2)
    for _ in range(200):
        cluster.advance(10)
        settle_with_disks(cluster, 1, 2)
    assert cluster.leader() == 1
    cluster.propose(1, "kept")
    settle_with_disks(cluster, 1, 2)
    assert cluster.nodes[1].applied == ["kept"]


def test_a_witness_never_campaigns() -> None:
    """Whatever it hears or does not hear, it has nothing to lead with."""
    cluster = with_witness()
    cluster.crash(1)
    cluster.crash(2)
    cluster.tell_closed(1)
    cluster.run(5000)
    assert cluster.nodes[3].state.term == 1
    cluster.start(2)
    cluster.run(5000)
    assert cluster.leader() == 2, "but it votes"
    cluster.transfer(2, 3)
    cluster.run(100)
    assert cluster.leader() == 2


def test_a_witness_that_is_far_behind_needs_no_snapshot() -> None:
    """It gets the position and the configuration; there is no body."""
    cluster = with_witness(log_keep_entries=0)
    cluster.crash(3)
    cluster.propose(1, *"abc")
    cluster.settle()
    cluster.take_snapshot(1)
    load = "_load"  # the state machine of this test bench cannot read an empty body
    setattr(cluster, load, lambda node, meta: setattr(node, "applied_index", meta.index))
    cluster.start(3)
    cluster.run(500)
    assert cluster.nodes[3].disk.snapshot_data == WITHHELD_BODY
    assert cluster.nodes[3].state.commit_index == cluster.nodes[1].state.commit_index


def test_witnesses_are_always_fewer_than_a_majority() -> None:
    """Else a majority could commit what nobody has."""
    with pytest.raises(UsageError, match="a majority could hold no data"):
        Configuration.of([1, 2, 3], witnesses=[2, 3])
    cluster = with_witness()
    assert cluster.run_change(1, add(4, role=MemberRole.WITNESS)) is ChangeOutcome.ACCEPTED
    cluster = with_witness()
    assert cluster.run_change(1, remove(2)) is ChangeOutcome.DONE, "one of two"
    assert cluster.run_change(1, remove(1)) is ChangeOutcome.REFUSED
    swap = Change(add=(NewMember(4, MemberRole.WITNESS),), remove=(1,))
    assert cluster.run_change(1, swap) is ChangeOutcome.REFUSED


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(test_a_preferred_member_that_cannot_be_reached_is_not_waited_for)
def prefers_whoever_is_named(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transfer, "_keeps_up", lambda state, peer: True)


@MUTANTS.breaks(test_a_hand_over_that_fails_is_not_tried_again_at_once)
def tries_again_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transfer, "RETRY_TIMEOUTS", 0)


@MUTANTS.breaks(test_a_leader_whose_disk_stands_still_hands_over)
def leads_with_the_others_disks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transfer, "is_disk_stalled", lambda state: False)


@MUTANTS.breaks(test_a_leader_that_has_nothing_to_write_stays)
def blames_a_disk_that_is_idle(patch: pytest.MonkeyPatch) -> None:
    def stalled(state: RaftState) -> bool:
        mark, since_ms = state.hand_over.durable_mark
        if state.durable_index != mark:
            state.hand_over.durable_mark = (state.durable_index, state.now_ms)
        return state.now_ms - since_ms >= state.settings.election_timeout_ms

    patch.setattr(transfer, "is_disk_stalled", stalled)


@MUTANTS.breaks(test_a_witness_makes_a_majority_and_never_holds_a_payload)
def gives_a_witness_everything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leader, "withheld", lambda entries, last_index: entries)


@MUTANTS.breaks(test_a_witness_is_never_the_only_one_to_have_an_entry)
def tells_a_witness_what_is_on_no_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leader, "witness_bound", lambda state: state.log.last_index)


@MUTANTS.breaks(test_a_witness_never_campaigns)
def lets_a_witness_lead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Configuration, "may_lead", Configuration.is_voter)


@MUTANTS.breaks(test_a_witness_that_is_far_behind_needs_no_snapshot)
def sends_a_witness_the_whole_snapshot(patch: pytest.MonkeyPatch) -> None:
    read_next = snapshots._read_next

    def read_all(state: RaftState, peer) -> None:  # type: ignore[no-untyped-def]
        is_witness, peer.is_witness = peer.is_witness, False
        read_next(state, peer)
        peer.is_witness = is_witness

    patch.setattr(snapshots, "_read_next", read_all)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
