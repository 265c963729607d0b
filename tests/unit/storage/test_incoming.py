"""Snapshots from peers: taken up again where they were, and never put together wrongly (RA-6)."""

from __future__ import annotations

import random
import zlib

import pytest

from quorate.consensus.entry import PartialSnapshot, Persist, SnapshotChunk, SnapshotMeta
from quorate.errors import CorruptData, DiskFailed
from quorate.simulation.disk import VirtualDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

SETTINGS = StorageSettings(preallocate_bytes=0, snapshot_block_bytes=64, snapshot_sync_bytes=128)
META = SnapshotMeta(9, 1, b"members")
STATE = random.Random(1).randbytes(1_000)
BLOCK = SETTINGS.snapshot_block_bytes


def open_store(disk, settings=SETTINGS):
    return Store.open(
        disk, node_id=1, cluster_id=b"c" * 16, new_directory_id=b"d" * 16, settings=settings
    )


def sender(state: bytes = STATE, settings: StorageSettings = SETTINGS) -> Store:
    """The store of another node that has the snapshot."""
    store, _ = open_store(VirtualDisk(), settings)
    writer = store.begin_snapshot(META)
    writer.write(state)
    writer.finish()
    return store


def feed(store: Store, source: Store, begin: int, end: int | None = None, size: int = 50) -> int:
    """Send pieces from ``begin`` until ``end``, or until the last one; returns how far it is."""
    while end is None or begin < end:
        piece = source.read_snapshot(META, begin, size if end is None else min(size, end - begin))
        assert piece.data is not None
        chunk = SnapshotChunk(META, begin, piece.data, piece.last, True, piece.identity)
        store.persist([Persist(1, chunk=chunk)])
        begin += len(piece.data)
        if piece.last:
            break
    return begin


def content(store: Store) -> bytes:
    return b"".join(store.open_snapshot(META))


def identity(source: Store) -> bytes:
    return source.read_snapshot(META, 0, 1).identity


@pytest.mark.parametrize("compression", [0, 1])
def test_ra_6_a_transfer_goes_on_after_a_restart(compression: int) -> None:
    """Every whole block survives the process; what comes then makes the same snapshot."""
    source = sender(
        settings=StorageSettings(
            preallocate_bytes=0, snapshot_block_bytes=64, snapshot_compression=compression
        )
    )
    for end in (1, 63, 64, 65, 300, 999):
        disk = VirtualDisk()
        store, _ = open_store(disk)
        feed(store, source, 0, end)
        disk.restart()
        store, recovered = open_store(disk)
        kept = end - end % BLOCK
        expected = PartialSnapshot(META, identity(source), kept) if kept else None
        assert recovered.partial == expected
        feed(store, source, kept)
        assert content(store) == STATE
        assert not [name for name in disk.names() if name.endswith(".tmp")]
        assert open_store(disk)[1].snapshot == META


def test_ra_6_a_clean_stop_keeps_every_whole_block() -> None:
    """Also those that the last sync had not reached."""
    disk, source = VirtualDisk(), sender()
    store, _ = open_store(disk)
    feed(store, source, 0, 3 * BLOCK)
    store.close()
    disk.crash(lambda n: 0)
    assert open_store(disk)[1].partial == PartialSnapshot(META, identity(source), 3 * BLOCK)


@pytest.mark.parametrize("seed", range(30))
def test_ra_6_what_a_loss_of_power_leaves_is_used_only_as_far_as_it_is_whole(seed: int) -> None:
    """Lost, torn and reordered writes of file and list: never a wrong byte, always a way on."""
    draw = random.Random(seed)
    disk, source = VirtualDisk(), sender()
    store, _ = open_store(disk)
    have = 0
    for _ in range(4):
        have = feed(store, source, have, have + draw.randrange(1, 300), draw.randrange(1, 100))
        if have > len(STATE):
            break
        disk.crash(draw.randrange)
        store, recovered = open_store(disk)
        kept = recovered.partial.size_bytes if recovered.partial is not None else 0
        assert kept <= have
        have = kept
    feed(store, source, have)
    assert content(store) == STATE


@pytest.mark.parametrize("end", range(2 * BLOCK, 6 * BLOCK, BLOCK))
def test_ra_6_blocks_that_only_the_page_cache_has_are_written_again(end: int) -> None:
    """A sync fails, the next process goes on, finishes, and the power goes: nothing is missing."""
    disk, source = VirtualDisk(), sender()
    store, _ = open_store(disk)
    disk.fail_next_sync(lambda name: name == "incoming.tmp")
    with pytest.raises(DiskFailed):
        feed(store, source, 0, end)
        feed(store, source, end, end + 3 * BLOCK)
    disk.restart()
    store, recovered = open_store(disk)
    assert recovered.partial is not None
    assert recovered.partial.size_bytes
    feed(store, source, recovered.partial.size_bytes)
    disk.crash(lambda n: 0)
    store, recovered = open_store(disk)
    assert recovered.snapshot == META
    assert content(store) == STATE


