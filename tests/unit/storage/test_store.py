"""The store: order of operations on the disk, and what recovery gives back."""

from __future__ import annotations

import pytest

from quorate.consensus.entry import Entry, Persist, Recovered, SnapshotChunk, SnapshotMeta
from quorate.errors import CorruptData, DiskFailed, InvariantBroken, StorageError, WrongDirectory
from quorate.simulation.disk import VirtualDisk
from quorate.storage.real_disk import RealDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

CLUSTER, DIRECTORY = b"c" * 16, b"d" * 16
PLAIN = StorageSettings(segment_bytes=1 << 16, preallocate_bytes=1 << 12, snapshot_compression=0)
BLOCK_BYTES = PLAIN.snapshot_block_bytes


def open_store(disk, settings: StorageSettings = PLAIN) -> tuple[Store, Recovered]:
    return Store.open(
        disk, node_id=1, cluster_id=CLUSTER, new_directory_id=DIRECTORY, settings=settings
    )


def entries(first: int, last: int, epoch: int = 1, size: int = 10) -> list[Entry]:
    return [Entry(i, epoch, 1, b"p" * size) for i in range(first, last + 1)]


def save_snapshot(store: Store, index: int, epoch: int = 1, payload: bytes = b"state") -> None:
    writer = store.begin_snapshot(SnapshotMeta(index, epoch, b"members"))
    writer.write(payload)
    writer.finish()


class Recorder:
    """Notes every operation of a disk that matters for durability."""

    def __init__(self, disk: VirtualDisk) -> None:
        self.steps: list[str] = []
        disk.hook = self.note

    def note(self, operation: str, name: str) -> None:
        if operation in ("write", "sync", "create", "rename", "remove", "sync_directory"):
            self.steps.append(f"{operation} {short(name)}".strip())

    def take(self) -> list[str]:
        steps, self.steps = self.steps, []
        return steps


def short(name: str) -> str:
    """``wal-0000000000000002.q`` as ``wal-2``."""
    parts = name.removesuffix(".q").split("-")
    return "-".join(part.lstrip("0") if part.isdigit() else part for part in parts)


def meta_of(index: int, epoch: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index, epoch, b"members")


# ---- order of operations --------------------------------------------------------------------


def test_the_first_start_writes_identity_then_log_then_identity():
    """An interrupted first start can be told from a lost log by this order."""
    disk = VirtualDisk()
    recorder = Recorder(disk)
    open_store(disk)
    replaced = ["create identity.tmp", "write identity.tmp", "sync identity.tmp"]
    replaced += ["rename identity.tmp", "sync_directory"]
    log = ["sync_directory", "create wal-1", "write wal-1", "sync wal-1", "sync_directory"]
    assert recorder.take() == replaced + log + replaced


def test_a_list_of_steps_costs_one_write_and_one_sync():
    """Group commit: hard state, truncation and entries of all steps share one fsync."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    recorder = Recorder(disk)
    store.persist(
        [
            Persist(1, hard_state=b"one", entries=entries(1, 5)),
            Persist(2, truncate_from=4, entries=entries(4, 6, epoch=2)),
            Persist(3, hard_state=b"two"),
        ]
    )
    assert recorder.take() == ["write wal-1", "sync wal-1"]


def test_nothing_to_persist_costs_nothing():
    """An empty step touches no file."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    recorder = Recorder(disk)
    store.persist([])
    store.persist([Persist(1)])
    assert recorder.take() == []


def test_a_new_segment_is_named_durably_before_the_acknowledgement():
    """A created file counts only after the directory's sync."""
    disk = VirtualDisk()
    store, _ = open_store(disk, StorageSettings(segment_bytes=600, preallocate_bytes=0))
    recorder = Recorder(disk)
    store.persist([Persist(1, entries=entries(1, 1, size=400))])
    store.persist([Persist(2, entries=entries(2, 2, size=400))])
    assert recorder.take() == [
        *("write wal-1", "sync wal-1"),
        *("create wal-2", "write wal-2", "sync wal-2", "sync_directory"),
    ]


def test_files_are_dropped_only_after_the_compaction_is_durable():
    """First the log says that it begins later, then the oldest file may go."""
    disk = VirtualDisk()
    store, _ = open_store(disk, StorageSettings(segment_bytes=700, preallocate_bytes=0))
    for index in (1, 2, 3):
        store.persist([Persist(index, entries=entries(index, index, size=400))])
    save_snapshot(store, 2)
    recorder = Recorder(disk)
    store.persist([Persist(4, compact_to=1)])
    assert recorder.take() == ["write wal-3", "sync wal-3", "rename wal-1", "sync_directory"]
    store.persist([Persist(5, entries=entries(4, 4, size=400))])
    assert recorder.take() == ["write wal-4", "sync wal-4"], "a recycled file is named already"


