"""Raft §7 (snapshots) and the dissertation's §3.10 (transfer) and §6.4 (reads)."""

from __future__ import annotations

from raft_cluster import RaftCluster

from quorate.consensus.engine import (
    ReadBarrier,
    Received,
    SnapshotRead,
    TransferLeadership,
)
from quorate.consensus.entry import SnapshotMeta
from quorate.consensus.raft.messages import (
    Append,
    Heartbeat,
    HeartbeatReply,
    InstallChunk,
    InstallReply,
    ReadReply,
    ReadRequest,
)
from quorate.consensus.registry import EngineSettings

SMALL = EngineSettings(snapshot_chunk_bytes=8, log_keep_entries=0)


def behind(settings: EngineSettings = SMALL) -> RaftCluster:
    """n1 leads with a compacted log, n3 is empty and just came up."""
    cluster = RaftCluster(3, settings=settings)
    cluster.crash(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b", "c")
    cluster.settle()
    cluster.take_snapshot(1)
    cluster.start(3)
    return cluster


def test_ra_6_7_a_far_follower_catches_up_without_any_timer() -> None:
    """RA-6, §7: the snapshot in pieces, then the log; every step follows from an answer."""
    cluster = behind()
    cluster.tell_opened(1, 3)
    cluster.settle()
    assert cluster.nodes[3].applied == ["a", "b", "c"]
    cluster.propose(1, "d")
    cluster.settle()
    assert cluster.nodes[3].applied == ["a", "b", "c", "d"]


def test_7_log_keep_entries_spares_a_follower_the_snapshot() -> None:
    """Entries kept behind a snapshot bring a member that is only a little behind up to date."""
    cluster = behind(EngineSettings(log_keep_entries=10))
    cluster.tell_opened(1, 3)
    cluster.settle()
    assert cluster.nodes[3].applied == ["a", "b", "c"]
    assert cluster.nodes[3].disk.snapshot is None


def test_7_log_keep_bytes_bounds_what_stays_in_memory() -> None:
    """Few large entries are as much memory as many small ones: bytes are bounded too."""
    cluster = behind(EngineSettings(log_keep_entries=10, log_keep_bytes=0))
    assert cluster.nodes[1].state.log.base_index == cluster.nodes[1].state.snapshot.index
    cluster.tell_opened(1, 3)
    cluster.settle()
    assert cluster.nodes[3].applied == ["a", "b", "c"]
    assert cluster.nodes[3].disk.snapshot is not None


def test_5_1_every_piece_resets_the_election_timer() -> None:
    """Dissertation §5.1: a long transfer must not look like a silent leader."""
    cluster = RaftCluster(3)
    meta = SnapshotMeta(9, 1, cluster.configuration.encode())
    state = cluster.nodes[3].state
    for piece in range(10):
        cluster.now_ms += 400
        state.now_ms = cluster.now_ms
        cluster.step(3, Received(1, InstallChunk(1, meta, piece, b"x", is_last=False)))
        assert state.election_deadline_ms > cluster.now_ms
    assert state.incoming is not None
    assert state.incoming.next_offset == 10


def test_7_a_piece_that_does_not_follow_is_answered_with_the_place_to_go_on() -> None:
    """Doubled and reordered pieces are harmless, a restarted receiver starts over."""
    cluster = RaftCluster(3)
    meta = SnapshotMeta(9, 1, cluster.configuration.encode())
    for offset, answer in ((5, 0), (0, 2), (0, 2), (2, 4), (9, 4)):
        cluster.network.clear()
        cluster.step(3, Received(1, InstallChunk(1, meta, offset, b"xx", is_last=False)))
        reply = InstallReply(1, 9, answer, is_done=False)
        assert [letter.message for letter in cluster.network] == [reply]


def test_ra_6_7_pieces_of_another_snapshot_of_the_same_index_start_over() -> None:
    """RA-6, §7: the same index is not the same bytes; without identity, only one leader's are."""
    cluster = RaftCluster(3)
    meta = SnapshotMeta(9, 1, cluster.configuration.encode())
    story = (
        (1, 0, b"one", 2),
        (1, 2, b"one", 4),
        (1, 4, b"two", 0),
        (1, 0, b"two", 2),
        (2, 2, b"two", 4),  # the next leader has the same one: go on
        (2, 0, b"", 2),
        (3, 2, b"", 0),  # who knows what this leader has
    )
    for term, offset, identity, answer in story:
        cluster.network.clear()
        chunk = InstallChunk(term, meta, offset, b"xx", is_last=False, identity=identity)
        cluster.step(3, Received(1 + term % 2, chunk))
        reply = InstallReply(term, 9, answer, is_done=False)
        assert [letter.message for letter in cluster.network] == [reply]


def test_ra_6_7_a_receiver_that_restarts_asks_only_for_what_is_missing() -> None:
    """RA-6, §7: no piece that is durable there travels again, but for the first that finds out."""
    cluster = behind()
    cluster.tell_opened(1, 3)
    while cluster.nodes[3].disk.incoming == b"":
        cluster.deliver_one()
    cluster.crash(3)
    cluster.start(3)
    cluster.network.clear()
    cluster.tell_opened(1, 3)
    cluster.delivered.clear()
    cluster.settle()
    offsets = [m.offset for m in cluster.delivered if isinstance(m, InstallChunk)]
    assert offsets == [0, 8]
    assert cluster.nodes[3].applied == ["a", "b", "c"]


def test_ra_6_7_an_answer_that_fits_no_piece_does_not_stop_the_transfer() -> None:
    """RA-6: asked for a place beyond the end, the leader finds nothing there and begins again."""
    cluster = behind()
    cluster.tell_opened(1, 3)
    while not isinstance(cluster.network[-1].message, InstallChunk):
        cluster.deliver_one()
    index = cluster.nodes[1].state.snapshot.index
    cluster.network.clear()
    cluster.step(1, Received(3, InstallReply(1, index, 10_000, is_done=False)))
    cluster.run(2_000)
    assert cluster.nodes[3].applied == ["a", "b", "c"]


def test_ra_6_7_a_leader_sends_snapshots_no_faster_than_it_may() -> None:
    """RA-6: the pieces of a second are bounded; who leads then starts with a tenth of that."""
    settings = EngineSettings(
        snapshot_chunk_bytes=1, log_keep_entries=0, snapshot_send_bytes_per_second=40
    )
    cluster = behind(settings)
    cluster.tell_opened(1, 3)
    cluster.delivered.clear()
    counts = []
    for _ in range(6):
        cluster.run(50)
        counts.append(len({m.offset for m in cluster.delivered if isinstance(m, InstallChunk)}))
    assert counts == [7, 9, 11, 13, 15, 15]
    assert cluster.nodes[3].applied == ["a", "b", "c"]


def test_ra_6_7_a_rate_so_low_that_it_looks_like_silence_does_not_begin_again() -> None:
    """RA-6: a member that waits for its next piece is not silent, however long it waits."""
    settings = EngineSettings(
        snapshot_chunk_bytes=2, log_keep_entries=0, snapshot_send_bytes_per_second=2
    )
    cluster = behind(settings)
    cluster.tell_opened(1, 3)
    cluster.run(2_500)
    have = len(cluster.nodes[3].disk.incoming)
    assert 4 <= have < 10
    sending = (cluster.nodes[1].disk.snapshot, cluster.nodes[1].disk.snapshot_data)
    cluster.propose(1, "d")
    cluster.settle()
    cluster.take_snapshot(1)
    disk = cluster.nodes[1].disk  # which remembers one snapshot: let that be the one being sent
    disk.snapshot, disk.snapshot_data = sending
    cluster.run(2_500)
    assert len(cluster.nodes[3].disk.incoming) > have


def test_7_rule_6_entries_behind_a_matching_snapshot_stay() -> None:
    """Fig. 13 rule 6: a log that agrees at the snapshot's last entry keeps its suffix."""
    cluster = RaftCluster(3)
    cluster.prepare(3, [1, 1, 1, 1])
    meta = SnapshotMeta(2, 1, cluster.configuration.encode())
    cluster.step(3, Received(1, InstallChunk(1, meta, 0, b"[]", is_last=True)))
    assert cluster.nodes[3].state.log.last_index == 4
    assert cluster.nodes[3].state.commit_index == 2


def test_7_an_outdated_snapshot_changes_nothing() -> None:
    """A snapshot below the commit index is acknowledged and dropped."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a", "b")
    cluster.settle()
    meta = SnapshotMeta(2, 1, cluster.configuration.encode())
    cluster.step(3, Received(1, InstallChunk(1, meta, 0, b"[]", is_last=True)))
    assert cluster.nodes[3].applied == ["a", "b"]
    assert cluster.nodes[3].disk.snapshot is None


def test_7_the_log_stands_still_while_the_last_piece_is_being_stored() -> None:
    """Between the last piece and its confirmation Appends and elections wait."""
    cluster = RaftCluster(3, instant_disk=False)
    meta = SnapshotMeta(9, 1, cluster.configuration.encode())
    cluster.step(3, Received(1, InstallChunk(1, meta, 0, b"[]", is_last=True)))
    cluster.step(3, Received(1, Append(1, 0, 0, 0, [])))
    cluster.step(3, Received(1, Heartbeat(1, 9, 0)))
    cluster.advance(3000, only=[3])
    state = cluster.nodes[3].state
    assert (state.role.value, state.commit_index, state.log.last_index) == ("follower", 0, 0)
    while cluster.persist(3):
        pass
    assert (state.commit_index, state.log.last_index, state.durable_index) == (9, 9, 9)


def test_7_a_snapshot_that_vanished_is_replaced_by_the_newer_one() -> None:
    """Known from Fig. 13: a new snapshot while one is being sent restarts safely."""
    cluster = behind()
    cluster.tell_opened(1, 3)
    cluster.propose(1, "d")
    while cluster.nodes[1].state.commit_index < 5:
        cluster.deliver_one()
    cluster.take_snapshot(1)
    old = cluster.nodes[1].state.progress[3]
    if old.snapshot is not None and old.snapshot != cluster.nodes[1].state.snapshot:
        cluster.step(1, SnapshotRead(3, old.snapshot, old.snapshot_offset, data=None, last=False))
    cluster.run(1000)
    assert cluster.nodes[3].applied == ["a", "b", "c", "d"]


def test_7_a_restart_continues_behind_its_snapshot() -> None:
    """What a snapshot covers is committed and applied at start; the rest is delivered again."""
    cluster = behind()
    cluster.propose(1, "d")
    cluster.settle()
    cluster.crash(1)
    cluster.start(1)
    node = cluster.nodes[1]
    assert node.applied == ["a", "b", "c"]
    assert (node.state.commit_index, node.state.log.last_index) == (4, 5)
    assert node.engine is not None
    assert node.engine.snapshot_meta(4).index == 4


def test_6_4_a_cut_off_leader_never_answers_a_read() -> None:
    """RA-8: without a majority there is no round, and the read fails when the leader gives up."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.isolate([1], [2, 3])
    cluster.read(1, "r1")
    cluster.run(2500)
    assert cluster.reads_done == {}
    assert cluster.reads_failed == ["r1"]


def test_6_4_one_round_serves_all_reads_of_a_turn() -> None:
    """§6.4: reads are batched; a hundred of them cost one heartbeat per member."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    for number in range(100):
        cluster.reads[f"r{number}"] = (1, 1)
        cluster.step_only(1, ReadBarrier(f"r{number}"))
    cluster.turn(1)
    assert len(cluster.network) == 2
    cluster.settle()
    assert len(cluster.reads_done) == 100


def test_6_4_learners_do_not_confirm_a_round() -> None:
    """Known bug 57: only voters count for reads."""
    cluster = RaftCluster(3, learners=2)
    cluster.elect(1)
    cluster.isolate([1, 4, 5], [2, 3])
    cluster.read(1, "r1")
    cluster.run(200)
    assert cluster.reads_done == {}


def test_6_4_an_answer_from_an_earlier_life_releases_nothing() -> None:
    """Known bug 54, follower's side: request numbers of two lives never meet."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    numbers = []
    for _ in range(2):
        cluster.read(2, f"r{cluster.starts}")
        request = cluster.network.pop().message
        assert isinstance(request, ReadRequest)
        numbers.append(request.number)
        cluster.crash(2)
        cluster.start(2)
        cluster.run(200)
    assert numbers[0] != numbers[1]
    cluster.read(2, "fresh")
    cluster.step(2, Received(1, ReadReply(1, numbers[0], 1)))
    assert "fresh" not in cluster.reads_done
    cluster.settle()
    assert "fresh" in cluster.reads_done


def test_6_4_a_forwarded_read_fails_when_nobody_answers_or_the_leader_changes() -> None:
    """No read waits for ever: the driver gets it back and asks again."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.drop_if = lambda letter: isinstance(letter.message, ReadRequest)
    cluster.read(2, "lost")
    cluster.run(600)
    assert cluster.reads_failed == ["lost"]
    cluster.read(2, "deposed")
    cluster.transfer(1, 3)
    cluster.settle()
    assert cluster.reads_failed == ["lost", "deposed"]


def test_6_4_an_echo_of_a_round_that_never_was_is_ignored() -> None:
    """A leader believes only echoes of rounds it has begun."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.step(1, Received(2, HeartbeatReply(1, 999)))
    cluster.isolate([1], [2, 3])
    cluster.read(1, "r1")
    assert cluster.reads_done == {}


def test_ra_10_transfer_loses_no_committed_write_and_takes_no_timeout() -> None:
    """RA-10, dissertation §3.10: the target is brought up to date first; messages alone do it."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster.step(1, TransferLeadership(3))
    before_ms = cluster.now_ms
    cluster.settle()
    assert cluster.leader() == 3
    assert cluster.now_ms == before_ms
    assert cluster.nodes[3].applied == ["a"]


def test_3_10_transfer_to_nobody_in_particular_takes_the_most_up_to_date_voter() -> None:
    """§3.10: target 0 lets the leader choose; learners are never chosen."""
    cluster = RaftCluster(3, learners=1)
    cluster.elect(1)
    cluster.isolate([1, 3, 4], [2])
    cluster.propose(1, "a")
    cluster.settle()
    cluster.step(1, TransferLeadership(0))
    cluster.settle()
    assert cluster.leader() == 3


def test_3_10_a_closed_connection_to_the_target_ends_the_transfer_at_once() -> None:
    """No proposal waits for a target whose process is gone."""
    cluster = RaftCluster(3)
    cluster.elect(1)
    cluster.crash(3)
    cluster.propose(1, "a")
    cluster.transfer(1, 3)
    assert not cluster.nodes[1].leadership.established
    cluster.tell_closed(3)
    assert cluster.nodes[1].leadership.established
