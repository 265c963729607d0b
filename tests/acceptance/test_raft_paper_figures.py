"""The two figures of the Raft paper that everybody asks about, played on the real engine.

Fig. 7: six logs that differ from the leader's in every way a log can. Fig. 8: why an
entry of an older term must not be committed by counting its copies. Both can fail: a mutant for
each rule is caught by the very test that shows the rule.
"""

from __future__ import annotations

import pytest
from raft_cluster import Generator, RaftCluster

from quorate.consensus.entry import Entry
from quorate.consensus.raft import follower, leader
from quorate.consensus.raft.messages import Append
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings

# ---- figure 7 ----------------------------------------------------------------------------------

LEADER_LOG = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
DIVERGENT = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


def leader_of_term_8(settings: EngineSettings, *logs: list[int]) -> RaftCluster:
    """The leader of the figure is n1, its followers have the given logs; it has won term 8."""
    cluster = RaftCluster(1 + len(logs), settings=settings)
    cluster.prepare(1, LEADER_LOG, term=7)
    for node, log in enumerate(logs, start=2):
        cluster.prepare(node, log)
    cluster.elect(1)
    assert cluster.nodes[1].state.term == 8
    return cluster


def assert_logs_are_equal(cluster: RaftCluster) -> None:
    """Every follower's log is the leader's: same indexes, terms and contents, all durable."""
    wanted = cluster.nodes[1].state.log.entries
    assert [entry.epoch for entry in wanted] == [*LEADER_LOG, 8]
    for node in cluster.nodes.values():
        assert node.state.log.entries == wanted, cluster.describe()
        assert node.disk.entries == wanted
        assert node.applied == cluster.nodes[1].applied


def repair(log: list[int], settings: EngineSettings) -> None:
    """Beside the divergent follower there is one whose vote makes the leader."""
    cluster = leader_of_term_8(settings, log, LEADER_LOG)
    cluster.run(1_000)
    assert_logs_are_equal(cluster)


@pytest.mark.parametrize("append_bytes_max", [1, 5, 1_000])
@pytest.mark.parametrize("name", DIVERGENT)
def test_ra_2_leader_repairs_each_log_of_figure_7(name: str, append_bytes_max: int) -> None:
    """RA-2: each of the logs (a) to (f) becomes the leader's, entry by entry or all at once."""
    repair(DIVERGENT[name], EngineSettings(append_bytes_max=append_bytes_max))


def test_ra_2_all_six_are_repaired_at_the_same_time() -> None:
    """RA-2, ZB-3: the cluster of seven in the figure; (a), (b), (e) and (f) make the majority."""
    cluster = leader_of_term_8(EngineSettings(), *DIVERGENT.values())
    cluster.run(1_000)
    assert_logs_are_equal(cluster)


@pytest.mark.parametrize("seed", range(20))
def test_ra_2_lost_doubled_and_reordered_messages_only_delay_the_repair(seed: int) -> None:
    """RA-2: on a bad network the six logs still become the leader's, and no commit is undone."""
    cluster = leader_of_term_8(EngineSettings(append_bytes_max=4), *DIVERGENT.values())
    draw = Generator(seed).draw
    cluster.drop_if = lambda letter: letter.to != 1 and draw(5) == 0
    for _ in range(150):
        cluster.advance(10)
        for _ in range(draw(30)):
            if cluster.network:
                cluster.deliver_one(draw(len(cluster.network)), copy=draw(8) == 0)
    cluster.drop_if = lambda _: False
    cluster.run(1_500)
    if cluster.leader() == 1 and cluster.nodes[1].state.term == 8:
        assert_logs_are_equal(cluster)
    logs = [node.state.log.entries for node in cluster.nodes.values()]
    assert all(log == logs[0] for log in logs), cluster.describe()


def keep_what_conflicts(state: RaftState, entries: list[Entry]) -> None:
    """Mutant: a follower keeps its own entries where they differ, and adds what is missing."""
    for entry in entries:
        if entry.index == state.log.last_index + 1:
            state.append_entry(entry)


@pytest.mark.parametrize("name", "ef")
def test_ra_2_follower_that_keeps_conflicts_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RA-2 can fail: without removing conflicting entries (e) and (f) are not repaired."""
    monkeypatch.setattr(follower, "store", keep_what_conflicts)
    with pytest.raises(AssertionError):
        repair(DIVERGENT[name], EngineSettings())


# ---- figure 8 ----------------------------------------------------------------------------------

OLD = "old"
"""The payload of the entry of term 2: present on a majority in (c), and still not committed."""


def win(cluster: RaftCluster, node: int, *voters: int) -> None:
    """``node`` is elected by exactly these voters; nothing else reaches anybody."""
    cluster.network.clear()
    cluster.isolate([node, *voters])
    cluster.drop_if = lambda letter: isinstance(letter.message, Append)
    for _ in range(3):  # its first pre-votes may only tell it the newer term
        for voter in (node, *voters):
            cluster.nodes[voter].state.is_leader_gone = True  # the old leader is down, they know
        cluster.campaign(node)
        cluster.settle()
        if cluster.nodes[node].state.role is Role.LEADER:
            break
    assert cluster.nodes[node].state.role is Role.LEADER, cluster.describe()
    cluster.drop_if = lambda _: False
    cluster.heal()


def holds(cluster: RaftCluster, node: int, index: int) -> int:
    """Term of the node's entry at an index; 0 when there is none."""
    return cluster.nodes[node].state.log.epoch_at(index) or 0