def test_a_snapshot_is_synced_then_renamed_then_the_directory_synced():
    """And an older one goes only after that."""
    disk = VirtualDisk()
    store, _ = open_store(
        disk, StorageSettings(snapshots_kept=1, preallocate_bytes=0, snapshot_compression=0)
    )
    store.persist([Persist(1, entries=entries(1, 9))])
    save_snapshot(store, 3)
    recorder = Recorder(disk)
    save_snapshot(store, 5)
    assert recorder.take() == [
        *("create own.tmp", "write own.tmp", "write own.tmp", "write own.tmp", "sync own.tmp"),
        *("rename own.tmp", "sync_directory", "remove snapshot-3-1"),
    ]


def test_a_big_snapshot_is_synced_while_it_is_written():
    """No sync has more than the configured bytes to flush."""
    disk = VirtualDisk()
    settings = StorageSettings(
        snapshot_sync_bytes=BLOCK_BYTES, preallocate_bytes=0, snapshot_compression=0
    )
    store, _ = open_store(disk, settings)
    store.persist([Persist(1, entries=entries(1, 1))])
    before = disk.counts().syncs
    save_snapshot(store, 1, payload=bytes(4 * BLOCK_BYTES))
    assert disk.counts().syncs - before >= 2
    writer = store.begin_snapshot(meta_of(1))
    before = disk.counts().syncs
    for _ in range(4):
        writer.write(bytes(BLOCK_BYTES))
    assert disk.counts().syncs - before == 4
    writer.abandon()


def test_an_incoming_snapshot_is_durable_before_the_log_is_reset_sn_45():
    """Vote and entries first, then the file, then the reset: known bug 45."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 3))])
    recorder = Recorder(disk)
    chunk = SnapshotChunk(meta_of(9, 2), 0, b"state", last=True, discard_log=True)
    store.persist([Persist(2, hard_state=b"epoch 2", chunk=chunk)])
    steps = recorder.take()
    assert steps == [
        *("create incoming.tmp", "write incoming.tmp", "write wal-1", "sync wal-1"),
        *("write incoming.tmp", "write incoming.tmp", "sync incoming.tmp"),
        *("rename incoming.tmp", "sync_directory", "write wal-1", "sync wal-1"),
    ]


# ---- recovery -------------------------------------------------------------------------------


def test_an_empty_directory_gives_the_defaults():
    """A new node starts with nothing."""
    store, recovered = open_store(VirtualDisk())
    assert recovered == Recovered()
    assert store.identity.incarnation == 1
    assert store.identity.directory_id == DIRECTORY


def test_truncated_entries_do_not_come_back():
    """The recovered log is the logical log."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 5), hard_state=b"old")])
    store.persist([Persist(2, truncate_from=3, entries=entries(3, 4, epoch=2), hard_state=b"new")])
    _, recovered = open_store(disk)
    assert recovered.entries == entries(1, 2) + entries(3, 4, epoch=2)
    assert recovered.hard_state == b"new"
    assert recovered.snapshot is None


def test_entries_kept_behind_a_snapshot_are_recovered_too():
    """Compaction below the snapshot's index leaves entries for members that lag a little."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 10))])
    save_snapshot(store, 8)
    store.persist([Persist(2, compact_to=5)])
    _, recovered = open_store(disk)
    assert recovered.snapshot == meta_of(8)
    assert [e.index for e in recovered.entries] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("discard", "index", "epoch", "expected"),
    [
        (True, 3, 2, []),  # rule 7: the log conflicts
        (True, 50, 2, []),  # the log does not reach the snapshot
        (False, 3, 1, [4, 5]),  # rule 6: the log holds the snapshot's last entry
        (False, 5, 1, []),  # nothing is behind it
    ],
)
def test_an_installed_snapshot_replaces_or_trims_the_log(discard, index, epoch, expected):
    """Raft Fig. 13, rules 6 and 7, after a restart."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 5))])
    chunk = SnapshotChunk(meta_of(index, epoch), 0, b"state", last=True, discard_log=discard)
    store.persist([Persist(2, chunk=chunk)])
    first = max([index, *expected]) + 1
    store.persist([Persist(3, entries=entries(first, first, epoch=2))])
    store, recovered = open_store(disk)
    assert recovered.snapshot == meta_of(index, epoch)
    assert [e.index for e in recovered.entries] == [*expected, first]
    assert b"".join(store.open_snapshot(recovered.snapshot)) == b"state"


