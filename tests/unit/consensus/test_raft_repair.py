"""A node whose disk lost something: what it holds back, and how it gets everything back.

The rules and the argument are in ``consensus/raft/repair.py``. Each rule is seen to matter: with
the rule taken away, the last tests lose a committed entry or elect two leaders.
"""

from __future__ import annotations

import pytest
from raft_cluster import RaftCluster

from quorate.consensus.entry import Damage, Recovered
from quorate.consensus.membership import Configuration
from quorate.consensus.raft import election, engine, repair
from quorate.consensus.raft.codec import encode_hard_state
from quorate.consensus.raft.messages import (
    AppendReply,
    RepairAnswer,
    RepairQuery,
    VoteReply,
    VoteRequest,
)
from quorate.consensus.raft.state import Role
from quorate.consensus.registry import EngineSettings, create_engine
from quorate.errors import CorruptData, InvariantBroken


def led_by_1(voters: int = 3, *, proposals: int = 5) -> RaftCluster:
    """A cluster that node 1 leads, with some entries everywhere."""
    cluster = RaftCluster(voters)
    cluster.elect(1)
    for number in range(proposals):
        cluster.propose(1, f"p{number}")
    cluster.run(200)
    return cluster


def damage(cluster: RaftCluster, node: int, entries: int, *, old_vote: bytes | None = None) -> None:
    """Crash a node, take from its disk, start it again."""
    if cluster.nodes[node].is_up:
        cluster.crash(node)
    cluster.nodes[node].disk.lose(entries, hard_state=old_vote)
    cluster.start(node)


def is_whole(cluster: RaftCluster, node: int) -> bool:
    return cluster.nodes[node].disk.damage is None and cluster.nodes[node].state.repair is None


def test_what_was_lost_comes_back_from_the_leader():
    """The leader believed that node 3 has it all; being asked, it forgets that and sends again."""
    cluster = led_by_1()
    before = cluster.terms(3)
    damage(cluster, 3, 2)
    assert cluster.nodes[3].engine.statistics().role == "repairing"
    cluster.run(1000)
    assert cluster.terms(3) == before
    assert is_whole(cluster, 3)
    assert cluster.leader() == 1
    assert cluster.nodes[3].applied == cluster.nodes[1].applied


def test_what_was_lost_and_compacted_comes_back_as_a_snapshot():
    """Not even the beginning is left."""
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0))
    cluster.elect(1)
    for number in range(5):
        cluster.propose(1, f"p{number}")
    cluster.run(200)
    cluster.take_snapshot(1)
    damage(cluster, 3, 0)
    cluster.run(2000)
    assert is_whole(cluster, 3)
    assert cluster.nodes[3].applied == cluster.nodes[1].applied


def test_it_neither_votes_nor_campaigns_until_then():
    """Its old vote and log would matter; so without a leader nothing happens, for however long."""
    cluster = led_by_1()
    cluster.crash(1)
    damage(cluster, 3, 2)
    cluster.run(20_000)
    assert cluster.leader() == 0
    assert cluster.nodes[3].state.role is Role.FOLLOWER
    assert not is_whole(cluster, 3)
    cluster.start(1)
    cluster.run(5_000)
    assert cluster.leader() in (1, 2)
    assert is_whole(cluster, 3)


def test_it_refuses_pre_votes_and_forced_votes_too():
    """No way around it."""
    cluster = led_by_1()
    cluster.isolate([1, 2], [3])
    damage(cluster, 3, 2)
    node = cluster.nodes[3].state
    for is_pre_vote, is_forced in [(True, False), (False, False), (False, True)]:
        request = VoteRequest(99, 100, 99, is_pre_vote, is_forced)
        election.on_vote_request(node, 2, request)
    replies = [message for _, message in node.out.messages if isinstance(message, VoteReply)]
    assert [reply.is_granted for reply in replies] == [False] * 3
    assert node.voted_for != 2


def test_it_counts_for_commits_while_it_is_repaired():
    """What it stores again is stored: leader and damaged node are a majority."""
    cluster = led_by_1()
    damage(cluster, 3, 2)
    cluster.crash(2)
    cluster.propose(1, "with n3 only")
    cluster.run(1000)
    assert cluster.nodes[1].applied[-1] == "with n3 only"
    assert is_whole(cluster, 3)


def test_the_leaders_commit_index_is_not_enough():
    """An acknowledgement of its earlier life, still on its way, commits what it has lost.

    Node 3 stored entry 8 and said so, then lost it; the word arrives late. Had node 3 been
    content with what was committed when it came back, it could help elect a node without entry 8.
    """
    cluster = led_by_1()
    cluster.crash(2)
    cluster.propose(1, "late")
    while not any(isinstance(letter.message, AppendReply) for letter in cluster.network):
        cluster.deliver_one()
    leader = cluster.nodes[1].state
    assert leader.commit_index < leader.log.last_index
    cluster.network.clear()  # it comes later
    damage(cluster, 3, 2)
    node = cluster.nodes[3].state
    cluster.drop_if = lambda letter: isinstance(letter.message, AppendReply)
    cluster.run(300)
    assert node.repair is None or node.repair.goal_index == leader.log.last_index
    assert leader.commit_index < leader.log.last_index == node.log.last_index


def test_a_mute_node_speaks_only_after_every_other_voter_has_told_its_term():
    """Whoever may have its vote of a later term is among them."""
    cluster = led_by_1()
    cluster.crash(2)
    damage(cluster, 3, 2, old_vote=encode_hard_state(1, 0))
    cluster.run(3000)
    node = cluster.nodes[3].state
    assert (node.leader, node.repair.heard) == (0, {1})
    assert cluster.nodes[1].state.role is not Role.LEADER or cluster.nodes[1].state.matches[3] <= 7
    cluster.start(2)
    cluster.run(5000)
    assert is_whole(cluster, 3)
    assert cluster.leader()


