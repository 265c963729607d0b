"""A damaged directory is marked, its beginning kept, and nothing forgotten that nobody else knows.

What the engine makes of it is in tests/unit/consensus/test_raft_repair.py.
"""

from __future__ import annotations

from zlib import crc32

import pytest
from small_log import CLUSTER, DIRECTORY, open_store, payload

from quorate.consensus.entry import Damage, Entry, Persist, Recovered, SnapshotChunk, SnapshotMeta
from quorate.errors import CorruptData, DiskFailed, UnknownFormat, Unreadable
from quorate.simulation.disk import VirtualDisk
from quorate.storage.record import (
    GROUP_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Stamp,
)
from quorate.storage.recovery import segment_name, segment_numbers
from quorate.storage.repair import MARKER_NAME, Marker, load_marker, save_marker
from quorate.storage.survey import newest_hard_state, survey_log

STAMP = Stamp(CLUSTER, DIRECTORY, 1)


def entries(first: int, count: int) -> list[Entry]:
    return [Entry(index, 1, 1, payload(index)) for index in range(first, first + count)]


def log_of(groups: int, *, votes: bool = True) -> VirtualDisk:
    """A log of several files; each group holds two entries, and a vote if wanted."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    for number in range(groups):
        vote = b"%d" % number if votes or number == 0 else None
        store.persist([Persist(number + 1, hard_state=vote, entries=entries(2 * number + 1, 2))])
    return disk


def damage_group(disk: VirtualDisk, sequence: int, *, in_header: bool = False) -> None:
    """Flip a byte of the group with this sequence number."""
    for segment in survey_log(disk, STAMP):
        for group in segment.groups:
            if group.sequence == sequence:
                at = group.offset + (8 if in_header else GROUP_HEADER_BYTES + 9)
                disk.flip(segment_name(segment.number), at)
                return
    raise AssertionError(f"there is no group {sequence}")


def is_beginning(recovered: Recovered, length: int) -> bool:
    return recovered.entries == entries(1, length)


@pytest.mark.parametrize("in_header", [False, True])
@pytest.mark.parametrize("sequence", range(2, 13))
def test_what_is_before_the_damage_stays_and_the_newest_vote_is_found(sequence, in_header):
    """Group 1 begins the log; group n + 1 holds entries 2n - 1 and 2n."""
    disk = log_of(12)
    damage_group(disk, sequence, in_header=in_header)
    _, recovered = open_store(disk)
    assert recovered.damage is not None
    assert recovered.damage.is_hard_state_known
    assert "is damaged at byte" in recovered.damage.words
    assert recovered.hard_state == b"11"
    assert is_beginning(recovered, 2 * (sequence - 2))


def test_the_newest_vote_is_found_in_every_group():
    """It changed long before the damage, and is carried along."""
    disk = log_of(12, votes=False)
    damage_group(disk, 6)
    assert open_store(disk)[1].damage == Damage(
        is_hard_state_known=True, words=open_store(disk)[1].damage.words
    )


def test_without_a_readable_group_at_the_end_the_vote_is_in_doubt():
    """The newest group's records are bad too: it may have held a newer vote."""
    disk = log_of(12)
    damage_group(disk, 6)
    damage_group(disk, 13)
    _, recovered = open_store(disk)
    assert recovered.damage is not None
    assert not recovered.damage.is_hard_state_known
    assert recovered.hard_state == b"10"


def test_doubt_stays_through_restarts_until_all_is_back():
    """Each start says it again, and the log is written on meanwhile."""
    disk = log_of(12)
    damage_group(disk, 5)
    store, recovered = open_store(disk)
    store.persist([Persist(1, entries=entries(7, 4))])
    store.close()
    store, again = open_store(disk)
    assert again.damage == recovered.damage
    assert is_beginning(again, 10)
    store.persist([Persist(1, entries=entries(11, 14), hard_state=b"new", is_repaired=True)])
    assert MARKER_NAME not in disk.names()
    store, whole = open_store(disk)
    assert whole.damage is None
    assert whole.hard_state == b"new"
    assert is_beginning(whole, 24)