def test_a_snapshot_ahead_of_the_log_resets_it():
    """Entries may be applied, and a snapshot taken, before this node's own log has them."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 2))])
    save_snapshot(store, 7)
    store, recovered = open_store(disk)
    assert recovered.snapshot == meta_of(7)
    assert recovered.entries == []
    store.persist([Persist(2, entries=entries(8, 8))])
    assert open_store(disk)[1].entries == entries(8, 8)


def test_hard_state_survives_the_loss_of_the_segment_it_was_written_to():
    """Each segment begins with it, so compaction never forgets a vote."""
    disk = VirtualDisk()
    store, _ = open_store(disk, StorageSettings(segment_bytes=600, preallocate_bytes=0))
    store.persist([Persist(1, hard_state=b"vote")])
    for index in range(1, 6):
        store.persist([Persist(index + 1, entries=entries(index, index, size=400))])
    save_snapshot(store, 5)
    store.persist([Persist(9, compact_to=5)])
    assert store.statistics().segments == 1
    assert open_store(disk)[1].hard_state == b"vote"


def test_big_groups_get_a_segment_of_their_own_size():
    """A group larger than a segment is one write all the same, and is not kept as a spare."""
    disk = VirtualDisk()
    settings = StorageSettings(segment_bytes=600, preallocate_bytes=100)
    store, _ = open_store(disk, settings)
    for index in (1, 2, 3):
        store.persist([Persist(index, entries=entries(index, index, size=5000))])
    save_snapshot(store, 3)
    store.persist([Persist(4, entries=entries(4, 4), compact_to=3)])
    assert store.statistics().spare_segments <= 1
    assert [e.index for e in open_store(disk, settings)[1].entries] == [4]


def test_the_incarnation_rises_with_every_start():
    """Even when a start was cut short."""
    disk = VirtualDisk()
    numbers = [open_store(disk)[0].identity.incarnation for _ in range(4)]
    assert numbers == [1, 2, 3, 4]


def test_the_real_disk_keeps_everything_over_a_restart(tmp_path):
    """The same story on files of the operating system."""
    disk = RealDisk(tmp_path)
    store, _ = open_store(disk)
    store.persist([Persist(1, hard_state=b"vote", entries=entries(1, 100, size=3000))])
    save_snapshot(store, 50, payload=b"s" * 600_000)
    store.persist([Persist(2, compact_to=40, entries=entries(101, 101))])
    store.close()
    disk.close()
    disk = RealDisk(tmp_path)
    store, recovered = open_store(disk)
    assert [e.index for e in recovered.entries] == list(range(41, 102))
    assert recovered.hard_state == b"vote"
    assert b"".join(store.open_snapshot(recovered.snapshot)) == b"s" * 600_000
    store.close()
    disk.close()


# ---- refusals -------------------------------------------------------------------------------


def test_after_a_failed_sync_nothing_is_ever_written_again():
    """The kernel may have dropped the pages: a second try would acknowledge a lie."""
    disk = VirtualDisk()
    store, _ = open_store(disk)

    def refuse(operation: str, name: str) -> None:
        if operation == "sync":
            raise DiskFailed("cannot sync: EIO")

    disk.hook = refuse
    with pytest.raises(DiskFailed):
        store.persist([Persist(1, entries=entries(1, 1))])
    disk.hook = None
    writes = disk.counts().writes
    with pytest.raises(DiskFailed, match="earlier"):
        store.persist([Persist(1, entries=entries(1, 1))])
    store.close()
    assert disk.counts().writes == writes


@pytest.mark.parametrize(
    "step",
    [
        Persist(2, entries=entries(5, 5)),
        Persist(2, entries=entries(3, 3)),
        Persist(2, truncate_from=9),
        Persist(2, compact_to=2),
        Persist(2, chunk=SnapshotChunk(meta_of(9), 5, b"x", last=True, discard_log=True)),
    ],
    ids=["gap", "overlap", "truncate beyond", "compact without snapshot", "missing piece"],
)
def test_a_step_that_contradicts_the_log_is_refused(step):
    """A bug above must not become a hole on disk; the store is dead after it."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 3))])
    with pytest.raises(InvariantBroken):
        store.persist([step])
    with pytest.raises(DiskFailed):
        store.persist([Persist(3, hard_state=b"x")])
    assert open_store(disk)[1].entries == entries(1, 3)


