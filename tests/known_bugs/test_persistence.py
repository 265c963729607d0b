"""Known bugs 21 to 30: what is on disk before what is said. The list is docs/known-bugs.md."""

from __future__ import annotations

from typing import Any

import pytest
from ledger import Ledger
from raft_cluster import Generator, RaftCluster

from known_bugs import (
    Mutants,
    Patch,
    Scenario,
    batch,
    batches,
    must_notice,
    persist_all,
    sent,
    settle_with_disks,
)
from quorate.consensus.engine import Received, SnapshotSaved
from quorate.consensus.entry import Persist, Recovered, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.consensus.raft import codec
from quorate.consensus.raft.codec import decode_hard_state, encode_hard_state
from quorate.consensus.raft.messages import Append, AppendReply, Heartbeat, VoteReply, VoteRequest
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings, create_engine
from quorate.errors import CorruptData, DiskFailed
from quorate.replication.replica import Replica
from quorate.replication.turn import Channel, ReplicaSettings
from quorate.simulation.disk import VirtualDisk, VirtualFile
from quorate.simulation.world import World
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

MUTANTS = Mutants()
SMALL = StorageSettings(segment_bytes=700, preallocate_bytes=0, spare_segments_max=1)
VOTERS = Configuration.of([1, 2, 3])
FATES = range(8)
"""Draws that decide what a power failure leaves of what was in flight."""


def open_store(disk: VirtualDisk) -> tuple[Store, Recovered]:
    return Store.open(
        disk, node_id=2, cluster_id=b"c" * 16, new_directory_id=b"d" * 16, settings=SMALL
    )


def replica_on(recovered: Recovered) -> Replica:
    """A real replica with a real engine, as node 2 of three."""
    engine = create_engine(
        "raft",
        node_id=2,
        configuration=VOTERS,
        recovered=recovered,
        settings=EngineSettings(),
        draw=Generator(1).draw,
        now_ms=0,
    )
    return Replica(
        node_id=2, incarnation=1, engine=engine, machine=Ledger(), settings=ReplicaSettings()
    )


def vote_request(term: int) -> VoteRequest:
    return VoteRequest(term, 0, 0, is_pre_vote=False, is_forced=False)


# ---- scenarios ---------------------------------------------------------------------------------


def test_kb_21_term_vote_and_data_survive_a_restart_of_all() -> None:
    """After all nodes stop at once terms go on, votes stay given, nothing committed is lost."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.network.clear()
    for node in (1, 2, 3):
        cluster.crash(node)
    for node in (1, 2, 3):
        cluster.start(node)
    assert [cluster.nodes[node].state.term for node in (1, 2, 3)] == [1, 1, 1]
    cluster.step(2, Received(3, VoteRequest(1, 9, 1, is_pre_vote=False, is_forced=False)))
    assert sent(cluster, 2) == [VoteReply(1, 1, is_pre_vote=False, is_granted=False)]
    cluster.run(3000)
    assert cluster.leader() != 0
    assert [cluster.nodes[node].applied for node in (1, 2, 3)] == [["a", "b"]] * 3


def test_kb_22_what_was_answered_is_on_disk_and_not_in_a_cache() -> None:
    """A power failure right after the disk said yes takes neither vote nor entries."""
    for seed in FATES:
        disk = VirtualDisk()
        store, _ = open_store(disk)
        hard_state = encode_hard_state(3, 1)
        store.persist([Persist(1, hard_state=hard_state, entries=batches(1, 5, 3))])
        disk.crash(World(seed).draw)
        _, recovered = open_store(disk)
        assert recovered == Recovered(hard_state, None, batches(1, 5, 3))


def test_kb_23_a_commit_index_ahead_of_the_own_log_is_no_obstacle_at_start() -> None:
    """What others made durable was applied here and lost with the power; it comes back from them.

    The commit index is not stored at all: a start begins at the snapshot and learns the rest.
    """
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.instant_disk = False
    cluster.propose(1, "a", "b")
    settle_with_disks(cluster, 1, 2)
    cluster.run(200)
    node = cluster.nodes[3]
    assert (node.state.commit_index, node.state.durable_index) == (3, 1)
    cluster.crash(3)
    cluster.instant_disk = True
    persist_all(cluster, 1, 2)
    cluster.start(3)
    assert node.state.commit_index == 0
    cluster.run(2000)
    assert node.applied == ["a", "b"]


def test_kb_24_term_and_vote_change_on_disk_together() -> None:
    """No crash leaves the new term without its vote, which would allow a second one."""
    old, new = encode_hard_state(2, 3), encode_hard_state(3, 1)
    for operations in range(10):
        for seed in FATES:
            disk = VirtualDisk()
            store, _ = open_store(disk)
            store.persist([Persist(1, hard_state=old)])
            disk.fail_after(operations)
            try:
                store.persist([Persist(2, hard_state=new)])
            except DiskFailed:
                disk.crash(World(seed).draw)
                _, recovered = open_store(disk)
                assert recovered.hard_state in (old, new)
    cluster = RaftCluster(3, instant_disk=False)
    cluster.step(2, Received(1, vote_request(3)))
    assert [pending.persist.hard_state for pending in cluster.nodes[2].pending] == [new]


def test_kb_25_a_vote_whose_write_failed_is_not_given() -> None:
    """The answer waits for the disk; if the write fails it never leaves, and the store is shut."""
    disk = VirtualDisk()
    store, recovered = open_store(disk)
    replica = replica_on(recovered)
    replica.peer_received(1, Channel.ENGINE, codec.encode(vote_request(1)))
    turn = replica.take()
    assert turn.sends == []
    disk.fail_after(0)
    for _ in range(2):
        with pytest.raises(DiskFailed):
            store.persist(turn.persists)
    assert replica.take().sends == [], "nobody confirmed the write"


def test_kb_26_a_candidacy_is_durable_before_anybody_hears_of_it() -> None:
    """Neither the request for votes nor the own vote exists before term and vote are on disk."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.campaign(1)
    for voter in (2, 3):
        cluster.step(1, Received(voter, VoteReply(0, 1, is_pre_vote=True, is_granted=True)))
    state = cluster.nodes[1].state
    assert (state.role, state.term) == (Role.CANDIDATE, 1)
    assert [request for request in sent(cluster, 1, VoteRequest) if not request.is_pre_vote] == []
    assert state.votes == {}
    persist_all(cluster, 1)
    requests = [request for request in sent(cluster, 1, VoteRequest) if not request.is_pre_vote]
    assert requests == [vote_request(1)] * 2
    assert state.votes == {1: True}


