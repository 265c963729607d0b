"""When a disk counts as full, and that the log asks for room before it writes."""

from __future__ import annotations

import pytest
from store_story import Node

from quorate.consensus.entry import Entry, EntryKind, Persist, SnapshotChunk, SnapshotMeta
from quorate.errors import DiskFull
from quorate.simulation.disk import VirtualDisk
from quorate.storage.settings import StorageSettings
from quorate.storage.space import SpaceGauge, need_of

SETTINGS = StorageSettings(
    segment_bytes=4_096,
    preallocate_bytes=512,
    spare_segments_max=1,
    snapshot_block_bytes=512,
    reserve_bytes=16_384,
)
MARGIN = SETTINGS.reserve_bytes // 8


def test_a_disk_is_full_below_the_reserve_and_has_space_a_quarter_above_it() -> None:
    """So it does not change its mind with every file that somebody writes."""
    gauge = SpaceGauge(1_000)
    assert not gauge.look(1_000)
    assert gauge.look(999)
    assert gauge.is_full
    assert not gauge.look(1_249), "somebody removed a small file"
    assert gauge.look(1_250)
    assert not gauge.is_full


def running(free_bytes: int | None = None) -> Node:
    node = Node(VirtualDisk(), SETTINGS)
    node.open()
    if free_bytes is not None:
        node.disk.fill(free_bytes)
    return node


def entries(node: Node, count: int, size: int) -> Persist:
    return node.step(
        entries=[
            Entry(node.store.statistics().next_index + number, 1, EntryKind.BATCH, bytes(size))
            for number in range(count)
        ],
        hard_state=b"vote",
    )


@pytest.mark.parametrize("size", [0, 1, 100, 3_000, 5_000])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_steps_that_have_room_never_meet_a_full_disk(count: int, size: int) -> None:
    """Whatever the space: either it is not begun, or it is done."""
    done = 0
    for free_bytes in range(0, 3 * MARGIN + 9 * 5_000, 997):
        node = running(free_bytes)
        while node.store.has_room([step := entries(node, count, size)]):
            node.store.persist([step])
            done += 1
        assert node.disk.fault_counts().no_space == 0

    assert done


def test_votes_may_use_what_writes_may_not() -> None:
    """An eighth of the reserve is theirs."""
    node = running(MARGIN)
    node.store.persist([entries(node, 1, 400)])  # behind what was filled with zeros before
    assert not node.store.has_room([entries(node, 1, 10)])
    votes = 0
    while node.store.has_room([step := node.step(hard_state=b"%d" % votes)]) and votes < 100:
        node.store.persist([step])
        votes += 1
    assert votes >= 5
    assert node.disk.fault_counts().no_space == 0


def test_a_piece_of_a_snapshot_needs_its_own_room() -> None:
    """It is not written into the log, however much of that was filled before."""
    meta = SnapshotMeta(5, 1, b"members")
    chunk = SnapshotChunk(meta, 0, bytes(10_000), False, False, b"")
    assert need_of([Persist(1, chunk=chunk)]).beside_log_bytes > 10_000
    assert not running(10_000).store.has_room([Persist(1, chunk=chunk)])
    assert running(20_000).store.has_room([Persist(1, chunk=chunk)])


def test_a_snapshot_never_takes_the_reserve_and_can_be_given_up() -> None:
    """The log goes on, and once there is space the next snapshot fits."""
    node = running(SETTINGS.reserve_bytes + 3_000)
    node.store.persist([entries(node, 3, 10)])
    writer = node.store.begin_snapshot(SnapshotMeta(2, 1, b"members"))
    writer.write(bytes(2_000))
    with pytest.raises(DiskFull, match="are kept for the log"):
        writer.write(bytes(8_000))
    writer.abandon()
    node.store.persist([entries(node, 1, 10)])
    node.disk.free()
    writer = node.store.begin_snapshot(SnapshotMeta(2, 1, b"members"))
    writer.write(bytes(9_000))
    writer.finish()
    assert node.store.statistics().snapshot_index == 2


def test_a_store_without_room_is_closed_without_a_word() -> None:
    """The last group that vouches for all before it is a courtesy."""
    node = running(0)
    node.store.persist([])
    while node.store.has_room([step := node.step(hard_state=b"vote")]):
        node.store.persist([step])
    node.store.close()
    assert node.disk.fault_counts().no_space == 0
