"""One replica on a scripted engine: what it promises to clients and to the disk."""

from dataclasses import replace

import pytest
from fake_engine import Bench

from quorate.consensus.change import Change
from quorate.consensus.engine import (
    ChangeMembership,
    ChangeOutcome,
    ConfigurationInForce,
    MembershipAnswer,
    Propose,
    ReadBarrier,
)
from quorate.consensus.entry import Entry, EntryKind, SnapshotMeta
from quorate.consensus.membership import Configuration
from quorate.errors import InvariantBroken, RemoteProtocolError
from quorate.replication.batch import decode_entry, encode_sub_batch
from quorate.replication.digests import DigestAgreement
from quorate.replication.snapshots import encode_header
from quorate.replication.turn import Channel

FOUR = Configuration.of([1, 2, 3, 4])


def forwards(turn):
    return [(peer, data) for peer, channel, data in turn.sends if channel == Channel.FORWARD]


def test_follower_forwards_to_the_leader_and_answers_its_own_batch_at_apply():
    """A follower sends its clients' batch to the leader; the result comes from its own apply."""
    bench = Bench(node_id=2)
    bench.lead(1)
    number = bench.replica.submit(b"hello")
    (forward,) = forwards(bench.replica.take())
    assert forward == (1, encode_sub_batch(2, 1, 1, b"hello"))
    bench.commit_sub(b"hello", node=2, number=number)
    assert bench.replica.take().results == [(number, 1)]


def test_batch_of_another_node_gives_no_local_result():
    """Replies never travel between nodes: only the origin sees a result."""
    bench = Bench(node_id=1)
    bench.commit_sub(b"theirs", node=2)
    assert bench.replica.take().results == []
    assert bench.machine.lines == [b"theirs"]


def test_ra_7_resent_batch_is_applied_once():
    """RA-7: a batch that reached the log twice (old and new leader) is applied once."""
    bench = Bench(node_id=1)
    bench.commit_sub(b"once", node=2, number=1)
    bench.commit_sub(b"once", node=2, number=1)
    bench.replica.take()
    assert bench.machine.lines == [b"once"]
    assert bench.replica.statistics().duplicates_refused == 1


def test_gap_and_older_incarnation_are_refused():
    """Batches of one origin apply without gaps, and never from before its last restart."""
    bench = Bench(node_id=1)
    bench.commit_sub(b"gap", node=2, number=2)
    bench.commit_sub(b"new life", node=2, incarnation=5, number=1)
    bench.commit_sub(b"old life", node=2, incarnation=4, number=1)
    bench.replica.take()
    assert bench.machine.lines == [b"new life"]


def test_leader_change_resends_everything_unapplied_in_order():
    """A new leader gets all unapplied batches again, oldest first."""
    bench = Bench(node_id=2)
    bench.lead(1)
    bench.replica.submit(b"a")
    bench.replica.take()
    bench.replica.submit(b"b")
    bench.replica.take()
    turn = bench.lead(3, epoch=2)
    expected = encode_sub_batch(2, 1, 1, b"a") + encode_sub_batch(2, 1, 2, b"b")
    assert forwards(turn) == [(3, expected)]


def test_reopened_link_to_the_leader_resends():
    """Messages may be lost with a link; what was unapplied goes again."""
    bench = Bench(node_id=2)
    bench.lead(1)
    bench.replica.submit(b"a")
    assert len(forwards(bench.replica.take())) == 1
    bench.replica.peer_opened(1)
    assert len(forwards(bench.replica.take())) == 1


def test_lost_forward_is_resent_after_a_while():
    """Without any news, unapplied batches go again after resend_ms."""
    bench = Bench(node_id=2, resend_ms=100)
    bench.replica.tick(1_000, 0)
    bench.lead(1)
    bench.replica.submit(b"a")
    bench.replica.take()
    bench.replica.tick(1_099, 0)
    assert forwards(bench.replica.take()) == []
    bench.replica.tick(1_100, 0)
    assert len(forwards(bench.replica.take())) == 1


def test_leader_holds_forwards_until_established_and_then_proposes_them():
    """Nothing is proposed before leadership is established, and nothing waits for a timer after."""
    bench = Bench(node_id=1)
    bench.lead(1)
    bench.replica.peer_received(2, Channel.FORWARD, encode_sub_batch(2, 1, 1, b"early"))
    bench.replica.take()
    assert bench.engine.of(Propose) == []
    bench.lead(1, established=True)
    bench.replica.take()
    (propose,) = bench.engine.of(Propose)
    assert [sub.payload for sub in decode_entry(propose.payload)[1]] == [b"early"]