def test_compacted_entries_cannot_be_truncated():
    """What a snapshot covers was committed."""
    store, _ = open_store(VirtualDisk())
    store.persist([Persist(1, entries=entries(1, 9))])
    save_snapshot(store, 5)
    store.persist([Persist(2, compact_to=5)])
    with pytest.raises(InvariantBroken):
        store.persist([Persist(3, truncate_from=5)])


def test_another_cluster_or_node_is_refused_and_nothing_is_touched():
    """The words say what belongs to whom."""
    disk = VirtualDisk()
    open_store(disk)[0].close()
    before = disk.counts().operations
    for node_id, cluster, words in (
        (2, CLUSTER, "belongs to node 1"),
        (1, b"x" * 16, f"belongs to cluster {CLUSTER.hex()}"),
    ):
        with pytest.raises(WrongDirectory, match=words):
            Store.open(
                disk,
                node_id=node_id,
                cluster_id=cluster,
                new_directory_id=DIRECTORY,
                settings=PLAIN,
            )
    assert disk.counts().operations == before


def test_half_a_directory_is_refused():
    """Log without identity, identity without log: somebody removed or copied files."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 1))])
    twin = disk.clone()
    disk.remove("identity.q")
    with pytest.raises(WrongDirectory, match=r"no identity\.q"):
        open_store(disk)
    for name in twin.names():
        if name.startswith("wal-"):
            twin.remove(name)
    with pytest.raises(WrongDirectory, match="no write-ahead log"):
        open_store(twin)


def test_a_log_file_of_another_directory_is_refused():
    """Even one of the same cluster and node, for example from an old backup."""
    disk, other = VirtualDisk(), VirtualDisk()
    open_store(disk)
    Store.open(other, node_id=1, cluster_id=CLUSTER, new_directory_id=b"e" * 16, settings=PLAIN)
    name = "wal-0000000000000001.q"
    file = other.open(name)
    disk.open(name).write(0, file.read(0, file.size()))
    with pytest.raises(WrongDirectory, match="another data directory"):
        open_store(disk)


def test_a_newer_format_is_named_as_such():
    """A downgrade is refused in words, not as damage."""
    from zlib import crc32

    disk = VirtualDisk()
    open_store(disk)
    file = disk.open("wal-0000000000000001.q")
    header = bytearray(file.read(0, 96))
    header[11] = 2
    header[92:] = crc32(header[:92]).to_bytes(4)
    file.write(0, bytes(header))
    with pytest.raises(CorruptData, match="format version 2"):
        open_store(disk)


# ---- peers ----------------------------------------------------------------------------------


def test_a_peer_that_lost_its_disk_is_refused_even_after_our_restart():
    """First contact is remembered durably; item 12 of the Raft checklist."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.check_peer(2, b"2" * 16)
    store.check_peer(2, b"2" * 16)
    disk.crash(lambda n: 0)
    store, _ = open_store(disk)
    store.check_peer(2, b"2" * 16)
    with pytest.raises(WrongDirectory, match=r"node 2 comes with .* lost its disk"):
        store.check_peer(2, b"9" * 16)


def test_a_known_peer_costs_no_write():
    """Only the first contact is written."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.check_peer(2, b"2" * 16)
    before = disk.counts().operations
    store.check_peer(2, b"2" * 16)
    assert disk.counts().operations == before


def test_a_process_with_our_own_id_is_refused():
    """Two nodes were started with one id."""
    store, _ = open_store(VirtualDisk())
    with pytest.raises(WrongDirectory, match="which is this node"):
        store.check_peer(1, b"x" * 16)


# ---- snapshots ------------------------------------------------------------------------------


def test_any_range_of_a_snapshot_can_be_read_for_a_peer():
    """Ranges need not be aligned to blocks; the last one says so."""
    store, _ = open_store(VirtualDisk())
    store.persist([Persist(1, entries=entries(1, 1))])
    payload = bytes(range(256)) * (BLOCK_BYTES // 256) + b"tail"
    save_snapshot(store, 1, payload=payload)
    meta = meta_of(1)
    assert store.read_snapshot(meta, 0, 10)[:2] == (payload[:10], False)
    around = BLOCK_BYTES - 5
    assert store.read_snapshot(meta, around, 9)[:2] == (payload[around:], True)
    assert store.read_snapshot(meta, len(payload), 9)[:2] == (b"", True)
    assert store.read_snapshot(meta, len(payload) + 1, 9)[:2] == (None, False)
    assert store.read_snapshot(meta_of(2), 0, 9)[:2] == (None, False)


def test_an_empty_snapshot_is_a_snapshot():
    """A state machine may have nothing to say."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 1))])
    save_snapshot(store, 1, payload=b"")
    assert store.read_snapshot(meta_of(1), 0, 100)[:2] == (b"", True)
    store, recovered = open_store(disk)
    assert list(store.open_snapshot(recovered.snapshot)) == []