def test_kb_27_a_vote_stays_given_while_its_term_lasts() -> None:
    """Stepping down within a term, to a leader or by a lost vote, gives no second vote."""
    cluster = RaftCluster(3)
    cluster.campaign(2)
    for voter in (1, 3):
        cluster.step(2, Received(voter, VoteReply(0, 1, is_pre_vote=True, is_granted=True)))
    state = cluster.nodes[2].state
    assert (state.role, state.term, state.voted_for) == (Role.CANDIDATE, 1, 2)
    cluster.step(2, Received(1, Heartbeat(1, 0, 1)))
    assert (state.role, state.voted_for) == (Role.FOLLOWER, 2)
    cluster.network.clear()
    cluster.step(2, Received(3, vote_request(1)))
    assert sent(cluster, 2) == [VoteReply(1, 1, is_pre_vote=False, is_granted=False)]


def test_kb_28_a_snapshot_ahead_of_the_own_log_and_term_is_a_good_start() -> None:
    """Applied before stored: a snapshot outlives a power failure that took log and term.

    It names a term this node has never stored. That is no damage: had it voted in that term, the
    vote would have been on disk before anybody heard of it.
    """
    cluster = RaftCluster(3, instant_disk=False)
    cluster.prepare(2, [1, 1], vote=1)
    cluster.step(2, Received(3, Append(2, 2, 1, 3, [batch(3, 2)])))
    assert cluster.nodes[2].applied == ["1.1", "1.2", "2.3"]
    cluster.take_snapshot(2)
    cluster.crash(2)
    assert decode_hard_state(cluster.nodes[2].disk.hard_state or b"") == (1, 1)
    cluster.start(2)
    state = cluster.nodes[2].state
    assert (state.term, state.voted_for, state.commit_index) == (2, 0, 3)
    assert cluster.nodes[2].applied == ["1.1", "1.2", "2.3"]
    persist_all(cluster, 2)
    assert decode_hard_state(cluster.nodes[2].disk.hard_state or b"") == (2, 0)
    cluster.step(2, Received(3, Append(2, 3, 2, 3, [batch(4, 2)])))
    persist_all(cluster, 2)
    assert AppendReply(2, 4) in sent(cluster, 2)


def test_a_snapshot_ahead_of_the_log_starts_from_the_real_store_too() -> None:
    """Known bug 28 on the virtual disk: the store hands out just that, and the engine takes it."""
    for seed in FATES:
        disk = VirtualDisk()
        store, _ = open_store(disk)
        store.persist([Persist(1, hard_state=encode_hard_state(1, 1), entries=batches(1, 2, 1))])
        meta = SnapshotMeta(3, 2, VOTERS.encode())
        writer = store.begin_snapshot(meta)
        writer.write(b"state")
        writer.finish()
        disk.crash(World(seed).draw)
        _, recovered = open_store(disk)
        assert (recovered.snapshot, recovered.entries) == (meta, [])
        engine = replica_on(recovered).engine
        assert engine.statistics().epoch == 2
        engine.step(SnapshotSaved(meta, 5))