def test_next_entry_gathers_while_the_disk_is_busy():
    """One entry in flight; what arrives meanwhile becomes one entry, not many."""
    bench = Bench(node_id=1)
    bench.lead(1, established=True)
    bench.replica.submit(b"1")
    bench.persist()
    bench.replica.take()
    for text in (b"2", b"3"):
        bench.replica.submit(text)
        bench.replica.take()
    assert len(bench.engine.of(Propose)) == 1
    bench.replica.persisted(1)
    bench.replica.take()
    _, second = bench.engine.of(Propose)
    assert [sub.payload for sub in decode_entry(second.payload)[1]] == [b"2", b"3"]


def test_stalled_leader_disk_does_not_stop_proposals():
    """When the others have committed everything, a busy own disk holds nothing up."""
    bench = Bench(node_id=1)
    bench.lead(1, established=True)
    bench.replica.submit(b"1")
    bench.persist()
    bench.replica.take()
    bench.replica.submit(b"2")
    bench.commit(bench.engine.of(Propose)[0].payload)
    turn = bench.replica.take()
    assert turn.results == [(1, 1)]
    assert len(bench.engine.of(Propose)) == 2


def test_deposed_leader_forgets_its_intake_and_forwards_instead():
    """What was gathered but not proposed goes to the next leader, by its origin."""
    bench = Bench(node_id=1)
    bench.lead(1, established=True)
    bench.replica.submit(b"in flight")
    bench.persist()
    bench.replica.take()
    bench.replica.submit(b"late")
    bench.replica.take()
    assert len(bench.engine.of(Propose)) == 1
    turn = bench.lead(2, epoch=2)
    assert [peer for peer, _ in forwards(turn)] == [2]


def test_hand_over_that_is_given_up_loses_and_repeats_nothing():
    """Established goes away and comes back in one epoch: what was proposed is not taken again."""
    bench = Bench(node_id=1)
    bench.lead(1, established=True)
    bench.replica.submit(b"1")
    bench.persist()
    bench.replica.take()
    bench.lead(1, established=False)
    bench.replica.submit(b"2")
    bench.replica.peer_received(2, Channel.FORWARD, encode_sub_batch(2, 1, 1, b"theirs"))
    bench.replica.take()
    bench.lead(1, established=True)
    bench.replica.persisted(1)
    bench.replica.take()
    proposed = [
        [sub.payload for sub in decode_entry(event.payload)[1]]
        for event in bench.engine.of(Propose)
    ]
    assert proposed == [[b"1"], [b"theirs", b"2"]] or proposed == [[b"1"], [b"2", b"theirs"]]


def test_messages_after_persist_wait_for_the_disk():
    """A vote or acknowledgement leaves only when what it promises is durable."""
    bench = Bench()
    bench.engine.effects.messages.append((2, "now"))
    bench.engine.effects.messages_after_persist.append((3, "later"))
    bench.persist()
    turn = bench.replica.take()
    assert turn.sends == [(2, Channel.ENGINE, b"'now'")]
    bench.replica.persisted(1)
    assert bench.replica.take().sends == [(3, Channel.ENGINE, b"'later'")]


def test_what_others_wait_for_goes_before_apply():
    """A turn that ships or stores leaves the apply to the next one, but never for long."""
    bench = Bench(node_id=2)
    bench.lead(1)
    bench.commit_sub(b"a", node=3)
    bench.persist()
    turn = bench.replica.take()
    assert turn.persists
    assert turn.again
    assert bench.machine.lines == []
    bench.replica.persisted(1)
    bench.engine.effects.messages.append((1, "ack"))
    assert bench.replica.take().again
    bench.persist()
    assert not bench.replica.take().again
    assert bench.machine.lines == [b"a"]


def test_news_of_leadership_comes_after_everything_committed_before():
    """ZB-4: nothing of an earlier epoch is left to apply when a leadership is announced."""
    bench = Bench(node_id=2)
    bench.commit_sub(b"a", node=3)
    bench.persist()
    bench.lead(3, epoch=2)
    assert bench.machine.lines == [b"a"]


def test_messages_after_persist_go_at_once_when_everything_is_durable():
    """Nothing outstanding on the disk, nothing to wait for."""
    bench = Bench()
    bench.engine.effects.messages_after_persist.append((3, "reply"))
    assert bench.replica.take().sends == [(3, Channel.ENGINE, b"'reply'")]


def test_ra_8_read_is_released_only_when_its_read_point_is_applied():
    """RA-8: a read barrier waits until applied reaches the index that the leader gave."""
    bench = Bench()
    bench.replica.read_barrier(7)
    bench.engine.effects.barriers.append((7, 2))
    bench.commit_sub(b"1", number=1)
    assert bench.replica.take().released == []
    bench.commit_sub(b"2", number=2)
    assert bench.replica.take().released == [7]