def figure_8_up_to_c() -> RaftCluster:
    """Events (a), (b) and (c). Index 2 of the figure is index 3 here, behind two first entries."""
    cluster = RaftCluster(5, settings=EngineSettings(append_bytes_max=1))
    cluster.elect(2)  # term 1
    cluster.run(200)
    # (a) S1 leads in term 2 and brings its entry to S2 only.
    win(cluster, 1, 2, 3, 4, 5)
    cluster.run(200)
    assert cluster.nodes[1].leadership.established
    cluster.isolate([1, 2], [3], [4], [5])
    cluster.propose(1, OLD)
    while holds(cluster, 2, 3) != 2:
        cluster.deliver_one()
    cluster.network.clear()
    # (b) S1 crashes; S5 wins term 3 with S3 and S4 and writes something else at the same index.
    cluster.crash(1)
    win(cluster, 5, 3, 4)
    assert [holds(cluster, node, 3) for node in (2, 3, 4, 5)] == [2, 0, 0, 3]
    # (c) S5 crashes; S1 is back, wins term 4 with S2 and S3 and goes on with its old entry.
    cluster.crash(5)
    cluster.network.clear()
    cluster.start(1)
    win(cluster, 1, 2, 3)
    assert cluster.nodes[1].state.term == 4
    return cluster


def replicate_old_entry(cluster: RaftCluster) -> None:
    """The rest of (c): the old entry reaches S3 and S4, nothing of term 4 reaches anybody.

    S2 has it since (a), but the leader of term 4 does not know: to S2 it would have to send an
    entry of term 4 to find out. So S4 makes the majority that it counts.
    """
    cluster.isolate([1, 2, 3, 4])
    cluster.drop_if = lambda letter: (
        isinstance(letter.message, Append)
        and any(entry.epoch == 4 for entry in letter.message.entries)
        and holds(cluster, letter.to, 3) == 2
    )
    cluster.run(300)
    assert [holds(cluster, node, 3) for node in (1, 2, 3, 4)] == [2, 2, 2, 2]
    assert [holds(cluster, node, 4) for node in (2, 3, 4)] == [0, 0, 0]


def never_commits_by_counting() -> None:
    """(c) and (d): on a majority, not committed, and indeed overwritten afterwards."""
    cluster = figure_8_up_to_c()
    replicate_old_entry(cluster)
    matches = cluster.nodes[1].state.matches
    assert [matches[node] for node in (1, 3, 4)] == [4, 3, 3], "it knows of a majority"
    assert cluster.nodes[1].state.commit_index < 3
    assert not cluster.nodes[1].leadership.established
    # (d) S1 crashes, S5 wins term 5 with S2, S3, S4 and overwrites the entry everywhere.
    cluster.crash(1)
    cluster.start(5)
    cluster.drop_if = lambda _: False
    win(cluster, 5, 2, 3, 4)
    cluster.run(300)
    cluster.start(1)
    cluster.run(500)
    for node in cluster.nodes.values():
        assert OLD not in node.applied
        assert node.state.log.entries == cluster.nodes[5].state.log.entries


def test_ra_3_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    """RA-3: Fig. 8 (a) to (d); a majority holds the entry of term 2, and it may still vanish."""
    never_commits_by_counting()


def test_ra_3_entry_of_its_own_term_commits_the_older_one_with_it() -> None:
    """RA-3, ZB-3: Fig. 8 (e); once term 4's own entry is on a majority S5 cannot win any more."""
    cluster = figure_8_up_to_c()
    cluster.isolate([1, 2, 3])
    cluster.run(300)
    assert cluster.nodes[1].state.commit_index == 4
    cluster.crash(1)
    cluster.start(5)
    cluster.heal()
    for node in (2, 3, 4, 5):
        cluster.nodes[node].state.is_leader_gone = True
    cluster.campaign(5)
    cluster.settle()
    assert cluster.nodes[5].state.role is not Role.LEADER
    cluster.run(3_000)
    assert cluster.leader() in (2, 3)
    cluster.start(1)
    cluster.run(500)
    assert all(OLD in node.applied for node in cluster.nodes.values())


def commit_any_term(state: RaftState) -> None:
    """Mutant: what a majority holds is committed, whichever term it is of."""
    index = min(state.quorum.committed(state.matches), state.log.last_index)
    if index > state.commit_index:
        state.commit_index = index
        state.is_term_committed = True


def test_ra_3_engine_that_commits_by_counting_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """RA-3 can fail: the same events show an engine that counts copies of older terms."""
    monkeypatch.setattr(leader, "advance_commit", commit_any_term)
    with pytest.raises(AssertionError):
        never_commits_by_counting()