def test_it_learns_the_term_in_which_its_lost_vote_was_given():
    """Node 2 campaigned in term 7 and node 3 voted for it; only node 2 knows still."""
    cluster = RaftCluster(3)
    cluster.prepare(2, [1, 1], term=7, vote=2)
    cluster.prepare(1, [1, 1], term=3)
    cluster.prepare(3, [1, 1], term=7, vote=2)
    cluster.isolate([1, 3], [2])
    damage(cluster, 3, 1, old_vote=encode_hard_state(3, 0))
    cluster.run(3000)
    assert cluster.nodes[3].state.term == 3
    assert not cluster.nodes[3].state.repair.is_term_known
    cluster.heal()
    cluster.run(5000)
    assert cluster.nodes[3].state.term >= 7
    assert is_whole(cluster, 3)


def test_two_mute_nodes_wait_for_a_person():
    """Neither can take the other's word: safe, and stuck."""
    cluster = led_by_1()
    for node in (2, 3):
        damage(cluster, node, 2, old_vote=encode_hard_state(1, 0))
    cluster.run(10_000)
    assert not any(is_whole(cluster, node) for node in (2, 3))
    assert cluster.leader() == 0


def test_all_damaged_at_once_forget_nothing_and_elect_nobody():
    """What each has left stays as it is."""
    cluster = led_by_1()
    for node in (1, 2, 3):
        damage(cluster, node, node)
    cluster.run(10_000)
    assert cluster.leader() == 0
    assert [len(cluster.nodes[node].disk.entries) for node in (1, 2, 3)] == [1, 2, 3]


def test_answers_to_an_earlier_life_mean_nothing():
    """The number is drawn at each start."""
    cluster = led_by_1()
    cluster.isolate([1, 2], [3])
    damage(cluster, 3, 2)
    node = cluster.nodes[3].state
    repair.on_answer(node, 1, RepairAnswer(node.term, node.repair.number + 1, 1))
    assert node.repair.goal_index == 0
    assert any("not ours any more" in reason for reason in node.ignored)


def test_the_only_voter_refuses_to_begin_with_less():
    """Nobody else has it: a person must decide."""
    with pytest.raises(CorruptData, match="the only voter"):
        create_engine(
            "raft",
            node_id=1,
            configuration=Configuration.of([1]),
            recovered=Recovered(damage=Damage(is_hard_state_known=True, words="wal-1")),
            settings=EngineSettings(),
            draw=lambda n: 0,
            now_ms=0,
        )


# ---- each rule taken away ------------------------------------------------------------------------


def committed_by_1_and_3_then_3_loses_it() -> RaftCluster:
    """Entry committed by nodes 1 and 3 alone; node 2 never saw it; node 3's disk is damaged."""
    cluster = led_by_1()
    cluster.isolate([1, 3], [2])
    cluster.propose(1, "committed")
    cluster.settle()
    assert cluster.nodes[1].applied[-1] == "committed"
    cluster.crash(1)
    damage(cluster, 3, 2)
    cluster.heal()
    return cluster


def test_mutant_that_votes_with_a_damaged_log_loses_a_committed_entry(monkeypatch):
    """With the rule nobody is elected; without it node 2 is, and lacks what was committed."""
    cluster = committed_by_1_and_3_then_3_loses_it()
    cluster.run(5000)
    assert cluster.leader() == 0
    monkeypatch.setattr(
        engine, "_ON_MESSAGE", {**engine._ON_MESSAGE, VoteRequest: votes_all_the_same}
    )
    cluster = committed_by_1_and_3_then_3_loses_it()
    with pytest.raises(InvariantBroken, match=r"damaged_nodes_do_not_vote|Leader Completeness"):
        cluster.run(5000)


def votes_all_the_same(state, sender, message) -> None:
    kept, state.repair = state.repair, None
    election.on_vote_request(state, sender, message)
    state.repair = kept


def test_mutant_that_speaks_with_a_lost_vote_helps_two_leaders_at_once(monkeypatch):
    """Having voted in term 7, it must not acknowledge what the leader of term 3 sends."""
    assert not follows_an_older_leader()
    monkeypatch.setattr(repair, "may_hear", lambda state, kind: True)
    assert follows_an_older_leader()


def follows_an_older_leader() -> bool:
    """Node 1 leads an old term, node 2 won term 99 with node 3's vote, which node 3 lost."""
    cluster = led_by_1()
    old = cluster.nodes[1].state.term
    cluster.isolate([1, 3], [2])
    before = cluster.nodes[1].state.commit_index
    damage(cluster, 3, 2, old_vote=encode_hard_state(old, 1))
    cluster.propose(1, "against the leader of term 99")
    cluster.run(400)
    return cluster.nodes[1].state.commit_index > before


def test_mutant_leader_that_trusts_old_acknowledgements_never_sends_it_again(monkeypatch):
    """Without the leader's duty the damaged node waits for ever."""
    monkeypatch.setattr(
        engine, "_ON_MESSAGE", {**engine._ON_MESSAGE, RepairQuery: answers_and_remembers}
    )
    cluster = led_by_1()
    damage(cluster, 3, 2)
    cluster.run(1000)
    assert len(cluster.terms(3)) == 2


def answers_and_remembers(state, sender, message) -> None:
    end = state.log.last_index if state.role is Role.LEADER else 0
    state.send(sender, RepairAnswer(state.term, message.number, end))