def test_kb_29_a_truncation_over_many_segments_leaves_no_hole() -> None:
    """A truncation is a record: whatever a crash leaves is the old log or the new one, whole."""
    origin = VirtualDisk()
    store, _ = open_store(origin)
    old = batches(1, 60, 1)
    for index in range(0, 60, 10):
        store.persist([Persist(index, entries=old[index : index + 10])])
    assert store.statistics().segments >= 4
    store.close()
    new = [*old[:4], batch(5, 2)]
    for operations in range(10):
        for seed in FATES:
            disk = origin.clone()
            store, _ = open_store(disk)
            disk.fail_after(operations)
            try:
                store.persist([Persist(99, truncate_from=5, entries=[batch(5, 2)])])
            except DiskFailed:
                disk.crash(World(seed).draw)
            else:
                disk.crash(World(seed).draw)
                assert open_store(disk)[1].entries == new
                continue
            assert open_store(disk)[1].entries in (old, new)


def test_kb_29_a_segment_that_lost_its_end_is_not_taken_for_whole() -> None:
    """A record lost from any segment but the last, or before a later record, refuses the start."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    for index in range(0, 60, 10):
        store.persist([Persist(index, entries=batches(index + 1, index + 10, 1))])
    store.close()
    names = [name for name in disk.names() if name.startswith("wal-")]
    for name in names[:-1]:
        damaged = disk.clone()
        file = damaged.open(name)
        data = file.read(0, file.size())
        end = len(data.rstrip(b"\0"))
        file.write(end - 40, bytes(40))
        file.sync()
        with pytest.raises(CorruptData):
            open_store(damaged)


def test_kb_30_a_node_whose_disk_fails_wins_no_election() -> None:
    """Without its disk a candidate neither asks for votes nor counts its own; others lead."""
    cluster = RaftCluster(3, instant_disk=False)
    cluster.campaign(1)
    for _ in range(400):
        cluster.advance(10)
        settle_with_disks(cluster, 2, 3)
        assert cluster.nodes[1].state.role is not Role.LEADER
    assert cluster.leader() in (2, 3)
    assert cluster.nodes[1].state.leader == cluster.leader()


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(
    test_kb_21_term_vote_and_data_survive_a_restart_of_all,
    test_kb_24_term_and_vote_change_on_disk_together,
)
def keeps_term_and_vote_in_memory(patch: pytest.MonkeyPatch) -> None:
    def set_vote(self: RaftState, term: int, voted_for: int) -> None:
        self.term, self.voted_for = term, voted_for

    patch.setattr(RaftState, "set_vote", set_vote)


@MUTANTS.breaks(test_kb_22_what_was_answered_is_on_disk_and_not_in_a_cache)
def writes_without_a_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(VirtualFile, "sync", lambda self: None)


@MUTANTS.breaks(test_kb_24_term_and_vote_change_on_disk_together)
def stores_the_term_before_the_vote(patch: pytest.MonkeyPatch) -> None:
    persist = Store._persist

    def in_two(self: Store, steps: list[Persist]) -> None:
        for step in steps:
            decoded = decode_hard_state(step.hard_state or b"")
            if decoded is not None:
                persist(self, [Persist(step.sequence, hard_state=encode_hard_state(decoded[0], 0))])
            persist(self, [step])

    patch.setattr(Store, "_persist", in_two)


@MUTANTS.breaks(
    test_kb_25_a_vote_whose_write_failed_is_not_given,
    test_kb_26_a_candidacy_is_durable_before_anybody_hears_of_it,
)
def speaks_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    def send(self: RaftState, to: int, message: Any) -> None:
        self.out.messages.append((to, message))

    patch.setattr(RaftState, "send", send)


@MUTANTS.breaks(test_kb_27_a_vote_stays_given_while_its_term_lasts)
def forgets_its_vote_when_stepping_down(patch: pytest.MonkeyPatch) -> None:
    become_follower = RaftState.become_follower

    def forget(self: RaftState, term: int, leader: int) -> None:
        become_follower(self, term, leader)
        self.voted_for = 0

    patch.setattr(RaftState, "become_follower", forget)


@MUTANTS.breaks(
    test_kb_28_a_snapshot_ahead_of_the_own_log_and_term_is_a_good_start,
    test_a_snapshot_ahead_of_the_log_starts_from_the_real_store_too,
)
def starts_only_in_a_stored_term(patch: pytest.MonkeyPatch) -> None:
    recover = RaftState._recover

    def without_the_snapshots_term(self: RaftState, recovered: Recovered) -> None:
        self.__dict__["set_vote"] = lambda term, voted_for: None
        recover(self, recovered)
        del self.__dict__["set_vote"]

    patch.setattr(RaftState, "_recover", without_the_snapshots_term)


@MUTANTS.breaks(test_kb_29_a_truncation_over_many_segments_leaves_no_hole)
def truncates_in_several_groups(patch: pytest.MonkeyPatch) -> None:
    persist = Store._persist

    def piecewise(self: Store, steps: list[Persist]) -> None:
        for step in steps:
            if step.truncate_from is not None:
                for index in range(self._wal.state.next_index - 1, step.truncate_from - 1, -20):
                    persist(self, [Persist(step.sequence, truncate_from=index)])
            persist(self, [step])

    patch.setattr(Store, "_persist", piecewise)


@MUTANTS.breaks(test_kb_30_a_node_whose_disk_fails_wins_no_election)
def leads_without_its_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftState, "is_hard_durable", property(lambda self: True))
    speaks_before_the_disk(patch)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
