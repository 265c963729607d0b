"""Rot and cuts at every byte of a small directory: recognised, or harmless, or a torn tail.

The format's promise (docs/wal-format.md): a flipped byte in anything that was followed by a later
group is refused; in the last group it may look torn, and then exactly that group is cut; anywhere
else it changes nothing.
"""

from __future__ import annotations

import pytest

from quorate.consensus.entry import Entry, Persist, Recovered, SnapshotMeta
from quorate.errors import CorruptData, WrongDirectory
from quorate.simulation.disk import VirtualDisk
from quorate.storage import recovery
from quorate.storage.record import (
    SEGMENT_HEADER_BYTES,
    GroupHeader,
    Stamp,
    decode_group_header,
)
from quorate.storage.recovery import segment_name, segment_numbers
from quorate.storage.settings import StorageSettings
from quorate.storage.store import Store

CLUSTER, DIRECTORY = b"c" * 16, b"d" * 16
SMALL = StorageSettings(segment_bytes=700, preallocate_bytes=200, spare_segments_max=1)


def open_store(disk, settings: StorageSettings = SMALL) -> tuple[Store, Recovered]:
    return Store.open(
        disk, node_id=1, cluster_id=CLUSTER, new_directory_id=DIRECTORY, settings=settings
    )


def groups_of(disk: VirtualDisk, number: int) -> list[tuple[int, GroupHeader]]:
    """Offsets and headers of the groups of one segment."""
    file = disk.open(segment_name(number))
    data = file.read(0, file.size())
    key = recovery.segment_key(Stamp(CLUSTER, DIRECTORY, 1), number)
    found, offset = [], SEGMENT_HEADER_BYTES
    while header := decode_group_header(data, offset, key):
        found.append((offset, header))
        offset += 32 + header.length
    return found


def small_log(*, groups: int = 12, is_sealed: bool = False) -> tuple[VirtualDisk, list[int]]:
    """A log of several segments; returns the last index after each group."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    lasts, index = [], 0
    for number in range(groups):
        entries = [Entry(index + i, 1, 1, bytes([65 + number]) * 20) for i in (1, 2)]
        index += 2
        store.persist([Persist(number + 1, hard_state=b"%d" % number, entries=entries)])
        lasts.append(index)
    if is_sealed:
        store.close()
    return disk, lasts


def recovered_or_none(disk: VirtualDisk) -> Recovered | None:
    try:
        return open_store(disk)[1]
    except CorruptData as error:
        assert error.path in disk.names()
        assert "replace this node" in str(error)
        return None


def size_of(disk: VirtualDisk, name: str) -> int:
    return disk.open(name).size()


def assert_is_prefix(recovered: Recovered, last: int) -> None:
    assert [e.index for e in recovered.entries] == list(range(1, last + 1))
    for entry in recovered.entries:
        assert entry.payload == bytes([65 + (entry.index - 1) // 2]) * 20


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flip_anywhere_is_refused_or_harmless_or_cuts_only_the_last_group(mask):
    """Every byte of every segment of a log that ended in a crash."""
    pristine, lasts = small_log()
    numbers = segment_numbers(pristine)
    assert len(numbers) >= 3
    last_offset, last_header = groups_of(pristine, numbers[-1])[-1]
    last_group = range(last_offset, last_offset + 32 + last_header.length)
    assert len(groups_of(pristine, numbers[-1])) > 1
    outcomes = {"refused": 0, "harmless": 0, "cut": 0}
    for number in numbers:
        name = segment_name(number)
        offset, header = groups_of(pristine, number)[-1]
        used = range(offset + 32 + header.length)
        for at in range(size_of(pristine, name)):
            disk = pristine.clone()
            disk.flip(name, at, mask)
            recovered = recovered_or_none(disk)
            is_last = number == numbers[-1]
            if recovered is None:
                outcomes["refused"] += 1
                assert at in used, "unused space matters to nobody"
            elif at in used:
                assert is_last, (name, at)
                assert at in last_group, (name, at)
                assert_is_prefix(recovered, lasts[-2])
                outcomes["cut"] += 1
            else:
                assert_is_prefix(recovered, lasts[-1])
                outcomes["harmless"] += 1
    assert all(outcomes.values()), outcomes


def test_after_a_clean_close_a_flip_never_costs_an_entry():
    """The closing group vouches for the last entries: nothing acknowledged is ever cut."""
    pristine, lasts = small_log(is_sealed=True)
    for number in segment_numbers(pristine):
        name = segment_name(number)
        for at in range(size_of(pristine, name)):
            disk = pristine.clone()
            disk.flip(name, at)
            recovered = recovered_or_none(disk)
            if recovered is not None:
                assert_is_prefix(recovered, lasts[-1])


def test_a_cut_anywhere_gives_a_prefix_with_all_groups_before_the_cut():
    """A file that ends early lost its tail; what lies before the cut group is all there."""
    pristine, lasts = small_log()
    numbers = segment_numbers(pristine)
    name = segment_name(numbers[-1])
    ends = [offset + 32 + header.length for offset, header in groups_of(pristine, numbers[-1])]
    before = len(lasts) - len(ends)
    for size in range(size_of(pristine, name)):
        disk = pristine.clone()
        disk.open(name).truncate(size)
        whole = before + sum(end <= size for end in ends)
        recovered = recovered_or_none(disk)
        assert recovered is not None
        assert_is_prefix(recovered, lasts[whole - 1])


def test_a_cut_in_an_older_segment_is_always_refused():
    """Nothing behind the cut may be believed, and nothing may be dropped."""
    pristine, _ = small_log()
    number = segment_numbers(pristine)[0]
    offset, header = groups_of(pristine, number)[-1]
    for size in range(offset + 32 + header.length):
        disk = pristine.clone()
        disk.open(segment_name(number)).truncate(size)
        assert recovered_or_none(disk) is None


def test_a_refused_directory_is_left_as_it_was():
    """CorruptData changes nothing: the operator may copy and examine everything."""
    disk, _ = small_log()
    disk.flip(segment_name(segment_numbers(disk)[0]), SEGMENT_HEADER_BYTES + 40)
    before = disk.counts().operations
    assert recovered_or_none(disk) is None
    assert disk.counts().operations == before


def test_a_missing_segment_in_the_middle_is_refused():
    """Files removed by hand are missed."""
    disk, _ = small_log()
    numbers = segment_numbers(disk)
    disk.remove(segment_name(numbers[1]))
    assert recovered_or_none(disk) is None


def test_swapped_segments_are_refused():
    """A segment under another's name (a misdirected write of a whole file) is damage."""
    disk, _ = small_log()
    one, two = segment_numbers(disk)[:2]
    disk.rename(segment_name(one), "x")
    disk.rename(segment_name(two), segment_name(one))
    disk.rename("x", segment_name(two))
    assert recovered_or_none(disk) is None


