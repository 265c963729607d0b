"""Known bugs 43 to 52: snapshots and what they replace. The list is docs/known-bugs.md."""

from __future__ import annotations

import pytest
from raft_cluster import Letter, RaftCluster

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
from quorate.consensus.engine import Propose, Received
from quorate.consensus.entry import Entry, EntryKind, Persist, SnapshotChunk, SnapshotMeta
from quorate.consensus.log import Log
from quorate.consensus.membership import Configuration
from quorate.consensus.progress import Progress
from quorate.consensus.raft import engine, follower, snapshots
from quorate.consensus.raft.messages import Append, AppendReply, InstallChunk, InstallReply
from quorate.consensus.raft.state import RaftState, Role
from quorate.consensus.registry import EngineSettings
from quorate.errors import DiskFailed
from quorate.simulation.disk import VirtualDisk
from quorate.simulation.world import World
from quorate.storage import store as store_module
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

MUTANTS = Mutants()
COMPACT = EngineSettings(log_keep_entries=0, snapshot_chunk_bytes=8)
FOUR = Configuration.of([1, 2, 3, 4])


def with_snapshot(node: int, *, away: int) -> RaftCluster:
    """n1 leads term 1 with three batches committed; ``node`` has compacted; ``away`` is down."""
    cluster = RaftCluster(3, settings=COMPACT)
    cluster.elect(1)
    cluster.crash(away)
    cluster.propose(1, "a", "b", "c")
    cluster.settle()
    cluster.run(100)
    cluster.take_snapshot(node)
    return cluster


# ---- scenarios ---------------------------------------------------------------------------------