def test_failed_barrier_is_asked_again_of_the_next_leader():
    """A reader waits through a leader change; it sees no error."""
    bench = Bench()
    bench.replica.read_barrier(7)
    bench.engine.effects.barriers_failed.append(7)
    bench.replica.take()
    assert len(bench.engine.of(ReadBarrier)) == 1
    bench.lead(3, epoch=2)
    assert len(bench.engine.of(ReadBarrier)) == 2


def test_entry_time_never_falls():
    """A leader whose wall clock went back stamps entries with the last time it knows."""
    bench = Bench(node_id=1)
    bench.lead(1, established=True)
    bench.commit_sub(b"x", time_ms=9_000)
    bench.replica.tick(1, 4_000)
    bench.replica.take()
    bench.replica.submit(b"y")
    bench.replica.take()
    time_ms, _ = decode_entry(bench.engine.of(Propose)[-1].payload)
    assert time_ms == 9_000


def test_entry_out_of_order_stops_the_node():
    """An engine that skips an index is a bug that must not be survived."""
    bench = Bench()
    bench.index = 4
    bench.commit_sub(b"x")
    with pytest.raises(InvariantBroken, match="entry 5 delivered after 0"):
        bench.replica.take()


def test_snapshot_restores_state_time_and_applied_batches():
    """ZK-10: a replica restored from a snapshot refuses what the snapshot already holds."""
    bench = Bench(node_id=1, snapshot_bytes_min=1)
    bench.commit_sub(b"a", node=2, number=1)
    job = bench.replica.take().save_snapshot
    data = b"".join(job.chunks)
    other = Bench(node_id=3)
    other.replica.restore(job.meta, [data[i : i + 3] for i in range(0, len(data), 3)])
    other.index = job.meta.index
    other.commit_sub(b"a", node=2, number=1)
    other.commit_sub(b"b", node=2, number=2)
    other.replica.take()
    assert other.machine.lines == [b"a", b"b"]
    bench.commit_sub(b"a", node=2, number=1)
    bench.commit_sub(b"b", node=2, number=2)
    bench.replica.take()
    assert other.replica.digest() == bench.replica.digest()


def test_install_holds_later_entries_and_abandons_the_own_snapshot():
    """Entries delivered behind a snapshot are applied after it; a running snapshot is given up."""
    bench = Bench(node_id=1, snapshot_bytes_min=1)
    bench.commit_sub(b"a")
    job = bench.replica.take().save_snapshot
    next(job.chunks)
    meta = SnapshotMeta(10, 1, b"")
    bench.engine.effects.install = meta
    bench.index = 10
    bench.commit_sub(b"c", node=3)
    turn = bench.replica.take()
    assert turn.install == meta
    assert turn.abandon_snapshot
    with pytest.raises(InvariantBroken, match="abandoned"):
        list(job.chunks)
    source = Bench()
    source.commit_sub(b"a", node=2)
    source.commit_sub(b"b", node=2, number=2)
    source.replica.take()
    header = encode_header(5, source.replica._applied)
    bench.replica.install(meta, [header, *source.machine.snapshot()])
    bench.replica.take()
    assert bench.machine.lines == [b"a", b"b", b"c"]
    assert bench.replica.applied_index == 11


def test_install_settles_local_batches_that_the_snapshot_covers():
    """A batch applied inside an installed snapshot is not sent again."""
    bench = Bench(node_id=2)
    bench.replica.submit(b"mine")
    meta = SnapshotMeta(10, 1, b"")
    bench.engine.effects.install = meta
    bench.replica.take()
    source = Bench()
    source.commit_sub(b"mine", node=2, number=1)
    source.replica.take()
    header = encode_header(5, source.replica._applied)
    bench.replica.install(meta, [header, *source.machine.snapshot()])
    assert bench.replica.number_settled == 1
    assert forwards(bench.lead(1)) == []


def test_pl_8_odd_one_out_stops_and_says_so():
    """PL-8, TH-10: the replica whose digest two others contradict stops with a message."""
    bench = Bench(node_id=1, digest_interval=1)
    bench.commit_sub(b"x")
    bench.replica.take()
    for peer in (2, 3):
        bench.replica.peer_received(peer, Channel.DIGEST, DigestAgreement(peer).report(1, 42))
    assert "odd one out" in bench.replica.take().fatal


def test_one_differing_digest_does_not_stop_the_majority():
    """Two that agree go on; the third will stop by itself."""
    bench = Bench(node_id=1, digest_interval=1)
    bench.commit_sub(b"x")
    report = [data for _, channel, data in bench.replica.take().sends if channel == Channel.DIGEST]
    bench.replica.peer_received(2, Channel.DIGEST, report[0])
    bench.replica.peer_received(3, Channel.DIGEST, DigestAgreement(3).report(1, 42))
    assert bench.replica.take().fatal is None
    assert bench.replica.statistics().digest_agreed_index == 1