def test_a_lost_write_in_the_middle_is_refused():
    """A group that the disk acknowledged but never wrote is noticed by its successors."""
    disk, _ = small_log()
    number = segment_numbers(disk)[1]
    groups = groups_of(disk, number)
    offset, header = groups[1] if len(groups) > 2 else groups[0]
    disk.open(segment_name(number)).write(offset, bytes(32 + header.length))
    assert recovered_or_none(disk) is None


@pytest.mark.parametrize("later", [1, 2])
def test_a_lost_first_write_of_a_segment_is_refused(later):
    """Header and first group never came: groups behind the hole still vouch for them."""
    disk, lasts = small_log()
    number = segment_numbers(disk)[-1]
    while len(groups_of(disk, number)) != 1 + later:
        disk, lasts = small_log(groups=len(lasts) + 1)
        number = segment_numbers(disk)[-1]
    offset, header = groups_of(disk, number)[0]
    disk.open(segment_name(number)).write(0, bytes(offset + 32 + header.length))
    assert recovered_or_none(disk) is None


def test_a_repeated_group_is_not_taken_for_a_new_one():
    """A group copied behind itself (a misdirected write) is not part of the log."""
    disk, lasts = small_log()
    number = segment_numbers(disk)[-1]
    offset, header = groups_of(disk, number)[-1]
    file = disk.open(segment_name(number))
    end = offset + 32 + header.length
    file.write(end, file.read(offset, end - offset))
    assert_is_prefix(recovered_or_none(disk), lasts[-1])