def test_kb_43_a_log_that_disagrees_with_the_snapshot_goes() -> None:
    """A longer tail of another term is dropped by the snapshot; catching up ends after one."""
    cluster = RaftCluster(3, settings=COMPACT)
    cluster.prepare(1, [], term=1)
    cluster.prepare(2, [], term=1)
    cluster.crash(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b", "c")
    cluster.settle()
    cluster.take_snapshot(1)
    cluster.prepare(3, [1] * 12)
    cluster.tell_opened(1, 3)
    cluster.run(300)
    assert cluster.nodes[3].applied == ["a", "b", "c"]
    assert cluster.terms(3) == cluster.terms(1)
    assert len([note for note in cluster.notes if note.startswith("n3 restores")]) == 1


def test_kb_44_a_snapshot_replaces_an_uncommitted_configuration() -> None:
    """Whoever takes over a snapshot counts by its configuration, not by a stale one of its log."""
    cluster = RaftCluster(3)
    entry = Entry(1, 1, EntryKind.CONFIGURATION, Configuration.of([1, 2]).encode())
    cluster.step(2, Received(1, Append(1, 0, 0, 0, [entry])))
    assert cluster.nodes[2].state.configuration.voters == (1, 2)
    meta = SnapshotMeta(5, 2, FOUR.encode())
    cluster.step(2, Received(3, InstallChunk(2, meta, 0, b"[]", is_last=True)))
    state = cluster.nodes[2].state
    assert state.configuration == FOUR
    assert state.quorum.configuration == FOUR
    cluster.crash(2)
    cluster.start(2)
    assert cluster.nodes[2].state.configuration == FOUR


SMALL = StorageSettings(segment_bytes=700, preallocate_bytes=0, spare_segments_max=1)


def open_store(disk: VirtualDisk) -> tuple[Store, object]:
    return Store.open(
        disk, node_id=1, cluster_id=b"c" * 16, new_directory_id=b"d" * 16, settings=SMALL
    )


def test_kb_45_a_crash_leaves_no_conflicting_log_beside_a_snapshot() -> None:
    """At every crash point: the old log without the snapshot, or the snapshot without that log."""
    origin = VirtualDisk()
    store, _ = open_store(origin)
    old = batches(1, 8, 1)
    store.persist([Persist(1, entries=old)])
    store.close()
    meta = SnapshotMeta(6, 2, b"members")
    chunk = SnapshotChunk(meta, 0, b"state", last=True, discard_log=True)
    outcomes = set()
    for operations in range(30):
        for seed in range(6):
            disk = origin.clone()
            store, _ = open_store(disk)
            disk.fail_after(operations)
            try:
                store.persist([Persist(2, chunk=chunk)])
            except DiskFailed:
                disk.crash(World(seed).draw)
                store, recovered = open_store(disk)
                outcomes.add(recovered.snapshot is None)
                expected = old if recovered.snapshot is None else []
                assert (recovered.snapshot, recovered.entries) in ((None, old), (meta, []))
                assert recovered.entries == expected
    assert outcomes == {True, False}, "the crash points lie on both sides"


def test_kb_46_a_compacted_previous_entry_is_no_conflict() -> None:
    """An Append that begins before the own log's start agrees so far: it was committed here."""
    cluster = with_snapshot(2, away=3)
    state = cluster.nodes[2].state
    assert (state.log.base_index, state.log.last_index) == (4, 4)
    entries = [Entry(1, 1, EntryKind.NOOP, b""), *batches(2, 6, 1)]
    for previous in (0, 1, 3):
        cluster.network.clear()
        cluster.step(2, Received(1, Append(1, previous, min(previous, 1), 4, entries[previous:])))
        assert sent(cluster, 2) == [AppendReply(1, 6)]
        assert (state.log.base_index, state.log.last_index) == (4, 6)
    assert cluster.nodes[2].applied == ["a", "b", "c"]


def test_kb_48_a_candidate_takes_a_snapshot() -> None:
    """A piece of a snapshot comes from this term's leader: the candidacy is over."""
    cluster = RaftCluster(3)
    for forced in (False, True):
        state = cluster.nodes[3].state
        state.set_vote(state.term + 1, 3)
        state.role = Role.CANDIDATE if forced else Role.PRE_CANDIDATE
        state.set_leader(0)
        meta = SnapshotMeta(9 + forced, 1, cluster.configuration.encode())
        chunk = InstallChunk(state.term, meta, 0, b"[]", is_last=True)
        cluster.step(3, Received(1, chunk))
        assert (state.role, state.leader) == (Role.FOLLOWER, 1)
        assert state.commit_index == meta.index


def test_kb_49_an_old_leader_with_only_unreplicated_entries_behind_its_snapshot_syncs() -> None:
    """The entry before its own tail is in its snapshot; the new leader still finds the place."""
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0))
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.settle()
    cluster.run(100)
    cluster.take_snapshot(1)
    cluster.isolate([1], [2, 3])
    cluster.propose(1, "x", "y")
    assert cluster.nodes[1].state.log.describe() == "(3:t1) t1[4-5]"
    cluster.run(4000)
    assert cluster.leader() in (2, 3)
    cluster.propose(cluster.leader(), "c")
    cluster.settle()
    cluster.heal()
    cluster.run(3000)
    assert [cluster.nodes[node].applied for node in (1, 2, 3)] == [["a", "b", "c"]] * 3
    assert cluster.nodes[1].state.log.base_index == 3, "no snapshot was needed"


def test_kb_50_an_append_carries_neighbours_only() -> None:
    """However large the log and small the message, entries follow each other and the previous."""
    settings = EngineSettings(append_bytes_max=50, inflight_messages_max=3)
    cluster = RaftCluster(3, settings=settings)
    cluster.elect(1)
    cluster.crash(3)
    for number in range(60):
        cluster.step_only(1, Propose(b"x" * (number * 7 % 120)))
    cluster.turn(1)
    cluster.settle()
    cluster.start(3)

    def look(letter: Letter) -> bool:
        if isinstance(letter.message, Append):
            indexes = [entry.index for entry in letter.message.entries]
            first = letter.message.prev_index + 1
            assert indexes == list(range(first, first + len(indexes)))
        return False

    cluster.drop_if = look
    cluster.tell_opened(1, 3)
    cluster.settle()
    assert cluster.terms(3) == cluster.terms(1)
    assert cluster.nodes[3].disk.entries == cluster.nodes[1].disk.entries