def test_damaged_files_are_kept_for_people_until_the_next_damage():
    """As they were found, byte for byte."""
    disk = log_of(12)
    damage_group(disk, 5)
    names = [segment_name(number) for number in segment_numbers(disk)]
    before = {name: content(disk, name) for name in names}
    store, _ = open_store(disk)
    kept = [name for name in disk.names() if name.startswith("damaged-wal-")]
    assert kept
    for name in kept:
        assert content(disk, name) == before[name.removeprefix("damaged-")]
    store.persist([Persist(1, entries=entries(7, 6), is_repaired=True)])
    store.persist([Persist(2, entries=entries(13, 2))])
    newest = max(g.sequence for segment in survey_log(disk, STAMP) for g in segment.groups)
    damage_group(disk, newest - 1)
    open_store(disk)
    assert all(
        content(disk, name) != before.get(name.removeprefix("damaged-"))
        for name in disk.names()
        if name.startswith("damaged-wal-")
    )


def content(disk: VirtualDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read(0, file.size())


def test_a_crash_anywhere_in_setting_aside_loses_neither_doubt_nor_vote():
    """Power fails at every operation, with every fate of what was not synced yet."""
    pristine = log_of(12)
    damage_group(pristine, 6)
    for operations in range(200):
        for fate in range(3):
            disk = pristine.clone()
            disk.fail_after(operations)
            try:
                open_store(disk)
            except DiskFailed:
                pass
            else:
                return  # it took fewer operations than that
            disk.crash([lambda n: 0, lambda n: n - 1, lambda n: n // 2][fate])
            _, recovered = open_store(disk)
            assert recovered.damage is not None
            assert recovered.damage.is_hard_state_known
            assert recovered.hard_state == b"11"
            assert is_beginning(recovered, len(recovered.entries))
            assert len(recovered.entries) <= 8
    raise AssertionError("opening never came to an end")


def test_a_log_without_a_single_good_header_begins_anew_and_says_so():
    """Nothing can be read of it: the node knows only that it was somebody."""
    disk = log_of(2)
    for number in segment_numbers(disk):
        disk.flip(segment_name(number), 20)
    _, recovered = open_store(disk)
    assert recovered.damage is not None
    assert recovered.entries == []
    disk.crash(lambda n: 0)
    assert open_store(disk)[1].damage == recovered.damage


def test_a_damaged_snapshot_that_nothing_replaces_is_set_aside():
    """The log does not reach back: both go, the vote stays."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    for index in range(1, 31):
        store.persist([Persist(index, hard_state=b"%d" % index, entries=entries(index, 1))])
    writer = store.begin_snapshot(SnapshotMeta(28, 1, b""))
    writer.write(b"state")
    writer.finish()
    store.persist([Persist(31, compact_to=28)])
    name = f"snapshot-{28:016d}-{1:016d}.q"
    disk.flip(name, 60)
    store, recovered = open_store(disk)
    assert recovered.damage == Damage(is_hard_state_known=True, words=recovered.damage.words)
    assert (recovered.snapshot, recovered.entries) == (None, [])
    assert recovered.hard_state == b"30"
    assert f"damaged-{name}" in disk.names()
    meta = SnapshotMeta(40, 2, b"members")
    store.persist([Persist(1, chunk=SnapshotChunk(meta, 0, b"theirs", True, True))])
    store.persist([Persist(2, is_repaired=True)])
    _, whole = open_store(disk)
    assert (whole.snapshot, whole.damage, whole.hard_state) == (meta, None, b"30")


def test_a_foreign_version_is_never_taken_for_damage():
    """An older program must not throw away what a newer one wrote."""
    disk = log_of(2)
    name = segment_name(segment_numbers(disk)[0])
    head = bytearray(content(disk, name)[:SEGMENT_HEADER_BYTES])
    head[8:12] = (2).to_bytes(4)

    head[92:96] = crc32(bytes(head[:92])).to_bytes(4)
    disk.open(name).write(0, bytes(head))
    with pytest.raises(UnknownFormat, match="start the version of quorate that wrote it"):
        open_store(disk)
    assert MARKER_NAME not in disk.names()


def test_damage_is_refused_where_nobody_else_has_the_entries():
    """A single node keeps everything as it is, and stops."""
    disk = log_of(12)
    damage_group(disk, 5)
    before = disk.counts().operations
    with pytest.raises(CorruptData):
        open_store(disk, may_repair=False)
    assert disk.counts().operations == before


def test_every_flip_in_the_marker_says_the_worst():
    """A damaged marker never makes a node sure of its vote."""
    marker = Marker(Damage(True, "wal-1 is damaged"), is_pending=True, hard_state=b"vote")
    disk = VirtualDisk()
    save_marker(disk, marker)
    assert load_marker(disk) == marker
    for at in range(len(marker.encode())):
        twin = disk.clone()
        twin.flip(MARKER_NAME, at)
        found = load_marker(twin)
        assert found is not None
        assert not found.damage.is_hard_state_known
        assert not found.is_pending


def test_a_hole_in_the_numbers_leaves_the_vote_in_doubt():
    """Without the carried copies (an older program's log) only an unbroken row is certain."""
    disk = log_of(6)
    found = survey_log(disk, STAMP)
    assert newest_hard_state(found) == (b"5", True)
    bare = [
        segment._replace(groups=[group for group in segment.groups if group.sequence != 7])
        for segment in found
    ]
    assert newest_hard_state(bare) == (b"4", True)  # nothing says that there was a seventh
    unread = [
        segment._replace(
            groups=[
                group._replace(records=None) if group.sequence == 7 else group
                for group in segment.groups
            ]
        )
        for segment in found
    ]
    assert newest_hard_state(unread) == (b"4", False)


# ---- bytes that the disk does not give back ------------------------------------------------------


def everything(disk: VirtualDisk) -> dict[str, bytes]:
    return {name: content(disk, name) for name in disk.names()}


@pytest.mark.parametrize("step", range(0, 700, 100))
def test_an_unreadable_sector_is_damage_where_the_newest_vote_is_safe(step):
    """Anywhere in the log: repaired as a flipped byte is, or refused with nothing changed."""
    pristine = log_of(12)
    outcomes = set()
    for number in segment_numbers(pristine):
        name = segment_name(number)
        if step >= pristine.open(name).size():
            continue
        disk = VirtualDisk(sector_bytes=64)
        for other in pristine.names():
            disk.open(other, create=True).write(0, content(pristine, other))
        before = everything(disk)
        disk.lose_sectors(name, step, 1)
        try:
            _, recovered = open_store(disk)
        except DiskFailed as error:
            assert "(EIO)" in str(error)
            disk.calm()
            assert everything(disk) == before
            _, recovered = open_store(disk)
            assert recovered.damage is None
            outcomes.add("refused")
            continue
        assert recovered.damage is not None
        assert recovered.damage.is_hard_state_known
        assert recovered.hard_state == b"11"
        assert is_beginning(recovered, len(recovered.entries))
        assert len(recovered.entries) < 24
        kept = [name for name in disk.names() if name.startswith("damaged-wal-")]
        disk.calm()
        assert all(content(disk, k) == before[k.removeprefix("damaged-")] for k in kept)
        assert kept
        outcomes.add("repaired")
    assert "repaired" in outcomes


def test_an_unreadable_newest_group_is_not_taken_for_torn():
    """It may hold the newest vote: nothing is cut, nothing is changed."""
    disk = log_of(12)
    newest = segment_numbers(disk)[-1]
    survey = [s for s in survey_log(disk, STAMP) if s.groups][-1]
    disk.lose_sectors(segment_name(survey.number), survey.groups[-1].offset, 1)
    operations = disk.counts().operations
    with pytest.raises(Unreadable, match=r"newest vote may be in what cannot be read.*nothing"):
        open_store(disk)
    assert disk.counts().operations == operations
    disk.calm()
    store, recovered = open_store(disk)
    assert recovered.damage is None
    assert is_beginning(recovered, 24)
    assert newest in segment_numbers(disk)
    store.close()


def test_an_unreadable_log_of_a_node_that_is_alone_is_left_as_it_is():
    """Nobody could bring it back, and reading it may work another time."""
    disk = log_of(12)
    disk.lose_sectors(segment_name(segment_numbers(disk)[0]), SEGMENT_HEADER_BYTES, 1)
    operations = disk.counts().operations
    with pytest.raises(DiskFailed, match="EIO"):
        open_store(disk, may_repair=False)
    assert disk.counts().operations == operations


def test_an_unreadable_snapshot_is_passed_over_where_the_log_makes_up_for_it():
    """And set aside, as one with a wrong checksum is."""
    disk = log_of(12)
    store, _ = open_store(disk)
    writer = store.begin_snapshot(SnapshotMeta(6, 1, b"members"))
    writer.write(b"state")
    writer.finish()
    store.close()
    name = next(name for name in disk.names() if name.startswith("snapshot-"))
    disk.lose_sectors(name, 0, 1)
    _, recovered = open_store(disk)
    assert recovered.snapshot is None
    assert recovered.damage is None
    assert is_beginning(recovered, 24)
    assert f"damaged-{name}" in disk.names()
