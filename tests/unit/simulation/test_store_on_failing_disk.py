"""The real Store on a virtual disk with each single fault: what it says, and what comes back."""

from __future__ import annotations

import random

import pytest
from store_story import SMALL, Node

from quorate.errors import CorruptData, DiskFailed
from quorate.simulation.disk import VirtualDisk
from quorate.storage.recovery import segment_numbers
from quorate.storage.settings import StorageSettings

ONE_SEGMENT = StorageSettings(segment_bytes=1 << 20, preallocate_bytes=0)


def drawn(seed: int):
    return random.Random(seed).randrange


def running(options: StorageSettings = SMALL, entries: int = 12) -> Node:
    """A node with acknowledged entries, a vote and a snapshot of the first four."""
    node = Node(VirtualDisk(sector_bytes=64), options)
    node.open()
    node.persist(node.step(hard_state=b"vote"))
    for number in range(entries):
        node.append(1, 1)
        if number == 5:
            node.snapshot(4)
    return node


def assert_refused(node: Node) -> CorruptData:
    """It does not start, and leaves everything as it is."""
    before = node.disk.counts().operations
    with pytest.raises(CorruptData) as caught:
        node.open()
    assert node.disk.counts().operations == before
    assert "replace this node" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("where", ["wal", "identity"])
def test_rot_is_refused_and_never_cuts_what_was_acknowledged_ra_4(where):
    """Wherever it strikes in what matters; unused bytes may rot unseen."""
    refused = 0
    for seed in range(60):
        node = running()
        node.disk.crash(drawn(seed))
        assert node.disk.rot(drawn(seed), where) is not None
        try:
            node.open()
        except CorruptData:
            refused += 1
        assert not node.disk.silent_damage
    assert refused > 40


def test_rot_in_a_snapshot_costs_nothing_while_the_log_reaches_back():
    """It is set aside; the log begins where no snapshot is needed."""
    for seed in range(20):
        node = running()
        node.may_fall_back = True
        name = node.disk.rot(drawn(seed), "snapshot")
        node.open()
        assert f"damaged-{name}" in node.disk.names()
        assert len(node.state.entries) == 12


def test_rot_in_the_only_snapshot_behind_a_compacted_log_is_refused():
    """What the snapshot held is nowhere else: this node must be replaced."""
    node = running()
    node.snapshot(10)
    node.snapshot(11)
    node.compact(11)
    older = min(name for name in node.disk.names() if name.startswith("snapshot-"))
    node.disk.rot(drawn(1), lambda name: name.startswith("snapshot-") and name > older)
    node.disk.rot(drawn(1), lambda name: name == older)
    assert assert_refused(node).path.startswith("snapshot-")


@pytest.mark.parametrize("lie", ["lose", "misdirect"])
@pytest.mark.parametrize("options", [ONE_SEGMENT, SMALL], ids=["one segment", "many segments"])
def test_a_lost_or_misdirected_write_is_refused_once_others_followed(lie, options):
    """At every place of the log, the first write of a segment included."""
    for place in range(1, 13):
        for seed in range(4):
            node = running(options, entries=place)
            if lie == "lose":
                node.disk.lose_next_write("wal")
            else:
                node.disk.misdirect_next_write(drawn(seed), "wal")
            node.append(1, 1)
            node.append(1, 1)
            node.disk.crash(drawn(seed))
            assert not node.disk.silent_damage
            with pytest.raises(CorruptData):
                node.open()


def test_a_lost_write_seen_only_in_the_page_cache_is_healed_by_a_restart():
    """A start writes the newest group anew: then the lie is over."""
    node = running()
    node.disk.lose_next_write("wal")
    node.append(1, 1)
    node.disk.restart()
    node.open()
    node.disk.crash(drawn(0))
    assert not node.disk.silent_damage
    node.open()
    assert len(node.state.entries) == 9


def test_a_lost_newest_write_is_beyond_the_store_and_the_disk_owns_up():
    """By design: one disk cannot tell it from a torn write. The ground truth can."""
    node = running()
    node.disk.lose_next_write("wal")
    node.append(1, 1)
    node.disk.crash(drawn(0))
    assert node.disk.silent_damage
    with pytest.raises(AssertionError):
        node.open()


def test_a_lost_write_of_the_identity_is_refused():
    """A node that does not know who it is, is nobody."""
    node = running()
    node.disk.lose_next_write("identity")
    node.disk.restart()
    node.open()
    node.disk.crash(drawn(0))
    assert assert_refused(node).path == "identity.q"


def test_a_failed_fsync_ends_the_store_and_costs_nothing_acknowledged():
    """No retry, nothing afterwards, on either way down."""
    for is_power_loss in (False, True):
        node = running()
        acknowledged = node.state
        node.disk.fail_next_sync("wal")
        with pytest.raises(DiskFailed, match=r"cannot sync wal-.*EIO"):
            node.append(1, 1)
        with pytest.raises(DiskFailed, match="restart the node"):
            node.store.persist([node.step(hard_state=b"another vote")])
        if is_power_loss:
            node.disk.crash(drawn(1))
        else:
            node.disk.restart()
        node.open()
        assert node.state.entries[: len(acknowledged.entries)] == acknowledged.entries


def test_a_full_disk_is_told_clearly_and_everything_is_there_once_there_is_space():
    """Whatever fitted of the last write; and a start without space fails as clearly."""
    for free_bytes in range(0, 200, 7):
        node = running(ONE_SEGMENT)
        acknowledged = node.state
        node.disk.fill(free_bytes)
        with pytest.raises(DiskFailed, match=r"cannot write wal-.*No space left .*ENOSPC"):
            for _ in range(4):
                acknowledged = node.state
                node.append(1, 1)
        with pytest.raises(DiskFailed):
            node.store.persist([node.step(hard_state=b"another vote")])
        node.disk.restart()
        node.disk.fill()
        with pytest.raises(DiskFailed, match="ENOSPC"):
            node.open()
        node.disk.free()
        node.disk.crash(drawn(free_bytes))
        node.open()
        assert node.state.entries[: len(acknowledged.entries)] == acknowledged.entries
        node.append(3, 2)


def test_an_unreadable_log_or_identity_stops_the_start_and_changes_nothing():
    """EIO is no torn write: nothing is cut, and when it can be read again all is there."""
    for where in ("wal", "identity"):
        node = running()
        before = node.disk.counts().operations
        node.disk.fail_reads(where)
        node.disk.restart()
        with pytest.raises(DiskFailed, match=r"cannot read .*EIO"):
            node.open()
        assert node.disk.counts().operations == before
        node.disk.fail_reads(None)
        node.open()


def test_an_unreadable_sector_anywhere_in_the_log_stops_the_start():
    """Even in the newest group, where damage would pass for torn."""
    pristine = running()
    number = segment_numbers(pristine.disk)[-1]
    name = f"wal-{number:016d}.q"
    for offset in range(0, pristine.disk.open(name).size(), 64):
        disk = pristine.disk.clone()
        disk.lose_sectors(name, offset, 1)
        node = Node(disk)
        node.acceptable = list(pristine.acceptable)
        with pytest.raises(DiskFailed, match="EIO"):
            node.open()