def test_records_of_a_recycled_file_never_come_back():
    """The stale groups behind a recycled segment's end are invisible, at every cut."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    index = 0
    for _round in range(8):
        for _ in range(6):
            index += 1
            store.persist([Persist(1, entries=[Entry(index, 1, 1, b"%06d" % index * 8)])])
        writer = store.begin_snapshot(SnapshotMeta(index - 1, 1, b""))
        writer.write(b"state")
        writer.finish()
        store.persist([Persist(1, compact_to=index - 1)])
        assert store.statistics().spare_segments <= 1
        for number in segment_numbers(disk):
            size = size_of(disk, segment_name(number))
            for at in range(0, size, 97):
                twin = disk.clone()
                twin.flip(segment_name(number), at)
                recovered = recovered_or_none(twin)
                if recovered is None:
                    continue
                assert recovered.snapshot.index in (index - 1, index - 7)
                for entry in recovered.entries:
                    assert entry.payload == b"%06d" % entry.index * 8
                    assert index - 8 <= entry.index <= index
    assert store.statistics().spare_segments == 1


def test_a_payload_that_looks_like_log_records_does_not_confuse_recovery():
    """Bytes of an entry are never read as records, even when the last group is torn."""
    disk, _ = small_log(groups=2)
    number = segment_numbers(disk)[-1]
    file = disk.open(segment_name(number))
    copied = file.read(0, file.size())
    other = VirtualDisk()
    store, _ = Store.open(
        other, node_id=1, cluster_id=CLUSTER, new_directory_id=b"e" * 16, settings=SMALL
    )
    store.persist([Persist(1, entries=[Entry(1, 1, 1, b"first")])])
    store.persist([Persist(2, entries=[Entry(2, 1, 1, copied)])])
    name = segment_name(segment_numbers(other)[-1])
    other.flip(name, size_of(other, name) - 1 if size_of(other, name) < 700 else 690)
    recovered = recovered_or_none(other)
    assert recovered is not None
    assert [e.index for e in recovered.entries] in ([1], [1, 2])


def test_a_flip_in_a_snapshot_is_refused_or_outlived_by_an_older_one():
    """Every byte of the newest snapshot: the log still reaches back, or the node refuses."""
    disk = VirtualDisk()
    store, _ = open_store(disk, StorageSettings(segment_bytes=1 << 16, preallocate_bytes=0))
    entries = [Entry(i, 1, 1, b"x") for i in range(1, 11)]
    store.persist([Persist(1, entries=entries)])
    for index in (4, 8):
        writer = store.begin_snapshot(SnapshotMeta(index, 1, b"members"))
        writer.write(b"state %d" % index)
        writer.finish()
    name = f"snapshot-{8:016d}-{1:016d}.q"
    for at in range(size_of(disk, name)):
        twin = disk.clone()
        twin.flip(name, at)
        recovered = open_store(twin)[1]
        assert recovered.snapshot == SnapshotMeta(4, 1, b"members")
        assert [e.index for e in recovered.entries][-6:] == [5, 6, 7, 8, 9, 10]
        assert f"damaged-{name}" in twin.names()


def test_a_damaged_only_snapshot_behind_a_compacted_log_is_refused():
    """When the log no longer covers what the snapshot held, the node must not start."""
    disk = VirtualDisk()
    store, _ = open_store(disk)
    for index in range(1, 31):
        store.persist([Persist(index, entries=[Entry(index, 1, 1, b"x" * 60)])])
    writer = store.begin_snapshot(SnapshotMeta(28, 1, b""))
    writer.write(b"state")
    writer.finish()
    store.persist([Persist(31, compact_to=28)])
    name = f"snapshot-{28:016d}-{1:016d}.q"
    disk.flip(name, 60)
    with pytest.raises(CorruptData) as caught:
        open_store(disk)
    assert caught.value.path == name
    disk.remove(name)
    with pytest.raises(CorruptData, match="files between were removed"):
        open_store(disk)


def test_a_flip_anywhere_in_the_identity_is_refused():
    """A node whose identity is damaged does not start, and never as somebody else."""
    pristine, _ = small_log(groups=1)
    for at in range(size_of(pristine, "identity.q")):
        disk = pristine.clone()
        disk.flip("identity.q", at)
        with pytest.raises((CorruptData, WrongDirectory)):
            open_store(disk)


# ---- mutants -------------------------------------------------------------------------------------


def test_mutant_that_cuts_at_any_bad_record_is_caught(monkeypatch):
    """Without the look-out for later groups, damage in the middle passes for a torn tail."""
    monkeypatch.setattr("quorate.storage.recovery.find_later_group", lambda *a, **k: -1)
    with pytest.raises(AssertionError):
        test_a_flip_anywhere_is_refused_or_harmless_or_cuts_only_the_last_group(0xFF)


def test_mutant_without_a_segment_key_is_caught(monkeypatch):
    """If old groups look like new ones, a recycled file makes a clean log look damaged."""
    for module in ("wal", "recovery"):
        monkeypatch.setattr(f"quorate.storage.{module}.segment_key", lambda stamp, number: 7)
    with pytest.raises((AssertionError, CorruptData)):
        recycled_file_with_a_stale_later_group()


def recycled_file_with_a_stale_later_group() -> None:
    """A stale group sits where nothing was written yet, and its sequence number is high."""
    disk, lasts = small_log()
    number = segment_numbers(disk)[-1]
    offset, header = groups_of(disk, number)[-1]
    file = disk.open(segment_name(number))
    group = file.read(offset, 32 + header.length)
    fresh, _ = small_log(groups=2)
    last = segment_numbers(fresh)[-1]
    fresh.open(segment_name(last)).write(size_of(fresh, segment_name(last)), group)
    assert_is_prefix(open_store(fresh)[1], lasts[1])


def test_a_stale_group_of_another_segment_is_invisible():
    """The counterpart of the mutant: with the key, the stale group is nothing at all."""
    recycled_file_with_a_stale_later_group()
