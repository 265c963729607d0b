"""Raft §5.1 (terms) and §5.2 (leader election), with the dissertation's pre-vote and stickiness."""

from __future__ import annotations

import pytest
from raft_cluster import RaftCluster

from quorate.consensus.engine import PeerClosed, Received, Tick
from quorate.consensus.raft.messages import (
    Append,
    Heartbeat,
    TermNotice,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from quorate.consensus.raft.state import Role
from quorate.errors import InvariantBroken


def ask(term: int, index: int = 0, last_term: int = 0, **flags: bool) -> VoteRequest:
    return VoteRequest(term, index, last_term, flags.get("pre", False), flags.get("forced", False))


def answers(cluster: RaftCluster, sender: int) -> list[object]:
    return [letter.message for letter in cluster.network if letter.sender == sender]


def test_5_1_a_newer_term_makes_a_leader_follow() -> None:
    """§5.1: whoever sees a newer term takes it over, forgets vote and leader, and follows."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.step(1, Received(2, TermNotice(9)))
    state = cluster.nodes[1].state
    assert (state.role, state.term, state.voted_for, state.leader) == (Role.FOLLOWER, 9, 0, 0)


@pytest.mark.parametrize("message", [Append(1, 0, 0, 0, []), Heartbeat(1, 0, 1)])
def test_5_1_an_older_term_is_answered_with_the_newer(message: Append | Heartbeat) -> None:
    """§5.1: a request of an older term is refused, and its sender learns the newer term."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [], term=5)
    cluster.step(2, Received(1, message))
    assert answers(cluster, 2) == [TermNotice(5)]
    assert cluster.nodes[2].state.leader == 0


def test_5_1_an_older_vote_request_is_answered_with_the_newer_term() -> None:
    """§5.1 and known bug 61: a pre-vote from a lower term is answered, so both can move on."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [], term=5)
    cluster.step(2, Received(1, ask(3, pre=True)))
    assert answers(cluster, 2) == [VoteReply(5, 3, is_pre_vote=True, is_granted=False)]
    cluster.settle()
    assert cluster.nodes[1].state.term == 5


def test_5_2_timeouts_are_drawn_anew_between_one_and_two_times_the_setting() -> None:
    """§5.2: randomized timeouts, a fresh one for every election, so that split votes are rare."""
    cluster = RaftCluster(3)
    timeout = cluster.settings.election_timeout_ms
    drawn = set()
    for _ in range(50):
        cluster.nodes[1].state.reset_election_timer()
        drawn.add(cluster.nodes[1].state.election_timeout_ms)
    assert all(timeout <= each < 2 * timeout for each in drawn)
    assert len(drawn) > 25


def test_5_2_one_vote_per_term_first_come_first_served() -> None:
    """§5.2: one vote per term; the same candidate gets the same answer again."""
    cluster = RaftCluster(3)
    for candidate, granted in ((1, True), (3, False), (1, True)):
        cluster.network.clear()
        cluster.step(2, Received(candidate, ask(1)))
        assert answers(cluster, 2) == [VoteReply(1, 1, is_pre_vote=False, is_granted=granted)]


def test_5_2_a_refused_vote_does_not_reset_the_timer_a_granted_one_does() -> None:
    """§5.2: a hopeless candidate must not keep others from campaigning."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1])
    state = cluster.nodes[2].state
    deadline = state.election_deadline_ms
    cluster.now_ms += 100
    cluster.step(2, Tick(cluster.now_ms))
    cluster.step(2, Received(1, ask(2, 1, 1)))
    assert state.election_deadline_ms == deadline
    cluster.step(2, Received(3, ask(2, 2, 1)))
    assert state.election_deadline_ms > deadline


def test_5_2_a_candidate_follows_a_leader_of_its_term() -> None:
    """§5.2: an Append of a leader of the same term ends a candidacy."""
    cluster = RaftCluster(3)
    cluster.campaign(1)
    cluster.settle()
    cluster.prepare(3, [], term=1)
    state = cluster.nodes[3].state
    state.role, state.voted_for, state.is_hard_dirty = Role.CANDIDATE, 3, False
    cluster.step(3, Received(1, Heartbeat(1, 0, 1)))
    assert (state.role, state.leader) == (Role.FOLLOWER, 1)


def test_5_2_two_leaders_in_one_term_stop_the_node() -> None:
    """Election Safety broken elsewhere is not tolerated in silence (known bug 20)."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    with pytest.raises(InvariantBroken, match="Election Safety"):
        cluster.step(1, Received(2, Heartbeat(1, 0, 1)))
    with pytest.raises(InvariantBroken, match="Election Safety"):
        cluster.step(2, Received(3, Heartbeat(1, 0, 1)))


def test_9_6_a_pre_vote_needs_a_current_log_and_no_live_leader() -> None:
    """Dissertation §9.6: both conditions, and no trace in the voter."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 2], term=2)
    before = cluster.nodes[2].disk.hard_state
    for message, granted in ((ask(3, 9, 1, pre=True), False), (ask(3, 2, 2, pre=True), True)):
        cluster.network.clear()
        cluster.step(2, Received(1, message))
        assert answers(cluster, 2) == [VoteReply(2, 3, is_pre_vote=True, is_granted=granted)]
    assert cluster.nodes[2].disk.hard_state == before
    cluster.step(2, Received(3, Heartbeat(2, 0, 0)))
    cluster.network.clear()
    cluster.step(2, Received(1, ask(3, 2, 2, pre=True)))
    assert answers(cluster, 2) == [VoteReply(2, 3, is_pre_vote=True, is_granted=False)]


def test_9_6_a_former_leader_is_not_refused_in_its_own_name() -> None:
    """Known bug 62: who asks for votes does not lead, whatever the voter still believes."""
    cluster = RaftCluster(3)
    cluster.step(2, Received(1, Heartbeat(1, 0, 0)))
    cluster.step(2, Received(1, ask(2, pre=True)))
    assert answers(cluster, 2) == [VoteReply(1, 2, is_pre_vote=True, is_granted=True)]


def test_3_10_a_forced_vote_overrides_stickiness() -> None:
    """Dissertation §3.10: the target of a transfer wins although the leader is alive."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.step(2, Received(1, TimeoutNow(1)))
    cluster.settle()
    assert cluster.leader() == 2
    assert cluster.nodes[2].leadership.epoch == 2


def test_3_10_only_the_leader_may_order_a_campaign() -> None:
    """An order from anybody else is ignored."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.step(2, Received(3, TimeoutNow(1)))
    assert cluster.nodes[2].state.role is Role.FOLLOWER


def test_4_1_a_stranger_is_answered_and_a_learner_votes_when_asked() -> None:
    """Dissertation §4.1: requests are answered whoever sends them; a learner may be a voter yet."""
    cluster = RaftCluster(2, learners=1)
    cluster.step(3, Received(9, ask(1)))
    assert answers(cluster, 3) == [VoteReply(1, 1, is_pre_vote=False, is_granted=True)]
    cluster.run(3000)
    assert cluster.nodes[3].state.role is Role.FOLLOWER


def test_a_killed_leader_is_replaced_within_milliseconds() -> None:
    """A closed connection starts an election at once: far below the election timeout."""
    worst = 0
    for seed in range(40):
        cluster = RaftCluster(3, seed=seed)
        cluster.elect(1)
        cluster.run(50)
        cluster.crash(1)
        cluster.tell_closed(1)
        died_ms = cluster.now_ms
        while not cluster.leader():
            cluster.run(5, step_ms=5)
        worst = max(worst, cluster.now_ms - died_ms)
    assert worst <= 35, "the stagger, and no split vote"


def test_simultaneous_pre_votes_after_a_hint_cost_no_election_timeout() -> None:
    """Both survivors start in the same instant: one yields instead of splitting the vote."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.crash(1)
    for node_id in (2, 3):
        cluster.step(node_id, PeerClosed(1))
        cluster.nodes[node_id].state.election_deadline_ms = cluster.now_ms
    start_ms = cluster.now_ms
    cluster.advance(1, step_ms=1)
    cluster.settle()
    assert cluster.leader() == 2
    assert cluster.now_ms - start_ms == 1, "no timer was needed"


def test_a_yielding_node_goes_on_when_the_other_dies() -> None:
    """Precedence after a hint is no lock: the next short round comes whoever yielded to whom."""
    cluster = RaftCluster(5)
    cluster.elect(1)
    cluster.crash(1)
    for node_id in (2, 3, 4, 5):
        cluster.step(node_id, PeerClosed(1))
        cluster.nodes[node_id].state.election_deadline_ms = cluster.now_ms
    cluster.advance(1, step_ms=1)
    while cluster.nodes[3].state.role is Role.PRE_CANDIDATE:
        cluster.deliver_one()
    cluster.crash(2)
    start_ms = cluster.now_ms
    while not cluster.leader():
        cluster.run(5, step_ms=5)
    assert cluster.now_ms - start_ms < cluster.settings.election_timeout_ms


def test_a_pause_of_our_own_is_not_held_against_the_others() -> None:
    """After a stall nobody acts before it had a chance to read its messages."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.run(100)
    cluster.now_ms += 5000
    for node_id in (1, 2, 3):
        cluster.step(node_id, Tick(cluster.now_ms))
    cluster.settle()
    cluster.run(500)
    assert cluster.leader() == 1
    assert cluster.nodes[1].leadership.epoch == 1


def test_two_late_ticks_in_a_row_do_judge() -> None:
    """The grace is for one tick only: a driver with a slow clock still elects a leader."""
    cluster = RaftCluster(3)
    cluster.run(6000, step_ms=300)
    assert cluster.leader()