@pytest.mark.parametrize(
    ("channel", "payload"),
    [(Channel.DIGEST, b"short"), (99, b""), (Channel.FORWARD, b"\0" * 5)],
)
def test_malformed_peer_message_is_a_remote_protocol_error(channel, payload):
    """Garbage from a peer closes its connection; the replica stays as it was."""
    bench = Bench(node_id=1)
    bench.lead(1, established=True)
    with pytest.raises(RemoteProtocolError):
        bench.replica.peer_received(2, channel, payload)
    assert bench.replica.take().fatal is None


def test_a_turn_names_the_newest_batch_once_and_results_name_it_again():
    """A driver can time batches: submitted in one turn, in the results of another."""
    bench = Bench(node_id=1)
    bench.lead(1, established=True)
    bench.replica.submit(b"one")
    number = bench.replica.submit(b"two")
    assert bench.replica.take().submitted == number == 2
    assert bench.replica.take().submitted == 0
    bench.commit_sub(b"one", node=1, number=1)
    bench.commit_sub(b"two", node=1, number=2)
    assert [number for number, _ in bench.replica.take().results] == [1, 2]


def test_leaders_are_counted_when_they_change():
    """The first one counts, nobody in between does not, nor does the same one again."""
    bench = Bench(node_id=1)
    for epoch, leader in ((1, 2), (1, 0), (2, 2), (2, 0), (3, 3), (4, 1), (4, 1)):
        bench.lead(leader, epoch)
    assert bench.replica.statistics().leader_changes == 3


def test_what_was_applied_is_counted():
    """Batches of all origins, without repeats; bytes of entries; snapshots taken."""
    bench = Bench(node_id=1, snapshot_bytes_min=1)
    bench.commit_sub(b"mine", node=1, number=bench.replica.submit(b"mine"))
    bench.commit_sub(b"theirs", node=2, number=1)
    bench.commit_sub(b"theirs", node=2, number=1)
    job = bench.replica.take().save_snapshot
    assert bench.replica.statistics().snapshot_running
    size_bytes = sum(map(len, job.chunks))
    bench.replica.snapshot_saved(job.meta, 77)  # compressed
    statistics = bench.replica.statistics()
    assert (statistics.batches_applied, statistics.duplicates_refused) == (2, 1)
    assert statistics.bytes_applied > len(b"minetheirstheirs")
    assert (statistics.snapshots_saved, statistics.snapshot_last_bytes) == (1, size_bytes)
    assert statistics.snapshot_threshold_bytes >= 1


def test_a_change_of_members_goes_to_the_engine_and_its_answers_come_back():
    """What is asked, by token; who belongs from now on, before anything is sent to them."""
    bench = Bench(node_id=1)
    change = Change(remove=(3,))
    bench.replica.change_membership("token", change)
    assert bench.engine.of(ChangeMembership) == [ChangeMembership("token", change)]
    answer = MembershipAnswer("token", ChangeOutcome.DONE, 7)
    now = ConfigurationInForce(7, Configuration.of([1, 2]))
    bench.engine.effects.membership = (answer,)
    bench.engine.effects.configuration = now
    turn = bench.replica.take()
    assert (turn.membership, turn.configuration) == ((answer,), now)
    assert bench.replica.take().configuration is None


def as_witness():
    """Node 3, which keeps no data, has been told of one batch."""
    bench = Bench(node_id=3)
    bench.engine._configuration = Configuration.of([1, 2, 3], witnesses=[3])
    bench.engine.effects.committed.append(Entry(1, 1, EntryKind.WITHHELD, b""))
    return bench


def test_a_witness_applies_nothing_answers_nothing_and_compares_nothing():
    """Its state machine is empty: whoever asks it must not take that for an answer."""
    bench = as_witness()
    bench.replica.settings = replace(bench.replica.settings, digest_interval=1)
    bench.engine.effects.barriers.append(("read", 1))
    turn = bench.replica.take()
    assert bench.replica.applied_index == 1
    assert bench.machine.lines == []
    assert turn.released == []
    assert not [send for send in turn.sends if send[1] == Channel.DIGEST]


def test_what_a_witness_stores_is_recognised_and_never_becomes_data():
    """Its snapshot has no body; with it a node can be a witness again, and nothing else."""
    bench = as_witness()
    bench.replica.take()
    bench.replica._snapshots.bytes_since_last = 1 << 40
    job = bench.replica.take().save_snapshot
    pieces = [bytes([byte]) for byte in b"".join(job.chunks)]
    for role, is_fatal in ((Configuration.of([1, 2, 3], witnesses=[3]), False), (FOUR, True)):
        again = Bench(node_id=3)
        again.engine._configuration = role
        again.replica.restore(SnapshotMeta(1, 1, role.encode()), pieces)
        assert again.replica.applied_index == 1
        again.engine.effects.committed.append(Entry(2, 1, EntryKind.NOOP, b""))
        assert (again.replica.take().fatal is not None) is is_fatal