def test_kb_52_an_entry_that_cannot_be_read_is_never_replaced_by_nothing() -> None:
    """A member that needs forgotten entries gets a snapshot, never an Append from the beginning."""
    cluster = with_snapshot(1, away=3)
    cluster.start(3)
    begun: list[int] = []

    def look(letter: Letter) -> bool:
        if isinstance(letter.message, Append) and letter.to == 3:
            begun.append(letter.message.prev_index)
        return False

    cluster.drop_if = look
    cluster.tell_opened(1, 3)
    cluster.settle()
    cluster.propose(1, "d")
    cluster.run(300)
    assert cluster.nodes[3].applied == ["a", "b", "c", "d"]
    assert min(begun) >= 4


def test_a_snapshot_is_acknowledged_only_when_its_entries_are_on_the_own_disk() -> None:
    """Committed by the others' disks is not stored on ours: vouching for it would strand us.

    Found while looking for bug 49's kind: the follower lost power afterwards, and its leader took
    every later rejection for outdated, because the follower had "acknowledged" more.
    """
    cluster = RaftCluster(3, settings=EngineSettings(log_keep_entries=0))
    cluster.elect(1)
    cluster.instant_disk = False
    cluster.propose(1, "a", "b", "c")
    settle_with_disks(cluster, 1, 2)
    cluster.run(200)
    persist_all(cluster, 1, 2)
    assert cluster.nodes[3].applied == ["a", "b", "c"]
    assert cluster.nodes[3].state.durable_index == 1
    cluster.take_snapshot(1)
    persist_all(cluster, 1)
    cluster.tell_opened(1, 3)
    settle_with_disks(cluster, 1, 2)
    peer = cluster.nodes[1].state.progress[3]
    assert peer.match_index == 1
    cluster.crash(3)
    cluster.start(3)
    cluster.instant_disk = True
    persist_all(cluster, 1, 2, 3)
    cluster.tell_opened(1, 3)
    cluster.run(300)
    assert cluster.leader() == 1
    assert cluster.nodes[3].applied == ["a", "b", "c"]


def test_a_snapshot_that_is_already_known_is_acknowledged_by_the_disk_that_catches_up() -> None:
    """Without a restart no timer is needed: the write that ends later is the answer."""
    cluster = RaftCluster(3, instant_disk=False, settings=EngineSettings(log_keep_entries=0))
    cluster.step(3, Received(1, Append(1, 0, 0, 3, batches(1, 3, 1))))
    meta = SnapshotMeta(3, 1, cluster.configuration.encode())
    cluster.step(3, Received(1, InstallChunk(1, meta, 0, b"[]", is_last=True)))
    assert sent(cluster, 3, InstallReply) == []
    persist_all(cluster, 3)
    assert sent(cluster, 3) == [AppendReply(1, 3)]
    cluster.step(3, Received(1, InstallChunk(1, meta, 0, b"[]", is_last=True)))
    assert sent(cluster, 3)[-1] == InstallReply(1, 3, 0, is_done=True)


# ---- the rules, removed ------------------------------------------------------------------------


@MUTANTS.breaks(
    test_kb_43_a_log_that_disagrees_with_the_snapshot_goes,
    test_kb_44_a_snapshot_replaces_an_uncommitted_configuration,
)
def keeps_a_log_that_disagrees_with_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    chunk = snapshots.SnapshotChunk
    patch.setattr(
        snapshots,
        "SnapshotChunk",
        lambda meta, offset, data, last, discard, *rest: chunk(
            meta, offset, data, last, False, *rest
        ),
    )
    on_durable = snapshots.on_durable

    def keep(state: RaftState) -> None:
        if state.installing is not None:
            state.installing.discard_log = False
        on_durable(state)

    patch.setattr(snapshots, "on_durable", keep)


@MUTANTS.breaks(test_kb_44_a_snapshot_replaces_an_uncommitted_configuration)
def keeps_its_configuration_over_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    replace_log = snapshots._replace_log

    def keep(state: RaftState, meta: SnapshotMeta) -> None:
        quorum, configurations = state.quorum, state.configurations
        replace_log(state, meta)
        state.quorum, state.configurations = quorum, configurations

    patch.setattr(snapshots, "_replace_log", keep)