def test_ra_6_damaged_blocks_are_asked_for_again() -> None:
    """The blocks before the damage are kept."""
    disk, source = VirtualDisk(), sender()
    store, _ = open_store(disk)
    feed(store, source, 0, 10 * BLOCK)
    disk.restart()
    disk.flip("incoming.tmp", 63 + 4 * BLOCK + 5)
    store, recovered = open_store(disk)
    assert recovered.partial is not None
    assert recovered.partial.size_bytes == 4 * BLOCK
    feed(store, source, 4 * BLOCK)
    assert content(store) == STATE


def test_ra_6_every_flipped_byte_of_the_list_costs_time_and_nothing_else() -> None:
    """Whatever is left of the list, only blocks that fit are kept."""
    source = sender()
    size = 0
    for at in range(200):
        disk = VirtualDisk()
        store, _ = open_store(disk)
        feed(store, source, 0, 5 * BLOCK)
        disk.restart()
        file = disk.open("incoming-list.tmp")
        size = file.size()
        if at >= size:
            break
        disk.flip("incoming-list.tmp", at)
        store, recovered = open_store(disk)
        have = recovered.partial.size_bytes if recovered.partial is not None else 0
        if recovered.partial is not None:
            assert recovered.partial[:2] == (META, identity(source))
        feed(store, source, have)
        assert content(store) == STATE
    assert 0 < size < 200


def test_ra_6_a_snapshot_that_is_not_what_was_sent_never_counts() -> None:
    """Every block fits its CRC, the whole not its identity: thrown away, and begun again."""
    disk, source = VirtualDisk(), sender()
    store, _ = open_store(disk)
    feed(store, source, 0, 5 * BLOCK)
    chunk = SnapshotChunk(META, 5 * BLOCK, b"x" * BLOCK, False, True, identity(source))
    store.persist([Persist(2, chunk=chunk)])
    with pytest.raises(CorruptData, match="otherwise than it was sent"):
        feed(store, source, 6 * BLOCK)
    disk.restart()
    store, recovered = open_store(disk)
    assert (recovered.snapshot, recovered.partial) == (None, None)
    feed(store, source, 0)
    assert content(store) == STATE


def test_ra_6_two_snapshots_of_one_index_are_told_apart() -> None:
    """Equal metadata is not enough: a piece of another snapshot does not continue this one."""
    one, other = sender(), sender(STATE[::-1])
    assert identity(one) != identity(other)
    disk = VirtualDisk()
    store, _ = open_store(disk)
    feed(store, one, 0, 5 * BLOCK)
    with pytest.raises(AssertionError, match="must begin at 0"):
        feed(store, other, 5 * BLOCK)
    store, _ = open_store(disk)
    feed(store, other, 0)
    assert content(store) == STATE[::-1]


def test_what_became_useless_is_removed() -> None:
    """A transfer that the log has overtaken, while running and at a start."""
    disk, source = VirtualDisk(), sender()
    store, _ = open_store(disk)
    feed(store, source, 0, 5 * BLOCK)
    for name in ("incoming.tmp", "incoming-list.tmp"):
        assert name in disk.names()
    writer = store.begin_snapshot(SnapshotMeta(10, 1, b""))
    writer.write(b"newer")
    writer.finish()
    disk.restart()
    _, recovered = open_store(disk)
    assert recovered.partial is None
    assert not [name for name in disk.names() if name.endswith(".tmp")]


def test_a_snapshot_of_an_older_release_is_read_and_sent() -> None:
    """Version 1 holds plain bytes."""
    source = sender(settings=StorageSettings(preallocate_bytes=0, snapshot_compression=0))
    assert content(source) == STATE
    disk = VirtualDisk()
    store, _ = open_store(disk)
    feed(store, source, 0)
    assert content(store) == STATE


def test_compressed_bytes_that_unfold_to_much_come_in_pieces() -> None:
    """No piece is larger than a MiB, whatever the payload claims to be."""
    store = sender(bytes(5 << 20), StorageSettings(preallocate_bytes=0))
    assert store.read_snapshot(META, 0, 1 << 20).last
    pieces = list(store.open_snapshot(META))
    assert max(map(len, pieces)) == 1 << 20
    assert sum(map(len, pieces)) == 5 << 20


@pytest.mark.parametrize("damage", [lambda d: d[:-3], lambda d: d + b"x", lambda d: b"?" + d[1:]])
def test_bytes_that_are_no_compressed_stream_are_damage(damage) -> None:
    """Checked blocks of something else are CorruptData, never another error."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    payload = damage(zlib.compress(STATE))
    writer = store.begin_snapshot(META)
    writer._stream = None
    writer.write(payload)
    writer.finish()
    with pytest.raises(CorruptData):
        content(store)


def test_a_snapshot_that_is_being_sent_outlives_newer_ones() -> None:
    """Kept until its last piece was read, so that a slow transfer ends."""
    store = sender()
    assert not store.read_snapshot(META, 0, 10).last
    for index in range(10, 15):
        store.begin_snapshot(SnapshotMeta(index, 1, b"")).finish()
    assert store.statistics().snapshots == 3
    assert store.read_snapshot(META, 10, 2_000).last
    store.begin_snapshot(SnapshotMeta(20, 1, b"")).finish()
    assert store.read_snapshot(META, 0, 10).data is None