def test_damage_found_while_reading_is_never_handed_out():
    """Neither to a peer nor to the state machine."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 1))])
    save_snapshot(store, 1, payload=b"state" * 100)
    disk.flip("snapshot-0000000000000001-0000000000000001.q", 200)
    with pytest.raises(CorruptData):
        store.read_snapshot(meta_of(1), 0, 10)
    with pytest.raises(CorruptData):
        list(store.open_snapshot(meta_of(1)))


def test_a_snapshot_under_restore_survives_its_removal():
    """An iterator that began keeps its file although newer snapshots push it out."""
    store, _ = open_store(
        VirtualDisk(),
        StorageSettings(snapshots_kept=1, preallocate_bytes=0, snapshot_compression=0),
    )
    store.persist([Persist(1, entries=entries(1, 9))])
    save_snapshot(store, 1, payload=b"a" * (BLOCK_BYTES + 1))
    pieces = store.open_snapshot(meta_of(1))
    first = next(pieces)
    save_snapshot(store, 2)
    assert len(first) + sum(map(len, pieces)) == BLOCK_BYTES + 1
    with pytest.raises(StorageError, match="no snapshot at index 1"):
        store.open_snapshot(meta_of(1))


def test_an_abandoned_snapshot_leaves_nothing():
    """And the next one may begin."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 1))])
    writer = store.begin_snapshot(meta_of(1))
    writer.write(b"x" * 1000)
    writer.abandon()
    writer.abandon()
    assert not [name for name in disk.names() if "tmp" in name]
    save_snapshot(store, 1)
    assert store.statistics().snapshot_index == 1


def test_pieces_of_an_incoming_snapshot_may_be_repeated_and_restarted():
    """A repeated piece changes nothing; offset 0 starts over, also with another snapshot."""
    disk = VirtualDisk()
    store, _ = open_store(disk)

    def piece(index: int, offset: int, data: bytes, *, last: bool = False) -> None:
        chunk = SnapshotChunk(meta_of(index), offset, data, last=last, discard_log=True)
        store.persist([Persist(1, chunk=chunk)])

    piece(5, 0, b"wrong")
    piece(7, 0, b"abc")
    piece(7, 3, b"def")
    piece(7, 3, b"def")
    piece(7, 0, b"ABC")
    piece(7, 3, b"DEF")
    piece(7, 6, b"GH", last=True)
    assert b"".join(store.open_snapshot(meta_of(7))) == b"ABCDEFGH"
    assert open_store(disk)[1].snapshot == meta_of(7)


def test_half_written_snapshots_are_removed_at_start():
    """Temporary files never accumulate."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 1))])
    store.begin_snapshot(meta_of(1)).write(b"x")
    chunk = SnapshotChunk(meta_of(5), 0, b"x", last=False, discard_log=True)
    store.persist([Persist(2, chunk=chunk)])
    assert len([name for name in disk.names() if "tmp" in name]) == 2
    open_store(disk)
    assert not [name for name in disk.names() if "tmp" in name]


def test_fallback_below_the_floor_forgets_nothing_before_a_newer_snapshot_exists():
    """After falling back, the entries that the damaged snapshot covered must stay."""
    settings = StorageSettings(segment_bytes=600, preallocate_bytes=0)
    disk = VirtualDisk()
    store, _ = open_store(disk)
    store.persist([Persist(1, entries=entries(1, 4))])
    save_snapshot(store, 1)
    save_snapshot(store, 4)
    store.persist([Persist(2, compact_to=4)])
    disk.flip("snapshot-0000000000000004-0000000000000001.q", 70)
    for last in range(4, 7):
        store, recovered = open_store(disk, settings)
        assert recovered.snapshot == meta_of(1)
        assert recovered.entries == entries(2, 4) + entries(5, last, size=400)
        store.persist([Persist(3, entries=entries(last + 1, last + 1, size=400))])
    save_snapshot(store, 6)
    store.persist([Persist(4, compact_to=6)])
    store, recovered = open_store(disk, settings)
    assert recovered.snapshot == meta_of(6)
    assert recovered.entries == entries(7, 7, size=400)