@MUTANTS.breaks(test_kb_45_a_crash_leaves_no_conflicting_log_beside_a_snapshot)
def believes_both_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store_module, "_contradicts", lambda image, snapshot: False)


@MUTANTS.breaks(test_kb_46_a_compacted_previous_entry_is_no_conflict)
def takes_a_compacted_entry_for_a_conflict(patch: pytest.MonkeyPatch) -> None:
    on_append = follower.on_append

    def reject(state: RaftState, sender: int, message: Append) -> None:
        if message.prev_index < state.log.base_index:
            follower.hear_leader(state, sender)
            if state.log.last_index > state.log.base_index:
                state.truncate(state.log.base_index + 1)
            follower._reject(state, sender, state.log.last_index + 1)
            return
        on_append(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, Append, reject)


@MUTANTS.breaks(test_kb_48_a_candidate_takes_a_snapshot)
def candidates_ignore_snapshots(patch: pytest.MonkeyPatch) -> None:
    on_chunk = snapshots.on_chunk

    def only_followers(state: RaftState, sender: int, message: InstallChunk) -> None:
        if state.role is Role.FOLLOWER:
            on_chunk(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, InstallChunk, only_followers)


@MUTANTS.breaks(test_kb_49_an_old_leader_with_only_unreplicated_entries_behind_its_snapshot_syncs)
def does_not_know_the_term_of_its_snapshot(patch: pytest.MonkeyPatch) -> None:
    on_append = follower.on_append

    def reject(state: RaftState, sender: int, message: Append) -> None:
        if 0 < message.prev_index <= state.log.base_index:
            follower.hear_leader(state, sender)
            follower._reject(state, sender, state.log.last_index)
            return
        on_append(state, sender, message)

    patch.setitem(engine._ON_MESSAGE, Append, reject)


@MUTANTS.breaks(test_kb_50_an_append_carries_neighbours_only)
def leaves_out_the_second_entry(patch: pytest.MonkeyPatch) -> None:
    fitting = Log.slice

    def gap(self: Log, first: int, bytes_max: int) -> tuple[list[Entry], int]:
        entries, size = fitting(self, first, bytes_max)
        return entries[:1] + entries[2:], size

    patch.setattr(Log, "slice", gap)


@MUTANTS.breaks(test_kb_52_an_entry_that_cannot_be_read_is_never_replaced_by_nothing)
def sends_from_the_beginning_what_it_cannot_read(patch: pytest.MonkeyPatch) -> None:
    def begin(state: RaftState, peer: Progress) -> None:
        peer.become_probe(peer.next_index)
        peer.is_paused = True
        append = Append(state.term, 0, 0, state.commit_index, [batch(1, state.term)])
        state.out.messages.append((peer.node_id, append))

    patch.setattr(snapshots, "begin_sending", begin)


@MUTANTS.breaks(
    test_a_snapshot_is_acknowledged_only_when_its_entries_are_on_the_own_disk,
    test_a_snapshot_that_is_already_known_is_acknowledged_by_the_disk_that_catches_up,
)
def vouches_for_what_is_committed(patch: pytest.MonkeyPatch) -> None:
    on_chunk = snapshots.on_chunk

    def vouch(state: RaftState, sender: int, message: InstallChunk) -> None:
        durable, index = state.durable_index, message.meta.index
        if index <= state.commit_index:
            state.durable_index = max(durable, index)
        on_chunk(state, sender, message)
        if index <= state.commit_index:
            state.durable_index = durable

    patch.setitem(engine._ON_MESSAGE, InstallChunk, vouch)


@pytest.mark.parametrize(("patch", "scenario"), MUTANTS.params)
def test_scenario_notices_the_missing_rule(patch: Patch, scenario: Scenario) -> None:
    """Without its rule the scenario fails: a test must be able to."""
    must_notice(patch, scenario)
